//! The integration tests of this crate, as one program: linking is most of what a test program costs.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what serves tests only is a test, and says what it leaves out"
)]

#[cfg(all(feature = "testing", feature = "consul"))]
mod consul_server;
mod golden_batch;
mod golden_lookup;
mod golden_merge;
mod golden_tokens;
mod kv_consul;
mod kv_etcd;
mod kv_gossip;
mod kv_memory;
mod kv_wrappers;
mod ring_gossip;
mod ring_simulation;
mod shared;
mod sim_gossip;
mod sim_ring;
