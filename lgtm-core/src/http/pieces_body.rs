//! A large text as a body whose memory no thread of the runtime gives back: that of tens of megabytes takes milliseconds.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use futures::stream;
use hyper::body::{Frame, SizeHint};

use crate::error::{Error, Result};
use crate::exec::{CancelToken, Executor};

/// What is handed out at a time, and what is sent as it is.
const PIECE_BYTES: usize = 256 << 10;

/// A body of known length: a small text as it is, of a large one copies of a piece after the other. The text stays in the compute pool and ends there,
/// unless the client leaves before.
pub fn in_pieces(text: Vec<u8>, executor: Executor) -> Body {
    if text.len() <= PIECE_BYTES {
        return Body::from(text);
    }
    let bytes_left = text.len() as u64;
    let pieces = stream::try_unfold(Some((text, 0)), move |rest| {
        let executor = executor.clone();
        async move {
            let Some((text, at)) = rest else {
                return Ok(None);
            };
            let job = move |_: &CancelToken| {
                let end = text.len().min(at + PIECE_BYTES);
                let piece = Bytes::copy_from_slice(&text[at..end]);
                let rest = (end < text.len()).then_some((text, end));
                Ok::<_, Error>((piece, rest))
            };
            let piece: Result<_> = executor.run(job, &CancelToken::new()).await;
            piece.map(Some)
        }
    });
    Body::new(PiecesBody {
        pieces: Body::from_stream(pieces),
        bytes_left,
    })
}

#[derive(Debug)]
struct PiecesBody {
    pieces: Body,
    bytes_left: u64,
}

impl HttpBody for PiecesBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.pieces).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            self.bytes_left = self.bytes_left.saturating_sub(bytes as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.bytes_left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes_left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_are_one_body_of_known_length() {
        let executor = Executor::inline(tokio::runtime::Handle::current());
        for len in [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES] {
            let text: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            let mut body = in_pieces(text.clone(), executor.clone());
            assert_eq!(body.size_hint().exact(), Some(len as u64));
            let mut read = Vec::new();
            while let Some(frame) =
                std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
            {
                let piece = frame.unwrap().into_data().unwrap();
                assert!(piece.len() <= PIECE_BYTES);
                read.extend_from_slice(&piece);
                let left = (len - read.len()) as u64;
                assert_eq!(body.size_hint().exact(), Some(left));
            }
            assert!(body.is_end_stream());
            assert_eq!(read, text);
        }
    }
}
