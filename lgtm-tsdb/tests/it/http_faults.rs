//! What a call is answered when something goes wrong inside: a fault of the program, a source that is down or damaged.

#![cfg(feature = "http")]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use lgtm_core::clock::{Clock, ManualClock};
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, TenantId, TextSet};
use lgtm_core::storage::{BackendSettings, DataKind, Layout, from_url};
use lgtm_core::{Error, Result};
use lgtm_tsdb::components::clients::StoreGatewayClient;
use lgtm_tsdb::components::{Distributor, Ingester, Querier, QueryFrontend, QueryFrontendSettings};
use lgtm_tsdb::http::{ApiSettings, PushApi, QueryApi};
use lgtm_tsdb::limits::Limits;
use lgtm_tsdb::select::{Listed, ReadyBatches, Select, SelectRequest, SeriesBatches};
use tower::ServiceExt;

/// Does what the metric asked for is called.
#[derive(Debug)]
struct Faulty;

impl Faulty {
    fn act(request: &SelectRequest) -> Result<()> {
        let metric = request.matchers.iter().find(|m| m.name() == "__name__");
        match metric.map(|m| m.value()) {
            Some("panics") => panic!("a fault"),
            Some("down") => Err(Error::Unavailable("the store is down".into())),
            Some("damaged") => Err(Error::Internal("a damaged block".into())),
            Some("too_many") => Err(Error::LimitExceeded("too many series".into())),
            Some("gone") => Err(Error::Cancelled("the query".into())),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Select for Faulty {
    async fn select(&self, _: &TenantId, r: &SelectRequest) -> Result<Box<dyn SeriesBatches>> {
        Self::act(r)?;
        Ok(Box::<ReadyBatches>::default())
    }

    async fn series(&self, _: &TenantId, r: &SelectRequest) -> Result<Listed<Vec<Labels>>> {
        Self::act(r).map(|()| Listed::default())
    }

    async fn label_names(&self, _: &TenantId, r: &SelectRequest) -> Result<Listed<TextSet>> {
        Self::act(r).map(|()| Listed::default())
    }

    async fn label_values(
        &self,
        _: &TenantId,
        _: &str,
        r: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        Self::act(r).map(|()| Listed::default())
    }
}

impl StoreGatewayClient for Faulty {}

/// The routes of pushes; nothing can be pushed, as the ingester behind them is not open.
fn pushes(door: ApiSettings) -> axum::Router {
    let store = from_url("memory:", &BackendSettings::default()).unwrap();
    let bucket = Layout::single_bucket(store).bucket(DataKind::MetricBlocks);
    let limits = Overrides::fixed(Limits::default());
    let disk = Arc::new(LocalDisk::new("none"));
    let ingester = Ingester::builder(bucket, disk, limits.clone());
    let ingester = ingester.build().unwrap();
    let distributor = Distributor::builder(ingester, limits).build();
    let executor = Executor::inline(tokio::runtime::Handle::current());
    let api = PushApi::builder(distributor, executor).settings(door);
    api.build().router()
}

/// A door whose holder of metrics is faulty, and the frontend behind it.
struct Door {
    router: axum::Router,
    api: Arc<QueryApi>,
    frontend: Arc<QueryFrontend>,
}

impl Door {
    fn new(settings: QueryFrontendSettings) -> Self {
        Self::with(settings, ApiSettings::default())
    }

    fn with(settings: QueryFrontendSettings, door: ApiSettings) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at_ms(1_000_000_000));
        let limits = Overrides::fixed(Limits::default());
        let executor = Executor::inline(tokio::runtime::Handle::current());
        let faulty = vec![Arc::new(Faulty) as _];
        let querier = Querier::builder(Vec::new(), faulty, limits.clone(), executor.clone());
        let querier = querier.build().unwrap();
        let engine = querier.engine().clone();
        let frontend = QueryFrontend::builder(querier, engine, limits.clone())
            .settings(settings)
            .clock(Arc::clone(&clock))
            .build()
            .unwrap();
        let queries = Arc::clone(&frontend) as _;
        let api = QueryApi::builder(queries, limits, executor)
            .settings(door)
            .clock(clock)
            .build()
            .unwrap();
        Self {
            router: api.router(),
            api,
            frontend,
        }
    }

    /// Faults that were counted.
    fn panics(&self) -> u64 {
        let queries = &self.frontend.engine().counts().panicked;
        queries.load(Ordering::Relaxed) + self.api.panics()
    }
}

async fn get(router: &axum::Router, path: &str) -> (u16, serde_json::Value) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    let body = serde_json::from_slice(&body);
    (status, body.unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_500_for_its_call_alone_and_is_counted() {
    for enabled in [true, false] {
        let door = Door::new(QueryFrontendSettings {
            enabled,
            ..QueryFrontendSettings::default()
        });
        let router = &door.router;
        for (n, call) in [
            "query?query=panics",
            "query_range?query=sum(panics)&start=1&end=2&step=1",
            "series?match[]=panics",
            "labels?match[]=panics",
            "label/job/values?match[]=panics",
        ]
        .iter()
        .enumerate()
        {
            // Others go on meanwhile.
            let broken = format!("/api/v1/{call}");
            let well = "/prometheus/api/v1/query?query=1";
            let ((status, body), (other, _)) =
                tokio::join!(get(router, &broken), get(router, well));
            assert_eq!((status, other), (500, 200), "{call}: {body}");
            assert_eq!(body["errorType"], "internal", "{call}");
            assert_eq!(door.panics(), n as u64 + 1, "{call}");
        }
        let well = "/api/v1/query?query=well";
        assert_eq!(get(router, well).await.0, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_error_has_its_status_and_its_name() {
    let router = Door::new(QueryFrontendSettings::default()).router;
    for (metric, status, kind) in [
        ("down", 503, "unavailable"),
        ("damaged", 500, "internal"),
        ("too_many", 422, "execution"),
        ("gone", 499, "canceled"),
    ] {
        for call in [
            format!("query?query={metric}"),
            format!("query_range?query={metric}&start=1&end=2&step=1"),
            format!("series?match[]={metric}"),
            format!("labels?match[]={metric}"),
            format!("label/job/values?match[]={metric}"),
        ] {
            let (got, body) = get(&router, &format!("/api/v1/{call}")).await;
            assert_eq!(got, status, "{call}: {body}");
            assert_eq!(
                (&body["status"], &body["errorType"]),
                (&"error".into(), &kind.into())
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answers_are_shared_with_other_origins_if_that_is_set() {
    let shared = ApiSettings {
        cors_origins: vec!["http://ui.example".into()],
        ..ApiSettings::default()
    };
    for (door, is_shared) in [(ApiSettings::default(), false), (shared, true)] {
        door.validate().unwrap();
        let router = pushes(door.clone());
        let router = router.merge(Door::with(QueryFrontendSettings::default(), door).router);
        for (method, path, status) in [
            ("OPTIONS", "/prometheus/api/v1/query", 204),
            ("OPTIONS", "/api/v1/label/job/values", 204),
            ("GET", "/prometheus/api/v1/query?query=1", 200),
            ("GET", "/prometheus/api/v1/query?query=(", 400),
        ] {
            let request = Request::builder().method(method).uri(path);
            let request = request.header("origin", "http://ui.example");
            let request = request.body(Body::empty()).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            let wanted = if is_shared || status != 204 {
                status
            } else {
                405
            };
            assert_eq!(answer.status().as_u16(), wanted, "{method} {path}");
            let allowed = answer.headers().get("access-control-allow-origin");
            assert_eq!(allowed.is_some(), is_shared, "{method} {path}");
        }
        // What is written is shared with nobody.
        let request = Request::builder().method("OPTIONS").uri("/api/v1/push");
        let request = request.header("origin", "http://ui.example");
        let answer = router.oneshot(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.unwrap().status().as_u16(), 405);
    }
    let bad = ApiSettings {
        cors_origins: vec!["ui.example".into()],
        ..ApiSettings::default()
    };
    assert!(bad.validate().is_err());
}
