//! Where the traces of a block come from.

use lgtm_core::Result;

use crate::trace::TraceId;

/// Traces in the order of their ids, for a block that is written.
pub trait TraceSource: Send + std::fmt::Debug + 'static {
    /// The next trace: gives its id and appends it to `out` as the protobuf message `Trace`. Ids ascend. `None` at the end. Called on the compute
    /// pool.
    ///
    /// # Errors
    /// Any: the block is then not written.
    fn next_trace(&mut self, out: &mut Vec<u8>) -> Result<Option<TraceId>>;
}
