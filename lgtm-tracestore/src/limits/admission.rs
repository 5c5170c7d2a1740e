//! What of a push a tenant's limits let through: the half that needs no head.

use std::sync::Arc;
use std::time::Duration;

use lgtm_core::clock::Clock;
use lgtm_core::limits::{RateLimit, RateShare, TenantLimiters};
use lgtm_core::model::TenantId;
use lgtm_core::{Error, Result};

use super::limits::Limits;

/// Holds pushes against limits, and counts rates.
#[derive(Debug)]
pub struct Admission {
    rates: TenantLimiters,
    retry_after: Duration,
    share: Option<Arc<dyn RateShare>>,
}

impl Admission {
    /// Nobody has sent anything yet. `retry_after` is what senders are told that come too fast.
    pub fn new(clock: Arc<dyn Clock>, retry_after: Duration) -> Self {
        Self {
            rates: TenantLimiters::new(clock),
            retry_after,
            share: None,
        }
    }

    /// Sets who shares the rates of tenants: each may take an equal part, as with Tempo's global strategy.
    #[must_use]
    pub fn sharing(mut self, share: Option<Arc<dyn RateShare>>) -> Self {
        self.share = share;
        self
    }

    /// Lets a request of `bytes` pass, or refuses it as a whole. One without spans passes always, and is not to be asked for.
    ///
    /// # Errors
    /// `RateLimited` in Tempo's words. It says when to send again unless the tenant's limits switch that off, and unless the request is larger than
    /// what may ever come at once: sending that again would not help.
    pub fn admit(&self, tenant: &TenantId, limits: &Limits, bytes: u64) -> Result<()> {
        let ingestion = &limits.ingestion;
        let rate = ingestion.rate_limit_bytes.as_u64();
        let burst = ingestion.burst_size_bytes.as_u64();
        let sharers = self.share.as_ref().map(|s| s.distributors().max(1) as f64);
        let local = rate as f64 / sharers.unwrap_or(1.0);
        let limit = RateLimit {
            per_second: local,
            burst: burst as f64,
        };
        if (self
            .rates
            .take(tenant, "ingestion rate", limit, bytes as f64))
        .is_ok()
        {
            return Ok(());
        }
        let is_too_large = bytes > burst.max(1);
        let adding = format!("while adding {bytes} bytes for user {tenant}");
        let global = if sharers.is_some() { rate } else { 0 };
        let bounds =
            format!("local: {local:.0} bytes/s, global: {global} bytes/s, burst: {burst} bytes");
        let message = if is_too_large {
            format!(
                "RATE_LIMITED: batch size ({bytes} bytes) exceeds ingestion limit ({bounds}) {adding}. consider reducing batch size or increasing rate limit."
            )
        } else {
            format!(
                "RATE_LIMITED: ingestion rate limit ({bounds}) exceeded {adding}. consider increasing the limit or reducing ingestion rate."
            )
        };
        let says_when = ingestion.retry_info_enabled && !is_too_large;
        Err(Error::RateLimited {
            message,
            retry_after: says_when.then_some(self.retry_after),
        })
    }
}

#[cfg(test)]
mod tests {
    use lgtm_core::clock::ManualClock;
    use lgtm_core::units::ByteSize;

    use super::*;

    #[test]
    fn a_tenant_that_sends_too_fast_is_told_when_to_send_again() {
        let clock = Arc::new(ManualClock::default());
        let admission = Admission::new(clock.clone(), Duration::from_secs(5));
        let tenant = TenantId::new("t").unwrap();
        let mut limits = Limits::default();
        admission.admit(&tenant, &limits, u64::MAX).unwrap();
        limits.ingestion.rate_limit_bytes = ByteSize::bytes(10);
        limits.ingestion.burst_size_bytes = ByteSize::bytes(20);
        admission.admit(&tenant, &limits, 20).unwrap();
        let e = admission.admit(&tenant, &limits, 15).unwrap_err();
        assert_eq!(
            e.to_string(),
            "RATE_LIMITED: ingestion rate limit (local: 10 bytes/s, global: 0 bytes/s, burst: 20 bytes) exceeded while adding 15 bytes for user t. consider increasing the limit or reducing ingestion rate."
        );
        assert_eq!(e.retry_after(), Some(Duration::from_secs(5)));
        limits.ingestion.retry_info_enabled = false;
        let e = admission.admit(&tenant, &limits, 15).unwrap_err();
        assert_eq!(e.retry_after(), None);
        limits.ingestion.retry_info_enabled = true;
        let e = admission.admit(&tenant, &limits, 21).unwrap_err();
        assert!(
            e.to_string()
                .starts_with("RATE_LIMITED: batch size (21 bytes) exceeds")
        );
        assert_eq!(e.retry_after(), None);
        // Another tenant has its own.
        let other = TenantId::new("u").unwrap();
        admission.admit(&other, &limits, 20).unwrap();
        clock.advance(Duration::from_secs(2));
        admission.admit(&tenant, &limits, 15).unwrap();
    }

    #[derive(Debug)]
    struct Three;

    impl RateShare for Three {
        fn distributors(&self) -> usize {
            3
        }
    }

    #[test]
    fn distributors_share_the_rate_of_a_tenant() {
        let clock = Arc::new(ManualClock::default());
        let admission = Admission::new(clock.clone(), Duration::from_secs(5));
        let admission = admission.sharing(Some(Arc::new(Three)));
        let tenant = TenantId::new("t").unwrap();
        let mut limits = Limits::default();
        limits.ingestion.rate_limit_bytes = ByteSize::bytes(30);
        limits.ingestion.burst_size_bytes = ByteSize::bytes(20);
        admission.admit(&tenant, &limits, 20).unwrap();
        clock.advance(Duration::from_secs(1));
        let error = admission
            .admit(&tenant, &limits, 11)
            .unwrap_err()
            .to_string();
        let bounds = "(local: 10 bytes/s, global: 30 bytes/s, burst: 20 bytes)";
        assert!(error.contains(bounds), "{error}");
        admission.admit(&tenant, &limits, 10).unwrap();
    }
}
