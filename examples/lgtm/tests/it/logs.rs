//! The log store in the host: pushed and asked over its port, its own lines stored, who speaks OTLP understood.

use std::process::Command;

use crate::host::programs::{free_port, pause, python_has};
use crate::host::{Host, now_ms};
use serde_json::{Value, json};

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A record at each level, exported at once.
const SDK: &str = r#"
import logging, sys
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
provider = LoggerProvider(resource=Resource.create({"service.name": "shop", "host.name": "h"}))
exporter = OTLPLogExporter(endpoint=sys.argv[1], compression=Compression.Gzip)
provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
log = logging.getLogger("shop")
log.setLevel(logging.DEBUG)
log.addHandler(LoggingHandler(level=logging.DEBUG, logger_provider=provider))
log.info("cart of %s filled", "alice", extra={"cart.items": 3})
log.error("payment failed")
provider.shutdown()
"#;

/// What a log query of the last hour gives: labels and lines.
fn lines(host: &Host, query: &str) -> Vec<(Value, String)> {
    let query: String = query.bytes().map(|b| format!("%{b:02X}")).collect();
    let path = format!("/loki/api/v1/query_range?query={query}&direction=forward");
    let answer = host.get(&path).json();
    let streams = answer["data"]["result"].as_array().unwrap().clone();
    let of = |s: Value| {
        let values = s["values"].as_array().unwrap().clone();
        let labels = s["stream"].clone();
        let line = move |v: Value| (labels.clone(), v[1].as_str().unwrap().to_owned());
        values.into_iter().map(line).collect::<Vec<_>>()
    };
    streams.into_iter().flat_map(of).collect()
}

fn push(app: &str, line: &str) -> String {
    let t_ns = format!("{}000000", now_ms());
    json!({"streams": [{"stream": {"app": app}, "values": [[t_ns, line]]}]}).to_string()
}

#[test]
fn what_is_pushed_is_found_before_and_after_a_flush_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path(), &[]);
    let answer = host.post(
        "/loki/api/v1/push",
        &[JSON],
        push("shop", "hello").as_bytes(),
    );
    assert_eq!((answer.status, answer.text()), (204, String::new()));
    let found = |host: &Host| {
        let found = lines(host, r#"{app="shop"} |= "hell""#);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            (&found[0].0["service_name"], &*found[0].1),
            (&json!("shop"), "hello")
        );
    };
    found(&host);
    assert!(host.terminate());
    let host = Host::start(dir.path(), &[]);
    found(&host);
    let answer = host.post("/flush", &[], b"");
    assert_eq!(
        answer.text(),
        "0 blocks, 1 chunks, 0 trace blocks written\n"
    );
    found(&host);
    let metrics = host.get("/metrics").text();
    for name in ["loki_ingester_memory_streams", "loki_querier_tail_active"] {
        assert!(metrics.contains(name), "{name}");
    }
}

#[test]
fn a_log_store_can_run_alone() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path(), &["-target=logs", "-otlp.http-listen-port=0"]);
    let answer = host.post(
        "/loki/api/v1/push",
        &[JSON],
        push("shop", "hello").as_bytes(),
    );
    assert_eq!(answer.status, 204);
    assert_eq!(lines(&host, r#"{app="shop"}"#).len(), 1);
    assert_eq!(host.get("/prometheus/api/v1/query?query=1").status, 404);
    let rules = host.get("/prometheus/api/v1/rules").json();
    assert_eq!(rules["data"], json!({"groups": []}));
    let services = host.get("/services").text();
    assert!(
        services.contains("logs-ingester") && !services.contains("metrics"),
        "{services}"
    );
    // Where Tempo has its pages.
    let version = host.get("/status/version").text();
    assert!(version.starts_with("lgtm, version "), "{version}");
    assert_eq!(host.get("/status/services").text(), services);
    assert_eq!(host.get("/status").text(), version + &services);
    assert_eq!(
        host.get("/status/config").text(),
        host.get("/config").text()
    );
    let endpoints = host.get("/status/endpoints").text();
    for line in endpoints.lines() {
        if let Some(path) = line.strip_prefix("GET ") {
            let path = path.replace("TENANT", "somebody");
            assert_eq!(host.get(&path).status, 200, "{path}");
        }
    }
    assert_eq!(host.get("/status/backendscheduler").status, 404);
}

#[test]
fn tenants_have_limits_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("lgtm.yaml");
    let overrides =
        "auth: {multitenancy_enabled: true}\noverrides: {small: {logs: {max_line_size: 3B}}}\n";
    std::fs::write(&config, overrides).unwrap();
    let host = Host::start(dir.path(), &[&format!("-config.file={}", config.display())]);
    for (tenant, status) in [("small", 400), ("other", 204)] {
        let headers = [JSON, ("X-Scope-OrgID", tenant)];
        let body = push("shop", "hello");
        let answer = host.post("/loki/api/v1/push", &headers, body.as_bytes());
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    let answer = host.post("/loki/api/v1/push", &[JSON], push("shop", "x").as_bytes());
    assert_eq!((answer.status, answer.text()), (401, "no org id\n".into()));
}

#[test]
fn the_hosts_own_lines_can_be_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path(), &["-self-monitoring=true", "-log.level=debug"]);
    let mut found = Vec::new();
    for _ in 0..100 {
        found = lines(&host, r#"{job="lgtm"} |= "lgtm is starting""#);
        if !found.is_empty() {
            break;
        }
        pause(100);
    }
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0["detected_level"], "info");
    // Storing lines says no more lines that are stored: the stream comes to rest.
    let count = || lines(&host, r#"{job="lgtm"} |~ "lgtm_logstore|lgtm_core::wal""#).len();
    pause(2500);
    assert_eq!(count(), 0);
}

#[test]
fn the_opentelemetry_sdk_is_understood() {
    if !python_has("opentelemetry.exporter.otlp.proto.http._log_exporter") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let host = Host::start(dir.path(), &[&format!("-otlp.http-listen-port={port}")]);
    for endpoint in [
        format!("http://127.0.0.1:{port}/v1/logs"),
        format!("{}/otlp/v1/logs", host.url()),
    ] {
        let sent = Command::new("python3")
            .args(["-W", "ignore", "-c", SDK, &endpoint])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&sent.stderr);
        assert!(sent.status.success() && !said.contains("Failed"), "{said}");
    }
    let found = lines(&host, r#"{service_name="shop"} |= "cart""#);
    assert_eq!(found.len(), 2, "{found:?}");
    let labels = &found[0].0;
    assert_eq!(found[0].1, "cart of alice filled");
    for (name, value) in [
        ("host_name", "h"),
        ("cart_items", "3"),
        ("detected_level", "info"),
        ("severity_number", "9"),
    ] {
        assert_eq!(labels[name], value, "{labels}");
    }
    let errors = lines(&host, r#"{service_name="shop"} | detected_level="error""#);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert_eq!(errors[0].1, "payment failed");
}
