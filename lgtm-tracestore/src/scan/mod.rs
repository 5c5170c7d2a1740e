//! Batches of spans straight from the columns of a row group: what a filter needs is decoded first, everything else only of the traces that pass. Pure.
//!
//! [`GroupScan`] is a machine that says what it wants to read next. A filter is computed by columns: the texts of a dictionary are tested once each, and
//! values look up their number. What a row group has for a field may lie in several places (a column of its own, the list of attributes):
//! `field_plan` says where, `values` joins them.

mod batch;
mod batch_filter;
mod column_cache;
mod condition;
mod decoded;
mod field_plan;
mod filter;
mod gather;
mod prune;
mod scan;
mod scan_block;
mod selection;
mod values;
mod whole_traces;

pub use batch_filter::BatchFilter;
pub use column_cache::{BlockColumns, ColumnCache};
pub use prune::may_pass;
pub use scan::{GroupScan, ScanStep};
pub use scan_block::ScanBlock;
