//! What was made beside chunks and is in no side object yet.

use std::collections::BTreeMap;

use lgtm_core::Result;
use parking_lot::Mutex;

use crate::chunk::ChunkKey;
use crate::schema::DAY_MS;
use crate::skip::{ChunkSkip, SideObjectEncoder, SkipBuilder, SkipSettings};

/// Makers of side files that are kept for the next chunks.
const MAX_BUILDERS: usize = 4;
/// What a small chunk may have beside it where others leave it: a chunk that nothing is known of costs a query a request, however small it is.
const SMALL_ROOM: usize = 2 << 10;
/// What stands beside small chunks waits for others up to so many bytes.
const MOST_WAITING: usize = 64 << 10;
/// The most that is remembered as left.
const MOST_LEFT: usize = 4 << 20;

/// A side object in the making.
#[derive(Debug, Default)]
struct PendingObject {
    object: SideObjectEncoder,
    /// Whether a chunk is in it that has no more beside it than its own share.
    is_due: bool,
}

/// Side objects in the making, by the day of their chunks' first times.
#[derive(Debug, Default)]
pub(super) struct PendingSide {
    days: Mutex<BTreeMap<i64, PendingObject>>,
    builders: Mutex<Vec<SkipBuilder>>,
    /// Bytes that chunks have left of their shares.
    left: Mutex<usize>,
}

impl PendingSide {
    /// Makes what stands beside a chunk: within its own share, or, if that is small, within what others have left.
    ///
    /// # Errors
    /// Those of [`SkipBuilder::build_within`].
    pub(super) fn make(&self, chunk: &[u8], settings: &SkipSettings) -> Result<Option<ChunkSkip>> {
        if settings.max_size_percent == 0 {
            return Ok(None);
        }
        let share = settings.share_of(chunk.len());
        let lent = {
            let mut left = self.left.lock();
            let lent = SMALL_ROOM.saturating_sub(share).min(*left);
            *left -= lent;
            lent
        };
        let mut builder = self.builder();
        let made = builder.build_within(chunk, settings, share + lent);
        self.give_back(builder);
        let made = made?;
        let used = made.as_ref().map_or(0, ChunkSkip::size_bytes);
        let mut left = self.left.lock();
        *left = (*left + (share + lent).saturating_sub(used)).min(MOST_LEFT);
        Ok(made)
    }

    /// What makes the side files of a chunk.
    fn builder(&self) -> SkipBuilder {
        self.builders.lock().pop().unwrap_or_default()
    }

    /// Takes a maker back.
    fn give_back(&self, builder: SkipBuilder) {
        let mut builders = self.builders.lock();
        if builders.len() < MAX_BUILDERS {
            builders.push(builder);
        }
    }

    pub(super) fn add(&self, key: &ChunkKey, object_bytes: u32, skip: ChunkSkip, share: usize) {
        let day = key.from_ms.get().div_euclid(DAY_MS);
        let mut days = self.days.lock();
        let pending = days.entry(day).or_default();
        pending.is_due |= skip.size_bytes() <= share;
        pending.object.add(key.clone(), object_bytes, skip);
    }

    /// Takes what is worth an object. What stands beside small chunks alone waits for others.
    pub(super) fn take(&self) -> BTreeMap<i64, SideObjectEncoder> {
        let mut days = self.days.lock();
        let is_due = |p: &PendingObject| p.is_due || p.object.size_bytes() >= MOST_WAITING;
        let due: Vec<i64> = days.iter().filter(|d| is_due(d.1)).map(|d| *d.0).collect();
        let taken = due
            .into_iter()
            .filter_map(|d| Some((d, days.remove(&d)?.object)));
        taken.collect()
    }
}
