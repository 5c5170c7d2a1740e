//! Where calls run: on the runtime while they are small, in the compute pool from where they are not.

use std::sync::Arc;

use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use lgtm_core::Error;
use lgtm_core::exec::move_to_pool;
use lgtm_core::http::UrlQuery;

use super::error::ApiError;
use super::query_api::QueryApi;

/// A longer text may take half a millisecond to read.
const LONG_BYTES: u64 = 1024;

/// Lets a call go on in the pool, in its tenant's line: at once if it is long, else where it says so itself. When its client goes
/// away, it ends.
pub(super) async fn movable(
    State(api): State<Arc<QueryApi>>,
    request: Request,
    next: Next,
) -> Response {
    let executor = api.executor(request.headers());
    let query = UrlQuery::of(request.uri(), request.extensions());
    let query = query.map_or(0, str::len) as u64;
    // A body that does not say how long it is may be long.
    let body = request.body().size_hint().exact();
    let is_long = query > LONG_BYTES || body.is_none_or(|n| n > LONG_BYTES);
    let answer = executor.run_movable(async move {
        if is_long {
            move_to_pool().await;
        }
        Ok::<_, Error>(next.run(request).await)
    });
    let answer = answer.await;
    answer.unwrap_or_else(|e| ApiError::from(e).into_response())
}
