//! How queries are cut and remembered on their way to the engine.

use std::time::Duration;

use lgtm_core::frontend::{FrontendLimits, FrontendSettings};
use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::limits::Limits;

/// How a [`QueryFrontend`](super::QueryFrontend) works. Names are Mimir's where it has the setting; what it may do for a tenant
/// stands in [`Limits`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryFrontendSettings {
    /// Whether queries are cut, cached and queued; otherwise they go to the engine as they come.
    pub enabled: bool,
    /// Range queries are cut at multiples of this; 0: not at all. Mimir's default, so that a dashboard of a week is cached by days.
    #[serde(with = "lgtm_core::units::duration")]
    pub split_queries_by_interval: Duration,
    /// Ranges of instant queries that are longer are cut at this, where a function can be; 0 (default, as in Mimir): not at all.
    #[serde(with = "lgtm_core::units::duration")]
    pub split_instant_queries_by_interval: Duration,
    /// Whether start and end of range queries move down to multiples of the step: more hits in the cache, but answers at other times
    /// than asked for. Off, as in Prometheus.
    pub align_queries_with_step: bool,
    /// Whether answers to range queries are kept. On: it costs a query one encoding of its answer, which is bounded by
    /// `results_cache_max_item_size`. Samples that come later than `max_cache_freshness` and the out-of-order window allow for show
    /// when the entry has expired.
    pub cache_results: bool,
    /// Bytes of all kept answers.
    pub results_cache_size: ByteSize,
    /// Bytes of one answer; larger ones are not kept. What memcached takes.
    pub results_cache_max_item_size: ByteSize,
    /// Whether a query that fails for good (more than a limit allows, an error on its data) fails again at once when it is repeated with
    /// the same times within the tenant's `results_cache_ttl_for_errors`, from the same memory as answers. Off: whoever raises a limit
    /// expects it to hold at once.
    pub cache_errors: bool,
    /// Whether requests are cached whose start and end are no multiples of the step. On, other than in Mimir: `now` rarely is one,
    /// and each phase has a key of its own.
    pub cache_unaligned_requests: bool,
    /// Whether aggregations are cut by series into the tenant's `query_sharding_total_shards` parts. Off, as in Mimir, and for one process rightly
    /// so: its engine already computes batches of one query on several cores, and each shard has to look at the labels of all series
    /// again. It pays where the parts run in several queriers.
    pub parallelize_shardable_queries: bool,
    /// Parts of queries that run at a time, over all tenants. Mimir's `querier.max-concurrent`.
    pub max_concurrent: usize,
    /// Of the turns that other tenants leave, what one tenant may hold, in percent, 1 to 100; always at least one turn. 50: a tenant
    /// whose queries take minutes leaves half of the turns to others, and two such leave a quarter. 100 lets one have all.
    pub max_concurrent_percent_per_tenant: u8,
    /// Parts of a tenant's queries that may wait for a turn; more are answered 429. Mimir's default.
    pub max_outstanding_requests_per_tenant: usize,
    /// Times that a part is sent before its failure is the query's; only what is unavailable is asked again. Mimir's default.
    pub max_retries: u32,
}

impl Default for QueryFrontendSettings {
    fn default() -> Self {
        let core = FrontendSettings::default();
        Self {
            enabled: true,
            split_queries_by_interval: Duration::from_secs(86_400),
            split_instant_queries_by_interval: Duration::ZERO,
            align_queries_with_step: false,
            cache_results: true,
            results_cache_size: ByteSize::mib(64),
            results_cache_max_item_size: ByteSize::mib(1),
            cache_errors: false,
            cache_unaligned_requests: true,
            parallelize_shardable_queries: false,
            max_concurrent: core.max_concurrent,
            max_concurrent_percent_per_tenant: core.max_concurrent_percent_per_tenant,
            max_outstanding_requests_per_tenant: core.max_outstanding_requests_per_tenant,
            max_retries: core.max_attempts,
        }
    }
}

impl QueryFrontendSettings {
    /// Checks that something can run at all, and that lengths of time fit what they are for.
    ///
    /// # Errors
    /// `InvalidInput`, naming the setting.
    pub fn validate(&self) -> Result<()> {
        let zeros = [
            ("max_concurrent", self.max_concurrent),
            (
                "max_outstanding_requests_per_tenant",
                self.max_outstanding_requests_per_tenant,
            ),
            ("max_retries", self.max_retries as usize),
        ];
        if let Some((name, _)) = zeros.iter().find(|(_, value)| *value == 0) {
            return Err(Error::InvalidInput(format!(
                "query_frontend: {name} is 0, must be at least 1"
            )));
        }
        match self.max_concurrent_percent_per_tenant {
            1..=100 => Ok(()),
            percent => Err(Error::InvalidInput(format!(
                "query_frontend: max_concurrent_percent_per_tenant is {percent}, must be 1 to 100"
            ))),
        }
    }

    pub(super) fn core(&self) -> FrontendSettings {
        FrontendSettings {
            max_concurrent: self.max_concurrent,
            max_concurrent_percent_per_tenant: self.max_concurrent_percent_per_tenant,
            max_outstanding_requests_per_tenant: self.max_outstanding_requests_per_tenant,
            max_attempts: self.max_retries,
            align_queries_with_step: self.align_queries_with_step,
            cache_unaligned_requests: self.cache_unaligned_requests,
            ..FrontendSettings::default()
        }
    }

    /// What a query of a tenant may do.
    pub(super) fn limits(&self, limits: &Limits, no_cache: bool) -> FrontendLimits {
        FrontendLimits {
            split_interval: self.split_queries_by_interval,
            max_query_parallelism: limits.max_query_parallelism,
            max_cache_freshness: limits.max_cache_freshness,
            out_of_order_time_window: limits.out_of_order_time_window,
            total_shards: if self.parallelize_shardable_queries {
                limits.query_sharding_total_shards
            } else {
                0
            },
            max_sharded_queries: limits.query_sharding_max_sharded_queries,
            results_cache_enabled: !no_cache,
            results_cache_ttl: limits.results_cache_ttl,
            results_cache_ttl_out_of_order: limits.results_cache_ttl_for_out_of_order_time_window,
            results_cache_ttl_errors: limits.results_cache_ttl_for_errors,
        }
    }
}
