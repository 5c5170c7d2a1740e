//! Which blocks of a chunk a query wants.

use std::sync::Arc;

use lgtm_core::model::TimeRangeNs;

use crate::chunk::{BlockPlace, Chunk};
use crate::entry::SymbolList;
use crate::skip::BlockChoice;

/// What a query wants of a chunk, as far as table, symbols and side files can tell.
#[derive(Debug, Clone)]
pub(super) struct ChunkWish {
    /// The times of the query.
    pub(super) range: TimeRangeNs,
    /// Times whose entries are read, apart; `None`: all of the range.
    pub(super) times: Option<Arc<[TimeRangeNs]>>,
    /// Blocks that may have something of interest; `None`: all.
    pub(super) choice: Option<BlockChoice>,
    /// Values of structured metadata that every entry of interest has.
    pub(super) needles: Vec<String>,
}

impl ChunkWish {
    /// The blocks that may have entries of interest.
    pub(super) fn blocks(&self, chunk: &Chunk, symbols: &SymbolList) -> Vec<BlockPlace> {
        // A symbol beyond the list reads as the empty text, and names may be stored in another form than they are read.
        let is_lacking = |value: &String| !value.is_empty() && symbols.find(value).is_none();
        if self.needles.iter().any(is_lacking) {
            return Vec::new();
        }
        let is_inside = |b: &BlockPlace| match &self.times {
            None => b.overlaps(self.range.min_ns, self.range.max_ns),
            Some(times) => times.iter().any(|t| b.overlaps(t.min_ns, t.max_ns)),
        };
        let blocks = chunk.blocks();
        let choice = self.choice.as_ref();
        let choice = choice.filter(|c| c.block_count() == blocks.len());
        let wanted = blocks
            .iter()
            .enumerate()
            .filter(|(n, b)| b.entry_count > 0 && is_inside(b) && choice.is_none_or(|c| c.has(*n)));
        wanted.map(|(_, b)| *b).collect()
    }

    /// Whether it may well be a small part of the chunk, or nothing.
    pub(super) fn is_of_few(&self) -> bool {
        match &self.choice {
            Some(choice) => 4 * choice.len() <= choice.block_count(),
            // A value that an entry has, as the id of a trace, is in few chunks, and their symbols tell.
            None => self.needles.iter().any(|value| !value.is_empty()),
        }
    }
}
