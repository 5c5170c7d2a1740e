//! The door for queries.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::{any, post};
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::Executor;
use lgtm_core::http::{Cors, RouteBounds, RouteGuard};
use lgtm_core::limits::Overrides;
use lgtm_core::model::TenantId;
use lgtm_core::telemetry::Registry;

use super::error::{ApiError, REFUSALS};
use super::params::{Params, TimeRules};
use super::settings::ApiSettings;
use super::{metrics, search, status, streaming, tag_names, tag_values, trace};
use crate::components::Federated;
use crate::components::clients::Queries;
use crate::limits::Limits;

/// Collects the parts of a [`QueryApi`].
#[derive(Debug)]
pub struct QueryApiBuilder {
    queries: Arc<dyn Queries>,
    limits: Overrides<Limits>,
    executor: Executor,
    clock: Arc<dyn Clock>,
    registry: Option<Registry>,
    settings: ApiSettings,
}

impl QueryApiBuilder {
    /// Sets the settings.
    #[must_use]
    pub fn settings(mut self, settings: ApiSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the clock: a query without times is about the last minutes.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Has `registry` tell of faults.
    #[must_use]
    pub fn metrics(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    /// `InvalidInput` for settings that make no sense.
    pub fn build(self) -> lgtm_core::Result<Arc<QueryApi>> {
        self.settings.validate()?;
        let settings = &self.settings;
        let bounds = RouteBounds {
            max_body: settings.max_query_body_size,
            max_bodies: settings.max_inflight_query_bodies_bytes,
            max_answers: settings.max_inflight_answer_bytes,
            multitenancy_enabled: settings.multitenancy_enabled,
        };
        let api = Arc::new(QueryApi {
            guard: RouteGuard::new(bounds, REFUSALS, self.executor),
            queries: Arc::new(Federated::new(self.queries)),
            limits: self.limits,
            clock: self.clock,
            settings: self.settings,
        });
        if let Some(registry) = &self.registry {
            registry.collect_from(&api, |api, e| {
                let help = "Calls of the trace query API that ran into a fault of this program.";
                let panics = api.panics() as f64;
                e.counter("lgtm_traces_query_api_panics_total", help, &[], panics);
            });
        }
        Ok(api)
    }
}

/// What the routes of queries call: somebody who answers. Which components there are behind it the door does not know.
#[derive(Debug)]
pub struct QueryApi {
    pub(super) settings: ApiSettings,
    pub(super) queries: Arc<dyn Queries>,
    limits: Overrides<Limits>,
    clock: Arc<dyn Clock>,
    pub(super) guard: Arc<RouteGuard>,
}

/// What every call begins with.
pub(super) struct Call {
    /// Several, joined, where a query names them.
    pub(super) tenant: TenantId,
    pub(super) params: Params,
    pub(super) bounds: ReadBounds,
    pub(super) now_ns: u64,
}

/// What of the limits a door looks at: of several tenants the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReadBounds {
    pub(super) max_search: Duration,
    pub(super) max_metrics: Duration,
    pub(super) max_trace_bytes: usize,
    pub(super) max_tag_bytes: usize,
    pub(super) pads_trace_ids: bool,
}

impl ReadBounds {
    fn of(limits: &Limits) -> Self {
        Self {
            max_search: limits.read.max_search_duration,
            max_metrics: limits.read.max_metrics_duration,
            max_trace_bytes: limits.max_trace_bytes(),
            max_tag_bytes: match limits.read.max_bytes_per_tag_values_query.as_usize() {
                0 => usize::MAX,
                max => max,
            },
            pads_trace_ids: limits.read.left_pad_trace_ids,
        }
    }

    fn least(self, other: Self) -> Self {
        // Zero is no limit.
        let least = |a: Duration, b: Duration| match (a.is_zero(), b.is_zero()) {
            (true, _) => b,
            (_, true) => a,
            _ => a.min(b),
        };
        Self {
            max_search: least(self.max_search, other.max_search),
            max_metrics: least(self.max_metrics, other.max_metrics),
            max_trace_bytes: self.max_trace_bytes.min(other.max_trace_bytes),
            max_tag_bytes: self.max_tag_bytes.min(other.max_tag_bytes),
            pads_trace_ids: self.pads_trace_ids || other.pads_trace_ids,
        }
    }
}

impl Default for ReadBounds {
    fn default() -> Self {
        Self::of(&Limits::default())
    }
}

impl QueryApi {
    /// Begins a builder: a door to `queries`, which prints its answers on `executor`.
    pub fn builder(
        queries: Arc<dyn Queries>,
        limits: Overrides<Limits>,
        executor: Executor,
    ) -> QueryApiBuilder {
        QueryApiBuilder {
            queries,
            limits,
            executor,
            clock: Arc::new(SystemClock::new()),
            registry: None,
            settings: ApiSettings::default(),
        }
    }

    /// Calls so far that ran into a fault of this program, but for queries, which their engine counts.
    pub fn panics(&self) -> u64 {
        self.guard.panics()
    }

    /// The tenant of a query, or several joined to one id.
    pub(super) fn tenants(&self, headers: &HeaderMap) -> Result<TenantId, ApiError> {
        let enabled = self.settings.multitenancy_enabled;
        let rules = &self.settings.queries;
        let tenant = if rules.multi_tenant_queries_enabled {
            let max = rules.max_tenants_per_query;
            lgtm_core::http::tenants(headers, enabled, max)
        } else {
            lgtm_core::http::tenant(headers, enabled)
        };
        Ok(tenant?)
    }

    pub(super) fn call(
        &self,
        query: Option<&str>,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Call, ApiError> {
        let tenant = self.tenants(headers)?;
        Ok(Call {
            bounds: self.bounds(&tenant),
            tenant,
            params: Params::read(query, headers, body)?,
            now_ns: self.now_ns(),
        })
    }

    pub(super) fn bounds(&self, tenant: &TenantId) -> ReadBounds {
        let bounds = tenant
            .parts()
            .map(|t| ReadBounds::of(&self.limits.for_tenant(&t)));
        bounds.reduce(ReadBounds::least).unwrap_or_default()
    }

    /// The limits of each tenant.
    pub(super) fn limits_of(&self, tenant: &TenantId) -> Vec<Arc<Limits>> {
        tenant.parts().map(|t| self.limits.for_tenant(&t)).collect()
    }

    pub(super) fn now_ns(&self) -> u64 {
        u64::try_from(self.clock.now_ms().to_ns().get()).unwrap_or(0)
    }

    pub(super) fn rules<'a>(&'a self, bounds: &'a ReadBounds, now_ns: u64) -> TimeRules<'a> {
        TimeRules {
            settings: &self.settings.queries,
            bounds,
            now_ns,
        }
    }

    /// The routes: below `/api`, below the prefix of the settings too, and the calls of `tempopb.StreamingQuerier`.
    pub fn router(self: &Arc<Self>) -> Router {
        let reads = reads();
        let prefix = self.settings.queries.http_api_prefix.as_str();
        let reads = if prefix.is_empty() {
            reads
        } else {
            reads.clone().nest(prefix, reads)
        };
        let reads = Cors::new(&self.settings.cors_origins).around(self.guard.around(reads));
        // What is streamed is compressed by message.
        let streams = self.guard.around_upgrades(streams());
        reads.merge(streams).with_state(Arc::clone(self))
    }
}

fn reads() -> Router<Arc<QueryApi>> {
    Router::new()
        .route("/api/echo", any(status::echo))
        .route("/api/status/buildinfo", any(status::build_info))
        .route("/api/traces/{id}", any(trace::v1))
        .route("/api/v2/traces/diff", post(status::trace_diff))
        .route("/api/v2/traces/{id}", any(trace::v2))
        .route("/api/search", any(search::search))
        .route("/api/search/tags", any(tag_names::v1))
        .route("/api/v2/search/tags", any(tag_names::v2))
        .route("/api/search/tag/{*tag}", any(tag_values::v1))
        .route("/api/v2/search/tag/{*tag}", any(tag_values::v2))
        .route("/api/metrics/query_range", any(metrics::range))
        .route("/api/metrics/query", any(metrics::instant))
        .route("/api/overrides", any(status::switched_off))
        .route("/api/mcp", any(status::switched_off))
}

fn streams() -> Router<Arc<QueryApi>> {
    let method = |name: &str| format!("/tempopb.StreamingQuerier/{name}");
    Router::new()
        .route(&method("Search"), post(streaming::search))
        .route(&method("SearchTags"), post(streaming::tags))
        .route(&method("SearchTagsV2"), post(streaming::tags_v2))
        .route(&method("SearchTagValues"), post(streaming::values))
        .route(&method("SearchTagValuesV2"), post(streaming::values_v2))
        .route(&method("MetricsQueryRange"), post(streaming::range))
        .route(&method("MetricsQueryInstant"), post(streaming::instant))
}
