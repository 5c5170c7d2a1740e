//! Answers compressed as the client takes them.
//!
//! A body is compressed piece by piece on the compute pool while it is sent, so that no second copy of a large answer is held.

use std::io::Write;

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use futures::{StreamExt, stream};

use crate::error::{Error, Result};
use crate::exec::{CancelToken, Executor};
use crate::http::encoding::AnswerEncoding;

/// Smaller bodies fit a packet or two as they are.
const MIN_BYTES: u64 = 1024;
/// What one job compresses.
const PIECE_BYTES: usize = 256 << 10;
/// What is compressed where it stands, since a job would cost more.
const INLINE_BYTES: usize = 16 << 10;
/// Fast, and already a tenth of most answers.
const GZIP_LEVEL: u32 = 1;
const ZSTD_LEVEL: i32 = 1;

/// Compresses what the handlers answer in JSON, on the executor that `executor_of` gives for the request's headers; asked only if the client
/// takes a compression. A middleware's body.
pub async fn compress(
    executor_of: impl FnOnce(&HeaderMap) -> Executor,
    request: Request,
    next: Next,
) -> Response {
    let accepted = request.headers().get_all(header::ACCEPT_ENCODING).iter();
    let encoding = AnswerEncoding::accepted(accepted.filter_map(|v| v.to_str().ok()));
    let executor = encoding.map(|_| executor_of(request.headers()));
    let mut response = next.run(request).await;
    let is_text = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|t| t.as_bytes().starts_with(b"application/json"));
    if !is_text || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let vary = HeaderValue::from_static("Accept-Encoding");
    response.headers_mut().insert(header::VARY, vary);
    let size = response.body().size_hint().exact();
    let Some(encoding) = encoding.filter(|_| size.is_none_or(|n| n >= MIN_BYTES)) else {
        return response;
    };
    // A block needs its whole input; what is streamed is sent as it is.
    if encoding == AnswerEncoding::Snappy && size.is_none() {
        return response;
    }
    let Some(executor) = executor else {
        return response;
    };
    let (mut parts, body) = response.into_parts();
    let body = match Compressor::new(encoding) {
        Ok(compressor) => compressed(body.into_data_stream(), compressor, executor),
        Err(error) => {
            tracing::warn!(%error, "an answer is sent uncompressed");
            return Response::from_parts(parts, body);
        }
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    let name = HeaderValue::from_static(encoding.name());
    parts.headers.insert(header::CONTENT_ENCODING, name);
    Response::from_parts(parts, body)
}

/// A body under way: what comes in, what of it waits, and who compresses it.
struct Pieces {
    body: BodyDataStream,
    waiting: Bytes,
    /// None at the end.
    compressor: Option<Compressor>,
    executor: Executor,
}

fn compressed(body: BodyDataStream, compressor: Compressor, executor: Executor) -> Body {
    let pieces = Pieces {
        body,
        waiting: Bytes::new(),
        compressor: Some(compressor),
        executor,
    };
    Body::from_stream(stream::try_unfold(pieces, |mut pieces| async move {
        Ok::<_, Error>(pieces.next().await?.map(|out| (out, pieces)))
    }))
}

impl Pieces {
    /// The next compressed bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while let Some(compressor) = self.compressor.take() {
            let whole = matches!(compressor, Compressor::Block(_));
            if self.waiting.is_empty() {
                match self.body.next().await {
                    Some(Ok(bytes)) => self.waiting = bytes,
                    Some(Err(e)) => return Err(Error::Internal(format!("answer broke off: {e}"))),
                    None => return Ok(Some(compressor.finish()?.into())),
                }
            }
            let most = if whole { usize::MAX } else { PIECE_BYTES };
            let piece = self.waiting.split_to(self.waiting.len().min(most));
            let (compressor, out) = if piece.len() <= INLINE_BYTES {
                compressor.write(&piece)?
            } else {
                let job = move |_: &CancelToken| compressor.write(&piece);
                self.executor.run(job, &CancelToken::new()).await?
            };
            self.compressor = Some(compressor);
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
        }
        Ok(None)
    }
}

/// A stream being compressed into memory.
enum Compressor {
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Framed(Box<snap::write::FrameEncoder<Vec<u8>>>),
    Block(Vec<u8>),
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::Internal(format!("compression of an answer: {e}"))
}

impl Compressor {
    fn new(encoding: AnswerEncoding) -> Result<Self> {
        Ok(match encoding {
            AnswerEncoding::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                Self::Gzip(flate2::write::GzEncoder::new(Vec::new(), level))
            }
            AnswerEncoding::Zstd => Self::Zstd(
                zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL).map_err(failed)?,
            ),
            AnswerEncoding::SnappyFramed => {
                Self::Framed(Box::new(snap::write::FrameEncoder::new(Vec::new())))
            }
            AnswerEncoding::Snappy => Self::Block(Vec::new()),
        })
    }

    /// Takes bytes in; gives what is ready to be sent.
    fn write(mut self, bytes: &[u8]) -> Result<(Self, Vec<u8>)> {
        let out = match &mut self {
            Self::Gzip(e) => {
                e.write_all(bytes).map_err(failed)?;
                std::mem::take(e.get_mut())
            }
            Self::Zstd(e) => {
                e.write_all(bytes).map_err(failed)?;
                std::mem::take(e.get_mut())
            }
            Self::Framed(e) => {
                e.write_all(bytes).map_err(failed)?;
                std::mem::take(e.get_mut())
            }
            Self::Block(plain) => {
                plain.extend_from_slice(bytes);
                Vec::new()
            }
        };
        Ok((self, out))
    }

    /// The rest.
    fn finish(self) -> Result<Vec<u8>> {
        match self {
            Self::Gzip(e) => e.finish().map_err(failed),
            Self::Zstd(e) => e.finish().map_err(failed),
            Self::Framed(e) => e.into_inner().map_err(|e| failed(e.error())),
            Self::Block(plain) => snap::raw::Encoder::new()
                .compress_vec(&plain)
                .map_err(failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn plain(encoding: AnswerEncoding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match encoding {
            AnswerEncoding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
            AnswerEncoding::Zstd => zstd::stream::read::Decoder::new(bytes)
                .unwrap()
                .read_to_end(&mut out),
            AnswerEncoding::SnappyFramed => {
                snap::read::FrameDecoder::new(bytes).read_to_end(&mut out)
            }
            AnswerEncoding::Snappy => {
                out = snap::raw::Decoder::new().decompress_vec(bytes).unwrap();
                Ok(0)
            }
        }
        .unwrap();
        out
    }

    #[tokio::test]
    async fn bodies_in_pieces_are_what_they_were() {
        let executor = Executor::inline(tokio::runtime::Handle::current());
        let text: Vec<u8> = (0..700_000u32)
            .flat_map(|n| (n / 3).to_le_bytes())
            .collect();
        for encoding in [
            AnswerEncoding::Gzip,
            AnswerEncoding::Zstd,
            AnswerEncoding::SnappyFramed,
            AnswerEncoding::Snappy,
        ] {
            for piece in [100, 50_000, text.len()] {
                let short = &text[..text.len().min(piece * 40)];
                let pieces: Vec<_> = short.chunks(piece).map(Bytes::copy_from_slice).collect();
                let body = Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, Error>)));
                let compressor = Compressor::new(encoding).unwrap();
                let body = compressed(body.into_data_stream(), compressor, executor.clone());
                let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                assert!(bytes.len() < short.len(), "{encoding:?}");
                assert!(plain(encoding, &bytes) == short, "{encoding:?} {piece}");
            }
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_whole_answer() {
        let executor = Executor::inline(tokio::runtime::Handle::current());
        let pieces = [
            Ok(Bytes::from_static(b"a")),
            Err(Error::Internal("x".into())),
        ];
        let body = Body::from_stream(stream::iter(pieces)).into_data_stream();
        let body = compressed(
            body,
            Compressor::new(AnswerEncoding::Gzip).unwrap(),
            executor,
        );
        assert!(axum::body::to_bytes(body, usize::MAX).await.is_err());
    }
}
