//! Reads a body into memory, as far as there is room for it.

use std::pin::Pin;
use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use futures::future::poll_fn;

use super::request_body::TooSlow;
use crate::error::Error;
use crate::limits::{Inflight, Ticket};

/// The least that is taken at once for a body of several pieces.
const FIRST_BYTES: usize = 64 << 10;

/// Why a body was not read.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// It is longer than allowed.
    #[error("the body has at least {bytes} bytes, the limit is {max}")]
    TooLarge {
        /// Bytes that it said it has, or that came.
        bytes: u64,
        /// Bytes allowed.
        max: u64,
    },
    /// Others take the room.
    #[error(transparent)]
    NoRoom(Error),
    /// The client was late with it.
    #[error("{0}")]
    TooSlow(String),
    /// It ended before it was whole.
    #[error("the request's body broke off: {0}")]
    BrokenOff(String),
}

/// Reads the body of a request of at most `max` bytes, as [`collect_body`], and keeps its headers.
///
/// # Errors
/// See [`BodyError`].
pub async fn read_body(
    inflight: &Arc<Inflight>,
    request: Request,
    max: u64,
) -> Result<(Ticket, HeaderMap, Bytes), BodyError> {
    let (parts, body) = request.into_parts();
    let (ticket, bytes) = collect_body(inflight, &parts.headers, body, max).await?;
    Ok((ticket, parts.headers, bytes))
}

/// Reads a body of at most `max` bytes that came with `headers`.
///
/// Room is taken as the body comes, piece by piece and before the piece is kept: what a client announces holds nothing. The request
/// itself counts once its body is whole, so that who sends nothing takes no place from those who do.
///
/// # Errors
/// See [`BodyError`]. `TooLarge` at once when the client announces too much.
pub async fn collect_body(
    inflight: &Arc<Inflight>,
    headers: &HeaderMap,
    body: Body,
    max: u64,
) -> Result<(Ticket, Bytes), BodyError> {
    let announced = headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if let Some(bytes) = announced.filter(|bytes| *bytes > max) {
        return Err(BodyError::TooLarge { bytes, max });
    }
    let mut ticket = inflight.ticket();
    let bytes = collect(body, announced, max, &mut ticket).await?;
    ticket.enter().map_err(BodyError::NoRoom)?;
    Ok((ticket, bytes))
}

async fn collect(
    mut body: Body,
    announced: Option<u64>,
    max: u64,
    ticket: &mut Ticket,
) -> Result<Bytes, BodyError> {
    let mut first = Bytes::new();
    let mut all: Vec<u8> = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(broken)?;
        // Trailers say nothing that anyone here asks.
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        let so_far = first.len() + all.len();
        let bytes = so_far + piece.len();
        if bytes as u64 > max {
            let bytes = bytes as u64;
            return Err(BodyError::TooLarge { bytes, max });
        }
        if so_far == 0 {
            ticket.add(piece.len() as u64).map_err(BodyError::NoRoom)?;
            first = piece;
            continue;
        }
        if bytes > all.capacity() {
            // Doubled, so that each byte is moved about once, but never beyond what may still come.
            let most = announced.unwrap_or(max).max(bytes as u64) as usize;
            let wanted = (2 * bytes).max(FIRST_BYTES).min(most);
            let more = wanted - all.capacity().max(first.len());
            ticket.add(more as u64).map_err(BodyError::NoRoom)?;
            all.reserve_exact(wanted - all.len());
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&piece);
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

fn broken(e: axum::Error) -> BodyError {
    let mut cause: Option<&dyn std::error::Error> = Some(&e);
    while let Some(c) = cause {
        if c.is::<TooSlow>() {
            return BodyError::TooSlow(c.to_string());
        }
        cause = c.source();
    }
    BodyError::BrokenOff(e.to_string())
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;
    use crate::limits::InflightBound;

    fn inflight(max_bytes: u64) -> Arc<Inflight> {
        let bound = |max| InflightBound { max, hint: "" };
        Arc::new(Inflight::new(bound(0), bound(max_bytes)))
    }

    fn chunked(pieces: &[usize]) -> Body {
        let bytes = pieces.iter().enumerate();
        let bytes = bytes.map(|(i, n)| Ok::<_, std::io::Error>(Bytes::from(vec![i as u8; *n])));
        Body::from_stream(stream::iter(bytes.collect::<Vec<_>>()))
    }

    async fn read(
        inflight: &Arc<Inflight>,
        body: Body,
        announced: Option<u64>,
        max: u64,
    ) -> Result<(Ticket, HeaderMap, Bytes), BodyError> {
        let mut request = Request::new(body);
        if let Some(n) = announced {
            let headers = request.headers_mut();
            headers.insert(header::CONTENT_LENGTH, n.into());
        }
        read_body(inflight, request, max).await
    }

    #[tokio::test]
    async fn a_body_is_what_came_and_counts_until_its_ticket_goes() {
        for pieces in [
            &[][..],
            &[5],
            &[1, 2, 3],
            &[70_000, 1, 200_000, 9],
            &[0, 7, 0, 3],
        ] {
            let total: usize = pieces.iter().sum();
            for announced in [None, Some(total as u64)] {
                let inflight = inflight(10 << 20);
                let (ticket, _, bytes) = read(&inflight, chunked(pieces), announced, 1 << 20)
                    .await
                    .unwrap();
                let mut at = 0;
                for (i, n) in pieces.iter().enumerate() {
                    assert!(bytes[at..at + n].iter().all(|b| *b == i as u8));
                    at += n;
                }
                assert_eq!(at, bytes.len());
                assert!(inflight.bytes() >= total as u64);
                if announced.is_some() {
                    assert_eq!(inflight.bytes(), total as u64, "{pieces:?}");
                }
                assert_eq!(inflight.requests(), 1);
                drop(ticket);
                assert_eq!((inflight.bytes(), inflight.requests()), (0, 0));
            }
        }
    }

    #[tokio::test]
    async fn what_is_announced_holds_nothing() {
        let inflight = inflight(100);
        let waiting = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let mut waiting = Box::pin(read(&inflight, waiting, Some(100), 1000));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        assert_eq!((inflight.bytes(), inflight.requests()), (0, 0));
        read(&inflight, chunked(&[90]), Some(90), 1000)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn bodies_are_refused_before_they_are_kept() {
        let inflight = inflight(100_000);
        let large = read(&inflight, chunked(&[]), Some(1001), 1000).await;
        assert!(matches!(
            large,
            Err(BodyError::TooLarge { bytes: 1001, .. })
        ));
        let large = read(&inflight, chunked(&[600, 600]), None, 1000).await;
        assert!(matches!(
            large,
            Err(BodyError::TooLarge { bytes: 1200, .. })
        ));
        let endless = chunked(&[10_000; 50]);
        let refused = read(&inflight, endless, None, 1 << 20).await;
        assert!(matches!(refused, Err(BodyError::NoRoom(_))), "{refused:?}");
        assert_eq!((inflight.bytes(), inflight.requests()), (0, 0));
    }
}
