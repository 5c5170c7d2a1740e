//! Debian's promtool asks the host, and its Prometheus reads through the host: both must tell what the host's own API tells.

use std::process::Command;

use crate::host::programs::{ask, have, prometheus, promtool, wait_until_ready};
use crate::host::{Host, now_ms, write_request};
use serde_json::{Value, json};

/// How long after the last sample is asked. Debian's Prometheus takes the sample at the beginning of a window in, that of today does
/// not: no window of the tests begins at a sample.
const AFTER: i64 = 7;

/// Ten minutes of two counters, a gauge with odd values, and a native histogram, the last sample `AFTER` seconds before `end`.
fn fill(host: &Host, end: i64) {
    let end = end - AFTER;
    for n in 0..40 {
        let t_ms = (end - (39 - n) * 15) * 1000;
        let odd = [f64::NAN, f64::INFINITY, -0.0, 1.5e-7, 1e21, 123_456_789.125][n as usize % 6];
        let body = write_request(&[
            (
                &[
                    ("__name__", "requests_total"),
                    ("job", "api"),
                    ("instance", "a"),
                ],
                t_ms,
                (n * n) as f64,
            ),
            // A reset in the middle.
            (
                &[
                    ("__name__", "requests_total"),
                    ("job", "api"),
                    ("instance", "b \"2\""),
                ],
                t_ms,
                (n % 25 * 7) as f64,
            ),
            (&[("__name__", "odd"), ("job", "db")], t_ms, odd),
        ]);
        let pushed = host.post("/api/v1/push", &[], &body);
        assert_eq!(pushed.status, 200, "{}", pushed.text());
        let nanos = |ms: i64| format!("{ms}000000");
        let point = json!({
            "startTimeUnixNano": nanos((end - 3600) * 1000), "timeUnixNano": nanos(t_ms),
            "count": (3 * n + 6).to_string(), "sum": 1.5 * n as f64, "scale": 1, "zeroCount": "1", "zeroThreshold": 0.001,
            "positive": {"offset": -2, "bucketCounts": [(n + 1).to_string(), (n + 2).to_string(), "0", (n + 2).to_string()]},
        });
        let metric = json!({"name": "took", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [point]}});
        let body = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]});
        let typed = [("Content-Type", "application/json")];
        let pushed = host.post("/otlp/v1/metrics", &typed, body.to_string().as_bytes());
        assert_eq!(pushed.status, 200, "{}", pushed.text());
    }
}

fn escaped(text: &str) -> String {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    let each = text.bytes().map(|b| {
        if safe(b) {
            (b as char).to_string()
        } else {
            format!("%{b:02X}")
        }
    });
    each.collect()
}

fn instant(query: &str, t: i64) -> String {
    format!("/api/v1/query?query={}&time={t}", escaped(query))
}

fn range(query: &str, start: i64, end: i64, step: i64) -> String {
    let query = escaped(query);
    format!("/api/v1/query_range?query={query}&start={start}&end={end}&step={step}")
}

/// The host's answer; `data.result`.
fn ours(host: &Host, path: &str) -> Value {
    let answer = host.get(&format!("/prometheus{path}"));
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()["data"]["result"].clone()
}

/// Numbers as they are, whatever their spelling, to the last bits of what was computed.
fn alike(a: &Value, b: &Value) -> bool {
    use serde_json::Value::{Array, Number, Object, String};
    match (a, b) {
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Object(a), Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| alike(v, w)))
        }
        (Number(a), Number(b)) => a.as_f64() == b.as_f64(),
        (String(a), String(b)) => match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(a), Ok(b)) => {
                a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= a.abs() * 1e-13
            }
            _ => a == b,
        },
        _ => a == b,
    }
}

/// A vector or matrix in the order of its labels.
fn sorted(mut result: Value) -> Value {
    if let Some(list) = result.as_array_mut() {
        list.sort_by_key(|s| s["metric"].to_string());
    }
    result
}

/// Native histograms are what the last two read, which Debian's Prometheus does not take from a remote read, and what the last one
/// answers, which its promtool cannot print.
const QUERIES: [&str; 9] = [
    "requests_total",
    "sum by (job) (rate(requests_total[2m]))",
    "topk(1, requests_total)",
    "{__name__=~\"requests_total|odd\", instance!=\"a\"}",
    "odd",
    "requests_total - on (job, instance) requests_total offset 1m",
    "max_over_time(requests_total[5m:30s])",
    "histogram_quantile(0.9, rate(took[2m]))",
    "took",
];

#[test]
fn promtool_prints_what_the_api_answers() {
    if !have("promtool") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path(), &[]);
    let end = now_ms() / 1000 / 15 * 15 + AFTER;
    fill(&host, end);
    let url = format!("{}/prometheus", host.url());
    let (start, to) = ((end - 300).to_string(), end.to_string());
    let printed = |args: &[&str]| promtool(&[&["query"], args].concat());
    let json = |args: &[&str]| -> Value {
        let text = printed(&[&["--format=json"], args].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
    };
    for flushed in [false, true] {
        if flushed {
            assert_eq!(host.post("/flush", &[], b"").status, 200);
        }
        let queries = &QUERIES[..QUERIES.len() - 1];
        for query in queries.iter().chain(&["1.5", "requests_total[1m]"]) {
            let theirs = json(&["instant", "--time", &to, &url, query]);
            let wanted = ours(&host, &instant(query, end));
            assert!(
                alike(&theirs, &wanted),
                "{query}\npromtool: {theirs}\napi: {wanted}"
            );
        }
        for query in queries {
            let theirs = json(&[
                "range",
                "--start",
                &start,
                "--end",
                &to,
                "--step=30s",
                &url,
                query,
            ]);
            let wanted = ours(&host, &range(query, end - 300, end, 30));
            assert!(!wanted.as_array().unwrap().is_empty(), "{query}");
            assert!(
                alike(&theirs, &wanted),
                "{query}\npromtool: {theirs}\napi: {wanted}"
            );
        }
        // As text, line by line.
        let expected: Vec<String> = ours(&host, &instant("requests_total", end))
            .as_array()
            .unwrap()
            .iter()
            .map(|s| {
                let (instance, value) = (&s["metric"]["instance"], s["value"][1].as_str().unwrap());
                format!("requests_total{{instance={instance}, job=\"api\"}} => {value} @[{end}]")
            })
            .collect();
        let text = printed(&["instant", "--time", &to, &url, "requests_total"]);
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        let text = printed(&[
            "series",
            "--match",
            "requests_total",
            "--match",
            "odd",
            &url,
        ]);
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "{__name__=\"odd\", job=\"db\"}",
                "{__name__=\"requests_total\", instance=\"a\", job=\"api\"}",
                "{__name__=\"requests_total\", instance=\"b \\\"2\\\"\", job=\"api\"}",
            ]
        );
        let text = printed(&["labels", &url, "__name__"]);
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            ["odd", "requests_total", "took"]
        );
        let text = printed(&["labels", "--match", "odd", &url, "job"]);
        assert_eq!(text.lines().collect::<Vec<_>>(), ["db"]);
    }
    let out = Command::new("promtool")
        .args(["query", "instant", &url, "sum(up"])
        .output()
        .unwrap();
    assert!(!out.status.success());
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        said.contains("bad_data") && said.contains("1:7: parse error: unclosed left parenthesis"),
        "{said}"
    );
}

#[test]
fn a_real_prometheus_reads_through_the_host() {
    if !have("prometheus") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(&dir.path().join("data"), &[]);
    let end = now_ms() / 1000 / 15 * 15 + AFTER;
    fill(&host, end);
    let config = format!(
        "global: {{}}\nremote_read:\n- url: {}/prometheus/api/v1/read\n  read_recent: true\n",
        host.url()
    );
    let (_reader, port) = prometheus(dir.path(), &config, &dir.path().join("prom"));
    wait_until_ready(port);
    for flushed in [false, true] {
        if flushed {
            assert_eq!(host.post("/flush", &[], b"").status, 200);
        }
        for query in &QUERIES[..QUERIES.len() - 2] {
            for path in [instant(query, end), range(query, end - 300, end, 30)] {
                let answer = ask(port, &path);
                let theirs = sorted(answer["data"]["result"].clone());
                let wanted = sorted(ours(&host, &path));
                assert!(!wanted.as_array().unwrap().is_empty(), "{query}");
                assert!(
                    alike(&theirs, &wanted),
                    "{query}\nthrough Prometheus: {answer}\napi: {wanted}"
                );
            }
        }
        // Its own storage is empty: names come from the host too.
        let names = ask(
            port,
            &format!(
                "/api/v1/series?match[]=requests_total&start={}&end={end}",
                end - 300
            ),
        );
        assert_eq!(names["data"].as_array().unwrap().len(), 2, "{names}");
    }
}
