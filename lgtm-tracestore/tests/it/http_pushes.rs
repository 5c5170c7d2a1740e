//! Pushes: what senders of all kinds send, and what they are told.

#![cfg(feature = "http")]

use crate::door;

use std::io::Write;

use crate::door::{Door, DoorParts, ID, JSON, PROTOBUF, Sent, otlp, shop};
use lgtm_core::codec::protobuf::{put_bytes_field, put_message};
use lgtm_core::codec::{Compression, Compressor, Lz4BlockSize};
use lgtm_core::units::ByteSize;
use lgtm_tracestore::components::DistributorSettings;
use lgtm_tracestore::http::ApiSettings;
use lgtm_tracestore::limits::Limits;
use serde_json::{Value, json};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A request of one span, as protobuf.
fn protobuf(trace: &[u8], span: &[u8], name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, 1, |out| {
        put_message(out, 2, |out| {
            put_message(out, 2, |out| {
                put_bytes_field(out, 1, trace);
                put_bytes_field(out, 2, span);
                put_bytes_field(out, 5, name.as_bytes());
            });
        });
    });
    out
}

fn one(n: u8) -> Vec<u8> {
    protobuf(&[n; 16], &[n; 8], "one")
}

async fn push(door: &Door, content_type: &str, body: impl Into<axum::body::Bytes>) -> door::Answer {
    door.ask(
        "POST",
        "/v1/traces",
        &[("content-type", content_type)],
        body,
    )
    .await
}

#[tokio::test]
async fn spans_come_in_both_spellings_and_every_compression() {
    let door = Door::new().await;
    let gzip = |bytes: &[u8]| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    };
    let with = |how: Compression, bytes: &[u8]| {
        let mut out = Vec::new();
        Compressor::default()
            .compress(how, bytes, &mut out)
            .unwrap();
        out
    };
    let lz4 = Compression::Lz4(Lz4BlockSize::KiB256);
    let snappy = |bytes: &[u8]| snap::raw::Encoder::new().compress_vec(bytes).unwrap();
    for (n, (encoding, body)) in [
        ("", one(1)),
        ("identity", one(2)),
        ("gzip", gzip(&one(3))),
        ("zstd", zstd::encode_all(&one(4)[..], 1).unwrap()),
        ("deflate", with(Compression::Zlib, &one(5))),
        ("lz4", with(lz4, &one(6))),
        ("snappy", snappy(&one(7))),
    ]
    .into_iter()
    .enumerate()
    {
        for path in ["/v1/traces", "/otlp/v1/traces"] {
            let headers = [("content-type", PROTOBUF), ("content-encoding", encoding)];
            let answer = door.ask("POST", path, &headers, body.clone()).await;
            assert_eq!(
                (answer.status, answer.body.len()),
                (200, 0),
                "{encoding}: {}",
                answer.text()
            );
            assert_eq!(answer.header("content-type"), PROTOBUF);
        }
        let id = format!("{:02x}", n + 1).repeat(16);
        let found = door.get(&format!("/api/traces/{id}"), &[]).await;
        assert_eq!(found.status, 200, "{encoding}");
        // Sent twice, there once.
        assert_eq!(found.json()["batches"].as_array().unwrap().len(), 1);
    }
    let body = gzip(shop().to_string().as_bytes());
    let headers = [
        ("content-type", "application/json; charset=utf-8"),
        ("content-encoding", "gzip"),
    ];
    let answer = door.ask("POST", "/v1/traces", &headers, body).await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, r#"{"partialSuccess":{}}"#)
    );
    assert_eq!(answer.header("content-type"), JSON);
}

#[tokio::test]
async fn json_is_read_in_all_its_spellings() {
    let door = Door::new().await;
    let span = |span: Value| json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]});
    let camel = json!({"traceId": "0A".repeat(16), "spanId": "0b".repeat(8), "name": "x", "kind": "SPAN_KIND_SERVER",
        "startTimeUnixNano": "1800000000000000000", "endTimeUnixNano": 1_800_000_001_000_000_000_u64,
        "status": {"code": 2}, "attributes": [{"key": "n", "value": {"intValue": 5}}], "someNewField": {"a": [1]}});
    let snake = json!({"trace_id": "0a".repeat(16), "span_id": "0C".repeat(8), "name": "x", "kind": 2,
        "start_time_unix_nano": 1_800_000_000_000_000_000_u64, "end_time_unix_nano": "1800000001000000000",
        "status": {"code": "STATUS_CODE_ERROR"}, "attributes": [{"key": "n", "value": {"int_value": "5"}}]});
    door.push(&span(camel)).await;
    let mut snake = span(snake);
    let scopes = snake["resourceSpans"][0]["scopeSpans"].take();
    snake = json!({"resource_spans": [{"scope_spans": scopes}]});
    door.push(&snake).await;
    let found = door
        .get(&format!("/api/v2/traces/{}", "0a".repeat(16)), &[])
        .await
        .json();
    let mut spans: Vec<Value> = Vec::new();
    for resource in found["trace"]["resourceSpans"].as_array().unwrap() {
        for scope in resource["scopeSpans"].as_array().unwrap() {
            spans.extend(scope["spans"].as_array().unwrap().iter().cloned());
        }
    }
    assert_eq!(spans.len(), 2, "{found}");
    for span in &mut spans {
        span.as_object_mut().unwrap().remove("spanId");
    }
    assert_eq!(spans[0], spans[1]);
}

#[tokio::test]
async fn what_is_no_push_is_refused_in_the_spelling_of_the_request() {
    let door = Door::new().await;
    let logs = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "x"}}]}]}]});
    let base64 = json!({"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "AAAAAAAAAAAAAAAAAAAAqw==", "spanId": "00000000000000a1"}]}]}]});
    for (content_type, body, status, code) in [
        (JSON, "{".to_owned(), 400, 3),
        (JSON, "[]".to_owned(), 400, 3),
        (JSON, base64.to_string(), 400, 3),
        (
            JSON,
            otlp(&[Sent::root("a", "0011", "x")]).to_string(),
            400,
            3,
        ),
        (
            JSON,
            otlp(&[Sent::root("a", &"0".repeat(32), "x")]).to_string(),
            400,
            3,
        ),
    ] {
        let answer = push(&door, content_type, body.clone()).await;
        assert_eq!(answer.status, status, "{body}");
        let json = answer.json();
        assert_eq!(json["code"], code, "{json}");
        assert!(!json["message"].as_str().unwrap().is_empty());
    }
    for (n, body) in [
        protobuf(&[1; 15], &[1; 8], "x"),
        protobuf(&[0; 16], &[1; 8], "x"),
        protobuf(&[1; 16], &[1; 7], "x"),
        protobuf(&[1; 16], &[0; 8], "x"),
        vec![0xff; 9],
        b"\x0a\xff\xff\xff\xff\x0f".to_vec(),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = push(&door, PROTOBUF, body).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (400, PROTOBUF),
            "{n}"
        );
        assert_eq!(&answer.body[..2], [0x08, 3], "{n}");
    }
    // Logs are no spans: nothing of them is known here, so that there is nothing to store.
    let answer = push(&door, JSON, logs.to_string()).await;
    assert!(matches!(answer.status, 200 | 400), "{}", answer.text());
    let headers = [("content-type", PROTOBUF), ("content-encoding", "gzip")];
    assert_eq!(
        door.ask("POST", "/v1/traces", &headers, "no gzip")
            .await
            .status,
        400
    );
    let headers = [("content-type", PROTOBUF), ("content-encoding", "br")];
    assert_eq!(
        door.ask("POST", "/v1/traces", &headers, one(1))
            .await
            .status,
        415
    );
    let answer = push(&door, "text/plain", "x").await;
    assert_eq!(answer.status, 415);
    assert_eq!(
        answer.text(),
        "415 unsupported media type, supported: [application/json, application/x-protobuf]"
    );
    assert_eq!(door.get("/v1/traces", &[]).await.status, 405);
    for (content_type, body) in [
        (JSON, ""),
        (JSON, "{}"),
        (JSON, r#"{"resourceSpans":[]}"#),
        (PROTOBUF, ""),
    ] {
        assert_eq!(
            push(&door, content_type, body).await.status,
            200,
            "{content_type} {body}"
        );
    }
    let discarded = door.store.distributor();
    let discarded: u64 = discarded.counts().discarded.lock().values().sum();
    assert_eq!(discarded, 6, "spans with ids that are none are counted");
}

#[tokio::test]
async fn who_sends_too_fast_is_told_when_to_come_back() {
    let mut limits = Limits::default();
    limits.ingestion.rate_limit_bytes = ByteSize::bytes(100);
    limits.ingestion.burst_size_bytes = ByteSize::bytes(100);
    let door = Door::with(DoorParts {
        limits,
        ..DoorParts::default()
    })
    .await;
    assert_eq!(
        push(
            &door,
            PROTOBUF,
            protobuf(&[1; 16], &[1; 8], &"x".repeat(40))
        )
        .await
        .status,
        200
    );
    let body = protobuf(&[2; 16], &[2; 8], &"x".repeat(40));
    let answer = push(&door, PROTOBUF, body.clone()).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "5"));
    assert_eq!(&answer.body[..2], [0x08, 8]);
    assert!(answer.body.windows(9).any(|w| w == b"RetryInfo"));
    let span = otlp(&[Sent::root("a", ID, "x")]).to_string();
    assert!(span.len() > 100);
    let too_large = push(
        &door,
        PROTOBUF,
        protobuf(&[2; 16], &[2; 8], &"x".repeat(400)),
    )
    .await;
    assert_eq!(
        (too_large.status, too_large.header("retry-after")),
        (429, "")
    );
    assert!(too_large.text().contains("RATE_LIMITED: batch size"));
    let call = door.call(EXPORT, &body).await;
    let (code, message) = call.grpc_status();
    assert_eq!(code, 8);
    assert!(
        message.starts_with("RATE_LIMITED: ingestion rate limit"),
        "{message}"
    );
    assert!(!call.header("grpc-status-details-bin").is_empty());
    // An empty request passes before any limit.
    assert_eq!(push(&door, PROTOBUF, "").await.status, 200);
}

#[tokio::test]
async fn spans_of_a_trace_that_is_full_are_a_partial_success() {
    let mut limits = Limits::default();
    limits.global.max_bytes_per_trace = ByteSize::bytes(100);
    let door = Door::with(DoorParts {
        limits,
        ..DoorParts::default()
    })
    .await;
    let large = |n: u8| protobuf(&[1; 16], &[n; 8], &"x".repeat(60));
    assert_eq!(push(&door, PROTOBUF, large(1)).await.body.len(), 0);
    let answer = push(&door, PROTOBUF, large(2)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        &answer.body[2..4],
        [0x08, 1],
        "one span: {:?}",
        answer.text()
    );
    let call = door.call(EXPORT, &large(3)).await;
    assert_eq!(call.grpc_status().0, 0);
    assert_eq!(&call.messages()[0][2..4], [0x08, 1]);
}

#[tokio::test]
async fn tenants_are_told_apart_and_must_be_named() {
    let settings = ApiSettings {
        multitenancy_enabled: true,
        ..ApiSettings::default()
    };
    let door = Door::with(DoorParts {
        settings,
        ..DoorParts::default()
    })
    .await;
    let answer = push(&door, JSON, "{}").await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (401, r#"{"code":16,"message":"no org id"}"#)
    );
    for tenant in ["a|b", "a/b"] {
        let headers = [("content-type", JSON), ("x-scope-orgid", tenant)];
        assert_eq!(
            door.ask("POST", "/v1/traces", &headers, "{}").await.status,
            400,
            "{tenant}"
        );
        let call = door
            .call_with(EXPORT, &[("x-scope-orgid", tenant)], &one(1))
            .await;
        assert_eq!(call.grpc_status().0, 3, "{tenant}");
    }
    assert_eq!(
        door.call(EXPORT, &one(1)).await.grpc_status(),
        (16, "no org id".into())
    );
    let call = door
        .call_with(EXPORT, &[("x-scope-orgid", "a")], &one(1))
        .await;
    assert_eq!(call.grpc_status().0, 0);
    assert_eq!(call.messages(), [Vec::<u8>::new()]);
}

#[tokio::test]
async fn calls_are_grpc_over_http2_and_nothing_else() {
    let door = Door::new().await;
    let headers = [("content-type", "application/grpc")];
    assert_eq!(door.ask("POST", EXPORT, &headers, "").await.status, 505);
    let headers = [("content-type", "application/json")];
    assert_eq!(door.ask("POST", EXPORT, &headers, "").await.status, 415);
    assert_eq!(door.call(EXPORT, &[0xff; 9]).await.grpc_status().0, 3);
    assert_eq!(door.call(EXPORT, b"").await.grpc_status().0, 0);
    let packed = [("grpc-encoding", "br")];
    let call = door.call_with(EXPORT, &packed, &one(1)).await;
    assert_eq!(
        call.grpc_status().0,
        0,
        "the message itself is not compressed"
    );
}

#[tokio::test]
async fn a_push_that_is_too_large_is_refused_before_it_is_read() {
    let distributor = DistributorSettings {
        max_recv_msg_size: ByteSize::kib(10),
        ..DistributorSettings::default()
    };
    let door = Door::with(DoorParts {
        distributor,
        ..DoorParts::default()
    })
    .await;
    let large = protobuf(&[1; 16], &[1; 8], &"x".repeat(20_000));
    let answer = push(&door, PROTOBUF, large.clone()).await;
    assert_eq!(answer.status, 413);
    assert!(answer.text().contains("max_recv_msg_size"));
    let bomb = zstd::encode_all(&large[..], 1).unwrap();
    let headers = [("content-type", PROTOBUF), ("content-encoding", "zstd")];
    assert_eq!(
        door.ask("POST", "/v1/traces", &headers, bomb).await.status,
        413
    );
    assert_eq!(door.call(EXPORT, &large).await.grpc_status().0, 3);
}

#[tokio::test]
async fn zipkin_and_jaeger_senders_are_answered_202() {
    let door = Door::new().await;
    let span = |id: &str, kind: &str| {
        json!({"traceId": "00000000000000c1", "id": id, "name": "get", "kind": kind, "timestamp": 1_799_999_990_000_000_u64,
            "duration": 5000, "localEndpoint": {"serviceName": kind.to_lowercase()}, "tags": {"error": "yes"},
            "annotations": [{"timestamp": 1_799_999_990_000_100_u64, "value": "sent"}]})
    };
    // Client and server share the id of the span.
    let body = json!([
        span("00000000000000d1", "CLIENT"),
        span("00000000000000d1", "SERVER")
    ]);
    let answer = door
        .ask(
            "POST",
            "/api/v2/spans",
            &[("content-type", JSON)],
            body.to_string(),
        )
        .await;
    assert_eq!(
        (answer.status, answer.body.len()),
        (202, 0),
        "{}",
        answer.text()
    );
    let found = door.get("/api/traces/c1", &[]).await.json();
    let batches = found["batches"].as_array().unwrap();
    assert_eq!(batches.len(), 2, "both halves are kept: {found}");
    let v1 = json!([{"traceId": "c2", "id": "d2", "name": "get", "annotations": [
        {"timestamp": 1_799_999_990_000_000_u64, "value": "sr", "endpoint": {"serviceName": "older"}}]}]);
    let answer = door
        .ask(
            "POST",
            "/api/v1/spans",
            &[("content-type", JSON)],
            v1.to_string(),
        )
        .await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(door.get("/api/traces/c2", &[]).await.status, 200);
    for (path, content_type, body, status) in [
        ("/api/v2/spans", JSON, "{", 400),
        ("/api/v2/spans", "application/x-protobuf", "\u{7f}", 400),
        ("/api/v2/spans", "text/plain", "", 415),
        ("/api/v2/spans", JSON, "[]", 202),
        ("/api/traces", "application/x-thrift", "", 400),
        (
            "/api/traces",
            "application/vnd.apache.thrift.binary",
            "xyz",
            400,
        ),
        ("/api/traces", JSON, "{}", 415),
    ] {
        let answer = door
            .ask("POST", path, &[("content-type", content_type)], body)
            .await;
        assert_eq!(
            answer.status,
            status,
            "{path} {content_type}: {}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn a_page_of_a_listed_origin_may_send_spans() {
    let settings = ApiSettings {
        cors_origins: vec!["https://ui.example".into()],
        ..ApiSettings::default()
    };
    let door = Door::with(DoorParts {
        settings,
        ..DoorParts::default()
    })
    .await;
    let headers = [
        ("origin", "https://ui.example"),
        ("access-control-request-method", "POST"),
    ];
    let preflight = door.ask("OPTIONS", "/v1/traces", &headers, "").await;
    assert_eq!(
        preflight.header("access-control-allow-origin"),
        "https://ui.example"
    );
    let headers = [("origin", "https://ui.example"), ("content-type", JSON)];
    let sent = door.ask("POST", "/v1/traces", &headers, "{}").await;
    assert_eq!(
        (sent.status, sent.header("access-control-allow-origin")),
        (200, "https://ui.example")
    );
}
