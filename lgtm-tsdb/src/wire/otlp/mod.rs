//! OTLP metrics: `ExportMetricsServiceRequest` as protobuf or JSON, see `docs/format/otlp.md`.
//!
//! One walk over borrowed bytes serves both: JSON is first written as protobuf ([`json_to_protobuf`]), by the tables of `schema`.
//! Points become series of a [`WriteBatch`](super::WriteBatch), under the names that Prometheus gives them (`names`).

mod attributes;
mod json;
mod labels;
mod names;
mod native;
mod otlp;
mod points;
mod request;
mod schema;

pub use json::json_to_protobuf;
pub use names::TranslationStrategy;
pub use otlp::{OtlpOptions, decode_otlp};

#[cfg(test)]
mod tests;
