//! Index files joined: many of several tenants become one a tenant and day.
//!
//! [`plan()`] tells which files of a table are to be joined, [`merge`] joins those of one tenant series by series, a [`CompactionMark`] remembers
//! which files are superseded until readers have forgotten them, [`LeavingChunks`] which chunks are no longer named by any of them. [`merge_side_objects`] does the same for side objects.

mod delete_request;
mod leaving_chunks;
mod mark;
mod merge;
mod plan;
mod side_merge;
mod small_chunks;

pub use delete_request::{DeleteObject, DeleteRequest, DeleteState};
pub use leaving_chunks::LeavingChunks;
pub(crate) use leaving_chunks::chunk_key;
pub use mark::CompactionMark;
pub use merge::{ChunkEdits, MergeSettings, MergeSource, MergedIndex, merge};
pub use plan::{CompactRules, TableAge, TableFile, TablePlan, plan};
pub use side_merge::{MergedSide, merge_side_objects};
pub use small_chunks::{MergeRules, small_groups};
