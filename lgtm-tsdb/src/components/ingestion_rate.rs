//! How many samples a second each tenant brings.

use std::collections::HashMap;

use lgtm_core::model::{TenantId, TimestampMs};

/// Rates between the last two times that somebody counted.
#[derive(Debug, Default)]
pub(super) struct IngestionRates {
    counted_ms: TimestampMs,
    tenants: HashMap<TenantId, (u64, f64)>,
}

impl IngestionRates {
    /// Takes the samples that each tenant has brought so far. Tenants that are not named are forgotten.
    pub(super) fn count(
        &mut self,
        now_ms: TimestampMs,
        totals: impl Iterator<Item = (TenantId, u64)>,
    ) {
        let seconds = now_ms.since(self.counted_ms) as f64 / 1000.0;
        let is_first = std::mem::replace(&mut self.counted_ms, now_ms) == 0;
        let before = std::mem::take(&mut self.tenants);
        let rate_of = |(tenant, total): (TenantId, u64)| {
            // A head that was closed and made anew begins at 0; one that was not there before brought all it has since.
            let last = before.get(&tenant).map_or(0, |b| b.0);
            let more = total.checked_sub(last).unwrap_or(total);
            let rate = if is_first || seconds <= 0.0 {
                0.0
            } else {
                more as f64 / seconds
            };
            (tenant, (total, rate))
        };
        self.tenants = totals.map(rate_of).collect();
    }

    /// Samples a second of a tenant.
    pub(super) fn of(&self, tenant: &TenantId) -> f64 {
        self.tenants.get(tenant).map_or(0.0, |t| t.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_interval() {
        let (a, b) = (TenantId::new("a").unwrap(), TenantId::new("b").unwrap());
        let mut rates = IngestionRates::default();
        let mut count = |at_s: i64, totals: &[(&TenantId, u64)]| {
            let totals = totals.iter().map(|(t, n)| ((*t).clone(), *n));
            rates.count(TimestampMs::new(at_s * 1000), totals);
            (rates.of(&a), rates.of(&b))
        };
        assert_eq!(count(1000, &[(&a, 500)]), (0.0, 0.0));
        assert_eq!(count(1060, &[(&a, 1100), (&b, 60)]), (10.0, 1.0));
        assert_eq!(count(1120, &[(&a, 1100), (&b, 30)]), (0.0, 0.5));
        assert_eq!(count(1180, &[]), (0.0, 0.0));
    }
}
