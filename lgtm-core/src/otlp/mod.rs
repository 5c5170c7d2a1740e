//! What the OTLP requests of all three signals share: values of attributes, resources and scopes, and JSON. Pure.
//!
//! ```text
//! request { repeated Resource = 1 }   Resource { resource = 1, repeated Scoped = 2 }   Scoped { scope = 1, repeated items = 2, schema_url = 3 }
//! ```
//!
//! One walk over borrowed bytes serves both spellings: JSON is first written as protobuf ([`json_to_protobuf`]), by tables of messages, of which
//! each signal brings its own and the shared ones stand in [`schema`]. The items (metrics, log records, spans) are the signal's.

mod answer;
mod frame;
mod json;
pub mod schema;
mod value;

pub use answer::{OtlpSpelling, PartialSuccess, RpcStatus};
pub use frame::{Resource, Scoped, submessages};
pub use json::json_to_protobuf;
pub use value::{Attribute, Value};
