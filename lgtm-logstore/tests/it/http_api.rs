//! Every call of Loki's API, as its clients make them: each row of the table in `docs/format/http.md`, with good parameters and bad ones.

#![cfg(feature = "http")]

use crate::door;

use crate::door::{Door, DoorParts, JSON, NOW_S, encoded};
use lgtm_core::model::TimestampNs;
use lgtm_logstore::http::ApiSettings;
use lgtm_logstore::limits::Limits;
use serde_json::{Value, json};

const API: &str = "/loki/api/v1";
const PUSH: &str = "/loki/api/v1/push";

fn ns(before_s: i64) -> String {
    ((NOW_S - before_s) * 1_000_000_000).to_string()
}

/// Three streams, the last of whose lines is no JSON.
async fn filled(parts: DoorParts) -> Door {
    let door = Door::with(parts).await;
    let lines = [
        (30, "level=warn msg=slow took=15ms"),
        (20, "level=info msg=\"all fine\""),
    ];
    door.push(json!({"app": "shop", "env": "prod"}), &lines)
        .await;
    let lines = [(25, "level=error msg=broken size=5KB")];
    door.push(json!({"app": "shop", "env": "dev"}), &lines)
        .await;
    let lines = [
        (28, r#"{"status":"500","user":{"id":7}}"#),
        (18, r#"{"status":"200","#),
    ];
    door.push(json!({"app": "api", "env": "prod"}), &lines)
        .await;
    door
}

/// Limits under which the streams are as they were sent.
fn plain_limits() -> Limits {
    Limits {
        discover_service_name: Vec::new(),
        discover_log_levels: false,
        ..Limits::default()
    }
}

async fn plain() -> Door {
    filled(DoorParts {
        limits: plain_limits(),
        ..DoorParts::default()
    })
    .await
}

/// The range that holds all lines.
fn range() -> Vec<(&'static str, String)> {
    vec![("start", ns(60)), ("end", ns(0))]
}

fn borrowed<'a>(params: &'a [(&'a str, String)]) -> Vec<(&'a str, &'a str)> {
    params.iter().map(|(n, v)| (*n, v.as_str())).collect()
}

/// Asks by GET and by POST; both must say the same.
async fn ask(door: &Door, path: &str, more: &[(&str, &str)]) -> door::Answer {
    let range = range();
    let mut params = borrowed(&range);
    params.extend(more);
    let path = format!("{API}{path}");
    let answer = door.get(&path, &params).await;
    let posted = door.form(&path, &params).await;
    assert_eq!(answer.status, posted.status, "{path}: {}", posted.text());
    answer
}

#[tokio::test]
async fn lists_are_answered_by_get_and_by_form() {
    let door = plain().await;
    for (path, more, wanted) in [
        ("/labels", vec![], json!(["app", "env"])),
        ("/label", vec![], json!(["app", "env"])),
        (
            "/labels",
            vec![("query", "{env=\"dev\"}")],
            json!(["app", "env"]),
        ),
        ("/label/app/values", vec![], json!(["api", "shop"])),
        (
            "/label/env/values",
            vec![("query", "{app=\"api\"}")],
            json!(["prod"]),
        ),
        ("/label/%61pp/values", vec![], json!(["api", "shop"])),
        (
            "/series",
            vec![("match[]", "{env=\"dev\"}"), ("match", "{app=\"api\"}")],
            json!([{"app": "api", "env": "prod"}, {"app": "shop", "env": "dev"}]),
        ),
        ("/series", vec![("match", "{app=\"none\"}")], json!([])),
    ] {
        let answer = ask(&door, path, &more).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let wanted = json!({"status": "success", "data": wanted});
        assert_eq!(answer.json(), wanted, "{path} {more:?}");
        let content_type = answer.header(axum::http::header::CONTENT_TYPE);
        assert_eq!(content_type, "application/json; charset=UTF-8");
    }
    for all in [vec![], vec![("match[]", "{}")]] {
        let answer = ask(&door, "/series", &all).await.json();
        assert_eq!(answer["data"].as_array().unwrap().len(), 3, "{all:?}");
    }
    // Without anything there is no key.
    let answer = ask(&door, "/label/nope/values", &[]).await;
    assert_eq!(answer.json(), json!({"status": "success"}));
    // The older forms.
    let range = range();
    let answer = door.get("/api/prom/label", &borrowed(&range)).await;
    assert_eq!(answer.json(), json!({"values": ["app", "env"]}));
    let answer = door
        .get("/api/prom/label/env/values", &borrowed(&range))
        .await;
    assert_eq!(answer.json(), json!({"values": ["dev", "prod"]}));
    let answer = door.get("/api/prom/series", &borrowed(&range)).await;
    assert_eq!(answer.json()["data"].as_array().unwrap().len(), 3);
}

/// Calls that are refused: status, call, beginning of the text.
const WRONG: &str = r##"
400 /labels?start=x -> could not parse 'start' parameter: strconv.ParseInt: parsing "x": invalid syntax
400 /labels?query=%7B%7D -> parse error : queries require at least one regexp or equality matcher
400 /label/app/values?query=%7Ba%3D~%22.*%22%7D -> parse error : queries require
400 /detected_labels?query=%7B%7D -> parse error : queries require
400 /series?match[]=%7Bbad -> parse error at line 1, col 5: syntax error
400 /series?match[]=%7B%7D&match[]=%7Ba%3D%22b%22%7D -> match {} not allowed
400 /index/stats?query=%7B%7D -> parse error : queries require
400 /index/volume?query=%7B%7D&aggregateBy=x -> invalid aggregation option
400 /index/volume_range?query=%7B%7D&step=0 -> zero or negative
400 /index/shards?query=%7Ba%3D%22b%22%7D&targetBytesPerShard=0 -> targetBytesPerShard
400 /patterns?query=%7B%7D -> parse error : queries require
400 /detected_fields?query=%7B%7D -> parse error : queries require
400 /query?query=%7Ba%3D%22b%22%7D -> log queries are not supported as an instant query type
400 /query?query=rate( -> parse error
400 /query? -> parse error : syntax error: unexpected $end
400 /query_range?query=%7Ba%3D%22b%22%7D&start=9&end=5 -> end timestamp must not be before or equal to start time
400 /query_range?query=%7Ba%3D%22b%22%7D&limit=0 -> limit must be a positive value
400 /query_range?query=%7Ba%3D%22b%22%7D&limit=1e3 -> strconv.Atoi: parsing "1e3": invalid syntax
400 /query_range?query=%7Ba%3D%22b%22%7D&direction=up -> invalid direction 'up'
400 /query_range?query=vector(1)&step=0 -> zero or negative query resolution
400 /query_range?query=vector(1)&step=NaN -> cannot parse "NaN" to a valid duration
400 /query_range?query=vector(1)&step=1.5s -> cannot parse "1.5s" to a valid duration
400 /query_range?query=vector(1)&start=0&end=1000000&step=1 -> exceeded maximum resolution of 11,000 points
400 /query_range?query=%7Ba%3D%22b%22%7D&interval=-1 -> interval must be >= 0
400 /query_range?query=%7Ba%3D%22b%22%7D&limit=5001 -> max entries limit per query exceeded, limit > max_entries_limit_per_query (5001 > 5000)
400 /tail?query=%7Ba%3D%22b%22%7D&delay_for=6 -> delay_for can't be greater than 5
400 /tail?query=%7Ba -> parse error
400 /tail?query=%7Ba%3D%22b%22%7D -> Bad Request: the client is not using the websocket protocol
404 /rules? -> no rule groups found
404 /rules/ns/group? -> group does not exist
"##;

#[tokio::test]
async fn what_is_wrong_with_a_call_is_told_as_text() {
    let door = plain().await;
    for line in WRONG.lines().filter(|l| !l.is_empty()) {
        let (call, begins) = line.split_once(" -> ").unwrap();
        let (status, call) = call.split_once(' ').unwrap();
        let request = axum::http::Request::get(format!("{API}{call}"));
        let request = request.body(axum::body::Body::empty()).unwrap();
        let answer = door.send(request).await;
        let told = (answer.status.to_string(), answer.text());
        assert!(
            told.0 == status && told.1.starts_with(begins),
            "{line}: {told:?}"
        );
        let headers = [
            axum::http::header::CONTENT_TYPE,
            axum::http::header::X_CONTENT_TYPE_OPTIONS,
        ];
        let headers = headers.map(|h| answer.header(h).to_owned());
        assert_eq!(headers, ["text/plain; charset=utf-8", "nosniff"], "{line}");
    }
    let answer = door
        .get(&format!("{API}/format_query"), &[("query", "rate(")])
        .await;
    assert_eq!(
        (answer.status, &answer.json()["status"]),
        (400, &json!("invalid-query"))
    );
}

/// Where each of the keys stands in a text.
fn order(text: &str, keys: &[&str]) -> Vec<usize> {
    let place = |key: &&str| text.find(&format!("\"{key}\":")).unwrap_or(usize::MAX);
    keys.iter().map(place).collect()
}

#[tokio::test]
async fn data_has_its_keys_in_the_order_of_a_stream_decoder() {
    let door = plain().await;
    let range = range();
    let mut params = borrowed(&range);
    params.push(("query", "{app=\"shop\"} | logfmt"));
    let flag = [("X-Loki-Response-Encoding-Flags", "categorize-labels")];
    let text = door
        .get_with(&format!("{API}/query_range"), &params, &flag)
        .await;
    let keys = [
        "status",
        "data",
        "resultType",
        "encodingFlags",
        "result",
        "stats",
    ];
    let places = order(&text.text(), &keys);
    assert!(
        places.is_sorted() && places[5] < usize::MAX,
        "{}",
        text.text()
    );
    let json = text.json();
    for stream in json["data"]["result"].as_array().unwrap() {
        for value in stream["values"].as_array().unwrap() {
            assert_eq!(value.as_array().unwrap().len(), 3);
            assert!(value[2]["parsed"]["level"].is_string());
        }
    }
    let text = door
        .get(&format!("{API}/query_range"), &params)
        .await
        .text();
    assert_eq!(order(&text, &["encodingFlags"]), [usize::MAX]);
    let places = order(
        &text,
        &[
            "resultType",
            "result",
            "stats",
            "summary",
            "querier",
            "ingester",
            "cache",
            "index",
        ],
    );
    assert!(places.is_sorted() && places[7] < usize::MAX, "{text}");
}

#[tokio::test]
async fn the_health_check_of_grafana_gets_one_sample() {
    let door = Door::new().await;
    let params = [("query", "vector(1)+vector(1)"), ("time", "4000000000")];
    let answer = door.get(&format!("{API}/query"), &params).await.json();
    assert_eq!(answer["data"]["resultType"], "vector");
    assert_eq!(
        answer["data"]["result"],
        json!([{"metric": {}, "value": [4_000_000_000u64, "2"]}])
    );
    let scalar = [("query", "1+1"), ("time", "4")];
    let answer = door.get(&format!("{API}/query"), &scalar).await.json();
    assert_eq!(answer["data"]["result"], json!([4000, "2"]));
}

#[tokio::test]
async fn times_in_rfc_3339_are_taken_by_every_call() {
    let door = plain().await;
    let rfc = |before_s: i64| {
        lgtm_core::go::format_rfc3339(TimestampNs::new((NOW_S - before_s) * 1_000_000_000))
            .replace('Z', ".000Z")
    };
    let (start, end) = (rfc(60), rfc(0));
    for (path, query) in [
        ("/labels", ""),
        ("/label/app/values", ""),
        ("/series", ""),
        ("/index/stats", "{app=\"shop\"}"),
        ("/index/volume", "{app=\"shop\"}"),
        ("/index/volume_range", "{app=\"shop\"}"),
        ("/patterns", "{app=\"shop\"}"),
        ("/detected_labels", ""),
        ("/detected_fields", "{app=\"shop\"}"),
        ("/detected_field/level/values", "{app=\"shop\"}"),
        ("/query_range", "{app=\"shop\"}"),
    ] {
        let mut params = vec![("start", start.as_str()), ("end", end.as_str())];
        if !query.is_empty() {
            params.push(("query", query));
        }
        let answer = door.get(&format!("{API}{path}"), &params).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert!(answer.body.len() > 24, "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn steps_of_all_clients_are_understood() {
    let door = plain().await;
    for (step, points) in [("250ms", 241), ("10.000000", 7), ("30s", 3), ("30", 3)] {
        let query = "sum(count_over_time({app=~\".+\"}[10m]))";
        let answer = ask(&door, "/query_range", &[("query", query), ("step", step)]).await;
        let json = answer.json();
        assert_eq!(answer.status, 200, "{json}");
        let got = json["data"]["result"][0]["values"]
            .as_array()
            .map_or(0, Vec::len);
        // Those before the first line have none.
        assert!(got > 0 && got <= points, "{step}: {got}");
    }
}

#[tokio::test]
async fn too_many_series_are_cut_for_logs_drilldown_alone() {
    let door = Door::of(Limits {
        max_query_series: 3,
        ..plain_limits()
    })
    .await;
    for n in 0..5 {
        door.push(json!({"app": n.to_string()}), &[(10, "a line")])
            .await;
    }
    let end = ns(0);
    let params = [
        ("query", "count_over_time({app=~\".+\"}[1h])"),
        ("time", end.as_str()),
    ];
    let path = format!("{API}/query");
    let tag = [("X-Query-Tags", "Source=grafana-lokiexplore-app")];
    let answer = door.get_with(&path, &params, &tag).await.json();
    assert_eq!(answer["data"]["result"].as_array().unwrap().len(), 3);
    assert_eq!(
        answer["warnings"],
        json!([
            "maximum number of series (3) reached for a single query; returning partial results"
        ])
    );
    let refused = door.get(&path, &params).await;
    assert_eq!(refused.status, 400);
    let begin = "maximum number of series (3) reached for a single query; consider reducing";
    assert!(refused.text().starts_with(begin), "{}", refused.text());
    let uncached = [("Cache-Control", "no-cache")];
    assert_eq!(door.get_with(&path, &params, &uncached).await.status, 400);
}

#[tokio::test]
async fn limits_of_a_request_hold_where_they_are_on() {
    let header = [("X-Loki-Query-Limits", r#"{"maxQueryLength":"10s"}"#)];
    for (enabled, status) in [(true, 400), (false, 200)] {
        let settings = ApiSettings {
            per_request_limits_enabled: enabled,
            ..ApiSettings::default()
        };
        let door = filled(DoorParts {
            settings,
            ..DoorParts::default()
        })
        .await;
        let range = range();
        let mut params = borrowed(&range);
        params.push(("query", "{app=\"shop\"}"));
        let path = format!("{API}/query_range");
        let answer = door.get_with(&path, &params, &header).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
}

#[tokio::test]
async fn who_accepts_other_forms_gets_json_and_is_told_so() {
    let door = plain().await;
    let range = range();
    let mut params = borrowed(&range);
    params.push(("query", "{app=\"shop\"}"));
    for path in ["query_range", "labels", "series", "index/volume"] {
        let path = format!("{API}/{path}");
        let plain = door.get(&path, &params).await;
        assert_eq!(plain.status, 200, "{path}: {}", plain.text());
        for form in [
            "application/vnd.apache.parquet",
            "application/vnd.google.protobuf",
        ] {
            let answer = door.get_with(&path, &params, &[("Accept", form)]).await;
            assert_eq!(answer.status, 200, "{path} {form}");
            let content_type = answer.header(axum::http::header::CONTENT_TYPE);
            assert_eq!(content_type, "application/json; charset=UTF-8");
            assert_eq!(
                answer.json()["data"]["result"],
                plain.json()["data"]["result"]
            );
        }
    }
}

#[tokio::test]
async fn a_part_of_a_query_counts_as_the_whole() {
    let settings = ApiSettings {
        per_request_limits_enabled: true,
        ..ApiSettings::default()
    };
    let limits = Limits {
        max_query_bytes_read: lgtm_core::units::ByteSize::bytes(40),
        ..plain_limits()
    };
    let door = filled(DoorParts {
        settings,
        limits,
        ..DoorParts::default()
    })
    .await;
    let path = format!("{API}/query_range");
    let (start, end) = (ns(31), ns(29));
    let selector = "{app=\"shop\",env=\"prod\"}";
    let part = [("query", selector), ("start", &start), ("end", &end)];
    let context = |from: &str, to: &str| {
        let text = json!({"expr": selector, "from": from, "to": to}).to_string();
        [("X-Loki-Query-Limits-Context", text)]
    };
    let small = context(&start, &end);
    let whole = context(&ns(60), &ns(0));
    for (header, status) in [(&small, 200), (&whole, 400)] {
        let header = [(header[0].0, header[0].1.as_str())];
        let answer = door.get_with(&path, &part, &header).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        if status == 400 {
            assert!(answer.text().contains("would read too many bytes"));
        }
    }
}

#[tokio::test]
async fn an_absent_label_is_an_empty_one() {
    let door = plain().await;
    let sharded = "{app=\"shop\",__stream_shard__=\"\"}";
    let answer = ask(&door, "/query_range", &[("query", sharded)])
        .await
        .json();
    assert_eq!(answer["data"]["result"].as_array().unwrap().len(), 2);
    let answer = ask(
        &door,
        "/label/__stream_shard__/values",
        &[("query", "{app=\"shop\"}")],
    )
    .await;
    assert_eq!(answer.json(), json!({"status": "success"}));
}

#[tokio::test]
async fn paging_brings_every_entry_of_one_time() {
    let door = Door::of(plain_limits()).await;
    let lines: Vec<String> = (0..1500).map(|n| format!("line {n:04}")).collect();
    let entries: Vec<(i64, &str)> = lines.iter().map(|l| (10, l.as_str())).collect();
    door.push(json!({"app": "a"}), &entries[..800]).await;
    door.push(json!({"app": "b"}), &entries[800..]).await;
    for direction in ["FORWARD", "BACKWARD"] {
        let params = [
            ("query", "{app=~\"a|b\"}"),
            ("limit", "2000"),
            ("direction", direction),
        ];
        let [first, again] = [
            ask(&door, "/query_range", &params).await,
            ask(&door, "/query_range", &params).await,
        ];
        let (first, again) = (first.json(), again.json());
        assert_eq!(first["data"]["result"], again["data"]["result"], "stable");
        let streams = first["data"]["result"].as_array().unwrap();
        let count = |s: &Value| s["values"].as_array().unwrap().len();
        assert_eq!(streams.iter().map(count).sum::<usize>(), 1500);
    }
}

#[tokio::test]
async fn the_volume_histogram_of_grafana_counts_lines_that_are_no_json() {
    let door = filled(DoorParts::default()).await;
    let query = "sum by (level, detected_level) (count_over_time({app=\"api\"} | json | drop __error__ [1m]))";
    let answer = ask(&door, "/query_range", &[("query", query), ("step", "60s")]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let json = answer.json();
    let series = json["data"]["result"].as_array().unwrap();
    let of = |s: &Value| {
        s["values"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v[1].as_str().unwrap().parse::<u32>().unwrap())
            .sum::<u32>()
    };
    assert_eq!(series.iter().map(of).sum::<u32>(), 2, "{json}");
}

#[tokio::test]
async fn volumes_and_statistics_are_answered() {
    let door = plain().await;
    let shop = ("query", "{app=\"shop\"}");
    let stats = ask(&door, "/index/stats", &[shop]).await.json();
    assert_eq!(
        (&stats["streams"], &stats["entries"]),
        (&json!(2), &json!(3))
    );
    let volume = ask(&door, "/index/volume", &[shop]).await.json();
    assert_eq!(volume["data"]["resultType"], "vector");
    assert_eq!(
        volume["data"]["result"][0]["metric"],
        json!({"app": "shop"})
    );
    assert!(volume["data"]["stats"]["summary"].is_object());
    let by = [("query", "{}"), ("targetLabels", "env"), ("limit", "1")];
    let volume = ask(&door, "/index/volume", &by).await.json();
    assert_eq!(volume["data"]["result"].as_array().unwrap().len(), 1);
    let by = [("query", "{}"), ("aggregateBy", "labels")];
    let volume = ask(&door, "/index/volume", &by).await.json();
    let names: Vec<&Value> = volume["data"]["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["metric"])
        .collect();
    assert_eq!(names, [&json!({"app": ""}), &json!({"env": ""})]);
    let range = ask(&door, "/index/volume_range", &[shop, ("step", "5")])
        .await
        .json();
    assert_eq!(range["data"]["resultType"], "matrix", "{range}");
    let shards = ask(
        &door,
        "/index/shards",
        &[shop, ("targetBytesPerShard", "1")],
    )
    .await
    .json();
    assert_eq!(shards["shards"].as_array().unwrap().len(), 2, "{shards}");
    assert_eq!(shards["shards"][0]["bounds"]["min"], "0000000000000000");
    let off = Door::of(Limits {
        volume_enabled: false,
        ..Limits::default()
    })
    .await;
    let answer = ask(&off, "/index/volume", &[shop]).await;
    assert_eq!((answer.status, answer.text()), (404, "not found".into()));
}

#[tokio::test]
async fn labels_and_fields_are_detected() {
    let door = plain().await;
    let labels = ask(&door, "/detected_labels", &[]).await.json();
    let names: Vec<&str> = labels["detectedLabels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["label"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"app") && names.contains(&"env"), "{labels}");
    let fields = ask(
        &door,
        "/detected_fields",
        &[("query", "{app=\"shop\"}"), ("limit", "50")],
    )
    .await
    .json();
    assert_eq!(fields["limit"], 50);
    let of = |name: &str| {
        fields["fields"]
            .as_array()
            .unwrap()
            .iter()
            .find(|f| f["label"] == name)
            .unwrap()
    };
    assert_eq!(
        (&of("took")["type"], &of("took")["parsers"]),
        (&json!("duration"), &json!(["logfmt"]))
    );
    assert_eq!(of("size")["type"], "bytes");
    let json_fields = ask(&door, "/detected_fields", &[("query", "{app=\"api\"}")])
        .await
        .json();
    let user = json_fields["fields"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["label"] == "user_id")
        .unwrap();
    assert_eq!(user["jsonPath"], json!(["user", "id"]));
    let values = ask(
        &door,
        "/detected_field/level/values",
        &[("query", "{app=\"shop\"}")],
    )
    .await
    .json();
    assert_eq!(
        values,
        json!({"values": ["error", "info", "warn"], "limit": 1000})
    );
    let none = ask(&door, "/detected_fields", &[("query", "{app=\"none\"}")])
        .await
        .json();
    assert_eq!(none, json!({"limit": 1000}));
}

#[tokio::test]
async fn patterns_of_recent_lines_are_answered() {
    let door = plain().await;
    let lines: Vec<String> = (0..100)
        .map(|n| format!("request {n} took 5 ms and was fine"))
        .collect();
    let entries: Vec<(i64, &str)> = lines.iter().map(|l| (5, l.as_str())).collect();
    door.push(json!({"app": "busy"}), &entries).await;
    let answer = ask(
        &door,
        "/patterns",
        &[("query", "{app=\"busy\"}"), ("step", "30s")],
    )
    .await
    .json();
    let first = &answer["data"][0];
    assert_eq!(
        first["pattern"], "request <_> took 5 ms and was fine",
        "{answer}"
    );
    assert!(first["level"].is_string());
    // An estimate: of busy streams not every line is looked at.
    let lines = first["samples"][0][1].as_u64().unwrap();
    assert!((50..=150).contains(&lines), "{answer}");
    let metric = ask(&door, "/patterns", &[("query", "rate({app=\"busy\"}[1m])")])
        .await
        .json();
    assert_eq!(metric, json!({"status": "success", "data": []}));
}

#[tokio::test]
async fn what_clients_switch_features_on_by_is_answered() {
    let door = Door::new().await;
    let build = door.get(&format!("{API}/status/buildinfo"), &[]).await;
    for key in [
        "version",
        "revision",
        "branch",
        "buildUser",
        "buildDate",
        "goVersion",
    ] {
        assert!(build.json()[key].is_string(), "{key}");
    }
    let answer = door.get(&format!("{API}/drilldown-limits"), &[]).await;
    assert_eq!(
        answer.header(axum::http::header::CONTENT_TYPE),
        "application/json"
    );
    let limits = answer.json();
    for (name, value) in [
        ("max_query_length", json!("30d1h")),
        ("max_query_lookback", json!("0s")),
        ("max_query_bytes_read", json!("0B")),
        ("max_query_series", json!(500)),
        ("volume_enabled", json!(true)),
        ("retention_period", json!("0s")),
        ("retention_stream", json!([])),
    ] {
        assert_eq!(limits["limits"][name], value, "{name}");
    }
    assert_eq!(limits["pattern_ingester_enabled"], true);
    let yaml = door.get("/config/tenant/v1/limits", &[]).await.text();
    assert!(yaml.contains("\nmax_query_series: 500\n"), "{yaml}");
    let query = [("query", "{app=\"gateway\"}|=\"x\"|json|a>5")];
    let answer = door
        .get(&format!("{API}/format_query"), &query)
        .await
        .json();
    assert_eq!(answer["data"], "{app=\"gateway\"} |= \"x\" | json | a>5");
}

#[tokio::test]
async fn lines_come_back_in_the_older_form() {
    let door = plain().await;
    let range = range();
    let mut params = borrowed(&range);
    params.extend([("query", "{app=\"shop\"}"), ("regexp", "bro.en")]);
    let answer = door.get("/api/prom/query", &params).await.json();
    let t = lgtm_core::go::format_rfc3339(TimestampNs::new((NOW_S - 25) * 1_000_000_000));
    assert_eq!(
        answer["streams"],
        json!([{"labels": "{app=\"shop\", env=\"dev\"}", "entries": [{"ts": t, "line": "level=error msg=broken size=5KB"}]}])
    );
    let metric = [("query", "rate({app=\"shop\"}[1m])")];
    let refused = door.get("/api/prom/query", &metric).await;
    let told = (refused.status, refused.text());
    assert_eq!(
        told,
        (
            400,
            "legacy endpoints only support streams result type".into()
        )
    );
}

#[tokio::test]
async fn tenants_are_told_apart_and_none_is_401() {
    let door = filled(DoorParts::default()).await;
    let settings = ApiSettings {
        multitenancy_enabled: true,
        ..ApiSettings::default()
    };
    let queries = door.store.query_api(settings.clone()).unwrap().router();
    let pushes = door.store.push_api(settings).router();
    let mut strict = door;
    strict.router = queries.merge(pushes);
    for path in [
        "/labels",
        "/query?query=1",
        "/drilldown-limits",
        "/tail",
        "/rules",
        "/index/stats",
    ] {
        let request = axum::http::Request::get(format!("{API}{path}"));
        let answer = strict
            .send(request.body(axum::body::Body::empty()).unwrap())
            .await;
        assert_eq!(
            (answer.status, answer.text()),
            (401, "no org id\n".into()),
            "{path}"
        );
    }
    let json = [("Content-Type", JSON)];
    let answer = strict.post(PUSH, &json, "{}").await;
    assert_eq!((answer.status, answer.text()), (401, "no org id\n".into()));
    let two = [("Content-Type", JSON), ("X-Scope-OrgID", "a|b")];
    let answer = strict.post(PUSH, &two, "{}").await;
    assert_eq!(
        (answer.status, answer.text()),
        (400, "multiple org IDs present\n".into())
    );
    let other = [("X-Scope-OrgID", "other")];
    let answer = strict.get_with(&format!("{API}/labels"), &[], &other).await;
    assert_eq!(answer.json(), json!({"status": "success"}));
}

#[tokio::test]
async fn long_urls_and_forms_are_read_whole() {
    let door = plain().await;
    let labels: Vec<String> = (0..2000).map(|n| format!("value-{n}")).collect();
    let query = format!("{{app=~\"shop|{}\"}}", labels.join("|"));
    let params = [
        ("query", query.as_str()),
        ("start", &ns(60)),
        ("end", &ns(0)),
    ];
    assert!(encoded(&params).len() > 20_000);
    let answer = door.get(&format!("{API}/query_range"), &params).await;
    assert_eq!(answer.json()["data"]["result"].as_array().unwrap().len(), 2);
    let answer = door.form(&format!("{API}/query_range"), &params).await;
    assert_eq!(answer.json()["data"]["result"].as_array().unwrap().len(), 2);
    let huge = "x".repeat(3 << 20);
    let answer = door
        .form(&format!("{API}/query_range"), &[("query", &huge)])
        .await;
    assert_eq!(answer.status, 413);
}
