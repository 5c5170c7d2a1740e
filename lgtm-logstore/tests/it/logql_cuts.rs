//! A query through the query-frontend, cut by time and series and with its cache cold and warm, answers as the engine does alone.

use std::time::Duration;

use crate::frontend_house::{Entry, House, LENGTH, MINUTE, SECOND, START, in_range, memory, split};
use lgtm_core::Result;
use lgtm_logstore::components::QueryFrontendSettings;
use lgtm_logstore::limits::Limits;
use lgtm_logstore::logql::{
    Answer, Direction, ParserSettings, Query, QueryError, QueryRange, QueryValue,
};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

/// A query and when it is asked, relative to the start.
#[derive(Debug, Clone)]
struct Case {
    text: String,
    range: QueryRange,
    is_instant: bool,
}

impl Case {
    fn query(&self) -> Query {
        match self.is_instant {
            true => {
                let parser = ParserSettings::default();
                Query::instant(&self.text, self.range.end_ns, &parser).unwrap()
            }
            false => in_range(&self.text, self.range),
        }
    }
}

fn pick(list: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(list).prop_map(str::to_owned)
}

fn selector() -> impl Strategy<Value = String> {
    pick(&[
        r#"{app="a"}"#,
        r#"{app=~".+"}"#,
        r#"{app=~"a|b", level!="warn"}"#,
        r#"{pod="p3"}"#,
        r#"{app="none"}"#,
    ])
}

fn pipeline() -> impl Strategy<Value = String> {
    pick(&[
        "",
        r#" |= "user""#,
        r#" != "u1""#,
        " | logfmt",
        r#" | logfmt | __error__="" | user="u2""#,
        r#" | json | drop __error__, __error_details__"#,
        r#" | drop pod, level"#,
        r#" | logfmt | line_format "{{.user}}" | keep user, app"#,
        r#" | label_format pod="same""#,
        r#" | trace="t2""#,
    ])
}

fn log_text() -> impl Strategy<Value = String> {
    (selector(), pipeline()).prop_map(|(s, p)| format!("{s}{p}"))
}

fn window() -> impl Strategy<Value = String> {
    pick(&["[1m]", "[5m]", "[20m] offset 3m", "[2h]", "[7m] offset -2m"])
}

fn counted() -> impl Strategy<Value = String> {
    let op = pick(&[
        "count_over_time",
        "rate",
        "bytes_over_time",
        "bytes_rate",
        "absent_over_time",
    ]);
    (op, log_text(), window()).prop_map(|(op, log, window)| format!("{op}({log} {window})"))
}

fn unwrapped() -> impl Strategy<Value = String> {
    let op = pick(&[
        "sum_over_time(",
        "rate(",
        "min_over_time(",
        "max_over_time(",
        "avg_over_time(",
        "first_over_time(",
        "last_over_time(",
        "stddev_over_time(",
        "quantile_over_time(0.7, ",
        "rate_counter(",
    ]);
    let by = pick(&["", " by (user)", " without (pod, trace)"]);
    (op, selector(), window(), by).prop_map(|(op, selector, window, by)| {
        let may_group = !["sum_over_time(", "rate(", "rate_counter("].contains(&op.as_str());
        let by = if may_group { by } else { String::new() };
        format!(r#"{op}{selector} | logfmt | unwrap v | __error__="" {window}){by}"#)
    })
}

fn metric_text() -> impl Strategy<Value = String> {
    let range = prop_oneof![counted(), unwrapped()];
    let outer = pick(&[
        "X",
        "sum(X)",
        "sum by (app) (X)",
        "sum without (pod) (X)",
        "min by (level) (X)",
        "max(X)",
        "count(X)",
        "avg by (app) (X)",
        "stddev(X)",
        "topk(2, X)",
        "bottomk by (app) (1, X)",
        "sort_desc(sum by (level) (X))",
        "count(sum by (app) (X))",
        "X > 1",
        "sum(X) or vector(0)",
        "sum by (app) (X) / on (app) count by (app) (Y)",
        "X or Y",
        "X unless Y",
        r#"label_replace(sum by (app) (X), "to", "$1", "app", "(.*)")"#,
        r#"sum by (to) (label_replace(X, "to", "x", "app", "a"))"#,
        "1 + sum(X) * 2",
        "avg_over_time({app=\"a\"} | logfmt | unwrap v | __error__=\"\" [10m]) - sum(X)",
    ]);
    (outer, range.clone(), range).prop_map(|(outer, x, y)| outer.replace('X', &x).replace('Y', &y))
}

fn case() -> impl Strategy<Value = Case> {
    let times = (
        -20 * MINUTE..LENGTH,
        0..LENGTH,
        prop::sample::select(&[1000i64, 15_000, 61_000, 600_000, 4_000_000][..]),
    );
    let entries = (
        1usize..60,
        any::<bool>(),
        prop::sample::select(&[0, 0, 0, SECOND, 7 * MINUTE, 90 * MINUTE][..]),
    );
    let text = prop_oneof![log_text(), metric_text(), metric_text()];
    (text, times, entries, any::<bool>()).prop_map(
        |(text, (start, length, step_ms), (limit, forward, interval_ns), instant)| {
            let length = length.min(step_ms * 1_000_000 * 300);
            let range = QueryRange {
                start_ns: (START + start).into(),
                end_ns: (START + start + length).into(),
                step_ms,
                interval_ns,
                limit,
                direction: if forward {
                    Direction::Forward
                } else {
                    Direction::Backward
                },
            };
            let is_log = text.starts_with('{');
            Case {
                is_instant: instant && !is_log,
                text,
                range,
            }
        },
    )
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    // Many share a time; some lie on the hours and minutes.
    let time = prop_oneof![
        0..LENGTH,
        (0i64..180).prop_map(|n| n * MINUTE - START % MINUTE + MINUTE),
        (0i64..4).prop_map(|n| n * 50 * MINUTE),
    ];
    prop::collection::vec((0u8..9, time, 0u8..5, 0i64..50), 0..120)
}

/// Whether two numbers are one, but for the order in which floats were added.
fn same_value(a: f64, b: f64, is_sum: bool) -> bool {
    let close = is_sum && (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0);
    a.to_bits() == b.to_bits() || a == b || (a.is_nan() && b.is_nan()) || close
}

fn assert_same(got: Result<Answer, QueryError>, wanted: &Result<Answer, QueryError>, what: &str) {
    let (got, wanted) = match (got, wanted) {
        (Ok(got), Ok(wanted)) => (got, wanted),
        (Err(got), Err(wanted)) => {
            assert_eq!(got.kind(), wanted.kind(), "{what}: {got} / {wanted}");
            return;
        }
        (got, wanted) => panic!("{what}: {got:?}\nwanted {wanted:?}"),
    };
    assert_eq!(got.warnings, wanted.warnings, "{what}");
    let ((QueryValue::Matrix(a), QueryValue::Matrix(b))
    | (QueryValue::Vector(a), QueryValue::Vector(b))) = (&got.value, &wanted.value)
    else {
        assert_eq!(got.value, wanted.value, "{what}");
        return;
    };
    // Averages and deviations that are computed in one go may meet another batch.
    let is_sum = ["sum_over_time", "rate(", "avg", "stddev"]
        .iter()
        .any(|f| what.contains(f));
    let labels = |all: &[lgtm_logstore::logql::Series]| {
        let labels = all.iter().map(|s| s.labels.to_string());
        labels.collect::<Vec<_>>()
    };
    assert_eq!(labels(a), labels(b), "{what}");
    for (a, b) in a.iter().zip(b) {
        let times =
            |s: &lgtm_logstore::logql::Series| s.points.iter().map(|p| p.t_ms).collect::<Vec<_>>();
        assert_eq!(times(a), times(b), "{what} {}", a.labels);
        for (x, y) in a.points.iter().zip(&b.points) {
            let same = same_value(x.value, y.value, is_sum);
            assert!(same, "{what} {} {x:?} {y:?}", a.labels);
        }
    }
}

async fn check(entries: &[Entry], cases: &[Case]) {
    let shards = |n| QueryFrontendSettings {
        parallelize_shardable_queries: true,
        tsdb_shards: n,
        split_instant_metric_queries_by_interval: Duration::ZERO,
        max_concurrent_percent_per_tenant: 100,
        ..QueryFrontendSettings::default()
    };
    let pieces = QueryFrontendSettings {
        split_instant_metric_queries_by_interval: Duration::from_secs(210),
        max_concurrent_percent_per_tenant: 100,
        ..QueryFrontendSettings::default()
    };
    let whole = QueryFrontendSettings {
        enabled: false,
        ..QueryFrontendSettings::default()
    };
    let limits = |minutes| Limits {
        max_query_series: 0,
        ..split(minutes)
    };
    let plain = House::new(memory(entries), whole, limits(1));
    let ways = [
        (
            "pieces of a minute",
            House::new(memory(entries), pieces.clone(), limits(1)),
        ),
        (
            "pieces of an hour",
            House::new(memory(entries), pieces, limits(60)),
        ),
        (
            "3 shards",
            House::new(memory(entries), shards(3), limits(1000)),
        ),
        (
            "16 shards of pieces",
            House::new(memory(entries), shards(16), limits(30)),
        ),
    ];
    for case in cases {
        let query = case.query();
        let wanted = plain.ask(&query).await;
        for (way, house) in &ways {
            for round in ["cold", "warm"] {
                let what = format!("{way}, {round}: {case:?}");
                assert_same(house.ask(&query).await, &wanted, &what);
            }
        }
    }
}

/// The seed is fixed, since averages that are computed in other parts differ in their last bits, which a comparison may blow up;
/// `PROPTEST_CASES` asks for more.
#[test]
fn an_answer_is_the_same_however_it_is_cut() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let config = ProptestConfig {
        cases: match std::env::var_os("PROPTEST_CASES") {
            Some(_) => ProptestConfig::default().cases,
            None => 48,
        },
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let seed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, seed);
    let cases = (entries(), prop::collection::vec(case(), 1..6));
    let outcome = runner.run(&cases, |(entries, cases)| {
        runtime.block_on(check(&entries, &cases));
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
}
