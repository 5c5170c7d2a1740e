//! What a component does with its own place in a ring.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::clock::Clock;
use lgtm_core::service::Service;
use lgtm_ring::hash::compaction_job_token;
use lgtm_ring::instance::InstanceState::{Active, Joining, Leaving, Left, Pending};
use lgtm_ring::ring::Operation;
use lgtm_ring::watch::RingHandle;

use crate::components::{Ingester, OwnsJob, RateShare};
use crate::head::GlobalLimits;

/// Work goes to whoever is ACTIVE; another one stands in for those who come and go.
const WORKS: Operation = Operation::new(&[Active], &[Leaving, Pending, Joining, Left]);

/// How often it is seen whether a log is back.
const PAUSE: Duration = Duration::from_millis(50);

/// Starts when an ingester has read its log back: a lifecycler that starts after it tells nobody earlier that the ingester takes writes.
#[derive(Debug)]
pub struct ReplayedIngester(pub Arc<Ingester>);

impl ReplayedIngester {
    /// The name of the service.
    pub const NAME: &'static str = "metrics-ingester-replayed";
}

#[async_trait]
impl Service for ReplayedIngester {
    fn name(&self) -> &str {
        Self::NAME
    }

    async fn start(&self) -> Result<()> {
        while self.0.replay_report().is_none() {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}

/// Divides limits among the ingesters of a ring: with `n` of them that take a tenant's series, each of which is with `r`, one may take `r / n` of what the
/// tenant may have. Near, as tokens lie by chance; exact where every ingester takes every series.
#[derive(Debug)]
pub struct DividedLimits(pub RingHandle);

impl GlobalLimits for DividedLimits {
    fn local(&self, limit: u64, shard_size: u64) -> u64 {
        let ring = self.0.current();
        let all = ring.writable_instances_with_tokens().max(1) as u64;
        let replicas = ring.settings().replication_factor as u64;
        let takers = match shard_size {
            0 => all,
            size => size.max(replicas).min(all),
        };
        let replicas = replicas.min(takers);
        // Before the ring is known, all of it.
        limit.saturating_mul(replicas).div_ceil(takers)
    }
}

/// The healthy members of a ring of distributors, which share the rates of tenants.
#[derive(Debug)]
pub struct HealthyDistributors {
    /// Their ring.
    pub ring: RingHandle,
    /// The clock by which heartbeats are judged.
    pub clock: Arc<dyn Clock>,
}

impl RateShare for HealthyDistributors {
    fn distributors(&self) -> usize {
        let now_s = self.clock.now_ms().to_seconds();
        // Before the ring is known this one is alone.
        self.ring.current().count_healthy(WORKS, now_s).max(1)
    }
}

/// The jobs, and tenants to clean, that the instance `id` of the compactors' ring owns. One that is silent keeps its own until it is forgotten.
pub fn owned_jobs(ring: RingHandle, id: &str, clock: Arc<dyn Clock>) -> OwnsJob {
    let id = id.to_owned();
    Arc::new(move |key: &str| {
        let now_s = clock.now_ms().to_seconds();
        let owners = ring.current().get(compaction_job_token(key), WORKS, now_s);
        owners.is_ok_and(|set| set.instances.iter().any(|i| i.id == id))
    })
}
