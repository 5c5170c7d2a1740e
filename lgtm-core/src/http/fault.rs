//! A fault of this program in one call ends that call and no other.

use std::panic::AssertUnwindSafe;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use futures::FutureExt;

/// Answers what `panicked` makes for a call that panics, and logs its path. A middleware's body.
pub async fn caught(panicked: impl FnOnce() -> Response, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    answer.unwrap_or_else(|_| {
        tracing::error!(path, "a call panicked");
        panicked()
    })
}
