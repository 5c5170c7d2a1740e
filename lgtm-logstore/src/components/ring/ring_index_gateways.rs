//! The index-gateways of a ring as one.

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

use super::replaced_entries::{ReplacedEntries, Reserve};
use crate::components::clients::{Inspect, StoreGatewayClient};
use crate::select::{CountWish, EntryBatches, Select, SelectRequest, StreamVolume};

/// Who can be asked: those that have read the list of index files.
const SERVES: Operation = Operation::new(&[InstanceState::Active], &[]);

/// The index-gateways of a ring as one. Each of them reads all of the bucket, so any one answers for all; they are asked in turn, and another one when
/// one fails, also in the middle of an answer. Only one that has handed out counts is not replaced: another one would have counted other entries; its
/// answer fails, and whoever asked may ask again.
#[derive(Debug)]
pub struct RingIndexGateways {
    ring: RingHandle,
    pool: Arc<dyn InstancePool<dyn StoreGatewayClient>>,
    clock: Arc<dyn Clock>,
    next: AtomicUsize,
}

impl RingIndexGateways {
    /// The index-gateways of `ring`, which `pool` knows.
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
    fn holders(&self) -> Result<Vec<Arc<dyn StoreGatewayClient>>> {
        let now_s = self.clock.now_ms().to_seconds();
        let set = self.ring.current().all_healthy(SERVES, now_s);
        let instances = set.map(|s| s.instances).unwrap_or_default();
        let clients = instances.iter().filter_map(|i| self.pool.instance(i).ok());
        let mut holders: Vec<_> = clients.collect();
        if holders.is_empty() {
            return Err(Error::Unavailable(
                "no index-gateway in the ring is healthy".into(),
            ));
        }
        let first = self.next.fetch_add(1, Ordering::Relaxed) % holders.len();
        holders.rotate_left(first);
        Ok(holders)
    }

    /// The first answer of any, and who is left.
    ///
    /// # Errors
    /// That of the last one asked, or what none would answer.
    async fn any<T, F>(
        &self,
        ask: impl Fn(Arc<dyn StoreGatewayClient>) -> F,
    ) -> Result<(T, Vec<Arc<dyn StoreGatewayClient>>)>
    where
        F: Future<Output = Result<T>>,
    {
        let mut holders = self.holders()?.into_iter();
        loop {
            let Some(holder) = holders.next() else {
                return Err(Error::Internal("index-gateways are asked in turn".into()));
            };
            match ask(holder).await {
                Ok(answer) => return Ok((answer, holders.collect())),
                Err(e) if is_terminal(&e) || holders.len() == 0 => return Err(e),
                Err(error) => tracing::debug!(%error, "an index-gateway does not answer"),
            }
        }
    }
}

impl StoreGatewayClient for RingIndexGateways {}

#[async_trait]
impl Select for RingIndexGateways {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn EntryBatches>> {
        let begin = |holder: Arc<dyn StoreGatewayClient>| async move {
            let mut answer = holder.select(tenant, request).await?;
            let times = answer.times();
            let first = answer.next_batch().await?;
            Ok((first, answer, times))
        };
        let ((first, answer, times), left) = self.any(begin).await?;
        let left = left.into_iter().map(|h| vec![h as Arc<dyn Select>]);
        let reserve = Reserve::new(left, tenant, request.clone());
        Ok(Box::new(ReplacedEntries::new(
            first, answer, times, reserve,
        )))
    }

    async fn select_counted(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
        wish: &CountWish,
    ) -> Result<Box<dyn EntryBatches>> {
        let ask = |holder: Arc<dyn StoreGatewayClient>| async move {
            holder.select_counted(tenant, request, wish).await
        };
        Ok(self.any(ask).await?.0)
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        let ask = |h: Arc<dyn StoreGatewayClient>| async move { h.series(tenant, request).await };
        Ok(self.any(ask).await?.0)
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let ask =
            |h: Arc<dyn StoreGatewayClient>| async move { h.label_names(tenant, request).await };
        Ok(self.any(ask).await?.0)
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let ask = |h: Arc<dyn StoreGatewayClient>| async move {
            h.label_values(tenant, name, request).await
        };
        Ok(self.any(ask).await?.0)
    }
}

#[async_trait]
impl Inspect for RingIndexGateways {
    async fn volumes(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<StreamVolume>>> {
        let ask = |h: Arc<dyn StoreGatewayClient>| async move { h.volumes(tenant, request).await };
        Ok(self.any(ask).await?.0)
    }
}
