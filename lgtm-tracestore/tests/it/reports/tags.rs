//! D: names and values of attributes.

use lgtm_core::units::ByteSize;
use lgtm_tracestore::limits::Limits;
use serde_json::json;

use super::house::{House, otlp, span, values};
use crate::door::{Door, DoorParts, NOW_S};

/// Names of the spans' attributes.
async fn names(door: &Door, params: &[(&str, &str)]) -> Vec<String> {
    let answer = door.get("/api/v2/search/tags", params).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let json = answer.json();
    let scopes = json["scopes"].as_array().into_iter().flatten();
    let scope = scopes.filter(|s| s["name"] == "span");
    let names = scope.flat_map(|s| s["tags"].as_array().into_iter().flatten());
    names.map(|n| n.as_str().unwrap().to_owned()).collect()
}

/// Two services, each with names of its own.
async fn two_services() -> House {
    House::of(&[
        span(1, "one")
            .trace(1)
            .of("a")
            .attributes(&json!({"x": "1", "only.a": true})),
        span(2, "two")
            .trace(2)
            .of("b")
            .attributes(&json!({"x": "2", "only.b": 0.5})),
    ])
    .await
}

#[tokio::test]
async fn d01_names_and_values_are_of_the_same_range() {
    let house = House::of(&[
        span(1, "old")
            .trace(1)
            .at(7_200_000, 10)
            .attributes(&json!({"old": "v"})),
        span(2, "new").trace(2).attributes(&json!({"new": "v"})),
    ])
    .await;
    let (start, end) = ((NOW_S - 600).to_string(), NOW_S.to_string());
    let range = [("start", start.as_str()), ("end", end.as_str())];
    for (state, door) in &house.doors {
        for name in names(door, &range).await {
            let path = format!("/api/v2/search/tag/span.{name}/values");
            let json = door.get(&path, &range).await.json();
            let count = json["tagValues"].as_array().unwrap().len();
            // A block that lies in the range as a whole or not at all is the finest that is told without a filter.
            let is_whole = *state == "flushed" || *state == "compacted";
            assert!(count > 0 || is_whole, "{state}: {name}");
        }
    }
}

#[tokio::test]
async fn d02_a_limit_is_kept_and_ends_the_reading() {
    let spans: Vec<_> = (1..=500)
        .map(|n| span(n, "a").attributes(&json!({"k": format!("v{n}")})))
        .collect();
    let house = House::of(&spans).await;
    for (state, door) in &house.doors {
        let json = door
            .get("/api/v2/search/tag/span.k/values", &[("limit", "10")])
            .await
            .json();
        assert_eq!(json["tagValues"].as_array().unwrap().len(), 10, "{state}");
    }
}

#[tokio::test]
async fn d03_more_names_than_an_answer_may_have_are_left_out_and_no_error() {
    let parts = || {
        let mut limits = Limits::default();
        limits.read.max_bytes_per_tag_values_query = ByteSize::bytes(1000);
        DoorParts {
            limits,
            ..DoorParts::default()
        }
    };
    let spans: Vec<_> = (1..=100)
        .map(|n| span(n, "a").attributes(&json!({ format!("name.of.a.hundred.{n:03}"): format!("value of a hundred {n:03}"), "k": format!("value of a hundred {n:03}") })))
        .collect();
    let house = House::with(parts, &spans).await;
    for (state, door) in &house.doors {
        let found = names(door, &[]).await;
        let bytes: usize = found.iter().map(String::len).sum();
        assert!(bytes <= 1000 && found.len() > 30, "{state}: {bytes}");
        let found = values(door, "span.k", "").await;
        let bytes: usize = found.iter().map(String::len).sum();
        assert!(bytes <= 1000 && found.len() > 30, "{state}: {bytes}");
    }
}

#[tokio::test]
async fn d04_a_value_that_is_asked_for_is_told_if_it_is_there() {
    let house = two_services().await;
    for (state, door) in &house.doors {
        let tag = "resource.service.name";
        let of = async |q: &str| values(door, tag, q).await;
        assert_eq!(
            of("{ resource.service.name = \"a\" }").await,
            ["a"],
            "{state}"
        );
        assert!(
            of("{ resource.service.name = \"nobody\" }")
                .await
                .is_empty(),
            "{state}"
        );
        assert_eq!(
            values(door, "span.x", "{ resource.service.name = \"b\" }").await,
            ["2"],
            "{state}"
        );
    }
}

#[tokio::test]
async fn d05_odd_signs_in_a_filter_do_not_make_it_vanish() {
    let house = House::of(&[
        span(1, "x/y?z")
            .trace(1)
            .resource(&json!({"a": "b\u{a0}c"}))
            .attributes(&json!({"k": "1"})),
        span(2, "other")
            .trace(2)
            .resource(&json!({"a": "b c"}))
            .attributes(&json!({"k": "2"})),
    ])
    .await;
    for (state, door) in &house.doors {
        let q = "{ resource.a=\"b\u{a0}c\" && name = \"x/y?z\" }";
        assert_eq!(values(door, "span.k", q).await, ["1"], "{state}");
        assert_eq!(
            values(door, "span.k", "{ resource.a=\"b c\" }").await,
            ["2"],
            "{state}"
        );
    }
}

#[tokio::test]
async fn d06_the_tag_of_a_path_is_unescaped_once_or_twice() {
    let house = House::of(&[span(1, "a").attributes(
        &json!({"a b": "blank", "a/b": "slash", "a%b": "percent", "a\"b": "quote", "a-b": "dash"}),
    )])
    .await;
    for (state, door) in &house.doors {
        for (path, value) in [
            ("span.%22a%20b%22", "blank"),
            ("span.%2522a%2520b%2522", "blank"),
            ("span.a/b", "slash"),
            ("span.a%2Fb", "slash"),
            ("span.a%252Fb", "slash"),
            ("span.a%25b", "percent"),
            ("span.%22a%5C%22b%22", "quote"),
            ("span.a-b", "dash"),
            (".a-b", "dash"),
        ] {
            let path = format!("/api/v2/search/tag/{path}/values?limit=5000&tag=x");
            let answer = door.ask("GET", &path, &[], "").await;
            assert_eq!(answer.status, 200, "{state}: {path}: {}", answer.text());
            assert_eq!(
                answer.json()["tagValues"][0]["value"],
                value,
                "{state}: {path}"
            );
        }
    }
}

#[tokio::test]
async fn d07_what_is_finished_of_a_filter_holds() {
    let house = two_services().await;
    for (state, door) in &house.doors {
        for q in [
            "{ resource.service.name=\"a\" && name = }",
            "{ name = && resource.service.name=\"a\" }",
            "{ resource.service.name=\"a\" && kind = }",
        ] {
            assert_eq!(values(door, "span.x", q).await, ["1"], "{state}: {q}");
        }
    }
}

#[tokio::test]
async fn d08_values_are_told_as_they_are() {
    let value = "say \"a\\b\"\nand more\t<&>";
    let house = House::of(&[span(1, "a").attributes(&json!({ "k": value }))]).await;
    for (state, door) in &house.doors {
        assert_eq!(values(door, "span.k", "").await, [value], "{state}");
        assert_eq!(
            values(door, "span.k", "{ name = \"a\" }").await,
            [value],
            "{state}"
        );
    }
}

#[tokio::test]
async fn d11_existence_may_be_the_filter() {
    let house = House::of(&[
        span(1, "one").trace(1).attributes(&json!({"x": "1"})),
        span(2, "two").trace(2).attributes(&json!({"x": ""})),
        span(3, "three").trace(3),
    ])
    .await;
    for (state, door) in &house.doors {
        assert_eq!(
            values(door, "name", "{ span.x != nil }").await,
            ["one", "two"],
            "{state}"
        );
        assert_eq!(
            values(door, "name", "{ span.x != \"\" }").await,
            ["one"],
            "{state}"
        );
        assert_eq!(
            names(door, &[("q", "{ name = \"three\" }")]).await,
            [""; 0],
            "{state}"
        );
    }
}

#[tokio::test]
async fn d13_a_range_with_nothing_in_it_has_no_values() {
    let house = two_services().await;
    let (start, end) = ((NOW_S - 90_000).to_string(), (NOW_S - 86_400).to_string());
    for (state, door) in &house.doors {
        let params = [("start", start.as_str()), ("end", end.as_str())];
        let answer = door.get("/api/v2/search/tag/span.x/values", &params).await;
        assert_eq!(
            (answer.status, &answer.json()["tagValues"]),
            (200, &json!([])),
            "{state}"
        );
    }
}

#[tokio::test]
async fn h04_names_and_values_stay_when_spans_move() {
    let house = two_services().await;
    let mut told = Vec::new();
    for (state, door) in &house.doors {
        let mut all = vec![names(door, &[]).await];
        for tag in [
            "span.x",
            "resource.service.name",
            "name",
            "status",
            "kind",
            "span.only.b",
        ] {
            all.push(values(door, tag, "").await);
        }
        told.push((state, all));
    }
    for (state, all) in &told[1..] {
        assert_eq!(all, &told[0].1, "{state}");
    }
    let door = Door::new().await;
    door.push(&otlp(&[span(1, "a").attributes(&json!({"k": 1}))]))
        .await;
    assert_eq!(values(&door, "span.k", "").await, ["1"]);
    door.store.flush().await.unwrap();
    assert_eq!(values(&door, "span.k", "").await, ["1"]);
}

#[tokio::test]
async fn a_filter_on_the_whole_trace_sees_all_its_parts() {
    let house = House::of(&[
        span(1, "root")
            .at(300_000, 1000)
            .attributes(&json!({"of.root": "r"})),
        span(9, "other")
            .trace(2)
            .attributes(&json!({"of.other": "o"})),
        span(2, "late")
            .under(1)
            .at(60_000, 10_000)
            .attributes(&json!({"of.late": "l"})),
        span(3, "later")
            .under(2)
            .at(55_000, 1000)
            .attributes(&json!({"of.late": "m"})),
    ])
    .await;
    for (state, door) in &house.doors {
        for q in [
            "{ traceDuration > 4m }",
            "{ trace:rootName = \"root\" && name =~ \"late.*\" }",
            "{ nestedSetParent > 0 }",
        ] {
            assert_eq!(
                values(door, "span.of.late", q).await,
                ["l", "m"],
                "{state}: {q}"
            );
            assert!(
                names(door, &[("q", q)])
                    .await
                    .contains(&"of.late".to_owned()),
                "{state}: {q}"
            );
            assert!(
                values(door, "span.of.other", q).await.is_empty(),
                "{state}: {q}"
            );
        }
        assert!(
            values(door, "span.of.late", "{ traceDuration < 4m }")
                .await
                .is_empty(),
            "{state}"
        );
    }
}
