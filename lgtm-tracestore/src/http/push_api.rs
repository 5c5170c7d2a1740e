//! The door for pushes.

use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use lgtm_core::codec::Allowance;
use lgtm_core::exec::Executor;
use lgtm_core::http::{Cors, DecodeEffort, decode_push};
use lgtm_core::limits::Ticket;
use lgtm_core::model::TenantId;
use parking_lot::Mutex;

use super::error::ApiError;
use super::settings::ApiSettings;
use super::{foreign, otlp};
use crate::components::Distributor;
use crate::limits::PushReport;
use crate::wire::PushBatch;

/// Collects the parts of a [`PushApi`].
#[derive(Debug)]
pub struct PushApiBuilder {
    distributor: Arc<Distributor>,
    executor: Executor,
    settings: ApiSettings,
}

impl PushApiBuilder {
    /// Sets the settings.
    #[must_use]
    pub fn settings(mut self, settings: ApiSettings) -> Self {
        self.settings = settings;
        self
    }

    /// The door.
    pub fn build(self) -> Arc<PushApi> {
        Arc::new(PushApi {
            settings: self.settings,
            distributor: self.distributor,
            executor: self.executor,
        })
    }
}

/// What the routes of pushes call: a distributor.
#[derive(Debug)]
pub struct PushApi {
    pub(super) settings: ApiSettings,
    pub(super) distributor: Arc<Distributor>,
    executor: Executor,
}

impl PushApi {
    /// Begins a builder: a door to `distributor`, which decodes what is large on `executor`.
    pub fn builder(distributor: Arc<Distributor>, executor: Executor) -> PushApiBuilder {
        PushApiBuilder {
            distributor,
            executor,
            settings: ApiSettings::default(),
        }
    }

    /// The routes: OTLP at `/v1/traces` and `/otlp/v1/traces` and over gRPC, Zipkin at `/api/v1/spans` and `/api/v2/spans`, Jaeger's Thrift at
    /// `/api/traces`.
    pub fn router(self: &Arc<Self>) -> Router {
        let routes = Router::new()
            .route("/v1/traces", post(otlp::push))
            .route("/otlp/v1/traces", post(otlp::push))
            .route("/api/v1/spans", post(foreign::zipkin_v1))
            .route("/api/v2/spans", post(foreign::zipkin_v2))
            .route("/api/traces", post(foreign::jaeger));
        self.shared(routes).merge(self.otlp_grpc_router())
    }

    /// The receiver of OTLP alone, at `/v1/traces`: for a port of its own, as OpenTelemetry clients expect it.
    pub fn otlp_router(self: &Arc<Self>) -> Router {
        self.shared(Router::new().route("/v1/traces", post(otlp::push)))
    }

    /// The receiver of OTLP over gRPC alone, for a port of its own.
    pub fn otlp_grpc_router(self: &Arc<Self>) -> Router {
        const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
        Router::new()
            .route(EXPORT, post(otlp::export))
            .with_state(Arc::clone(self))
    }

    /// Routes that pages of the listed origins may send to.
    fn shared(self: &Arc<Self>, routes: Router<Arc<Self>>) -> Router {
        let routes = Cors::new(&self.settings.cors_origins).around(routes);
        routes.with_state(Arc::clone(self))
    }

    /// Decodes a push and hands it on. `decode` may be called twice.
    pub(super) async fn decode_and_push<D>(
        &self,
        tenant: &TenantId,
        room: Ticket,
        effort: DecodeEffort,
        decode: D,
    ) -> Result<PushReport, ApiError>
    where
        D: Fn(&mut PushBatch, &mut Allowance<'_>) -> lgtm_core::Result<()> + Send + 'static,
    {
        let max_bytes = self.distributor.settings().max_decoded_bytes.as_usize();
        let batch = self.distributor.batch(room);
        // A batch that fails is gone, and what it said of its spans is not.
        let refused = Arc::new(Mutex::new(None));
        let noted = Arc::clone(&refused);
        let decode = move |batch: &mut PushBatch, allowance: &mut Allowance<'_>| {
            let decoded = decode(batch, allowance);
            *noted.lock() = batch.refused();
            decoded
        };
        let batch = decode_push(&self.executor, batch, effort, max_bytes, decode).await;
        let batch = batch.map_err(|e| {
            if let Some(refused) = *refused.lock() {
                self.distributor.refuse(tenant, refused);
            }
            ApiError::of_payload(e)
        })?;
        let report = self.distributor.push(tenant, batch).await;
        report.map_err(ApiError::of_payload)
    }
}
