//! What was made beside chunks and is in no side object yet.

use std::collections::BTreeMap;

use lgtm_core::Result;
use parking_lot::Mutex;

use crate::chunk::ChunkKey;
use crate::schema::DAY_MS;
use crate::skip::{
    ChunkBatch, ChunkSkip, MadeSkip, OpenBatch, SideObjectEncoder, SkipBuilder, SkipSettings,
    SmallSkip,
};

/// Makers of side files that are kept for the next chunks.
const MAX_BUILDERS: usize = 4;
/// What stands beside small chunks waits for others up to so many bytes.
const MOST_WAITING: usize = 64 << 10;
/// The most that is remembered as left.
const MOST_LEFT: usize = 4 << 20;
/// So many small chunks that wait together are worth an object: it adds less than half a percent to the requests that write them.
const MANY_SMALL: usize = 256;
/// What a chunk of a batch may borrow of what others have left: with it the filters of a batch tell nearly as much as others.
const BATCH_LOAN: usize = 256;
/// Batches in the making, a MiB each at most; beyond it those of a day are closed as they are.
const MOST_BATCHES: usize = 16;

/// A side object in the making.
#[derive(Debug, Default)]
struct PendingObject {
    object: SideObjectEncoder,
    /// Whether a chunk is in it that has no more beside it than its own share.
    is_due: bool,
    /// Small chunks of the same tenant share what stands beside them.
    batches: BTreeMap<String, OpenBatch>,
    /// Chunks that came into batches.
    small: usize,
}

impl PendingObject {
    /// Takes a small chunk into a batch. Gives those that are to be closed.
    fn add_small(
        &mut self,
        key: &ChunkKey,
        small: SmallSkip,
        room: usize,
        settings: &SkipSettings,
    ) -> Vec<OpenBatch> {
        let mut full = Vec::new();
        if self.batches.len() >= MOST_BATCHES && !self.batches.contains_key(&key.tenant) {
            full.extend(std::mem::take(&mut self.batches).into_values());
        }
        let batch = self.batches.entry(key.tenant.clone());
        let batch = batch.or_insert_with(|| OpenBatch::new(&key.tenant, settings));
        batch.add(key, small, room);
        self.small += 1;
        if batch.is_full(settings) {
            full.extend(self.batches.remove(&key.tenant));
        }
        full
    }
}

/// Side objects in the making, by the day of their chunks' first times.
#[derive(Debug, Default)]
pub(super) struct PendingSide {
    days: Mutex<BTreeMap<i64, PendingObject>>,
    builders: Mutex<Vec<SkipBuilder>>,
    /// Bytes that chunks have left of their shares.
    left: Mutex<usize>,
}

fn day_of(key: &ChunkKey) -> i64 {
    key.from_ms.get().div_euclid(DAY_MS)
}

impl PendingSide {
    /// Makes what stands beside a chunk: within its own share; if that is small, within what others have left, or in a batch with other small chunks,
    /// and then there is nothing to [add](PendingSide::add). Takes what was `made` already, if that fits.
    ///
    /// # Errors
    /// Those of [`SkipBuilder::build_within`].
    pub(super) fn make(
        &self,
        key: &ChunkKey,
        chunk: &[u8],
        made: Option<MadeSkip>,
        settings: &SkipSettings,
    ) -> Result<Option<ChunkSkip>> {
        if settings.max_size_percent == 0 {
            return Ok(None);
        }
        let share = settings.share_of(chunk.len());
        if settings.is_small(chunk.len()) {
            return self.make_small(key, chunk, made, settings);
        }
        let made = match made {
            Some(MadeSkip::Own(made)) if made.size_bytes() <= share => Some(made),
            _ => self.with_builder(|builder| builder.build_within(chunk, settings, share))?,
        };
        self.leave(share, made.as_ref());
        Ok(made)
    }

    fn make_small(
        &self,
        key: &ChunkKey,
        chunk: &[u8],
        made: Option<MadeSkip>,
        settings: &SkipSettings,
    ) -> Result<Option<ChunkSkip>> {
        let share = settings.share_of(chunk.len());
        let small = match made {
            Some(MadeSkip::Small(small)) => *small,
            // Groups of it are complete already.
            Some(MadeSkip::Own(own)) if self.borrow(own.size_bytes().saturating_sub(share)) => {
                self.leave(share, Some(&own));
                return Ok(Some(own));
            }
            _ => self.with_builder(|builder| builder.small(chunk, settings))?,
        };
        if self.borrow(SkipSettings::SMALL_ROOM - share) {
            let room = SkipSettings::SMALL_ROOM;
            let made = self.with_builder(|builder| builder.alone(&small, settings, room));
            self.leave(room, made.as_ref());
            return Ok(made);
        }
        let full = {
            let mut days = self.days.lock();
            let pending = days.entry(day_of(key)).or_default();
            pending.add_small(key, small, share, settings)
        };
        for batch in full {
            self.close(day_of(key), batch);
        }
        Ok(None)
    }

    /// Takes so many bytes of what others have left, if they have left as many.
    fn borrow(&self, bytes: usize) -> bool {
        let mut left = self.left.lock();
        let enough = left.checked_sub(bytes);
        *left = enough.unwrap_or(*left);
        enough.is_some()
    }

    /// What a chunk does not use of its room is left to others.
    fn leave(&self, room: usize, made: Option<&ChunkSkip>) {
        let used = made.map_or(0, ChunkSkip::size_bytes);
        let mut left = self.left.lock();
        *left = (*left + room.saturating_sub(used)).min(MOST_LEFT);
    }

    /// Closes a batch, which gets what others have left beside what its chunks have.
    fn close(&self, day: i64, batch: OpenBatch) {
        let wanted = batch.len() * BATCH_LOAN;
        let lent = {
            let mut left = self.left.lock();
            let lent = wanted.min(*left);
            *left -= lent;
            lent
        };
        let room = batch.room() + lent;
        let closed = batch.close(lent);
        let used = closed.as_ref().map_or(0, ChunkBatch::size_bytes);
        {
            let mut left = self.left.lock();
            *left = (*left + room.saturating_sub(used)).min(MOST_LEFT);
        }
        if let Some(batch) = closed {
            let mut days = self.days.lock();
            days.entry(day).or_default().object.add_batch(batch);
        }
    }

    /// Has one of the makers make something.
    fn with_builder<T>(&self, make: impl FnOnce(&mut SkipBuilder) -> T) -> T {
        let mut builder = self.builders.lock().pop().unwrap_or_default();
        let made = make(&mut builder);
        let mut builders = self.builders.lock();
        if builders.len() < MAX_BUILDERS {
            builders.push(builder);
        }
        made
    }

    pub(super) fn add(&self, key: &ChunkKey, object_bytes: u32, skip: ChunkSkip, share: usize) {
        let mut days = self.days.lock();
        let pending = days.entry(day_of(key)).or_default();
        pending.is_due |= skip.size_bytes() <= share;
        pending.object.add(key.clone(), object_bytes, skip);
    }

    /// Takes what is worth an object. What stands beside a few small chunks alone waits for others.
    pub(super) fn take(&self) -> BTreeMap<i64, SideObjectEncoder> {
        let is_due = |p: &PendingObject| {
            p.is_due || p.small >= MANY_SMALL || p.object.size_bytes() >= MOST_WAITING
        };
        let open: Vec<(i64, OpenBatch)> = {
            let mut days = self.days.lock();
            let due = days.iter_mut().filter(|(_, p)| is_due(p));
            let open = due.flat_map(|(day, p)| {
                let batches = std::mem::take(&mut p.batches).into_values();
                batches.map(|batch| (*day, batch))
            });
            open.collect()
        };
        for (day, batch) in open {
            self.close(day, batch);
        }
        let mut days = self.days.lock();
        let due: Vec<i64> = days.iter().filter(|d| is_due(d.1)).map(|d| *d.0).collect();
        let taken = due
            .into_iter()
            .filter_map(|day| Some((day, days.remove(&day)?.object)));
        taken.filter(|(_, object)| !object.is_empty()).collect()
    }
}
