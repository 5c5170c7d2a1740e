//! How many series bear which label: exact answers of a running host, tenant by tenant.

use crate::host::{Answer, Host, Series, now_ms, write_request};
use serde_json::{Value, json};

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// A host with tenants `a` and `b`, who may ask, and everybody else, who may not. A series is active for three seconds.
fn started() -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("lgtm.yml");
    std::fs::write(
        &config,
        "auth: {multitenancy_enabled: true}\n\
         metrics: {ingester: {head: {active_series_idle_timeout: 3s}}}\n\
         overrides:\n  \
           a: {metrics: {cardinality_analysis_enabled: true, label_values_max_cardinality_label_names_per_request: 3}}\n  \
           b: {metrics: {cardinality_analysis_enabled: true, cardinality_analysis_max_results: 2, active_series_results_max_size_bytes: 30}}\n",
    )
    .unwrap();
    let host = Host::start(
        &dir.path().join("data"),
        &[&format!("-config.file={}", config.display())],
    );
    (dir, host)
}

fn push(host: &Host, tenant: &str, series: &[Series<'_>]) {
    let headers = [("Content-Encoding", "snappy"), ("X-Scope-OrgID", tenant)];
    let answer = host.post("/api/v1/push", &headers, &write_request(series));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn ask(host: &Host, tenant: &str, call: &str) -> Answer {
    let path = format!("/prometheus/api/v1/cardinality/{call}");
    host.try_request("GET", &path, &[("X-Scope-OrgID", tenant)], b"")
        .unwrap()
}

/// The answer by GET, which is the answer by POST of a form and without the prefix too.
fn answered(host: &Host, tenant: &str, call: &str) -> Value {
    let got = ask(host, tenant, call);
    assert_eq!(got.status, 200, "{call}: {}", got.text());
    let (path, form) = call.split_once('?').unwrap_or((call, ""));
    let path = format!("/api/v1/cardinality/{path}");
    let posted = host.post(&path, &[("X-Scope-OrgID", tenant), FORM], form.as_bytes());
    assert_eq!(got.text(), posted.text(), "{call}");
    got.json()
}

fn fill(host: &Host, t_ms: i64) {
    push(
        host,
        "a",
        &[
            (
                &[("__name__", "up"), ("instance", "1"), ("job", "api")],
                t_ms,
                1.0,
            ),
            (
                &[("__name__", "up"), ("instance", "2"), ("job", "api")],
                t_ms,
                1.0,
            ),
            (
                &[("__name__", "up"), ("instance", "3"), ("job", "api")],
                t_ms,
                1.0,
            ),
            (
                &[("__name__", "up"), ("instance", "1"), ("job", "db")],
                t_ms,
                1.0,
            ),
            (&[("__name__", "heat"), ("job", "room \"1\"")], t_ms, 1.0),
        ],
    );
    push(
        host,
        "b",
        &[
            (&[("__name__", "up"), ("host", "x")], t_ms, 1.0),
            (&[("__name__", "up"), ("host", "y")], t_ms, 1.0),
            (&[("__name__", "up"), ("host", "z")], t_ms, 1.0),
        ],
    );
}

#[test]
fn labels_are_counted_tenant_by_tenant() {
    let (_dir, host) = started();
    fill(&host, now_ms());
    for flushed in [false, true] {
        if flushed {
            // Series stay in memory until they are idle.
            assert_eq!(host.post("/flush", &[], b"").status, 200);
        }
        assert_eq!(
            answered(&host, "a", "label_names"),
            json!({"label_values_count_total": 8, "label_names_count": 3, "cardinality": [
                {"label_name": "instance", "label_values_count": 3},
                {"label_name": "job", "label_values_count": 3},
                {"label_name": "__name__", "label_values_count": 2},
            ]})
        );
        let chosen = "label_names?limit=1&selector=up%7Bjob%3D%22api%22%7D&count_method=inmemory";
        assert_eq!(
            answered(&host, "a", chosen),
            json!({"label_values_count_total": 5, "label_names_count": 3, "cardinality": [
                {"label_name": "instance", "label_values_count": 3},
            ]})
        );
        assert_eq!(
            answered(&host, "a", "label_names?limit=0")["cardinality"],
            json!([])
        );
        let values = "label_values?label_names[]=job&label_names[]=instance&label_names[]=nope";
        assert_eq!(
            answered(&host, "a", values),
            json!({"series_count_total": 5, "labels": [
                {"label_name": "job", "label_values_count": 3, "series_count": 5, "cardinality": [
                    {"label_value": "api", "series_count": 3},
                    {"label_value": "db", "series_count": 1},
                    {"label_value": "room \"1\"", "series_count": 1},
                ]},
                {"label_name": "instance", "label_values_count": 3, "series_count": 4, "cardinality": [
                    {"label_value": "1", "series_count": 2},
                    {"label_value": "2", "series_count": 1},
                    {"label_value": "3", "series_count": 1},
                ]},
            ]})
        );
        let chosen = "label_values?label_names[]=job&selector=%7Binstance%3D%221%22%7D&limit=1";
        assert_eq!(
            answered(&host, "a", chosen),
            json!({"series_count_total": 5, "labels": [
                {"label_name": "job", "label_values_count": 2, "series_count": 2, "cardinality": [
                    {"label_value": "api", "series_count": 1},
                ]},
            ]})
        );
        assert_eq!(
            answered(&host, "b", "label_names"),
            json!({"label_values_count_total": 4, "label_names_count": 2, "cardinality": [
                {"label_name": "host", "label_values_count": 3},
                {"label_name": "__name__", "label_values_count": 1},
            ]})
        );
    }
}

#[test]
fn series_are_active_for_a_while_after_their_last_sample() {
    let (_dir, host) = started();
    let t_ms = now_ms();
    fill(&host, t_ms);
    let names = "label_names?count_method=active";
    assert_eq!(answered(&host, "a", names)["label_values_count_total"], 8);
    let mut up = ask(&host, "a", "active_series?selector=up").json();
    up["data"]
        .as_array_mut()
        .unwrap()
        .sort_by_key(Value::to_string);
    assert_eq!(
        up,
        json!({"data": [
            {"__name__": "up", "instance": "1", "job": "api"},
            {"__name__": "up", "instance": "1", "job": "db"},
            {"__name__": "up", "instance": "2", "job": "api"},
            {"__name__": "up", "instance": "3", "job": "api"},
        ]})
    );
    for _ in 0..600 {
        if ask(&host, "a", names).json()["label_names_count"] == 0 {
            break;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    let again: Series<'_> = (
        &[("__name__", "up"), ("instance", "2"), ("job", "api")],
        t_ms + 5000,
        1.0,
    );
    push(&host, "a", &[again]);
    assert_eq!(
        answered(&host, "a", names),
        json!({"label_values_count_total": 3, "label_names_count": 3, "cardinality": [
            {"label_name": "__name__", "label_values_count": 1},
            {"label_name": "instance", "label_values_count": 1},
            {"label_name": "job", "label_values_count": 1},
        ]})
    );
    let values = "label_values?label_names[]=instance&count_method=active";
    assert_eq!(
        answered(&host, "a", values),
        json!({"series_count_total": 1, "labels": [
            {"label_name": "instance", "label_values_count": 1, "series_count": 1, "cardinality": [
                {"label_value": "2", "series_count": 1},
            ]},
        ]})
    );
    let all = "active_series?selector=%7B__name__%3D~%22.%2B%22%7D";
    assert_eq!(
        answered(&host, "a", all),
        json!({"data": [{"__name__": "up", "instance": "2", "job": "api"}]})
    );
    assert_eq!(
        answered(&host, "a", "active_series?selector=heat"),
        json!({"data": []})
    );
    assert_eq!(
        answered(&host, "a", "label_names")["label_values_count_total"],
        8
    );
}

/// An exponential histogram with so many positive buckets, as OTLP has it in JSON.
fn otlp_histogram(metric: &str, job: &str, t_ms: i64, buckets: usize) -> Value {
    let counts = vec!["1"; buckets];
    json!({"resourceMetrics": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": job}}]},
        "scopeMetrics": [{"metrics": [{"name": metric, "exponentialHistogram": {
            "aggregationTemporality": 2,
            "dataPoints": [{
                "startTimeUnixNano": format!("{}000000", t_ms - 60_000), "timeUnixNano": format!("{t_ms}000000"),
                "count": buckets.to_string(), "sum": 1.5, "scale": 0, "zeroCount": "0",
                "positive": {"offset": 1, "bucketCounts": counts},
            }],
        }}]}],
    }]})
}

#[test]
fn native_histograms_are_counted_by_metric() {
    let (_dir, host) = started();
    let t_ms = now_ms();
    for (metric, job, buckets) in [("took", "api", 2), ("took", "db", 5), ("waited", "api", 3)] {
        let headers = [("X-Scope-OrgID", "a"), ("Content-Type", "application/json")];
        let body = otlp_histogram(metric, job, t_ms, buckets).to_string();
        let answer = host.post("/otlp/v1/metrics", &headers, body.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    fill(&host, t_ms);
    let all = "active_native_histogram_metrics?selector=%7B__name__%3D~%22.%2B%22%7D";
    assert_eq!(
        answered(&host, "a", all),
        json!({"data": [
            {"metric": "took", "series_count": 2, "bucket_count": 7, "avg_bucket_count": 3.5, "min_bucket_count": 2, "max_bucket_count": 5},
            {"metric": "waited", "series_count": 1, "bucket_count": 3, "avg_bucket_count": 3, "min_bucket_count": 3, "max_bucket_count": 3},
        ]})
    );
    let one = "active_native_histogram_metrics?selector=took%7Bjob%3D%22db%22%7D";
    assert_eq!(answered(&host, "a", one)["data"][0]["bucket_count"], 5);
    assert_eq!(answered(&host, "b", all), json!({"data": []}));
}

#[test]
fn who_may_not_ask_or_asks_badly_is_told() {
    let (_dir, host) = started();
    fill(&host, now_ms());
    let bound = "active_series?selector=up";
    for (tenant, call, status, words) in [
        (
            "c",
            "label_names",
            400,
            "cardinality analysis is disabled for the tenant: c\n",
        ),
        ("c", "label_values?label_names[]=x", 400, "is disabled"),
        ("c", "active_series?selector=up", 400, "is disabled"),
        (
            "c",
            "active_native_histogram_metrics?selector=up",
            400,
            "is disabled",
        ),
        ("a|b", "label_names", 400, "multiple org IDs present"),
        (
            "a",
            "label_names?limit=-1",
            400,
            "'limit' param cannot be less than '0'",
        ),
        (
            "a",
            "label_names?limit=501",
            400,
            "'limit' param cannot be greater than '500'",
        ),
        (
            "b",
            "label_names?limit=3",
            400,
            "'limit' param cannot be greater than '2'",
        ),
        (
            "a",
            "label_names?limit=x",
            400,
            "'limit' param \"x\" is not a number",
        ),
        (
            "a",
            "label_names?limit=1&limit=2",
            400,
            "multiple 'limit' params are not allowed",
        ),
        (
            "a",
            "label_names?selector=up&selector=up",
            400,
            "multiple 'selector' params",
        ),
        ("a", "label_names?selector=up%7B", 400, "1:4: parse error"),
        (
            "a",
            "label_names?count_method=some",
            400,
            "invalid 'count_method' param 'some'",
        ),
        (
            "a",
            "label_values",
            400,
            "'label_names[]' param is required",
        ),
        (
            "a",
            "label_values?label_names[]=",
            400,
            "invalid 'label_names' param ''",
        ),
        (
            "a",
            "label_values?label_names[]=p&label_names[]=q&label_names[]=r&label_names[]=s",
            400,
            "label_values_max_cardinality_label_names_per_request",
        ),
        ("a", "active_series", 400, "'selector' param is required"),
        (
            "a",
            "active_native_histogram_metrics",
            400,
            "'selector' param is required",
        ),
        (
            "b",
            bound,
            413,
            "the limit is 30 (active_series_results_max_size_bytes)",
        ),
    ] {
        let answer = ask(&host, tenant, call);
        assert_eq!(answer.status, status, "{tenant} {call}: {}", answer.text());
        assert!(
            answer.text().contains(words),
            "{tenant} {call}: {}",
            answer.text()
        );
    }
    // Without a tenant nobody is asked for.
    assert_eq!(host.get("/api/v1/cardinality/label_names").status, 401);
    // The default of what is listed is no more than what may be.
    let listed = answered(&host, "b", "label_values?label_names[]=host");
    assert_eq!(
        listed["labels"][0]["cardinality"].as_array().unwrap().len(),
        2
    );
    assert_eq!(listed["labels"][0]["label_values_count"], 3);
}
