//! The door for pushes.

use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use lgtm_core::exec::Executor;

use super::settings::ApiSettings;
use super::{otlp, push};
use crate::components::Distributor;

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
    pub(super) executor: Executor,
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

    /// The routes: remote write at `/api/v1/push` and `/api/v1/write`, OTLP at `/otlp/v1/metrics` and over gRPC.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/api/v1/push", post(push::push))
            .route("/api/v1/write", post(push::push))
            .route("/api/v1/otlp/v1/metrics", post(otlp::push))
            .route("/otlp/v1/metrics", post(otlp::push))
            .with_state(Arc::clone(self))
            .merge(self.otlp_grpc_router())
    }

    /// The receiver of OTLP alone, at `/v1/metrics`: for a port of its own, as OpenTelemetry clients expect it.
    pub fn otlp_router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/v1/metrics", post(otlp::push))
            .with_state(Arc::clone(self))
    }

    /// The receiver of OTLP over gRPC alone, for a port of its own.
    pub fn otlp_grpc_router(self: &Arc<Self>) -> Router {
        const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
        Router::new()
            .route(EXPORT, post(otlp::export))
            .with_state(Arc::clone(self))
    }
}
