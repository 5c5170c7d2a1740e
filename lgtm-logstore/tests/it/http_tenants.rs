//! Queries that name several tenants: answered as if all their streams were one tenant's, each with the label `__tenant_id__`.

#![cfg(feature = "http")]

use crate::door::{Answer, Door, DoorParts, JSON, NOW_S};
use lgtm_logstore::http::ApiSettings;
use lgtm_logstore::limits::Limits;
use serde_json::{Value, json};

const API: &str = "/loki/api/v1";
const ORG: &str = "X-Scope-OrgID";
/// The tenant whose streams bear the label themselves.
const ALL: &str = "all";

async fn door(multi_tenant_queries_enabled: bool) -> Door {
    let settings = ApiSettings {
        multitenancy_enabled: true,
        multi_tenant_queries_enabled,
        max_tenants_per_query: 3,
        ..ApiSettings::default()
    };
    let limits = Limits {
        discover_service_name: Vec::new(),
        ..Limits::default()
    };
    let parts = DoorParts {
        settings,
        limits,
        ..DoorParts::default()
    };
    Door::with(parts).await
}

async fn push(door: &Door, tenant: &str, labels: &Value, entries: &[(i64, String)]) {
    let value =
        |(before_s, line): &(i64, String)| json!([format!("{}000000000", NOW_S - before_s), line]);
    let values: Vec<Value> = entries.iter().map(value).collect();
    let body = json!({"streams": [{"stream": labels, "values": values}]}).to_string();
    let headers = [("Content-Type", JSON), (ORG, tenant)];
    let answer = door.post(&format!("{API}/push"), &headers, body).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
}

/// Some streams of each tenant, the same with their tenant's name for [`ALL`]. Upper case stands before the label, lower case behind it.
async fn fill(door: &Door, round: i64) {
    for (n, tenant) in ["a", "b", "c"].into_iter().enumerate() {
        let streams = [
            json!({"app": "shop"}),
            json!({"app": "shop", "env": "prod"}),
            json!({"App": "x", "app": "api"}),
            json!({"App": "x", "ENV": "y", "app": "api"}),
        ];
        for (s, mut labels) in streams.into_iter().enumerate() {
            let entry = |i: i64| {
                let at = 600 - round * 300 - i * 20 - s as i64 - n as i64;
                (
                    at,
                    format!("level=info n={i} took={}ms who=t{n}", i * 7 + n as i64),
                )
            };
            let entries: Vec<_> = (0..10).map(entry).collect();
            push(door, tenant, &labels, &entries).await;
            labels["__tenant_id__"] = json!(tenant);
            push(door, ALL, &labels, &entries).await;
        }
    }
}

async fn ask(door: &Door, tenants: &str, path: &str, params: &[(&str, &str)]) -> Answer {
    let (start, end) = ((NOW_S - 900).to_string(), NOW_S.to_string());
    let mut all = vec![("start", start.as_str()), ("end", end.as_str())];
    all.extend(params);
    door.get_with(&format!("{API}{path}"), &all, &[(ORG, tenants)])
        .await
}

/// The answer without what it cost, its series in order.
async fn data(door: &Door, tenants: &str, path: &str, params: &[(&str, &str)]) -> Value {
    let answer = ask(door, tenants, path, params).await;
    assert_eq!(answer.status, 200, "{path} {params:?}: {}", answer.text());
    let mut answer = answer.json();
    if let Some(data) = answer.get_mut("data").and_then(Value::as_object_mut) {
        data.remove("stats");
        if let Some(list) = data.get_mut("result").and_then(Value::as_array_mut) {
            list.sort_by_key(ToString::to_string);
        }
    }
    answer
}

#[tokio::test]
async fn several_tenants_answer_as_one_whose_streams_bear_their_names() {
    let door = door(true).await;
    let queries = [
        r#"{app="shop"}"#,
        r#"{app=~".+"} |= "n=3""#,
        r#"{app="shop", __tenant_id__="b"}"#,
        r#"{app="shop", __tenant_id__!~"a|b"}"#,
        r#"{__tenant_id__="c"}"#,
        r#"{app="shop", __tenant_id__="d"}"#,
        r#"{app=~".+"} | __tenant_id__="a""#,
        r#"{app="api"} | logfmt | n > 4 | line_format "{{.__tenant_id__}} {{.n}}""#,
        r#"sum(count_over_time({app=~".+"}[5m]))"#,
        r#"sum by (__tenant_id__) (count_over_time({app=~".+"}[5m]))"#,
        r#"sum by (detected_level) (bytes_over_time({app="shop"}[10m]))"#,
        r#"topk(2, count_over_time({app=~".+"} | __tenant_id__=~"a|c" [3m]))"#,
        r#"max by (app) (max_over_time({app=~".+"} | logfmt | unwrap duration(took) [2m]))"#,
        r#"rate({app="api"}[1m])"#,
    ];
    for round in 0..2 {
        // First all is in memory, then half of it in the store.
        fill(&door, round).await;
        for query in queries {
            for more in [("direction", "backward"), ("direction", "forward")] {
                let params = [("query", query), ("step", "60"), ("limit", "40"), more];
                let wanted = data(&door, ALL, "/query_range", &params).await;
                let got = data(&door, "a|b|c", "/query_range", &params).await;
                assert_eq!(got, wanted, "{query}");
                let again = data(&door, "c|b|a|b", "/query_range", &params).await;
                assert_eq!(again, wanted, "{query}");
            }
        }
        for (path, params) in [
            ("/labels", vec![]),
            ("/label/app/values", vec![]),
            ("/label/__tenant_id__/values", vec![]),
            (
                "/label/App/values",
                vec![("query", r#"{app="api",__tenant_id__=~"a|c"}"#)],
            ),
            ("/series", vec![("match[]", r#"{app="shop"}"#)]),
            ("/series", vec![("match[]", r#"{__tenant_id__="b"}"#)]),
            ("/index/stats", vec![("query", r#"{app=~".+"}"#)]),
            (
                "/index/volume",
                vec![("query", r#"{app="shop",__tenant_id__=~".+"}"#)],
            ),
            (
                "/index/volume",
                vec![
                    ("query", r#"{app="shop"}"#),
                    ("targetLabels", "__tenant_id__"),
                ],
            ),
            (
                "/index/volume",
                vec![
                    ("query", r#"{app=~".+"}"#),
                    ("aggregateBy", "labels"),
                    ("targetLabels", "app"),
                ],
            ),
            ("/detected_labels", vec![("query", r#"{app="shop"}"#)]),
        ] {
            let wanted = data(&door, ALL, path, &params).await;
            let got = data(&door, "a|b|c", path, &params).await;
            assert_eq!(got, wanted, "{path} {params:?}");
        }
        door.store.flush().await.unwrap();
    }
    // Without the label named, volumes of several tenants are added.
    let volumes = data(&door, "a|b|c", "/index/volume", &[("query", "{}")]).await;
    let volumes = volumes["data"]["result"].as_array().unwrap();
    assert_eq!(volumes.len(), 4, "{volumes:?}");
    assert!(
        volumes
            .iter()
            .all(|v| v["metric"]["__tenant_id__"].is_null())
    );
    // A label of the name stays, under another one.
    let nested = data(&door, "a|all", "/labels", &[]).await;
    let names = json!([
        "App",
        "ENV",
        "__tenant_id__",
        "app",
        "env",
        "original___tenant_id__"
    ]);
    assert_eq!(nested["data"], names);
    let original = [(
        "query",
        r#"sum by (__tenant_id__) (count_over_time({original___tenant_id__="b"}[15m]))"#,
    )];
    let original = data(&door, "a|all", "/query", &original).await;
    assert_eq!(
        original["data"]["result"][0]["metric"],
        json!({"__tenant_id__": "all"})
    );
}

#[tokio::test]
async fn what_is_about_one_tenant_is_refused_to_several() {
    let door = door(true).await;
    fill(&door, 0).await;
    let query = [("query", r#"{app="shop"}"#)];
    let refused = |answer: Answer| (answer.status, answer.text());
    let several = (400, "multiple org IDs present".to_owned());
    assert_eq!(refused(ask(&door, "a|b", "/tail", &query).await), several);
    assert_eq!(refused(ask(&door, "a|b", "/rules", &[]).await), several);
    let headers = [("Content-Type", JSON), (ORG, "a|b")];
    let push = door.post(&format!("{API}/push"), &headers, "{}").await;
    assert_eq!(
        refused(push),
        (400, "multiple org IDs present\n".to_owned())
    );
    let fields = data(&door, "a|b", "/detected_fields", &query).await;
    assert_eq!(fields, json!({"limit": 1000}));
    let patterns = ask(&door, "a|b", "/patterns", &query).await;
    assert_eq!(patterns.status, 200, "{}", patterns.text());
    let many = ask(&door, "a|b|c|d", "/labels", &[]).await;
    assert_eq!(
        refused(many),
        (
            400,
            "too many tenant IDs present: 4, the maximum is 3".to_owned()
        )
    );
    let off = self::door(false).await;
    assert_eq!(refused(ask(&off, "a|b", "/labels", &[]).await), several);
}
