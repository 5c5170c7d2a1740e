//! Public trouble reports about queries, each as a test: parsers and filters, metric queries, order, paging and limits. The numbers are those of
//! the list that they were collected in; `reports_push` has those about pushes.
//!
//! Each is asked of a whole store, through the query-frontend, which cuts queries by the hour and keeps answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::report_house::{HOUR, House, MINUTE, SECOND, T, tenant};
use lgtm_core::clock::SystemClock;
use lgtm_core::exec::{Executor, ExecutorSettings};
use lgtm_core::units::ByteSize;
use lgtm_logstore::components::clients::Queries;
use lgtm_logstore::logql::{
    Direction, Engine, EngineSettings, LabelEncoding, ParserSettings, QueryRange, parse,
};
use lgtm_logstore::prelude::*;

/// A house with these lines in one stream, a second apart.
async fn house_of(lines: &[&str]) -> House {
    let house = House::new(Limits::default()).await;
    house.put("app=a", lines).await;
    house
}

// Parsers, filters, language.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r001_arrays_are_no_labels_unless_they_are_asked_for() {
    let house = house_of(&[r#"{"tags":["a","b"],"n":1}"#]).await;
    assert_eq!(
        house.labels("{app=\"a\"} | json").await,
        [r#"{app="a", n="1"}"#]
    );
    assert_eq!(
        house.labels(r#"{app="a"} | json t="tags[0]""#).await,
        [r#"{app="a", t="a"}"#]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r002_an_object_can_be_asked_for_as_text() {
    let house = house_of(&[r#"{"job":{"id":1}}"#]).await;
    assert_eq!(
        house.labels(r#"{app="a"} | json j="job""#).await,
        [r#"{app="a", j="{\"id\":1}"}"#]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r003_arrays_and_odd_keys_are_no_errors() {
    let house = house_of(&[r#"{"@timestamp":"x","geo":[0,0],"up":["a"],"s":200}"#]).await;
    assert_eq!(
        house.labels("{app=\"a\"} | json").await,
        [r#"{_timestamp="x", app="a", s="200"}"#]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r004_the_number_of_entries_does_not_depend_on_a_parser() {
    let lines = [r#"{"n":1}"#, r#"{"n":2}"#, "plain"];
    let house = house_of(&lines).await;
    // The same again from the store and from the head.
    house.db.flush().await.unwrap();
    house.put("app=a", &lines).await;
    for query in ["{app=\"a\"}", "{app=\"a\"} | json", "{app=\"a\"} | logfmt"] {
        assert_eq!(house.lines(query).await.len(), 3, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r005_bad_bytes_in_a_value_are_replaced() {
    let house = House::new(Limits::default()).await;
    house.put_bytes("app=a", b"k=\"a\xffb\" z=1").await;
    let found = house.labels("{app=\"a\"} | logfmt").await;
    // Loki puts a blank there.
    assert_eq!(found, [r#"{app="a", k="a b", z="1"}"#]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r006_private_characters_are_kept() {
    let house = house_of(&[r#"{"msg":"lala \uf04a"}"#]).await;
    let answer = house.ask(r#"{app="a"} | json | msg="lala \uf04a""#).await;
    assert!(
        answer
            .to_json(LabelEncoding::Merged, None)
            .contains('\u{f04a}')
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r007_an_empty_line_passes_every_parser() {
    let house = house_of(&[""]).await;
    for parser in ["unpack", "logfmt", "pattern \"<a> <b>\""] {
        let found = house.labels(&format!("{{app=\"a\"}} | {parser}")).await;
        assert_eq!(found, [r#"{app="a"}"#], "{parser}");
    }
    // As in Loki, it is no JSON object.
    let query = r#"{app="a"} | json | __error__="JSONParserErr""#;
    assert_eq!(house.lines(query).await, [""]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r008_a_key_without_a_value_does_not_swallow_the_next() {
    let house = house_of(&["a=1 uname= t=2"]).await;
    assert_eq!(
        house.labels("{app=\"a\"} | logfmt").await,
        [r#"{a="1", app="a", t="2"}"#]
    );
    assert_eq!(
        house.labels("{app=\"a\"} | logfmt --keep-empty").await,
        [r#"{a="1", app="a", t="2", uname=""}"#]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r009_templates_of_labels_know_line_and_time() {
    let house = house_of(&["hello"]).await;
    let query =
        r#"{app="a"} | label_format l="{{ __line__ }}", t="{{ __timestamp__ | unixEpoch }}""#;
    let t = T / SECOND;
    assert_eq!(
        house.labels(query).await,
        [format!(r#"{{app="a", l="hello", t="{t}"}}"#)]
    );
}

#[test]
fn r010_words_of_the_language_are_names_or_errors_with_a_place() {
    assert!(parse(r#"{ip="1"}"#).is_ok());
    for query in [
        r#"sum_over_time({app="a"} | logfmt | unwrap offset [5m])"#,
        r#"sum by (json) (count_over_time({app="a"} | json [5m]))"#,
    ] {
        if let Err(e) = parse(query) {
            assert!(e.place.is_some(), "{query}: {e}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r011_a_blank_name_is_no_label() {
    let house = house_of(&[r#"{"":1,"a":2}"#]).await;
    let answer = house.ask("{app=\"a\"} | json").await;
    let json = answer.to_json(LabelEncoding::Categorized, None);
    assert!(json.contains(r#""parsed":{"a":"2"}"#), "{json}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r012_a_renamed_field_has_its_values_in_metric_queries_too() {
    let house = house_of(&["level=info", "level=warn", "level=warn"]).await;
    let query = r#"sum by (lvl) (count_over_time({app="a"} | logfmt lvl="level" [5m]))"#;
    assert_eq!(
        house.at(query, T + MINUTE).await,
        [
            (r#"{lvl="info"}"#.to_owned(), 1.0),
            (r#"{lvl="warn"}"#.to_owned(), 2.0)
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r013_a_field_filter_finds_what_a_line_filter_finds() {
    let line = |n: usize| {
        let event = ["access", "error"][n % 2];
        let fill: String = (0..200)
            .map(|k| format!(r#""f{k}": 0.1870674230012, "#))
            .collect();
        format!(r#"{{{fill}"event": "{event}", "n": {n}}}"#)
    };
    let lines: Vec<String> = (0..40).map(line).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let house = house_of(&lines).await;
    let by_field = house.lines(r#"{app="a"} | json | event="access""#).await;
    let by_text = house.lines(r#"{app="a"} |= "\"event\": \"access\"""#).await;
    assert_eq!(by_field.len(), 20);
    assert_eq!(by_field, by_text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r014_r015_what_is_no_number_is_named_and_can_be_left_out() {
    let house = house_of(&["v=10.0.0.1", "v=7"]).await;
    let failed = house.try_at(
        r#"sum_over_time({app="a"} | logfmt | unwrap v [5m])"#,
        T + MINUTE,
    );
    let said = failed.await.unwrap_err();
    assert_eq!(said.kind(), ErrorKind::InvalidInput);
    let said = said.to_string();
    assert!(
        said.contains("SampleExtractionErr") && said.contains("10.0.0.1"),
        "{said}"
    );
    let query = r#"sum(sum_over_time({app="a"} | logfmt | unwrap v | __error__="" [5m]))"#;
    assert_eq!(house.at(query, T + MINUTE).await, [("{}".to_owned(), 7.0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r016_an_offset_may_look_ahead() {
    // In Go's units; days are refused, as by Loki.
    let house = house_of(&["x"]).await;
    let query = r#"sum(count_over_time({app="a"}[5m] offset -24h))"#;
    let early = T + MINUTE - 24 * HOUR;
    assert_eq!(house.at(query, early).await, [("{}".to_owned(), 1.0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r017_ranges_are_of_nanoseconds() {
    let house = House::new(Limits::default()).await;
    let t = T + 1;
    house.put_at("app=a,pod=p", &[(t, "needle")]).await;
    for flush in [false, true] {
        if flush {
            house.db.flush().await.unwrap();
        }
        for (from, to, wanted) in [
            (t, t + 1, 1),
            (t - 2_000_000, t + 2_000_000, 1),
            (t + 1, t + 2_000_000, 0),
            (t - 1, t, 0),
        ] {
            let range = QueryRange::new(from, to);
            let found = house
                .lines_in(r#"{app="a", pod="p"} |= "needle""#, range)
                .await;
            assert_eq!(found.len(), wanted, "{from}..{to}");
        }
    }
}

#[test]
fn r018_a_selector_must_say_what_it_wants() {
    let said = parse(r#"{app!="a"}"#).unwrap_err().to_string();
    let wanted = "queries require at least one regexp or equality matcher";
    assert!(said.contains(wanted), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r019_a_line_that_is_not_packed_bears_an_error() {
    let house = house_of(&["plain", r#"{"_entry":"packed","x":"y"}"#]).await;
    let found = house.lines(r#"{app="a"} | unpack | __error__="""#).await;
    assert_eq!(found, ["packed"]);
    let failed = house
        .lines(r#"{app="a"} | unpack | __error__="JSONParserErr""#)
        .await;
    assert_eq!(failed, ["plain"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r021_labels_of_all_three_kinds_can_be_dropped() {
    let house = House::new(Limits::default()).await;
    let entry = LogEntry::new(T, "level=info x=1").with("trace", "t");
    house.append_all("app=a,pod=p", vec![entry]).await;
    assert_eq!(
        house
            .labels("{app=\"a\"} | logfmt | drop level, pod, trace, app=\"x\"")
            .await,
        [r#"{app="a", x="1"}"#]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r022_a_pattern_and_its_negation_complete_each_other() {
    let house = house_of(&["I one", "E two", "I", "xI three", "I four five"]).await;
    let (with, without) = (
        house.lines(r#"{app="a"} |> "I <_>""#).await,
        house.lines(r#"{app="a"} !> "I <_>""#).await,
    );
    assert_eq!(with.len() + without.len(), 5);
    assert!(with.iter().all(|l| !without.contains(l)));
    assert!(with.contains(&"I one".to_owned()) && without.contains(&"E two".to_owned()));
}

// Metric queries.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r023_nothing_is_an_empty_list_and_zero_can_be_had() {
    let house = house_of(&["x"]).await;
    let empty = house.ask(r#"count_over_time({app="none"}[5m])"#).await;
    assert_eq!(
        empty.to_json(LabelEncoding::Merged, None),
        r#"{"resultType":"matrix","result":[]}"#
    );
    let query = r#"sum(count_over_time({app="none"}[1m])) or vector(0)"#;
    let range = QueryRange {
        step_ms: 60_000,
        ..QueryRange::new(T, T + 5 * MINUTE)
    };
    let points = house.points(query, range).await;
    assert_eq!(points.len(), 1);
    assert!(points["{}"].len() >= 6 && points["{}"].iter().all(|p| p.1 == 0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r024_what_is_not_there_is_not_zero() {
    let house = house_of(&["x"]).await;
    let at = T + HOUR;
    let none = house.at(r#"count_over_time({app="a"}[5m]) == 0"#, at).await;
    assert!(none.is_empty());
    let absent = house.at(r#"absent_over_time({app="a"}[5m])"#, at).await;
    assert_eq!(absent, [(r#"{app="a"}"#.to_owned(), 1.0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r025_absence_does_not_flap_between_head_and_store() {
    let house = House::new(Limits::default()).await;
    for n in 0..3 {
        house.put_at("app=a", &[(T + n * 6 * HOUR, "x")]).await;
        house.db.flush().await.unwrap();
    }
    house.put_at("app=a", &[(T + 18 * HOUR, "x")]).await;
    let range = QueryRange {
        step_ms: 60_000,
        ..QueryRange::new(T, T + 23 * HOUR)
    };
    let points = house
        .points(r#"absent_over_time({app="a"}[4h])"#, range)
        .await;
    let absent: Vec<i64> = points[r#"{app="a"}"#].iter().map(|p| p.0).collect();
    let minute = T / MINUTE * 60_000;
    for n in 0..23 * 60 {
        let t_ms = minute + n * 60_000;
        let window = (t_ms * 1_000_000 - 4 * HOUR + 1)..=t_ms * 1_000_000;
        let has_entry = (0..4).any(|k| window.contains(&(T + k * 6 * HOUR)));
        assert_eq!(absent.contains(&t_ms), !has_entry, "minute {n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r026_what_is_absent_bears_the_labels_that_are_fixed() {
    let house = house_of(&["x"]).await;
    let query = r#"absent_over_time({job="a", host=~".+"}[5m])"#;
    assert_eq!(house.at(query, T).await, [(r#"{job="a"}"#.to_owned(), 1.0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r029_an_unwrapped_rate_is_a_sum_a_second() {
    let house = house_of(&["v=4", "v=3", "v=5", "v=2"]).await;
    let query = r#"sum(rate({app="a"} | logfmt | unwrap v [10s]))"#;
    assert_eq!(
        house.at(query, T + 5 * SECOND).await,
        [("{}".to_owned(), 1.4)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r030_a_counter_is_one_series_once_other_fields_are_dropped() {
    let house = House::new(Limits::default()).await;
    let values = [99_608, 101_824, 103_990, 106_200];
    let lines: Vec<(i64, String)> = (0..4)
        .map(|n| (T + n as i64 * MINUTE, format!("v={} time={n}", values[n])))
        .collect();
    let lines: Vec<(i64, &str)> = lines.iter().map(|(t, l)| (*t, l.as_str())).collect();
    house.put_at("app=a", &lines).await;
    let at = T + 3 * MINUTE;
    let one = house
        .at(
            r#"rate_counter({app="a"} | logfmt | drop time | unwrap v [2m])"#,
            at,
        )
        .await;
    assert_eq!(one.len(), 1);
    assert!((one[0].1 - 36.0).abs() < 2.0, "{one:?}");
    let many = house
        .at(r#"rate_counter({app="a"} | logfmt | unwrap v [2m])"#, at)
        .await;
    assert!(
        many.len() > 1 && many.iter().all(|s| s.1 == 0.0),
        "{many:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r031_a_graph_keeps_its_shape_when_its_window_moves() {
    let house = House::new(Limits::default()).await;
    let entries: Vec<(i64, &str)> = (0..400).map(|n| (T + n * 17 * SECOND, "x")).collect();
    house.put_at("app=a", &entries).await;
    let query = r#"sum(count_over_time({app="a"}[1m]))"#;
    let mut known: BTreeMap<i64, f64> = BTreeMap::new();
    for shift in 0..7 {
        let range = QueryRange {
            step_ms: 60_000,
            ..QueryRange::new(T + shift * SECOND, T + shift * SECOND + HOUR)
        };
        for (t_ms, value) in &house.points(query, range).await["{}"] {
            assert_eq!(t_ms % 60_000, 0, "steps are multiples of the step");
            assert_eq!(*known.entry(*t_ms).or_insert(*value), *value);
        }
    }
    assert!(known.len() >= 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r032_r035_r036_cut_and_whole_agree() {
    let house = House::sharded(Limits::default()).await;
    for pod in 0..12 {
        let line = |n: i64| (T + n * 7 * MINUTE, format!("v={} b=x{}", n + pod, n % 3));
        let lines: Vec<(i64, String)> = (0..24).map(line).collect();
        let lines: Vec<(i64, &str)> = lines.iter().map(|(t, l)| (*t, l.as_str())).collect();
        let stream = format!("app=a,pod=p{pod},zone=z{}", pod % 2);
        house.put_at(&stream, &lines).await;
    }
    let parser = ParserSettings::default();
    for text in [
        r#"sum by (to) (label_replace(rate({app="a"} | logfmt | unwrap v [3h]), "to", "$1", "pod", "(.).*"))"#,
        r#"label_replace(sum by (zone) (count_over_time({app="a"}[3h])), "to", "$1", "zone", "(.*)")"#,
        r#"max by (zone) (quantile_over_time(0.9, {app="a"} | logfmt | unwrap v [3h]) by (zone, b))"#,
        r#"count(sum by (x) (count_over_time({app="a"} | label_format x="c" [3h])))"#,
        r#"sort(sum by (zone, b) (sum_over_time({app="a"} | logfmt | unwrap v [2h30m])))"#,
    ] {
        let query = Query::instant(text, T + 3 * HOUR, &parser).unwrap();
        let engine = house.db.querier();
        let wanted = engine.query(&tenant(), &query).await.unwrap().value;
        let got = house.frontend.query(&tenant(), &query).await.unwrap().value;
        assert_eq!(got, wanted, "{text}");
        assert!(!wanted.is_empty(), "{text}");
    }
    let count = r#"count(sum by (x) (count_over_time({app="a"} | label_format x="c" [3h])))"#;
    assert_eq!(
        house.at(count, T + 3 * HOUR).await,
        [("{}".to_owned(), 1.0)]
    );
    let sharded = house.frontend.frontend().unwrap().stats();
    assert!(sharded.sharded.load(std::sync::atomic::Ordering::Relaxed) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r033_r044_many_series_end_in_a_limit_that_has_a_name() {
    let house = House::new(Limits::default()).await;
    let lines: Vec<String> = (0..5000).map(|n| format!("id={n} x=1")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    house.put("app=a", &lines).await;
    let runtime = tokio::runtime::Handle::current();
    let executor = Executor::new(&ExecutorSettings::default(), runtime).unwrap();
    let settings = EngineSettings {
        max_memory: ByteSize::kib(600),
        ..EngineSettings::default()
    };
    let clock = Arc::new(SystemClock::new());
    let engine = Engine::new(house.db.source(), executor, clock, settings).unwrap();
    let text = r#"max(max_over_time({app="a"} | logfmt | unwrap x [5m]))"#;
    let range = QueryRange::new(T, T + 2 * HOUR);
    let query = Query::range(text, range, &ParserSettings::default()).unwrap();
    let said = engine.query(&tenant(), &query).await.unwrap_err();
    assert_eq!(said.kind(), ErrorKind::LimitExceeded);
    assert!(said.to_string().contains("max_memory"), "{said}");
    assert_eq!(engine.memory().held_bytes(), 0);
    // Where it may, it ends.
    assert_eq!(house.at(text, T + MINUTE).await, [("{}".to_owned(), 1.0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r034_an_estimate_in_a_comparison_is_refused_in_words() {
    let house = house_of(&["x"]).await;
    let failed = house
        .try_at(r#"approx_topk(5, rate({app="a"}[5m])) > 3"#, T)
        .await;
    let said = failed.unwrap_err().to_string();
    assert!(said.contains("approx_topk is not enabled"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r037_r038_a_window_has_its_end_and_not_its_start() {
    let house = House::new(Limits::default()).await;
    let hour = T / HOUR * HOUR;
    let entries: Vec<(i64, &str)> = (0..=10).map(|n| (hour + n * MINUTE, "x")).collect();
    house.put_at("app=a", &entries).await;
    let range = QueryRange {
        step_ms: 300_000,
        ..QueryRange::new(hour + 5 * MINUTE, hour + 10 * MINUTE)
    };
    let buckets = house
        .points(r#"sum(count_over_time({app="a"}[5m]))"#, range)
        .await;
    let sum: f64 = buckets["{}"].iter().map(|p| p.1).sum();
    // Of (0, 10] minutes: the entry at 0 is outside.
    assert_eq!(sum, 10.0);
    let running = house
        .points(r#"sum(count_over_time({app="a"}[24h]))"#, range)
        .await;
    let counts: Vec<f64> = running["{}"].iter().map(|p| p.1).collect();
    assert_eq!(counts, [6.0, 11.0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r039_an_absent_label_is_one_group() {
    let house = house_of(&["ip=1 mbid=a", "ip=1", "ip=1", "ip=2 mbid=b"]).await;
    let query = r#"count by (ip) (sum by (ip, mbid) (count_over_time({app="a"} | logfmt [5m])))"#;
    assert_eq!(
        house.at(query, T + MINUTE).await,
        [
            (r#"{ip="1"}"#.to_owned(), 2.0),
            (r#"{ip="2"}"#.to_owned(), 1.0)
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r040_bytes_are_those_of_lines_and_metadata_stand_in_the_statistics() {
    let house = House::new(Limits::default()).await;
    let entry = LogEntry::new(T, "12345").with("attribute", "x".repeat(3000));
    house.append_all("app=a", vec![entry]).await;
    let query = r#"sum(bytes_over_time({app="a"}[5m]))"#;
    assert_eq!(house.at(query, T + MINUTE).await, [("{}".to_owned(), 5.0)]);
    let query = Query::range(
        r#"{app="a"}"#,
        QueryRange::new(T, T + MINUTE),
        &ParserSettings::default(),
    );
    let answer = house
        .frontend
        .query(&tenant(), &query.unwrap())
        .await
        .unwrap();
    assert!(answer.stats.fetched.head_metadata_bytes >= 3000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r041_a_table_has_what_the_last_step_of_the_graph_has() {
    let house = house_of(&["status=200", "status=500", "status=500"]).await;
    let query = r#"sum by (status) (count_over_time({app="a"} | logfmt [5m]))"#;
    let end = (T / MINUTE + 2) * MINUTE;
    let range = QueryRange {
        step_ms: 60_000,
        ..QueryRange::new(end - 10 * MINUTE, end)
    };
    let graph = house.points(query, range).await;
    let last = |points: &Vec<(i64, f64)>| *points.last().unwrap();
    let graph: Vec<(String, f64)> = graph
        .iter()
        .map(|(labels, points)| {
            assert_eq!(last(points).0, end / 1_000_000);
            (labels.clone(), last(points).1)
        })
        .collect();
    assert_eq!(house.at(query, end).await, graph);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r042_an_empty_window_has_no_point() {
    let house = House::new(Limits::default()).await;
    house.put_at("app=a", &[(T, "x"), (T + HOUR, "x")]).await;
    let range = QueryRange {
        step_ms: 60_000,
        ..QueryRange::new(T, T + HOUR)
    };
    let points = house
        .points(r#"sum(count_over_time({app="a"}[1m]))"#, range)
        .await;
    assert!(points["{}"].len() <= 3 && points["{}"].iter().all(|p| p.1 == 1.0));
}

// Limits, paging, splitting, order.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r045_all_entries_come_below_the_limit() {
    let house = House::new(Limits::default()).await;
    for pod in 0..3 {
        let entries: Vec<(i64, &str)> =
            (0..400).map(|n| (T + n * 20 * SECOND + pod, "x")).collect();
        house.put_at(&format!("app=a,pod=p{pod}"), &entries).await;
    }
    let range = QueryRange {
        limit: 5000,
        ..QueryRange::new(T, T + 3 * HOUR)
    };
    assert_eq!(house.lines_in("{app=\"a\"}", range).await.len(), 1200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r046_r049_pages_lose_no_entry_of_a_millisecond() {
    let house = House::new(Limits::default()).await;
    let lines: Vec<(i64, String)> = (0..10).map(|n| (T + n, format!("{n}"))).collect();
    let entries: Vec<(i64, &str)> = lines.iter().map(|(t, l)| (*t, l.as_str())).collect();
    house.put_at("app=a", &entries).await;
    let mut seen = Vec::new();
    let mut end = T + HOUR;
    loop {
        let range = QueryRange {
            limit: 3,
            ..QueryRange::new(T - HOUR, end)
        };
        let page = house.lines_in("{app=\"a\"}", range).await;
        let Some(last) = page.last() else { break };
        end = T + last.parse::<i64>().unwrap();
        seen.extend(page);
    }
    let wanted: Vec<String> = (0..10).rev().map(|n| n.to_string()).collect();
    assert_eq!(seen, wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r047_entries_of_one_time_stand_in_the_order_of_their_arrival() {
    let house = House::new(Limits::default()).await;
    let lines: Vec<String> = (0..100).map(|n| format!("{:02}", (n * 37) % 100)).collect();
    for line in &lines {
        house.put_at("app=a", &[(T, line)]).await;
    }
    for flush in [false, true] {
        if flush {
            house.db.flush().await.unwrap();
        }
        for _ in 0..3 {
            let range = |direction| QueryRange {
                direction,
                ..QueryRange::new(T - HOUR, T + HOUR)
            };
            let forward = house
                .lines_in("{app=\"a\"}", range(Direction::Forward))
                .await;
            assert_eq!(forward, lines);
            let mut backward = house
                .lines_in("{app=\"a\"}", range(Direction::Backward))
                .await;
            backward.reverse();
            assert_eq!(backward, lines);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r048_what_three_shippers_send_comes_once() {
    let house = House::new(Limits::default()).await;
    for _ in 0..3 {
        house
            .put_at("app=a", &[(T, "same"), (T + 1, "other")])
            .await;
    }
    assert_eq!(house.lines("{app=\"a\"}").await, ["other", "same"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r051_counts_neither_dip_nor_double_while_chunks_are_flushed() {
    let house = House::new(Limits::default()).await;
    let query = r#"sum(count_over_time({app="a"}[30m]))"#;
    let mut pushed = 0;
    for round in 0..6 {
        let lines: Vec<(i64, String)> = (0..50)
            .map(|n| (T + round * MINUTE + n, format!("{round} {n}")))
            .collect();
        let lines: Vec<(i64, &str)> = lines.iter().map(|(t, l)| (*t, l.as_str())).collect();
        house.put_at("app=a", &lines).await;
        pushed += 50;
        let count = async || {
            for _ in 0..10 {
                let found = house.at(query, T + 10 * MINUTE).await;
                assert_eq!(found, [("{}".to_owned(), f64::from(pushed))]);
            }
        };
        let (flushed, ()) = futures::future::join(house.db.flush(), count()).await;
        flushed.unwrap();
    }
}

#[test]
fn r052_an_aggregation_without_values_is_a_parse_error() {
    let said = parse(r#"sum_over_time({app="a",__stream_shard__=""}[5m])"#);
    let said = said.unwrap_err().to_string();
    assert!(
        said.contains("invalid aggregation sum_over_time without unwrap"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r055_a_volume_over_116_days_works() {
    let house = House::new(Limits {
        max_query_length: Duration::ZERO,
        ..Limits::default()
    })
    .await;
    for n in (0..29).rev() {
        house.put_at("app=a", &[(T - n * 96 * HOUR, "x")]).await;
    }
    let range = QueryRange {
        step_ms: 12 * 3_600_000,
        ..QueryRange::new(T - 116 * 24 * HOUR, T)
    };
    let query = r#"sum by (detected_level) (count_over_time({app="a"}[12h]))"#;
    let points = house.points(query, range).await;
    let sum: f64 = points.values().flatten().map(|p| p.1).sum();
    assert_eq!(sum, 29.0);
}
