//! C: traces by their id. E: what senders send.

use std::sync::Arc;

use base64::Engine as _;
use lgtm_core::codec::protobuf::{put_bytes_field, put_message};
use lgtm_core::units::ByteSize;
use lgtm_tracestore::limits::Limits;
use serde_json::{Value, json};

use super::house::{House, any, otlp, search, span};
use crate::door::{Door, DoorParts, JSON, NOW_S, PROTOBUF, SECOND};

/// The spans of a trace, as the older call tells them.
async fn spans(door: &Door, trace: u64) -> Vec<Value> {
    let answer = door.get(&format!("/api/traces/{trace:x}"), &[]).await;
    assert_eq!(answer.status, 200, "{trace:x}: {}", answer.text());
    let json = answer.json();
    let batches = json["batches"].as_array().into_iter().flatten();
    let scopes = batches.flat_map(|b| b["scopeSpans"].as_array().into_iter().flatten());
    scopes
        .flat_map(|s| s["spans"].as_array().into_iter().flatten())
        .cloned()
        .collect()
}

/// An id as answers have it.
fn base64(id: u64) -> String {
    base64::engine::general_purpose::STANDARD.encode(id.to_be_bytes())
}

#[tokio::test]
async fn c03_client_and_server_that_share_an_id_are_both_told() {
    let house = House::of(&[
        span(0xd1, "call").with("kind", json!(3)).of("client"),
        span(0xd1, "serve").with("kind", json!(2)).of("server"),
        span(0xd2, "below").under(0xd1).of("server"),
    ])
    .await;
    for (state, door) in &house.doors {
        let all = spans(door, 1).await;
        let of = |name: &str| all.iter().find(|s| s["name"] == name).unwrap();
        assert_eq!(all.len(), 3, "{state}");
        assert_eq!(of("call")["spanId"], base64(0xd1), "{state}");
        assert_ne!(of("serve")["spanId"], of("call")["spanId"], "{state}");
        assert_eq!(
            of("below")["parentSpanId"],
            of("serve")["spanId"],
            "{state}"
        );
    }
}

#[tokio::test]
async fn c04_copies_of_a_span_are_one_and_others_are_kept() {
    let door = Door::new().await;
    let first = span(1, "a").attributes(&json!({"k": 1}));
    let other = span(2, "b").attributes(&json!({"k": 1}));
    for n in 0..3 {
        // Of the same id and kind, with another attribute: the first copy stays.
        let copy = first.clone().attributes(&json!({ "k": n + 1 }));
        door.push(&otlp(&[
            if n == 0 { first.clone() } else { copy },
            other.clone(),
        ]))
        .await;
        door.store.flush().await.unwrap();
    }
    let check = async || {
        let all = spans(&door, 1).await;
        assert_eq!(all.len(), 2, "{all:?}");
    };
    check().await;
    door.store.compact().await.unwrap();
    check().await;
}

#[tokio::test]
async fn c08_ids_are_told_short_or_padded_and_found_in_every_form() {
    for pads in [false, true] {
        let mut limits = Limits::default();
        limits.read.left_pad_trace_ids = pads;
        let parts = DoorParts {
            limits,
            ..DoorParts::default()
        };
        let door = Door::with(parts).await;
        door.push(&otlp(&[span(1, "a").trace(0xab)])).await;
        let id = search(&door, "{}").await["traces"][0]["traceID"].clone();
        let padded = format!("{:032x}", 0xab);
        assert_eq!(id, if pads { padded.as_str() } else { "ab" });
        for id in ["ab", "AB", "000ab", &padded, &padded.to_uppercase()] {
            assert_eq!(
                door.get(&format!("/api/traces/{id}"), &[]).await.status,
                200,
                "{id}"
            );
        }
    }
}

#[tokio::test]
async fn e01_e02_who_is_too_fast_hears_which_limit_and_when_to_come_back() {
    let mut limits = Limits::default();
    limits.ingestion.rate_limit_bytes = ByteSize::bytes(300);
    limits.ingestion.burst_size_bytes = ByteSize::bytes(300);
    let door = Door::with(DoorParts {
        limits,
        ..DoorParts::default()
    })
    .await;
    let body = otlp(&[span(1, "a")]).to_string();
    let mut last = None;
    for _ in 0..4 {
        let headers = [("content-type", JSON), ("x-scope-orgid", "anonymous")];
        last = Some(door.ask("POST", "/v1/traces", &headers, body.clone()).await);
    }
    let refused = last.unwrap();
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    let text = refused.json()["message"].as_str().unwrap().to_owned();
    for part in ["300", "burst", "anonymous", "bytes"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn e03_a_trace_that_is_too_large_does_not_take_the_others_with_it() {
    let mut limits = Limits::default();
    limits.global.max_bytes_per_trace = ByteSize::kib(4);
    let door = Door::with(DoorParts {
        limits,
        ..DoorParts::default()
    })
    .await;
    let mut spans =
        vec![span(1, "large").trace(1000).attributes(
            &json!({"a": "x".repeat(2000), "b": "y".repeat(2000), "c": "z".repeat(2000)}),
        )];
    spans.extend((1..50).map(|n| span(n, "a").trace(n)));
    let body = otlp(&spans).to_string();
    for _ in 0..2 {
        let answer = door
            .ask(
                "POST",
                "/v1/traces",
                &[("content-type", JSON)],
                body.clone(),
            )
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(
            answer.json()["partialSuccess"]["rejectedSpans"],
            "1",
            "{}",
            answer.text()
        );
    }
    let found = search(&door, "{ name = \"a\" }").await;
    assert_eq!(found["traces"].as_array().unwrap().len(), 49);
}

#[tokio::test]
async fn e05_bytes_that_are_no_text_do_not_lose_the_span() {
    let house = House::of(&[]).await;
    for (state, door) in &house.doors {
        let mut body = Vec::new();
        put_message(&mut body, 1, |out| {
            put_message(out, 2, |out| {
                put_message(out, 2, |out| {
                    put_bytes_field(out, 1, &[7; 16]);
                    put_bytes_field(out, 2, &[8; 8]);
                    put_bytes_field(out, 5, b"a");
                    let start = ((NOW_S - 60) * SECOND).to_le_bytes();
                    for tag in [0x39, 0x41] {
                        out.push(tag);
                        out.extend_from_slice(&start);
                    }
                    put_message(out, 9, |out| {
                        put_bytes_field(out, 1, b"k");
                        put_message(out, 2, |out| put_bytes_field(out, 1, b"x\xff\xfey"));
                    });
                });
            });
        });
        let answer = door
            .ask("POST", "/v1/traces", &[("content-type", PROTOBUF)], body)
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        if *state != "live" {
            door.store.flush().await.unwrap();
        }
        let found = search(door, "{ span.k != nil && name = \"a\" }").await;
        assert_eq!(found["traces"].as_array().unwrap().len(), 1, "{state}");
        let id = "07".repeat(16);
        let trace = door.get(&format!("/api/traces/{id}"), &[]).await;
        assert!(trace.json()["batches"].is_array(), "{state}");
        let values = super::house::values(door, "span.k", "").await;
        assert_eq!(values, ["x\u{fffd}\u{fffd}y"], "{state}");
    }
}

#[tokio::test]
async fn e09_what_is_empty_and_what_is_nested_comes_back_as_it_was_sent() {
    let mut nested = json!({"stringValue": "deep"});
    for _ in 0..10 {
        nested = json!({"arrayValue": {"values": [nested]}});
    }
    let value = |v: Value| json!([{"key": "k", "value": v}]);
    let attributes = [
        json!([]),
        value(json!({})),
        value(json!({"stringValue": ""})),
        value(json!({"kvlistValue": {"values": []}})),
        value(json!({"kvlistValue": {"values": [{"key": "a", "value": {"intValue": "1"}}]}})),
        value(json!({"arrayValue": {"values": []}})),
        value(
            json!({"arrayValue": {"values": [any(&json!("a")), any(&json!(1)), any(&json!(true)), any(&json!(0.5))]}}),
        ),
        value(json!({"bytesValue": ""})),
        value(json!({"bytesValue": "/w=="})),
        value(nested),
    ];
    let sent: Vec<_> = attributes
        .iter()
        .enumerate()
        .map(|(n, a)| span(n as u64 + 1, "a").with("attributes", a.clone()))
        .collect();
    let house = House::of(&sent).await;
    let mut first: Option<Vec<Value>> = None;
    for (state, door) in &house.doors {
        let mut all = spans(door, 1).await;
        all.sort_by_key(|s| s["spanId"].as_str().unwrap().to_owned());
        let told: Vec<Value> = all.iter().map(|s| s["attributes"].clone()).collect();
        assert_eq!(told.len(), attributes.len(), "{state}");
        match &first {
            None => first = Some(told),
            Some(first) => assert_eq!(&told, first, "{state}"),
        }
    }
    let told = first.unwrap();
    // A resource without attributes, a scope without a name.
    for (n, sent) in attributes
        .iter()
        .enumerate()
        .filter(|(n, _)| [4, 6, 8, 9].contains(n))
    {
        assert!(told.contains(sent), "{n}: {sent} in {told:?}");
    }
    let bare = json!({"resourceSpans": [{"scopeSpans": [{"spans": [{
        "traceId": format!("{:032x}", 9), "spanId": format!("{:016x}", 9),
        "startTimeUnixNano": ((NOW_S - 60) * SECOND).to_string(), "endTimeUnixNano": ((NOW_S - 60) * SECOND).to_string()}]}]}]});
    for (state, door) in &house.doors {
        door.push(&bare).await;
        door.store.flush().await.unwrap();
        assert_eq!(spans(door, 9).await.len(), 1, "{state}");
    }
}

#[tokio::test]
async fn e10_times_that_are_far_off_are_kept() {
    let mut sent = Vec::new();
    for (n, start, end) in [
        (1, NOW_S * SECOND, (NOW_S - 50) * SECOND),
        (2, 0, 0),
        (3, 4_102_444_800 * SECOND, 4_102_444_801 * SECOND),
        (4, 0, SECOND),
    ] {
        let start: u64 = start;
        let mut span = span(n, "a").trace(n);
        (span.start_ns, span.length_ns) = (start, u64::wrapping_sub(end, start));
        sent.push((span, start, end));
    }
    for flushed in [false, true] {
        let door = Door::new().await;
        for (n, (span, start, end)) in sent.iter().enumerate() {
            let mut json = otlp(&[{
                let mut span = span.clone();
                span.length_ns = 0;
                span
            }]);
            json["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["endTimeUnixNano"] =
                end.to_string().into();
            door.push(&json).await;
            if flushed {
                door.store.flush().await.unwrap();
            }
            let told = &spans(&door, n as u64 + 1).await[0];
            let number = |key: &str| told[key].as_str().unwrap_or("0").parse::<u64>().unwrap();
            assert_eq!(
                (number("startTimeUnixNano"), number("endTimeUnixNano")),
                (*start, *end)
            );
        }
        // An end before the start is a duration of nothing, not of centuries.
        let found = search(
            &door,
            "{ trace:id = \"00000000000000000000000000000001\" && duration < 1s }",
        )
        .await;
        assert_eq!(
            found["traces"].as_array().unwrap().len(),
            1,
            "flushed: {flushed}"
        );
    }
}

#[tokio::test]
async fn h05_a_client_that_is_gone_ends_its_query() {
    let door = Door::new().await;
    door.push(&otlp(&[span(1, "a")])).await;
    let queries = door.store.queries();
    let tenant = lgtm_core::model::TenantId::anonymous();
    let request = lgtm_tracestore::components::SearchRequest {
        query: Arc::new(lgtm_tracestore::traceql::parse("{}").unwrap()),
        settings: lgtm_tracestore::traceql::SearchSettings::default(),
    };
    {
        let mut asked = std::pin::pin!(queries.search(&tenant, &request, None));
        // Begun, and left.
        let _ = futures::poll!(asked.as_mut());
    }
    assert_eq!(door.store.querier().memory().held_bytes(), 0);
    let answer = queries.search(&tenant, &request, None).await.unwrap();
    assert_eq!(answer.value.len(), 1);
}
