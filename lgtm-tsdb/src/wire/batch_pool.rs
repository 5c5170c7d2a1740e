//! Decoded requests that are used again, and what they hold while they are under way.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use lgtm_core::limits::Ticket;
use parking_lot::Mutex;

use super::batch::WriteBatch;

/// Batches that are kept for the next requests; each keeps about the memory of the largest request it held.
const KEPT_BATCHES: usize = 8;
/// A batch that has grown beyond this is not kept.
const KEPT_BYTES: usize = 8 << 20;

/// Batches to decode into, so that requests of usual size allocate nothing.
#[derive(Debug, Default)]
pub struct BatchPool {
    kept: Mutex<Vec<WriteBatch>>,
}

/// A request under way: a batch, and the room that it takes of what all requests may hold. When the last one who needs it lets go,
/// the batch goes back to its pool and the room is free again.
#[derive(Debug, Default)]
pub struct PooledBatch {
    batch: WriteBatch,
    pool: Option<Arc<BatchPool>>,
    room: Option<Ticket>,
}

impl BatchPool {
    /// An empty batch that holds `room`, and takes more of it as it grows.
    pub fn take(self: &Arc<Self>, room: Ticket) -> PooledBatch {
        PooledBatch {
            batch: self.kept.lock().pop().unwrap_or_default(),
            pool: Some(Arc::clone(self)),
            room: Some(room),
        }
    }

    /// Keeps a batch's memory for the next request, and nothing of the request itself; of one that has grown large, nothing.
    fn keep(&self, mut batch: WriteBatch) {
        batch.clear();
        let mut kept = self.kept.lock();
        if kept.len() < KEPT_BATCHES && batch.heap_bytes() <= KEPT_BYTES {
            kept.push(batch);
        }
    }
}

impl PooledBatch {
    /// The batch, and its room if it is counted.
    pub fn parts(&mut self) -> (&mut WriteBatch, Option<&mut Ticket>) {
        (&mut self.batch, self.room.as_mut())
    }
}

impl Deref for PooledBatch {
    type Target = WriteBatch;

    fn deref(&self) -> &WriteBatch {
        &self.batch
    }
}

impl DerefMut for PooledBatch {
    fn deref_mut(&mut self) -> &mut WriteBatch {
        &mut self.batch
    }
}

/// A batch of its own, counted nowhere.
impl From<WriteBatch> for PooledBatch {
    fn from(batch: WriteBatch) -> Self {
        Self {
            batch,
            pool: None,
            room: None,
        }
    }
}

impl Drop for PooledBatch {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.keep(std::mem::take(&mut self.batch));
        }
    }
}
