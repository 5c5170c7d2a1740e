//! How queries are cut and remembered on their way to the querier.

use std::time::Duration;

use lgtm_core::frontend::{FrontendLimits, FrontendSettings};
use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How a [`QueryFrontend`](super::QueryFrontend) works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryFrontendSettings {
    /// Whether queries are cut, cached and queued; otherwise they go to the querier as they come.
    pub enabled: bool,
    /// Metrics queries over a range are cut at multiples of this; 0: not at all. An hour: a dashboard's panel is asked in few pieces, and of the next
    /// refresh only the newest is new.
    #[serde(with = "lgtm_core::units::duration")]
    pub metrics_split_interval: Duration,
    /// Whether pieces of metrics queries are kept.
    pub cache_results: bool,
    /// Bytes of all kept answers.
    pub results_cache_size: ByteSize,
    /// Bytes of one answer; larger ones are not kept. What memcached takes.
    pub results_cache_max_item_size: ByteSize,
    /// How long an answer stays that can change no more. A week.
    #[serde(with = "lgtm_core::units::duration")]
    pub results_cache_ttl: Duration,
    /// Answers to times younger than this are not kept, since spans may still come.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_cache_freshness: Duration,
    /// How late spans may come. Answers to times younger than this stay for `results_cache_ttl_for_late_spans` only.
    #[serde(with = "lgtm_core::units::duration")]
    pub late_spans_window: Duration,
    /// How long an answer stays that late spans may still change.
    #[serde(with = "lgtm_core::units::duration")]
    pub results_cache_ttl_for_late_spans: Duration,
    /// Queries, and pieces of them, that run at a time, over all tenants.
    pub max_concurrent: usize,
    /// Of the turns that other tenants leave, what one tenant may hold, in percent, 1 to 100; always at least one turn. 50: a tenant
    /// whose queries take minutes leaves half of the turns to others, and two such leave a quarter. 100 lets one have all.
    pub max_concurrent_percent_per_tenant: u8,
    /// Queries, and pieces of them, of a tenant that may wait for a turn; more are answered 429. Tempo's default.
    pub max_outstanding_per_tenant: usize,
    /// Pieces of one query that run at a time.
    pub max_query_parallelism: usize,
    /// Times that a query is sent before its failure is told; only what is unavailable is asked again. Tempo's default of two retries.
    pub max_retries: u32,
    /// How long a query may take from its arrival, waiting included; 0: as long as it runs. 5 minutes: nobody waits longer for a panel.
    #[serde(with = "lgtm_core::units::duration")]
    pub api_timeout: Duration,
}

impl Default for QueryFrontendSettings {
    fn default() -> Self {
        let core = FrontendSettings::default();
        Self {
            enabled: true,
            metrics_split_interval: Duration::from_secs(3600),
            cache_results: true,
            results_cache_size: ByteSize::mib(32),
            results_cache_max_item_size: ByteSize::mib(1),
            results_cache_ttl: Duration::from_secs(7 * 86_400),
            max_cache_freshness: Duration::from_secs(600),
            late_spans_window: Duration::from_secs(3600),
            results_cache_ttl_for_late_spans: Duration::from_secs(600),
            max_concurrent: core.max_concurrent,
            max_concurrent_percent_per_tenant: core.max_concurrent_percent_per_tenant,
            max_outstanding_per_tenant: 2000,
            max_query_parallelism: 8,
            max_retries: 3,
            api_timeout: Duration::from_secs(300),
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
            ("max_query_parallelism", self.max_query_parallelism),
            ("max_retries", self.max_retries as usize),
        ];
        if let Some((name, _)) = zeros.iter().find(|(_, value)| *value == 0) {
            return Err(Error::InvalidInput(format!(
                "traces query_frontend: {name} is 0, must be at least 1"
            )));
        }
        match self.max_concurrent_percent_per_tenant {
            1..=100 => Ok(()),
            percent => Err(Error::InvalidInput(format!(
                "traces query_frontend: max_concurrent_percent_per_tenant is {percent}, must be 1 to 100"
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

    pub(super) fn limits(&self) -> FrontendLimits {
        FrontendLimits {
            split_interval: self.metrics_split_interval,
            max_query_parallelism: self.max_query_parallelism,
            max_cache_freshness: self.max_cache_freshness,
            out_of_order_time_window: self.late_spans_window,
            total_shards: 0,
            results_cache_enabled: self.cache_results,
            results_cache_ttl: self.results_cache_ttl,
            results_cache_ttl_out_of_order: self.results_cache_ttl_for_late_spans,
            ..FrontendLimits::default()
        }
    }
}
