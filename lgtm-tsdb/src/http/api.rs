//! The routes of the metrics store.

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use lgtm_core::clock::Clock;
use lgtm_core::limits::Overrides;
use lgtm_core::units::ByteSize;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::inflight::Inflight;
use super::{otlp, parse, push, query, read, status};
use crate::components::{Distributor, Ingester, QueryFrontend};
use crate::limits::Limits;
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
    /// Bytes of all pushes at a time, compressed and decompressed. Some hundred times what is under way when all is well; 0: no bound.
    pub max_inflight_push_requests_bytes: ByteSize,
    /// Bytes of a remote read's answer in samples, which is held whole; answers in chunks are streamed. Room for ten million samples.
    pub max_remote_read_bytes: ByteSize,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            multitenancy_enabled: false,
            max_recv_msg_size: ByteSize::mib(100),
            max_inflight_push_requests: 2000,
            max_inflight_push_requests_bytes: ByteSize::mib(1024),
            max_remote_read_bytes: ByteSize::mib(256),
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
    batches: Mutex<Vec<WriteBatch>>,
}

/// Decoded requests that are kept for the next ones; each keeps about the memory of the largest request it held.
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
        let inflight = Arc::new(Inflight::new(
            settings.max_inflight_push_requests,
            settings.max_inflight_push_requests_bytes.as_u64(),
        ));
        Self {
            settings,
            inflight,
            distributor,
            ingester,
            source,
            frontend,
            limits,
            clock,
            batches: Mutex::default(),
        }
    }

    /// What is under way, for metrics.
    pub fn inflight(&self) -> Arc<Inflight> {
        Arc::clone(&self.inflight)
    }

    /// A batch to decode into.
    pub(super) fn take_batch(&self) -> WriteBatch {
        self.batches.lock().pop().unwrap_or_default()
    }

    /// Keeps a batch's memory for the next request.
    pub(super) fn keep_batch(&self, batch: WriteBatch) {
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

    /// All routes: pushes at `/api/v1/push`, `/api/v1/write` and `/otlp/v1/metrics`, queries below `/prometheus/api/v1` and `/api/v1`.
    pub fn router(self: &Arc<Self>) -> Router {
        let reads = Router::new()
            .route("/query", get(query::instant).post(query::instant))
            .route("/query_range", get(query::range).post(query::range))
            .route(
                "/query_exemplars",
                get(query::exemplars).post(query::exemplars),
            )
            .route(
                "/format_query",
                get(parse::format_query).post(parse::format_query),
            )
            .route(
                "/parse_query",
                get(parse::parse_query).post(parse::parse_query),
            )
            .route("/series", get(query::series).post(query::series))
            .route("/labels", get(query::label_names).post(query::label_names))
            .route("/label/{name}/values", get(query::label_values))
            .route("/metadata", get(query::metadata))
            .route("/read", post(read::read))
            .route("/status/buildinfo", get(status::build_info))
            .route("/status/tsdb", get(status::tsdb));
        let writes = Router::new()
            .route("/push", post(push::push))
            .route("/write", post(push::push));
        Router::new()
            .nest("/prometheus/api/v1", reads.clone())
            .nest(
                "/api/v1",
                reads
                    .merge(writes)
                    .route("/otlp/v1/metrics", post(otlp::push)),
            )
            .route("/otlp/v1/metrics", post(otlp::push))
            .with_state(Arc::clone(self))
    }
}
