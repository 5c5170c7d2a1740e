//! The API of a store that a program embeds.

use std::sync::Arc;

use axum::Router;
use lgtm_core::Result;

use super::push_api::PushApi;
use super::query_api::QueryApi;
use super::settings::ApiSettings;
use crate::components::LogStore;

impl LogStore {
    /// Loki's API over this store with the default settings, in which all is tenant `anonymous`: pushes at `/loki/api/v1/push` and
    /// `/otlp/v1/logs`, queries below `/loki/api/v1`. Make it once: each has bounds of its own on what is under way. It can be merged with
    /// that of a metrics store.
    ///
    /// The routes bound what a request may be and may become. Whoever may reach them is the server's matter:
    /// [`lgtm_core::http::HttpServer`] bounds connections and keeps pages of other sites out.
    ///
    /// ```no_run
    /// use lgtm_logstore::prelude::*;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let db = LogStore::builder("data", Backend::memory()).open().await?;
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:3100").await?;
    /// axum::serve(listener, db.router()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn router(&self) -> Router {
        let settings = ApiSettings::default();
        let queries = self.query_api(settings.clone());
        let queries = queries.expect("the default settings are valid");
        self.push_api(settings).router().merge(queries.router())
    }

    /// The door for pushes alone.
    pub fn push_api(&self, settings: ApiSettings) -> Arc<PushApi> {
        let parts = self.parts();
        let executor = parts.frontend.engine().executor().clone();
        let api = PushApi::builder(Arc::clone(&parts.distributor), executor);
        let clock = Arc::clone(&parts.clock);
        api.settings(settings).clock(clock).build()
    }

    /// The door for queries alone.
    ///
    /// # Errors
    /// `InvalidInput` for settings that make no sense.
    pub fn query_api(&self, settings: ApiSettings) -> Result<Arc<QueryApi>> {
        let parts = self.parts();
        let engine = parts.frontend.engine();
        let queries = Arc::clone(&parts.frontend) as _;
        let executor = engine.executor().clone();
        QueryApi::builder(queries, parts.limits.clone(), executor)
            .settings(settings)
            .clock(Arc::clone(&parts.clock))
            .parser(engine.settings().parser.clone())
            .deletes(Arc::clone(&parts.deletes))
            .metrics(&parts.registry)
            .build()
    }
}
