//! Blocks joined: which ([`plan`], pure), and how, in memory that does not grow with them ([`BlockMerge`]).

mod block_input;
mod block_merge;
mod chunk_merge;
mod plan;
mod series_merge;
mod shards;
mod symbol_merge;

pub use block_merge::{BlockMerge, MergeError, MergeReport, MergeSettings, MergeTask};
pub use plan::{CompactionJob, CompactionRules, CompactionStage, plan, redundant};
