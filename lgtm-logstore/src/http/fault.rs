//! A fault of this program in one call ends that call and no other.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use lgtm_core::Error;

use super::error::ApiError;
use super::query_api::QueryApi;

/// Answers 500 for a call that panics, and counts it. Queries are caught nearer to where they run, with their text in the log, and counted
/// there; this is for all other calls.
pub(super) async fn caught(
    State(api): State<Arc<QueryApi>>,
    request: Request,
    next: Next,
) -> Response {
    let panicked = || {
        api.panicked.fetch_add(1, Ordering::Relaxed);
        ApiError::from(Error::Internal("the call panicked".into())).into_response()
    };
    lgtm_core::http::caught(panicked, request, next).await
}
