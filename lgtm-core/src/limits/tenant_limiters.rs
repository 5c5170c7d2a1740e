//! A token bucket for each tenant, forgotten when it tells nothing more.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::error::Result;
use crate::limits::rate_limiter::{RateLimit, RateLimiter};
use crate::model::TenantId;

/// So many tenants may be there before it is looked which can be forgotten.
const FIRST_LOOK: usize = 64;

/// Rate limiters by tenant.
///
/// A bucket that has filled again says no more than none: it is forgotten, so that memory follows the tenants that sent lately and not all
/// that ever did. That costs a walk over all buckets whenever their number has doubled since the last one.
#[derive(Debug)]
pub struct TenantLimiters {
    clock: Arc<dyn Clock>,
    limiters: Mutex<Limiters>,
}

#[derive(Debug)]
struct Limiters {
    /// With the limit of the last call, by which the bucket fills.
    tenants: HashMap<TenantId, (Arc<RateLimiter>, RateLimit)>,
    look_at: usize,
}

impl TenantLimiters {
    /// Full buckets for everybody.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let limiters = Limiters {
            tenants: HashMap::new(),
            look_at: FIRST_LOOK,
        };
        Self {
            clock,
            limiters: Mutex::new(limiters),
        }
    }

    /// Takes `count` tokens of the tenant's, or none, as [`RateLimiter::take`] does. A tenant without a limit costs no lock and has no bucket.
    ///
    /// # Errors
    /// `RateLimited`.
    pub fn take(&self, tenant: &TenantId, what: &str, limit: RateLimit, count: f64) -> Result<()> {
        if limit.is_unlimited() {
            return Ok(());
        }
        self.limiter(tenant, limit).take(what, limit, count)
    }

    /// Tenants that have a bucket.
    pub fn tenant_count(&self) -> usize {
        self.limiters.lock().tenants.len()
    }

    fn limiter(&self, tenant: &TenantId, limit: RateLimit) -> Arc<RateLimiter> {
        let mut limiters = self.limiters.lock();
        if let Some((limiter, last)) = limiters.tenants.get_mut(tenant) {
            *last = limit;
            return Arc::clone(limiter);
        }
        if limiters.tenants.len() >= limiters.look_at {
            // One that is held just now is about to be taken from.
            let in_use = |l: &(Arc<RateLimiter>, RateLimit)| {
                Arc::strong_count(&l.0) > 1 || !l.0.is_full(l.1)
            };
            limiters.tenants.retain(|_, l| in_use(l));
            limiters.tenants.shrink_to(FIRST_LOOK);
            limiters.look_at = (2 * limiters.tenants.len()).max(FIRST_LOOK);
        }
        let limiter = Arc::new(RateLimiter::new(Arc::clone(&self.clock)));
        let entry = (Arc::clone(&limiter), limit);
        limiters.tenants.insert(tenant.clone(), entry);
        limiter
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    const LIMIT: RateLimit = RateLimit {
        per_second: 1.0,
        burst: 10.0,
    };

    #[test]
    fn tenants_that_have_been_quiet_are_forgotten_and_none_that_owes() {
        let clock = Arc::new(ManualClock::default());
        let limiters = TenantLimiters::new(clock.clone());
        let take = |n: usize, count| {
            let tenant = TenantId::new(&format!("t{n}")).unwrap();
            limiters.take(&tenant, "x", LIMIT, count)
        };
        for n in 0..10_000 {
            take(n, 1.0).unwrap();
            clock.advance(Duration::from_millis(100));
        }
        assert!(
            limiters.tenant_count() <= 2 * FIRST_LOOK,
            "{}",
            limiters.tenant_count()
        );
        take(0, 10.0).unwrap();
        for n in 10_000..11_000 {
            take(n, 0.001).unwrap();
        }
        assert!(take(0, 1.0).is_err(), "what it took is remembered");
        clock.advance(Duration::from_secs(10));
        take(0, 10.0).unwrap();
    }

    #[test]
    fn a_tenant_without_a_limit_has_no_bucket() {
        let limiters = TenantLimiters::new(Arc::new(ManualClock::default()));
        let tenant = TenantId::new("t").unwrap();
        let unlimited = RateLimit::UNLIMITED;
        limiters.take(&tenant, "x", unlimited, 1e9).unwrap();
        assert_eq!(limiters.tenant_count(), 0);
    }
}
