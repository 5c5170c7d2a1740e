use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use lgtm_core::clock::ManualClock;
use tower::ServiceExt;

use crate::http::{RingPage, router};
use crate::instance::{Instance, RingDesc};
use crate::kv::MemoryKv;
use crate::ring::{Ring, RingSettings};
use crate::store::RingStore;

const NOW_S: i64 = 1_800_000_000;

async fn page() -> RingPage {
    let instance = Instance {
        id: "a b&c".into(),
        timestamp_s: NOW_S,
        ..Instance::default()
    };
    let desc: RingDesc = [instance].into_iter().collect();
    let store = RingStore::new(Arc::new(MemoryKv::new()), "ring").unwrap();
    let put = |ring: &mut RingDesc| {
        *ring = desc.clone();
        Ok(true)
    };
    store.update(put).await.unwrap();
    RingPage {
        name: "ingester".into(),
        ring: Ring::new(RingSettings::default(), &desc).into(),
        store: Some(store),
        clock: Arc::new(ManualClock::at_ms(NOW_S * 1000)),
    }
}

async fn ask(page: &RingPage, request: Request<Body>) -> (StatusCode, String, String) {
    let answer = router(page.clone()).oneshot(request).await.unwrap();
    let status = answer.status();
    let location = answer.headers().get(header::LOCATION);
    let location = location.map_or("", |l| l.to_str().unwrap()).to_owned();
    let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap(), location)
}

fn get(uri: &str, accept: &str) -> Request<Body> {
    let request = Request::get(uri).header(header::ACCEPT, accept);
    request.body(Body::empty()).unwrap()
}

fn post(form: &str) -> Request<Body> {
    Request::post("/")
        .body(Body::from(form.to_owned()))
        .unwrap()
}

#[tokio::test]
async fn the_page_is_html_or_json() {
    let page = page().await;
    let (status, html, _) = ask(&page, get("/", "text/html")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(html.contains("a b&amp;c") && html.contains("Show tokens"));
    let (_, html, _) = ask(&page, get("/?tokens=true", "*/*")).await;
    assert!(html.contains("<h2>a b&amp;c</h2>"));
    let (_, json, _) = ask(&page, get("/", "text/html, application/json")).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["shards"][0]["state"], "ACTIVE");
}

#[tokio::test]
async fn an_instance_is_forgotten_by_its_name() {
    let page = page().await;
    let (status, _, location) = ask(&page, post("forget=a+b%26c")).await;
    assert_eq!((status, location.as_str()), (StatusCode::FOUND, "#"));
    let store = page.store.clone().unwrap();
    assert!(store.load().await.unwrap().is_empty());
    let (status, text, _) = ask(&page, post("forget=a+b%26c")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(text.contains("a b&c"));
    assert_eq!(ask(&page, post("x=y")).await.0, StatusCode::BAD_REQUEST);
    let alone = RingPage {
        store: None,
        ..page
    };
    assert_eq!(
        ask(&alone, post("forget=x")).await.0,
        StatusCode::BAD_REQUEST
    );
}
