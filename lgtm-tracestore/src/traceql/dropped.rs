//! Traces that newer ones pushed out of a search.

use std::collections::{BTreeSet, HashSet};

use crate::trace::TraceId;

/// How many are remembered.
const MAX_DROPPED: usize = 16 << 10;
/// What it takes to remember one, about.
const DROPPED_BYTES: usize = 100;

/// Traces that newer ones pushed out of the answer: a part of one that comes later does not bring it back.
///
/// Of more than sixteen thousand the oldest are forgotten. A part of such a trace brings it back only if that part is newer than all else that was
/// pushed out, so only where parts of a trace come one by one and lie far from each other; holders that are asked for whole traces have no such.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    ids: HashSet<TraceId>,
    by_start: BTreeSet<(u64, TraceId)>,
}

impl Dropped {
    pub(super) fn contains(&self, id: TraceId) -> bool {
        self.ids.contains(&id)
    }

    pub(super) fn insert(&mut self, id: TraceId, start_ns: u64) {
        if !self.ids.insert(id) {
            return;
        }
        self.by_start.insert((start_ns, id));
        if self.ids.len() > MAX_DROPPED
            && let Some((_, oldest)) = self.by_start.pop_first()
        {
            self.ids.remove(&oldest);
        }
    }

    /// Bytes that it holds, about.
    pub(super) fn size_bytes(&self) -> usize {
        self.ids.len() * DROPPED_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> TraceId {
        TraceId::new(u128::from(n).to_be_bytes())
    }

    #[test]
    fn the_newest_are_remembered_and_no_more_than_fit() {
        let mut dropped = Dropped::default();
        let count = MAX_DROPPED as u64 + 100;
        for n in 0..count {
            dropped.insert(id(n), n);
            dropped.insert(id(n), n);
        }
        assert_eq!(dropped.size_bytes(), MAX_DROPPED * DROPPED_BYTES);
        assert_eq!(dropped.by_start.len(), MAX_DROPPED);
        assert!(!dropped.contains(id(99)) && dropped.contains(id(100)));
        assert!(dropped.contains(id(count - 1)));
    }
}
