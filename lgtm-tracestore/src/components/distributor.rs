//! The front of the write path: what may be under way, what of it is taken, and what the sender is told.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::limits::{BatchPool, Inflight, InflightBound, Overrides, RateShare, Ticket};
use lgtm_core::model::TenantId;
use lgtm_core::telemetry::Registry;
use lgtm_core::units::ByteSize;
use lgtm_core::{ErrorKind, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::clients::IngesterClient;
use crate::limits::{Admission, Limits, PushPart, PushReport};
use crate::wire::{PooledBatch, PushBatch, RefusedSpans, SpanRule};

/// How much a distributor takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistributorSettings {
    /// Bytes of a push request, compressed and decompressed. The default of OpenTelemetry's collector for HTTP, five times that of its gRPC.
    pub max_recv_msg_size: ByteSize,
    /// Bytes that one push may take in memory when it is decoded: the decompressed body and the places of spans made of it. Room for the
    /// largest body with its places beside it. 0: 2 GiB, which places in a batch reach.
    pub max_decoded_bytes: ByteSize,
    /// Pushes at a time; further ones are answered 503. Some hundred times what is under way when all is well; 0: no bound.
    pub max_inflight_push_requests: u64,
    /// Bytes of all pushes at a time: compressed, decompressed, and what they become when they are decoded. 0: no bound.
    pub max_inflight_push_requests_bytes: ByteSize,
    /// What a sender is told to wait that comes too fast. Tempo's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub retry_after_on_resource_exhausted: Duration,
}

impl Default for DistributorSettings {
    fn default() -> Self {
        Self {
            max_recv_msg_size: ByteSize::mib(20),
            max_decoded_bytes: ByteSize::mib(64),
            max_inflight_push_requests: 2000,
            max_inflight_push_requests_bytes: ByteSize::mib(256),
            retry_after_on_resource_exhausted: Duration::from_secs(5),
        }
    }
}

/// Tenants, and their rules, that are counted by name; those beyond are not told.
const MAX_COUNTED: usize = 10_000;

/// What came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    /// Spans.
    pub spans: u64,
    /// Bytes of requests, as protobuf.
    pub bytes: u64,
}

/// Counts of the write path, for metrics.
#[derive(Debug, Default)]
pub struct DistributorCounts {
    /// Requests.
    pub requests: AtomicU64,
    /// Traces of these, each counted in each request.
    pub traces: AtomicU64,
    /// Keys and texts of attributes that were cut since they were too long.
    pub cut_texts: AtomicU64,
    /// What came in, by tenant.
    pub received: Mutex<HashMap<TenantId, Received>>,
    /// Spans that were not stored, by tenant and rule.
    pub discarded: Mutex<HashMap<(TenantId, SpanRule), u64>>,
}

impl DistributorCounts {
    fn receive(&self, tenant: &TenantId, batch: &PushBatch) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let traces = batch.trace_count() as u64;
        self.traces.fetch_add(traces, Ordering::Relaxed);
        let cut_texts = batch.cut_text_count();
        self.cut_texts.fetch_add(cut_texts, Ordering::Relaxed);
        if let Some(count) = counted(&mut self.received.lock(), tenant) {
            count.spans += batch.span_count() as u64;
            count.bytes += batch.byte_count();
        }
    }

    fn discard(&self, tenant: &TenantId, rule: SpanRule, spans: u64) {
        let key = (tenant.clone(), rule);
        if let Some(count) = counted(&mut self.discarded.lock(), &key) {
            *count += spans;
        }
    }
}

fn counted<'a, K: Clone + Eq + Hash, V: Default>(
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

    /// Sets the clock that rates go by.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets who shares the rates of tenants: each takes an equal part.
    #[must_use]
    pub fn rate_share(mut self, share: Arc<dyn RateShare>) -> Self {
        self.share = Some(share);
        self
    }

    /// Has `registry` tell what came in, what of it was not stored, and what is under way.
    #[must_use]
    pub fn metrics(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
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
        let retry_after = self.settings.retry_after_on_resource_exhausted;
        let distributor = Arc::new(Distributor {
            ingester: self.ingester,
            limits: self.limits,
            admission: Admission::new(self.clock, retry_after).sharing(self.share),
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

    /// Counts spans of a request that could not be decoded for their ids, as [`PushBatch::refused`] tells.
    pub fn refuse(&self, tenant: &TenantId, refused: RefusedSpans) {
        self.counts.discard(tenant, refused.rule, refused.count);
    }

    /// Stores a push. What rules refuse of it stands in the report; all else is stored.
    ///
    /// # Errors
    /// `RateLimited` for a tenant that sends too fast: nothing is stored. Those of the ingester: it may be stored in part, and sent again, copies
    /// of a span count once.
    pub async fn push(
        &self,
        tenant: &TenantId,
        batch: impl Into<PooledBatch>,
    ) -> Result<PushReport> {
        let batch = Arc::new(batch.into());
        self.counts.receive(tenant, &batch);
        let spans = batch.span_count() as u64;
        if spans == 0 {
            return Ok(PushReport::default());
        }
        let limits = self.limits.for_tenant(tenant);
        let admitted = self.admission.admit(tenant, &limits, batch.byte_count());
        admitted.inspect_err(|e| {
            if e.kind() == ErrorKind::RateLimited {
                self.counts.discard(tenant, SpanRule::RateLimited, spans);
            }
        })?;
        let report = self.ingester.push(tenant, PushPart::whole(batch)).await?;
        for (rule, spans) in &report.refused {
            self.counts.discard(tenant, *rule, *spans);
        }
        Ok(report)
    }
}
