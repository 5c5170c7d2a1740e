//! What comes at the end of an answer: how whole it is, and what it cost.

use lgtm_core::model::merge_warnings;

/// What a holder read. The names are those of Tempo's answers where it has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FetchStats {
    /// Traces that were looked at.
    pub inspected_traces: u64,
    /// Spans that were looked at.
    pub inspected_spans: u64,
    /// Bytes that were looked at.
    pub inspected_bytes: u64,
    /// Blocks of the range.
    pub total_blocks: u64,
    /// Bytes of these.
    pub total_block_bytes: u64,
    /// Requests to the object store.
    pub backend_reads: u64,
    /// Bytes of their answers.
    pub backend_bytes: u64,
}

impl FetchStats {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            inspected_traces: self.inspected_traces + other.inspected_traces,
            inspected_spans: self.inspected_spans + other.inspected_spans,
            inspected_bytes: self.inspected_bytes + other.inspected_bytes,
            total_blocks: self.total_blocks + other.total_blocks,
            total_block_bytes: self.total_block_bytes + other.total_block_bytes,
            backend_reads: self.backend_reads + other.backend_reads,
            backend_bytes: self.backend_bytes + other.backend_bytes,
        }
    }
}

/// How an answer ended: what is missing from it and what was read. Plain data, which can be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SelectEnd {
    /// What the answer lacks and why, in words for the user: a block that cannot be read, a holder that did not answer. None: the
    /// answer is whole.
    pub warnings: Vec<String>,
    /// What the holder read.
    pub stats: FetchStats,
}

impl SelectEnd {
    /// Adds what another holder says of its part.
    pub fn merge(&mut self, other: Self) {
        merge_warnings(&mut self.warnings, other.warnings);
        self.stats = self.stats.plus(other.stats);
    }
}
