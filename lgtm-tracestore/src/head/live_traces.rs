//! The live traces of a head, by id.
//!
//! A table that is full moves all that it has, at the expense of whoever adds the next trace. So there are many small ones, which grow one after the
//! other.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::live_trace::LiveTrace;
use crate::trace::TraceId;

/// Tables: of a million traces each moves some ten thousand at a time, a fraction of a millisecond. Empty they take 2 KiB a tenant.
const PARTS: usize = 64;

/// Traces that spans still come in for.
#[derive(Debug)]
pub(super) struct LiveTraces {
    hasher: DefaultHashBuilder,
    parts: Vec<HashTable<(TraceId, LiveTrace)>>,
    len: usize,
}

impl Default for LiveTraces {
    fn default() -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            parts: (0..PARTS).map(|_| HashTable::new()).collect(),
            len: 0,
        }
    }
}

/// Which part: by bits that do not decide on the place within it.
fn part_of(hash: u64) -> usize {
    (hash >> 48) as usize % PARTS
}

impl LiveTraces {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn contains(&self, id: TraceId) -> bool {
        self.get(id).is_some()
    }

    pub(super) fn get(&self, id: TraceId) -> Option<&LiveTrace> {
        let hash = self.hasher.hash_one(id);
        let found = self.parts[part_of(hash)].find(hash, |(known, _)| *known == id);
        found.map(|(_, trace)| trace)
    }

    /// The trace, made if it is not there.
    pub(super) fn get_or_insert_with(
        &mut self,
        id: TraceId,
        make: impl FnOnce() -> LiveTrace,
    ) -> &mut LiveTrace {
        let (hasher, len) = (&self.hasher, &mut self.len);
        let hash = hasher.hash_one(id);
        let rehash = |(id, _): &(TraceId, LiveTrace)| hasher.hash_one(id);
        let entry = self.parts[part_of(hash)].entry(hash, |(known, _)| *known == id, rehash);
        let entry = entry.or_insert_with(|| {
            *len += 1;
            (id, make())
        });
        &mut entry.into_mut().1
    }

    pub(super) fn remove(&mut self, id: TraceId) -> Option<LiveTrace> {
        let hash = self.hasher.hash_one(id);
        let part = &mut self.parts[part_of(hash)];
        let entry = part.find_entry(hash, |(known, _)| *known == id).ok()?;
        let ((_, trace), _) = entry.remove();
        self.len -= 1;
        Some(trace)
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TraceId, &LiveTrace)> {
        let all = self.parts.iter().flat_map(HashTable::iter);
        all.map(|(id, trace)| (*id, trace))
    }
}

#[cfg(test)]
mod tests {
    use lgtm_core::model::TimestampMs;

    use super::*;

    fn id(n: u64) -> TraceId {
        TraceId::new(u128::from(n).to_be_bytes())
    }

    #[test]
    fn traces_are_found_until_they_are_removed_and_counted() {
        let mut live = LiveTraces::default();
        assert!(live.is_empty());
        for n in 0..1000 {
            let made = live.get_or_insert_with(id(n), || LiveTrace::new(TimestampMs::new(7)));
            assert_eq!(made.since_ms.get(), 7);
            let again = live.get_or_insert_with(id(n), || LiveTrace::new(TimestampMs::new(8)));
            assert_eq!(again.since_ms.get(), 7);
        }
        assert!(live.remove(id(5)).is_some() && live.remove(id(5)).is_none());
        assert_eq!((live.len(), live.iter().count()), (999, 999));
        assert!(live.contains(id(4)) && !live.contains(id(5)));
    }

    #[test]
    fn no_part_has_much_more_than_its_share_whatever_the_ids() {
        let mut live = LiveTraces::default();
        for n in 0..64_000 {
            live.get_or_insert_with(id(n << 8), || LiveTrace::new(TimestampMs::EPOCH));
        }
        let largest = live.parts.iter().map(HashTable::len).max().unwrap();
        assert!(largest < 1300, "{largest} of 1000 on average");
    }
}
