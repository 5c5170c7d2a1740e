//! What a call is answered when something goes wrong inside: a fault of the program, a source that is down or damaged.

#![cfg(feature = "http")]

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use lgtm_core::clock::ManualClock;
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, Listed, TenantId, TextSet};
use lgtm_core::{Error, Result};
use lgtm_logstore::components::clients::{
    Inspect, PatternCounts, Patterns, PatternsRequest, Queries, Tail, TailFeed, TailRequest,
};
use lgtm_logstore::http::{ApiSettings, QueryApi};
use lgtm_logstore::limits::Limits;
use lgtm_logstore::logql::{Answer, Query, QueryError};
use lgtm_logstore::select::{EntryBatches, ReadyBatches, Select, SelectRequest, StreamVolume};
use tower::ServiceExt;

/// Does what the stream asked for is called.
#[derive(Debug)]
struct Faulty;

fn act(name: &str) -> Result<()> {
    match name {
        "panics" => panic!("a fault"),
        "down" => Err(Error::Unavailable("the store is down".into())),
        "damaged" => Err(Error::Internal("a damaged chunk".into())),
        "too_many" => Err(Error::LimitExceeded("too many streams".into())),
        "busy" => Err(Error::RateLimited {
            message: "too many outstanding requests".into(),
            retry_after: None,
        }),
        "gone" => Err(Error::Cancelled("the query".into())),
        _ => Ok(()),
    }
}

fn of_request(request: &SelectRequest) -> Result<()> {
    let app = request.matchers.iter().find(|m| m.name() == "app");
    act(app.map_or("", |m| m.value()))
}

#[async_trait]
impl Select for Faulty {
    async fn select(&self, _: &TenantId, r: &SelectRequest) -> Result<Box<dyn EntryBatches>> {
        of_request(r)?;
        Ok(Box::<ReadyBatches>::default())
    }

    async fn series(&self, _: &TenantId, r: &SelectRequest) -> Result<Listed<Vec<Labels>>> {
        of_request(r).map(|()| Listed::default())
    }

    async fn label_names(&self, _: &TenantId, r: &SelectRequest) -> Result<Listed<TextSet>> {
        of_request(r).map(|()| Listed::default())
    }

    async fn label_values(
        &self,
        _: &TenantId,
        _: &str,
        r: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        of_request(r).map(|()| Listed::default())
    }
}

#[async_trait]
impl Inspect for Faulty {
    async fn volumes(&self, _: &TenantId, r: &SelectRequest) -> Result<Listed<Vec<StreamVolume>>> {
        of_request(r).map(|()| Listed::default())
    }
}

#[async_trait]
impl Patterns for Faulty {
    async fn patterns(
        &self,
        _: &TenantId,
        r: &PatternsRequest,
    ) -> Result<Listed<Vec<PatternCounts>>> {
        let app = r.matchers.iter().find(|m| m.name() == "app");
        act(app.map_or("", |m| m.value())).map(|()| Listed::default())
    }
}

#[async_trait]
impl Tail for Faulty {
    async fn tail(&self, _: &TenantId, _: &TailRequest) -> Result<Box<dyn TailFeed>, QueryError> {
        Err(Error::Unavailable("nobody follows".into()).into())
    }
}

#[async_trait]
impl Queries for Faulty {
    async fn query(&self, _: &TenantId, query: &Query) -> Result<Answer, QueryError> {
        let text = query.text();
        let name = text.split('"').nth(1).unwrap_or_default();
        match name {
            "late" => Err(QueryError::TimedOut),
            name => {
                act(name)?;
                Ok(Answer::default())
            }
        }
    }
}

/// The door, whose holder of logs is faulty.
fn door(settings: ApiSettings) -> Arc<QueryApi> {
    let limits = Overrides::fixed(Limits::default());
    let executor = Executor::inline(tokio::runtime::Handle::current());
    let api = QueryApi::builder(Arc::new(Faulty), limits, executor);
    let clock = Arc::new(ManualClock::at_ms(1_000_000_000));
    api.settings(settings).clock(clock).build().unwrap()
}

async fn get(router: &axum::Router, call: &str) -> (u16, String, String) {
    let request = Request::get(format!("/loki/api/v1/{call}"));
    let request = request.body(Body::empty()).unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let retry = answer.headers().get(header::RETRY_AFTER);
    let retry = retry.map_or_else(String::new, |r| r.to_str().unwrap().to_owned());
    let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.into()).unwrap(), retry)
}

fn calls(app: &str) -> [String; 11] {
    let selector = format!("%7Bapp%3D%22{app}%22%7D");
    [
        format!("query?query=rate({selector}[1m])"),
        format!("query_range?query={selector}"),
        format!("labels?query={selector}"),
        format!("label/app/values?query={selector}"),
        format!("series?match[]={selector}"),
        format!("index/stats?query={selector}"),
        format!("index/volume?query={selector}"),
        format!("index/volume_range?query={selector}"),
        format!("patterns?query={selector}"),
        format!("detected_labels?query={selector}"),
        format!("detected_fields?query={selector}"),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_500_for_its_call_alone_and_is_counted() {
    let api = door(ApiSettings::default());
    let router = api.router();
    for (n, call) in calls("panics").iter().enumerate() {
        // Others go on meanwhile.
        let well = "labels?query=%7Bapp%3D%22well%22%7D";
        let ((status, text, _), (other, ..)) = tokio::join!(get(&router, call), get(&router, well));
        assert_eq!((status, other), (500, 200), "{call}: {text}");
        assert_eq!(text, "the call panicked", "{call}");
        assert_eq!(api.panics(), n as u64 + 1, "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_error_has_its_status_and_a_text() {
    let router = door(ApiSettings::default()).router();
    for (app, status, text, retry) in [
        ("down", 503, "the store is down", "6"),
        ("damaged", 500, "a damaged chunk", ""),
        ("too_many", 400, "too many streams", ""),
        ("busy", 429, "too many outstanding requests", "6"),
        ("gone", 499, "the request was cancelled by the client", ""),
    ] {
        for call in calls(app) {
            let told = get(&router, &call).await;
            assert_eq!(told, (status, text.into(), retry.into()), "{call}");
        }
    }
    let (status, text, _) = get(&router, &calls("late")[0]).await;
    assert_eq!(status, 504);
    assert!(
        text.starts_with("request timed out, decrease the duration"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn answers_are_shared_with_other_origins_if_that_is_set() {
    let shared = ApiSettings {
        cors_origins: vec!["http://ui.example".into()],
        ..ApiSettings::default()
    };
    for (settings, is_shared) in [(ApiSettings::default(), false), (shared, true)] {
        settings.validate().unwrap();
        let router = door(settings).router();
        for (method, path, status) in [
            ("OPTIONS", "/loki/api/v1/query_range", 204),
            ("GET", "/loki/api/v1/labels", 200),
            ("GET", "/loki/api/v1/labels?query=(", 400),
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
    }
    let bad = ApiSettings {
        cors_origins: vec!["ui.example".into()],
        ..ApiSettings::default()
    };
    assert!(bad.validate().is_err());
}
