//! Sections of side objects in memory.

use std::sync::Arc;

use hashbrown::HashMap;

use super::side_files::SideKind;
use crate::chunk::ChunkKey;
use crate::skip::{BatchCounts, ChunkCounts, LevelCounts, SidePlace, SkipFilters, SmallCounts};
use lgtm_core::model::TimestampMs;

/// What names a section in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum SideId {
    /// That of a chunk.
    Chunk {
        tenant: u64,
        fingerprint: u64,
        from_ms: TimestampMs,
        through_ms: TimestampMs,
        checksum: u32,
        kind: SideKind,
    },
    /// That of several small chunks: by a hash of its object's path, and where it is in it.
    Batch {
        object: u64,
        place: SidePlace,
        kind: SideKind,
    },
}

impl SideId {
    pub(super) fn of_chunk(tenant: u64, key: &ChunkKey, kind: SideKind) -> Self {
        Self::Chunk {
            tenant,
            fingerprint: key.fingerprint,
            from_ms: key.from_ms,
            through_ms: key.through_ms,
            checksum: key.checksum,
            kind,
        }
    }

    pub(super) fn of_batch(path: &str, place: SidePlace, kind: SideKind) -> Self {
        Self::Batch {
            object: xxhash_rust::xxh3::xxh3_64(path.as_bytes()),
            place,
            kind,
        }
    }
}

/// A section that was read.
#[derive(Debug, Clone)]
pub(super) enum SidePart {
    Filters(Arc<SkipFilters>),
    Counts(Arc<KnownCounts>),
    /// Counts of a batch, and the number of a chunk in it.
    Batch(Arc<BatchCounts>, u16),
}

/// Counts of a chunk, and of each level all of them together.
#[derive(Debug)]
pub(super) struct KnownCounts {
    pub(super) counts: ChunkCounts,
    /// Lines and bytes by level.
    pub(super) totals: Box<[(u64, u64)]>,
    /// Whether minutes are known, too.
    pub(super) is_by_minute: bool,
}

impl KnownCounts {
    pub(super) fn new(counts: ChunkCounts) -> Self {
        Self {
            totals: counts.levels.iter().map(LevelCounts::total).collect(),
            is_by_minute: true,
            counts,
        }
    }

    fn size_bytes(&self) -> usize {
        self.counts.size_bytes() + size_of_val(&*self.totals)
    }
}

impl From<SmallCounts> for KnownCounts {
    fn from(small: SmallCounts) -> Self {
        let SmallCounts {
            counts,
            totals,
            is_by_minute,
        } = small;
        Self {
            counts,
            totals,
            is_by_minute,
        }
    }
}

impl SidePart {
    /// The same for the chunk of a number, where it is of a batch.
    pub(super) fn of_chunk(&self, number: u16) -> Self {
        match self {
            Self::Batch(counts, _) => Self::Batch(Arc::clone(counts), number),
            other => other.clone(),
        }
    }

    fn size_bytes(&self) -> u64 {
        // With its place in the table.
        let own = match self {
            Self::Filters(f) => f.size_bytes(),
            Self::Counts(c) => c.size_bytes(),
            Self::Batch(b, _) => b.size_bytes(),
        };
        (own + size_of::<SideId>() + size_of::<Self>() + 64) as u64
    }
}

/// Sections within a bound, in two generations: when the young one is full, it becomes the old one, and what was not asked for meanwhile is
/// forgotten.
#[derive(Debug)]
pub(super) struct SideCache {
    max_bytes: u64,
    young: HashMap<SideId, SidePart>,
    young_bytes: u64,
    old: HashMap<SideId, SidePart>,
    old_bytes: u64,
}

impl SideCache {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            young: HashMap::new(),
            young_bytes: 0,
            old: HashMap::new(),
            old_bytes: 0,
        }
    }

    pub(super) fn get(&mut self, id: &SideId) -> Option<SidePart> {
        if let Some(part) = self.young.get(id) {
            return Some(part.clone());
        }
        let part = self.old.remove(id)?;
        self.old_bytes = self.old_bytes.saturating_sub(part.size_bytes());
        self.insert(*id, part.clone());
        Some(part)
    }

    pub(super) fn insert(&mut self, id: SideId, part: SidePart) {
        let size = part.size_bytes();
        if self.young_bytes + size > self.max_bytes / 2 {
            self.old = std::mem::take(&mut self.young);
            self.old_bytes = std::mem::take(&mut self.young_bytes);
        }
        if size > self.max_bytes / 2 {
            return;
        }
        self.young_bytes += size;
        if let Some(before) = self.young.insert(id, part) {
            self.young_bytes = self.young_bytes.saturating_sub(before.size_bytes());
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.young_bytes + self.old_bytes
    }
}

#[cfg(test)]
mod tests {
    use lgtm_core::model::TimestampNs;

    use super::*;

    fn id(n: u64) -> SideId {
        SideId::Chunk {
            tenant: 1,
            fingerprint: n,
            from_ms: TimestampMs::EPOCH,
            through_ms: TimestampMs::EPOCH,
            checksum: 0,
            kind: SideKind::Counts,
        }
    }

    #[test]
    fn what_is_asked_for_stays_and_the_bound_holds() {
        let counts = ChunkCounts {
            min_ns: TimestampNs::EPOCH,
            max_ns: TimestampNs::EPOCH,
            names: Vec::new(),
            levels: Vec::new(),
        };
        let part = SidePart::Counts(Arc::new(KnownCounts::new(counts)));
        let max = part.size_bytes() * 20;
        let mut cache = SideCache::new(max);
        for n in 0..200 {
            cache.insert(id(n), part.clone());
            assert!(cache.get(&id(0)).is_some(), "{n}");
            assert!(cache.bytes() <= max);
        }
        assert!(cache.get(&id(100)).is_none() && cache.get(&id(199)).is_some());
    }
}
