//! The door for pushes.

use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::codec::Allowance;
use lgtm_core::exec::Executor;
use lgtm_core::http::{DecodeEffort, decode_push};
use lgtm_core::limits::Ticket;
use lgtm_core::model::TenantId;

use super::error::ApiError;
use super::settings::ApiSettings;
use super::{otlp, push};
use crate::components::Distributor;
use crate::limits::PushReport;
use crate::wire::PushBatch;

/// Collects the parts of a [`PushApi`].
#[derive(Debug)]
pub struct PushApiBuilder {
    distributor: Arc<Distributor>,
    executor: Executor,
    clock: Arc<dyn Clock>,
    settings: ApiSettings,
}

impl PushApiBuilder {
    /// Sets the settings.
    #[must_use]
    pub fn settings(mut self, settings: ApiSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the clock: OTLP records without a time are of now.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The door.
    pub fn build(self) -> Arc<PushApi> {
        Arc::new(PushApi {
            settings: self.settings,
            distributor: self.distributor,
            executor: self.executor,
            clock: self.clock,
        })
    }
}

/// What the routes of pushes call: a distributor.
#[derive(Debug)]
pub struct PushApi {
    pub(super) settings: ApiSettings,
    pub(super) distributor: Arc<Distributor>,
    executor: Executor,
    pub(super) clock: Arc<dyn Clock>,
}

impl PushApi {
    /// Begins a builder: a door to `distributor`, which decodes what is large on `executor`.
    pub fn builder(distributor: Arc<Distributor>, executor: Executor) -> PushApiBuilder {
        PushApiBuilder {
            distributor,
            executor,
            clock: Arc::new(SystemClock::new()),
            settings: ApiSettings::default(),
        }
    }

    /// The routes: pushes at `/loki/api/v1/push` and `/api/prom/push`, OTLP at `/otlp/v1/logs`, `/loki/otlp/v1/logs` and over gRPC.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/loki/api/v1/push", post(push::push))
            .route("/api/prom/push", post(push::legacy_push))
            .route("/otlp/v1/logs", post(otlp::push))
            .route("/loki/otlp/v1/logs", post(otlp::push))
            .with_state(Arc::clone(self))
            .merge(self.otlp_grpc_router())
    }

    /// The receiver of OTLP alone, at `/v1/logs`: for a port of its own, as OpenTelemetry clients expect it.
    pub fn otlp_router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/v1/logs", post(otlp::push))
            .with_state(Arc::clone(self))
    }

    /// The receiver of OTLP over gRPC alone, for a port of its own.
    pub fn otlp_grpc_router(self: &Arc<Self>) -> Router {
        const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
        Router::new()
            .route(EXPORT, post(otlp::export))
            .with_state(Arc::clone(self))
    }

    /// Decodes a push and hands it on. `decode` may be called twice. A push without a stream is refused.
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
        let batch = decode_push(&self.executor, batch, effort, max_bytes, decode).await;
        let batch = batch.map_err(ApiError::of_payload)?;
        if batch.streams_sent() == 0 {
            return Err(ApiError::new(
                axum::http::StatusCode::UNPROCESSABLE_ENTITY,
                "error at least one valid stream is required for ingestion",
            ));
        }
        let report = self.distributor.push(tenant, batch).await;
        report.map_err(ApiError::of_payload)
    }
}
