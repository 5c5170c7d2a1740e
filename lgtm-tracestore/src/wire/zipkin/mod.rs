//! Zipkin v2, JSON or protobuf. See `docs/format/push.md`.

mod json;
mod protobuf;
mod span;

pub use json::decode_zipkin_json;
pub use protobuf::decode_zipkin_protobuf;
