//! Decoded requests that are used again, and what they hold while they are under way.

use std::fmt::Debug;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits::inflight::Ticket;

/// Batches that are kept for the next requests; each keeps about the memory of the largest request it held.
const KEPT_BATCHES: usize = 8;
/// A batch that has grown beyond this is not kept.
const KEPT_BYTES: usize = 8 << 20;

/// A decoded request whose memory can be used again.
pub trait Reusable: Debug + Default + Send {
    /// Forgets the request but keeps the memory.
    fn clear(&mut self);

    /// Bytes of memory that it keeps when it is empty.
    fn heap_bytes(&self) -> usize;
}

/// Batches to decode into, so that requests of usual size allocate nothing.
#[derive(Debug, Default)]
pub struct BatchPool<B> {
    kept: Mutex<Vec<B>>,
}

/// A request under way: a batch, and the room that it takes of what all requests may hold. When the last one who needs it lets go,
/// the batch goes back to its pool and the room is free again.
#[derive(Debug, Default)]
pub struct PooledBatch<B: Reusable> {
    batch: B,
    pool: Option<Arc<BatchPool<B>>>,
    room: Option<Ticket>,
}

impl<B: Reusable> BatchPool<B> {
    /// An empty batch that holds `room`, and takes more of it as it grows.
    pub fn take(self: &Arc<Self>, room: Ticket) -> PooledBatch<B> {
        PooledBatch {
            batch: self.kept.lock().pop().unwrap_or_default(),
            pool: Some(Arc::clone(self)),
            room: Some(room),
        }
    }

    /// Keeps a batch's memory for the next request, and nothing of the request itself; of one that has grown large, nothing.
    fn keep(&self, mut batch: B) {
        batch.clear();
        let mut kept = self.kept.lock();
        if kept.len() < KEPT_BATCHES && batch.heap_bytes() <= KEPT_BYTES {
            kept.push(batch);
        }
    }
}

impl<B: Reusable> PooledBatch<B> {
    /// The batch, and its room if it is counted.
    pub fn parts(&mut self) -> (&mut B, Option<&mut Ticket>) {
        (&mut self.batch, self.room.as_mut())
    }
}

impl<B: Reusable> Deref for PooledBatch<B> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.batch
    }
}

impl<B: Reusable> DerefMut for PooledBatch<B> {
    fn deref_mut(&mut self) -> &mut B {
        &mut self.batch
    }
}

/// A batch of its own, counted nowhere.
impl<B: Reusable> From<B> for PooledBatch<B> {
    fn from(batch: B) -> Self {
        Self {
            batch,
            pool: None,
            room: None,
        }
    }
}

impl<B: Reusable> Drop for PooledBatch<B> {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.keep(std::mem::take(&mut self.batch));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{Inflight, InflightBound};

    impl Reusable for Vec<u8> {
        fn clear(&mut self) {
            Self::clear(self);
        }

        fn heap_bytes(&self) -> usize {
            self.capacity()
        }
    }

    #[test]
    fn memory_is_used_again_and_room_given_back() {
        let bound = InflightBound { max: 0, hint: "" };
        let requests = Arc::new(Inflight::new(bound, bound));
        let pool = Arc::new(BatchPool::<Vec<u8>>::default());
        let mut batch = pool.take(requests.ticket());
        batch.extend_from_slice(b"request");
        if let (_, Some(room)) = batch.parts() {
            room.add(7).unwrap();
        }
        let capacity = batch.capacity();
        assert_eq!(requests.bytes(), 7);
        drop(batch);
        assert_eq!(requests.bytes(), 0);
        let mut again = pool.take(requests.ticket());
        assert_eq!((again.len(), again.capacity()), (0, capacity));
        again.reserve(KEPT_BYTES + 1);
        drop(again);
        assert_eq!(
            pool.take(requests.ticket()).capacity(),
            0,
            "grown too large"
        );
    }
}
