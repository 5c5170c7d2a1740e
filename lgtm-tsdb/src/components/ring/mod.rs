//! Several ingesters as one (feature `ring`): a hash ring says who holds what, writes and reads are done by quorum.
//!
//! ```text
//! Distributor -> RingIngesters: tokens, Replicas -> InstancePool -> IngesterClient, here or elsewhere
//! Querier ----> RingIngesters: Replicas, merged, counts divided
//!        \----> RingStoreGateways: any one that answers
//! ```
//!
//! [`RingIngesters`] is an [`IngesterClient`](super::clients::IngesterClient) itself, so that distributor and querier are the same with it as with the one
//! ingester of a process. Open `ring_ingesters.rs` first.

mod inspect;
mod push_answer;
mod replaced_series;
mod ring_ingesters;
mod ring_store_gateways;
#[cfg(test)]
mod tests;

pub use lgtm_ring::replicas::{
    DepartedIngesters, DividedLimits, HealthyDistributors, ReplayedLog, ReplicationSettings,
    owned_jobs,
};
pub use ring_ingesters::{LocalIngesters, RingIngesters, RingIngestersBuilder};
pub use ring_store_gateways::RingStoreGateways;
