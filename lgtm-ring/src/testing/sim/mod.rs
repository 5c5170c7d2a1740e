//! Whole gossip clusters in one thread, under one seed.
//!
//! [`SimCluster`] drives the very [`GossipState`](crate::kv::gossip::GossipState) that runs behind sockets, over a network that loses,
//! delays, reorders and repeats messages and falls apart; nodes crash, restart, leave, and have clocks that are off. [`chaos`] is a
//! scenario of all that, with what must hold at its end. Equal seeds give equal runs.

mod chaos;
mod cluster;
mod network;

pub use chaos::{Chaos, ChaosReport, chaos};
pub use cluster::{NodeId, SimCluster, SimSettings};
pub use network::Network;
