//! How outsiders' bytes become ours: remote write, OTLP, OpenMetrics, and what they decode into. Pure: bytes in, values out. A decoded request is a
//! [`WriteBatch`]; it goes to each ingester as a [`PushPart`].

mod batch;
mod decode_rules;
mod label_bounds;
mod metadata;
mod open_metrics;
mod otlp;
mod part_message;
mod push_part;
mod raw_labels;
mod remote_read;
mod remote_write;
mod remote_write2;

pub(crate) use batch::MAX_EXEMPLAR_CHARS;
pub use batch::{
    HistogramSample, HistogramValue, MalformedSeries, MetadataEntry, PooledBatch, SeriesView,
    WriteBatch,
};
pub use decode_rules::DecodeRules;
pub(crate) use label_bounds::shortened;
pub use label_bounds::{LabelBounds, LabelFault};
pub use open_metrics::{OPEN_METRICS_END, OpenMetricsLine, push_open_metrics};
pub use otlp::{OtlpOptions, REQUEST as OTLP_REQUEST, TranslationStrategy, decode_otlp};
pub use part_message::{decode_part, encode_part};
pub use push_part::{PartView, PushPart};
pub use raw_labels::{RawLabels, RawLabelsBuilder};
pub use remote_read::{
    ReadBounds, ReadQuery, ReadRequest, SamplesResult, decode_read_request, put_chunk_frame,
};
pub use remote_write::decode_v1;
pub use remote_write2::decode_v2;
