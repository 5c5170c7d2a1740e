//! The integration tests of this crate, as one program: linking is most of what a test program costs.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what serves tests only is a test, and says what it leaves out"
)]

mod block_writer;
mod compaction;
mod compactor;
mod embed;
mod golden_blocks;
mod golden_chunks;
mod hostile_bytes;
mod http_faults;
mod http_pushes;
mod index_reader;
mod memory;
mod narrowing;
mod object_economy;
mod own_formats;
mod partial_labels;
mod promql_engine;
mod promql_frontend;
mod promql_grammar;
mod promql_parse;
mod promql_scripts;
mod runtime_threads;
mod scripts;
mod series_shards;
mod shared;
mod simulated_month;
mod stored;
