//! Where calls run: on the runtime while they are small, in the compute pool from where they are not.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::query_api::QueryApi;

/// Lets a call go on in the pool, in its tenant's line.
pub(super) async fn movable(
    State(api): State<Arc<QueryApi>>,
    request: Request,
    next: Next,
) -> Response {
    let executor = api.executor(request.headers());
    let answer = lgtm_core::http::movable(executor, request, next).await;
    answer.unwrap_or_else(|e| ApiError::from(e).into_response())
}
