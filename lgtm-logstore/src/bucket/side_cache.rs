//! Sections of side objects in memory.

use std::sync::Arc;

use hashbrown::HashMap;

use super::side_files::SideKind;
use crate::skip::{ChunkCounts, SkipFilters};

/// What names a section in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SideId {
    pub(super) tenant: u64,
    pub(super) fingerprint: u64,
    pub(super) from_ms: i64,
    pub(super) through_ms: i64,
    pub(super) checksum: u32,
    pub(super) kind: SideKind,
}

/// A section that was read.
#[derive(Debug, Clone)]
pub(super) enum SidePart {
    Filters(Arc<SkipFilters>),
    Counts(Arc<ChunkCounts>),
}

impl SidePart {
    fn size_bytes(&self) -> u64 {
        // With its place in the table.
        let own = match self {
            Self::Filters(f) => f.size_bytes(),
            Self::Counts(c) => c.size_bytes(),
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
    use super::*;

    fn id(n: u64) -> SideId {
        SideId {
            tenant: 1,
            fingerprint: n,
            from_ms: 0,
            through_ms: 0,
            checksum: 0,
            kind: SideKind::Counts,
        }
    }

    #[test]
    fn what_is_asked_for_stays_and_the_bound_holds() {
        let counts = ChunkCounts {
            min_ns: 0,
            max_ns: 0,
            names: Vec::new(),
            levels: Vec::new(),
        };
        let part = SidePart::Counts(Arc::new(counts));
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
