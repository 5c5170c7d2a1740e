//! Index files joined: many of several tenants become one a tenant and day.
//!
//! [`plan()`] tells which files of a table are to be joined, [`merge`] joins those of one tenant series by series, a [`CompactionMark`] remembers
//! which files are superseded until readers have forgotten them.

mod mark;
mod merge;
mod plan;

pub use mark::CompactionMark;
pub use merge::{MergeSettings, MergeSource, MergedIndex, merge};
pub use plan::{CompactRules, TableAge, TableFile, TablePlan, plan};
