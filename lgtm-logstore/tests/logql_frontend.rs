//! A query through the query-frontend, cut by time and series and with its cache cold and warm, answers as the engine does alone; and what
//! the frontend asks, remembers and refuses.

#![allow(clippy::unwrap_used, reason = "what serves tests only is a test")]

mod over_engine;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::clock::ManualClock;
use lgtm_core::exec::{Executor, ExecutorSettings};
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, Listed, TenantId, TextSet};
use lgtm_core::units::ByteSize;
use lgtm_core::{ErrorKind, Result};
use lgtm_logstore::components::clients::Queries;
use lgtm_logstore::components::{QueryFrontend, QueryFrontendSettings};
use lgtm_logstore::entry::{EntryBlockBuilder, SymbolListBuilder, SymbolPair};
use lgtm_logstore::limits::{Limits, RequestLimits};
use lgtm_logstore::logql::{
    Answer, Direction, Engine, EngineSettings, ParserSettings, Query, QueryError, QueryOptions,
    QueryRange, QueryValue,
};
use lgtm_logstore::select::{
    EntryBatch, EntryBatches, MemorySelect, Select, SelectEnd, SelectRequest,
};
use over_engine::OverEngine;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
/// Where the data begins: not on a boundary of anything.
const START: i64 = 1_700_000_007 * SECOND + 123_456_789;
/// How long it is.
const LENGTH: i64 = 3 * HOUR;

fn tenant() -> TenantId {
    TenantId::new("t").unwrap()
}

/// A stream, its time after the start, the kind of its line and a value in it.
type Entry = (u8, i64, u8, i64);

fn labels(stream: u8) -> Labels {
    let app = ["a", "b"][usize::from(stream % 2)];
    let level = ["info", "warn", "error"][usize::from(stream % 3)];
    Labels::from_pairs([
        ("app", app),
        ("level", level),
        ("pod", &format!("p{stream}")),
    ])
    .unwrap()
}

fn line(kind: u8, value: i64) -> String {
    match kind {
        0 => format!("v={value} user=u{} msg=\"took a while\"", value % 3),
        1 => format!(r#"{{"v":{value},"user":"u{}","level":"debug"}}"#, value % 3),
        2 => "no fields at all".to_owned(),
        3 => format!("v=oops{value} user=u1"),
        _ => String::new(),
    }
}

fn memory(entries: &[Entry]) -> MemorySelect {
    let mut streams: BTreeMap<u8, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        streams.entry(entry.0).or_default().push(entry);
    }
    let source = MemorySelect::default();
    for (stream, mut entries) in streams {
        entries.sort_by_key(|e| e.1);
        for part in entries.chunks(5) {
            let mut block = EntryBlockBuilder::copying(0);
            let mut symbols = SymbolListBuilder::default();
            for (_, t, kind, value) in part {
                block
                    .push_copy(START + t, line(*kind, *value).as_bytes())
                    .unwrap();
                if value % 2 == 0 {
                    let name = symbols.intern("trace").unwrap();
                    let value = symbols.intern(&format!("t{}", value % 4)).unwrap();
                    block.push_metadata(SymbolPair { name, value });
                }
            }
            let block = block.finish(Arc::new(symbols.finish()));
            source.push(&tenant(), &labels(stream), block).unwrap();
        }
    }
    source
}

fn engine(source: Arc<dyn Select>, clock: &Arc<ManualClock>, settings: EngineSettings) -> Engine {
    let runtime = tokio::runtime::Handle::current();
    let executor = Executor::new(&ExecutorSettings::default(), runtime).unwrap();
    Engine::new(source, executor, Arc::clone(clock) as _, settings).unwrap()
}

/// A frontend over an engine over a holder, and what it asked.
struct House {
    clock: Arc<ManualClock>,
    querier: Arc<OverEngine>,
    frontend: Arc<QueryFrontend>,
}

impl House {
    fn new(source: impl Select, settings: QueryFrontendSettings, limits: Limits) -> Self {
        let engine_settings = EngineSettings {
            max_series: 0,
            ..EngineSettings::default()
        };
        Self::with(source, settings, limits, engine_settings, 0)
    }

    fn with(
        source: impl Select,
        settings: QueryFrontendSettings,
        limits: Limits,
        engine_settings: EngineSettings,
        stream_bytes: u64,
    ) -> Self {
        // Hours after the data: all of it may be kept.
        let clock = Arc::new(ManualClock::at_ms((START + LENGTH + 5 * HOUR) / 1_000_000));
        let source: Arc<dyn Select> = Arc::new(source);
        let engine = engine(Arc::clone(&source), &clock, engine_settings);
        let querier = Arc::new(OverEngine {
            engine: engine.clone(),
            source,
            asked: parking_lot::Mutex::default(),
            stream_bytes,
        });
        let frontend =
            QueryFrontend::builder(Arc::clone(&querier) as _, engine, Overrides::fixed(limits))
                .settings(settings)
                .clock(Arc::clone(&clock) as _)
                .build()
                .unwrap();
        Self {
            clock,
            querier,
            frontend,
        }
    }

    async fn ask(&self, query: &Query) -> Result<Answer, QueryError> {
        self.frontend.query(&tenant(), query).await
    }
}

fn split(minutes: u64) -> Limits {
    Limits {
        split_queries_by_interval: Duration::from_secs(60 * minutes),
        ..Limits::default()
    }
}

fn over(text: &str, from: i64, to: i64) -> Query {
    in_range(text, QueryRange::new(START + from, START + to))
}

fn in_range(text: &str, range: QueryRange) -> Query {
    Query::range(text, range, &ParserSettings::default()).unwrap()
}

// One answer, however it is cut.

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
                start_ns: START + start,
                end_ns: START + start + length,
                step_ms,
                interval_ns,
                limit,
                direction: match forward {
                    true => Direction::Forward,
                    false => Direction::Backward,
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

// What is asked, remembered and refused.

/// Twenty pods, an entry of each a minute.
fn pods() -> Vec<Entry> {
    let minutes = 0..180;
    minutes
        .flat_map(|m| (0..20).map(move |pod| (pod, m * MINUTE + i64::from(pod), 0, m)))
        .collect()
}

fn series(answer: &Answer) -> usize {
    answer.value.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_series_limit_counts_for_the_whole_answer() {
    let limits = Limits {
        max_query_series: 15,
        ..split(60)
    };
    // Each piece of an hour has ten of the pods.
    let mut entries = pods();
    entries.retain(|e| (e.0 < 10) == (e.1 < 90 * MINUTE));
    for sharded in [false, true] {
        let settings = QueryFrontendSettings {
            parallelize_shardable_queries: sharded,
            ..QueryFrontendSettings::default()
        };
        let house = House::new(memory(&entries), settings, limits.clone());
        let by_pod = "sum by (pod) (count_over_time({app=~\".+\"}[1m]))";
        let query = over(by_pod, 0, LENGTH);
        let refused = house.ask(&query).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::LimitExceeded);
        let said = refused.to_string();
        assert!(
            said.starts_with("maximum number of series (15) reached for a single query; consider reducing query cardinality by "),
            "{said}"
        );
        // Inner results do not count: neither what is counted nor what the best are chosen of.
        for fine in [
            format!("count({by_pod})"),
            format!("topk(3, {by_pod})"),
            format!("sum by (app) ({by_pod})"),
        ] {
            let answer = house.ask(&over(&fine, 0, 60 * MINUTE)).await;
            assert!(series(&answer.unwrap()) <= 6, "{fine}");
        }
        // Three at each step, but others at each: together too many.
        let changing = Limits {
            max_query_series: 5,
            ..limits.clone()
        };
        let house_of_five =
            House::new(memory(&entries), QueryFrontendSettings::default(), changing);
        let best = over(&format!("topk(3, {by_pod})"), 0, LENGTH);
        assert!(house_of_five.ask(&best).await.is_err());
        // Logs Drilldown takes a part.
        let partial = query.with_options(QueryOptions {
            cuts_series: true,
            ..QueryOptions::default()
        });
        let answer = house.ask(&partial).await.unwrap();
        assert_eq!(series(&answer), 15);
        assert_eq!(
            answer.warnings,
            ["maximum number of series (15) reached for a single query; returning partial results"]
        );
        assert_eq!(house.frontend.counts().cut.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_before_comes_from_the_cache() {
    let house = House::new(memory(&pods()), QueryFrontendSettings::default(), split(60));
    let text = "sum by (app) (rate({app=~\".+\"}[5m]))";
    let first = house.ask(&over(text, 0, LENGTH)).await.unwrap();
    assert_eq!(house.querier.count(), 4);
    let spelled = "sum(\n rate({ app =~ `.+` }[300s])\n\n) by (app)";
    let second = house.ask(&over(spelled, 0, LENGTH)).await.unwrap();
    assert_eq!((house.querier.count(), &second.value), (0, &first.value));
    let no_cache = over(text, 0, LENGTH).with_options(QueryOptions {
        no_cache: true,
        ..QueryOptions::default()
    });
    house.ask(&no_cache).await.unwrap();
    assert_eq!(house.querier.count(), 4);
    // Another tenant's is asked for.
    let other = TenantId::new("other").unwrap();
    let answer = house.frontend.query(&other, &over(text, 0, LENGTH)).await;
    assert_eq!((house.querier.count(), series(&answer.unwrap())), (4, 0));
    // What may still change is not kept.
    let now_ns = (START + LENGTH + 5 * HOUR) / SECOND * SECOND;
    let fresh = in_range(text, QueryRange::new(now_ns - 5 * MINUTE, now_ns));
    for _ in 0..2 {
        house.ask(&fresh).await.unwrap();
        assert_eq!(house.querier.count(), 1);
    }
    house.clock.advance(Duration::from_secs(86_400));
    house.ask(&fresh).await.unwrap();
    house.querier.count();
    house.ask(&fresh).await.unwrap();
    assert_eq!(house.querier.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_queries_begin_at_their_end_and_stop_at_the_limit() {
    let house = House::new(memory(&pods()), QueryFrontendSettings::default(), split(10));
    let limit = |limit, direction| QueryRange {
        limit,
        direction,
        ..QueryRange::new(START, START + LENGTH)
    };
    for direction in [Direction::Backward, Direction::Forward] {
        let query = in_range(r#"{app=~".+"}"#, limit(30, direction));
        let answer = house.ask(&query).await.unwrap();
        assert_eq!(series(&answer), 30);
        let asked = house.querier.count();
        assert!(asked <= 2, "{asked} of 19 pieces were asked");
        let few = house.querier.engine.counts().lines.load(Ordering::Relaxed);
        assert!(few <= 1000, "{few} of 3600 lines were looked at");
    }
    // More than there are.
    let query = in_range(r#"{app=~".+"}"#, limit(4000, Direction::Backward));
    assert_eq!(series(&house.ask(&query).await.unwrap()), 3600);
    house.querier.count();
    // A needle that is nowhere: the second time nobody is asked.
    let nowhere = in_range(
        r#"{app=~".+"} |= "nowhere""#,
        limit(30, Direction::Backward),
    );
    for wanted in [19, 0] {
        let answer = house.ask(&nowhere).await.unwrap();
        assert_eq!((series(&answer), house.querier.count()), (0, wanted));
    }
    // From the other end and with another limit it is the same needle.
    let again = in_range(r#"{app=~".+"} |= "nowhere""#, limit(7, Direction::Forward));
    house.ask(&again).await.unwrap();
    assert_eq!(house.querier.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_decades_is_not_cut_into_millions() {
    let house = House::new(
        memory(&pods()),
        QueryFrontendSettings::default(),
        Limits {
            max_query_length: Duration::ZERO,
            ..split(60)
        },
    );
    let ever = QueryRange {
        step_ms: 86_400_000 * 365,
        ..QueryRange::new(0, START + LENGTH)
    };
    let answer = house
        .ask(&in_range(r#"{app="a"} |= "nowhere""#, ever))
        .await;
    assert_eq!(series(&answer.unwrap()), 0);
    let asked = house.querier.count();
    assert!(asked <= 2001, "{asked}");
    let years = house
        .ask(&in_range(r#"sum(count_over_time({app="a"}[1d]))"#, ever))
        .await;
    assert!(years.is_ok() && house.querier.count() < 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_the_tenant_and_of_the_request_hold() {
    let house = House::with(
        memory(&pods()),
        QueryFrontendSettings::default(),
        Limits {
            max_query_lookback: Duration::from_secs(6 * 3600),
            max_query_bytes_read: ByteSize::kib(20),
            ..split(60)
        },
        EngineSettings::default(),
        1500,
    );
    // 20 streams of 1500 bytes.
    let said = house.ask(&over(r#"{app=~".+"}"#, 2 * HOUR, LENGTH)).await;
    assert_eq!(
        said.unwrap_err().to_string(),
        "the query would read too many bytes (query: 29 KiB, limit: 20 KiB); consider adding more specific stream selectors or reduce the time range of the query"
    );
    assert!(
        house
            .ask(&over(r#"{app="a"}"#, 2 * HOUR, LENGTH))
            .await
            .is_ok()
    );
    let own = RequestLimits {
        required_labels: vec!["level".into()],
        max_entries_limit_per_query: Some(50),
        ..RequestLimits::default()
    };
    let tight = |text: &str| {
        over(text, 2 * HOUR, LENGTH).with_options(QueryOptions {
            limits: Some(Arc::new(own.clone())),
            ..QueryOptions::default()
        })
    };
    let said = house
        .ask(&tight(r#"sum(rate({app="a"}[1m]))"#))
        .await
        .unwrap_err();
    assert_eq!(
        said.to_string(),
        "stream selector is missing required matchers [level], labels present in the query were [app]"
    );
    let said = house.ask(&tight(r#"{app="a"}"#)).await.unwrap_err();
    assert_eq!(
        said.to_string(),
        "max entries limit per query exceeded, limit > max_entries_limit_per_query (100 > 50)"
    );
    // All of it lies too far back: empty, of the right kind, and nobody is asked.
    house.querier.count();
    for (query, wanted) in [
        (
            over(r#"{app="a"}"#, -HOUR, -HOUR / 2),
            QueryValue::Streams(Vec::new()),
        ),
        (
            over(r#"rate({app="a"}[1m])"#, -HOUR, -HOUR / 2),
            QueryValue::Matrix(Vec::new()),
        ),
        (
            Query::instant(r#"rate({app="a"}[1m])"#, 7, &ParserSettings::default()).unwrap(),
            QueryValue::Vector(Vec::new()),
        ),
    ] {
        house.clock.advance(Duration::from_secs(6 * 3600));
        let answer = house.ask(&query).await.unwrap();
        assert_eq!(answer.value, wanted);
    }
    assert_eq!(house.querier.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dashboard_waits_for_its_turn_and_is_not_refused() {
    // loki#5123: forty panels over six hours, each in pieces.
    let settings = QueryFrontendSettings {
        parallelize_shardable_queries: true,
        ..QueryFrontendSettings::default()
    };
    let house = House::new(memory(&pods()), settings, split(15));
    let panel = |n: i64| {
        let text = format!("sum by (level) (rate({{app=~\".+\"}} |= \"{n}\" [5m]))");
        over(&text, -3 * HOUR, LENGTH)
    };
    let panels: Vec<Query> = (0..40).map(panel).collect();
    let answers = panels.iter().map(|p| house.ask(p));
    for answer in futures::future::join_all(answers).await {
        answer.unwrap();
    }
}

/// Says at the end of each answer that something is missing.
#[derive(Debug)]
struct Damaged(MemorySelect);

#[derive(Debug)]
struct DamagedBatches(Box<dyn EntryBatches>);

#[async_trait]
impl EntryBatches for DamagedBatches {
    async fn next_batch(&mut self) -> Result<Option<EntryBatch>> {
        self.0.next_batch().await
    }

    fn end(&mut self) -> SelectEnd {
        SelectEnd {
            warnings: vec!["chunk x is damaged".to_owned()],
            ..self.0.end()
        }
    }
}

#[async_trait]
impl Select for Damaged {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn EntryBatches>> {
        let answer = self.0.select(tenant, request).await?;
        Ok(Box::new(DamagedBatches(answer)))
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        self.0.series(tenant, request).await
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        self.0.label_names(tenant, request).await
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        self.0.label_values(tenant, name, request).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_with_a_warning_is_never_kept() {
    let settings = QueryFrontendSettings {
        parallelize_shardable_queries: true,
        tsdb_shards: 3,
        ..QueryFrontendSettings::default()
    };
    let house = House::new(Damaged(memory(&pods())), settings, split(60));
    for text in ["sum(rate({app=\"a\"}[5m]))", "{app=\"a\"} |= \"nowhere\""] {
        let mut asked = Vec::new();
        for _ in 0..2 {
            let answer = house.ask(&over(text, 0, LENGTH)).await.unwrap();
            assert_eq!(answer.warnings, ["chunk x is damaged"], "{text}");
            asked.push(house.querier.count());
        }
        assert!(asked[0] >= 4 && asked[0] == asked[1], "{text}: {asked:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_keep_their_kind_through_the_pieces() {
    let house = House::new(memory(&pods()), QueryFrontendSettings::default(), split(60));
    let ask = async |text: &str| house.ask(&over(text, 0, LENGTH)).await.unwrap_err();
    assert!(matches!(
        ask(r#"sum(count_over_time({app="a"} | json [5m])) by (nothing, __error__x) or count_over_time({app="a"} | json [5m])"#).await,
        QueryError::Pipeline(_)
    ));
    assert!(matches!(
        ask(r#"{app="a"} | line_format "{{""#).await,
        QueryError::Parse(_)
    ));
    assert!(matches!(
        ask(r#"rate({app=~".+"}[5m]) / on (app) rate({app=~".+"}[5m])"#).await,
        QueryError::Execution(_)
    ));
    let steps = QueryRange {
        step_ms: 1,
        ..QueryRange::new(START, START + LENGTH)
    };
    let refused = house.ask(&in_range(r#"rate({app="a"}[5m])"#, steps)).await;
    assert!(matches!(refused, Err(QueryError::Limit(_))));
    let parser = ParserSettings::default();
    let approximate = Query::instant(r#"approx_topk(3, rate({app="a"}[5m]))"#, START, &parser);
    let refused = house.ask(&approximate.unwrap()).await;
    assert!(matches!(refused, Err(QueryError::Disabled(_))));
}
