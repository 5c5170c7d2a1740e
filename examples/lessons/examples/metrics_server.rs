//! A server of your own: the Prometheus API and `/metrics` of the store that it holds, with a route of yours beside them.

use lgtm_core::model::TimestampMs;
use std::io::{Read, Write};
use std::net::TcpStream;

use lgtm_tsdb::axum::{self, routing::get};
use lgtm_tsdb::lgtm_core::Result;
use lgtm_tsdb::lgtm_core::telemetry::{CONTENT_TYPE, ProcessCollector};
use lgtm_tsdb::prelude::*;

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let registry = Registry::new();
    ProcessCollector::register(&registry, &lgtm_tsdb::lgtm_core::clock::SystemClock::new());
    let db = Tsdb::builder(folder.path(), Backend::memory())
        .metrics(&registry)
        .open()
        .await?;

    let own = registry.clone();
    let metrics = async move || ([("content-type", CONTENT_TYPE)], own.encode());
    let router = db
        .router()
        .route("/metrics", get(metrics))
        .route("/hello", get(async || "hello"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.map_err(|e| Error::Unavailable(e.to_string()))?;
    let address = listener.local_addr().expect("it is bound");
    let server = axum::serve(listener, router).into_future();

    // What your program measures can go in without the network.
    let labels = Labels::from_pairs([("__name__", "orders_total"), ("shop", "berlin")])?;
    let sample = Sample {
        t_ms: TimestampMs::new(1_700_000_000_000),
        value: 7.0,
    };
    let report = db
        .append(&TenantId::anonymous(), &[(labels, vec![sample])])
        .await?;
    assert_eq!(report.samples, 1);
    // Grafana, promtool and curl ask as they ask Prometheus.
    let asked = tokio::task::spawn_blocking(move || {
        let orders = get_page(address, "/api/v1/query?query=orders_total&time=1700000000");
        (orders, get_page(address, "/metrics"))
    });
    let (orders, metrics) = tokio::select! {
        asked = asked => asked.expect("it does not panic"),
        ended = server => panic!("the server ended: {ended:?}"),
    };
    assert!(orders.contains(r#""value":[1700000000,"7"]"#), "{orders}");
    assert!(
        metrics.contains("cortex_ingester_memory_series 1\n"),
        "{metrics}"
    );

    db.close().await
}

fn get_page(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}
