//! What one ingester is to take of a push.

use std::sync::Arc;

use super::admission::Accepted;
use crate::wire::{PooledBatch, PushBatch};

/// What one ingester is to take of a push: entries of the batch that nothing refused before, of all its streams or of some. Owned, so that a
/// push to a slow replica can outlive the request's caller; clones share the batch, and the room that it is counted for, which are freed with
/// the last of them. Plain data: sent
/// elsewhere, it is these entries.
#[derive(Debug, Clone)]
pub struct PushPart {
    batch: Arc<PooledBatch>,
    accepted: Arc<Accepted>,
}

impl PushPart {
    /// The accepted entries of a batch.
    pub fn new(batch: Arc<PooledBatch>, accepted: Arc<Accepted>) -> Self {
        Self { batch, accepted }
    }

    /// The entries of some streams among these, by the numbers of the streams in the batch, ascending.
    #[must_use]
    pub fn only(&self, streams: &[u32]) -> Self {
        Self {
            batch: Arc::clone(&self.batch),
            accepted: Arc::new(self.accepted.of_streams(&self.batch, streams)),
        }
    }

    /// The push.
    pub fn batch(&self) -> &PushBatch {
        &self.batch
    }

    /// Which of its entries are to be taken.
    pub fn accepted(&self) -> &Accepted {
        &self.accepted
    }
}
