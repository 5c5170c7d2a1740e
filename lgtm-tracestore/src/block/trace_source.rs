//! Where the traces of a block come from.

use lgtm_core::Result;

use crate::trace::TraceId;

/// Brings what makes a source go on that has ended before all its traces have come.
pub trait TraceFeed<S>: Send {
    /// Makes the source go on. False when there is nothing more. Not cancel-safe.
    ///
    /// # Errors
    /// Any: the block is then not written.
    fn refill(&mut self, source: &mut S) -> impl Future<Output = Result<bool>> + Send;
}

/// For a source that has all its traces.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFeed;

impl<S: Send> TraceFeed<S> for NoFeed {
    async fn refill(&mut self, _: &mut S) -> Result<bool> {
        Ok(false)
    }
}

/// Traces in the order of their ids, for a block that is written.
pub trait TraceSource: Send + std::fmt::Debug + 'static {
    /// The next trace: gives its id and appends it to `out` as the protobuf message `Trace`. Ids ascend. `None` at the end. Called on the compute
    /// pool.
    ///
    /// # Errors
    /// Any: the block is then not written.
    fn next_trace(&mut self, out: &mut Vec<u8>) -> Result<Option<TraceId>>;
}
