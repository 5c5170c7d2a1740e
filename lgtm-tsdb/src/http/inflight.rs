//! How many pushes, and how many bytes of them, may be in the process at a time: the bound of the write path's memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use lgtm_core::{Error, Result};

use super::error::ApiError;

/// Counts what is under way.
#[derive(Debug, Default)]
pub struct Inflight {
    requests: AtomicU64,
    bytes: AtomicU64,
    max_requests: u64,
    max_bytes: u64,
}

/// A push that is under way; counts until it is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    of: Arc<Inflight>,
    bytes: u64,
}

impl Inflight {
    /// Bounds of 0 mean no bound.
    pub(super) fn new(max_requests: u64, max_bytes: u64) -> Self {
        Self {
            max_requests,
            max_bytes,
            ..Self::default()
        }
    }

    /// Pushes under way.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Bytes of pushes under way, compressed and decompressed.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Lets one more push in.
    fn enter(self: &Arc<Self>) -> Result<Ticket> {
        let now = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let ticket = Ticket {
            of: Arc::clone(self),
            bytes: 0,
        };
        if self.max_requests > 0 && now > self.max_requests {
            return Err(Error::Unavailable(format!(
                "the write request has been rejected because {} others are in flight, which is the limit (server.max_inflight_push_requests) (err-mimir-distributor-max-inflight-push-requests)",
                self.max_requests
            )));
        }
        Ok(ticket)
    }
}

impl Ticket {
    /// Counts `bytes` more to this push.
    pub(super) fn add(&mut self, bytes: u64) -> Result<()> {
        let now = self.of.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bytes += bytes;
        let max = self.of.max_bytes;
        if max > 0 && now > max {
            return Err(Error::Unavailable(format!(
                "the write request has been rejected because {now} bytes of requests would be in flight, the limit is {max} (server.max_inflight_push_requests_bytes) (err-mimir-distributor-max-inflight-push-requests-bytes)"
            )));
        }
        Ok(())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.of.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.of.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads the body of a push once there is room for it. A sender that does not say how much it sends is counted with what has come
/// when it is complete.
pub(super) async fn read_body(
    inflight: &Arc<Inflight>,
    request: Request,
    max_bytes: usize,
) -> std::result::Result<(Ticket, HeaderMap, Bytes), ApiError> {
    let mut ticket = inflight.enter()?;
    let (parts, body) = request.into_parts();
    let said = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if let Some(said) = said {
        if said > max_bytes as u64 {
            return Err(too_large(said, max_bytes));
        }
        ticket.add(said)?;
    }
    let body = collect(body, max_bytes).await?;
    if said.is_none() {
        ticket.add(body.len() as u64)?;
    }
    Ok((ticket, parts.headers, body))
}

async fn collect(body: Body, max_bytes: usize) -> std::result::Result<Bytes, ApiError> {
    axum::body::to_bytes(body, max_bytes).await.map_err(|e| {
        let mut cause: Option<&dyn std::error::Error> = Some(&e);
        while let Some(c) = cause {
            if c.to_string().contains("length limit exceeded") {
                return too_large(max_bytes as u64 + 1, max_bytes);
            }
            cause = c.source();
        }
        ApiError::bad_data(format!("the request's body broke off: {e}"))
    })
}

fn too_large(bytes: u64, max: usize) -> ApiError {
    ApiError::of_push(Error::LimitExceeded(format!(
        "received a request of at least {bytes} bytes, the limit is {max} (max_recv_msg_size) (err-mimir-distributor-max-write-message-size)"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_counts_for_as_long_as_it_lives() {
        let inflight = Arc::new(Inflight::new(2, 100));
        let mut a = inflight.enter().unwrap();
        a.add(60).unwrap();
        let mut b = inflight.enter().unwrap();
        assert!(b.add(41).unwrap_err().to_string().contains("101"));
        drop(b);
        assert_eq!((inflight.requests(), inflight.bytes()), (1, 60));
        let b = inflight.enter().unwrap();
        assert!(inflight.enter().is_err());
        drop((a, b));
        assert_eq!((inflight.requests(), inflight.bytes()), (0, 0));
    }
}
