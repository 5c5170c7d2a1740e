//! Running plans: entries of a log query in the order of time, samples of a metric query into windows, and what stands around those.
//!
//! ```text
//! select -> batches of blocks -> pipeline (compute pool, several at a time) -> entry_list | range (groups, segments) -> vectors
//! ```

mod aggregate;
mod binary;
mod context;
mod entry_list;
mod evaluator;
mod label_replace;
mod legs;
mod log_query;
mod range;
mod rate_counter;
mod sample_groups;
mod segments;
mod series_fold;
mod vector;

pub(super) use context::QueryContext;
pub(super) use evaluator::{Evaluated, evaluate};
pub(super) use legs::LegAnswers;
pub(super) use log_query::{LogBounds, run_log_query};
pub(super) use vector::sort_series;
