//! Programs of others that push logs: Python's handlers for Loki.

use std::process::Command;

use crate::host::Host;
use crate::host::programs::python_has;
use serde_json::{Value, json};

/// `python-logging-loki`: each record by itself, as JSON; its older form too.
const LOGGING_LOKI: &str = r#"
import logging, sys
import logging_loki
for version, path in [("1", "/loki/api/v1/push"), ("0", "/api/prom/push")]:
    log = logging.getLogger("shop" + version)
    log.setLevel(logging.DEBUG)
    tags = {"app": "logging-loki", "form": version}
    log.addHandler(logging_loki.LokiHandler(url=sys.argv[1] + path, tags=tags, version=version))
    log.info("cart of %s filled", "alice", extra={"tags": {"cart": "full"}})
    log.error("payment failed\nin two lines")
"#;

/// `loki-logger-handler`: many records at a time, as JSON within gzip, with structured metadata.
const LOGGER_HANDLER: &str = r#"
import logging, sys
from loki_logger_handler.loki_logger_handler import LokiLoggerHandler
handler = LokiLoggerHandler(
    url=sys.argv[1] + "/loki/api/v1/push",
    labels={"app": "loki-logger-handler"},
    label_keys={},
    timeout=1,
    compressed=True,
    enable_self_errors=True,
    enable_structured_loki_metadata=True,
    loki_metadata={"service": "shop"},
    loki_metadata_keys=["trace_id"],
)
log = logging.getLogger("shop")
log.setLevel(logging.DEBUG)
log.addHandler(handler)
for n in range(500):
    log.info("order %d", n, extra={"trace_id": "t%d" % n})
"#;

fn run(script: &str, host: &Host) {
    let sent = Command::new("python3")
        .args(["-W", "ignore", "-c", script, &host.url()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&sent.stderr);
    assert!(sent.status.success() && said.is_empty(), "{said}");
}

/// The entries of the last hour, as labels and lines.
fn entries(host: &Host, query: &str) -> Vec<(Value, String)> {
    let query: String = query.bytes().map(|b| format!("%{b:02X}")).collect();
    let path = format!("/loki/api/v1/query_range?query={query}&direction=forward&limit=1000");
    let answer = host.get(&path).json();
    let mut out = Vec::new();
    for stream in answer["data"]["result"].as_array().unwrap() {
        for value in stream["values"].as_array().unwrap() {
            let line = value[1].as_str().unwrap().to_owned();
            out.push((stream["stream"].clone(), line));
        }
    }
    out
}

#[test]
fn handlers_of_python_push_and_their_lines_come_back() {
    if !python_has("logging_loki") || !python_has("loki_logger_handler") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path(), &[]);
    run(LOGGING_LOKI, &host);
    run(LOGGER_HANDLER, &host);
    for _ in 0..2 {
        for form in ["0", "1"] {
            let query = format!(r#"{{app="logging-loki", form="{form}"}}"#);
            let mut found = entries(&host, &query);
            found.sort_by(|a, b| a.1.cmp(&b.1));
            let lines: Vec<&str> = found.iter().map(|e| e.1.as_str()).collect();
            assert_eq!(
                lines,
                ["cart of alice filled", "payment failed\nin two lines"]
            );
            assert_eq!(found[0].0["cart"], "full");
            assert_eq!(found[0].0["detected_level"], "info");
            assert_eq!(found[1].0["severity"], "error");
        }
        let query = r#"{app="loki-logger-handler"} | json | service="shop""#;
        let mut found = entries(&host, query);
        assert_eq!(found.len(), 500);
        found.sort_by_key(|e| {
            e.0["trace_id"].as_str().unwrap()[1..]
                .parse::<u32>()
                .unwrap()
        });
        for (n, (labels, _)) in found.iter().enumerate() {
            assert_eq!(labels["trace_id"], json!(format!("t{n}")));
            assert_eq!(labels["message"], json!(format!("order {n}")), "{labels}");
        }
        // Then from the object store.
        assert_eq!(host.post("/flush", &[], b"").status, 200);
    }
}
