//! A finished chunk and whose it is: what heads hand over and buckets take.

use lgtm_core::model::{Labels, TenantId};

use crate::chunk::builder::FinishedChunk;

/// A finished chunk and the stream that it is of.
#[derive(Debug, Clone)]
pub struct StreamChunk {
    /// Whose it is.
    pub tenant: TenantId,
    /// The stream's fingerprint: what its labels hash to, or a number of its own where two streams hash alike.
    pub fingerprint: u64,
    /// The stream's labels.
    pub labels: Labels,
    /// The chunk.
    pub chunk: FinishedChunk,
}
