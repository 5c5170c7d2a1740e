//! How outsiders' bytes become ours: Loki's push as protobuf and JSON, OTLP logs, what a program has of its own, and what
//! they decode into. Pure: bytes in, values out.
//!
//! Open [`PushBatch`] first; `decoding` is what all decoders share.

mod batch;
mod decoding;
mod level;
mod options;
mod otlp;
mod own_entries;
#[cfg(feature = "rpc")]
mod part_message;
mod push_json;
mod push_protobuf;
mod stream_labels;

#[cfg(test)]
mod tests;

pub use batch::{MalformedEntries, PooledBatch, PushBatch, PushEntry, SentMetadata, StreamView};
pub use level::{DETECTED_LEVEL, LevelRules};
pub use options::{LineCut, PushOptions};
pub use otlp::{
    AttributeAction, AttributePattern, AttributeRule, OtlpRules, REQUEST as OTLP_REQUEST,
    ResourceRules, decode_otlp,
};
pub use own_entries::{LogEntry, decode_entries};
#[cfg(feature = "rpc")]
pub use part_message::{decode_part, encode_part};
pub use push_json::{decode_json, decode_legacy_json};
pub use push_protobuf::decode_protobuf;
pub use stream_labels::{LabelPairs, SERVICE_NAME, StreamLabels};
