//! The one question that any holder of metrics answers: which series match, and their samples in a time range.
//!
//! [`Select`] hands out series in label order, in bounded batches, with their chunks still encoded, and says at the end how whole that
//! was ([`SelectEnd`]). [`MergedSeries`] joins the answers of several holders; [`samples`] decodes the chunks of one series into one
//! run of samples, each time once. What goes in and out is plain data that can be encoded; what a query may fetch in all is counted
//! where the answers are joined ([`QueryBudget`]).

mod budget;
mod end;
mod merged;
mod request;
mod samples;
mod select;

pub use budget::QueryBudget;
pub use end::{FetchStats, SelectEnd};
pub use lgtm_core::model::{Listed, TruncatedList};
pub use merged::MergedSeries;
pub use request::{FetchBounds, QUERY_SHARD_LABEL, SelectHints, SelectRequest, SeriesShard};
pub use samples::{samples, started_samples};
pub use select::{ChunkList, LabelBatches, ReadyBatches, Select, SeriesBatches, SeriesChunks};
