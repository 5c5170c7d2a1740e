//! What comes at the end of an answer: how whole it is, and what it cost.

use lgtm_core::model::TextSet;

use super::select::SeriesChunks;
use crate::block_id::BlockId;

/// Different warnings that one answer carries; the others are counted.
const MAX_WARNINGS: usize = 10;

/// What was fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FetchStats {
    /// Series.
    pub series: u64,
    /// Chunks.
    pub chunks: u64,
    /// Bytes of chunks.
    pub chunk_bytes: u64,
}

impl FetchStats {
    /// What a batch of series holds.
    pub fn of(batch: &[SeriesChunks]) -> Self {
        let mut stats = Self {
            series: batch.len() as u64,
            ..Self::default()
        };
        for series in batch {
            stats.chunks += series.chunks.len() as u64;
            stats.chunk_bytes += series
                .chunks
                .iter()
                .map(|c| c.data.len() as u64)
                .sum::<u64>();
        }
        stats
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            series: self.series + other.series,
            chunks: self.chunks + other.chunks,
            chunk_bytes: self.chunk_bytes + other.chunk_bytes,
        }
    }
}

/// How an answer ended: what is missing from it, what was brought, which blocks are in it. Plain data, which can be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SelectEnd {
    /// What the answer lacks and why, in words for the user: a block that cannot be read, a holder that did not answer. None: the
    /// answer is whole.
    pub warnings: Vec<String>,
    /// What the holder brought.
    pub stats: FetchStats,
    /// Blocks whose data are in the answer, whole.
    pub blocks: Vec<BlockId>,
}

impl SelectEnd {
    /// Adds what another holder says of its part.
    pub fn merge(&mut self, other: Self) {
        merge_warnings(&mut self.warnings, other.warnings);
        self.stats = self.stats.plus(other.stats);
        self.blocks.extend(other.blocks);
    }
}

/// Adds the warnings that are not there yet. Of more than [`MAX_WARNINGS`] the last one says so.
pub(crate) fn merge_warnings(into: &mut Vec<String>, more: Vec<String>) {
    const MORE: &str = "further warnings were left out";
    for warning in more {
        if into.contains(&warning) {
            continue;
        }
        if into.len() >= MAX_WARNINGS {
            if into.last().is_some_and(|last| last != MORE) {
                into.push(MORE.to_owned());
            }
            return;
        }
        into.push(warning);
    }
}

/// A list that says how whole it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listed<T> {
    /// The entries, in order.
    pub items: T,
    /// Whether the limit of the request left entries out.
    pub is_cut: bool,
    /// What is missing beside that, and why; none: nothing.
    pub warnings: Vec<String>,
}

impl<T> Listed<T> {
    /// All there is.
    pub fn whole(items: T) -> Self {
        Self {
            items,
            is_cut: false,
            warnings: Vec::new(),
        }
    }

    /// The first `limit` of a list in order (0: all of it).
    pub fn first(items: T, limit: usize) -> Self
    where
        T: TruncatedList,
    {
        Self::whole(items).cut(limit)
    }

    /// The same without the entries beyond the first `limit` (0: none).
    #[must_use]
    pub fn cut(mut self, limit: usize) -> Self
    where
        T: TruncatedList,
    {
        if limit > 0 && self.items.len() > limit {
            self.items.truncate(limit);
            self.is_cut = true;
        }
        self
    }

    /// Says that something is missing.
    pub fn warn(&mut self, warnings: Vec<String>) {
        merge_warnings(&mut self.warnings, warnings);
    }

    /// Adds what another holder says; `join` adds its entries.
    pub fn merge(&mut self, other: Self, join: impl FnOnce(&mut T, T)) {
        join(&mut self.items, other.items);
        self.is_cut |= other.is_cut;
        merge_warnings(&mut self.warnings, other.warnings);
    }

    /// The same with other entries.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Listed<U> {
        Listed {
            items: change(self.items),
            is_cut: self.is_cut,
            warnings: self.warnings,
        }
    }
}

/// A list in order that can be cut short.
pub trait TruncatedList {
    /// Number of entries.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Keeps the first `limit` entries.
    fn truncate(&mut self, limit: usize);
}

impl<T> TruncatedList for Vec<T> {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn truncate(&mut self, limit: usize) {
        Self::truncate(self, limit);
    }
}

impl TruncatedList for TextSet {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn truncate(&mut self, limit: usize) {
        Self::truncate(self, limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_told_once_and_not_without_end() {
        let mut end = SelectEnd::default();
        for n in 0..30 {
            end.merge(SelectEnd {
                warnings: vec![format!("block {}", n % 15)],
                ..SelectEnd::default()
            });
        }
        assert_eq!(end.warnings.len(), MAX_WARNINGS + 1);
        assert_eq!(end.warnings[0], "block 0");
        assert_eq!(end.warnings[MAX_WARNINGS], "further warnings were left out");
    }
}
