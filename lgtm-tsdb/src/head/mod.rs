//! What is not in object storage yet: the log, memory, replay, and cutting blocks.
//!
//! Open [`head`](head/head.rs) first, then `append`, `heads`, `checkpoint`, `replay`, `flush`, `read`.

mod accept;
mod append;
mod batches;
mod cardinality;
mod checkpoint;
mod columns;
mod damage;
mod exemplars;
mod flush;
mod head;
mod head_chunk;
mod heads;
mod label_order;
mod matching;
mod metadata;
mod pieces;
mod push;
mod read;
mod record;
mod replay;
mod retained;
mod series;
mod shard;
mod stats;

pub use append::{AppendReport, ReasonId, Rejection, Rejections};
pub(crate) use cardinality::ActiveSeries;
pub use cardinality::{
    ActiveSeriesRequest, CardinalityRequest, CountMethod, HistogramCardinality, LabelCardinality,
    LabelNamesCardinality, LabelValuesCardinality,
};
pub(crate) use exemplars::EXEMPLAR_LABELS_TOO_LONG;
pub use exemplars::{ExemplarBounds, ExemplarsRequest, SeriesExemplars};
pub use flush::FlushScope;
pub(crate) use flush::FlushTo;
pub(crate) use heads::Heads;
pub use heads::{HeadSettings, TenantSeries};
pub use lgtm_core::limits::GlobalLimits;
pub(crate) use read::HeadSelect;
pub use replay::HeadReplayReport;
pub use stats::{HeadStats, TenantStats};

#[cfg(test)]
mod tests;
