//! What a component does with its own place in a ring.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::clock::Clock;
use lgtm_core::limits::{GlobalLimits, RateShare};
use lgtm_core::service::Service;

use crate::hash::compaction_job_token;
use crate::instance::InstanceState::{Active, Joining, Leaving, Left, Pending};
use crate::ring::Operation;
use crate::watch::RingHandle;

/// Work goes to whoever is ACTIVE; another one stands in for those who come and go.
const WORKS: Operation = Operation::new(&[Active], &[Leaving, Pending, Joining, Left]);

/// How often it is seen whether a log is back.
const PAUSE: Duration = Duration::from_millis(50);

/// Starts when a log is read back: a lifecycler that starts after it tells nobody earlier that the ingester takes writes.
pub struct ReplayedLog {
    name: &'static str,
    is_back: Box<dyn Fn() -> bool + Send + Sync>,
}

impl ReplayedLog {
    /// A service of this name, which starts once `is_back` says so.
    pub fn new(name: &'static str, is_back: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self {
            name,
            is_back: Box::new(is_back),
        }
    }
}

impl std::fmt::Debug for ReplayedLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplayedLog")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Service for ReplayedLog {
    fn name(&self) -> &str {
        self.name
    }

    async fn start(&self) -> Result<()> {
        while !(self.is_back)() {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}

/// Divides limits among the ingesters of a ring: with `n` of them that take a tenant's series or streams, each of which is with `r`, one may take `r / n` of what the
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

/// Decides whether a job is this process' own, by its key.
pub type OwnsJob = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The jobs, and tenants to clean, that the instance `id` of the compactors' ring owns. One that is silent keeps its own until it is forgotten.
pub fn owned_jobs(ring: RingHandle, id: &str, clock: Arc<dyn Clock>) -> OwnsJob {
    let id = id.to_owned();
    Arc::new(move |key: &str| {
        let now_s = clock.now_ms().to_seconds();
        let owners = ring.current().get(compaction_job_token(key), WORKS, now_s);
        owners.is_ok_and(|set| set.instances.iter().any(|i| i.id == id))
    })
}
