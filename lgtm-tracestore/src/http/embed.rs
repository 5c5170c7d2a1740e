//! The API of a store that a program embeds.

use std::sync::Arc;

use axum::Router;
use lgtm_core::Result;

use super::push_api::PushApi;
use super::query_api::QueryApi;
use super::redaction::RedactionApi;
use super::settings::ApiSettings;
use crate::components::TraceStore;

impl TraceStore {
    /// Tempo's API over this store with the default settings, in which all is tenant `anonymous`: OTLP at `/v1/traces` and over gRPC, traces and searches
    /// below `/api`. Make it once: each has bounds of its own on what is under way. It can be merged with those of a metrics store and a log store.
    ///
    /// The routes bound what a request may be and may become. Whoever may reach them is the server's matter:
    /// [`lgtm_core::http::HttpServer`] bounds connections, speaks HTTP/2 to gRPC clients and keeps pages of other sites out.
    ///
    /// ```no_run
    /// use lgtm_tracestore::prelude::*;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let db = TraceStore::builder("data", Backend::memory()).open().await?;
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:3200").await?;
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
        let api = PushApi::builder(Arc::clone(&parts.distributor), parts.executor.clone());
        api.settings(settings).build()
    }

    /// The door for redactions alone, which [`TraceStore::router`] has not got: whoever may reach it may delete. With `multitenancy_enabled` the tenant comes from
    /// the header `X-Scope-OrgID`.
    pub fn redaction_api(&self, multitenancy_enabled: bool) -> Arc<RedactionApi> {
        RedactionApi::new(Arc::clone(&self.parts().compactor), multitenancy_enabled)
    }

    /// The door for queries alone.
    ///
    /// # Errors
    /// `InvalidInput` for settings that make no sense.
    pub fn query_api(&self, settings: ApiSettings) -> Result<Arc<QueryApi>> {
        let parts = self.parts();
        let queries = Arc::clone(&parts.queries);
        QueryApi::builder(queries, parts.limits.clone(), parts.executor.clone())
            .settings(settings)
            .clock(Arc::clone(&parts.clock))
            .metrics(&parts.registry)
            .build()
    }
}
