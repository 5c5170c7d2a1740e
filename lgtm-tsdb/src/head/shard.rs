//! A run of consecutive series ids behind one lock.
//!
//! A batch of samples locks each shard it touches once per run of ids, and senders repeat their series in the order in which
//! ids were given; so that a request of 2,000 samples takes about five locks, and the number of shards grows with the series.

use parking_lot::Mutex;

use super::series::MemSeries;

/// Series per shard.
pub(super) const SHARD_LEN: usize = 512;

/// The series whose ids share all but their last nine bits.
#[derive(Debug, Default)]
pub(super) struct Shard {
    slots: Mutex<Vec<Option<Box<MemSeries>>>>,
}

/// A locked shard.
pub(super) type ShardGuard<'a> = parking_lot::MutexGuard<'a, Vec<Option<Box<MemSeries>>>>;

impl Shard {
    pub(super) fn lock(&self) -> ShardGuard<'_> {
        self.slots.lock()
    }

    /// Puts a series into its slot.
    pub(super) fn put(&self, slot: usize, series: MemSeries) {
        let mut slots = self.slots.lock();
        if slots.len() <= slot {
            if slots.capacity() <= slot {
                let wanted = (slot + 1).next_power_of_two().min(SHARD_LEN);
                let more = wanted - slots.len();
                slots.reserve_exact(more);
            }
            slots.resize_with(slot + 1, || None);
        }
        slots[slot] = Some(Box::new(series));
    }
}
