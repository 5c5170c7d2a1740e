//! `tempopb.StreamingQuerier`: the query API as streams, by calls over HTTP/2.

#![cfg(feature = "http")]

use crate::door::{Answer, Door, DoorParts, NOW_S, SECOND, Sent, otlp, shop};
use lgtm_core::codec::Reader;
use lgtm_core::codec::protobuf::{bytes_tag, put_bytes_field, put_varint_field, skip};
use lgtm_core::units::ByteSize;
use lgtm_tracestore::http::{ApiSettings, QueryRules};
use serde_json::json;

fn method(name: &str) -> String {
    format!("/tempopb.StreamingQuerier/{name}")
}

/// The values of a field that holds bytes.
fn fields(message: &[u8], field: u64) -> Vec<Vec<u8>> {
    let mut r = Reader::new("answer", message);
    let mut out = Vec::new();
    while !r.is_empty() {
        let tag = r.uvarint().unwrap();
        if tag == bytes_tag(field) {
            out.push(r.bytes().unwrap().to_vec());
        } else {
            skip(&mut r, tag).unwrap();
        }
    }
    out
}

/// A field of all messages.
fn all(answer: &Answer, field: u64) -> Vec<Vec<u8>> {
    answer
        .messages()
        .iter()
        .flat_map(|m| fields(m, field))
        .collect()
}

fn texts(values: Vec<Vec<u8>>) -> Vec<String> {
    values
        .into_iter()
        .map(|v| String::from_utf8(v).unwrap())
        .collect()
}

/// `SearchRequest` as Grafana's health check sends it.
fn search(query: &str, limit: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint_field(&mut out, 4, limit);
    put_varint_field(&mut out, 5, NOW_S - 900);
    put_varint_field(&mut out, 6, NOW_S);
    put_bytes_field(&mut out, 8, query.as_bytes());
    put_varint_field(&mut out, 9, 0);
    out
}

#[tokio::test]
async fn a_health_check_gets_one_message_from_an_empty_and_a_full_store() {
    let door = Door::new().await;
    let empty = door.call(&method("Search"), &search("{}", 1)).await;
    assert_eq!((empty.status, empty.grpc_status().0), (200, 0));
    assert_eq!(empty.header("content-type"), "application/grpc");
    assert!(all(&empty, 1).is_empty());
    door.push(&shop()).await;
    for _ in 0..2 {
        let full = door.call(&method("Search"), &search("{}", 1)).await;
        let traces = all(&full, 1);
        assert_eq!(texts(fields(&traces[0], 1)), ["ab"]);
        let metrics = all(&full, 2).pop().unwrap();
        // completed_jobs = total_jobs, and some.
        let number = |field: u64| {
            let mut r = Reader::new("metrics", &metrics);
            while !r.is_empty() {
                let tag = r.uvarint().unwrap();
                if tag == field << 3 {
                    return r.uvarint().unwrap();
                }
                skip(&mut r, tag).unwrap();
            }
            0
        };
        assert!(number(4) == number(5) && number(5) > 0);
        door.store.flush().await.unwrap();
    }
}

#[tokio::test]
async fn names_and_values_come_as_over_http() {
    let door = Door::new().await;
    door.push(&shop()).await;
    let names = door.call(&method("SearchTags"), b"").await;
    assert_eq!(
        texts(all(&names, 1)),
        ["a b/c", "db.rows", "http.status_code", "service.name"]
    );
    let scopes = door.call(&method("SearchTagsV2"), b"").await;
    let scopes = texts(all(&scopes, 1).iter().flat_map(|s| fields(s, 1)).collect());
    assert_eq!(scopes, ["resource", "span", "intrinsic"]);
    let mut request = Vec::new();
    put_bytes_field(&mut request, 1, b"service.name");
    let values = door.call(&method("SearchTagValues"), &request).await;
    assert_eq!(texts(all(&values, 1)), ["shop", "stock"]);
    let mut request = Vec::new();
    put_bytes_field(&mut request, 1, b"span.db.rows");
    let values = all(&door.call(&method("SearchTagValuesV2"), &request).await, 1);
    assert_eq!(
        (texts(fields(&values[0], 1)), texts(fields(&values[0], 2))),
        (vec!["int".into()], vec!["7".into()])
    );
}

#[tokio::test]
async fn metrics_come_as_over_http() {
    let door = Door::new().await;
    door.push(&shop()).await;
    let mut request = Vec::new();
    put_bytes_field(&mut request, 1, b"{ } | count_over_time()");
    put_varint_field(&mut request, 2, (NOW_S - 600) * SECOND);
    put_varint_field(&mut request, 3, NOW_S * SECOND);
    let instant = all(
        &door.call(&method("MetricsQueryInstant"), &request).await,
        1,
    );
    assert_eq!(instant.len(), 1);
    assert!(instant[0].ends_with(&2.0f64.to_le_bytes()));
    put_varint_field(&mut request, 4, 60 * SECOND);
    let range = all(&door.call(&method("MetricsQueryRange"), &request).await, 1);
    assert_eq!(fields(&range[0], 2).len(), 11);
    assert_eq!(fields(&range[0], 4).len(), 1, "an exemplar");
}

#[tokio::test]
async fn no_message_is_larger_than_clients_take() {
    let settings = ApiSettings {
        queries: QueryRules {
            max_grpc_streaming_packet_size: ByteSize::kib(4),
            ..QueryRules::default()
        },
        ..ApiSettings::default()
    };
    let door = Door::with(DoorParts {
        settings,
        ..DoorParts::default()
    })
    .await;
    for n in 0..200 {
        let span = Sent {
            attributes: vec![("n", json!({"stringValue": format!("value {n:03}")}))],
            ..Sent::root("shop", &format!("{:032x}", n + 1), "GET /")
        };
        door.push(&otlp(&[span])).await;
    }
    let mut values = Vec::new();
    put_bytes_field(&mut values, 1, b"span.n");
    let mut metrics = Vec::new();
    put_bytes_field(&mut metrics, 1, b"{ } | rate() by (span.n)");
    for (name, request) in [
        ("Search", search("{}", 200)),
        ("SearchTagValuesV2", values),
        ("MetricsQueryRange", metrics),
    ] {
        let answer = door.call(&method(name), &request).await;
        assert_eq!(answer.grpc_status().0, 0, "{name}");
        let messages = answer.messages();
        assert!(messages.len() > 1, "{name}");
        // A series of an hour takes more than a message by itself, and goes alone.
        let largest = messages.iter().map(Vec::len).max().unwrap();
        assert!(
            largest <= 4 << 10 || name == "MetricsQueryRange",
            "{name}: {largest}"
        );
        assert_eq!(all(&answer, 1).len(), 200, "{name}");
    }
}

#[tokio::test]
async fn calls_that_cannot_be_end_with_a_code() {
    let door = Door::new().await;
    let mut metrics = Vec::new();
    put_bytes_field(&mut metrics, 1, b"{ }");
    for (name, request, code, why) in [
        (
            "Search",
            search("{ name = }", 1),
            3,
            "invalid TraceQL query: ",
        ),
        (
            "Search",
            search("{}", 999_999),
            3,
            "limit 999999 exceeds max limit 262144",
        ),
        ("Search", vec![0xff], 3, "search request at byte"),
        ("SearchTagsV2", b"\x0a\x01x".to_vec(), 3, "invalid scope: x"),
        (
            "SearchTagValuesV2",
            vec![],
            3,
            "please provide a valid tagName: ",
        ),
        (
            "MetricsQueryRange",
            metrics.clone(),
            3,
            "compiling query: not a metrics query",
        ),
        ("MetricsQueryInstant", vec![], 3, "compiling query: "),
    ] {
        let answer = door.call(&method(name), &request).await;
        let (status, message) = answer.grpc_status();
        assert_eq!(status, code, "{name}: {message}");
        assert!(message.starts_with(why), "{name}: {message}");
    }
    let gzip = [("grpc-accept-encoding", "gzip")];
    let answer = door
        .call_with(&method("Search"), &gzip, &search("{}", 1))
        .await;
    assert_eq!(answer.header("grpc-encoding"), "gzip");
    let headers = [("grpc-timeout", "1n")];
    let late = door
        .call_with(&method("Search"), &headers, &search("{}", 1))
        .await;
    assert!(matches!(late.grpc_status().0, 0 | 4));
}
