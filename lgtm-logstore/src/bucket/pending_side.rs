//! What was made beside chunks and is in no side object yet.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::chunk::ChunkKey;
use crate::schema::DAY_MS;
use crate::skip::{ChunkSkip, SideObjectEncoder, SkipBuilder};

/// Makers of side files that are kept for the next chunks.
const MAX_BUILDERS: usize = 4;

/// Side objects in the making, by the day of their chunks' first times.
#[derive(Debug, Default)]
pub(super) struct PendingSide {
    days: Mutex<BTreeMap<i64, SideObjectEncoder>>,
    builders: Mutex<Vec<SkipBuilder>>,
}

impl PendingSide {
    /// What makes the side files of a chunk.
    pub(super) fn builder(&self) -> SkipBuilder {
        self.builders.lock().pop().unwrap_or_default()
    }

    /// Takes a maker back.
    pub(super) fn give_back(&self, builder: SkipBuilder) {
        let mut builders = self.builders.lock();
        if builders.len() < MAX_BUILDERS {
            builders.push(builder);
        }
    }

    pub(super) fn add(&self, key: &ChunkKey, object_bytes: u32, skip: ChunkSkip) {
        let day = key.from_ms.div_euclid(DAY_MS);
        let mut days = self.days.lock();
        days.entry(day)
            .or_default()
            .add(key.clone(), object_bytes, skip);
    }

    /// Takes what there is.
    pub(super) fn take(&self) -> BTreeMap<i64, SideObjectEncoder> {
        std::mem::take(&mut *self.days.lock())
    }
}
