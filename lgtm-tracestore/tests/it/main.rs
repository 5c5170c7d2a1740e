//! The integration tests of this crate, as one program: linking is most of what a test program costs.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what serves tests only is a test, and says what it leaves out"
)]

mod blocks;
mod columns;
mod conformance;
#[cfg(feature = "http")]
mod door;
mod foreign_readers;
mod golden_blocks;
mod golden_bloom;
mod golden_bucket;
mod golden_skip_index;
mod golden_trace_files;
mod golden_traces;
mod holders;
mod http_api;
mod http_hostile;
mod http_pushes;
mod http_redaction;
mod http_streaming;
mod naive;
mod otlp_json;
mod random_traces;
mod reports;
#[cfg(feature = "ring")]
mod ring;
mod runtime_threads;
mod shared;
mod simulated_month;
mod trace_file_damage;
mod trace_file_round_trip;
mod trace_store;
mod traceql_conformance;
mod traceql_properties;
