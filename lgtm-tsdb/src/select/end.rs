//! What comes at the end of an answer: how whole it is, and what it cost.

use lgtm_core::model::merge_warnings;

use super::select::SeriesChunks;
use crate::block_id::BlockId;

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
