//! The routes of the metrics store.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use lgtm_core::clock::Clock;
use lgtm_core::limits::Overrides;
use lgtm_core::units::ByteSize;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{parse, push, query, read, status};
use crate::components::{Distributor, Ingester};
use crate::limits::Limits;
use crate::promql::Engine;
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
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            multitenancy_enabled: false,
            max_recv_msg_size: ByteSize::mib(100),
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
    pub(super) engine: Engine,
    pub(super) limits: Arc<Overrides<Limits>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) batches: Mutex<Vec<WriteBatch>>,
}

impl Api {
    /// Joins the parts.
    pub fn new(
        settings: ApiSettings,
        distributor: Arc<Distributor>,
        ingester: Arc<Ingester>,
        source: Arc<dyn Select>,
        engine: Engine,
        limits: Arc<Overrides<Limits>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            settings,
            distributor,
            ingester,
            source,
            engine,
            limits,
            clock,
            batches: Mutex::default(),
        }
    }

    /// All routes: pushes at `/api/v1/push` and `/api/v1/write`, queries below `/prometheus/api/v1` and `/api/v1`.
    pub fn router(self) -> Router {
        let api = Arc::new(self);
        let max = usize::try_from(api.settings.max_recv_msg_size.as_u64()).unwrap_or(usize::MAX);
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
                reads.merge(writes.layer(DefaultBodyLimit::max(max))),
            )
            .with_state(api)
    }
}
