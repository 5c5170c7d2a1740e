//! Several ingesters as one (feature `ring`): a hash ring says who holds what, writes and reads are done by quorum.
//!
//! ```text
//! Distributor -> RingIngesters: tokens, do_batch -> IngesterPool -> IngesterClient, here or elsewhere
//! Querier ----> RingIngesters: read_quorum, merged, counts divided
//!        \----> RingStoreGateways: any one that answers -> StoreGatewayPool
//! ```
//!
//! [`RingIngesters`] is an [`IngesterClient`](super::clients::IngesterClient) itself, so that distributor and querier are the same with it as with the one
//! ingester of a process. Open `ring_ingesters.rs` first.

mod departed_ingesters;
mod inspect;
mod membership;
mod pool;
mod push_tally;
mod replaced_series;
mod ring_ingesters;
mod ring_store_gateways;
mod settings;
#[cfg(test)]
mod tests;

pub use departed_ingesters::DepartedIngesters;
pub use membership::{DividedLimits, HealthyDistributors, ReplayedIngester, owned_jobs};
pub use pool::{IngesterPool, LocalIngesters, StoreGatewayPool};
pub use ring_ingesters::{RingIngesters, RingIngestersBuilder};
pub use ring_store_gateways::RingStoreGateways;
pub use settings::ReplicationSettings;
