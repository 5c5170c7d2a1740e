//! Traces through the whole host: as the first screen of the README tells, as OpenTelemetry's SDK sends them, and the conformance sets through the door.

use crate::host;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host::programs::{free_port, python_has};
use crate::host::{Host, now_ms};
use serde_json::{Value, json};

const ID: &str = "5b8efff798038103d269b633813fc60c";

pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("LGTM_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let path = root.join(path);
    assert!(
        path.exists() || std::env::var_os("CI").is_none(),
        "{} is missing, and CI must have it",
        path.display()
    );
    path.exists().then_some(path)
}

/// A span of a shop, that begins now.
fn span(trace: &str, name: &str) -> String {
    let t_ms = now_ms();
    let service = json!([{"key": "service.name", "value": {"stringValue": "shop"}}]);
    let span = json!({
        "traceId": trace,
        "spanId": "eee19b7ec3c1b174",
        "name": name,
        "startTimeUnixNano": format!("{t_ms}000000"),
        "endTimeUnixNano": format!("{}000000", t_ms + 20),
    });
    json!({"resourceSpans": [{"resource": {"attributes": service}, "scopeSpans": [{"spans": [span]}]}]}).to_string()
}

fn escaped(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

fn search(host: &Host, query: &str) -> Value {
    host.get(&format!("/api/search?q={}", escaped(query)))
        .json()
}

#[test]
fn a_span_is_found_by_id_and_by_traceql_before_and_after_a_flush_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["-otlp.http-listen-port=0", "-otlp.grpc-listen-port=0"];
    let host = Host::start(dir.path(), &flags);
    let pushed = host.post(
        "/v1/traces",
        &[("Content-Type", "application/json")],
        span(ID, "checkout").as_bytes(),
    );
    assert_eq!(
        (pushed.status, pushed.text().as_str()),
        (200, r#"{"partialSuccess":{}}"#)
    );
    let check = |host: &Host| {
        let found = host.get(&format!("/api/traces/{ID}")).json();
        assert_eq!(
            found["batches"][0]["scopeSpans"][0]["spans"][0]["name"],
            "checkout"
        );
        let found = search(host, r#"{resource.service.name="shop"}"#);
        assert_eq!(found["traces"][0]["traceID"], ID, "{found}");
        let found = host.get(&format!("/tempo/api/v2/traces/{ID}")).json();
        assert!(found["trace"]["resourceSpans"].is_array());
    };
    check(&host);
    let flushed = host.post("/flush", &[], b"");
    assert!(
        flushed.text().ends_with("1 trace blocks written\n"),
        "{}",
        flushed.text()
    );
    check(&host);
    assert!(host.terminate());
    check(&Host::start(dir.path(), &flags));
    let tenant = dir.path().join("data/bucket/traces/anonymous");
    assert!(tenant.exists() || dir.path().join("bucket/traces/anonymous").exists());
}

/// A real instrumented flow: a request, a call below it, an error. Sent by gRPC and by HTTP, with and without compression.
const SDK: &str = r#"
import sys
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
import grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http
from opentelemetry.exporter.otlp.proto.http import Compression
http, grpc_port, main_port = sys.argv[1:4]
exporters = {
    "http": Http(endpoint=http + "/v1/traces"),
    "http-gzip": Http(endpoint=http + "/v1/traces", compression=Compression.Gzip),
    "grpc": Grpc(endpoint="127.0.0.1:" + grpc_port, insecure=True),
    "grpc-gzip": Grpc(endpoint="127.0.0.1:" + grpc_port, insecure=True, compression=grpc.Compression.Gzip),
    "grpc-main": Grpc(endpoint="127.0.0.1:" + main_port, insecure=True),
}
for name, exporter in exporters.items():
    provider = TracerProvider(resource=Resource.create({"service.name": "sdk-" + name}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("shop", "1.0")
    with tracer.start_as_current_span("POST /order", kind=SpanKind.SERVER) as root:
        root.set_attribute("http.status_code", 500)
        with tracer.start_as_current_span("reserve", kind=SpanKind.CLIENT) as child:
            child.add_event("lock", {"waited_ms": 12})
            child.set_status(Status(StatusCode.ERROR, "out of stock"))
        print(name, format(root.get_span_context().trace_id, "032x"))
    for n in range(300):
        with tracer.start_as_current_span("GET /cart") as span:
            span.set_attribute("n", n)
    assert provider.force_flush(10000), name
    provider.shutdown()
"#;

#[test]
fn the_sdk_of_opentelemetry_sends_a_flow_that_is_found() {
    if !python_has("opentelemetry.exporter.otlp.proto.grpc.trace_exporter") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (http, grpc) = (free_port(), free_port());
    let flags = [
        format!("-otlp.http-listen-port={http}"),
        format!("-otlp.grpc-listen-port={grpc}"),
    ];
    let host = Host::start(dir.path(), &[&flags[0], &flags[1]]);
    let main = host.url().rsplit(':').next().unwrap().to_owned();
    let http = format!("http://127.0.0.1:{http}");
    let sent = Command::new("python3")
        .args(["-W", "ignore", "-c", SDK, &http, &grpc.to_string(), &main])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&sent.stderr);
    assert!(sent.status.success() && !said.contains("Failed"), "{said}");
    let sent = String::from_utf8(sent.stdout).unwrap();
    let flows: Vec<(&str, &str)> = sent.lines().map(|l| l.split_once(' ').unwrap()).collect();
    assert_eq!(flows.len(), 5, "{sent}{said}");
    for _ in 0..2 {
        for (name, id) in &flows {
            let found = host.get(&format!("/api/v2/traces/{id}")).json();
            let spans = found["trace"]["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array();
            assert_eq!(spans.map(Vec::len), Some(2), "{name}: {found}");
            let query = format!(
                r#"{{ resource.service.name = "sdk-{name}" && kind = server }} > {{ status = error && event:name = "lock" }}"#
            );
            let found = search(&host, &query);
            let short = id.trim_start_matches('0');
            assert_eq!(found["traces"][0]["traceID"], short, "{name}: {found}");
            let query =
                format!(r#"{{ resource.service.name = "sdk-{name}" }} | count_over_time()"#);
            let path = format!("/api/metrics/query?q={}", escaped(&query));
            assert_eq!(host.get(&path).json()["series"][0]["value"], 302, "{name}");
        }
        assert_eq!(host.post("/flush", &[], b"").status, 200);
    }
}

/// Grafana's calls over the HTTP port, by Google's gRPC: streams of `tempopb.StreamingQuerier`, on which messages are not decoded here.
const STREAMS: &str = r#"
import sys, time, grpc
def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128]); n >>= 7
    return out + bytes([n])
def text(field, t): return bytes([field << 3 | 2]) + varint(len(t)) + t
def number(field, n): return bytes([field << 3]) + varint(n)
channel = grpc.insecure_channel("127.0.0.1:" + sys.argv[1])
def call(method, request):
    raw = channel.unary_stream("/tempopb.StreamingQuerier/" + method, request_serializer=bytes, response_deserializer=bytes)
    return list(raw(request, timeout=10, metadata=[("x-scope-orgid", "anonymous")]))
now = int(time.time())
search = number(4, 1) + number(5, now - 900) + number(6, now + 1) + text(8, b"{}") + number(9, 0)
found = call("Search", search)
assert len(found) == 1 and b"shop" in found[0], found
assert b"service.name" in call("SearchTagsV2", b"")[0]
assert b"shop" in call("SearchTagValuesV2", text(1, b"resource.service.name"))[0]
assert len(call("MetricsQueryRange", text(1, b"{} | rate()"))) == 1
assert len(call("MetricsQueryInstant", text(1, b"{} | rate()"))) == 1
try:
    call("Search", text(8, b"{ name = }"))
    raise SystemExit("not refused")
except grpc.RpcError as e:
    assert e.code() == grpc.StatusCode.INVALID_ARGUMENT and "parse error" in e.details(), e
print("done")
"#;

#[test]
fn streams_come_over_the_http_port_beside_http() {
    if !python_has("grpc") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let flags = ["-otlp.http-listen-port=0", "-otlp.grpc-listen-port=0"];
    let host = Host::start(dir.path(), &flags);
    host.post(
        "/v1/traces",
        &[("Content-Type", "application/json")],
        span(ID, "checkout").as_bytes(),
    );
    let port = host.url().rsplit(':').next().unwrap().to_owned();
    for _ in 0..2 {
        let ran = Command::new("python3")
            .args(["-c", STREAMS, &port])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success() && ran.stdout == b"done\n", "{said}");
        assert_eq!(host.get("/api/echo").status, 200);
        host.post("/flush", &[], b"");
    }
}

/// Asks a host a set of published queries, for the tenant of the set's name.
pub(crate) fn examine(exam: &Path, set: &Path, host: &Host, more: &[&str]) {
    let tenant = set.file_name().unwrap().to_str().unwrap();
    let ran = Command::new("python3")
        .arg(exam)
        .args(["--base", &host.url(), "--otlp-base", &host.url()])
        .args(["--tenant", tenant, "--min-pass", "1.0", "--set"])
        .arg(set)
        .args(more)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(
        ran.status.success(),
        "{tenant}: {said}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

#[test]
#[ignore = "asks eight hundred queries of a debug build, which takes a minute"]
fn the_conformance_sets_are_answered_through_the_door() {
    let (Some(exam), Some(conformance)) = (shared("lab/traceql_exam.py"), shared("conformance"))
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "-auth.multitenancy-enabled=true",
        // The sets list all spans.
        "-traces.api.max-spans-per-span-set=1000",
        "-otlp.http-listen-port=0",
        "-otlp.grpc-listen-port=0",
    ];
    let host = Host::start(dir.path(), &flags);
    for set in ["traceql", "traceql-2"] {
        let set = conformance.join(set);
        // Of live traces, then of blocks.
        examine(&exam, &set, &host, &["--push"]);
        assert_eq!(host.post("/flush", &[], b"").status, 200);
        examine(&exam, &set, &host, &[]);
    }
}

#[test]
fn the_host_stores_spans_of_what_it_answers() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "-self-monitoring=true",
        "-self-monitoring-trace-ratio=1",
        "-otlp.http-listen-port=0",
        "-otlp.grpc-listen-port=0",
    ];
    let host = Host::start(dir.path(), &flags);
    let caller = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{caller}-b7ad6b7169203331-01");
    let echo = host.try_request("GET", "/api/echo", &[("traceparent", &parent)], b"");
    assert_eq!(echo.unwrap().status, 200);
    for _ in 0..100 {
        let found = host.get(&format!("/api/traces/{caller}"));
        if found.status == 200 {
            let span = &found.json()["batches"][0]["scopeSpans"][0]["spans"][0];
            assert_eq!(span["name"], "GET /api/echo");
            let flush = host.post("/flush", &[], b"");
            assert_eq!(flush.status, 200);
            let found = search(
                &host,
                r#"{ resource.service.name = "lgtm" && span.http.response.status_code = 200 }"#,
            );
            assert!(!found["traces"].as_array().unwrap().is_empty());
            return;
        }
        host::programs::pause(100);
    }
    panic!("no span after 10 s");
}

#[test]
fn the_golden_pushes_are_taken() {
    let Some(input) = shared("golden/tempo/input") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let flags = ["-otlp.http-listen-port=0", "-otlp.grpc-listen-port=0"];
    let host = Host::start(dir.path(), &flags);
    for part in ["part1.jsonl", "part2.jsonl"] {
        let text = std::fs::read_to_string(input.join(part)).unwrap();
        for line in text.lines().filter(|l| !l.is_empty()) {
            let pushed = host.post(
                "/v1/traces",
                &[("Content-Type", "application/json")],
                line.as_bytes(),
            );
            assert_eq!(pushed.status, 200, "{}", pushed.text());
            let json: Value = serde_json::from_str(line).unwrap();
            let scopes = &json["resourceSpans"][0]["scopeSpans"];
            if let Some(id) = scopes[0]["spans"][0]["traceId"].as_str() {
                assert_eq!(host.get(&format!("/api/traces/{id}")).status, 200, "{id}");
            }
        }
    }
}
