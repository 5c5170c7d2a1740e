//! Zipkin v2, JSON or protobuf, and v1 as JSON. See `docs/format/push.md`.

mod json;
mod json_v1;
mod protobuf;
mod span;

pub use json::{ZipkinVersion, decode_zipkin_json};
pub use protobuf::decode_zipkin_protobuf;
