//! How the doors take requests.

use std::time::Duration;

use lgtm_core::http::Cors;
use lgtm_core::units::{ByteSize, duration};
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How requests are taken. What pushes may take stands in the settings of the distributor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiSettings {
    /// Whether the tenant comes from the header `X-Scope-OrgID`; otherwise all is tenant `anonymous`.
    pub multitenancy_enabled: bool,
    /// Bytes of the body of a query. Default 2MiB: many times the longest query that is parsed.
    pub max_query_body_size: ByteSize,
    /// Bytes of all such bodies at a time; beyond, requests are answered 503. Default 128MiB. 0: no bound.
    pub max_inflight_query_bodies_bytes: ByteSize,
    /// Bytes of answers above 256 KiB that are held whole and not yet read by their clients; beyond, the next such answer is a 503.
    /// Default 1GiB: hundreds of the largest traces. 0: no bound.
    pub max_inflight_answer_bytes: ByteSize,
    /// Origins such as `https://ui.example:8443` whose pages may read answers and send spans; `*`: any. Default: none, since the server has no
    /// login, and whoever may ask it from a page may ask all of it.
    pub cors_origins: Vec<String>,
    /// How queries are read, and how much may come of one.
    pub queries: QueryRules,
}

/// How queries are read, and how much may come of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryRules {
    /// Whether a query may name several tenants, as `a|b`. On (default), as in Tempo.
    pub multi_tenant_queries_enabled: bool,
    /// Tenants that one query may name. Default 16: each is asked by itself, so that memory goes by their number. 0: no bound.
    pub max_tenants_per_query: usize,
    /// A path under which the whole query API is served too, such as `/tempo`; empty: none. Default `/tempo`, as several signals share one port.
    pub http_api_prefix: String,
    /// How far back a search begins that does not say. Tempo's default.
    #[serde(with = "duration")]
    pub query_backend_after: Duration,
    /// What is newer than this is left out of searches, tags and metrics, so that they do not change from call to call. 0 (default): nothing; what was
    /// pushed can be found. Tempo has 30s.
    #[serde(with = "duration")]
    pub query_end_cutoff: Duration,
    /// Traces that a search gives that does not say how many. Tempo's default.
    pub default_result_limit: usize,
    /// The most that one may ask for. Tempo's default.
    pub max_result_limit: usize,
    /// Spans that are told of each set that a search finds, where it does not say how many. Tempo's default.
    pub default_spans_per_span_set: usize,
    /// The most that one may ask for. Tempo's default.
    pub max_spans_per_span_set: usize,
    /// Bytes that the traces of a search may take in memory, about; beyond, it is refused. Default 64MiB.
    pub max_search_answer_bytes: ByteSize,
    /// Intervals of a metrics query. Tempo's default.
    pub max_intervals: u64,
    /// Series that a metrics query tells; beyond, the answer is a part and says so. 0 (default, as in Tempo): all.
    pub max_response_series: usize,
    /// Bytes that the series of a metrics query may take while spans are gathered, about; beyond, it is refused. Default 256MiB.
    pub max_metrics_bytes: ByteSize,
    /// Bytes of one message of a streamed answer. Tempo's default: a quarter of what clients take.
    pub max_grpc_streaming_packet_size: ByteSize,
    /// How often a streamed answer tells what is new. Tempo's default.
    #[serde(with = "duration")]
    pub streaming_interval: Duration,
}

impl ApiSettings {
    /// Checks all values.
    ///
    /// # Errors
    /// `InvalidInput` naming every fault.
    pub fn validate(&self) -> Result<()> {
        Cors::validate(&self.cors_origins)?;
        self.queries.validate()
    }
}

impl QueryRules {
    /// Checks all values.
    ///
    /// # Errors
    /// `InvalidInput` naming every fault.
    pub fn validate(&self) -> Result<()> {
        let prefix = self.http_api_prefix.as_str();
        let is_path = prefix.is_empty()
            || prefix.len() > 1
                && prefix.starts_with('/')
                && !prefix.ends_with('/')
                && !prefix.contains(['{', '}', '*', '?', '#', '%', ' ']);
        let checks = [
            (is_path, "http_api_prefix is not like /tempo"),
            (
                self.query_end_cutoff <= self.query_backend_after,
                "query_end_cutoff must be at most query_backend_after",
            ),
            (
                !self.query_backend_after.is_zero(),
                "query_backend_after must be above 0",
            ),
            (
                (1..=self.max_result_limit).contains(&self.default_result_limit),
                "default_result_limit must be 1 to max_result_limit",
            ),
            (
                (1..=self.max_spans_per_span_set).contains(&self.default_spans_per_span_set),
                "default_spans_per_span_set must be 1 to max_spans_per_span_set",
            ),
            (
                (1..=1 << 20).contains(&self.max_intervals),
                "max_intervals must be 1 to 1048576",
            ),
            (
                (1 << 10..=1 << 30).contains(&self.max_grpc_streaming_packet_size.as_u64()),
                "max_grpc_streaming_packet_size must be 1KiB to 1GiB",
            ),
            (
                self.streaming_interval >= Duration::from_millis(10),
                "streaming_interval must be at least 10ms",
            ),
        ];
        let broken = checks.iter().filter(|(ok, _)| !ok);
        let broken: Vec<_> = broken.map(|(_, why)| *why).collect();
        if broken.is_empty() {
            Ok(())
        } else {
            Err(Error::InvalidInput(broken.join("; ")))
        }
    }
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            multitenancy_enabled: false,
            max_query_body_size: ByteSize::mib(2),
            max_inflight_query_bodies_bytes: ByteSize::mib(128),
            max_inflight_answer_bytes: ByteSize::mib(1024),
            cors_origins: Vec::new(),
            queries: QueryRules::default(),
        }
    }
}

impl Default for QueryRules {
    fn default() -> Self {
        Self {
            multi_tenant_queries_enabled: true,
            max_tenants_per_query: 16,
            http_api_prefix: "/tempo".into(),
            query_backend_after: Duration::from_secs(15 * 60),
            query_end_cutoff: Duration::ZERO,
            default_result_limit: 20,
            max_result_limit: 262_144,
            default_spans_per_span_set: 3,
            max_spans_per_span_set: 100,
            max_search_answer_bytes: ByteSize::mib(64),
            max_intervals: 10_000,
            max_response_series: 0,
            max_metrics_bytes: ByteSize::mib(256),
            max_grpc_streaming_packet_size: ByteSize::mib(1),
            streaming_interval: Duration::from_millis(500),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_every_fault_is_named() {
        ApiSettings::default().validate().unwrap();
        let bad = QueryRules {
            http_api_prefix: "tempo/".into(),
            query_end_cutoff: Duration::from_secs(3600),
            default_result_limit: 0,
            max_intervals: 0,
            ..QueryRules::default()
        };
        let text = bad.validate().unwrap_err().to_string();
        for name in [
            "http_api_prefix",
            "query_end_cutoff",
            "default_result_limit",
            "max_intervals",
        ] {
            assert!(text.contains(name), "{text}");
        }
        let none = QueryRules {
            http_api_prefix: String::new(),
            ..QueryRules::default()
        };
        none.validate().unwrap();
    }
}
