//! Settings of a frontend, and what a tenant may do there.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How a frontend works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FrontendSettings {
    /// Requests to the querier at a time, over all tenants. Mimir's `querier.max-concurrent`.
    pub max_concurrent: usize,
    /// Of the turns that other tenants leave, what one tenant may hold, in percent, 1 to 100; always at least one turn. 50: a tenant
    /// whose queries take minutes leaves half of the turns to others, and two such leave a quarter. 100 lets one have all.
    pub max_concurrent_percent_per_tenant: u8,
    /// Requests of one tenant that may wait for a turn; more are refused with `RateLimited`. Mimir's default.
    pub max_outstanding_requests_per_tenant: usize,
    /// Times that a request is sent before its failure is the query's. Mimir's default.
    pub max_attempts: u32,
    /// Whether start and end move down to multiples of the step. Off: Prometheus answers at the times asked for.
    pub align_queries_with_step: bool,
    /// Whether requests that are not aligned are cached too, each phase under its own key. Mimir's default is off; here it is on,
    /// since otherwise a dashboard whose range is not aligned is never cached.
    pub cache_unaligned_requests: bool,
    /// Extents shorter than this are passed over by requests that are longer. 5 minutes, as in Mimir.
    #[serde(with = "crate::units::duration")]
    pub min_extent: Duration,
}

impl Default for FrontendSettings {
    fn default() -> Self {
        Self {
            max_concurrent: 20,
            max_concurrent_percent_per_tenant: 50,
            max_outstanding_requests_per_tenant: 100,
            max_attempts: 5,
            align_queries_with_step: false,
            cache_unaligned_requests: true,
            min_extent: Duration::from_secs(300),
        }
    }
}

impl FrontendSettings {
    /// Checks that something can run at all.
    ///
    /// # Errors
    /// `InvalidInput`, naming the setting.
    pub fn validate(&self) -> Result<()> {
        for (name, value) in [
            ("max_concurrent", self.max_concurrent),
            (
                "max_outstanding_requests_per_tenant",
                self.max_outstanding_requests_per_tenant,
            ),
            ("max_attempts", self.max_attempts as usize),
        ] {
            if value == 0 {
                return Err(Error::InvalidInput(format!(
                    "frontend: {name} is 0, must be at least 1"
                )));
            }
        }
        match self.max_concurrent_percent_per_tenant {
            1..=100 => Ok(()),
            percent => Err(Error::InvalidInput(format!(
                "frontend: max_concurrent_percent_per_tenant is {percent}, must be 1 to 100"
            ))),
        }
    }
}

/// What one tenant's queries may do. Of several tenants asked at once: the smallest counts, the largest freshness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontendLimits {
    /// Range queries are cut at multiples of this; zero is not at all. Mimir's default is a day.
    pub split_interval: Duration,
    /// Requests of one query that run at a time. Mimir's default.
    pub max_query_parallelism: usize,
    /// Answers younger than this may change and are not kept. Mimir's default.
    pub max_cache_freshness: Duration,
    /// How late samples may come.
    pub out_of_order_time_window: Duration,
    /// Shards that an aggregation is cut into; 0 and 1 are not at all. Mimir's default.
    pub total_shards: u32,
    /// Sharded requests that one query may become, over all its pieces; shards are made fewer to keep it. Mimir's default.
    pub max_sharded_queries: u32,
    /// Whether results, and errors, are looked up and kept.
    pub results_cache_enabled: bool,
    /// How long an extent stays that can change no more. Mimir's default.
    pub results_cache_ttl: Duration,
    /// How long one stays that late samples may still change. Mimir's default.
    pub results_cache_ttl_out_of_order: Duration,
    /// How long an error stays, where there is a cache for them; zero is not at all. Mimir's default.
    pub results_cache_ttl_errors: Duration,
}

impl Default for FrontendLimits {
    fn default() -> Self {
        Self {
            split_interval: Duration::from_secs(86_400),
            max_query_parallelism: 14,
            max_cache_freshness: Duration::from_secs(600),
            out_of_order_time_window: Duration::ZERO,
            total_shards: 16,
            max_sharded_queries: 128,
            results_cache_enabled: true,
            results_cache_ttl: Duration::from_secs(7 * 86_400),
            results_cache_ttl_out_of_order: Duration::from_secs(600),
            results_cache_ttl_errors: Duration::from_secs(300),
        }
    }
}

impl FrontendLimits {
    /// Shards for each of `pieces`, so that all together are no more than allowed; less than 2 is not worth it.
    pub fn shards_per_piece(&self, pieces: usize) -> u32 {
        let pieces = u32::try_from(pieces.max(1)).unwrap_or(u32::MAX);
        self.total_shards.min(self.max_sharded_queries / pieces)
    }
}

/// Milliseconds of a duration, at most what fits.
pub(super) fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
