//! Where calls run: on the runtime while they are small, in the compute pool from where they are not.

use axum::body::HttpBody;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;

use super::long_url::UrlQuery;
use crate::error::Result;
use crate::exec::{Executor, move_to_pool};

/// A longer text may take half a millisecond to read.
const LONG_BYTES: u64 = 1024;

/// Lets a call go on in the pool of `executor`: at once if it is long, else where it says so itself. When its client goes away, it ends. A
/// middleware's body.
///
/// # Errors
/// Those of the pool.
pub async fn movable(executor: Executor, request: Request, next: Next) -> Result<Response> {
    let query = UrlQuery::of(request.uri(), request.extensions());
    let query = query.map_or(0, str::len) as u64;
    // A body that does not say how long it is may be long.
    let body = request.body().size_hint().exact();
    let is_long = query > LONG_BYTES || body.is_none_or(|n| n > LONG_BYTES);
    executor
        .run_movable(async move {
            if is_long {
                move_to_pool().await;
            }
            Ok(next.run(request).await)
        })
        .await
}
