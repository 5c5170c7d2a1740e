//! The doors (feature `http`): translate requests and answers, call one method each. [`PushApi`] knows a distributor, [`QueryApi`] somebody who
//! answers queries, [`RedactionApi`] a compactor; none knows any other component.
//!
//! ```text
//! OTLP (HTTP, gRPC), Zipkin, Jaeger ─> PushApi ──> Distributor
//! trace by id, search, tags, values, metrics ─> QueryApi ─> dyn Queries     the same as streams of tempopb.StreamingQuerier
//! redactions (gRPC) ─> RedactionApi ─> Compactor
//! ```
//!
//! Paths, shapes, codes: `docs/format/http.md`, after Tempo's API documentation and recorded answers.

mod body;
mod embed;
mod error;
mod foreign;
mod form;
mod heard;
mod json;
mod legacy;
mod metrics;
mod metrics_answer;
mod otlp;
mod own_requests;
mod packets;
mod params;
mod protobuf;
mod push_api;
mod query_api;
mod redaction;
mod search;
mod search_answer;
mod settings;
mod status;
mod streaming;
mod streaming_requests;
mod tag_names;
mod tag_path;
mod tag_values;
mod trace;
mod trace_answer;

pub use own_requests::with_own_spans;
pub use push_api::{PushApi, PushApiBuilder};
pub use query_api::{QueryApi, QueryApiBuilder};
pub use redaction::RedactionApi;
pub use settings::{ApiSettings, QueryRules};
