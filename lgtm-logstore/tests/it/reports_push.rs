//! Public trouble reports about pushes, each as a test; the numbers are those of the list that they were collected in. `reports_query` has those
//! about queries.

use crate::report_house::{HOUR, House, MINUTE, SECOND, T};
use lgtm_core::units::ByteSize;
use lgtm_logstore::components::QueryFrontendSettings;
use lgtm_logstore::prelude::*;
use serde_json::json;

/// One stream with these entries: time, line, metadata.
fn body(entries: serde_json::Value) -> serde_json::Value {
    json!({"streams": [{"stream": {"app": "a"}, "values": entries}]})
}

fn ns(t: i64) -> String {
    t.to_string()
}

/// Now, as the house's clock has it.
const NOW: i64 = T + 24 * HOUR;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r053_a_rate_limit_is_told_with_its_numbers() {
    let house = House::new(Limits {
        ingestion_rate_mb: 0.001,
        ingestion_burst_size_mb: 0.001,
        ..Limits::default()
    })
    .await;
    let line = "x".repeat(600);
    let push = body(json!([[ns(T), line], [ns(T + 1), line]]));
    let first = house.push(&push).await;
    let second = house.push(&push).await;
    let said = match (first, second) {
        (_, Ok(report)) => report.refusal("team-a").unwrap().message,
        (_, Err(said)) => said,
    };
    for part in ["team-a", "1048", "1200", "'2' lines"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r056_r057_what_is_too_far_behind_is_counted_and_the_rest_is_taken() {
    let house = House::new(Limits::default()).await;
    house.put_at("app=a", &[(T, "newest")]).await;
    // Within the window of an hour.
    house.put_at("app=a", &[(T - 30 * MINUTE, "late")]).await;
    let push = body(json!([
        [ns(T - 5 * HOUR), "far behind"],
        [ns(T - 4 * HOUR), "far behind too"],
        [ns(T + SECOND), "in order"],
    ]));
    let report = house.push(&push).await.unwrap();
    let refusal = report.refusal("team-a").unwrap();
    assert_eq!(refusal.status, 400);
    assert!(
        refusal.message.contains("total ignored: 2 out of 3"),
        "{}",
        refusal.message
    );
    assert_eq!(
        house.lines("{app=\"a\"}").await,
        ["in order", "newest", "late"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r058_equal_entries_count_once_and_others_are_kept() {
    let house = House::new(Limits::default()).await;
    let push = body(json!([
        [ns(T), "x"],
        [ns(T), "x"],
        [ns(T), "y"],
        [ns(T), "x", {"trace": "1"}],
    ]));
    for _ in 0..2 {
        assert_eq!(house.push(&push).await.unwrap().refusal("team-a"), None);
    }
    let mut lines = house.lines("{app=\"a\"}").await;
    lines.sort();
    assert_eq!(lines, ["x", "x", "y"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r059_one_entry_from_the_future_does_not_cost_the_others() {
    let house = House::new(Limits::default()).await;
    let mut entries: Vec<_> = (0..9)
        .map(|n| json!([ns(NOW + n), format!("{n}")]))
        .collect();
    entries.push(json!([ns(NOW + HOUR), "too new"]));
    let report = house.push(&body(json!(entries))).await.unwrap();
    assert_eq!(
        (report.entries, report.refusal("team-a").unwrap().status),
        (9, 400)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r060_a_stream_without_labels_gets_a_name() {
    let push = json!({"streams": [{"stream": {}, "values": [[ns(T), "x"]]}]});
    let named = House::with(Limits::default(), QueryFrontendSettings::default()).await;
    assert_eq!(named.push(&push).await.unwrap().refusal("team-a"), None);
    let found = named.lines(r#"{service_name="unknown_service"}"#).await;
    assert_eq!(found, ["x"]);
    let unnamed = House::new(Limits::default()).await;
    let refused = unnamed.push(&push).await;
    let status = refused.unwrap().refusal("team-a").unwrap().status;
    assert_eq!(status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r061_a_long_line_is_refused_by_its_size_or_cut_with_a_mark() {
    let line = "x".repeat(300_000);
    let push = body(json!([[ns(T), line], [ns(T + 1), "short"]]));
    let strict = House::new(Limits::default()).await;
    let refusal = strict.push(&push).await.unwrap().refusal("team-a").unwrap();
    assert_eq!(refusal.status, 400);
    assert!(
        refusal.message.contains("300000") && refusal.message.contains("262144"),
        "{}",
        refusal.message
    );
    assert_eq!(strict.lines("{app=\"a\"}").await, ["short"]);
    let cutting = House::new(Limits {
        max_line_size: ByteSize::kib(1),
        max_line_size_truncate: true,
        max_line_size_truncate_identifier: "[cut]".into(),
        ..Limits::default()
    })
    .await;
    assert_eq!(cutting.push(&push).await.unwrap().refusal("team-a"), None);
    let lines = cutting.lines("{app=\"a\"}").await;
    assert_eq!(lines[0], "short");
    assert!(
        lines[1].len() == 1024 && lines[1].ends_with("[cut]"),
        "{}",
        lines[1].len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r062_a_long_label_value_is_named() {
    let house = House::new(Limits::default()).await;
    let push = json!({"streams": [
        {"stream": {"app": "a", "path": "x".repeat(3000)}, "values": [[ns(T), "x"]]},
        {"stream": {"app": "b"}, "values": [[ns(T), "y"]]},
    ]});
    let refusal = house.push(&push).await.unwrap().refusal("team-a").unwrap();
    assert_eq!(refusal.status, 400);
    assert!(refusal.message.contains("path"), "{}", refusal.message);
    assert_eq!(house.lines(r#"{app="b"}"#).await, ["y"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r063_large_metadata_cost_their_entry_only() {
    let house = House::new(Limits::default()).await;
    let push = body(json!([
        [ns(T), "large", {"attribute": "x".repeat(77_829)}],
        [ns(T + 1), "small", {"attribute": "x"}],
    ]));
    let refusal = house.push(&push).await.unwrap().refusal("team-a").unwrap();
    assert!(refusal.message.contains("app=\"a\""), "{}", refusal.message);
    assert_eq!(house.lines(r#"{app="a"}"#).await, ["small"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r068_r069_r070_levels_are_found_where_they_are_meant() {
    let house = House::with(Limits::default(), QueryFrontendSettings::default()).await;
    let push = body(json!([
        [
            ns(T),
            "GET /q?query=detected_level%7C%3D%7Cerror HTTP/1.1 200"
        ],
        [
            ns(T + 1),
            r#"{"level":"WARNING","msg":"an error was mended"}"#
        ],
        [ns(T + 2), r#"{"level": "DEBUG", "msg":"x"}"#],
        [ns(T + 3), r#"level=info msg="error""#],
    ]));
    assert_eq!(house.push(&push).await.unwrap().refusal("team-a"), None);
    let levels = async |level: &str| {
        let query = format!(r#"{{app="a"}} | detected_level="{level}""#);
        house.lines(&query).await.len()
    };
    assert_eq!(
        (
            levels("error").await,
            levels("warn").await,
            levels("debug").await,
            levels("info").await
        ),
        (0, 1, 1, 1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r071_r073_r075_bodies_that_are_none_store_nothing() {
    let house = House::new(Limits::default()).await;
    for wrong in [
        body(json!([["null", "x"]])),
        body(json!([[1_714_557_600_000_000_000i64, "x"]])),
        json!({"stream": {"app": "a"}}),
    ] {
        let outcome = house.push(&wrong).await;
        let stored = outcome.as_ref().map_or(0, |report| report.entries);
        assert_eq!(stored, 0, "{wrong}: {outcome:?}");
    }
    assert!(house.lines("{app=\"a\"}").await.is_empty());
    // A third element may be empty.
    let fine = body(json!([[ns(T), "x", {}]]));
    assert_eq!(house.push(&fine).await.unwrap().entries, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r074_a_bad_label_name_is_told_with_its_place() {
    let house = House::new(Limits::default()).await;
    // The text form of labels comes with protobuf; there a name is read by Loki's grammar.
    let said = lgtm_logstore::logql::parse_selector(r#"{app-name="a"}"#).unwrap_err();
    assert!(said.place.is_some(), "{said}");
    assert!(house.lines("{app=\"a\"}").await.is_empty());
}
