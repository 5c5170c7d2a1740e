//! The front of the write path: rates, and what the sender is told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lgtm_core::clock::Clock;
use lgtm_core::limits::{Overrides, RateLimiter};
use lgtm_core::model::TenantId;
use lgtm_core::{Error, Result};
use parking_lot::Mutex;

use super::clients::IngesterClient;
use crate::head::AppendReport;
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
    pub discarded: Mutex<HashMap<(TenantId, &'static str), u64>>,
}

/// Takes requests, holds them against the tenant's rates, hands them to the ingester.
#[derive(Debug)]
pub struct Distributor {
    ingester: Arc<dyn IngesterClient>,
    limits: Arc<Overrides<Limits>>,
    clock: Arc<dyn Clock>,
    rates: Mutex<HashMap<TenantId, RateLimiter>>,
    counts: DistributorCounts,
}

impl Distributor {
    /// A distributor in front of one ingester.
    pub fn new(ingester: Arc<dyn IngesterClient>, limits: Arc<Overrides<Limits>>, clock: Arc<dyn Clock>) -> Self {
        Self { ingester, limits, clock, rates: Mutex::default(), counts: DistributorCounts::default() }
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
        c.exemplars_in.fetch_add(batch.exemplar_count() as u64, Ordering::Relaxed);
        self.check_rate(tenant, samples + batch.exemplar_count() as u64 + batch.metadata().len() as u64)?;
        let mut report = self.ingester.push(tenant, batch).await?;
        for bad in batch.malformed() {
            report.rejected.add("malformed-series", bad.samples, || bad.message.clone());
        }
        c.samples_stored.fetch_add(report.samples + report.histograms, Ordering::Relaxed);
        if !report.rejected.samples.is_empty() || !report.dropped_exemplars.is_empty() {
            self.count_discarded(tenant, &report);
        }
        Ok(PushOutcome { report })
    }

    fn check_rate(&self, tenant: &TenantId, amount: u64) -> Result<()> {
        let limits = self.limits.for_tenant(tenant);
        if limits.ingestion_rate <= 0.0 {
            return Ok(());
        }
        let (rate, burst, now) = (limits.ingestion_rate, limits.ingestion_burst_size as f64, self.clock.monotonic());
        let mut rates = self.rates.lock();
        let bucket = rates.entry(tenant.clone()).or_insert_with(|| RateLimiter::new(burst, now));
        if bucket.allow(amount as f64, rate, burst, now) {
            return Ok(());
        }
        drop(rates);
        *self.counts.discarded.lock().entry((tenant.clone(), "rate_limited")).or_default() += amount;
        Err(Error::RateLimited {
            message: format!(
                "the request has been rejected because the tenant exceeded the ingestion rate limit, set to {rate} items/s with a maximum allowed burst of {burst}. This limit is applied on the total number of samples, exemplars and metadata (err-mimir-tenant-max-ingestion-rate). To adjust the related per-tenant limits, configure ingestion_rate and ingestion_burst_size"
            ),
            retry_after: Some(Duration::from_secs_f64((amount as f64 / rate).clamp(1.0, 96.0))),
        })
    }

    fn count_discarded(&self, tenant: &TenantId, report: &AppendReport) {
        let mut discarded = self.counts.discarded.lock();
        for (reason, n) in report.rejected.samples.iter().chain(&report.dropped_exemplars) {
            *discarded.entry((tenant.clone(), *reason)).or_default() += n;
        }
    }
}
