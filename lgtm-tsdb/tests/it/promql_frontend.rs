//! A query through the query-frontend, cut by time and series and with its cache cold and warm, answers as the engine does alone.
//!
//! The seed is fixed, since sums that are added in another order differ in their last bits, which a comparison may blow up;
//! `PROPTEST_CASES` asks for more queries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::memory::Memory;
use crate::promql_grammar::{Dialect, query};
use lgtm_core::clock::ManualClock;
use lgtm_core::exec::{Executor, ExecutorSettings};
use lgtm_core::limits::Overrides;
use lgtm_core::model::{BucketSpan, FloatHistogram, Labels, TenantId, TimestampMs};
use lgtm_tsdb::chunk::{SampleValue, encode_run};
use lgtm_tsdb::components::clients::Queries;
use lgtm_tsdb::components::{Querier, QueryFrontend, QueryFrontendSettings};
use lgtm_tsdb::limits::Limits;
use lgtm_tsdb::promql::{
    Answer, AtModifier, Engine, Expr, Length, Query, QueryError, QueryValue, VectorSelector, parse,
};
use lgtm_tsdb::select::SeriesChunks;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

/// Where the data begins: not on a boundary of anything.
const START_MS: i64 = 1_700_000_007_000;
/// How long it is.
const LENGTH_MS: i64 = 3_600_000;

/// What to ask, and when, relative to the start of the data.
#[derive(Debug, Clone)]
struct Case {
    text: String,
    start_ms: i64,
    steps: i64,
    step_ms: i64,
    shift: i64,
}

fn sample(name: &str, n: u64, t: u64) -> Option<SampleValue> {
    // Gaps longer and shorter than the lookback, late starts.
    let noise = (n * 7919 + t * 104_729) % 1009;
    if noise.is_multiple_of(23) || (n % 5 == 1 && (60..90).contains(&t)) || (n % 7 == 3 && t < 100)
    {
        return None;
    }
    let counter = ((n % 4 + 1) * (t % 97)) as f64;
    Some(match name {
        "_x" if n % 3 == 2 => SampleValue::FloatHistogram(Box::new(FloatHistogram {
            count: counter + 2.0,
            sum: counter * 3.0,
            zero_count: 2.0,
            positive_spans: vec![BucketSpan {
                offset: 1,
                length: 1,
            }],
            positive_counts: vec![counter],
            ..FloatHistogram::default()
        })),
        "x" if noise == 500 => SampleValue::Float(f64::NAN),
        "x" if noise == 600 => SampleValue::Float(f64::NEG_INFINITY),
        "up" => SampleValue::Float(f64::from(u8::from(!noise.is_multiple_of(5)))),
        "x" | "a:b:c" => SampleValue::Float(noise as f64 - 400.0),
        _ => SampleValue::Float(counter),
    })
}

/// The grammar's metrics and labels: twelve series each, of floats that are whole numbers and of native histograms.
fn data() -> Vec<SeriesChunks> {
    let mut out = Vec::new();
    for name in ["up", "http_requests_total", "a:b:c", "_x", "x"] {
        for n in 0..12u64 {
            let labels = Labels::from_pairs([
                ("__name__", name.to_owned()),
                ("a", ["b", "x1", "7"][n as usize % 3].to_owned()),
                ("job", format!("x{}", n % 2)),
                ("le", format!("{}", n / 6 + 1)),
                ("n", n.to_string()),
            ]);
            let times = 0..LENGTH_MS as u64 / 15_000;
            let run = times.filter_map(|t| {
                let t_ms = START_MS + t as i64 * 15_000 + n as i64 * 37;
                Some((TimestampMs::new(t_ms), sample(name, n, t)?))
            });
            let chunks = encode_run(run).into_iter();
            out.push(SeriesChunks {
                labels: labels.unwrap(),
                chunks: chunks.collect(),
            });
        }
    }
    out.sort_by(|a, b| a.labels.cmp(&b.labels));
    out
}

/// The query with its times and lengths moved to where the data is; the grammar's reach over half a century.
fn moved(mut expr: Expr) -> Expr {
    let shorten = |length: &mut Length, least_ms: i64| {
        if let Length::Ms(ms) = length {
            *ms = *ms % 1_200_000 + least_ms;
        }
    };
    let moved_at = |at: &mut Option<AtModifier>| {
        if let Some(AtModifier::Time(ms)) = at {
            *ms = TimestampMs::new(START_MS + ms.get().rem_euclid(LENGTH_MS));
        }
    };
    let selector = |s: &mut VectorSelector| {
        shorten(&mut s.offset, 0);
        moved_at(&mut s.at);
    };
    expr.walk_mut(&mut |e| match e {
        Expr::Vector(s) => selector(s),
        Expr::Matrix(m) => {
            selector(&mut m.vector);
            shorten(&mut m.range, 1000);
        }
        Expr::Subquery(s) => {
            shorten(&mut s.range, 1000);
            shorten(&mut s.offset, 0);
            moved_at(&mut s.at);
            s.step.iter_mut().for_each(|l| shorten(l, 15_000));
        }
        _ => {}
    });
    expr
}

/// Queries that can be cut.
fn cuttable() -> BoxedStrategy<String> {
    let pick = |list: &'static [&'static str]| proptest::sample::select(list);
    let inner = pick(&[
        "x",
        "_x",
        "{job=\"x1\"}",
        "up > 0",
        "-x",
        "rate(http_requests_total[5m])",
        "increase(http_requests_total[90s] offset 2m)",
        "max_over_time(x[7m])",
        "max_over_time(rate(http_requests_total[2m])[10m:1m])",
        "http_requests_total @ start()",
        "rate(_x[4m])",
        "abs(a:b:c) * 2",
        "sum_over_time(up[20m])",
        "avg_over_time(up[17m] offset -1m)",
        "clamp_max(x, NaN)",
    ]);
    let op = pick(&["sum", "count", "min", "max", "avg", "group", "stddev"]);
    let by = pick(&["", "by (a)", "by (job, a)", "without (n, le)", "by (zone)"]);
    let outer = pick(&[
        "AGG",
        "sort_desc(AGG)",
        "AGG / 2 + AGG",
        "AGG + on (a) group_left () sum by (a) (up)",
        "topk(2, count by (a) (x))",
        "max_over_time((AGG)[10m:1m])",
        "scalar(AGG) + up",
        "absent(AGG)",
        "sum(AGG)",
        "histogram_quantile(0.5, sum by (le, job) (rate(http_requests_total[5m])))",
        "label_replace(AGG, \"b\", \"$1\", \"a\", \"(.*)\")",
        "avg_over_time(up[25m]) or AGG",
    ]);
    (outer, op, by, inner)
        .prop_map(|(outer, op, by, inner)| outer.replace("AGG", &format!("{op} {by} ({inner})")))
        .boxed()
}

fn case() -> BoxedStrategy<Case> {
    let text = prop_oneof![query(Dialect::Common), cuttable()];
    let times = (
        -400_000..LENGTH_MS,
        0i64..60,
        proptest::sample::select(&[1000i64, 15_000, 30_000, 37_000, 300_000, 1_000_000][..]),
        0i64..20,
    );
    (text, times)
        .prop_filter_map("parses", |(text, (start_ms, steps, step_ms, shift))| {
            Some(Case {
                text: moved(parse(&text).ok()?).to_string(),
                start_ms: START_MS + start_ms,
                steps,
                step_ms,
                shift,
            })
        })
        .boxed()
}

/// Points of a series by time.
type Points = BTreeMap<TimestampMs, SampleValue>;

fn points(value: &QueryValue) -> BTreeMap<String, Points> {
    let float = |v: f64| SampleValue::Float(v);
    match value {
        QueryValue::Vector(all) | QueryValue::Matrix(all) => all
            .iter()
            .map(|s| {
                let floats = s.floats.iter().map(|p| (p.t_ms, float(p.value)));
                let histograms = s.histograms.iter();
                let histograms = histograms.map(|p| {
                    (
                        p.t_ms,
                        SampleValue::FloatHistogram(Box::new(p.value.clone())),
                    )
                });
                (s.labels.to_string(), floats.chain(histograms).collect())
            })
            .collect(),
        QueryValue::Scalar(p) => [(String::new(), Points::from([(p.t_ms, float(p.value))]))].into(),
        QueryValue::Text(p) => [(p.value.clone(), Points::new())].into(),
    }
}

fn close(a: f64, b: f64) -> bool {
    a == b
        || (a.is_nan() && b.is_nan())
        || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
        || (a - b).abs() < 1e-9
}

fn same(a: &SampleValue, b: &SampleValue) -> bool {
    match (a, b) {
        (SampleValue::Float(a), SampleValue::Float(b)) => close(*a, *b),
        (SampleValue::FloatHistogram(a), SampleValue::FloatHistogram(b)) => {
            let counts =
                |h: &FloatHistogram| [h.positive_counts.clone(), h.negative_counts.clone()];
            let lists = counts(a).concat().into_iter().zip(counts(b).concat());
            a.schema == b.schema
                && close(a.count, b.count)
                && close(a.sum, b.sum)
                && a.positive_spans == b.positive_spans
                && a.positive_counts.len() == b.positive_counts.len()
                && lists.into_iter().all(|(a, b)| close(a, b))
        }
        _ => false,
    }
}

/// What tells two answers apart, if anything does.
fn difference(wanted: &Answer, got: &Answer) -> Option<String> {
    if std::mem::discriminant(&wanted.value) != std::mem::discriminant(&got.value) {
        return Some("another type".into());
    }
    let (w, g) = (points(&wanted.value), points(&got.value));
    if !w.keys().eq(g.keys()) {
        return Some(format!("series {:?} and {:?}", w.keys(), g.keys()));
    }
    for (labels, wanted) in &w {
        let got = &g[labels];
        if !wanted.keys().eq(got.keys()) {
            return Some(format!("times of {labels}: {wanted:?} and {got:?}"));
        }
        let other = wanted.iter().find(|(t, v)| !same(v, &got[*t]));
        if let Some((t, v)) = other {
            return Some(format!("{labels} at {t}: {v:?} and {:?}", got[t]));
        }
    }
    None
}

/// Warnings and infos without their places.
fn notes(answer: &Answer) -> BTreeSet<&str> {
    let all = answer.warnings.iter().chain(&answer.infos);
    all.map(|text| text.rsplit_once(" (").map_or(text.as_str(), |t| t.0))
        .collect()
}

/// The engine alone, and with all that stands before it.
struct House {
    engine: Engine,
    frontend: Arc<QueryFrontend>,
}

impl House {
    fn new() -> Self {
        let pool = ExecutorSettings {
            threads: 2,
            ..ExecutorSettings::default()
        };
        let executor = Executor::new(&pool, tokio::runtime::Handle::current()).unwrap();
        let settings = QueryFrontendSettings {
            split_queries_by_interval: Duration::from_secs(600),
            split_instant_queries_by_interval: Duration::from_secs(300),
            parallelize_shardable_queries: true,
            ..QueryFrontendSettings::default()
        };
        let limits = Limits {
            query_sharding_total_shards: 3,
            query_sharding_max_sharded_queries: 4096,
            ..Limits::default()
        };
        // The last minutes of the data may still change, and are not kept.
        let clock = Arc::new(ManualClock::at_ms(START_MS + LENGTH_MS));
        let limits = Overrides::fixed(limits);
        let memory = vec![Arc::new(Memory::new(data(), 7)) as _];
        let querier = Querier::builder(Vec::new(), memory, limits.clone(), executor);
        let querier = querier.build().unwrap();
        let engine = querier.engine().clone();
        let frontend = QueryFrontend::builder(querier, engine.clone(), limits)
            .settings(settings)
            .clock(clock);
        let frontend = frontend.build().unwrap();
        Self { engine, frontend }
    }

    async fn check(&self, text: &str, range: Option<(i64, i64, i64)>, t_ms: i64) {
        let tenant = TenantId::anonymous();
        let what = format!("{text} at {range:?} or {t_ms}");
        let parser = &self.engine.settings().parser;
        let query = match range {
            Some((start_ms, end_ms, step_ms)) => {
                Query::range(text, start_ms..=end_ms, step_ms, parser)
            }
            None => Query::instant(text, t_ms, parser),
        };
        // What does not parse reaches neither.
        let Ok(query) = query else { return };
        let wanted = self.engine.query(&tenant, &query).await;
        let got = self.frontend.query(&tenant, &query).await;
        let wanted = match wanted {
            Ok(answer) => answer,
            // A conflict between series that never meet in one piece is none there.
            Err(QueryError::Execution(_)) => return,
            Err(e) => {
                let other = got.map(|a| a.value).unwrap_err();
                assert_eq!(e.to_string(), other.to_string(), "{what}");
                return;
            }
        };
        let got = got.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(difference(&wanted, &got), None, "{what}");
        // None is lost. There may be more, and of two that say the same the other place: a part is asked even where the engine would
        // find that nothing is left to join it with.
        let (w, g) = (notes(&wanted), notes(&got));
        assert!(w.is_subset(&g), "{what}: {w:?} and {g:?}");
        if text.starts_with("sort") && range.is_none() {
            let (QueryValue::Vector(w), QueryValue::Vector(g)) = (&wanted.value, &got.value) else {
                panic!("{what}: no vector")
            };
            let values = |all: &[lgtm_tsdb::promql::Series]| -> Vec<f64> {
                let floats = all.iter().filter_map(|s| s.floats.first());
                floats.map(|p| p.value).collect()
            };
            let (w, g) = (values(w), values(g));
            assert!(
                w.iter().zip(&g).all(|(a, b)| close(*a, *b)),
                "{what}: order"
            );
        }
    }
}

#[test]
fn the_frontend_answers_as_the_engine_does() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let house = runtime.block_on(async { House::new() });
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let seed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, seed);
    let outcome = runner.run(&case(), |c| {
        let end_ms = c.start_ms + c.steps * c.step_ms;
        let shift_ms = c.shift * c.step_ms;
        let ranges = [
            (c.start_ms, end_ms, c.step_ms),
            (c.start_ms, end_ms, c.step_ms),
            (c.start_ms + shift_ms, end_ms + shift_ms, c.step_ms),
        ];
        runtime.block_on(async {
            house.check(&c.text, None, end_ms).await;
            for range in ranges {
                house.check(&c.text, Some(range), 0).await;
            }
        });
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
    let frontend = house.frontend.frontend().unwrap();
    let cache = frontend.results_cache_stats().unwrap();
    assert!(frontend.stats().sharded.load(Ordering::Relaxed) > 100);
    assert!(cache.hits.load(Ordering::Relaxed) > 100);
    assert_eq!(cache.bad.load(Ordering::Relaxed), 0);
}
