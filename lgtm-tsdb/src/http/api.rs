//! The routes of the metrics store.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::HeaderMap;
use axum::routing::{MethodRouter, get, post};
use lgtm_core::Result;
use lgtm_core::clock::Clock;
use lgtm_core::exec::Executor;
use lgtm_core::http::{Cors, Inflight};
use lgtm_core::limits::Overrides;
use lgtm_core::telemetry::Registry;
use lgtm_core::units::ByteSize;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::tenant::tenant;
use super::{
    body, cardinality, compress, exemplars, fault, labels, metadata, movable, otlp, parse, push,
    query, read, rules, status, user,
};
use crate::components::{Distributor, Ingester, QueryFrontend};
use crate::limits::Limits;
use crate::promql::ParserOptions;
use crate::select::Select;
use crate::wire::WriteBatch;

/// How requests are taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiSettings {
    /// Whether the tenant comes from the header `X-Scope-OrgID`; otherwise all is tenant `anonymous`.
    pub multitenancy_enabled: bool,
    /// Bytes of a push request, compressed and decompressed. Mimir's default.
    pub max_recv_msg_size: ByteSize,
    /// Pushes at a time; further ones are answered 503. Mimir's default; 0: no bound.
    pub max_inflight_push_requests: u64,
    /// Bytes that one push may take in memory when it is decoded: the decompressed body and the series, samples and texts made of it.
    /// Room for the largest body with its samples beside it, and a quarter of all pushes' bytes; what is repeated beyond that (a symbol
    /// that thousands of series refer to, attributes in each bucket of a histogram) is refused. 0: 2 GiB, which places in a batch reach.
    pub max_decoded_bytes: ByteSize,
    /// Bytes of all pushes at a time: compressed, decompressed, and what they become when they are decoded. Some hundred times what is
    /// under way when all is well; 0: no bound.
    pub max_inflight_push_requests_bytes: ByteSize,
    /// Bytes of the body of a query, a remote read or another request that stores nothing. Default 2MiB: twice the longest query that is
    /// parsed, since a form spells some bytes in three.
    pub max_query_body_size: ByteSize,
    /// Bytes of all such bodies at a time; beyond, requests are answered 503. Default 128MiB: 64 of the largest, thousands of those that
    /// are sent. 0: no bound.
    pub max_inflight_query_bodies_bytes: ByteSize,
    /// Bytes of answers above 256 KiB that are held whole and not yet read by their clients; beyond, the next such answer is a 503.
    /// Default 1GiB: hundreds of the largest that dashboards ask for. 0: no bound.
    pub max_inflight_answer_bytes: ByteSize,
    /// Bytes of a remote read's answer in samples, which is held whole; answers in chunks are streamed. Room for ten million samples.
    pub max_remote_read_bytes: ByteSize,
    /// Bytes of labels and values of the exemplars that one call is answered, which is held whole. Room for some 300,000 of them.
    pub max_exemplars_bytes: ByteSize,
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
            max_recv_msg_size: ByteSize::mib(100),
            max_decoded_bytes: ByteSize::mib(256),
            max_inflight_push_requests: 2000,
            max_inflight_push_requests_bytes: ByteSize::mib(1024),
            max_query_body_size: ByteSize::mib(2),
            max_inflight_query_bodies_bytes: ByteSize::mib(128),
            max_inflight_answer_bytes: ByteSize::mib(1024),
            max_remote_read_bytes: ByteSize::mib(256),
            max_exemplars_bytes: ByteSize::mib(64),
            cors_origins: Vec::new(),
        }
    }
}

/// What the routes call.
#[derive(Debug)]
pub struct Api {
    pub(super) settings: ApiSettings,
    pub(super) distributor: Arc<Distributor>,
    pub(super) ingester: Arc<Ingester>,
    pub(super) source: Arc<dyn Select>,
    pub(super) frontend: Arc<QueryFrontend>,
    pub(super) limits: Arc<Overrides<Limits>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) inflight: Arc<Inflight>,
    pub(super) query_bodies: Arc<Inflight>,
    pub(super) answers: Arc<Inflight>,
    batches: Mutex<Vec<WriteBatch>>,
}

/// Decoded requests that are kept for the next ones; each keeps about the memory of the largest request it held, beside what is asked
/// of the pushes' budget.
const KEPT_BATCHES: usize = 8;
/// A batch that has grown beyond this is not kept.
const KEPT_BYTES: usize = 8 << 20;

impl Api {
    /// Joins the parts.
    pub fn new(
        settings: ApiSettings,
        distributor: Arc<Distributor>,
        ingester: Arc<Ingester>,
        source: Arc<dyn Select>,
        frontend: Arc<QueryFrontend>,
        limits: Arc<Overrides<Limits>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            inflight: body::pushes(&settings),
            query_bodies: body::queries(&settings),
            answers: body::answers(&settings),
            settings,
            distributor,
            ingester,
            source,
            frontend,
            limits,
            clock,
            batches: Mutex::default(),
        }
    }

    /// Pushes under way.
    pub fn inflight(&self) -> Arc<Inflight> {
        Arc::clone(&self.inflight)
    }

    /// Has `registry` tell what is under way.
    pub fn register_metrics(&self, registry: &Registry) {
        registry.collect_from(&self.inflight, |pushes, e| {
            e.gauge(
                "cortex_distributor_inflight_push_requests",
                "Pushes under way.",
                &[],
                pushes.requests() as f64,
            );
            e.gauge(
                "cortex_distributor_inflight_push_requests_bytes",
                "Bytes of pushes under way, compressed and decompressed.",
                &[],
                pushes.bytes() as f64,
            );
        });
    }

    /// A batch to decode into.
    pub(super) fn take_batch(&self) -> WriteBatch {
        self.batches.lock().pop().unwrap_or_default()
    }

    /// Keeps a batch's memory for the next request, and nothing of the request itself; of one that has grown large, nothing.
    pub(super) fn keep_batch(&self, mut batch: WriteBatch) {
        batch.clear();
        let mut kept = self.batches.lock();
        if kept.len() < KEPT_BATCHES && batch.heap_bytes() <= KEPT_BYTES {
            kept.push(batch);
        }
    }

    /// The receiver of OTLP alone, at `/v1/metrics`: for a port of its own, as OpenTelemetry clients expect it.
    pub fn otlp_router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/v1/metrics", post(otlp::push))
            .with_state(Arc::clone(self))
    }

    /// Where the work of a request is computed: in the line of its tenant.
    pub(super) fn executor(&self, headers: &HeaderMap) -> Executor {
        let executor = self.frontend.engine().executor();
        match tenant(headers, self.settings.multitenancy_enabled) {
            Ok(tenant) => executor.in_line(tenant.as_str()),
            // The handler refuses it.
            Err(_) => executor.clone(),
        }
    }

    /// How queries and selectors are parsed.
    pub(super) fn parser(&self) -> &ParserOptions {
        &self.frontend.engine().settings().parser
    }

    /// All routes: pushes at `/api/v1/push`, `/api/v1/write` and `/otlp/v1/metrics`, queries below `/prometheus/api/v1` and `/api/v1`.
    pub fn router(self: &Arc<Self>) -> Router {
        let compressed = axum::middleware::from_fn_with_state(Arc::clone(self), compress::compress);
        let caught = axum::middleware::from_fn_with_state(Arc::clone(self), fault::caught);
        let movable = axum::middleware::from_fn_with_state(Arc::clone(self), movable::movable);
        let bounded = axum::middleware::from_fn_with_state(Arc::clone(self), body::bounded);
        // Ours takes the place of axum's bound.
        let reads = reads().layer(DefaultBodyLimit::disable()).layer(bounded);
        let held = axum::middleware::from_fn_with_state(Arc::clone(self), body::held);
        let reads = reads.layer(held).layer(caught);
        let reads = reads.layer(movable).layer(compressed);
        let reads = Cors::new(&self.settings.cors_origins).around(reads);
        let writes = Router::new()
            .route("/push", post(push::push))
            .route("/write", post(push::push))
            .route("/otlp/v1/metrics", post(otlp::push))
            .route("/user_stats", get(user::stats))
            .route("/user_limits", get(user::limits));
        Router::new()
            .nest("/prometheus/api/v1", reads.clone())
            .nest("/api/v1", reads.merge(writes))
            .route("/otlp/v1/metrics", post(otlp::push))
            .with_state(Arc::clone(self))
    }
}

/// A handler for GET, and for POST with a form.
fn form<H, T>(handler: H) -> MethodRouter<Arc<Api>>
where
    H: Handler<T, Arc<Api>> + Clone,
    T: 'static,
{
    get(handler.clone()).post(handler)
}

/// What is served below each prefix.
fn reads() -> Router<Arc<Api>> {
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
