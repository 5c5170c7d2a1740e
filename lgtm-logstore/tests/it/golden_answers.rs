//! Recorded answers of a real Loki to good and bad pushes (`golden/loki/push-semantics.jsonl`), request by request.

#![cfg(feature = "http")]

use crate::shared;

use std::sync::Arc;

use crate::door::{Door, DoorParts};
use lgtm_core::clock::ManualClock;
use lgtm_core::codec::{Compression, Compressor};
use lgtm_core::units::ByteSize;
use lgtm_logstore::http::ApiSettings;
use lgtm_logstore::limits::Limits;
use serde_json::{Value, json};

/// When the answers were given, seconds.
const THEN_S: i64 = 1_795_357_046;

/// The limits of the Loki that gave them.
fn limits() -> Limits {
    Limits {
        max_label_names_per_series: 5,
        max_label_name_length: 30,
        max_label_value_length: 40,
        max_line_size: ByteSize::kib(2),
        max_structured_metadata_size: ByteSize::bytes(300),
        max_structured_metadata_entries_count: 8,
        max_global_streams_per_user: 12,
        ingestion_rate_mb: 0.02,
        ingestion_burst_size_mb: 0.02,
        per_stream_rate_limit: ByteSize::kib(9),
        per_stream_rate_limit_burst: ByteSize::kib(9),
        reject_old_samples: true,
        ..Limits::default()
    }
}

/// The body of a request whose body is described only; `None` if it is not known.
fn described(name: &str) -> Option<Vec<u8>> {
    let stream = |app: &str, values: Vec<Value>| {
        json!({"streams": [{"stream": {"app": app}, "values": values}]}).to_string()
    };
    let at = |n: i64| (THEN_S * 1_000_000_000 + n).to_string();
    let lines = |count: i64, bytes: usize| -> Vec<Value> {
        (0..count)
            .map(|n| json!([at(n), "x".repeat(bytes)]))
            .collect()
    };
    let text = match name {
        "bad json" => "{\"streams\":".to_owned(),
        "otlp bad json" => "{".to_owned(),
        "line too long" => stream("long", lines(1, 3000)),
        "per stream rate limit" => stream("fast", lines(12, 1000)),
        "ingestion rate limit" => stream("rate", lines(14, 1900)),
        "bad content encoding" => stream("x", lines(1, 1)),
        "protobuf garbage" => return Some(vec![0xff; 12]),
        "gzip json" => {
            let mut out = Vec::new();
            let body = stream("gz", vec![json!([at(0), "gzipped"])]);
            let mut compressor = Compressor::default();
            compressor
                .compress(Compression::Gzip, body.as_bytes(), &mut out)
                .unwrap();
            return Some(out);
        }
        _ => return None,
    };
    Some(text.into())
}

/// Whether only the status is compared: the words about JSON are those of the reader of JSON, and of a stream that gets too much ours takes what its
/// rate allows, while Loki refuses all that came at once.
fn has_own_words(name: &str) -> bool {
    [
        "bad json",
        "otlp bad json",
        "per stream rate limit",
        "timestamp not string",
        "timestamp not integer",
        "line not string",
        "structured metadata not string",
        "structured metadata nested",
    ]
    .contains(&name)
}

#[tokio::test]
async fn pushes_are_answered_as_by_loki() {
    let Some(folder) = shared::folder("golden/loki") else {
        return;
    };
    let door = Door::with(DoorParts {
        limits: limits(),
        settings: ApiSettings {
            multitenancy_enabled: true,
            ..ApiSettings::default()
        },
        clock: Some(Arc::new(ManualClock::at_ms(THEN_S * 1000))),
        ..DoorParts::default()
    })
    .await;
    let (mut asked, mut faults) = (0, Vec::new());
    for record in shared::json_lines(&folder.join("push-semantics.jsonl")) {
        let name = record["name"].as_str().unwrap();
        let Some(headers) = record["headers"].as_object() else {
            continue;
        };
        let body = match record["request_body"].as_str() {
            Some(body) => Some(body.replace("NOWSECONDS", &THEN_S.to_string()).into_bytes()),
            None => described(name),
        };
        let Some(body) = body else {
            println!("left out: {name}");
            continue;
        };
        asked += 1;
        let headers = headers
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str().unwrap()));
        let mut headers: Vec<(&str, &str)> = headers.collect();
        if let Some(tenant) = record["tenant"].as_str() {
            headers.push(("X-Scope-OrgID", tenant));
        }
        let answer = door
            .post(record["path"].as_str().unwrap(), &headers, body)
            .await;
        let wanted = (
            record["status"].as_u64().unwrap(),
            record["response"].as_str().unwrap(),
        );
        let content_type = record["content_type"].as_str().unwrap_or_default();
        let got_type = answer.header(axum::http::header::CONTENT_TYPE);
        let got = (u64::from(answer.status), answer.text());
        // Which bytes of a protobuf are no text was not recorded.
        let same_text = has_own_words(name)
            || got.1 == wanted.1
            || content_type == "application/octet-stream"
                && wanted
                    .1
                    .chars()
                    .filter(|c| c.is_alphabetic())
                    .eq(got.1.chars().filter(|c| c.is_alphabetic()));
        if got.0 != wanted.0 || got_type != content_type || !same_text {
            faults.push(format!(
                "{name}:\n   got {got:?} {got_type}\nwanted {wanted:?} {content_type}"
            ));
        }
    }
    assert!(asked > 50, "{asked}");
    assert!(
        faults.is_empty(),
        "{} of {asked} differ:\n{}",
        faults.len(),
        faults.join("\n")
    );
}
