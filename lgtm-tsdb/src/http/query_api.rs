//! The door for queries.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::http::HeaderMap;
use axum::routing::{MethodRouter, get, post};
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::Executor;
use lgtm_core::http::{Cors, RouteGuard};
use lgtm_core::limits::Overrides;
use lgtm_core::model::TenantId;
use lgtm_core::telemetry::Registry;

use super::error::ApiError;
use super::settings::ApiSettings;
use super::tenant::tenant;
use super::{
    body, cardinality, exemplars, labels, metadata, parse, query, read, rules, status, user,
};
use crate::components::clients::Queries;
use crate::limits::Limits;
use crate::promql::ParserOptions;

/// Collects the parts of a [`QueryApi`].
#[derive(Debug)]
pub struct QueryApiBuilder {
    queries: Arc<dyn Queries>,
    limits: Overrides<Limits>,
    executor: Executor,
    clock: Arc<dyn Clock>,
    parser: ParserOptions,
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

    /// Sets the clock: a query without a time is about now.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how queries are parsed: as the engine behind the door does.
    #[must_use]
    pub fn parser(mut self, parser: ParserOptions) -> Self {
        self.parser = parser;
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
    /// `InvalidInput` for an origin that can never match.
    pub fn build(self) -> lgtm_core::Result<Arc<QueryApi>> {
        self.settings.validate()?;
        let api = Arc::new(QueryApi {
            guard: RouteGuard::new(body::bounds(&self.settings), body::REFUSALS, self.executor),
            settings: self.settings,
            queries: self.queries,
            limits: self.limits,
            clock: self.clock,
            parser: self.parser,
        });
        if let Some(registry) = &self.registry {
            registry.collect_from(&api, |api, e| {
                let help = "Calls of the query API that ran into a fault of this program.";
                e.counter(
                    "lgtm_query_api_panics_total",
                    help,
                    &[],
                    api.panics() as f64,
                );
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
    pub(super) limits: Overrides<Limits>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) parser: ParserOptions,
    guard: Arc<RouteGuard>,
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
            parser: ParserOptions::default(),
            registry: None,
            settings: ApiSettings::default(),
        }
    }

    /// Calls so far that ran into a fault of this program, but for queries, which their engine counts.
    pub fn panics(&self) -> u64 {
        self.guard.panics()
    }

    pub(super) fn tenant(&self, headers: &HeaderMap) -> Result<TenantId, ApiError> {
        tenant(headers, self.settings.multitenancy_enabled)
    }

    /// Where the work of a request is computed: in the line of its tenant.
    pub(super) fn executor(&self, headers: &HeaderMap) -> Executor {
        self.guard.executor(headers)
    }

    /// The routes, below `/prometheus/api/v1` and `/api/v1`.
    pub fn router(self: &Arc<Self>) -> Router {
        let reads = self.guard.around(reads());
        let reads = Cors::new(&self.settings.cors_origins).around(reads);
        let user = Router::new()
            .route("/user_stats", get(user::stats))
            .route("/user_limits", get(user::limits));
        Router::new()
            .nest("/prometheus/api/v1", reads.clone())
            .nest("/api/v1", reads.merge(user))
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

/// What is served below each prefix.
fn reads() -> Router<Arc<QueryApi>> {
    let queries = Router::new()
        .route("/query", form(query::instant))
        .route("/query_range", form(query::range))
        .route("/query_exemplars", form(exemplars::exemplars))
        .route("/format_query", form(parse::format_query))
        .route("/parse_query", form(parse::parse_query))
        .route("/series", form(labels::series))
        .route("/labels", form(labels::label_names))
        .route("/label/{name}/values", form(labels::label_values))
        .route("/metadata", get(metadata::metadata))
        .route("/read", post(read::read));
    let cardinality = Router::new()
        .route("/label_names", form(cardinality::label_names))
        .route("/label_values", form(cardinality::label_values))
        .route("/active_series", form(cardinality::active_series))
        .route(
            "/active_native_histogram_metrics",
            form(cardinality::active_native_histogram_metrics),
        );
    let status = Router::new()
        .route("/buildinfo", get(status::build_info))
        .route("/tsdb", get(status::tsdb))
        .route("/config", get(status::nothing))
        .route("/flags", get(status::nothing))
        .route("/runtimeinfo", get(status::nothing));
    queries
        .nest("/cardinality", cardinality)
        .nest("/status", status)
        .route("/rules", get(rules::rules))
        .route("/alerts", get(rules::alerts))
        .route("/targets", get(status::targets))
        .route("/alertmanagers", get(status::alertmanagers))
}
