//! Bodies of requests that store nothing: read whole before their handlers run, as far as there is room for all of them.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;

use super::body_reader::{BodyError, collect_body};
use crate::limits::Inflight;

/// Reads a body of at most `max` bytes and goes on with it; `inflight` counts it until the answer is there. A middleware's body.
///
/// # Errors
/// See [`BodyError`].
pub async fn with_body(
    inflight: &Arc<Inflight>,
    max: u64,
    request: Request,
    next: Next,
) -> Result<Response, BodyError> {
    if request.body().is_end_stream() {
        return Ok(next.run(request).await);
    }
    let (parts, body) = request.into_parts();
    let (_ticket, bytes) = collect_body(inflight, &parts.headers, body, max).await?;
    let request = Request::from_parts(parts, Body::from(bytes));
    Ok(next.run(request).await)
}
