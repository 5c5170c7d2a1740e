//! The trace store: spans in, blocks that a real Tempo reads in the object store, TraceQL over both.
//!
//! ```text
//! OTLP, Zipkin, Jaeger ──> wire (spans by trace, undecoded) ──> head (log, live traces, batches) ──> bucket (blocks: Parquet, bloom filters)
//!                                                                   └──────────── select ────────────┘
//!                                                                      (columns of spans) ──> traceql
//! ```
//!
//! So far these are parts to build with: a request decoded ([`wire::decode_otlp`]), kept and flushed ([`head::Heads`]), written as a block
//! ([`bucket::BlockUpload`]), found by its id ([`bucket::OpenBlock`]) and asked in TraceQL ([`traceql::Search`], [`traceql::Metrics`]) of any
//! [`select::Select`]. Components that a host starts, and doors, are not there yet. Holders decode whole traces; columns straight out of Parquet
//! ([`schema::ColumnDecoder`]) are not joined with the query engine yet.

pub mod block;
pub mod block_id;
pub mod bloom;
pub mod bucket;
pub mod head;
pub mod limits;
pub mod schema;
pub mod select;
pub mod trace;
pub mod traceql;
pub mod wire;
