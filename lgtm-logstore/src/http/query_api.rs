//! The door for queries.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::http::HeaderMap;
use axum::routing::{MethodRouter, get, post};
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::{Executor, TaskGroup};
use lgtm_core::http::{Cors, RouteGuard};
use lgtm_core::limits::Overrides;
use lgtm_core::model::{TenantId, TimestampNs};
use lgtm_core::telemetry::Registry;

use super::error::ApiError;
use super::settings::ApiSettings;
use super::tenant::{tenant, tenants};
use super::{
    body, deletes, detected, format, labels, legacy, limits, patterns, query, rules, status, tail,
    volume,
};
use crate::components::DeleteRequests;
use crate::components::clients::Queries;
use crate::limits::Limits;
use crate::logql::ParserSettings;

/// Collects the parts of a [`QueryApi`].
#[derive(Debug)]
pub struct QueryApiBuilder {
    queries: Arc<dyn Queries>,
    limits: Overrides<Limits>,
    executor: Executor,
    clock: Arc<dyn Clock>,
    parser: ParserSettings,
    deletes: Option<Arc<DeleteRequests>>,
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

    /// Sets the clock: a query without times is about the last hour.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how queries are parsed: as the engine behind the door does.
    #[must_use]
    pub fn parser(mut self, parser: ParserSettings) -> Self {
        self.parser = parser;
        self
    }

    /// Sets what tenants want deleted: without it there is no such call.
    #[must_use]
    pub fn deletes(mut self, deletes: Arc<DeleteRequests>) -> Self {
        self.deletes = Some(deletes);
        self
    }

    /// Has `registry` tell of faults, and who follows.
    #[must_use]
    pub fn metrics(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    /// `InvalidInput` for an origin that can never match.
    pub fn build(self) -> lgtm_core::Result<Arc<QueryApi>> {
        self.settings.validate()?;
        let tails = self.executor.task_group();
        let api = Arc::new(QueryApi {
            guard: RouteGuard::new(body::bounds(&self.settings), body::REFUSALS, self.executor),
            tails,
            settings: self.settings,
            queries: self.queries,
            limits: self.limits,
            clock: self.clock,
            parser: self.parser,
            deletes: self.deletes,
        });
        if let Some(registry) = &self.registry {
            registry.collect_from(&api, |api, e| {
                let help = "Calls of the log query API that ran into a fault of this program.";
                let panics = api.panics() as f64;
                e.counter("lgtm_logs_query_api_panics_total", help, &[], panics);
                let help = "Clients that follow queries.";
                e.gauge(
                    "loki_querier_tail_active",
                    help,
                    &[],
                    api.tails.len() as f64,
                );
            });
        }
        Ok(api)
    }
}

/// What the routes of queries call: somebody who answers. Which components there are behind it the door does not know.
///
/// Whoever follows a query is let go when the door is dropped.
#[derive(Debug)]
pub struct QueryApi {
    pub(super) settings: ApiSettings,
    pub(super) queries: Arc<dyn Queries>,
    pub(super) limits: Overrides<Limits>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) parser: ParserSettings,
    pub(super) deletes: Option<Arc<DeleteRequests>>,
    guard: Arc<RouteGuard>,
    pub(super) tails: TaskGroup,
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
            parser: ParserSettings::default(),
            deletes: None,
            registry: None,
            settings: ApiSettings::default(),
        }
    }

    /// Calls so far that ran into a fault of this program, but for queries, which their engine counts.
    pub fn panics(&self) -> u64 {
        self.guard.panics()
    }

    /// The tenant of a request that is about one.
    pub(super) fn tenant(&self, headers: &HeaderMap) -> Result<TenantId, ApiError> {
        tenant(headers, self.settings.multitenancy_enabled)
    }

    /// The tenant of a query, or several joined to one id.
    pub(super) fn tenants(&self, headers: &HeaderMap) -> Result<TenantId, ApiError> {
        tenants(headers, &self.settings)
    }

    pub(super) fn now_ns(&self) -> TimestampNs {
        self.clock.now_ms().to_ns()
    }

    /// Where the work of a request is computed: in the line of its tenant.
    pub(super) fn executor(&self, headers: &HeaderMap) -> Executor {
        self.guard.executor(headers)
    }

    /// The routes, below `/loki/api/v1` and `/api/prom`, and `/config/tenant/v1/limits`.
    pub fn router(self: &Arc<Self>) -> Router {
        let reads = Router::new()
            .nest("/loki/api/v1", reads())
            .nest("/api/prom", older_reads())
            .route("/config/tenant/v1/limits", get(limits::of_tenant));
        let reads = self.guard.around(reads);
        let reads = Cors::new(&self.settings.cors_origins).around(reads);
        // A connection that goes on as something else has no answer to be held or compressed.
        let tails = Router::new()
            .route("/loki/api/v1/tail", get(tail::tail))
            .route("/api/prom/tail", get(tail::tail));
        let tails = self.guard.around_upgrades(tails);
        // Pages of other sites may be let read, never delete.
        let deletes = get(deletes::list)
            .post(deletes::add)
            .put(deletes::add)
            .delete(deletes::cancel);
        let generation = "/loki/api/v1/cache/generation_numbers";
        let increase = post(deletes::increase_generation);
        let deletes = Router::new()
            .route("/loki/api/v1/delete", deletes)
            .route(generation, get(deletes::generation))
            .route(&format!("{generation}/increase"), increase);
        let deletes = self.guard.around(deletes);
        reads
            .merge(tails)
            .merge(deletes)
            .with_state(Arc::clone(self))
    }

    /// The rules that are evaluated and their alerts, at `/prometheus/api/v1/rules` and `/prometheus/api/v1/alerts`: none. For servers that have no
    /// metrics store, whose paths these are too.
    pub fn rules_router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/prometheus/api/v1/rules", get(rules::evaluated))
            .route("/prometheus/api/v1/alerts", get(rules::alerts))
            .with_state(Arc::clone(self))
    }
}

/// A handler for GET, and for POST with a form.
fn form<H, T>(handler: H) -> MethodRouter<Arc<QueryApi>>
where
    H: Handler<T, Arc<QueryApi>> + Clone,
    T: 'static,
{
    get(handler.clone()).post(handler)
}

/// What is served below `/loki/api/v1`.
fn reads() -> Router<Arc<QueryApi>> {
    let index = Router::new()
        .route("/stats", form(volume::stats))
        .route("/shards", form(volume::shards))
        .route("/volume", form(volume::instant))
        .route("/volume_range", form(volume::range));
    Router::new()
        .route("/query", form(query::instant))
        .route("/query_range", form(query::range))
        .route("/labels", form(labels::label_names))
        .route("/label", form(labels::label_names))
        .route("/label/{name}/values", form(labels::label_values))
        .route("/series", form(labels::series))
        .route("/patterns", form(patterns::patterns))
        .route("/detected_labels", form(detected::labels))
        .route("/detected_fields", form(detected::fields))
        .route("/detected_field/{name}/values", form(detected::values))
        .route("/format_query", form(format::format_query))
        .route("/drilldown-limits", form(limits::drilldown))
        .route("/status/buildinfo", get(status::build_info))
        .nest("/index", index)
        .merge(rules())
}

/// What is served below `/api/prom`.
fn older_reads() -> Router<Arc<QueryApi>> {
    Router::new()
        .route("/query", form(legacy::query))
        .route("/label", form(labels::older_label_names))
        .route("/label/{name}/values", form(labels::older_label_values))
        .route("/series", form(labels::series))
        .merge(rules())
}

fn rules() -> Router<Arc<QueryApi>> {
    Router::new()
        .route("/rules", get(rules::all))
        .route("/rules/{namespace}", get(rules::of_namespace))
        .route("/rules/{namespace}/{group}", get(rules::of_group))
}
