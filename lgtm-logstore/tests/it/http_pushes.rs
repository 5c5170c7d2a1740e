//! Pushes at the door: every wrapping that senders use, and what is said of those that are not taken.

#![cfg(feature = "http")]

use crate::door::{Door, DoorParts, JSON, NOW_S, PROTOBUF, protobuf_push};
use axum::http::header;
use lgtm_core::codec::{Compression, Compressor, Lz4BlockSize};
use lgtm_core::go::format_rfc3339;
use lgtm_core::model::TimestampNs;
use lgtm_core::units::ByteSize;
use lgtm_logstore::components::DistributorSettings;
use lgtm_logstore::limits::Limits;
use serde_json::{Value, json};

const PUSH: &str = "/loki/api/v1/push";

fn ns(before_s: i64) -> String {
    ((NOW_S - before_s) * 1_000_000_000).to_string()
}

/// What a log query gives of the minute before now.
async fn lines(door: &Door, query: &str) -> Value {
    let (start, end) = (ns(60), ns(0));
    let params = [
        ("query", query),
        ("start", start.as_str()),
        ("end", end.as_str()),
    ];
    let answer = door.get("/loki/api/v1/query_range", &params).await;
    answer.json()["data"]["result"].clone()
}

fn compressed(with: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Compressor::default()
        .compress(with, bytes, &mut out)
        .unwrap();
    out
}

fn json_push(app: &str) -> String {
    json!({"streams": [{"stream": {"app": app}, "values": [[ns(5), "a line", {}]]}]}).to_string()
}

#[tokio::test]
async fn pushes_are_taken_in_every_wrapping() {
    let door = Door::new().await;
    let block = |app: &str| protobuf_push(&format!("{{app=\"{app}\"}}"), &[(5, "a line")]);
    let cases: Vec<(&str, &str, &str, Vec<u8>)> = vec![
        (PUSH, JSON, "", json_push("json").into()),
        (PUSH, "application/json; charset=utf-8", "identity", json_push("json-2").into()),
        (PUSH, JSON, "gzip", compressed(Compression::Gzip, json_push("json-gzip").as_bytes())),
        (PUSH, JSON, "deflate", compressed(Compression::Deflate, json_push("json-raw").as_bytes())),
        (PUSH, JSON, "deflate", compressed(Compression::Zlib, json_push("json-zlib").as_bytes())),
        (PUSH, JSON, "zstd", compressed(Compression::Zstd, json_push("json-zstd").as_bytes())),
        (PUSH, PROTOBUF, "", block("proto")),
        (PUSH, PROTOBUF, "snappy", block("proto-snappy")),
        (PUSH, "application/octet-stream", "", block("proto-other")),
        (PUSH, PROTOBUF, "gzip", compressed(Compression::Gzip, &block("proto-gzip"))),
        (PUSH, PROTOBUF, "zstd", compressed(Compression::Zstd, &block("proto-zstd"))),
        (
            "/api/prom/push",
            JSON,
            "",
            json!({"streams": [{"labels": "{app=\"older\"}", "entries": [{"ts": format_rfc3339(TimestampNs::new((NOW_S - 5) * 1_000_000_000)), "line": "a line"}]}]}).to_string().into(),
        ),
        ("/api/prom/push", PROTOBUF, "", block("older-proto")),
    ];
    let count = cases.len();
    for (path, content_type, encoding, body) in cases {
        let headers = [
            ("Content-Type", content_type),
            ("Content-Encoding", encoding),
        ];
        let answer = door.post(path, &headers, body).await;
        assert_eq!(
            (answer.status, answer.text()),
            (204, String::new()),
            "{content_type} {encoding}"
        );
    }
    let (start, end) = (ns(60), ns(0));
    let params = [("start", start.as_str()), ("end", end.as_str())];
    let apps = door
        .get("/loki/api/v1/label/app/values", &params)
        .await
        .json();
    assert_eq!(apps["data"].as_array().unwrap().len(), count, "{apps}");
}

#[tokio::test]
async fn pushes_that_are_none_are_told_so() {
    let door = Door::with(DoorParts {
        distributor: DistributorSettings {
            max_recv_msg_size: ByteSize::kib(64),
            ..Default::default()
        },
        ..DoorParts::default()
    })
    .await;
    let bomb = compressed(Compression::Gzip, &vec![b' '; 1 << 20]);
    for (content_type, encoding, body, status, text) in [
        (
            JSON,
            "",
            "{}".into(),
            422,
            "error at least one valid stream is required for ingestion\n",
        ),
        (
            JSON,
            "",
            r#"{"streams":[]}"#.into(),
            422,
            "error at least one valid stream",
        ),
        (
            JSON,
            "",
            r#"{"streams":[{"stream":{"a":"b"},"values":[]}]}"#.into(),
            204,
            "",
        ),
        (
            JSON,
            "br",
            "{}".into(),
            400,
            "Content-Encoding \"br\" not supported\n",
        ),
        ("", "", "{}".into(), 400, "mime: no media type\n"),
        (
            "text/plain",
            "",
            "{}".into(),
            400,
            "snappy: corrupt input\n",
        ),
        (PROTOBUF, "", vec![0xff; 9], 400, "snappy: corrupt input\n"),
        (PROTOBUF, "gzip", b"{}".to_vec(), 400, "body is not Gzip"),
        (
            JSON,
            "",
            "{\"streams\":".into(),
            400,
            "request is not a JSON push",
        ),
        (
            JSON,
            "",
            r#"{"streams":[{"stream":{"bad-name":"x"},"values":[["1","x"]]}]}"#.into(),
            400,
            "couldn't parse labels: 1:5: parse error: unexpected character inside braces: '-'\n",
        ),
        (
            JSON,
            "",
            vec![b' '; 100 << 10],
            413,
            "request body too large: ",
        ),
        (JSON, "gzip", bomb, 413, "request body too large: "),
    ] {
        let headers = [
            ("Content-Type", content_type),
            ("Content-Encoding", encoding),
        ];
        let body: Vec<u8> = body;
        let answer = door.post(PUSH, &headers, body).await;
        let told = (answer.status, answer.text());
        assert!(
            told.0 == status && told.1.starts_with(text),
            "{content_type} {encoding}: {told:?}"
        );
        assert!(
            status == 204 || told.1.ends_with('\n'),
            "a line ends it: {told:?}"
        );
    }
}

#[tokio::test]
async fn the_useful_text_stands_in_the_first_line_and_the_rest_is_stored() {
    let limits = Limits {
        max_line_size: ByteSize::bytes(20),
        ingestion_rate_mb: 0.001,
        ingestion_burst_size_mb: 0.001,
        discover_service_name: Vec::new(),
        ..Limits::default()
    };
    let door = Door::of(limits).await;
    let long = "x".repeat(30);
    let body =
        json!({"streams": [{"stream": {"app": "a"}, "values": [[ns(5), long], [ns(4), "fits"]]}]});
    let headers = [("Content-Type", JSON)];
    let answer = door.post(PUSH, &headers, body.to_string()).await;
    let first = "max entry size '20' bytes exceeded for stream '{app=\"a\"}' while adding an entry with length '30' bytes";
    assert_eq!(
        (answer.status, answer.text().lines().next()),
        (400, Some(first))
    );
    let found = lines(&door, "{app=\"a\"}").await;
    assert_eq!(found[0]["values"][0][1], "fits");
    let many: Vec<Value> = (0..100)
        .map(|n| json!([ns(3), format!("line {n:010}")]))
        .collect();
    let body = json!({"streams": [{"stream": {"app": "a"}, "values": many}]});
    let answer = door.post(PUSH, &headers, body.to_string()).await;
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert!(
        answer.text().starts_with(
            "ingestion rate limit exceeded for user anonymous (limit: 1048 bytes/sec)"
        )
    );
    assert!(!answer.header(header::RETRY_AFTER).is_empty());
}

#[tokio::test]
async fn otlp_is_taken_in_both_spellings_and_refused_by_a_status() {
    let door = Door::with(DoorParts {
        limits: Limits {
            reject_old_samples: true,
            ..Limits::default()
        },
        ..DoorParts::default()
    })
    .await;
    let logs = |time: &str| {
        json!({"resourceLogs": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}, {"key": "host.name", "value": {"stringValue": "h"}}]},
            "scopeLogs": [{"scope": {"name": "lib"}, "logRecords": [{"timeUnixNano": time, "severityNumber": 17, "severityText": "ERROR", "body": {"stringValue": "broken"}}]}],
        }]})
        .to_string()
    };
    for path in ["/otlp/v1/logs", "/loki/otlp/v1/logs"] {
        for (encoding, with) in [
            ("", None),
            ("gzip", Some(Compression::Gzip)),
            ("zstd", Some(Compression::Zstd)),
            ("lz4", Some(Compression::Lz4(Lz4BlockSize::MiB4))),
        ] {
            let body = logs(&ns(5)).into_bytes();
            let body = with.map_or(body.clone(), |with| compressed(with, &body));
            let headers = [("Content-Type", JSON), ("Content-Encoding", encoding)];
            let answer = door.post(path, &headers, body).await;
            assert_eq!(
                (answer.status, answer.body.len()),
                (204, 0),
                "{}",
                answer.text()
            );
        }
    }
    let found = lines(&door, "{service_name=\"shop\"} | detected_level=\"error\"").await;
    let stream = &found[0];
    assert_eq!(
        (
            &stream["stream"]["host_name"],
            &stream["stream"]["scope_name"]
        ),
        (&json!("h"), &json!("lib"))
    );
    assert_eq!(stream["values"], json!([[ns(5), "broken"]]));
    for (content_type, encoding, body, status, text) in [
        (
            "text/plain",
            "",
            logs(&ns(5)),
            400,
            "content type: text/plain is not supported",
        ),
        (
            "application/json; charset=utf-8",
            "",
            logs(&ns(5)),
            400,
            "content type: application/json; charset=utf-8 is not supported",
        ),
        (
            JSON,
            "br",
            logs(&ns(5)),
            400,
            "is not a supported content encoding",
        ),
        (JSON, "", "{".to_owned(), 400, ""),
        (
            JSON,
            "",
            r#"{"resourceLogs":[]}"#.to_owned(),
            422,
            "error at least one valid stream is required for ingestion",
        ),
        (JSON, "", logs("1"), 400, "has timestamp too old"),
    ] {
        let headers = [
            ("Content-Type", content_type),
            ("Content-Encoding", encoding),
        ];
        let answer = door.post("/otlp/v1/logs", &headers, body).await;
        assert_eq!(
            (answer.status, answer.body[0]),
            (status, 0x12),
            "{}",
            answer.text()
        );
        assert!(answer.text().contains(text), "{}", answer.text());
        let content_type = answer.header(header::CONTENT_TYPE);
        assert_eq!(content_type, "application/octet-stream");
    }
}

#[tokio::test]
async fn backfill_is_told_by_a_header_and_by_nothing_else() {
    let limits = Limits {
        reject_old_samples: true,
        max_label_names_per_series: 1,
        discover_service_name: Vec::new(),
        ..Limits::default()
    };
    let door = Door::of(limits).await;
    let old = ns(10 * 24 * 3600);
    let body = json!({"streams": [{"stream": {"app": "a"}, "values": [[old, "late"]]}]});
    let body = body.to_string();
    let json = ("Content-Type", JSON);
    let refused = door.post(PUSH, &[json], body.clone()).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    let shard = [json, ("X-Loki-Backfill-Shard", "7")];
    let taken = door.post(PUSH, &shard, body.clone()).await;
    assert_eq!(taken.status, 204, "{}", taken.text());
    let path = "/loki/api/v1/series";
    let params = [
        ("match[]", "{app=\"a\"}"),
        ("start", old.as_str()),
        ("end", &ns(0)),
    ];
    let series = door.get(path, &params).await.json();
    let labels = json!({"__backfill__": "true", "__backfill_shard__": "7", "app": "a"});
    assert_eq!(series["data"], json!([labels]));
    let long = "x".repeat(129);
    for (headers, labels) in [
        (vec![json, ("X-Loki-Backfill-Shard", long.as_str())], "app"),
        (vec![json], "__backfill__"),
        (shard.to_vec(), "__backfill_shard__"),
    ] {
        let body = body.replace("app", labels);
        assert_eq!(door.post(PUSH, &headers, body).await.status, 400);
    }
}
