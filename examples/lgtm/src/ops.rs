//! Pages for operators.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use lgtm_core::Error;
use lgtm_core::clock::Clock;
use lgtm_core::exec::TaskGroup;
use lgtm_core::limits::{RuntimeConfig, Shown};
use lgtm_core::model::TenantId;
use lgtm_core::service::ServicesStatus;
use lgtm_core::telemetry::{CONTENT_TYPE, Registry};
use tokio::sync::Notify;

use crate::modules::{Compaction, Flush};

/// Flushes, or rounds of compaction, that may run or wait for each other: one waits for all that came before it.
const MAX_FLUSHES: usize = 8;

/// What the pages show and do.
#[derive(Debug)]
pub(crate) struct Operations {
    pub(crate) status: ServicesStatus,
    pub(crate) flushes: Vec<Arc<dyn Flush>>,
    /// Flushes that were asked for.
    pub(crate) flushing: Arc<TaskGroup>,
    /// Rounds of compaction that were.
    pub(crate) compacting: Arc<TaskGroup>,
    pub(crate) compactions: Vec<Compaction>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) registry: Registry,
    pub(crate) config: String,
    pub(crate) runtime_config: RuntimeConfig,
    pub(crate) stop: Arc<Notify>,
}

/// The routes.
pub(crate) fn router(operations: Operations) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/services", get(services))
        .route("/compactor", get(compactor))
        .route("/config", get(config))
        .route("/runtime_config", get(runtime_config))
        .route("/compactor/run", post(compact))
        .route("/flush", post(flush))
        .route("/shutdown", post(shutdown))
        // Where Tempo has them.
        .route("/status", get(status))
        .route("/status/version", get(version))
        .route("/status/services", get(services))
        .route("/status/endpoints", get(endpoints))
        .route("/status/config", get(config))
        .route("/status/runtime_config", get(runtime_config))
        .route("/status/overrides", get(runtime_config))
        .route("/status/overrides/{tenant}", get(limits_of_tenant))
        .with_state(Arc::new(operations))
}

async fn index() -> Html<&'static str> {
    Html(concat!(
        "<!doctype html><title>lgtm</title><h1>lgtm</h1><ul>",
        "<li><a href=/ready>ready</a><li><a href=/services>services</a><li><a href=/compactor>compaction</a><li><a href=/config>config</a><li><a href=/runtime_config>runtime config</a><li><a href=/metrics>metrics</a><li><a href=/ring>rings</a><li><a href=/memberlist>members</a>",
        "<li><a href=/prometheus/api/v1/status/tsdb>series</a><li><a href=/loki/api/v1/labels>labels of logs</a><li><a href=/api/v2/search/tags>attributes of traces</a></ul>"
    ))
}

async fn ready(State(o): State<Arc<Operations>>) -> Response {
    match o.status.ready().await {
        Ok(()) => {
            let remarks = o.status.remarks().into_iter();
            let lines = std::iter::once("ready".to_owned()).chain(remarks);
            lines.map(|l| l + "\n").collect::<String>().into_response()
        }
        Err(e) => (StatusCode::SERVICE_UNAVAILABLE, format!("{e}\n")).into_response(),
    }
}

async fn metrics(State(o): State<Arc<Operations>>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], o.registry.encode()).into_response()
}

async fn services(State(o): State<Arc<Operations>>) -> String {
    o.status.render()
}

async fn version() -> String {
    format!("lgtm, version {}\n", env!("CARGO_PKG_VERSION"))
}

/// The pages of this file; those of the stores stand in their documentation.
async fn endpoints() -> &'static str {
    concat!(
        "GET /ready\nGET /metrics\nGET /services\nGET /compactor\nGET /config\nGET /runtime_config\nPOST /compactor/run\nPOST /flush\nPOST /shutdown\n",
        "GET /status\nGET /status/version\nGET /status/services\nGET /status/endpoints\nGET /status/config\nGET /status/runtime_config\nGET /status/overrides\nGET /status/overrides/TENANT\n"
    )
}

/// Version and services in one.
async fn status(State(o): State<Arc<Operations>>) -> String {
    format!("{}{}", version().await, o.status.render())
}

/// How far compaction is with each tenant, a table a signal.
async fn compactor(State(o): State<Arc<Operations>>) -> String {
    if o.compactions.is_empty() {
        return "no compactor runs in this process\n".into();
    }
    let now_ms = o.clock.now_ms();
    let tables = o.compactions.iter();
    let tables = tables.map(|c| format!("# {}\n{}\n", c.signal, c.progress.render(now_ms)));
    tables.collect()
}

/// Answers when one round of compaction, cleaning and retention is done, of all compactors of this process. Goes on when the caller hangs up.
async fn compact(State(o): State<Arc<Operations>>) -> Response {
    if o.compactions.is_empty() {
        let text = "no compactor runs in this process\n";
        return (StatusCode::NOT_FOUND, text).into_response();
    }
    if o.compacting.len() >= MAX_FLUSHES {
        let text = format!("{MAX_FLUSHES} rounds of compaction run or wait already\n");
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    let all = compact_all(Arc::clone(&o));
    match o
        .compacting
        .spawn("compaction", all)
        .await
        .and_then(|done| done)
    {
        Ok(done) => format!("{done}: one round done\n").into_response(),
        Err(e) => (StatusCode::SERVICE_UNAVAILABLE, format!("{e}\n")).into_response(),
    }
}

/// The signals; the first failure, when there was one.
async fn compact_all(o: Arc<Operations>) -> Result<String, Error> {
    let mut failure = None;
    for compaction in &o.compactions {
        if let Err(e) = compaction.compactor.run_round().await {
            // The others have their round all the same.
            failure = failure.or(Some(e));
        }
    }
    let signals = o.compactions.iter().map(|c| c.signal);
    let signals: Vec<&str> = signals.collect();
    failure.map_or_else(|| Ok(signals.join(", ")), Err)
}

async fn config(State(o): State<Arc<Operations>>) -> Response {
    (
        [(header::CONTENT_TYPE, "application/yaml")],
        o.config.clone(),
    )
        .into_response()
}

/// The overrides in force, defaults filled in; with `mode=diff` what differs from the defaults.
async fn runtime_config(State(o): State<Arc<Operations>>, query: RawQuery) -> Response {
    let shown = match query.0.as_deref() {
        Some(query) if query.split('&').any(|p| p == "mode=diff") => Shown::Differing,
        _ => Shown::All,
    };
    // Ten thousand tenants with limits of their own make half a million lines.
    let print = move || {
        let overrides = o.runtime_config.shown(shown)?;
        serde_norway::to_string(&overrides).map_err(|e| Error::Internal(e.to_string()))
    };
    let text = tokio::task::spawn_blocking(print).await;
    yaml(text.unwrap_or_else(|e| Err(Error::Internal(e.to_string()))))
}

/// All limits of a tenant, whether it has some of its own or not.
async fn limits_of_tenant(
    State(o): State<Arc<Operations>>,
    Path(tenant): Path<String>,
) -> Response {
    let tenant = match TenantId::new(&tenant) {
        Ok(tenant) => tenant,
        Err(e) => return (StatusCode::BAD_REQUEST, format!("{e}\n")).into_response(),
    };
    let limits = o.runtime_config.of_tenant(&tenant);
    yaml(limits.and_then(|limits| {
        serde_norway::to_string(&limits).map_err(|e| Error::Internal(e.to_string()))
    }))
}

fn yaml(text: Result<String, Error>) -> Response {
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, "application/yaml")], text).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response(),
    }
}

/// Answers when everything received before is in the object store and queryable from there. Goes on when the caller hangs up: what is written by then would
/// be thrown away, and who asks again would pay for it twice.
async fn flush(State(o): State<Arc<Operations>>) -> Response {
    if o.flushing.len() >= MAX_FLUSHES {
        let text = format!("{MAX_FLUSHES} flushes run or wait already\n");
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    let all = flush_all(Arc::clone(&o));
    match o.flushing.spawn("flush", all).await.and_then(|done| done) {
        Ok(written) => format!("{written} written\n").into_response(),
        Err(e) => (StatusCode::SERVICE_UNAVAILABLE, format!("{e}\n")).into_response(),
    }
}

/// What was written, in words; the first failure, when there was one.
async fn flush_all(o: Arc<Operations>) -> Result<String, Error> {
    let (mut written, mut failure) = (Vec::new(), None);
    for part in &o.flushes {
        match part.flush().await {
            Ok(flushed) => written.push(format!("{} {}", flushed.count, flushed.what)),
            // The others are flushed all the same.
            Err(e) => failure = failure.or(Some(e)),
        }
    }
    failure.map_or_else(|| Ok(written.join(", ")), Err)
}

async fn shutdown(State(o): State<Arc<Operations>>) -> StatusCode {
    o.stop.notify_one();
    StatusCode::NO_CONTENT
}
