//! What all three stores speak of: tenants, times, labels, matchers, samples, histograms.

mod exemplar;
mod federation;
mod histogram;
mod histogram_check;
mod labels;
mod listed;
mod matcher;
mod metadata;
mod sample;
mod tenant;
mod text_set;
mod time;

pub use crate::timestamp::{Timestamp, TimestampMs, TimestampNs};
pub use exemplar::Exemplar;
pub use federation::{
    TENANT_LABEL, federated_name, labels_with_tenant, tenants_asked, tenants_name,
};
pub use histogram::{
    BucketSpan, CounterResetHint, FloatHistogram, Histogram, MAX_HISTOGRAM_BUCKETS,
    MAX_HISTOGRAM_SPANS,
};
pub use histogram_check::HistogramFault;
pub use labels::{LabelArena, LabelBuilder, Labels, METRIC_NAME, stable_hash};
pub use listed::{Listed, TruncatedList, merge_warnings};
pub use matcher::{MatchOp, Matcher};
pub use metadata::{Metadata, MetricType};
pub use sample::{STALE_NAN_BITS, Sample, is_stale_nan, stale_nan};
pub use tenant::TenantId;
pub use text_set::{TextSet, TextSetBuilder};
pub use time::{TimeRange, TimeRangeNs};
