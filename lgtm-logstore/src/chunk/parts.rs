//! The bytes of a chunk that somebody has: all of it, or some ranges.

use std::ops::Range;

use bytes::Bytes;
use lgtm_core::DecodeError;
use smallvec::{SmallVec, smallvec};

/// Ranges of a chunk's bytes.
#[derive(Debug, Clone)]
pub(super) struct ChunkParts {
    /// Bytes of the whole chunk.
    len: u64,
    /// Each with its place, ascending. A part may overlap the next one.
    parts: SmallVec<[(u64, Bytes); 1]>,
}

impl ChunkParts {
    /// All of a chunk.
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self {
            len: bytes.len() as u64,
            parts: smallvec![(0, bytes)],
        }
    }

    /// Nothing yet of a chunk of `len` bytes.
    pub(super) fn of(len: u64) -> Self {
        Self {
            len,
            parts: SmallVec::new(),
        }
    }

    /// Adds what stands at `start`.
    pub(super) fn add(&mut self, start: u64, bytes: Bytes) {
        let at = self.parts.partition_point(|(s, _)| *s <= start);
        self.parts.insert(at, (start, bytes));
    }

    /// Bytes of the whole chunk, there or not.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes that are there.
    pub(super) fn size_bytes(&self) -> usize {
        self.parts.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// The bytes of a range, if one part has all of them.
    pub(super) fn get(&self, range: Range<u64>) -> Option<&[u8]> {
        let before = self.parts.partition_point(|(s, _)| *s <= range.start);
        let mut before = self.parts[..before].iter().rev();
        before.find_map(|(start, bytes)| {
            let from = usize::try_from(range.start - start).ok()?;
            let to = usize::try_from(range.end.checked_sub(*start)?).ok()?;
            bytes.get(from..to)
        })
    }

    /// The bytes of a range.
    ///
    /// # Errors
    /// They leave the chunk, or nobody has read them.
    pub(super) fn bytes(
        &self,
        what: &'static str,
        range: Range<u64>,
    ) -> Result<&[u8], DecodeError> {
        self.get(range.clone()).ok_or_else(|| {
            let len = range.end.saturating_sub(range.start);
            let reason = format!("{len} bytes of a chunk of {} are not there", self.len);
            DecodeError::new(what, range.start, reason)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_found_where_one_part_has_it() {
        let all: Bytes = (0..100u8).collect::<Vec<_>>().into();
        let mut parts = ChunkParts::of(100);
        for range in [40..60, 0..10, 50..80, 90..100] {
            parts.add(range.start as u64, all.slice(range));
        }
        for (range, is_there) in [
            (0..10, true),
            (3..7, true),
            (5..11, false),
            (40..60, true),
            (55..60, true),
            (55..80, true),
            (45..61, false),
            (90..100, true),
            (99..101, false),
            (20..20, false),
        ] {
            let found = parts.get(range.clone());
            assert_eq!(found.is_some(), is_there, "{range:?}");
            if let Some(found) = found {
                assert_eq!(found, &all[range.start as usize..range.end as usize]);
            }
        }
        assert_eq!((parts.len(), parts.size_bytes()), (100, 70));
        assert_eq!(ChunkParts::whole(all.clone()).get(0..100), Some(&all[..]));
    }
}
