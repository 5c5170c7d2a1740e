//! No request waits for ever.

use std::future::Future;
use std::time::Duration;

use crate::storage::fault::Fault;

/// Waits for `work` at most so long. What the request did by then stays done: a write that timed out may have happened.
pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = object_store::Result<T>>,
) -> object_store::Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(Fault::TimedOut { after: limit }.into()),
    }
}
