//! B: queries for series.

use serde_json::{Value, json};

use super::house::{House, Sent, instant, labels, otlp, range, search, span, spans_of};
use crate::door::{Door, NOW_S, SECOND};

/// So many spans, spread over nine minutes, with `n` of 1, 2, 3...
fn many(count: u64) -> Vec<Sent> {
    (1..=count)
        .map(|n| {
            span(n, "a")
                .trace(n % 7 + 1)
                .attributes(&json!({ "n": n }))
                .at(30_000 + n * 540_000 / count, 10)
        })
        .collect()
}

#[tokio::test]
async fn b01_sums_do_not_depend_on_the_step() {
    let house = House::of(&many(1000)).await;
    let whole = 500_500.0;
    for step in ["1m", "5m", "1h", "7s"] {
        let sums = house.sums("{} | sum_over_time(span.n)", step).await;
        assert_eq!(sums.into_values().collect::<Vec<_>>(), [whole], "{step}");
    }
    let at_once = house.series("{} | sum_over_time(span.n)").await;
    assert_eq!(at_once.into_values().collect::<Vec<_>>(), [whole]);
}

#[tokio::test]
async fn b02_averages_are_weighted() {
    // The blocks have groups of unequal size.
    let spans: Vec<Sent> = (1..=10)
        .map(|n| span(n, "a").attributes(&json!({"n": if n <= 2 { 100 } else { 10 }})))
        .collect();
    let house = House::of(&spans).await;
    for _ in 0..3 {
        let averages = house.series("{} | avg_over_time(span.n)").await;
        assert_eq!(averages.into_values().collect::<Vec<_>>(), [28.0]);
    }
}

#[tokio::test]
async fn b03_a_filter_holds_for_what_is_counted() {
    let spans: Vec<Sent> = (1..=20)
        .map(|n| span(n, "a").attributes(&json!({"n": 0})))
        .collect();
    let house = House::of(&spans).await;
    let counts = house
        .series("{ span.n > 123123123 } | count_over_time()")
        .await;
    assert!(counts.values().all(|v| *v == 0.0), "{counts:?}");
    let counts = house.series("{ span.n = 0 } | count_over_time()").await;
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [20.0]);
}

#[tokio::test]
async fn b04_b05_metrics_count_what_a_search_finds() {
    let spans: Vec<Sent> = (1..=90)
        .map(|n| {
            span(n, "a")
                .trace(n)
                .status(if n % 3 == 0 { 2 } else { 0 })
                .attributes(&json!({"k": if n % 2 == 0 { "v" } else { "w" }}))
        })
        .collect();
    let house = House::of(&spans).await;
    for (query, count) in [
        ("{ .k = \"v\" }", 45),
        ("{ status = error }", 30),
        ("{ status = error && .k = \"w\" }", 15),
    ] {
        assert_eq!(house.found(query).await.len(), count, "{query}");
        let counts = house.series(&format!("{query} | count_over_time()")).await;
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [count as f64]);
    }
}

#[tokio::test]
async fn b06_spans_that_stand_in_two_blocks_count_once() {
    let door = Door::new().await;
    let spans = many(40);
    for _ in 0..3 {
        door.push(&otlp(&spans)).await;
        door.store.flush().await.unwrap();
        let counts = instant(&door, "{} | count_over_time()").await;
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [40.0]);
    }
    door.store.compact().await.unwrap();
    door.push(&otlp(&spans)).await;
    let counts = instant(&door, "{} | count_over_time()").await;
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [40.0]);
}

#[tokio::test]
async fn b07_a_range_over_live_and_stored_spans_has_both() {
    let house = House::of(&many(60)).await;
    let sums = house.sums("{} | count_over_time()", "1m").await;
    assert_eq!(sums.into_values().collect::<Vec<_>>(), [60.0]);
}

#[tokio::test]
async fn b08_a_rate_is_the_count_by_the_seconds_of_the_range() {
    let house = House::of(&many(120)).await;
    let rates = house.series("{} | rate()").await;
    let rate: f64 = rates.into_values().sum();
    assert!((rate - 120.0 / 600.0).abs() < 1e-12, "{rate}");
}

#[tokio::test]
async fn b09_points_lie_on_multiples_of_the_step_and_nothing_is_lost() {
    let house = House::of(&many(120)).await;
    for (state, door) in &house.doors {
        let start = (NOW_S - 597).to_string();
        let params = [
            ("q", "{} | count_over_time()"),
            ("start", start.as_str()),
            ("end", &NOW_S.to_string()),
            ("step", "50s"),
        ];
        let json = door.get("/api/metrics/query_range", &params).await.json();
        let samples = json["series"][0]["samples"].as_array().unwrap();
        let mut sum = 0.0;
        for sample in samples {
            let ms: u64 = sample["timestampMs"].as_str().unwrap().parse().unwrap();
            assert_eq!(ms % 50_000, 0, "{state}");
            sum += sample["value"].as_f64().unwrap_or(0.0);
        }
        assert_eq!(sum, 120.0, "{state}");
    }
}

#[tokio::test]
async fn b10_filter_and_function_may_be_of_the_same_field() {
    let house = House::of(&[
        span(1, "a").attributes(&json!({"n": 3})),
        span(2, "b").attributes(&json!({"n": 4})),
        span(3, "c").attributes(&json!({"n": 5})),
    ])
    .await;
    let sums = house.series("{ span.n > 3 } | sum_over_time(span.n)").await;
    assert_eq!(sums.into_values().collect::<Vec<_>>(), [9.0]);
    let groups = house
        .series("{ name != \"a\" } | count_over_time() by (name)")
        .await;
    assert_eq!(groups.keys().collect::<Vec<_>>(), ["name=b", "name=c"]);
}

#[tokio::test]
async fn b11_an_empty_text_is_a_group_and_so_is_none() {
    let house = House::of(&[
        span(1, "a").attributes(&json!({"k": ""})),
        span(2, "b"),
        span(3, "c").attributes(&json!({"k": "x"})),
    ])
    .await;
    let groups = house.series("{} | count_over_time() by (span.k)").await;
    assert_eq!(
        groups.keys().collect::<Vec<_>>(),
        ["span.k=", "span.k=nil", "span.k=x"]
    );
    assert!(groups.values().all(|v| *v == 1.0));
}

#[tokio::test]
async fn b12_what_is_false_counts_nothing_and_the_span_is_asked_before_the_resource() {
    let house = House::of(&[
        span(1, "a")
            .attributes(&json!({"a": "x"}))
            .resource(&json!({"a": "x"})),
        span(2, "b")
            .attributes(&json!({"a": "y"}))
            .resource(&json!({"a": "x"})),
        span(3, "c").resource(&json!({"a": "x"})),
    ])
    .await;
    let counts = house.series("{ false } | count_over_time()").await;
    assert!(counts.values().all(|v| *v == 0.0), "{counts:?}");
    let counts = house.series("{ .a = \"x\" } | count_over_time()").await;
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [2.0]);
    assert_eq!(house.found("{ .a = \"x\" }").await, [1, 3]);
}

#[tokio::test]
async fn b13_topk_gives_no_more_than_k() {
    let spans: Vec<Sent> = (1..=10)
        .flat_map(|service| {
            (0..service).map(move |n| span(service * 100 + n, "a").of(&format!("s{service:02}")))
        })
        .collect();
    let house = House::of(&spans).await;
    let by = "by (resource.service.name)";
    let top = house
        .series(&format!("{{}} | count_over_time() {by} | topk(3)"))
        .await;
    assert_eq!(top.into_values().collect::<Vec<_>>(), [8.0, 9.0, 10.0]);
    let least = house
        .series(&format!("{{}} | count_over_time() {by} | bottomk(3)"))
        .await;
    assert_eq!(least.into_values().collect::<Vec<_>>(), [1.0, 2.0, 3.0]);
    for (state, door) in &house.doors {
        let query = format!("{{}} | rate() {by} | topk(3)");
        let json = range(door, &query, &[("step", "1m")]).await;
        let mut at: std::collections::BTreeMap<String, usize> = Default::default();
        for series in json["series"].as_array().unwrap() {
            for sample in series["samples"].as_array().unwrap() {
                let time = sample["timestampMs"].as_str().unwrap();
                *at.entry(time.to_owned()).or_default() += 1;
            }
        }
        assert!(at.values().all(|n| *n <= 3), "{state}: {at:?}");
    }
}

#[tokio::test]
async fn b14_more_series_than_allowed_are_a_part_of_the_answer() {
    let spans: Vec<Sent> = (1..=5).map(|n| span(n, "a").of(&format!("s{n}"))).collect();
    let house = House::of(&spans).await;
    for (state, door) in &house.doors {
        for query in [
            "{} | rate() by (resource.service.name)",
            "{} | rate() by (resource.service.name) | topk(4)",
        ] {
            let json = range(door, query, &[("maxSeries", "2")]).await;
            assert_eq!(
                json["series"].as_array().unwrap().len(),
                2,
                "{state}: {query}"
            );
            assert_eq!(json["status"], "PARTIAL", "{state}: {query}");
            let message = json["message"].as_str().unwrap();
            assert!(message.contains("maximum series limit of 2"), "{message}");
        }
    }
}

/// The exemplars of a query.
async fn exemplars(door: &Door, query: &str, more: &[(&str, &str)]) -> Vec<(u64, Value)> {
    let json = range(door, query, more).await;
    let series = json["series"].as_array().unwrap().iter();
    let all = series.flat_map(|s| s["exemplars"].as_array().into_iter().flatten());
    all.map(|exemplar| {
        let mut labels = exemplar["labels"].as_array().unwrap().iter();
        let id = labels.find(|l| l["key"] == "trace:id").unwrap();
        let id = id["value"]["stringValue"].as_str().unwrap();
        (
            u64::from_str_radix(id, 16).unwrap(),
            exemplar["value"].clone(),
        )
    })
    .collect()
}

#[tokio::test]
async fn b16_exemplars_are_of_traces_that_are_there_and_no_more_than_asked_for() {
    let spans: Vec<Sent> = (1..=300)
        .map(|n| {
            span(n, if n % 2 == 0 { "even" } else { "odd" })
                .trace(n)
                .at(30_000 + n * 1_800, 10)
        })
        .collect();
    let house = House::of(&spans).await;
    for (state, door) in &house.doors {
        for (query, parameter, most, least) in [
            ("{ name = \"even\" } | rate()", None, 100, 20),
            ("{ name = \"even\" } | rate()", Some("0"), 100, 20),
            ("{ name = \"even\" } | rate()", Some("5"), 5, 1),
            ("{ name = \"even\" } | rate()", Some("10000"), 100, 20),
            (
                "{ name = \"even\" } | rate() with(exemplars=true)",
                None,
                100,
                20,
            ),
            (
                "{ name = \"even\" } | rate() with(exemplars=false)",
                Some("7"),
                0,
                0,
            ),
            (
                "{ name = \"even\" } | rate() with(exemplars=3)",
                Some("70"),
                3,
                1,
            ),
            (
                "{ name = \"even\" } | quantile_over_time(duration, .9)",
                None,
                100,
                20,
            ),
        ] {
            let more: Vec<(&str, &str)> = parameter.map(|n| ("exemplars", n)).into_iter().collect();
            let found = exemplars(door, query, &more).await;
            let n = found.len();
            assert!(
                (least..=most).contains(&n),
                "{state}: {query} {parameter:?}: {n}"
            );
            assert!(
                found.iter().all(|(id, _)| id % 2 == 0 && *id > 0),
                "{state}"
            );
            assert!(
                found.iter().all(|(_, value)| !value.is_null()),
                "{state}: {query}"
            );
        }
    }
}

#[tokio::test]
async fn b17_compare_tells_no_ids_and_no_places_in_the_tree() {
    let house = House::of(&[
        span(1, "a").status(2).attributes(&json!({"k": "v"})),
        span(2, "b").under(1),
    ])
    .await;
    let start = (NOW_S - 600).to_string();
    for (state, door) in &house.doors {
        let query = "{} | compare({ status = error })";
        let json = range(door, query, &[("start", &start), ("step", "600s")]).await;
        let all: Vec<String> = json["series"]
            .as_array()
            .unwrap()
            .iter()
            .map(labels)
            .collect();
        assert!(
            all.iter().any(|l| l.contains("span.k=v")),
            "{state}: {all:?}"
        );
        for hidden in ["nestedSet", "trace:id", "span:id", "parent"] {
            assert!(
                !all.iter().any(|l| l.contains(hidden)),
                "{state}: {hidden}: {all:?}"
            );
        }
    }
}

#[tokio::test]
async fn b18_compare_takes_one_to_a_thousand_values() {
    let door = Door::new().await;
    for (n, status) in [(0, 400), (1, 200), (1000, 200), (1001, 400)] {
        let query = format!("{{}} | compare({{ status = error }}, {n})");
        let answer = door.get("/api/metrics/query_range", &[("q", &query)]).await;
        assert_eq!(answer.status, status, "{n}: {}", answer.text());
    }
}

#[tokio::test]
async fn b19_times_that_are_none_are_refused() {
    let door = Door::new().await;
    for (name, value) in [
        ("step", "-1m"),
        ("start", "abc"),
        ("end", "abc"),
        ("step", "0"),
    ] {
        let params = [("q", "{} | rate()"), (name, value)];
        let answer = door.get("/api/metrics/query_range", &params).await;
        assert_eq!(answer.status, 400, "{name}={value}: {}", answer.text());
    }
}

#[tokio::test]
async fn b20_the_longest_range_is_measured_as_it_was_asked_for() {
    let door = Door::new().await;
    // A day, from an odd second on.
    for (more, status) in [(0, 200), (1, 400)] {
        let start = (NOW_S - 13 - 86_400 - more).to_string();
        let params = [
            ("q", "{} | rate()"),
            ("start", start.as_str()),
            ("end", &(NOW_S - 13).to_string()),
            ("step", "60s"),
        ];
        let answer = door.get("/api/metrics/query_range", &params).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
}

#[tokio::test]
async fn b21_what_is_kept_of_one_query_does_not_answer_another() {
    // Old enough for answers to be kept.
    let spans: Vec<Sent> = (1..=60)
        .map(|n| span(n, "a").trace(n).at(5 * 3_600_000 + n * 60_000, 10))
        .collect();
    let house = House::of(&spans).await;
    let (start, end) = (NOW_S - 7 * 3600, NOW_S - 4 * 3600);
    for (state, door) in &house.doors {
        for _ in 0..2 {
            for step in ["3h", "60s", "10m"] {
                let params = [
                    ("q", "{} | count_over_time()"),
                    ("start", &start.to_string()),
                    ("end", &end.to_string()),
                    ("step", step),
                ];
                let json = door.get("/api/metrics/query_range", &params).await.json();
                let samples = json["series"][0]["samples"].as_array().unwrap();
                let sum: f64 = samples
                    .iter()
                    .map(|s| s["value"].as_f64().unwrap_or(0.0))
                    .sum();
                assert_eq!(sum, 60.0, "{state}: {step}");
                let instant = door.get("/api/metrics/query", &params[..3]).await.json();
                assert_eq!(instant["series"][0]["value"], 60, "{state}");
                let rate = [("q", "{} | rate()"), params[1], params[2], params[3]];
                let json = door.get("/api/metrics/query_range", &rate).await.json();
                assert_ne!(json["series"][0]["samples"].as_array().unwrap(), samples);
            }
        }
    }
}

#[tokio::test]
async fn b22_fields_of_the_trace_and_of_events_are_counted_as_a_search_finds_them() {
    let house = House::of(&[
        span(1, "root").of("a"),
        span(2, "b").under(1).event("x", &json!({})),
        span(3, "c")
            .under(2)
            .attributes(&json!({"list": ["p", "q"]})),
        span(4, "d").under(2).event("y", &json!({})),
    ])
    .await;
    for (query, spans) in [
        ("{ trace:rootService = \"a\" }", &[1, 2, 3, 4][..]),
        ("{ span:childCount > 1 }", &[2]),
        ("{ span.list = \"q\" }", &[3]),
        (
            "{ trace:rootName = \"root\" && span:childCount = 0 }",
            &[3, 4],
        ),
    ] {
        assert_eq!(house.found(query).await, spans, "{query}");
        let counts = house.series(&format!("{query} | count_over_time()")).await;
        assert_eq!(
            counts.into_values().collect::<Vec<_>>(),
            [spans.len() as f64],
            "{query}"
        );
    }
    let groups = house.series("{} | count_over_time() by (event:name)").await;
    assert_eq!(
        groups.keys().collect::<Vec<_>>(),
        ["event:name=nil", "event:name=x", "event:name=y"]
    );
}

#[tokio::test]
async fn b23_a_span_at_the_beginning_is_outside_and_one_at_the_end_inside() {
    let (start_ns, end_ns) = ((NOW_S - 600) * SECOND, NOW_S * SECOND);
    let at = |id, start_ns| {
        let mut span = span(id, "a").trace(id);
        span.start_ns = start_ns;
        span.length_ns = 0;
        span
    };
    let house = House::of(&[
        at(1, start_ns),
        at(2, start_ns + 1),
        at(3, end_ns - 1),
        at(4, end_ns),
        at(5, end_ns + 1),
        at(6, start_ns - 1),
    ])
    .await;
    let counts = house.series("{} | count_over_time() by (trace:id)").await;
    let ids: Vec<u64> = counts
        .keys()
        .filter_map(|l| u64::from_str_radix(l.rsplit('=').next()?, 16).ok())
        .collect();
    assert_eq!(ids, [2, 3, 4]);
}

#[tokio::test]
async fn b24_durations_of_nothing_make_no_odd_buckets_and_no_odd_quantiles() {
    let spans: Vec<Sent> = (1..=4)
        .map(|n| span(n, "a").at(60_000, if n == 4 { 1000 } else { 0 }))
        .collect();
    let house = House::of(&spans).await;
    let buckets = house.series("{} | histogram_over_time(duration)").await;
    // What is below two nanoseconds is in none, as in Tempo.
    assert_eq!(
        buckets.into_iter().collect::<Vec<_>>(),
        [("__bucket=1.073741824".into(), 1.0)]
    );
    let quantiles = house
        .series("{} | quantile_over_time(duration, 0, .5, 1)")
        .await;
    assert!(quantiles.values().all(|v| v.is_finite()), "{quantiles:?}");
}

/// The queries of Grafana's Traces Drilldown, and of clients that send more than they must.
#[tokio::test]
async fn queries_of_traces_drilldown_are_answered() {
    let house = House::of(&[
        span(1, "GET /").with("kind", json!(2)).attributes(&json!({"db.system.name": "pg"})),
        span(2, "query").under(1).status(2).at(59_000, 200).event(
            "exception",
            &json!({"exception.message": "no", "exception.type": "E", "exception.stacktrace": "at a"}),
        ),
        span(3, "wait").under(1),
    ])
    .await;
    for (state, door) in &house.doors {
        for query in [
            "{} | rate()",
            "{nestedSetParent<0 && true} | rate() with(sample=true)",
            "{true && status=error} | rate() by(resource.service.name) with(sample=true)",
            "{true && resource.service.name != nil} | rate() by(resource.service.name) with(sample=true)",
            "{nestedSetParent<0} | histogram_over_time(duration) with(sample=true)",
            "{nestedSetParent<0} | quantile_over_time(duration, 0.9) with(sample=true)",
            "{kind=server} | quantile_over_time(duration, 0.9, 0.5) by(name)",
            "{kind=consumer || span.db.system.name!=\"\"} | rate()",
        ] {
            let json = range(
                door,
                query,
                &[("step", "1m"), ("limit", "100"), ("spss", "10")],
            )
            .await;
            assert!(
                !json["series"].as_array().unwrap().is_empty(),
                "{state}: {query}"
            );
        }
        let json = range(door, "{} | histogram_over_time(duration)", &[]).await;
        let bucket = &json["series"][0]["labels"][0];
        assert!(
            bucket["key"] == "__bucket" && bucket["value"]["doubleValue"].is_number(),
            "{bucket}"
        );
        let json = range(door, "{} | quantile_over_time(duration, 0.9)", &[]).await;
        let p = &json["series"][0]["labels"][0];
        assert!(p["key"] == "p" && p["value"]["doubleValue"] == 0.9, "{p}");
        // The step is the whole range.
        let json = range(
            door,
            "{} | compare({status = error}, 10)",
            &[("step", "600s")],
        )
        .await;
        let all: Vec<String> = json["series"]
            .as_array()
            .unwrap()
            .iter()
            .map(labels)
            .collect();
        for kind in ["baseline", "baseline_total", "selection", "selection_total"] {
            let wanted = format!("__meta_type={kind}");
            assert!(
                all.iter().any(|l| l.split(',').any(|l| l == wanted)),
                "{state}: {kind}: {all:?}"
            );
        }
        let (from, to) = ((NOW_S - 300) * SECOND, NOW_S * SECOND);
        let within = format!("{{}} | compare({{status = error}}, 10, {from}, {to})");
        range(door, &within, &[("step", "600s")]).await;
        let error = "{true && status=error}";
        let structure = format!(
            "({error} &>> {{status = error}}) || ({error}) | select(status, resource.service.name, name, nestedSetParent, nestedSetLeft, nestedSetRight)"
        );
        let server = "({true && kind=server} &>> {kind = server}) || ({true && kind=server}) | select(status, resource.service.name, name, nestedSetParent, nestedSetLeft, nestedSetRight)";
        for query in [structure.as_str(), server] {
            let json = search(door, query).await;
            let spans = json["traces"][0]["spanSets"][0]["spans"]
                .as_array()
                .unwrap();
            assert!(!spans.is_empty(), "{state}");
            for span in spans {
                let attributes = span["attributes"].as_array().unwrap();
                for key in ["nestedSetParent", "nestedSetLeft", "nestedSetRight"] {
                    let found = attributes.iter().find(|a| a["key"] == key);
                    let value =
                        &found.unwrap_or_else(|| panic!("{state}: no {key}: {span}"))["value"];
                    assert!(value["intValue"].is_string(), "{state}: {key}: {value}");
                }
                assert!(span["name"].is_string(), "{state}: {span}");
            }
        }
        let exceptions = format!(
            "{error} | select(resource.service.name, event.exception.message, event.exception.stacktrace, event.exception.type) with(most_recent=true)"
        );
        let json = search(door, &exceptions).await;
        let attributes = json["traces"][0]["spanSets"][0]["spans"][0]["attributes"]
            .as_array()
            .unwrap();
        let keys: Vec<&str> = attributes
            .iter()
            .map(|a| a["key"].as_str().unwrap())
            .collect();
        for key in [
            "exception.message",
            "exception.type",
            "exception.stacktrace",
            "service.name",
        ] {
            assert!(keys.contains(&key), "{state}: {keys:?}");
        }
        let durations =
            "{nestedSetParent<0 && duration > 10ms} | select(name, span.db.system.name)";
        assert_eq!(
            spans_of(&search(door, durations).await).get(&1),
            Some(&vec![1]),
            "{state}"
        );
    }
}

#[tokio::test]
async fn parameters_that_say_nothing_are_as_if_they_were_not_there() {
    let door = Door::new().await;
    door.push(&otlp(&many(30))).await;
    let (start, end) = ((NOW_S - 600) * SECOND, NOW_S * SECOND);
    let path = format!(
        "/api/metrics/query_range?q=%7B%7D%7Crate()&start={start}&end={end}&mode=&blockID=&startPage=0&pagesToSearch=0&version=&encoding=none&size=0&footerSize=0&exemplars=0&maxSeries=0"
    );
    let full = door.ask("GET", &path, &[], "").await;
    let (start_s, end_s) = ((NOW_S - 600).to_string(), NOW_S.to_string());
    let params = [
        ("q", "{}|rate()"),
        ("start", start_s.as_str()),
        ("end", end_s.as_str()),
    ];
    let plain = door.get("/api/metrics/query_range", &params).await;
    assert_eq!((full.status, full.json()), (200, plain.json()));
    let with = door.get("/api/search", &[("q", "{}"), ("spss", "0")]).await;
    let without = door.get("/api/search", &[("q", "{}")]).await;
    assert_eq!(with.json()["traces"], without.json()["traces"]);
}
