//! The integration tests of this crate, as one program: linking is most of what a test program costs.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what serves tests only is a test, and says what it leaves out"
)]

mod api_surface;
mod caches;
mod cardinality;
mod cluster;
mod cluster_flush;
mod cluster_logs;
mod cluster_traces;
mod crash;
mod crash_logs;
mod crash_traces;
mod damage;
mod deploy;
mod disk_full;
mod door;
mod host;
mod http_api;
mod logql_conformance;
mod logs;
mod logs_clients;
mod otlp;
mod promql_conformance;
mod query_limits;
mod readme;
mod real_prometheus;
mod real_readers;
mod runtime_config;
mod s3;
mod start_timestamps;
mod targets;
mod traces;
