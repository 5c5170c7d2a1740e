//! Several ingesters as one (feature `ring`): a hash ring says who holds what, writes and reads are done by quorum.
//!
//! ```text
//! Distributor -> RingIngesters: tokens of streams, Replicas -> InstancePool -> IngesterClient, here or elsewhere
//! Querier ----> RingIngesters: Replicas, merged: each entry once, volumes by the densest replica, patterns by one replica a stream
//!        \----> RingIndexGateways: any one that answers
//! ```
//!
//! [`RingIngesters`] is an [`IngesterClient`](super::clients::IngesterClient) itself, so that distributor and querier are the same with it as with the one
//! ingester of a process; a querier of it is told that entries [may repeat](super::QuerierBuilder::replicated). Open `ring_ingesters.rs` first.

mod push_answer;
mod replaced_entries;
mod ring_index_gateways;
mod ring_ingesters;
mod ring_tail;
#[cfg(test)]
mod tests;

pub use lgtm_ring::replicas::{
    DepartedIngesters, DividedLimits, HealthyDistributors, ReplayedLog, ReplicationSettings,
    owned_jobs,
};
pub use ring_index_gateways::RingIndexGateways;
pub use ring_ingesters::{LocalIngesters, RingIngesters, RingIngestersBuilder};
