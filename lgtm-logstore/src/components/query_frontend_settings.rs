//! How queries are cut and remembered on their way to the engine.

use std::time::Duration;

use lgtm_core::frontend::{FrontendLimits, FrontendSettings};
use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::limits::Limits;

/// How a [`QueryFrontend`](super::QueryFrontend) works. Names are Loki's where it has the setting; what it may do for a tenant stands in
/// [`Limits`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryFrontendSettings {
    /// Whether queries are cut, cached and queued; otherwise they go to the engine as they come. Steps of metric queries are moved to
    /// multiples of the step either way, where the tenant's `split_queries_by_interval` is not 0.
    pub enabled: bool,
    /// Ranges of instant queries that are longer are cut at this, where it changes nothing; 0: not at all. Loki's default, so that a table
    /// over a month keeps several queriers busy and none for long.
    #[serde(with = "lgtm_core::units::duration")]
    pub split_instant_metric_queries_by_interval: Duration,
    /// Whether answers to metric queries are kept, and ranges in which a log query found nothing. On: it costs a query one encoding of its
    /// answer, which is bounded by `results_cache_max_item_size`.
    pub cache_results: bool,
    /// Bytes of all kept answers.
    pub results_cache_size: ByteSize,
    /// Bytes of one answer; larger ones are not kept. What memcached takes.
    pub results_cache_max_item_size: ByteSize,
    /// How long an answer stays that can change no more. A week, as in Loki's examples.
    #[serde(with = "lgtm_core::units::duration")]
    pub results_cache_ttl: Duration,
    /// How late entries may come. Answers to times younger than this stay for `results_cache_ttl_for_late_entries` only. An hour: half the age
    /// of a chunk, the window in which the ingesters take them.
    #[serde(with = "lgtm_core::units::duration")]
    pub late_entries_window: Duration,
    /// How long an answer stays that late entries may still change. 10 minutes: a dashboard that is left open shows them soon.
    #[serde(with = "lgtm_core::units::duration")]
    pub results_cache_ttl_for_late_entries: Duration,
    /// Whether a query that fails for good (more than a limit allows, an error of its pipeline) fails again at once when it is repeated with
    /// the same times within five minutes, from the same memory as answers. Off: whoever raises a limit expects it to hold at once.
    pub cache_errors: bool,
    /// Whether metric queries are cut by series into `tsdb_shards` parts, where their answers can be joined without loss. Off, other than in
    /// Loki, and for one process rightly so: its engine already computes batches of one query on several cores. It pays where the
    /// parts run in several queriers.
    pub parallelize_shardable_queries: bool,
    /// Parts that such a query is cut into. 16 keep some queriers busy.
    pub tsdb_shards: u32,
    /// Parts of queries that run at a time, over all tenants, and of one query. Loki's parallelism of 128 is that of a cluster.
    pub max_concurrent: usize,
    /// Of the turns that other tenants leave, what one tenant may hold, in percent, 1 to 100; always at least one turn. 50: a tenant
    /// whose queries take minutes leaves half of the turns to others, and two such leave a quarter. 100 lets one have all.
    pub max_concurrent_percent_per_tenant: u8,
    /// Parts of a tenant's queries that may wait for a turn; more are answered 429. Loki's default: a dashboard of a hundred panels fits.
    pub max_outstanding_per_tenant: usize,
    /// Times that a part is sent before its failure is the query's; only what is unavailable is asked again. Loki's default.
    pub max_retries: u32,
}

impl Default for QueryFrontendSettings {
    fn default() -> Self {
        let core = FrontendSettings::default();
        Self {
            enabled: true,
            split_instant_metric_queries_by_interval: Duration::from_secs(3600),
            cache_results: true,
            results_cache_size: ByteSize::mib(64),
            results_cache_max_item_size: ByteSize::mib(1),
            results_cache_ttl: Duration::from_secs(7 * 86_400),
            late_entries_window: Duration::from_secs(3600),
            results_cache_ttl_for_late_entries: Duration::from_secs(600),
            cache_errors: false,
            parallelize_shardable_queries: false,
            tsdb_shards: 16,
            max_concurrent: core.max_concurrent,
            max_concurrent_percent_per_tenant: core.max_concurrent_percent_per_tenant,
            max_outstanding_per_tenant: 2048,
            max_retries: core.max_attempts,
        }
    }
}

impl QueryFrontendSettings {
    /// Checks that something can run at all.
    ///
    /// # Errors
    /// `InvalidInput`, naming the setting.
    pub fn validate(&self) -> Result<()> {
        let zeros = [
            ("max_concurrent", self.max_concurrent),
            (
                "max_outstanding_per_tenant",
                self.max_outstanding_per_tenant,
            ),
            ("max_retries", self.max_retries as usize),
        ];
        if let Some((name, _)) = zeros.iter().find(|(_, value)| *value == 0) {
            return Err(Error::InvalidInput(format!(
                "logs query_frontend: {name} is 0, must be at least 1"
            )));
        }
        match self.max_concurrent_percent_per_tenant {
            1..=100 => Ok(()),
            percent => Err(Error::InvalidInput(format!(
                "logs query_frontend: max_concurrent_percent_per_tenant is {percent}, must be 1 to 100"
            ))),
        }
    }

    pub(super) fn core(&self) -> FrontendSettings {
        FrontendSettings {
            max_concurrent: self.max_concurrent,
            max_concurrent_percent_per_tenant: self.max_concurrent_percent_per_tenant,
            max_outstanding_requests_per_tenant: self.max_outstanding_per_tenant,
            max_attempts: self.max_retries,
            align_queries_with_step: false,
            cache_unaligned_requests: true,
            ..FrontendSettings::default()
        }
    }

    /// What a query of a tenant may do. No piece of it is shorter than `longest_range`, the longest range of time that one of its steps
    /// looks at, since pieces would read the same entries again.
    pub(super) fn limits(
        &self,
        limits: &Limits,
        no_cache: bool,
        longest_range: Duration,
    ) -> FrontendLimits {
        let defaults = FrontendLimits::default();
        let parallelism = limits.tsdb_max_query_parallelism.min(self.max_concurrent);
        FrontendLimits {
            split_interval: match limits.split_queries_by_interval {
                Duration::ZERO => Duration::ZERO,
                interval => interval.max(longest_range),
            },
            max_query_parallelism: parallelism,
            max_cache_freshness: limits.max_cache_freshness_per_query,
            out_of_order_time_window: self.late_entries_window,
            total_shards: if self.parallelize_shardable_queries {
                self.tsdb_shards
            } else {
                0
            },
            max_sharded_queries: defaults.max_sharded_queries.max(self.tsdb_shards),
            results_cache_enabled: !no_cache,
            results_cache_ttl: self.results_cache_ttl,
            results_cache_ttl_out_of_order: self.results_cache_ttl_for_late_entries,
            results_cache_ttl_errors: defaults.results_cache_ttl_errors,
        }
    }
}
