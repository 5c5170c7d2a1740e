//! The front of the write path: what may be under way, what of it is taken, and what the sender is told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lgtm_core::Result;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::in_place;
use lgtm_core::limits::{BatchPool, Inflight, InflightBound, Overrides, RateShare, Ticket};
use lgtm_core::model::TenantId;
use lgtm_core::telemetry::Registry;
use lgtm_core::units::ByteSize;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::clients::IngesterClient;
use crate::limits::{Admission, Limits, PushPart, PushReport, PushRule, Refused};
use crate::wire::{PooledBatch, PushBatch};

/// Entries that are looked at where the push stands; more of them take milliseconds, which other tasks do not wait for.
const ENTRIES_AT_ONCE: usize = 20_000;

/// How much a distributor takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistributorSettings {
    /// Bytes of a push request, compressed and decompressed. Loki's default.
    pub max_recv_msg_size: ByteSize,
    /// Bytes that one push may take in memory when it is decoded: the decompressed body and the streams, entries and texts made of it.
    /// Room for the largest body with its entries beside it, and a quarter of all pushes' bytes. 0: 2 GiB, which places in a batch reach.
    pub max_decoded_bytes: ByteSize,
    /// Pushes at a time; further ones are answered 503. Some hundred times what is under way when all is well; 0: no bound.
    pub max_inflight_push_requests: u64,
    /// Bytes of all pushes at a time: compressed, decompressed, and what they become when they are decoded. Some hundred times what is
    /// under way when all is well; 0: no bound.
    pub max_inflight_push_requests_bytes: ByteSize,
}

impl Default for DistributorSettings {
    fn default() -> Self {
        Self {
            max_recv_msg_size: ByteSize::mib(100),
            max_decoded_bytes: ByteSize::mib(256),
            max_inflight_push_requests: 2000,
            max_inflight_push_requests_bytes: ByteSize::mib(1024),
        }
    }
}

/// Tenants, and their rules, that are counted by name; those beyond are not told.
const MAX_COUNTED: usize = 10_000;

/// What came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    /// Entries.
    pub entries: u64,
    /// Bytes of lines, and of metadata as they were sent.
    pub bytes: u64,
}

/// Counts of the write path, for metrics.
#[derive(Debug, Default)]
pub struct DistributorCounts {
    /// Requests.
    pub requests: AtomicU64,
    /// What came in, by tenant.
    pub received: Mutex<HashMap<TenantId, Received>>,
    /// What was not stored, by tenant and rule.
    pub discarded: Mutex<HashMap<(TenantId, PushRule), Refused>>,
}

impl DistributorCounts {
    fn receive(&self, tenant: &TenantId, batch: &PushBatch) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let left_out = batch.malformed().iter();
        let (entries, bytes) = left_out.fold((0, 0), |(n, b), m| (n + m.count, b + m.bytes));
        let mut received = self.received.lock();
        if let Some(count) = counted(&mut received, tenant) {
            count.entries += batch.entry_count() as u64 + entries;
            count.bytes += batch.byte_count() + bytes;
        }
    }

    fn discard(&self, tenant: &TenantId, report: &PushReport) {
        if report.refused.is_empty() {
            return;
        }
        let mut discarded = self.discarded.lock();
        for (rule, refused) in &report.refused {
            if let Some(count) = counted(&mut discarded, &(tenant.clone(), *rule)) {
                count.entries += refused.entries;
                count.bytes += refused.bytes;
            }
        }
    }
}

fn counted<'a, K: Clone + Eq + std::hash::Hash, V: Default>(
    counts: &'a mut HashMap<K, V>,
    key: &K,
) -> Option<&'a mut V> {
    if !counts.contains_key(key) && counts.len() < MAX_COUNTED {
        counts.insert(key.clone(), V::default());
    }
    counts.get_mut(key)
}

/// Collects the parts of a [`Distributor`].
#[derive(Debug)]
pub struct DistributorBuilder {
    ingester: Arc<dyn IngesterClient>,
    limits: Overrides<Limits>,
    clock: Arc<dyn Clock>,
    registry: Option<Registry>,
    share: Option<Arc<dyn RateShare>>,
    settings: DistributorSettings,
}

impl DistributorBuilder {
    /// Sets the settings.
    #[must_use]
    pub fn settings(mut self, settings: DistributorSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the clock that rates and ages go by.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Has `registry` tell what came in, what of it was not stored, and what is under way.
    #[must_use]
    pub fn metrics(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// Sets who shares the rates of tenants. Without it this distributor is alone.
    #[must_use]
    pub fn rate_share(mut self, share: Arc<dyn RateShare>) -> Self {
        self.share = Some(share);
        self
    }

    /// The distributor.
    pub fn build(self) -> Arc<Distributor> {
        let requests = InflightBound {
            max: self.settings.max_inflight_push_requests,
            hint: "(server.max_inflight_push_requests)",
        };
        let bytes = InflightBound {
            max: self.settings.max_inflight_push_requests_bytes.as_u64(),
            hint: "(server.max_inflight_push_requests_bytes)",
        };
        let distributor = Arc::new(Distributor {
            ingester: self.ingester,
            limits: self.limits,
            admission: Admission::new(self.clock).sharing(self.share),
            inflight: Arc::new(Inflight::new(requests, bytes)),
            batches: Arc::default(),
            settings: self.settings,
            counts: DistributorCounts::default(),
        });
        if let Some(registry) = &self.registry {
            distributor.register_metrics(registry);
        }
        distributor
    }
}

/// Takes pushes, holds them against the tenant's limits, hands them to the ingester.
///
/// A push is the distributor's from the moment in which it comes: its batch and the room that it is counted for are shared by
/// the parts for all ingesters, and free when the last of them has ended.
#[derive(Debug)]
pub struct Distributor {
    ingester: Arc<dyn IngesterClient>,
    limits: Overrides<Limits>,
    admission: Admission,
    inflight: Arc<Inflight>,
    batches: Arc<BatchPool<PushBatch>>,
    settings: DistributorSettings,
    counts: DistributorCounts,
}

impl Distributor {
    /// Begins a builder: a distributor in front of one ingester.
    pub fn builder(
        ingester: Arc<dyn IngesterClient>,
        limits: Overrides<Limits>,
    ) -> DistributorBuilder {
        DistributorBuilder {
            ingester,
            limits,
            clock: Arc::new(SystemClock::new()),
            registry: None,
            share: None,
            settings: DistributorSettings::default(),
        }
    }

    /// What it has done so far.
    pub fn counts(&self) -> &DistributorCounts {
        &self.counts
    }

    /// How much it takes.
    pub fn settings(&self) -> &DistributorSettings {
        &self.settings
    }

    /// The limits of a tenant, by which its pushes are decoded.
    pub fn limits(&self, tenant: &TenantId) -> Arc<Limits> {
        self.limits.for_tenant(tenant)
    }

    /// Pushes under way. Whoever reads a push counts it here before it takes memory.
    pub fn inflight(&self) -> &Arc<Inflight> {
        &self.inflight
    }

    /// An empty batch to decode a push into, which holds `room`.
    pub fn batch(&self, room: Ticket) -> PooledBatch {
        self.batches.take(room)
    }

    /// Stores a push. What the tenant's limits refuse stands in the report; all else is stored.
    ///
    /// # Errors
    /// Those of the ingester.
    pub async fn push(
        &self,
        tenant: &TenantId,
        batch: impl Into<PooledBatch>,
    ) -> Result<PushReport> {
        let batch = Arc::new(batch.into());
        self.counts.receive(tenant, &batch);
        let limits = self.limits.for_tenant(tenant);
        let mut report = PushReport::default();
        let mut admit = || self.admission.admit(tenant, &batch, &limits, &mut report);
        let accepted = if batch.entry_count() > ENTRIES_AT_ONCE {
            in_place(admit)
        } else {
            admit()
        };
        let stored = if accepted.entries > 0 {
            let part = PushPart::new(batch, Arc::new(accepted));
            self.ingester.push(tenant, part).await
        } else {
            Ok(PushReport::default())
        };
        // What was refused before counts whether or not the rest can be stored.
        let stored = stored.map(|stored| report.merge(stored));
        self.counts.discard(tenant, &report);
        stored.map(|()| report)
    }
}
