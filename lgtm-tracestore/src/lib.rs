//! The trace store: spans in, blocks that a real Tempo reads in the object store, TraceQL over both.
//!
//! ```text
//! OTLP, Zipkin, Jaeger ──> wire (spans by trace, undecoded) ──> head (log, live traces, batches) ──> bucket (blocks: Parquet, bloom filters)
//!                                                                   └──────────── select ────────────┘
//!                                                                      (columns of spans) ──> traceql
//! ```
//!
//! [`components::TraceStore`] is all of it in one value: a folder and an object store, kept in order by itself.
//!
//! The parts can be had one by one too: a request decoded ([`wire::decode_otlp`]), kept and flushed ([`head::Heads`]), written as a block
//! ([`bucket::BlockUpload`]), found by its id ([`bucket::OpenBlock`]) and asked in TraceQL ([`traceql::Search`], [`traceql::Metrics`]) of any
//! [`select::Select`]. What components a host starts, and how they reach each other, stands in [`components`].

pub mod block;
pub mod block_id;
pub mod bloom;
pub mod bucket;
pub mod compact;
pub mod components;
pub mod head;
#[cfg(feature = "http")]
pub mod http;
pub mod limits;
pub mod prelude;
#[cfg(feature = "rpc")]
pub mod rpc;
pub mod scan;
pub mod schema;
pub mod select;
pub mod skip;
pub mod trace;
pub mod traceql;
pub mod verify;
pub mod wire;

pub use components::TraceStore;
pub use lgtm_core;
