//! The query API: a test for each row of Tempo's tables, on live traces and on blocks.

#![cfg(feature = "http")]

use std::time::Duration;

use crate::door::{Door, DoorParts, ID, NOW_S, Sent, otlp, shop};
use lgtm_core::units::ByteSize;
use lgtm_tracestore::http::{ApiSettings, QueryRules};
use lgtm_tracestore::limits::Limits;
use serde_json::{Value, json};

/// A door with one trace, which is live or in a block.
async fn doors() -> [Door; 2] {
    let (live, stored) = (Door::new().await, Door::new().await);
    live.push(&shop()).await;
    stored.push(&shop()).await;
    stored.store.flush().await.unwrap();
    [live, stored]
}

fn names(list: &Value, key: &str) -> Vec<String> {
    let list = list.as_array().unwrap().iter();
    list.map(|item| item[key].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test]
async fn echo_and_buildinfo_need_no_tenant_and_answer_under_the_prefix_too() {
    let settings = ApiSettings {
        multitenancy_enabled: true,
        ..ApiSettings::default()
    };
    let door = Door::with(DoorParts {
        settings,
        ..DoorParts::default()
    })
    .await;
    for prefix in ["", "/tempo"] {
        let echo = door.get(&format!("{prefix}/api/echo"), &[]).await;
        assert_eq!((echo.status, echo.text().as_str()), (200, "echo\n"));
        let info = door
            .get(&format!("{prefix}/api/status/buildinfo"), &[])
            .await
            .json();
        let version = info["version"].as_str().unwrap();
        let numbers: Vec<u32> = version.split('.').map(|n| n.parse().unwrap()).collect();
        assert!(
            numbers >= vec![2, 7, 0],
            "streaming is offered from 2.7.0 on"
        );
        let keys = ["branch", "buildDate", "buildUser", "goVersion", "revision"];
        assert!(keys.iter().all(|key| info.get(key).is_some()), "{info}");
        let search = door.get(&format!("{prefix}/api/search"), &[]).await;
        assert_eq!((search.status, search.text().as_str()), (401, "no org id"));
    }
    for path in ["/api/mcp", "/api/overrides"] {
        assert_eq!(door.get(path, &[]).await.status, 404, "{path}");
    }
    assert_eq!(door.get("/api/v2/traces/diff", &[]).await.status, 405);
}

#[tokio::test]
async fn a_trace_is_found_by_its_id_in_every_form() {
    for door in doors().await {
        for id in [ID, "ab", "AB", "0ab"] {
            let v1 = door.get(&format!("/api/traces/{id}"), &[]).await;
            let json = v1.json();
            assert_eq!(v1.status, 200);
            assert_eq!(json.as_object().unwrap().len(), 1, "batches alone: {json}");
            assert_eq!(json["batches"].as_array().unwrap().len(), 2);
            let v2 = door
                .get(&format!("/tempo/api/v2/traces/{id}"), &[])
                .await
                .json();
            let resources = v2["trace"]["resourceSpans"].as_array().unwrap();
            let spans = &resources[0]["scopeSpans"][0]["spans"];
            assert_eq!(spans[0]["traceId"], "AAAAAAAAAAAAAAAAAAAAqw==");
            assert!(
                v2["metrics"].is_object() && v2.get("status").is_none(),
                "{v2}"
            );
        }
        let protobuf = "application/protobuf";
        let v1 = door
            .get_as(&format!("/api/traces/{ID}"), &[], protobuf)
            .await;
        assert_eq!(v1.header("content-type"), protobuf);
        let v2 = door
            .get_as(&format!("/api/v2/traces/{ID}"), &[], protobuf)
            .await;
        // The trace is field 1 of the one and the whole of the other.
        assert_eq!((v1.body[0], v2.body[0]), (0x0a, 0x0a));
        assert!(v2.body.windows(v1.body.len()).any(|w| w == v1.body));
        let llm = "application/vnd.grafana.llm";
        let v2 = door.get_as(&format!("/api/v2/traces/{ID}"), &[], llm).await;
        assert_eq!(
            v2.header("content-type"),
            "application/vnd.grafana.llm+json"
        );
        let json = v2.json();
        assert_eq!(
            (&json["trace"]["traceId"], &json["status"]),
            (&json!(ID), &json!("COMPLETE"))
        );
        // The older call has no such form.
        let v1 = door.get_as(&format!("/api/traces/{ID}"), &[], llm).await;
        assert!(v1.json()["batches"].is_array());
    }
}

#[tokio::test]
async fn a_trace_that_is_missing_is_told_as_clients_expect_it() {
    let door = Door::new().await;
    for id in ["1", "0", "00000000000000000000000000000000"] {
        let v1 = door.get(&format!("/api/traces/{id}"), &[]).await;
        assert_eq!((v1.status, v1.text().as_str()), (404, ""));
        let v2 = door.get(&format!("/api/v2/traces/{id}"), &[]).await;
        assert_eq!(
            (v2.status, v2.text().as_str()),
            (200, r#"{"trace":{},"metrics":{}}"#)
        );
        let v2 = door
            .get_as(&format!("/api/v2/traces/{id}"), &[], "application/protobuf")
            .await;
        assert_eq!((v2.status, &v2.body[..]), (200, &[0x0a, 0, 0x12, 0][..]));
        let path = format!("/api/v2/traces/{id}");
        let v2 = door.get_as(&path, &[], "application/vnd.grafana.llm").await;
        assert_eq!(v2.json()["trace"], json!({}));
    }
    for (path, params, why) in [
        (
            "/api/traces/xyz",
            &[][..],
            "trace IDs can only contain hex characters: invalid character 'x' at position 1",
        ),
        (
            "/api/v2/traces/0g",
            &[],
            "trace IDs can only contain hex characters: invalid character 'g' at position 2",
        ),
        (
            "/api/traces/111111111111111111111111111111111",
            &[],
            "trace IDs can't be larger than 128 bits",
        ),
        (
            "/api/traces/1",
            &[("start", "9"), ("end", "9")],
            "http parameter start must be before end. received start=9 end=9",
        ),
        (
            "/api/traces/1",
            &[("mode", "some")],
            "invalid value for mode some",
        ),
        (
            "/api/v2/traces/1",
            &[("q", "{ } > { }")],
            "invalid TraceQL filter: ",
        ),
        (
            "/api/v2/traces/1",
            &[("q", "{ trace:id = \"a\" }")],
            "invalid TraceQL filter: ",
        ),
        (
            "/api/v2/traces/1",
            &[("q", "{ }"), ("match_depth", "-2")],
            "invalid match_depth",
        ),
        (
            "/api/v2/traces/1",
            &[("q", "{ }"), ("keep_hierarchy", "maybe")],
            "invalid value for keep_hierarchy",
        ),
    ] {
        let answer = door.get(path, params).await;
        assert_eq!(answer.status, 400, "{path} {params:?}");
        assert!(answer.text().starts_with(why), "{}", answer.text());
    }
    let ignored = [("match_depth", "-9"), ("mode", "blocks"), ("start", "5")];
    assert_eq!(door.get("/api/v2/traces/1", &ignored).await.status, 200);
}

#[tokio::test]
async fn a_range_chooses_blocks_and_does_not_cut_the_trace() {
    let [_, stored] = doors().await;
    let at = |s: u64| s.to_string();
    let (near, before) = (at(NOW_S - 100), at(NOW_S - 3600));
    let now = at(NOW_S);
    let inside = stored
        .get(
            &format!("/api/traces/{ID}"),
            &[("start", &near), ("end", &now)],
        )
        .await;
    assert_eq!(inside.json()["batches"].as_array().unwrap().len(), 2);
    let outside = [("start", before.as_str()), ("end", near.as_str())];
    assert_eq!(
        stored
            .get(&format!("/api/traces/{ID}"), &outside)
            .await
            .status,
        404
    );
    assert_eq!(
        stored
            .get(&format!("/api/traces/{ID}"), &[("start", &near)])
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_trace_that_is_too_large_is_a_part_or_422() {
    let mut limits = Limits::default();
    limits.global.max_bytes_per_trace = ByteSize::bytes(600);
    let door = Door::with(DoorParts {
        limits,
        ..DoorParts::default()
    })
    .await;
    // Two pushes of a trace, of which each fits by itself; the second is beyond what is kept, unless it lies in a block.
    for n in 0..2 {
        let span = Sent {
            span: ["00000000000000a1", "00000000000000a2"][n],
            attributes: vec![("text", json!({"stringValue": "x".repeat(400)}))],
            ..Sent::root("shop", ID, "large")
        };
        door.push(&otlp(&[span])).await;
        door.store.flush().await.unwrap();
    }
    let v1 = door.get(&format!("/api/traces/{ID}"), &[]).await;
    assert_eq!(v1.status, 422, "{}", v1.text());
    assert_eq!(v1.text(), "trace exceeds max size (max bytes: 600)");
    let v2 = door.get(&format!("/api/v2/traces/{ID}"), &[]).await.json();
    assert_eq!(v2["status"], "PARTIAL");
    let message = "Trace exceeds maximum size of 600 bytes, a partial trace is returned";
    assert_eq!(v2["message"], message);
    assert!(v2["trace"]["resourceSpans"].is_array());
}

#[tokio::test]
async fn a_filter_leaves_spans_and_those_near_them() {
    for door in doors().await {
        let spans = async |params: &[(&str, &str)]| {
            let json = door
                .get(&format!("/api/v2/traces/{ID}"), params)
                .await
                .json();
            let message = json["message"].as_str().unwrap_or_default().to_owned();
            let mut found = Vec::new();
            for resource in json["trace"]["resourceSpans"]
                .as_array()
                .into_iter()
                .flatten()
            {
                found.extend(names(&resource["scopeSpans"][0]["spans"], "name"));
            }
            found.sort();
            (found.join(","), json["status"] == "PARTIAL", message)
        };
        let filtered = "Trace filtered, only a subset of spans matching the filter is returned";
        let q = ("q", "{ name = \"look up\" }");
        assert_eq!(spans(&[q]).await, ("look up".into(), true, filtered.into()));
        let all = ("GET /cart,look up".into(), false, String::new());
        assert_eq!(spans(&[q, ("keep_hierarchy", "true")]).await, all);
        assert_eq!(spans(&[("q", " ")]).await, all);
        assert_eq!(
            spans(&[("q", "{ name = \"GET /cart\" }"), ("match_depth", "1")]).await,
            all
        );
        assert_eq!(spans(&[q, ("ancestor_depth", "5")]).await.0, "look up");
        assert_eq!(spans(&[("q", "{ name = \"no\" }")]).await.0, "");
    }
}

#[tokio::test]
async fn searches_find_traces_by_traceql_and_by_tags() {
    for door in doors().await {
        let found = door
            .get("/api/search", &[("q", "{ span.db.rows > 5 }")])
            .await
            .json();
        let keys: Vec<&String> = found.as_object().unwrap().keys().collect();
        assert_eq!(
            keys,
            ["metrics", "traces"],
            "no field that strict clients do not know"
        );
        let trace = &found["traces"][0];
        assert_eq!(trace["traceID"], "ab");
        assert_eq!(trace["rootServiceName"], "shop");
        assert_eq!(trace["rootTraceName"], "GET /cart");
        assert_eq!(trace["durationMs"], 10_000);
        let set = &trace["spanSets"][0];
        assert_eq!((&trace["spanSet"], &set["matched"]), (set, &json!(1)));
        let span = &set["spans"][0];
        assert_eq!(span["spanID"], "00000000000000a2");
        assert_eq!(span["durationNanos"], "3000000000");
        assert_eq!(
            span["attributes"],
            json!([{"key": "db.rows", "value": {"intValue": "7"}}])
        );
        assert_eq!(trace["serviceStats"]["stock"], json!({"spanCount": 1}));
        for tags in [
            "service.name=sho",
            "name=\"GET /\"",
            "http.status_code=200",
            "",
            "root.name=cart",
        ] {
            let found = door.get("/api/search", &[("tags", tags)]).await.json();
            assert_eq!(found["traces"][0]["traceID"], "ab", "{tags}");
            assert!(found["traces"][0].get("spanSets").is_none(), "{tags}");
        }
        for (params, count) in [
            (&[("tags", "http.status_code=404")][..], 0),
            (&[("minDuration", "10s"), ("maxDuration", "10s")], 1),
            (&[("minDuration", "10001ms")], 0),
            (&[("minDuration", "1us")], 1),
            (&[("q", "{ }"), ("minDuration", "1h")], 1),
            (&[("q", "{ }"), ("since", "30s")], 0),
            (&[("q", "{ }"), ("since", "1h")], 1),
            (&[("foo", "bar")], 1),
            (&[("query", "{ name = \"no\" }")], 1),
            (&[("q", "{ name = \"no\" }")], 0),
            (&[("q", "{ } | rate()")], 1),
        ] {
            let found = door.get("/api/search", params).await.json();
            assert_eq!(
                found["traces"].as_array().unwrap().len(),
                count,
                "{params:?}"
            );
        }
        let raw = door
            .get_as("/api/search", &[("q", "{}")], "application/protobuf")
            .await;
        assert_eq!(raw.header("content-type"), "application/protobuf");
        assert!(raw.body.starts_with(&[0x0a]) && raw.body.windows(2).any(|w| w == b"ab"));
        let llm = door
            .get_as("/api/search", &[("q", "{}")], "application/vnd.grafana.llm")
            .await;
        assert_eq!(llm.header("content-type"), "application/json");
    }
}

#[tokio::test]
async fn searches_that_cannot_be_are_refused_in_tempos_words() {
    let door = Door::new().await;
    let long = format!("{{ name = \"{}\" }}", "x".repeat(128 << 10));
    for (params, why) in [
        (
            &[("limit", "0")][..],
            "invalid limit: must be a positive number",
        ),
        (
            &[("limit", "262145")],
            "limit 262145 exceeds max limit 262144",
        ),
        (
            &[("limit", "x")],
            "invalid limit: strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        (
            &[("q", "{}"), ("spss", "101")],
            "spans per span set exceeds 100. received 101",
        ),
        (
            &[("q", "{}"), ("tags", "a=b")],
            "invalid request: can't specify tags and q in the same query",
        ),
        (
            &[("minDuration", "2s"), ("maxDuration", "1s")],
            "invalid maxDuration: must be greater than minDuration",
        ),
        (
            &[("minDuration", "2x")],
            "invalid minDuration: time: invalid duration \"2x\"",
        ),
        (&[("tags", "a=b a=c")], "invalid tags: "),
        (
            &[("q", "{ name = }")],
            "invalid TraceQL query: parse error at line 1, col ",
        ),
        (
            &[("q", "{ name > 5 }")],
            "invalid TraceQL query: binary operations must operate on the same type",
        ),
        (&[("query", "{ name = }")], "invalid TraceQL query: "),
        (
            &[("q", &long)],
            "TraceQL expression exceeds the configured maximum size of 131072 bytes, ",
        ),
        (
            &[("q", "{}"), ("start", "7")],
            "http parameter start must be before end. received start=7 end=0",
        ),
        (
            &[("q", "{}"), ("end", "7")],
            "error parsing date range: only one of start and end provided",
        ),
        (
            &[("q", "{}"), ("start", "x"), ("end", "7")],
            "invalid start: strconv.ParseUint: parsing \"x\"",
        ),
    ] {
        let answer = door.get("/api/search", params).await;
        assert_eq!(answer.status, 400, "{params:?}");
        assert!(
            answer.text().starts_with(why),
            "{params:?}: {}",
            answer.text()
        );
        assert!(answer.header("content-type").starts_with("text/plain"));
    }
    // What tempo-cli always sends, and what nobody knows.
    let params = [("q", "{}"), ("spss", "0"), ("limit", ""), ("x", "y")];
    assert_eq!(door.get("/api/search", &params).await.status, 200);
}

#[tokio::test]
async fn names_of_attributes_come_by_scope() {
    for door in doors().await {
        let v1 = door.get("/api/search/tags", &[]).await.json();
        assert_eq!(
            v1["tagNames"],
            json!(["a b/c", "db.rows", "http.status_code", "service.name"])
        );
        let v2 = door.get("/api/v2/search/tags", &[]).await.json();
        let scopes = v2["scopes"].as_array().unwrap();
        let of = |name: &str| {
            let scope = scopes.iter().find(|s| s["name"] == name);
            scope.map_or(0, |s| s["tags"].as_array().unwrap().len())
        };
        assert_eq!((of("resource"), of("span"), of("intrinsic")), (1, 3, 25));
        let only = async |scope: &str| {
            let json = door
                .get("/api/v2/search/tags", &[("scope", scope)])
                .await
                .json();
            names(&json["scopes"], "name").join(",")
        };
        assert_eq!(only("span").await, "span");
        assert_eq!(only("intrinsic").await, "intrinsic");
        assert_eq!(only("event").await, "");
        let intrinsics = door
            .get("/api/search/tags", &[("scope", "intrinsic")])
            .await
            .json();
        assert_eq!(intrinsics["tagNames"].as_array().unwrap().len(), 25);
        let q = [
            ("q", "{ resource.service.name = \"stock\" }"),
            ("scope", "span"),
        ];
        let filtered = door.get("/api/v2/search/tags", &q).await.json();
        assert_eq!(
            filtered["scopes"],
            json!([{"name": "span", "tags": ["db.rows"]}])
        );
        let limited = door
            .get("/api/v2/search/tags", &[("scope", "span"), ("limit", "2")])
            .await;
        assert_eq!(
            limited.json()["scopes"][0]["tags"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
        for params in [
            &[("limit", "x")][..],
            &[("maxStaleValues", "5"), ("limit", "5000")],
        ] {
            assert_eq!(door.get("/api/search/tags", params).await.status, 200);
        }
        // A range that ends before it begins has intrinsics alone.
        let empty = [("start", "9"), ("end", "9")];
        let none = door.get("/api/v2/search/tags", &empty).await.json();
        assert_eq!(names(&none["scopes"], "name"), ["intrinsic"]);
        let bad = door.get("/api/search/tags", &[("scope", "x")]).await;
        assert_eq!((bad.status, bad.text().as_str()), (400, "invalid scope: x"));
    }
}

#[tokio::test]
async fn values_come_typed_and_the_tag_is_unescaped() {
    for door in doors().await {
        let values = async |path: &str| {
            let answer = door.ask("GET", path, &[], "").await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            answer.json()["tagValues"].to_string()
        };
        assert_eq!(
            values("/api/search/tag/service.name/values").await,
            r#"["shop","stock"]"#
        );
        assert_eq!(
            values("/api/search/tag/http.status_code/values").await,
            r#"["200"]"#
        );
        for path in [
            "/api/v2/search/tag/span.%22a%20b%2Fc%22/values?limit=5000&tag=x",
            "/api/v2/search/tag/span.%22a%20b/c%22/values",
            "/api/v2/search/tag/span.%2522a%2520b%252Fc%2522/values",
            "/tempo/api/v2/search/tag/.%22a%20b%2Fc%22/values",
        ] {
            assert_eq!(
                values(path).await,
                r#"[{"type":"string","value":"x"}]"#,
                "{path}"
            );
        }
        let int = r#"[{"type":"int","value":"200"}]"#;
        assert_eq!(
            values("/api/v2/search/tag/span.http.status_code/values").await,
            int
        );
        let kind = values("/api/v2/search/tag/kind/values").await;
        assert_eq!(kind, r#"[{"type":"int","value":"2"}]"#);
        let kind = values("/api/v2/search/tag/kind/values?q=%7B%20.db.rows%20=%207%20%7D").await;
        assert_eq!(kind, r#"[{"type":"keyword","value":"server"}]"#);
        let q = "/api/v2/search/tag/resource.service.name/values?q=%7B%20name%20=%20%22look%20up%22%20%7D";
        assert_eq!(values(q).await, r#"[{"type":"string","value":"stock"}]"#);
        assert_eq!(values("/api/v2/search/tag/span.none/values").await, "[]");
        let llm = door
            .get_as(
                "/api/v2/search/tag/span.db.rows/values",
                &[],
                "application/vnd.grafana.llm",
            )
            .await;
        assert_eq!(llm.text(), r#"{"tagValues":{"int":["7"]}}"#);
        for path in [
            "/api/v2/search/tag/a%20b/values",
            "/api/v2/search/tag/%22/values",
        ] {
            let bad = door.ask("GET", path, &[], "").await;
            assert_eq!(bad.status, 400, "{path}");
            assert!(
                bad.text().starts_with("please provide a valid tagName: "),
                "{}",
                bad.text()
            );
        }
        let bad = door
            .get("/api/search/tag/x/values", &[("limit", "x")])
            .await;
        assert_eq!(bad.status, 400);
        assert_eq!(door.get("/api/v2/search/tag/x", &[]).await.status, 404);
    }
}

#[tokio::test]
async fn metrics_are_counted_over_a_range_and_at_once() {
    for door in doors().await {
        let q = ("q", "{ } | count_over_time() by (resource.service.name)");
        let range = door
            .get(
                "/api/metrics/query_range",
                &[q, ("step", "60s"), ("since", "10m")],
            )
            .await;
        let range = range.json();
        let series = range["series"].as_array().unwrap();
        assert_eq!(series.len(), 2, "{range}");
        let label = json!([{"key": "resource.service.name", "value": {"stringValue": "shop"}}]);
        assert_eq!(series[0]["labels"], label);
        let sum: f64 = (series[0]["samples"].as_array().unwrap().iter())
            .map(|s| s["value"].as_f64().unwrap_or(0.0))
            .sum();
        assert_eq!(sum, 1.0);
        assert!(series[0]["samples"][0]["timestampMs"].is_string());
        assert_eq!(
            series[0]["exemplars"].as_array().unwrap().len(),
            1,
            "100 by default"
        );
        let none = ("q", "{ } | count_over_time() with(exemplars=false)");
        let none = door.get("/api/metrics/query_range", &[none]).await.json();
        assert!(none["series"][0].get("exemplars").is_none());
        let instant = door
            .get("/api/metrics/query", &[q, ("since", "10m")])
            .await
            .json();
        assert_eq!(instant["series"][0], json!({"labels": label, "value": 1}));
        let keys: Vec<&String> = instant.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["metrics", "series"]);
        let query = door.get("/api/metrics/query", &[("query", q.1)]).await;
        assert_eq!(query.status, 200);
        let cut = door
            .get("/api/metrics/query_range", &[q, ("maxSeries", "1")])
            .await
            .json();
        assert_eq!(
            (cut["series"].as_array().unwrap().len(), &cut["status"]),
            (1, &json!("PARTIAL"))
        );
        assert!(
            cut["message"]
                .as_str()
                .unwrap()
                .starts_with("Response exceeds maximum series limit of 1")
        );
        let protobuf = door
            .get_as("/api/metrics/query", &[q], "application/protobuf")
            .await;
        assert_eq!(protobuf.header("content-type"), "application/json");
        // As tempo-cli sends it: nanoseconds, and much that says nothing.
        let (start, end) = (
            (NOW_S - 600).to_string() + "000000000",
            NOW_S.to_string() + "000000000",
        );
        let params = [
            q,
            ("start", &start),
            ("end", &end),
            ("mode", ""),
            ("blockID", ""),
            ("startPage", "0"),
            ("encoding", "none"),
            ("size", "0"),
            ("footerSize", "0"),
            ("exemplars", "0"),
            ("maxSeries", "0"),
        ];
        let answer = door.get("/api/metrics/query_range", &params).await.json();
        assert_eq!(answer["series"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn metrics_that_cannot_be_are_refused_in_tempos_words() {
    let door = Door::new().await;
    let range = "/api/metrics/query_range";
    let instant = "/api/metrics/query";
    for (path, params, why) in [
        (
            range,
            &[("q", "{ | rate()")][..],
            "parse error at line 1, col ",
        ),
        (
            instant,
            &[("q", "{ | rate()")],
            "compiling query: parse error at line 1, col ",
        ),
        (
            range,
            &[("q", "{ name > 5 } | rate()")],
            "compiling query: binary operations",
        ),
        (
            instant,
            &[("q", "{ }")],
            "compiling query: not a metrics query",
        ),
        (
            range,
            &[("q", "{ } | rate()"), ("start", "x")],
            "rpc error: code = Code(400) desc = could not parse 'start' parameter: ",
        ),
        (
            range,
            &[("q", "{ } | rate()"), ("start", "0"), ("end", "0")],
            "end must be greater than start",
        ),
        (
            range,
            &[("q", "{ } | rate()"), ("step", "-1m")],
            "cannot parse \"-1m\": step must be positive",
        ),
        (
            range,
            &[("q", "{ } | rate()"), ("since", "2h"), ("step", "10ms")],
            "step of 10ms is too small, minimum step for given range is 720ms",
        ),
        (
            range,
            &[("q", "{ } | rate()"), ("since", "25h")],
            "metrics query time range exceeds the maximum allowed duration of 24h0m0s",
        ),
        (range, &[], "parse error at line 1, col 1: "),
    ] {
        let answer = door.get(path, params).await;
        assert_eq!(answer.status, 400, "{path} {params:?}");
        assert!(
            answer.text().starts_with(why),
            "{params:?}: {}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn what_is_newer_than_the_cutoff_is_not_looked_at() {
    let settings = ApiSettings {
        queries: QueryRules {
            query_end_cutoff: Duration::from_secs(120),
            ..QueryRules::default()
        },
        ..ApiSettings::default()
    };
    let door = Door::with(DoorParts {
        settings,
        ..DoorParts::default()
    })
    .await;
    door.push(&shop()).await;
    let found = door.get("/api/search", &[("q", "{}")]).await.json();
    assert_eq!(found["traces"], json!([]));
    assert_eq!(
        door.get(&format!("/api/traces/{ID}"), &[]).await.status,
        200
    );
    let start = (NOW_S - 60).to_string();
    let late = [("q", "{} | rate()"), ("start", start.as_str())];
    let answer = door.get("/api/metrics/query_range", &late).await;
    assert_eq!(
        answer.text(),
        "query window falls entirely within query_end_cutoff"
    );
}

#[tokio::test]
async fn several_tenants_are_asked_as_one() {
    let settings = ApiSettings {
        multitenancy_enabled: true,
        ..ApiSettings::default()
    };
    let door = Door::with(DoorParts {
        settings,
        ..DoorParts::default()
    })
    .await;
    let of = |service: &'static str, trace: &str| otlp(&[Sent::root(service, trace, "call")]);
    door.push_as(&of("one", "0000000000000000000000000000000a"), "a")
        .await;
    door.push_as(&of("two", "0000000000000000000000000000000b"), "b")
        .await;
    let ask = async |path: &str, tenant: &str| {
        door.ask("GET", path, &[("x-scope-orgid", tenant)], "")
            .await
    };
    let count = async |tenant: &str| {
        let found = ask("/api/search?q=%7B%7D", tenant).await.json();
        found["traces"].as_array().unwrap().len()
    };
    assert_eq!(
        (count("a").await, count("b").await, count("a|b").await),
        (1, 1, 2)
    );
    assert_eq!(count("c").await, 0);
    assert_eq!(ask("/api/traces/b", "a").await.status, 404);
    assert_eq!(ask("/api/traces/b", "a|b").await.status, 200);
    let values = ask("/api/search/tag/service.name/values", "a|b")
        .await
        .json();
    assert_eq!(values["tagValues"], json!(["one", "two"]));
    let names = ask("/api/search/tags", "a|b").await.json();
    assert_eq!(names["tagNames"], json!(["service.name"]));
    let path = "/api/metrics/query?q=%7B%7D%7Ccount_over_time()&since=10m";
    let both = ask(path, "a|b").await.json();
    assert_eq!(both["series"][0]["value"], 2, "{both}");
    for tenant in ["a/b", "a||b"] {
        assert_eq!(ask("/api/search", tenant).await.status, 400, "{tenant}");
    }
    let many: Vec<String> = (0..17).map(|n| format!("t{n}")).collect();
    assert_eq!(ask("/api/search", &many.join("|")).await.status, 400);
}
