//! OTLP metrics: `ExportMetricsServiceRequest` as protobuf or JSON, see `docs/format/otlp.md`.
//!
//! One walk over borrowed bytes serves both: JSON is first written as protobuf ([`json_to_protobuf`](lgtm_core::otlp::json_to_protobuf)), by the tables of `schema`.
//! Points become series of a [`WriteBatch`](super::WriteBatch), under the names that Prometheus gives them (`names`).

mod labels;
mod names;
mod native;
mod otlp;
mod points;
mod request;
mod schema;

pub use names::TranslationStrategy;
pub use otlp::{OtlpOptions, decode_otlp};
pub use schema::REQUEST;

#[cfg(test)]
mod tests;
