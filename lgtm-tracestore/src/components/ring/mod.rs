//! Several ingesters as one (feature `ring`): a hash ring says who holds what, writes and reads are done by quorum.
//!
//! ```text
//! Distributor -> RingIngesters: tokens of traces, Replicas -> InstancePool -> IngesterClient, here or elsewhere
//! Querier ----> RingIngesters: Replicas -> ReplicatedTraces: what replicas have of each trace, joined by id, each span once
//! ```
//!
//! [`RingIngesters`] is an [`IngesterClient`](super::clients::IngesterClient) itself, so that distributor and querier are the same with it as with the one
//! ingester of a process. Open `ring_ingesters.rs` first.

mod push_answer;
mod replicated_traces;
mod ring_ingesters;
#[cfg(test)]
mod tests;

pub use lgtm_ring::replicas::{
    DepartedIngesters, HealthyDistributors, ReplayedLog, ReplicationSettings, owned_jobs,
};
#[cfg(feature = "rpc")]
pub(crate) use replicated_traces::ReplicatedTraces;
pub use ring_ingesters::{LocalIngesters, RingIngesters, RingIngestersBuilder};
