//! The store-gateways of a ring as one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::model::{Labels, Listed, TenantId, TextSet};
use lgtm_core::{Error, Result};
use lgtm_ring::instance::InstanceState;
use lgtm_ring::replicas::{InstancePool, is_terminal};
use lgtm_ring::ring::Operation;
use lgtm_ring::watch::RingHandle;

use super::replaced_series::{ReplacedSeries, Reserve};
use crate::components::clients::StoreGatewayClient;
use crate::select::{Select, SelectRequest, SeriesBatches};

/// Who can be asked: those that have read the list of blocks.
const SERVES: Operation = Operation::new(&[InstanceState::Active], &[]);

/// The store-gateways of a ring as one. Each of them reads all blocks, so any one answers for all; they are asked in turn, and another one when one fails,
/// also in the middle of an answer.
#[derive(Debug)]
pub struct RingStoreGateways {
    ring: RingHandle,
    pool: Arc<dyn InstancePool<dyn StoreGatewayClient>>,
    clock: Arc<dyn Clock>,
    next: AtomicUsize,
}

impl RingStoreGateways {
    /// The store-gateways of `ring`, which `pool` knows.
    pub fn new(ring: RingHandle, pool: Arc<dyn InstancePool<dyn StoreGatewayClient>>) -> Self {
        Self {
            ring,
            pool,
            clock: Arc::new(SystemClock::new()),
            next: AtomicUsize::new(0),
        }
    }

    /// Sets the clock by which heartbeats are judged.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// All that serve, another one first each time.
    ///
    /// # Errors
    /// `Unavailable` when none does.
    fn holders(&self) -> Result<Vec<Arc<dyn Select>>> {
        let now_s = self.clock.now_ms().to_seconds();
        let set = self.ring.current().all_healthy(SERVES, now_s);
        let instances = set.map(|s| s.instances).unwrap_or_default();
        let clients = instances.iter().filter_map(|i| self.pool.instance(i).ok());
        let mut holders: Vec<_> = clients.map(|c| c as Arc<dyn Select>).collect();
        if holders.is_empty() {
            return Err(Error::Unavailable(
                "no store-gateway in the ring is healthy".into(),
            ));
        }
        let first = self.next.fetch_add(1, Ordering::Relaxed) % holders.len();
        holders.rotate_left(first);
        Ok(holders)
    }

    /// The first answer of any.
    ///
    /// # Errors
    /// That of the last one asked, or what none would answer.
    async fn any<T, F>(&self, ask: impl Fn(Arc<dyn Select>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut holders = self.holders()?.into_iter();
        loop {
            let Some(holder) = holders.next() else {
                return Err(Error::Internal("store-gateways are asked in turn".into()));
            };
            match ask(holder).await {
                Ok(answer) => return Ok(answer),
                Err(e) if is_terminal(&e) || holders.len() == 0 => return Err(e),
                Err(error) => tracing::debug!(%error, "a store-gateway does not answer"),
            }
        }
    }
}

impl StoreGatewayClient for RingStoreGateways {}

#[async_trait]
impl Select for RingStoreGateways {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn SeriesBatches>> {
        // Another one goes on by the labels of the last series.
        let request = request.whole_labels();
        let mut holders = self.holders()?;
        let mut tried = 0;
        loop {
            let begun = async {
                let mut answer = holders[tried].select(tenant, &request).await?;
                let first = answer.next_batch().await?;
                Ok((first, answer))
            };
            match begun.await {
                Ok((first, answer)) => {
                    let left = holders.split_off(tried + 1).into_iter().map(|h| vec![h]);
                    let reserve = Reserve::new(left, tenant, request);
                    return Ok(Box::new(ReplacedSeries::new(first, answer, reserve)));
                }
                Err(e) if is_terminal(&e) || tried + 1 == holders.len() => return Err(e),
                Err(error) => tracing::debug!(%error, "a store-gateway does not answer"),
            }
            tried += 1;
        }
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        self.any(|h| async move { h.series(tenant, request).await })
            .await
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        self.any(|h| async move { h.label_names(tenant, request).await })
            .await
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        self.any(|h| async move { h.label_values(tenant, name, request).await })
            .await
    }
}
