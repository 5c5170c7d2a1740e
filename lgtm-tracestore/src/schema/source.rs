//! Bytes of a file that somebody fetched. Who reads a block says which ranges it needs; how they come is not its business.

use std::ops::Range;

use bytes::Bytes;
use lgtm_core::error::DecodeError;

/// Hands out bytes of a file that are there already.
pub trait ByteSource {
    /// The bytes of a range; `None` when they were not fetched.
    fn bytes(&self, range: &Range<u64>) -> Option<&[u8]>;
}

/// A whole file in memory.
impl ByteSource for [u8] {
    fn bytes(&self, range: &Range<u64>) -> Option<&[u8]> {
        let start = usize::try_from(range.start).ok()?;
        self.get(start..usize::try_from(range.end).ok()?)
    }
}

/// Ranges of a file, in any order.
#[derive(Debug, Clone, Default)]
pub struct FetchedRanges {
    /// By offset.
    pieces: Vec<(u64, Bytes)>,
}

impl FetchedRanges {
    /// Adds what lies at an offset.
    pub fn insert(&mut self, offset: u64, bytes: Bytes) {
        let at = self.pieces.partition_point(|(o, _)| *o <= offset);
        self.pieces.insert(at, (offset, bytes));
    }
}

impl ByteSource for FetchedRanges {
    fn bytes(&self, range: &Range<u64>) -> Option<&[u8]> {
        let end = self
            .pieces
            .partition_point(|(offset, _)| *offset <= range.start);
        // Pieces may overlap: a longer one may lie further before.
        self.pieces[..end].iter().rev().find_map(|(offset, bytes)| {
            let from = usize::try_from(range.start - offset).ok()?;
            let to = usize::try_from(range.end.checked_sub(*offset)?).ok()?;
            bytes.get(from..to)
        })
    }
}

/// Bytes that must be there.
pub(crate) fn fetched<'s>(
    source: &'s (impl ByteSource + ?Sized),
    range: &Range<u64>,
) -> Result<&'s [u8], DecodeError> {
    source.bytes(range).ok_or_else(|| {
        let (start, end) = (range.start, range.end);
        DecodeError::new(
            "parquet file",
            start,
            format!("bytes up to {end} were not fetched"),
        )
    })
}

/// Ranges in order, such that lie closer together than `gap` made one: a read costs more than some bytes too many.
pub fn coalesce(mut ranges: Vec<Range<u64>>, gap: u64) -> Vec<Range<u64>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_by_key(|range| range.start);
    let mut out: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(gap) => {
                last.end = last.end.max(range.end);
            }
            _ => out.push(range),
        }
    }
    out
}
