//! How outsiders' bytes become ours: OTLP, Zipkin and Jaeger. Pure: bytes in, values out.
//!
//! ```text
//! OTLP protobuf ───────────────────┐
//! OTLP JSON ── json_to_protobuf ───┤
//! Zipkin JSON, protobuf ───────────┼──> regroup ──> PushBatch: spans by trace, each the bytes that it came as
//! Jaeger Thrift ── otlp_writer ────┘    (shape: are these such messages, which texts are too long)
//! ```
//!
//! Open [`PushBatch`] first. No span is decoded before it is cut from a head.

mod batch;
mod jaeger;
mod options;
mod otlp;
mod otlp_writer;
mod regroup;
mod shape;
mod span_rule;
#[cfg(test)]
mod tests;
mod zipkin;

pub use batch::{PooledBatch, PushBatch, SpanBytes, TraceView};
pub use jaeger::decode_jaeger_thrift;
pub use options::PushOptions;
pub use otlp::{REQUEST as OTLP_REQUEST, decode_otlp, otlp_to_protobuf};
pub use span_rule::{RefusedSpans, SpanRule};
pub use zipkin::{ZipkinVersion, decode_zipkin_json, decode_zipkin_protobuf};
