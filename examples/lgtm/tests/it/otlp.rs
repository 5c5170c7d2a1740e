//! OTLP over HTTP: the OpenTelemetry SDK as the sender, and requests that no SDK sends.

use std::net::TcpListener;
use std::process::Command;

use crate::host::{Host, now_ms};
use serde_json::{Value, json};

/// Counters, gauges and both kinds of histograms, exported once.
const SDK: &str = r#"
import sys
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.sdk.metrics import MeterProvider, Histogram
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import View, ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import Resource
exporter = OTLPMetricExporter(endpoint=sys.argv[1], compression=Compression.Gzip)
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3600000)
provider = MeterProvider(
    metric_readers=[reader],
    views=[View(instrument_name="native", aggregation=ExponentialBucketHistogramAggregation())],
    resource=Resource.create({"service.name": "shop", "service.instance.id": "i1", "host.name": "h"}))
meter = provider.get_meter("test")
meter.create_counter("app.requests", unit="By", description="bytes sent").add(7, {"http.method": "GET"})
meter.create_up_down_counter("app.queue").add(3)
classic = meter.create_histogram("app.latency", unit="ms", explicit_bucket_boundaries_advisory=[1.0, 10.0])
native = meter.create_histogram("native", unit="s")
for v in (0.5, 5, 50):
    classic.record(v)
    native.record(v)
provider.shutdown()
"#;

fn python_with_the_sdk() -> bool {
    let found = Command::new("python3")
        .args(["-c", "import opentelemetry.exporter.otlp.proto.http"])
        .output()
        .is_ok_and(|o| o.status.success());
    assert!(
        found || std::env::var_os("CI").is_none(),
        "the OpenTelemetry SDK is missing, and CI must have it"
    );
    if !found {
        eprintln!("skipped: python3 has no OpenTelemetry SDK");
    }
    found
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn value_of(host: &Host, query: &str) -> Value {
    let path = format!("/prometheus/api/v1/query?query={query}");
    host.get(&path).json()["data"]["result"].clone()
}

#[test]
fn the_opentelemetry_sdk_is_understood() {
    if !python_with_the_sdk() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let host = Host::start(dir.path(), &[&format!("-otlp.http-listen-port={port}")]);
    for endpoint in [
        format!("http://127.0.0.1:{port}/v1/metrics"),
        format!("{}/otlp/v1/metrics", host.url()),
    ] {
        let sent = Command::new("python3")
            .args(["-c", SDK, &endpoint])
            .output()
            .unwrap();
        assert!(
            sent.status.success() && sent.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&sent.stderr)
        );
        let total = value_of(&host, "app_requests_bytes_total");
        assert_eq!(
            total[0]["metric"],
            json!({"__name__": "app_requests_bytes_total", "http_method": "GET", "instance": "i1", "job": "shop"})
        );
        assert_eq!(total[0]["value"][1], "7");
        assert_eq!(value_of(&host, "app_queue")[0]["value"][1], "3");
        let buckets = value_of(&host, "app_latency_milliseconds_bucket");
        let counts: Vec<(&str, &str)> = (buckets.as_array().unwrap().iter())
            .map(|b| {
                (
                    b["metric"]["le"].as_str().unwrap(),
                    b["value"][1].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(counts, [("+Inf", "3"), ("1", "1"), ("10", "2")]);
        let native = value_of(&host, "native_seconds");
        assert_eq!(native[0]["histogram"][1]["count"], "3", "{native}");
        assert_eq!(native[0]["histogram"][1]["sum"], "55.5", "{native}");
        assert_eq!(
            value_of(&host, "target_info")[0]["metric"]["host_name"],
            "h"
        );
    }
    let metadata = host.get("/prometheus/api/v1/metadata?metric=app_requests_bytes_total");
    assert_eq!(
        metadata.json()["data"]["app_requests_bytes_total"],
        json!([{"type": "counter", "help": "bytes sent", "unit": "bytes"}])
    );
}

fn gauge(name: &str, t_ms: i64, attributes: &str) -> String {
    format!(
        r#"{{"name":"{name}","gauge":{{"dataPoints":[{{"timeUnixNano":"{}","asDouble":1.5,"attributes":[{attributes}]}}]}}}}"#,
        t_ms * 1_000_000
    )
}

fn request(metrics: &[String]) -> String {
    format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{}]}}]}}]}}"#,
        metrics.join(",")
    )
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[test]
fn what_is_not_stored_is_told_in_the_words_of_the_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(
        dir.path(),
        &["-otlp.http-listen-port=0", "-max-recv-msg-size=1MiB"],
    );
    let post = |headers: &[(&str, &str)], body: &str| {
        host.post("/otlp/v1/metrics", headers, body.as_bytes())
    };
    let t_ms = now_ms();
    let good = gauge("good", t_ms, "");
    let answer = post(&[JSON], &request(std::slice::from_ref(&good)));
    assert_eq!((answer.status, answer.json()), (200, json!({})));
    let late = gauge("late", t_ms + 3_600_000, "");
    let delta = r#"{"name":"d","sum":{"aggregationTemporality":1,"dataPoints":[{"asInt":"1"}]}}"#;
    let answer = post(
        &[JSON],
        &request(&[good.clone(), late.clone(), delta.to_owned()]),
    );
    let partial = &answer.json()["partialSuccess"];
    assert_eq!(
        (answer.status, &partial["rejectedDataPoints"]),
        (200, &json!("2"))
    );
    let message = partial["errorMessage"].as_str().unwrap();
    assert!(message.contains("err-mimir-too-far-in-future"), "{message}");
    // Nothing stored is no success.
    let answer = post(&[JSON], &request(&[late]));
    assert_eq!((answer.status, &answer.json()["code"]), (400, &json!(3)));
    for (headers, body, status) in [
        (
            &[JSON][..],
            "{\"resourceMetrics\":[{\"scopeMetrics\":7}]}",
            400,
        ),
        (&[JSON], "{", 400),
        (&[("Content-Type", "text/plain")], "{}", 415),
        (&[JSON, ("Content-Encoding", "br")], "{}", 415),
        (&[JSON, ("Content-Encoding", "gzip")], "{}", 400),
        (
            &[("Content-Type", "application/x-protobuf")],
            "\u{7f}\u{7f}",
            400,
        ),
        (&[JSON], &"x".repeat(2 << 20), 413),
    ] {
        assert_eq!(post(headers, body).status, status, "{headers:?}");
    }
    assert_eq!(value_of(&host, "good")[0]["value"][1], "1.5");
}

#[test]
fn pushes_in_flight_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(
        dir.path(),
        &[
            "-otlp.http-listen-port=0",
            "-server.max-inflight-push-requests-bytes=128KiB",
        ],
    );
    // What a request becomes in memory is asked for in steps of 64 KiB: one finds room, a thousand points do not.
    let many: Vec<String> = (0..1000)
        .map(|i| gauge(&format!("g{i}"), now_ms(), ""))
        .collect();
    let answer = host.post("/otlp/v1/metrics", &[JSON], request(&many).as_bytes());
    assert_eq!(answer.status, 503);
    assert!(
        answer.headers.to_ascii_lowercase().contains("retry-after")
            && answer.text().contains("the limit is 131072"),
        "{}",
        answer.text()
    );
    let answer = host.post("/otlp/v1/metrics", &[JSON], request(&many[..1]).as_bytes());
    assert_eq!(answer.status, 200, "what was refused holds nothing");
}
