//! How the doors take requests.

use lgtm_core::Result;
use lgtm_core::http::Cors;
use lgtm_core::units::ByteSize;
use serde::{Deserialize, Serialize};

/// How requests are taken. What pushes may take stands in the
/// [`DistributorSettings`](crate::components::DistributorSettings).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiSettings {
    /// Whether the tenant comes from the header `X-Scope-OrgID`; otherwise all is tenant `anonymous`.
    pub multitenancy_enabled: bool,
    /// Bytes of the body of a query or another request that stores nothing. Default 2MiB: many times the longest query that is parsed, since
    /// a form spells some bytes in three.
    pub max_query_body_size: ByteSize,
    /// Bytes of all such bodies at a time; beyond, requests are answered 503. Default 128MiB: 64 of the largest, thousands of those that
    /// are sent. 0: no bound.
    pub max_inflight_query_bodies_bytes: ByteSize,
    /// Bytes of answers above 256 KiB that are held whole and not yet read by their clients; beyond, the next such answer is a 503.
    /// Default 1GiB: hundreds of the largest that dashboards ask for. 0: no bound.
    pub max_inflight_answer_bytes: ByteSize,
    /// Whether the header `X-Loki-Query-Limits` of a request may tighten the limits of its tenant. Off (default), as in Loki.
    pub per_request_limits_enabled: bool,
    /// Whether a query may name several tenants, as `a|b`. Off (default), as in Loki.
    pub multi_tenant_queries_enabled: bool,
    /// Tenants that one query may name. Default 16: each is read ahead of by itself, so that memory goes by their number. 0: no bound.
    pub max_tenants_per_query: usize,
    /// Origins such as `https://ui.example:8443` whose pages may read the answers of the query API; `*`: any. Default: none, since the server
    /// has no login, and whoever may ask it from a page may ask all of it.
    pub cors_origins: Vec<String>,
}

impl ApiSettings {
    /// Checks all values.
    ///
    /// # Errors
    /// `InvalidInput` for an origin that can never match.
    pub fn validate(&self) -> Result<()> {
        Cors::validate(&self.cors_origins)
    }
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            multitenancy_enabled: false,
            max_query_body_size: ByteSize::mib(2),
            max_inflight_query_bodies_bytes: ByteSize::mib(128),
            max_inflight_answer_bytes: ByteSize::mib(1024),
            per_request_limits_enabled: false,
            multi_tenant_queries_enabled: false,
            max_tenants_per_query: 16,
            cors_origins: Vec::new(),
        }
    }
}
