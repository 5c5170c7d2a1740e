//! A: searches by TraceQL, and by tags.

use serde_json::json;

use super::house::{House, NONE, search, span, spans_of};
use crate::door::{DoorParts, NOW_S, SECOND};

/// Two spans, one with `x`.
async fn x_or_not() -> House {
    House::of(&[
        span(1, "with").attributes(&json!({"x": "a"})),
        span(2, "without").under(1),
    ])
    .await
}

#[tokio::test]
async fn a01_unequal_finds_spans_that_have_the_attribute() {
    let house = x_or_not().await;
    assert_eq!(house.found(r#"{ span.x != "b" }"#).await, [1]);
    assert_eq!(
        house.found(r#"{ span.x != "b" || span.x = nil }"#).await,
        [1, 2]
    );
}

#[tokio::test]
async fn one_of_several_texts_and_none_of_others_are_two_tests() {
    let spans = ["a", "b", "c"].into_iter().zip(1..);
    let spans = spans.map(|(x, id)| span(id, "s").attributes(&json!({ "x": x })));
    let house = House::of(&spans.collect::<Vec<_>>()).await;
    for query in [
        r#"{ (.x = "a" || .x = "b") && .x != "c" && .x != "b" }"#,
        r#"{ (.x =~ "a.?" || .x =~ "b.?") && .x !~ "c.?" && .x !~ "b.?" }"#,
    ] {
        assert_eq!(house.found(query).await, [1], "{query}");
    }
    let query = r#"{ (.x != "a" && .x != "b") || .x = "a" }"#;
    assert_eq!(house.found(query).await, [1, 3]);
}

#[tokio::test]
async fn a02_nil_may_stand_on_either_side() {
    let house = x_or_not().await;
    assert_eq!(house.found("{ nil != span.x }").await, [1]);
    assert_eq!(house.found("{ span.x != nil }").await, [1]);
    assert_eq!(house.found("{ nil = span.x }").await, [2]);
}

#[tokio::test]
async fn a03_existence_is_counted_alike_in_every_kind_of_column() {
    // A column of Tempo's own, one by the settings, and none.
    for name in ["http.method", "url.path", "some.other"] {
        let house = House::of(&[
            span(1, "a").attributes(&json!({ name: "GET" })),
            span(2, "b").under(1),
            span(3, "c").under(1).attributes(&json!({ name: "" })),
        ])
        .await;
        let count = house
            .series(&format!("{{ span.{name} != nil }} | count_over_time()"))
            .await;
        assert_eq!(count.into_values().collect::<Vec<_>>(), [2.0], "{name}");
        assert_eq!(
            house.found(&format!("{{ span.{name} = nil }}")).await,
            [2],
            "{name}"
        );
        let rate = house
            .series(&format!("{{ span.{name} != nil }} | rate()"))
            .await;
        let rate: f64 = rate.into_values().sum();
        assert!((rate - 2.0 / 600.0).abs() < 1e-12, "{name}: {rate}");
    }
}

#[tokio::test]
async fn a04_what_every_span_has_cannot_be_asked_to_be_missing() {
    let house = House::of(&[
        span(1, "a")
            .event("retry", &json!({"k": 1}))
            .scope(&json!({"k": "v"})),
        span(2, "a").under(1).with(
            "links",
            json!([{"traceId": "0102030405060708090a0b0c0d0e0f10", "spanId": "0102030405060708"}]),
        ),
        span(3, "b").under(1),
        span(4, "b").under(1).event("retry", &json!({})),
    ])
    .await;
    for query in ["{ statusMessage = nil }", "{ event:name = nil }"] {
        assert!(
            house
                .refused(query)
                .await
                .starts_with("invalid TraceQL query")
        );
    }
    for (query, spans) in [
        ("{ event:name != nil }", &[1, 4][..]),
        ("{ link:traceID != nil }", &[2]),
        (r#"{ instrumentation.k = nil && name = "a" }"#, &[2]),
        // An event that lacks it, not a span without events: so answers Tempo.
        ("{ event.k = nil }", &[4]),
        (r#"{ event.k = nil || name = "a" }"#, &[1, 2, 4]),
        ("{ link:traceID != nil || event:name != nil }", &[1, 2, 4]),
        ("{ statusMessage != nil }", &[1, 2, 3, 4]),
    ] {
        assert_eq!(house.found(query).await, spans, "{query}");
    }
}

#[tokio::test]
async fn a05_what_nobody_has_is_missing_everywhere() {
    let house = x_or_not().await;
    for query in [
        "{ .absent = nil }",
        "{ resource.absent = nil }",
        "{ span.absent = nil }",
    ] {
        assert_eq!(house.found(query).await, [1, 2], "{query}");
    }
}

#[tokio::test]
async fn a06_a_relation_to_what_is_missing_finds_nothing() {
    let house = x_or_not().await;
    assert_eq!(house.found(r#"{} >> { span.absent != "foo" }"#).await, NONE);
    assert_eq!(house.found("{} >> { span.absent = nil }").await, [2]);
}

#[tokio::test]
async fn a07_what_is_no_truth_value_is_not_true() {
    let house = House::of(&[
        span(1, "text").attributes(&json!({"foo": "x"})),
        span(2, "true").attributes(&json!({"foo": true})),
        span(3, "false").attributes(&json!({"foo": false})),
        span(4, "absent"),
    ])
    .await;
    assert_eq!(house.found("{ span.foo && true }").await, [2]);
    assert_eq!(house.found("{ span.foo }").await, [2]);
}

#[tokio::test]
async fn a08_negated_relations_find_those_without_such_a_relative() {
    let house = House::of(&[
        span(1, "a"),
        span(2, "b").under(1),
        span(3, "c").trace(1).with("kind", json!(2)),
        span(9, "other").trace(2),
    ])
    .await;
    for op in ["!>", "!>>", "!<", "!<<", "!~"] {
        let query = format!(r#"{{ name = "b" }} {op} {{ name = "c" }}"#);
        assert_eq!(house.found(&query).await, [3], "{query}");
    }
    // Nothing on the left side: all of the right one.
    assert_eq!(
        house.found(r#"{ name = "none" } !> {}"#).await,
        [1, 2, 3, 9]
    );
    assert_eq!(house.found(r#"{ name = "a" } !> {}"#).await, [1, 3, 9]);
}

#[tokio::test]
async fn a09_groups_behind_a_relation_need_no_mention_in_the_filter() {
    let house = House::of(&[
        span(1, "a"),
        span(2, "b").under(1).attributes(&json!({"k": "v"})),
        span(3, "b").under(1),
    ])
    .await;
    let plain = r#"{ name = "a" } >> { name = "b" } | count_over_time() by (span.k)"#;
    let named = r#"{ name = "a" } >> { name = "b" && (span.k != nil || true) } | count_over_time() by (span.k)"#;
    let groups = house.series(plain).await;
    assert_eq!(
        groups.keys().collect::<Vec<_>>(),
        ["span.k=nil", "span.k=v"]
    );
    assert_eq!(groups, house.series(named).await);
}

#[tokio::test]
async fn a10_an_attribute_may_be_called_like_a_scope() {
    let house = House::of(&[
        span(1, "a").attributes(&json!({"resource.id": "7", "event.n": 1, "parent.x": true})),
        span(2, "b").resource(&json!({"span.id": "7"})),
    ])
    .await;
    assert_eq!(house.found(r#"{ span.resource.id = "7" }"#).await, [1]);
    assert_eq!(house.found(r#"{ resource.id = "7" }"#).await, NONE);
    assert_eq!(house.found(r#"{ resource.span.id = "7" }"#).await, [2]);
    assert_eq!(
        house.found("{ span.event.n = 1 && span.parent.x }").await,
        [1]
    );
}

#[tokio::test]
async fn a11_names_with_blanks_stand_in_quotes() {
    let house = House::of(&[span(1, "a").attributes(&json!({"http status": 200}))]).await;
    assert_eq!(house.found(r#"{ span."http status" = 200 }"#).await, [1]);
    assert_eq!(house.found(r#"{ ."http status" = 200 }"#).await, [1]);
    let groups = house.series(r#"{} | rate() by (span."http status")"#).await;
    assert_eq!(
        groups.keys().collect::<Vec<_>>(),
        [r#"span."http status"=200"#]
    );
    assert_eq!(
        house
            .found(r#"{} | by(span."http status") | select(span."http status")"#)
            .await,
        [1]
    );
}

#[tokio::test]
async fn a12_names_may_have_other_signs() {
    let signs = "-+/*@#$%~?:;'";
    let names: Vec<String> = signs.chars().map(|c| format!("a{c}b")).collect();
    let attributes = names.iter().map(|name| (name.clone(), json!(1))).collect();
    let house = House::of(&[span(1, "a").attributes(&serde_json::Value::Object(attributes))]).await;
    for name in &names {
        assert_eq!(
            house.found(&format!("{{ span.\"{name}\" = 1 }}")).await,
            [1],
            "{name}"
        );
    }
    for name in ["a-b", "a/b", "a+b", "a?b", "a@b", "a#b", "a$b"] {
        assert_eq!(
            house.found(&format!("{{ span.{name} = 1 }}")).await,
            [1],
            "{name}"
        );
    }
}

#[tokio::test]
async fn a13_regular_expressions_escape_as_texts_do() {
    let house = House::of(&[span(1, "a$b"), span(2, "ab")]).await;
    assert_eq!(house.found(r#"{ name =~ "a\\$b" }"#).await, [1]);
    assert_eq!(house.found(r"{ name =~ `a\$b` }").await, [1]);
    let why = house.refused(r#"{ name =~ "a\$b" }"#).await;
    assert!(why.contains("parse error"), "{why}");
}

#[tokio::test]
async fn a14_long_names_and_values_are_looked_for_as_they_were_stored() {
    let (name, value) = ("n".repeat(1500), "v".repeat(3000));
    let house =
        House::of(&[span(1, "a").attributes(&json!({ name.clone(): value.clone() }))]).await;
    assert_eq!(house.found(&format!("{{ span.{name} != nil }}")).await, [1]);
    // What is beyond `max_attribute_bytes` was cut.
    assert_eq!(
        house
            .found(&format!("{{ span.{name} = \"{}\" }}", &value[..2048]))
            .await,
        [1]
    );
    assert_eq!(
        house
            .found(&format!("{{ span.{name} = \"{value}\" }}"))
            .await,
        NONE
    );
}

#[tokio::test]
async fn a15_integers_and_floats_are_numbers() {
    let house = House::of(&[span(1, "a").attributes(&json!({"n": 5, "f": 5.0}))]).await;
    for query in [
        "{ span.n > 4.5 }",
        "{ span.f = 5 }",
        "{ span.n = 5.0 }",
        "{ span.n = span.f }",
        "{ 4.5 < span.n }",
        "{ span.f >= 5 && span.n <= 5.0 }",
    ] {
        assert_eq!(house.found(query).await, [1], "{query}");
    }
    for query in ["{ span.n = 5.5 }", "{ span.n != 5.0 }", "{ span.f < 5 }"] {
        assert_eq!(house.found(query).await, NONE, "{query}");
    }
}

#[tokio::test]
async fn a16_filters_compute() {
    let house = House::of(&[
        span(1, "a").attributes(&json!({"n": 5, "m": 2})),
        span(2, "b").attributes(&json!({"n": 7})),
        span(3, "c").attributes(&json!({"n": 4, "m": 9})),
    ])
    .await;
    for (query, spans) in [
        ("{ span.n * 2 > 9 }", &[1, 2][..]),
        ("{ 2 * span.n > 9 }", &[1, 2]),
        ("{ span.n + span.m = 7 }", &[1]),
        ("{ span.n - 1 = 3 }", &[3]),
        ("{ span.n ^ 2 = 49 }", &[2]),
        ("{ span.n % 2 = 0 }", &[3]),
        ("{ span.m - span.n > 0 }", &[3]),
    ] {
        assert_eq!(house.found(query).await, spans, "{query}");
    }
}

#[tokio::test]
async fn a17_both_ends_of_a_range_are_of_the_same_span() {
    let spans: Vec<_> = (1..=6)
        .map(|n| {
            span(n, "a")
                .attributes(&json!({ "n": n }))
                .resource(&json!({"n": 7 - n}))
                .with("kind", json!(1))
        })
        .collect();
    let house = House::of(&spans).await;
    assert_eq!(house.found("{ span.n >= 3 && span.n < 5 }").await, [3, 4]);
    assert_eq!(
        house.found("{ resource.n >= 3 && resource.n < 5 }").await,
        [3, 4]
    );
    assert_eq!(house.found("{ span.n > 5 && resource.n < 2 }").await, [6]);
}

#[tokio::test]
async fn a18_a_condition_on_a_resource_matches_its_spans_only() {
    let house = House::of(&[
        span(1, "a").resource(&json!({"env": "p"})),
        span(2, "b").under(1).resource(&json!({"env": "q"})),
        span(3, "c").under(1).resource(&json!({"env": "p"})),
        span(4, "d").under(1),
    ])
    .await;
    assert_eq!(house.found(r#"{ resource.env = "p" }"#).await, [1, 3]);
    for (state, door) in &house.doors {
        let answer = search(door, r#"{ resource.env = "p" }"#).await;
        assert_eq!(answer["traces"][0]["spanSets"][0]["matched"], 2, "{state}");
    }
}

#[tokio::test]
async fn a21_of_an_array_any_element_is_equal_and_all_are_unequal() {
    let house = House::of(&[span(1, "a").attributes(&json!({"a": ["x", "y"], "n": [1, 2]}))]).await;
    for (query, is_found) in [
        (r#"{ span.a = "x" }"#, true),
        (r#"{ span.a = "z" }"#, false),
        // Alone it is true where any element differs, as Tempo answers of blocks.
        (r#"{ span.a != "x" }"#, true),
        (r#"{ span.a != "x" && name = "a" }"#, false),
        (r#"{ span.a != "z" }"#, true),
        (r#"{ span.a =~ "x.*" }"#, true),
        (r#"{ span.a !~ "x.*" }"#, false),
        (r#"{ span.a !~ "z.*" }"#, true),
        ("{ span.n = 2 }", true),
        ("{ span.n != 2 }", true),
        (r#"{ span.n != 2 && name = "a" }"#, false),
        ("{ span.n > 1 }", true),
    ] {
        assert_eq!(!house.found(query).await.is_empty(), is_found, "{query}");
    }
}

#[tokio::test]
async fn a22_a_division_by_zero_matches_nothing() {
    let house = House::of(&[span(1, "a").attributes(&json!({"n": 5, "zero": 0}))]).await;
    for query in [
        "{ span.n / 0 = 1 }",
        "{ span.n % span.zero = 1 }",
        "{ span.n / span.zero > 0 }",
    ] {
        assert_eq!(house.found(query).await, NONE, "{query}");
    }
}

#[tokio::test]
async fn a23_another_event_is_unequal_and_none_is_not() {
    let house = House::of(&[
        span(1, "none"),
        span(2, "y").event("y", &json!({})),
        span(3, "x and y")
            .event("x", &json!({}))
            .event("y", &json!({})),
        span(4, "x").event("x", &json!({})),
    ])
    .await;
    assert_eq!(house.found(r#"{ event:name != "x" }"#).await, [2, 3]);
    assert_eq!(house.found(r#"{ event:name = "x" }"#).await, [3, 4]);
}

/// The traces that a search by tags finds.
async fn by_tags(house: &House, tags: &str) -> Vec<u64> {
    let mut answers = Vec::new();
    for (_, door) in &house.doors {
        let answer = door.get("/api/search", &[("tags", tags)]).await;
        assert_eq!(answer.status, 200, "{tags}: {}", answer.text());
        answers.push(spans_of(&answer.json()).into_keys().collect::<Vec<u64>>());
    }
    let first = answers[0].clone();
    assert!(answers.iter().all(|a| *a == first), "{tags}: {answers:?}");
    first
}

#[tokio::test]
async fn a24_a25_tags_match_values_of_every_type() {
    let house = House::of(&[
        span(1, "a")
            .trace(1)
            .attributes(&json!({"http.status_code": 500})),
        span(2, "b")
            .trace(2)
            .attributes(&json!({"http.status_code": "500"})),
        span(3, "c")
            .trace(3)
            .attributes(&json!({"flag": true, "net.peer.port": 5432})),
        span(4, "d")
            .trace(4)
            .attributes(&json!({"flag": "true", "net.peer.port": "5432"})),
        span(5, "e")
            .trace(5)
            .attributes(&json!({"http.response.status_code": 500})),
        span(6, "f")
            .trace(6)
            .attributes(&json!({"http.response.status_code": "500"})),
    ])
    .await;
    // The one name that Tempo takes for a number: its own answers, which the conformance sets hold, have no texts.
    assert_eq!(by_tags(&house, "http.status_code=500").await, [1]);
    assert_eq!(
        by_tags(&house, "http.response.status_code=500").await,
        [5, 6]
    );
    assert_eq!(by_tags(&house, "flag=true").await, [3, 4]);
    assert_eq!(by_tags(&house, "net.peer.port=5432").await, [3, 4]);
}

#[tokio::test]
async fn a26_tags_may_be_quoted() {
    let house = House::of(&[
        span(1, "HTTP GET")
            .trace(1)
            .attributes(&json!({"x": "a\"b"}))
            .of("a b"),
        span(2, "HTTP GET").trace(2).attributes(&json!({"x": "ab"})),
    ])
    .await;
    assert_eq!(by_tags(&house, r#"name="HTTP GET" x="a\"b""#).await, [1]);
    assert_eq!(
        by_tags(&house, r#"service.name="a b" name=HTTP"#).await,
        [1]
    );
    assert_eq!(by_tags(&house, r#"name="HTTP GET""#).await, [1, 2]);
}

#[tokio::test]
async fn a27_the_newest_traces_come_and_the_same_at_every_call() {
    let spans: Vec<_> = (1..=100)
        .map(|n| span(n, "a").trace(n).at(60_000 + n * 37 % 101 * 100, 10))
        .collect();
    let house = House::of(&spans).await;
    let mut newest: Vec<_> = spans.iter().map(|s| (s.start_ns, s.trace)).collect();
    newest.sort_unstable();
    let newest: Vec<u64> = newest
        .iter()
        .rev()
        .take(10)
        .map(|(_, trace)| *trace)
        .collect();
    for (state, door) in &house.doors {
        for query in ["{}", "{} with(most_recent=true)"] {
            for _ in 0..5 {
                let answer = door
                    .get("/api/search", &[("q", query), ("limit", "10")])
                    .await;
                let json = answer.json();
                let traces = json["traces"].as_array().unwrap().iter();
                let found: Vec<u64> = traces
                    .map(|t| u64::from_str_radix(t["traceID"].as_str().unwrap(), 16).unwrap())
                    .collect();
                assert_eq!(found, newest, "{state}: {query}");
            }
        }
    }
}

#[tokio::test]
async fn a28_spans_of_days_ago_are_found_by_their_time() {
    const DAYS_MS: u64 = 3 * 86_400_000;
    let house = House::of(&[
        span(1, "old").at(DAYS_MS, 1000),
        span(2, "old").under(1).at(DAYS_MS - 10, 500),
    ])
    .await;
    let at = NOW_S - DAYS_MS / 1000;
    let (start, end) = ((at - 60).to_string(), (at + 60).to_string());
    for (state, door) in &house.doors {
        let params = [
            ("q", "{ name = \"old\" }"),
            ("start", &*start),
            ("end", &*end),
        ];
        let found = spans_of(&door.get("/api/search", &params).await.json());
        assert_eq!(found.get(&1).map(Vec::len), Some(2), "{state}");
        assert!(
            house.found("{ name = \"old\" }").await.is_empty(),
            "not of the last minutes"
        );
    }
    let (_, flushed) = &house.doors[1];
    let blocks = flushed
        .store
        .blocks()
        .blocks(&lgtm_core::model::TenantId::anonymous())
        .await
        .unwrap();
    let meta = &blocks.live[0];
    assert!(
        meta.end.get() < (NOW_S * SECOND) as i64 - 86_400_000_000_000,
        "{meta:?}"
    );
}

#[tokio::test]
async fn a29_a_trace_lasts_as_long_as_all_its_parts() {
    // The late child lies in another block.
    let house = House::of(&[
        span(1, "root").at(1_500_000, 1000),
        span(2, "late").under(1).at(310_000, 10_000),
    ])
    .await;
    for (state, door) in &house.doors {
        let start = (NOW_S - 3600).to_string();
        let end = NOW_S.to_string();
        for query in [
            "{ name = \"late\" }",
            "{ traceDuration > 19m }",
            "{ name = \"root\" && traceDuration > 19m }",
        ] {
            let params = [("q", query), ("start", &*start), ("end", &*end)];
            let json = door.get("/api/search", &params).await.json();
            assert_eq!(
                json["traces"][0]["durationMs"], 1_200_000,
                "{state}: {query}: {json}"
            );
        }
        let params = [
            ("q", "{ traceDuration < 19m }"),
            ("start", &*start),
            ("end", &*end),
        ];
        let json = door.get("/api/search", &params).await.json();
        assert_eq!(json["traces"], json!([]), "{state}");
    }
}

#[tokio::test]
async fn a30_the_root_is_known_wherever_it_lies() {
    let house = House::of(&[span(1, "root"), span(2, "child").under(1).of("stock")]).await;
    for (state, door) in &house.doors {
        let json = search(door, "{ name = \"child\" }").await;
        let trace = &json["traces"][0];
        assert_eq!(trace["rootServiceName"], "shop", "{state}");
        assert_eq!(trace["rootTraceName"], "root", "{state}");
    }
    let house = House::of(&[span(2, "child").under(1)]).await;
    for (state, door) in &house.doors {
        let trace = &search(door, "{}").await["traces"][0];
        assert_eq!(
            trace["rootServiceName"], "<root span not yet received>",
            "{state}"
        );
        assert!(trace.get("rootTraceName").is_none(), "{state}");
    }
}

#[tokio::test]
async fn a31_all_spans_of_a_trace_match_its_id() {
    let spans: Vec<_> = (1..=200)
        .map(|n| span(n, "a").with("kind", json!(1)))
        .collect();
    let house = House::of(&spans).await;
    let query = format!("{{ trace:id = \"{:032x}\" }}", 1);
    for (state, door) in &house.doors {
        for (spss, told) in [("0", 3), ("100", 100)] {
            let params = [("q", query.as_str()), ("spss", spss)];
            let json = door.get("/api/search", &params).await.json();
            let set = &json["traces"][0]["spanSets"][0];
            assert_eq!(set["matched"], 200, "{state}");
            assert_eq!(set["spans"].as_array().unwrap().len(), told, "{state}");
        }
    }
}

#[tokio::test]
async fn a32_of_two_roots_the_same_one_names_the_trace_wherever_it_lies() {
    let house = House::of(&[
        span(1, "second").at(50_000, 10).of("b"),
        span(2, "first").at(60_000, 10).of("a"),
    ])
    .await;
    assert_eq!(house.found("{}").await, [1, 2]);
    for (state, door) in &house.doors {
        let trace = &search(door, "{}").await["traces"][0];
        assert_eq!(
            (&trace["rootTraceName"], &trace["rootServiceName"]),
            (&json!("second"), &json!("b")),
            "{state}"
        );
    }
}

#[tokio::test]
async fn a33_a34_numbers_that_cannot_be_are_refused() {
    let house = x_or_not().await;
    let (_, door) = &house.doors[0];
    for (name, value, why) in [
        (
            "spss",
            "101",
            "spans per span set exceeds 100. received 101",
        ),
        ("limit", "4294967296", "limit"),
        ("limit", "0", "invalid limit: must be a positive number"),
        ("spss", "-1", "spss"),
        ("start", "99999999999", "start"),
    ] {
        let mut params = vec![("q", "{}"), (name, value)];
        if name == "start" {
            params.push(("end", "99999999999"));
        }
        let answer = door.get("/api/search", &params).await;
        assert_eq!(answer.status, 400, "{name}={value}: {}", answer.text());
        assert!(
            answer.text().contains(why),
            "{name}={value}: {}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn a36_a_text_that_is_too_long_is_refused_before_it_is_read() {
    let house = x_or_not().await;
    let why = house
        .refused(&format!("{{ name = \"{}\" }}", "x".repeat(200 << 10)))
        .await;
    assert!(why.contains("maximum size of 131072 bytes"), "{why}");
    let nested = format!("{{ {}true{} }}", "(".repeat(10_000), ")".repeat(10_000));
    house.refused(&nested).await;
}

#[tokio::test]
async fn a37_existence_can_be_asked_in_every_scope() {
    let house = House::of(&[
        span(1, "a")
            .attributes(&json!({"x": 1}))
            .resource(&json!({"x": 1}))
            .scope(&json!({"x": 1}))
            .event("e", &json!({"x": 1}))
            .with(
                "links",
                json!([{
                    "traceId": "0102030405060708090a0b0c0d0e0f10",
                    "spanId": "0102030405060708",
                    "attributes": [{"key": "x", "value": {"intValue": "1"}}],
                }]),
            ),
        // Something of each kind that lacks it.
        span(2, "b").under(1).event("e", &json!({})).with(
            "links",
            json!([{"traceId": "0102030405060708090a0b0c0d0e0f10", "spanId": "0102030405060708"}]),
        ),
    ])
    .await;
    for scope in ["span", "resource", "instrumentation", "event", "link"] {
        assert_eq!(
            house.found(&format!("{{ {scope}.x != nil }}")).await,
            [1],
            "{scope}"
        );
        assert_eq!(
            house.found(&format!("{{ {scope}.x = nil }}")).await,
            [2],
            "{scope}"
        );
    }
    assert_eq!(house.found("{ .x != nil }").await, [1]);
}

#[tokio::test]
async fn a19_values_of_a_column_for_long_texts_are_told_apart_at_their_end() {
    use lgtm_core::units::ByteSize;
    use lgtm_tracestore::limits::Limits;
    let parts = || {
        let mut limits = Limits::default();
        limits.ingestion.max_attribute_bytes = ByteSize::bytes(0);
        let columns = json!([{"n": "body", "o": ["blob"]}]);
        limits.storage.parquet_dedicated_columns = serde_json::from_value(columns).unwrap();
        DoorParts {
            limits,
            ..DoorParts::default()
        }
    };
    let long = |end: &str| "v".repeat(100 << 10) + end;
    let house = House::with(
        parts,
        &[
            span(1, "a").attributes(&json!({"body": long("1")})),
            span(2, "b").attributes(&json!({"body": long("2")})),
        ],
    )
    .await;
    for n in 1..=2 {
        let query = format!("{{ span.body = \"{}\" }}", long(&n.to_string()));
        assert_eq!(house.found(&query).await, [n]);
    }
    assert_eq!(
        house
            .found(&format!("{{ span.body = \"{}\" }}", long("")))
            .await,
        NONE
    );
    assert_eq!(house.found("{ span.body =~ \"v+2\" }").await, [2]);
}
