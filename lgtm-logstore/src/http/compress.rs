//! Answers compressed as the client takes them, in the line of its tenant.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::query_api::QueryApi;

/// Compresses what the handlers answer.
pub(super) async fn compress(
    State(api): State<Arc<QueryApi>>,
    request: Request,
    next: Next,
) -> Response {
    lgtm_core::http::compress(|headers| api.executor(headers), request, next).await
}
