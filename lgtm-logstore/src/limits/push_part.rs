//! What one ingester is to take of a push.

use std::sync::Arc;

use super::admission::Accepted;
use crate::wire::PushBatch;

/// What one ingester is to take of a push: entries of the batch that nothing refused before, of all its streams or of some. Owned, so that a
/// push to a slow replica can outlive the request's caller; clones share the batch, which is freed with the last of them. Plain data: sent
/// elsewhere, it is these entries.
#[derive(Debug, Clone)]
pub struct PushPart {
    batch: Arc<PushBatch>,
    accepted: Arc<Accepted>,
}

impl PushPart {
    /// The accepted entries of a batch.
    pub fn new(batch: Arc<PushBatch>, accepted: Arc<Accepted>) -> Self {
        Self { batch, accepted }
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
