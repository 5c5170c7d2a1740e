//! How outsiders' bytes become ours: remote write, and what they decode into. Pure: bytes in, values out.

mod batch;
mod protobuf;
mod raw_labels;
mod remote_write;
mod snappy;

pub use batch::{
    HistogramSample, HistogramValue, MalformedSeries, MetadataEntry, SeriesView, WriteBatch,
};
pub use raw_labels::{RawLabels, RawLabelsBuilder};
pub use remote_write::decode_v1;
pub use snappy::decompress;
