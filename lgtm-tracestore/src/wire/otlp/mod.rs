//! OTLP traces, protobuf or JSON. See `docs/format/push.md`.

mod decode;
mod schema;

pub use decode::{decode_otlp, otlp_to_protobuf};
pub use schema::REQUEST;
