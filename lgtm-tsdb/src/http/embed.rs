//! The API of a store that a program embeds.

use std::sync::Arc;

use axum::Router;

use super::api::{Api, ApiSettings};
use crate::components::Tsdb;

impl Tsdb {
    /// The Prometheus API over this store: pushes at `/api/v1/push`, `/api/v1/write` and `/otlp/v1/metrics`, queries below
    /// `/prometheus/api/v1` and `/api/v1`. Make it once: each has bounds of its own on what is under way.
    ///
    /// The routes bound what a request may be and may become. Whoever may reach them is the server's matter:
    /// [`lgtm_core::http::HttpServer`] bounds connections and keeps pages of other sites out.
    ///
    /// ```no_run
    /// use lgtm_tsdb::prelude::*;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let db = Tsdb::builder("data", Backend::memory()).open().await?;
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:9009").await?;
    /// axum::serve(listener, db.api(ApiSettings::default()).router()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn api(&self, settings: ApiSettings) -> Arc<Api> {
        let parts = self.parts();
        let api = Api::new(
            settings,
            Arc::clone(&parts.distributor),
            Arc::clone(&parts.ingester),
            Arc::clone(&parts.source),
            Arc::clone(&parts.frontend),
            Arc::clone(&parts.limits),
            Arc::clone(&parts.clock),
        );
        api.register_metrics(&parts.registry);
        Arc::new(api)
    }

    /// The routes of [`Tsdb::api`] with its default settings: all is tenant `anonymous`.
    pub fn router(&self) -> Router {
        self.api(ApiSettings::default()).router()
    }
}
