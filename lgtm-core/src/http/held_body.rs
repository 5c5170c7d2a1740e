//! A body whose room is given back when its last byte is sent, not when the server has taken it into its queue.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};

use crate::error::Result;
use crate::limits::{Inflight, Ticket};

/// Answers of at most so many bytes are as many as there are connections.
const SMALL_ANSWER: u64 = 256 << 10;

/// Keeps `ticket` for as long as `body` or any byte that came out of it is held by anyone.
pub fn hold(body: Body, ticket: Ticket) -> Body {
    let ticket = Arc::new(ticket);
    Body::new(HeldBody { body, ticket })
}

/// Counts an answer of more than 256 KiB that is held whole, until its client has read it.
///
/// # Errors
/// Those of `answers`, when there is no room for it: it is given up.
pub fn hold_large(answers: &Arc<Inflight>, answer: Response) -> Result<Response> {
    let size = answer.body().size_hint().exact();
    let Some(bytes) = size.filter(|bytes| *bytes > SMALL_ANSWER) else {
        return Ok(answer);
    };
    let mut ticket = answers.ticket();
    ticket.add(bytes)?;
    Ok(answer.map(|body| hold(body, ticket)))
}

#[derive(Debug)]
struct HeldBody {
    body: Body,
    ticket: Arc<Ticket>,
}

/// A piece of a held body.
struct Piece {
    bytes: Bytes,
    _ticket: Arc<Ticket>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let held = |bytes| {
            let _ticket = Arc::clone(&self.ticket);
            Bytes::from_owner(Piece { bytes, _ticket })
        };
        Poll::Ready(frame.map(|frame| Ok(frame?.map_data(held))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::future::poll_fn;

    use super::*;
    use crate::limits::{Inflight, InflightBound};

    #[tokio::test]
    async fn room_is_held_until_the_last_byte_is_gone() {
        let bound = InflightBound { max: 0, hint: "" };
        let inflight = Arc::new(Inflight::new(bound, bound));
        let mut ticket = inflight.ticket();
        ticket.add(3).unwrap();
        let mut body = hold(Body::from("abc"), ticket);
        assert_eq!(body.size_hint().exact(), Some(3));
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let mut bytes = frame.unwrap().unwrap().into_data().unwrap();
        drop(body);
        assert_eq!(bytes.split_to(2), "ab");
        assert_eq!(inflight.bytes(), 3);
        drop(bytes);
        assert_eq!(inflight.bytes(), 0);
    }
}
