//! The front of the write path: what may be under way, rates, and what the sender is told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lgtm_core::Result;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::limits::{
    BatchPool, Inflight, InflightBound, Overrides, RateLimit, RateShare, TenantLimiters, Ticket,
};
use lgtm_core::model::TenantId;
use lgtm_core::telemetry::Registry;
use lgtm_core::units::ByteSize;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::clients::IngesterClient;
use crate::head::{AppendReport, EXEMPLAR_LABELS_TOO_LONG, ReasonId, Rejection};
use crate::limits::Limits;
use crate::wire::{PooledBatch, PushPart, WriteBatch};

/// How much a distributor takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistributorSettings {
    /// Bytes of a push request, compressed and decompressed. Mimir's default.
    pub max_recv_msg_size: ByteSize,
    /// Bytes that one push may take in memory when it is decoded: the decompressed body and the series, samples and texts made of it.
    /// Room for the largest body with its samples beside it, and a quarter of all pushes' bytes; what is repeated beyond that (a symbol
    /// that thousands of series refer to, attributes in each bucket of a histogram) is refused. 0: 2 GiB, which places in a batch reach.
    pub max_decoded_bytes: ByteSize,
    /// Pushes at a time; further ones are answered 503. Mimir's default; 0: no bound.
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

/// What became of a push.
#[derive(Debug, Clone, PartialEq)]
pub struct PushOutcome {
    /// What was stored and what was not.
    pub report: AppendReport,
}

impl PushOutcome {
    /// What the sender should be told although the rest was stored: the first fault.
    pub fn fault(&self) -> Option<&Rejection> {
        self.report.rejected.first.as_ref()
    }
}

/// Counts of the write path, for metrics.
#[derive(Debug, Default)]
pub struct DistributorCounts {
    /// Requests.
    pub requests: AtomicU64,
    /// Samples and histograms that came in.
    pub samples_in: AtomicU64,
    /// Samples and histograms stored.
    pub samples_stored: AtomicU64,
    /// Exemplars that came in.
    pub exemplars_in: AtomicU64,
    /// Samples not stored, by tenant and reason.
    pub discarded: Mutex<HashMap<(TenantId, ReasonId), u64>>,
    /// Metadata not stored, by tenant and reason.
    pub discarded_metadata: Mutex<HashMap<(TenantId, ReasonId), u64>>,
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

    /// Who else takes requests: each distributor allows its part of a tenant's rate. Without it this one allows all of it.
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
        let distributor = Arc::new(Distributor {
            ingester: self.ingester,
            limits: self.limits,
            rates: TenantLimiters::new(self.clock),
            inflight: Arc::new(Inflight::new(requests, bytes)),
            batches: Arc::default(),
            share: self.share,
            settings: self.settings,
            counts: DistributorCounts::default(),
        });
        if let Some(registry) = &self.registry {
            distributor.register_metrics(registry);
        }
        distributor
    }
}

/// Takes requests, holds them against the tenant's rates, hands them to the ingester.
///
/// A request is the distributor's from the moment in which it is pushed: its batch and the room that it is counted for are shared by
/// the pushes to all ingesters, and free when the last of them has ended.
#[derive(Debug)]
pub struct Distributor {
    ingester: Arc<dyn IngesterClient>,
    limits: Overrides<Limits>,
    rates: TenantLimiters,
    inflight: Arc<Inflight>,
    batches: Arc<BatchPool<WriteBatch>>,
    share: Option<Arc<dyn RateShare>>,
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

    /// The limits of a tenant, by which its requests are decoded.
    pub fn limits(&self, tenant: &TenantId) -> Arc<Limits> {
        self.limits.for_tenant(tenant)
    }

    /// Pushes under way. Whoever reads a request counts it here before it takes memory.
    pub fn inflight(&self) -> &Arc<Inflight> {
        &self.inflight
    }

    /// An empty batch to decode a request into, which holds `room`.
    pub fn batch(&self, room: Ticket) -> PooledBatch {
        self.batches.take(room)
    }

    /// Stores a request. Invalid series and samples are left out and told in the outcome; all others are stored.
    ///
    /// # Errors
    /// `RateLimited` for the whole request; those of the ingester.
    pub async fn push(
        &self,
        tenant: &TenantId,
        batch: impl Into<PooledBatch>,
    ) -> Result<PushOutcome> {
        let batch = Arc::new(batch.into());
        let samples = (batch.sample_count() + batch.histogram_count()) as u64;
        let c = &self.counts;
        c.requests.fetch_add(1, Ordering::Relaxed);
        c.samples_in.fetch_add(samples, Ordering::Relaxed);
        c.exemplars_in
            .fetch_add(batch.exemplar_count() as u64, Ordering::Relaxed);
        self.check_rate(
            tenant,
            samples + batch.exemplar_count() as u64 + batch.metadata().len() as u64,
        )?;
        let part = PushPart::whole(Arc::clone(&batch));
        let mut report = self.ingester.push(tenant, part).await?;
        for bad in batch.malformed() {
            report
                .rejected
                .add(bad.id, bad.samples, || bad.message.clone());
        }
        if batch.long_exemplar_count() > 0 {
            *report
                .dropped_exemplars
                .entry(EXEMPLAR_LABELS_TOO_LONG.into())
                .or_default() += batch.long_exemplar_count();
        }
        c.samples_stored
            .fetch_add(report.samples + report.histograms, Ordering::Relaxed);
        if !report.rejected.samples.is_empty() || !report.dropped_exemplars.is_empty() {
            self.count_discarded(tenant, &report);
        }
        for (reason, n) in &report.dropped_metadata {
            let mut discarded = self.counts.discarded_metadata.lock();
            *discarded
                .entry((tenant.clone(), reason.clone()))
                .or_default() += n;
        }
        Ok(PushOutcome { report })
    }

    fn check_rate(&self, tenant: &TenantId, amount: u64) -> Result<()> {
        let limits = self.limits.for_tenant(tenant);
        let sharers = self.share.as_ref().map_or(1, |s| s.distributors().max(1));
        let limit = RateLimit {
            per_second: limits.ingestion_rate / sharers as f64,
            burst: limits.ingestion_burst_size as f64,
        };
        let what = "ingestion of samples, exemplars and metadata (settings ingestion_rate and ingestion_burst_size)";
        let taken = self.rates.take(tenant, what, limit, amount as f64);
        taken.inspect_err(|_| {
            *self
                .counts
                .discarded
                .lock()
                .entry((tenant.clone(), "rate_limited".into()))
                .or_default() += amount;
        })
    }

    fn count_discarded(&self, tenant: &TenantId, report: &AppendReport) {
        let mut discarded = self.counts.discarded.lock();
        for (reason, n) in report
            .rejected
            .samples
            .iter()
            .chain(&report.dropped_exemplars)
        {
            *discarded
                .entry((tenant.clone(), reason.clone()))
                .or_default() += n;
        }
    }
}
