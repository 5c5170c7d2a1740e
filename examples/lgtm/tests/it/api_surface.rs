//! Every call of the query API below both prefixes, by each of its verbs, with good parameters and bad ones.

use crate::host;

use std::io::Write;
use std::process::{Command, Stdio};

use crate::host::{Answer, Host, now_ms};
use serde_json::{Value, json};

const PREFIXES: [&str; 2] = ["/prometheus/api/v1", "/api/v1"];
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// A gauge with help and unit, as OTLP has it in JSON.
fn otlp_gauge(name: &str, help: &str, t_ms: i64) -> Value {
    let point = json!({"asDouble": 2.5, "timeUnixNano": format!("{t_ms}000000")});
    json!({"name": name, "description": help, "gauge": {"dataPoints": [point]}})
}

/// Three series with samples at `t_ms`, two of whose metrics have metadata, and one label whose name needs escapes.
fn started(flags: &[&str]) -> (tempfile::TempDir, Host, i64) {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path(), flags);
    let t_ms = now_ms() / 1000 * 1000;
    let pushed = host.push(&[(&[("__name__", "up"), ("my.label", "x")], t_ms, 1.0)]);
    assert_eq!(pushed.status, 200, "{}", pushed.text());
    let gauges = [
        otlp_gauge("speed", "how fast", t_ms),
        otlp_gauge("size", "how \"large\"", t_ms),
    ];
    let body = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": gauges}]}]}).to_string();
    let json_type = [("Content-Type", "application/json")];
    let pushed = host.post("/otlp/v1/metrics", &json_type, body.as_bytes());
    assert_eq!(pushed.status, 200, "{}", pushed.text());
    (dir, host, t_ms)
}

/// What a call answers below both prefixes, and by POST where there is a form.
fn everywhere(host: &Host, has_form: bool, call: &str) -> Answer {
    let (path, form) = call.split_once('?').unwrap_or((call, ""));
    let mut answers = Vec::new();
    for prefix in PREFIXES {
        answers.push(host.get(&format!("{prefix}{call}")));
        let posted = host.post(&format!("{prefix}{path}"), &[FORM], form.as_bytes());
        if has_form {
            answers.push(posted)
        } else {
            assert_eq!(posted.status, 405, "POST {path}")
        }
    }
    let first = answers.pop().unwrap();
    for other in answers {
        assert_eq!(
            (other.status, other.text()),
            (first.status, first.text()),
            "{call}"
        );
    }
    first
}

#[test]
fn every_call_answers_below_both_prefixes_and_by_each_verb() {
    let (_dir, host, t_ms) = started(&[]);
    let t = t_ms / 1000;
    let up = json!({"__name__": "up", "my.label": "x"});
    let tables: [(bool, String, Value); 23] = [
        (true, format!("/query?query=up&time={t}"), json!({"resultType": "vector", "result": [{"metric": up, "value": [t, "1"]}]})),
        (true, "/query?query=%22a%22&time=1.5".into(), json!({"resultType": "string", "result": [1.5, "a"]})),
        (true, format!("/query?query=up&time={}&lookback_delta=10s", t + 11), json!({"resultType": "vector", "result": []})),
        (true, format!("/query?query=up&time={}&lookback_delta=12&timeout=5s", t + 11), json!({"resultType": "vector", "result": [{"metric": up, "value": [t + 11, "1"]}]})),
        (true, format!("/query_range?query=up&start={t}&end={}&step=15", t + 15), json!({"resultType": "matrix", "result": [{"metric": up, "values": [[t, "1"], [t + 15, "1"]]}]})),
        // One step when the start is the end.
        (true, format!("/query_range?query=up&start={t}&end={t}&step=1h"), json!({"resultType": "matrix", "result": [{"metric": up, "values": [[t, "1"]]}]})),
        (true, format!("/query_exemplars?query=up&start={t}&end={t}"), json!([])),
        (true, "/format_query?query=sum(up)by(a)".into(), json!("sum by (a) (up)")),
        (true, "/parse_query?query=-1".into(), json!({"type": "numberLiteral", "val": "-1"})),
        (true, "/series?match[]=up&match[]=nope".into(), json!([up])),
        (true, "/series?match[]=up&start=1&end=2".into(), json!([])),
        (true, "/labels".into(), json!(["__name__", "my.label"])),
        (true, "/labels?match[]=speed".into(), json!(["__name__"])),
        (true, "/label/__name__/values".into(), json!(["size", "speed", "up"])),
        (true, "/label/U__my_2e_label/values".into(), json!(["x"])),
        (true, "/label/my.label/values?match[]=speed".into(), json!([])),
        (false, "/metadata?metric=speed".into(), json!({"speed": [{"type": "gauge", "help": "how fast", "unit": ""}]})),
        (false, "/metadata?limit=0".into(), json!({})),
        (false, "/rules?type=alert&rule_name[]=a&rule_group[]=b&file[]=c&match[]=up&exclude_alerts=true&group_limit=5".into(), json!({"groups": []})),
        (false, "/alerts".into(), json!({"alerts": []})),
        (false, "/targets".into(), json!({"activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {}})),
        (false, "/alertmanagers".into(), json!({"activeAlertmanagers": [], "droppedAlertmanagers": []})),
        (false, "/status/flags".into(), json!({})),
    ];
    for (has_form, call, data) in tables {
        let answer = everywhere(&host, has_form, &call);
        assert_eq!(answer.status, 200, "{call}: {}", answer.text());
        let answer = answer.json();
        assert_eq!(answer, json!({"status": "success", "data": data}), "{call}");
    }
    for call in ["/status/config", "/status/runtimeinfo"] {
        assert_eq!(everywhere(&host, false, call).json()["data"], json!({}));
    }
    let build = everywhere(&host, false, "/status/buildinfo").json();
    for key in [
        "version",
        "revision",
        "branch",
        "buildUser",
        "buildDate",
        "goVersion",
        "application",
    ] {
        assert!(build["data"][key].is_string(), "{key}: {build}");
    }
    let features = json!({"ruler_config_api": "false", "alertmanager_config_api": "false", "query_sharding": "false", "federated_rules": "false"});
    assert_eq!(build["data"]["features"], features);
    let all = everywhere(&host, false, "/metadata").json();
    assert_eq!(all["data"]["size"][0]["help"], "how \"large\"");
    assert_eq!(all["data"].as_object().unwrap().len(), 2);
    for no_limit in ["0", "-1", ""] {
        let call = format!("/metadata?limit=1&limit_per_metric={no_limit}");
        let first = everywhere(&host, false, &call).json();
        assert_eq!(
            first["data"],
            json!({"size": all["data"]["size"]}),
            "{call}"
        );
    }
}

#[test]
fn lists_that_a_limit_cuts_say_so() {
    let (_dir, host, t_ms) = started(&[]);
    let cut = json!(["results truncated due to limit"]);
    let t = t_ms / 1000;
    let all = "%7B__name__%3D~%22.%2B%22%7D";
    for (call, listed) in [
        ("/labels?limit=1".to_owned(), json!(["__name__"])),
        (
            "/label/__name__/values?limit=2".into(),
            json!(["size", "speed"]),
        ),
        (
            format!("/series?match[]={all}&limit=1"),
            json!([{"__name__": "size"}]),
        ),
    ] {
        let answer = host.get(&format!("/api/v1{call}")).json();
        assert_eq!(
            (&answer["data"], &answer["warnings"]),
            (&listed, &cut),
            "{call}"
        );
    }
    for call in [
        format!("/query?query={all}&time={t}&limit=2"),
        format!("/query_range?query={all}&start={t}&end={t}&step=1&limit=2"),
    ] {
        let answer = host.get(&format!("/api/v1{call}")).json();
        assert_eq!(
            answer["data"]["result"].as_array().unwrap().len(),
            2,
            "{call}"
        );
        assert_eq!(answer["warnings"], cut, "{call}");
    }
    let whole = host.get("/api/v1/labels?limit=2").json();
    assert_eq!(
        whole,
        json!({"status": "success", "data": ["__name__", "my.label"]})
    );
    let stats = host
        .get(&format!("/api/v1/query?query={all}&time={t}&stats=all"))
        .json();
    assert_eq!(
        stats["data"]["stats"]["samples"]["totalQueryableSamples"],
        3
    );
    assert!(
        stats["data"]["stats"]["timings"]["evalTotalTime"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    let tsdb = host.get("/api/v1/status/tsdb?limit=1").json()["data"].clone();
    assert_eq!(tsdb["headStats"]["numSeries"], 3);
    for list in [
        "seriesCountByMetricName",
        "labelValueCountByLabelName",
        "memoryInBytesByLabelName",
        "seriesCountByLabelValuePair",
    ] {
        assert_eq!(tsdb[list].as_array().unwrap().len(), 1, "{list}");
    }
    assert_eq!(
        tsdb["labelValueCountByLabelName"],
        json!([{"name": "__name__", "value": 3}])
    );
}

#[test]
fn bad_parameters_are_told_by_name() {
    let (_dir, host, _) = started(&[]);
    for (call, words) in [
        (
            "/query?query=up&limit=-1",
            "invalid parameter \"limit\": limit must be non-negative",
        ),
        ("/query?query=up&limit=x", "invalid parameter \"limit\""),
        (
            "/query?query=up&timeout=x",
            "invalid parameter \"timeout\": cannot parse \"x\" to a valid duration",
        ),
        (
            "/query?query=up&lookback_delta=x",
            "error parsing lookback delta duration",
        ),
        ("/query?query=up%ff", "is not UTF-8"),
        ("/query?query=up%zz", "invalid URL escape"),
        (
            "/query_range?query=up&end=2&step=1",
            "invalid parameter \"start\"",
        ),
        (
            "/query_range?query=up&start=1&step=1",
            "invalid parameter \"end\"",
        ),
        (
            "/query_range?query=up&start=1&end=2",
            "invalid parameter \"step\"",
        ),
        (
            "/query_exemplars?query=up&start=2&end=1",
            "end timestamp must not be before start timestamp",
        ),
        (
            "/query_exemplars?start=1&end=2",
            "invalid parameter \"query\"",
        ),
        (
            "/series?match[]=up%7B",
            "invalid parameter \"match[]\": 1:4: parse error",
        ),
        (
            "/labels?match[]=%7Ba%3D~%22%22%7D",
            "match[] must contain at least one non-empty matcher",
        ),
        ("/labels?start=x", "invalid parameter \"start\""),
        ("/label/a/values?limit=x", "invalid parameter \"limit\""),
        ("/label/U__/values", "invalid label name"),
        ("/metadata?limit=x", "limit must be a number"),
        (
            "/metadata?limit_per_metric=x",
            "limit_per_metric must be a number",
        ),
        (
            "/rules?type=x",
            "invalid parameter \"type\": not supported value \"x\"",
        ),
        (
            "/rules?exclude_alerts=x",
            "invalid parameter \"exclude_alerts\"",
        ),
        ("/rules?match[]=up%7B", "invalid parameter \"match[]\""),
        ("/rules?group_limit=0", "invalid parameter \"group_limit\""),
        (
            "/rules?group_next_token=x",
            "invalid parameter \"group_limit\": group_limit needs to be present",
        ),
        (
            "/rules?group_next_token=x&group_limit=1",
            "invalid parameter \"group_next_token\"",
        ),
        ("/status/tsdb?limit=0", "limit must be a positive number"),
        ("/status/tsdb?limit=10001", "limit must not exceed 10000"),
    ] {
        for prefix in PREFIXES {
            let answer = host.get(&format!("{prefix}{call}"));
            let json = answer.json();
            assert_eq!(answer.status, 400, "{call}: {json}");
            assert_eq!(
                (&json["status"], &json["errorType"]),
                (&json!("error"), &json!("bad_data"))
            );
            assert!(
                json["error"].as_str().unwrap().contains(words),
                "{call}: {json}"
            );
        }
    }
    // What nobody should send is refused before it is looked at.
    let body = format!("query={}", "a".repeat(10 << 20));
    let answer = host.post("/api/v1/query", &[FORM], body.as_bytes());
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert_eq!(host.get("/api/v1/nothing").status, 404);
}

#[test]
fn the_parser_of_all_calls_is_that_of_the_engine() {
    for (flag, status) in [("false", 400), ("true", 200)] {
        let dir = tempfile::tempdir().unwrap();
        let flag = format!("-metrics.querier.parser.experimental-functions={flag}");
        let host = Host::start(dir.path(), &[&flag]);
        for call in ["query", "format_query", "parse_query", "query_exemplars"] {
            let path = format!("/api/v1/{call}?query=limitk(1,up)");
            let answer = host.get(&path);
            assert_eq!(answer.status, status, "{path}: {}", answer.text());
        }
    }
}

#[test]
fn a_tenant_sees_what_it_has_and_may_have() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("lgtm.yml");
    std::fs::write(
        &config,
        "metrics: {ingester: {maintenance_interval: 100ms}}\nlimits: {metrics: {max_global_series_per_user: 7}}\noverrides: {a: {metrics: {max_label_value_length: 99}}}\n",
    )
    .unwrap();
    let config = format!("-config.file={}", config.display());
    let data = dir.path().join("data");
    let host = Host::start(&data, &["-auth.multitenancy-enabled", &config]);
    let get = |path: &str, tenant: &str| {
        let answer = host.try_request("GET", path, &[("X-Scope-OrgID", tenant)], b"");
        answer.unwrap().json()
    };
    let limits = get("/api/v1/user_limits", "a");
    assert_eq!(
        (
            &limits["max_global_series_per_user"],
            &limits["max_label_value_length"]
        ),
        (&json!(7), &json!(99))
    );
    assert_eq!(
        get("/api/v1/user_limits", "b")["max_label_value_length"],
        2048
    );
    assert_eq!(host.get("/api/v1/user_limits").status, 401);
    let t_ms = now_ms();
    let mut rate = 0.0;
    for n in 0..200 {
        let body = host::write_request(&[
            (&[("__name__", "up")], t_ms + n, 1.0),
            (&[("__name__", "down")], t_ms + n, 1.0),
        ]);
        let pushed = host.post("/api/v1/push", &[("X-Scope-OrgID", "a")], &body);
        assert_eq!(pushed.status, 200, "{}", pushed.text());
        rate = get("/api/v1/user_stats", "a")["ingestionRate"]
            .as_f64()
            .unwrap();
        if rate > 0.0 {
            break;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    assert!(rate > 0.0, "samples come and the rate stays 0");
    let stats = get("/api/v1/user_stats", "a");
    assert_eq!(
        (&stats["numSeries"], &stats["RuleIngestionRate"]),
        (&json!(2), &json!(0))
    );
    let none =
        json!({"ingestionRate": 0, "numSeries": 0, "APIIngestionRate": 0, "RuleIngestionRate": 0});
    assert_eq!(get("/api/v1/user_stats", "b"), none);
}

/// The bytes through a program that reads them from its standard input.
fn piped(program: &str, args: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(out.status.success(), "{program}");
    out.stdout
}

#[test]
fn answers_are_compressed_as_the_client_takes_them() {
    let (_dir, host, t_ms) = started(&["-limits.metrics.cardinality-analysis-enabled"]);
    let names: Vec<String> = (0..2000).map(|n| format!("series_number_{n:06}")).collect();
    let labels: Vec<_> = names.iter().map(|n| [("__name__", n.as_str())]).collect();
    let series: Vec<_> = labels.iter().map(|l| (&l[..], t_ms, 1.0)).collect();
    assert_eq!(host.push(&series).status, 200);
    // One is in memory when it is sent, the other comes in pieces.
    let list = "/prometheus/api/v1/label/__name__/values";
    let streamed = "/api/v1/cardinality/active_series?selector=%7B__name__%3D~%22series.%2B%22%7D";
    for path in [list, streamed] {
        let plain = host.get(path);
        let encoded = |accept: &str| {
            let answer = host
                .try_request("GET", path, &[("Accept-Encoding", accept)], b"")
                .unwrap();
            let headers = answer.headers.to_ascii_lowercase();
            assert!(headers.contains("vary: accept-encoding"), "{headers}");
            let name = headers
                .lines()
                .find_map(|l| l.strip_prefix("content-encoding: ").map(str::to_owned));
            let plain = match name.as_deref() {
                None => answer.body.clone(),
                Some("gzip") => piped("gzip", &["-dc"], &answer.body),
                // The framing format: a stream identifier first.
                Some("x-snappy-framed") => {
                    let mut out = Vec::new();
                    let mut reader = snap::read::FrameDecoder::new(&answer.body[..]);
                    std::io::Read::read_to_end(&mut reader, &mut out).unwrap();
                    out
                }
                Some("snappy") => snap::raw::Decoder::new()
                    .decompress_vec(&answer.body)
                    .unwrap(),
                Some("zstd") => Vec::new(),
                Some(other) => panic!("{other} was not asked for"),
            };
            (name.unwrap_or_default(), plain, answer.body.len())
        };
        for (accept, name) in [
            ("gzip", "gzip"),
            ("zstd", "zstd"),
            ("gzip, deflate, br, zstd", "zstd"),
            ("zstd;q=0.1, gzip;q=0.5, br", "gzip"),
            ("gzip;q=0", ""),
            ("identity", ""),
            ("br", ""),
            ("x-snappy-framed", "x-snappy-framed"),
            // What comes in pieces cannot be one block.
            ("snappy", if path == list { "snappy" } else { "" }),
        ] {
            let (got, body, bytes) = encoded(accept);
            assert_eq!(got, name, "{path} {accept}");
            if name != "zstd" {
                assert!(body == plain.body, "{path} {accept}");
            }
            assert!(
                name.is_empty() || bytes * 2 < plain.body.len(),
                "{path} {accept}: {bytes} bytes"
            );
        }
    }
    // What fits a packet is sent as it is.
    let small = host
        .try_request("GET", "/api/v1/alerts", &[("Accept-Encoding", "gzip")], b"")
        .unwrap();
    assert_eq!(small.json()["data"], json!({"alerts": []}));
}
