//! What is to be deleted, and what is over: hidden from every answer at once.

#![cfg(feature = "http")]

use crate::door;
use crate::shared;

use std::sync::Arc;
use std::time::Duration;

use crate::door::{Door, DoorParts, NOW_S};
use axum::body::Body;
use axum::http::Request;
use lgtm_core::clock::ManualClock;
use lgtm_logstore::components::clients::{Tail, TailRequest};
use lgtm_logstore::limits::{DeletionMode, Limits, StreamRetention, StreamSelector};
use serde_json::{Value, json};

const API: &str = "/loki/api/v1";

async fn send(door: &Door, method: &str, params: &[(&str, &str)]) -> door::Answer {
    let path = format!("{API}/delete?{}", door::encoded(params));
    let request = Request::builder().method(method).uri(path);
    door.send(request.body(Body::empty()).unwrap()).await
}

/// Takes a request for times before now; its name.
async fn delete(door: &Door, query: &str, from_s: i64, to_s: i64) -> String {
    let [start, end] = [from_s, to_s].map(|s| (NOW_S - s).to_string());
    let params = [("query", query), ("start", &*start), ("end", &*end)];
    let answer = send(door, "POST", &params).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    let id = &answer.headers["x-delete-request-id"];
    id.to_str().unwrap().to_owned()
}

/// Lines of the last hour, the oldest first.
async fn lines(door: &Door, query: &str) -> Vec<String> {
    let params = [
        ("query", query),
        ("limit", "5000"),
        ("direction", "forward"),
    ];
    let answer = door.get(&format!("{API}/query_range"), &params).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let streams = answer["data"]["result"].as_array().unwrap();
    let mut all: Vec<(String, String)> = Vec::new();
    for value in streams.iter().flat_map(|s| s["values"].as_array().unwrap()) {
        let text = |n: usize| value[n].as_str().unwrap().to_owned();
        all.push((text(0), text(1)));
    }
    all.sort();
    all.into_iter().map(|(_, line)| line).collect()
}

/// The sum of a metric query over the last hour, asked at one time.
async fn sum(door: &Door, query: &str) -> f64 {
    let query = format!("sum({query})");
    let answer = door
        .get(&format!("{API}/query"), &[("query", &query)])
        .await;
    let answer = answer.json();
    let value = &answer["data"]["result"][0]["value"][1];
    value.as_str().map_or(0.0, |v| v.parse().unwrap())
}

/// The same, asked over an hour at steps of ten minutes, which are remembered.
async fn sums(door: &Door, query: &str) -> Vec<f64> {
    let query = format!("sum({query})");
    let [start, end] = [NOW_S - 7200, NOW_S - 3600].map(|s| s.to_string());
    let params = [
        ("query", &*query),
        ("start", &*start),
        ("end", &*end),
        ("step", "600"),
    ];
    let answer = door
        .get(&format!("{API}/query_range"), &params)
        .await
        .json();
    let values = answer["data"]["result"][0]["values"].clone();
    let values: Vec<Value> = serde_json::from_value(values).unwrap_or_default();
    let value = |v: &Value| v[1].as_str().unwrap().parse().unwrap();
    values.iter().map(value).collect()
}

async fn filled(parts: DoorParts) -> Door {
    let door = Door::with(parts).await;
    door.push(
        json!({"app": "shop", "env": "dev"}),
        &[
            (50, "a user=1"),
            (40, "b user=2"),
            (30, "c user=1"),
            (20, "d user=3"),
        ],
    )
    .await;
    door.push(json!({"app": "shop", "env": "prod"}), &[(45, "p user=1")])
        .await;
    // Half of it is in the store.
    door.store.flush().await.unwrap();
    door.push(json!({"app": "shop", "env": "dev"}), &[(10, "e user=1")])
        .await;
    door.push(json!({"app": "other"}), &[(35, "o user=1")])
        .await;
    door
}

#[tokio::test]
async fn the_calls_answer_as_loki_does() {
    let Some(folder) = shared::folder("golden/loki") else {
        return;
    };
    let door = Door::new().await;
    let mut seen = 0;
    for case in shared::json_lines(&folder.join("push-semantics.jsonl")) {
        let path = case["path"].as_str().unwrap_or_default();
        if case["name"] != "delete api" || !path.starts_with("/loki/api/v1/delete") {
            continue;
        }
        seen += 1;
        // Their clock was another one: the end is ours, whole.
        let path = path.replace("NOWSECONDS", &NOW_S.to_string());
        let method = case["method"].as_str().unwrap();
        let request = Request::builder().method(method).uri(path);
        let answer = door.send(request.body(Body::empty()).unwrap()).await;
        let told = answer.text();
        assert_eq!(u64::from(answer.status), case["status"].as_u64().unwrap());
        if method != "GET" {
            assert_eq!(told, case["response"].as_str().unwrap());
            continue;
        }
        let mut theirs: Value = serde_json::from_str(case["response"].as_str().unwrap()).unwrap();
        let mut ours = answer.json();
        assert_eq!(answer.headers["content-type"], "application/json");
        for (name, of) in [("request_id", "x"), ("end_time", "x"), ("created_at", "x")] {
            assert!(!ours[0][name].is_null(), "{told}");
            ours[0][name] = json!(of);
            theirs[0][name] = json!(of);
        }
        assert_eq!(ours, theirs);
        assert!(told.ends_with("]\n"), "{told}");
    }
    assert_eq!(seen, 6);
    for (method, params, status, text) in [
        (
            "POST",
            vec![("query", "rate({a=\"b\"}[1m])"), ("start", "1795353446")],
            400,
            "invalid query expression\n",
        ),
        (
            "PUT",
            vec![("query", "{a=\"b\"}"), ("start", "17953534460")],
            400,
            "invalid start time",
        ),
        (
            "PUT",
            vec![
                ("query", "{a=\"b\"}"),
                ("start", "1795353446"),
                ("end", "1900000000"),
            ],
            400,
            "deletes in the future are not allowed\n",
        ),
        (
            "PUT",
            vec![
                ("query", "{a=\"b\"}"),
                ("start", "1795353446"),
                ("end", "1795353445"),
            ],
            400,
            "start time can't be greater",
        ),
        (
            "PUT",
            vec![
                ("query", "{a=\"b\"}"),
                ("start", "1795353446"),
                ("max_interval", "1ms"),
            ],
            400,
            "invalid max_interval",
        ),
        (
            "PUT",
            vec![
                ("query", "{a=\"b\"}"),
                ("start", "2026-11-22T10:00:00Z"),
                ("max_interval", "1h"),
            ],
            204,
            "",
        ),
        ("DELETE", vec![], 404, "could not find"),
    ] {
        let answer = send(&door, method, &params).await;
        let told = answer.text();
        assert!(
            answer.status == status && told.starts_with(text),
            "{params:?}: {told}"
        );
    }
}

#[tokio::test]
async fn what_is_to_be_deleted_is_hidden_at_once_and_comes_back_when_it_is_cancelled() {
    let door = filled(DoorParts::default()).await;
    let all = [
        "a user=1", "p user=1", "b user=2", "c user=1", "d user=3", "e user=1",
    ];
    let shop = r#"{app="shop"}"#;
    assert_eq!(lines(&door, shop).await, all);
    assert_eq!(
        sum(&door, r#"count_over_time({app="shop"}[1h])"#).await,
        6.0
    );
    // Inclusive at both ends, to the second.
    let id = delete(&door, r#"{env="dev"} |= "user=1""#, 30, 10).await;
    let left = ["a user=1", "p user=1", "b user=2", "d user=3"];
    assert_eq!(lines(&door, shop).await, left);
    assert_eq!(
        sum(&door, r#"count_over_time({app="shop"}[1h])"#).await,
        4.0
    );
    assert_eq!(
        sum(&door, r#"bytes_over_time({app="shop"}[1h])"#).await,
        32.0
    );
    // By what is parsed, and by what was added to the entry.
    let parsed = delete(&door, r#"{app="shop"} | logfmt | user > 2"#, 3600, 0).await;
    let level = delete(
        &door,
        r#"{app="shop", env="prod"} | detected_level="unknown""#,
        3600,
        0,
    )
    .await;
    assert_eq!(lines(&door, shop).await, ["a user=1", "b user=2"]);
    assert_eq!(
        sum(&door, r#"count_over_time({app="shop"}[1h])"#).await,
        2.0
    );
    // All of a stream.
    let stream = delete(&door, r#"{app="other"}"#, 3600, 0).await;
    assert_eq!(lines(&door, r#"{app="other"}"#).await, [""; 0]);
    assert_eq!(
        sum(&door, r#"count_over_time({app="other"}[1h])"#).await,
        0.0
    );
    for id in [&id, &parsed, &level, &stream] {
        let answer = send(&door, "DELETE", &[("request_id", id)]).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
    assert_eq!(lines(&door, shop).await, all);
    assert_eq!(lines(&door, r#"{app="other"}"#).await, ["o user=1"]);
    let listed = send(&door, "GET", &[]).await;
    assert_eq!(listed.text(), "[]\n");
}

#[tokio::test]
async fn remembered_answers_do_not_outlive_a_request() {
    let door = Door::new().await;
    let entries = [(7000, "x 1"), (6000, "y 1"), (5000, "x 2"), (4000, "y 2")];
    door.push(json!({"app": "shop"}), &entries).await;
    door.store.flush().await.unwrap();
    let query = r#"count_over_time({app="shop"}[1h])"#;
    let all = sums(&door, query).await;
    assert_eq!(all.last(), Some(&4.0));
    assert_eq!(sums(&door, query).await, all);
    // What was found to be empty is remembered, too.
    let id = delete(&door, r#"{app="shop"} |= "x""#, 10_000, 0).await;
    let left = sums(&door, query).await;
    assert_eq!(left.last(), Some(&2.0));
    let empty = r#"{app="shop"} |= "x""#;
    let [start, end] = [NOW_S - 7200, NOW_S - 3600].map(|s| s.to_string());
    let params = [("query", empty), ("start", &*start), ("end", &*end)];
    let path = format!("{API}/query_range");
    for _ in 0..2 {
        let answer = door.get(&path, &params).await.json();
        assert_eq!(answer["data"]["result"], json!([]));
    }
    send(&door, "DELETE", &[("request_id", &id)]).await;
    assert_eq!(sums(&door, query).await, all);
    let answer = door.get(&path, &params).await.json();
    assert_eq!(
        answer["data"]["result"][0]["values"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn who_may_not_delete_is_told_so_and_sees_all() {
    let limits = Limits {
        deletion_mode: DeletionMode::Disabled,
        ..Limits::default()
    };
    let door = filled(DoorParts {
        limits,
        ..DoorParts::default()
    })
    .await;
    for method in ["GET", "POST", "DELETE"] {
        let answer = send(&door, method, &[("query", "{a=\"b\"}"), ("start", "1")]).await;
        assert_eq!(answer.status, 403);
        assert_eq!(answer.text(), "deletion is not available for this tenant\n");
    }
    // One that came when it was allowed.
    let tenant = lgtm_core::model::TenantId::anonymous();
    let added = door
        .store
        .deletes()
        .add(&tenant, r#"{app="shop"}"#, 0, NOW_S * 1000)
        .await;
    added.unwrap();
    assert_eq!(lines(&door, r#"{app="shop"}"#).await.len(), 6);
}

#[tokio::test]
async fn who_follows_sees_nothing_of_the_past_that_is_hidden() {
    let door = filled(DoorParts::default()).await;
    delete(&door, r#"{env="dev"} |= "user=1""#, 3600, 0).await;
    let request = TailRequest {
        query: r#"{app="shop"}"#.to_owned(),
        start_ns: ((NOW_S - 3600) * 1_000_000_000).into(),
        limit: 100,
        delay_ns: 0,
    };
    let tenant = lgtm_core::model::TenantId::anonymous();
    let mut feed = door.store.frontend().tail(&tenant, &request).await.unwrap();
    let mut lines = Vec::new();
    while lines.len() < 3 {
        let frame = feed.next_frame().await.unwrap().unwrap();
        for stream in frame.streams {
            let texts = stream
                .entries
                .iter()
                .map(|e| String::from_utf8_lossy(&e.line));
            lines.extend(texts.map(|t| t.into_owned()));
        }
    }
    assert_eq!(lines, ["p user=1", "b user=2", "d user=3"]);
    // What comes in later is shown as it comes, as by Loki, though a query would not show it.
    door.push(json!({"app": "shop", "env": "dev"}), &[(5, "late user=1")])
        .await;
    let frame = feed.next_frame().await.unwrap().unwrap();
    assert_eq!(&*frame.streams[0].entries[0].line, b"late user=1");
}

#[tokio::test]
async fn the_generation_of_answers_changes_with_the_requests() {
    let path = format!("{API}/cache/generation_numbers");
    let clock = Arc::new(ManualClock::at_ms(NOW_S * 1000));
    let parts = DoorParts {
        clock: Some(clock.clone()),
        ..DoorParts::default()
    };
    let door = filled(parts).await;
    let mut seen = Vec::new();
    let mut differs = async || {
        let answer = door.get(&path, &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.headers["content-type"], "application/json");
        let number = answer.json().as_str().unwrap().to_owned();
        let is_new = !seen.contains(&number);
        seen.push(number);
        is_new
    };
    assert!(differs().await && !differs().await);
    let id = delete(&door, r#"{app="shop"}"#, 3600, 0).await;
    assert!(differs().await && !differs().await);
    clock.advance(Duration::from_millis(1));
    send(&door, "DELETE", &[("request_id", &id)]).await;
    assert!(differs().await && !differs().await);
    for _ in 0..2 {
        let answer = door.post(&format!("{path}/increase"), &[], "").await;
        assert_eq!(answer.status, 204, "{}", answer.text());
        assert!(differs().await && !differs().await);
    }
    // Those of other processes are the same.
    door.store.deletes().sync().await.unwrap();
    assert!(!differs().await);
    let limits = Limits {
        deletion_mode: DeletionMode::Disabled,
        ..Limits::default()
    };
    assert_eq!(Door::of(limits).await.get(&path, &[]).await.status, 403);
}

#[tokio::test]
async fn what_is_over_is_in_no_answer() {
    const HOUR: Duration = Duration::from_secs(3600);
    let clock = Arc::new(ManualClock::at_ms(NOW_S * 1000));
    let rule = StreamRetention {
        selector: StreamSelector::new(r#"{env="dev"}"#).unwrap(),
        priority: 1,
        period: 24 * HOUR,
    };
    let door = Door::with(DoorParts {
        limits: Limits {
            retention_period: 48 * HOUR,
            accept_late_entries: true,
            retention_stream: vec![rule],
            ..Limits::default()
        },
        clock: Some(clock.clone()),
        ..DoorParts::default()
    })
    .await;
    const S: i64 = 3600;
    let dev = [(30 * S, "d old"), (20 * S, "d new")];
    door.push(json!({"env": "dev"}), &dev).await;
    door.push(json!({"env": "dev", "in": "store"}), &dev).await;
    let prod = [(60 * S, "p old"), (30 * S, "p middle"), (S, "p new")];
    door.push(json!({"env": "prod"}), &prod).await;
    door.store.flush().await.unwrap();
    door.push(
        json!({"env": "dev"}),
        &[(29 * S, "d old 2"), (S, "d newest")],
    )
    .await;
    let start = (NOW_S - 100 * S).to_string();
    let asked = async |path: &str, query: &str| {
        let params = [
            ("query", query),
            ("match[]", query),
            ("start", &start),
            ("step", "3600"),
        ];
        let answer = door.get(&format!("{API}/{path}"), &params).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let texts = async |query: &str| {
        let answer = asked("query_range", query).await;
        let mut all = Vec::new();
        for stream in answer["data"]["result"].as_array().unwrap() {
            let values = stream["values"].as_array().unwrap().iter();
            all.extend(values.map(|v| v[1].as_str().unwrap().to_owned()));
        }
        all.sort();
        all
    };
    let any = r#"{env=~".+"}"#;
    let wanted = ["d new", "d new", "d newest", "p middle", "p new"];
    assert_eq!(texts(any).await, wanted);
    let count = sum(&door, r#"count_over_time({env=~".+"}[100h])"#).await;
    assert_eq!(count, 5.0);
    let stats = asked("index/stats", any).await;
    assert!(stats["entries"].as_u64().unwrap() <= 7, "{stats}");
    // Streams all of whose entries are over are not there.
    clock.advance(5 * HOUR);
    let wanted = ["d newest", "p middle", "p new"];
    assert_eq!(texts(any).await, wanted);
    let series = asked("series", any).await;
    assert!(!series.to_string().contains("\"in\""), "{series}");
    assert_eq!(
        sum(&door, r#"count_over_time({env=~".+"}[100h])"#).await,
        3.0
    );
    clock.advance(30 * HOUR);
    assert_eq!(texts(any).await, ["p new"]);
}
