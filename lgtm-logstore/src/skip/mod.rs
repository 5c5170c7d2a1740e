//! Side files of our own: where a text surely is not, and what was counted already (`docs/format/side_object.md`).
//!
//! Beside each chunk stand [`SkipFilters`] by groups of blocks and [`ChunkCounts`] by minute and level; those of many chunks are one object, whose
//! [`SideDirectory`] names the chunks that they were made from. [`SkipDraft`] is made as the blocks of a chunk are cut, [`SkipBuilder`] makes them of finished chunks, small ones share theirs
//! in an [`OpenBatch`], [`SideObjectEncoder`] puts them together,
//! and a [`SkipQuestion`] says what a query looks for. They never change an answer: a reader does without what is missing or damaged.
//!
//! Open [`parts`](parts.rs) first: which parts of a text are indexed, and why a question for a substring may rely on it. Then `scan` (how they are found), `lgtm_core::codec::ribbon` (the set of
//! hashes), `group`, `filters`; `counts`; `batch`; `side_object`, `side_directory`.

mod batch;
mod chunk_skip;
mod counts;
mod counts_batch;
mod draft;
mod filters;
mod group;
mod key_set;
mod parts;
mod scan;
mod settings;
mod side_directory;
mod side_object;

#[cfg(test)]
mod tests;

pub use batch::{BatchRow, ChunkBatch, MadeSkip, OpenBatch, SmallSkip};
pub use chunk_skip::{ChunkSkip, SkipBuilder};
pub use counts::{ChunkCounts, LevelCounts, MINUTE_NS, MinuteCount, minute_of};
pub use counts_batch::{BatchCounts, SmallCounts};
pub use draft::{SkipDraft, SkipDrafting};
pub use filters::{BlockChoice, SkipFilters, SkipQuestion};
pub use parts::LineNeedle;
pub use settings::SkipSettings;
pub use side_directory::{SideBatch, SideChunk, SideDirectory};
pub use side_object::{SideObjectEncoder, SidePlace, SideTail, chunk_hash, tenant_hash};
