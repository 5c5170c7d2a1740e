//! The front of the write path: rates, and what the sender is told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lgtm_core::Result;
use lgtm_core::clock::Clock;
use lgtm_core::limits::{Overrides, RateLimit, TenantLimiters};
use lgtm_core::model::TenantId;
use parking_lot::Mutex;

use super::clients::IngesterClient;
use crate::head::{AppendReport, EXEMPLAR_LABELS_TOO_LONG, ReasonId};
use crate::limits::Limits;
use crate::wire::WriteBatch;

/// What became of a push.
#[derive(Debug, Clone, PartialEq)]
pub struct PushOutcome {
    /// What was stored and what was not.
    pub report: AppendReport,
}

impl PushOutcome {
    /// What the sender should be told although the rest was stored: the first fault.
    pub fn fault(&self) -> Option<&str> {
        self.report.rejected.first.as_deref()
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

/// Takes requests, holds them against the tenant's rates, hands them to the ingester.
#[derive(Debug)]
pub struct Distributor {
    ingester: Arc<dyn IngesterClient>,
    limits: Arc<Overrides<Limits>>,
    rates: TenantLimiters,
    counts: DistributorCounts,
}

impl Distributor {
    /// A distributor in front of one ingester.
    pub fn new(
        ingester: Arc<dyn IngesterClient>,
        limits: Arc<Overrides<Limits>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            ingester,
            limits,
            rates: TenantLimiters::new(clock),
            counts: DistributorCounts::default(),
        }
    }

    /// What it has done so far.
    pub fn counts(&self) -> &DistributorCounts {
        &self.counts
    }

    /// Stores a request. Invalid series and samples are left out and told in the outcome; all others are stored.
    ///
    /// # Errors
    /// `RateLimited` for the whole request; those of the ingester.
    pub async fn push(&self, tenant: &TenantId, batch: &WriteBatch) -> Result<PushOutcome> {
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
        let mut report = self.ingester.push(tenant, batch).await?;
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
        let limit = RateLimit {
            per_second: limits.ingestion_rate,
            burst: limits.ingestion_burst_size as f64,
        };
        let what = "ingestion of samples, exemplars and metadata (err-mimir-tenant-max-ingestion-rate; settings ingestion_rate and ingestion_burst_size)";
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
