//! What the engine promises whatever the query: bounds, faults that stay alone, the same answer however it is computed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::memory::Memory;
use async_trait::async_trait;
use lgtm_core::exec::{Executor, ExecutorSettings};
use lgtm_core::model::{LabelBuilder, Labels, Sample, TenantId, TextSet};
use lgtm_core::units::ByteSize;
use lgtm_core::{ErrorKind, Result};
use lgtm_tsdb::chunk::{SampleValue, encode_run};
use lgtm_tsdb::promql::{
    Answer, Engine, EngineSettings, ParserOptions, Query, QueryError, QueryValue,
};
use lgtm_tsdb::select::{Listed, Select, SelectRequest, SeriesBatches, SeriesChunks};

/// Counters with resets, gaps and late starts: `n` series of an hour at 15 seconds.
fn series(n: u64) -> Vec<SeriesChunks> {
    let mut out: Vec<SeriesChunks> = (0..n)
        .map(|i| {
            let labels = Labels::from_pairs([
                ("__name__", "requests_total".to_owned()),
                ("job", format!("job-{}", i % 7)),
                ("pod", format!("{i:05}")),
            ]);
            let mut value = 0.0;
            let samples = (0..240u64).filter_map(|t| {
                value += ((i * 31 + t * 7) % 13) as f64 * 0.1;
                if (i + t) % 97 == 0 {
                    value = 0.0;
                }
                let t_ms = t as i64 * 15_000 + (i % 15) as i64 * 1000;
                ((i + t) % 11 != 0).then_some(Sample {
                    t_ms: t_ms.into(),
                    value,
                })
            });
            let run = samples.map(|s| (s.t_ms, SampleValue::Float(s.value)));
            let chunks = encode_run(run).into_iter();
            SeriesChunks {
                labels: labels.unwrap(),
                chunks: chunks.collect(),
            }
        })
        .collect();
    out.sort_by(|a, b| a.labels.cmp(&b.labels));
    out
}

fn engine(source: Arc<dyn Select>, settings: EngineSettings) -> Engine {
    let pool = ExecutorSettings {
        threads: 2,
        ..ExecutorSettings::default()
    };
    let executor = Executor::new(&pool, tokio::runtime::Handle::current()).unwrap();
    Engine::builder(source, executor)
        .settings(settings)
        .build()
        .unwrap()
}

async fn ask(engine: &Engine, query: &str) -> Result<Answer, QueryError> {
    let parser = &engine.settings().parser;
    let query = Query::range(query, 300_000..=3_600_000, 30_000, parser)?;
    engine.query(&TenantId::anonymous(), &query).await
}

/// Labels and points, floats rounded to nine digits.
fn shape(answer: &Answer) -> Vec<(String, Vec<(i64, String)>)> {
    let QueryValue::Matrix(series) = &answer.value else {
        panic!("{:?}", answer.value)
    };
    let points = |s: &lgtm_tsdb::promql::Series| {
        let points = s
            .floats
            .iter()
            .map(|p| (p.t_ms.get(), format!("{:.9e}", p.value)));
        points.collect()
    };
    series
        .iter()
        .map(|s| (s.labels.to_string(), points(s)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_does_not_depend_on_batches_and_lanes() {
    let queries = [
        "sum by (job) (rate(requests_total[5m]))",
        "avg(requests_total)",
        "stddev by (job) (requests_total)",
        "max(requests_total) - min(requests_total)",
        "count by (job) (requests_total > 5)",
        "quantile(0.9, increase(requests_total[2m]))",
        "topk(3, requests_total)",
        "bottomk by (job) (2, rate(requests_total[1m]))",
        "limitk(4, requests_total)",
        "count_values(\"v\", round(requests_total / 10))",
        "group(requests_total)",
        "requests_total{pod=~\"000..\"} * on (job) group_left () sum by (job) (requests_total)",
        "max_over_time(rate(requests_total[1m])[10m:1m])",
        "absent(requests_total{pod=\"none\"})",
        "sum_over_time(requests_total[20m])",
    ];
    let data = series(300);
    let build = |batch, parallelism| {
        let settings = EngineSettings {
            parallelism,
            parser: ParserOptions::everything(),
            ..EngineSettings::default()
        };
        engine(Arc::new(Memory::new(data.clone(), batch)), settings)
    };
    let plain = build(10_000, 1);
    let others = [build(1, 1), build(7, 2), build(70, 3), build(100, 8)];
    for query in queries {
        let wanted = ask(&plain, query).await.unwrap();
        assert!(!shape(&wanted).is_empty(), "{query}");
        for other in &others {
            let found = ask(other, query).await.unwrap();
            assert_eq!(shape(&found), shape(&wanted), "{query}");
            assert_eq!(
                found.stats.samples_read, wanted.stats.samples_read,
                "{query}"
            );
        }
    }
}

#[tokio::test]
async fn a_query_over_a_limit_is_told_which() {
    let source: Arc<dyn Select> = Arc::new(Memory::new(series(100), 16));
    let few = EngineSettings {
        max_samples: 1000,
        ..EngineSettings::default()
    };
    let few = engine(Arc::clone(&source), few);
    let error = ask(&few, "requests_total").await.unwrap_err();
    assert!(error.to_string().contains("max_samples"), "{error}");
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    // What streams by is not held.
    assert!(ask(&few, "sum(rate(requests_total[5m]))").await.is_ok());
    let small = EngineSettings {
        max_memory: ByteSize::kib(16),
        ..EngineSettings::default()
    };
    let small = engine(source, small);
    let error = ask(&small, "-requests_total").await.unwrap_err();
    assert!(error.to_string().contains("memory"), "{error}");
    assert!(ask(&small, "sum(requests_total)").await.is_ok());
}

#[tokio::test]
async fn labels_that_a_query_makes_count_before_they_are_made() {
    let settings = EngineSettings {
        max_memory: ByteSize::mib(4),
        ..EngineSettings::default()
    };
    let engine = engine(Arc::new(Memory::new(series(300), 64)), settings);
    let nested = |head: &str, inner: &str, tail: &str, levels: usize| {
        format!("{}{inner}{}", head.repeat(levels), tail.repeat(levels))
    };
    let one = "requests_total{pod=\"00001\"}";
    let joined = ",\"pod\",\",\",\"pod\",\"pod\")";
    let replaced = ",\"pod\",\"$1$1\",\"pod\",\"(.*)\")";
    let long = vec!["\"pod\""; 5000].join(",");
    for query in [
        nested("label_join(", one, joined, 40),
        nested("label_replace(", one, replaced, 40),
        format!("label_join(requests_total,\"x\",\",\",{long})"),
        format!(
            "{one} * on() group_left(x) label_join(vector(1),\"x\",\"{}\",\"a\",\"b\",\"c\",\"d\",\"e\")",
            "y".repeat(600_000)
        ),
    ] {
        let error = ask(&engine, &query).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        assert!(error.to_string().contains("querier.max_memory"), "{error}");
        assert_eq!(engine.memory().held_bytes(), 0, "{error}");
    }
    assert!(
        ask(&engine, &nested("label_join(", one, joined, 5))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn all_queries_together_hold_no_more_than_they_may() {
    let settings = EngineSettings {
        max_memory_total: ByteSize::mib(2),
        ..EngineSettings::default()
    };
    let engine = engine(Arc::new(Memory::new(series(300), 64)), settings);
    // An answer counts until it is printed and dropped.
    let kept = ask(&engine, "requests_total").await.unwrap();
    let held = engine.memory().held_bytes();
    assert_eq!(held, kept.memory.bytes());
    assert!(held > 300 * 80 * 16, "{held}");
    let error = ask(&engine, "requests_total + requests_total").await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.to_string().contains("querier.max_memory_total"),
        "{error}"
    );
    assert_eq!(engine.memory().held_bytes(), held);
    assert!(ask(&engine, "sum(requests_total)").await.is_ok());
    drop(kept);
    assert_eq!(engine.memory().held_bytes(), 0);
    assert!(ask(&engine, "requests_total").await.is_ok());
}

#[tokio::test]
async fn series_that_differ_in_their_name_alone_fall_together_where_it_is_dropped() {
    let mut data = series(40);
    let renamed = series(40).into_iter().map(|s| {
        let mut labels = LabelBuilder::from_labels(&s.labels);
        labels.set("__name__", "failures_total");
        SeriesChunks {
            labels: labels.build().unwrap(),
            ..s
        }
    });
    data.extend(renamed);
    data.sort_by(|a, b| a.labels.cmp(&b.labels));
    let engine = engine(Arc::new(Memory::new(data, 16)), EngineSettings::default());
    let both = r#"{__name__=~"requests_total|failures_total"}"#;
    for query in [
        format!("sum by (job) (rate({both}[5m]))"),
        format!("rate({both}[5m])"),
        format!("topk(1, increase({both}[5m]) > 1e9)"),
        format!("sum(max_over_time({both}[5m]))"),
        // At some steps both have a value, at others one.
        format!("sum by (job) (abs({both}))"),
        format!("count({both} * 2 > 1e9)"),
        format!("topk(0, -{both})"),
        format!("max(timestamp({both}))"),
    ] {
        let error = ask(&engine, &query).await.unwrap_err().to_string();
        let wanted = "vector cannot contain metrics with the same labelset";
        assert!(error.contains(wanted), "{query}: {error}");
    }
    for query in [
        format!("sum by (job) (last_over_time({both}[5m]))"),
        format!("sum(rate({both}[5m])) or sum({both})")
            .replace("|failures_total", "|nothing_total"),
        "sum(rate(requests_total[5m])) + sum(rate(failures_total[5m]))".to_owned(),
        r#"sum(rate({__name__=~"re.+"}[5m]))"#.to_owned(),
        r#"sum(abs({__name__=~"re.+"}))"#.to_owned(),
        format!("sum by (job) (abs({both} > 1e9))"),
        format!("absent_over_time({both}[5m])"),
    ] {
        assert!(ask(&engine, &query).await.is_ok(), "{query}");
    }
}

/// Remembers what it was asked for, and has nothing.
#[derive(Debug, Default)]
struct Asked(std::sync::Mutex<Vec<SelectRequest>>);

#[async_trait]
impl Select for Asked {
    async fn select(&self, _: &TenantId, r: &SelectRequest) -> Result<Box<dyn SeriesBatches>> {
        self.0.lock().unwrap().push(r.clone());
        Ok(Box::<lgtm_tsdb::select::ReadyBatches>::default())
    }

    async fn series(&self, _: &TenantId, _: &SelectRequest) -> Result<Listed<Vec<Labels>>> {
        Ok(Listed::default())
    }

    async fn label_names(&self, _: &TenantId, _: &SelectRequest) -> Result<Listed<TextSet>> {
        Ok(Listed::default())
    }

    async fn label_values(
        &self,
        _: &TenantId,
        _: &str,
        _: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        Ok(Listed::default())
    }
}

#[tokio::test]
async fn the_store_is_told_what_series_are_wanted_for() {
    let asked = Arc::new(Asked::default());
    let engine = engine(Arc::clone(&asked) as _, EngineSettings::default());
    let query = r#"sum by (job, pod) (rate(requests_total{pod="1"}[10m]))"#;
    ask(&engine, query).await.unwrap();
    let asked = asked.0.lock().unwrap();
    let [request] = asked.as_slice() else {
        panic!("{asked:?}")
    };
    let matchers: Vec<_> = request.matchers.iter().map(ToString::to_string).collect();
    assert_eq!(matchers, [r#"pod="1""#, r#"__name__="requests_total""#]);
    // From the first step's window to the last step, and no farther.
    assert_eq!(request.range.min_ms, 300_000 - 600_000 + 1);
    assert_eq!(request.range.max_ms, 3_600_001);
    let hints = &request.hints;
    assert_eq!((hints.step_ms, hints.range_ms), (30_000, 600_000));
    assert_eq!((hints.function.as_str(), hints.without), ("rate", false));
    assert_eq!(hints.grouping, ["job", "pod"]);
}

/// Panics, or never answers.
#[derive(Debug)]
struct Bad {
    panics: bool,
}

#[async_trait]
impl Select for Bad {
    async fn select(&self, _: &TenantId, _: &SelectRequest) -> Result<Box<dyn SeriesBatches>> {
        assert!(!self.panics, "a fault");
        std::future::pending().await
    }

    async fn series(&self, _: &TenantId, _: &SelectRequest) -> Result<Listed<Vec<Labels>>> {
        Ok(Listed::default())
    }

    async fn label_names(&self, _: &TenantId, _: &SelectRequest) -> Result<Listed<TextSet>> {
        Ok(Listed::default())
    }

    async fn label_values(
        &self,
        _: &TenantId,
        _: &str,
        _: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        Ok(Listed::default())
    }
}

#[tokio::test]
async fn a_panic_ends_one_query_and_is_counted() {
    let engine = engine(Arc::new(Bad { panics: true }), EngineSettings::default());
    let error = ask(&engine, "up + up").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(ask(&engine, "1 + 1").await.is_ok());
    let counts = engine.counts();
    assert_eq!(counts.panicked.load(Ordering::Relaxed), 1);
    assert_eq!(counts.failed.load(Ordering::Relaxed), 1);
    assert_eq!(counts.queries.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_query_that_takes_too_long_is_ended() {
    let settings = EngineSettings {
        timeout: Duration::from_secs(5),
        ..EngineSettings::default()
    };
    let engine = engine(Arc::new(Bad { panics: false }), settings);
    let error = ask(&engine, "sum(up)").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_broken_chunk_is_told_with_its_series() {
    let mut data = series(3);
    data[1].chunks[0].data = vec![0, 9, 1].into();
    let engine = engine(Arc::new(Memory::new(data, 2)), EngineSettings::default());
    let error = ask(&engine, "sum(rate(requests_total[5m]))")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("requests_total"), "{error}");
}

/// A worker of tokio has a stack of 2 MiB.
#[test]
fn the_highest_trees_are_evaluated_on_a_small_stack() {
    let options = ParserOptions::everything();
    let n = options.max_depth - 2;
    let x = "requests_total{pod='00001'}";
    let nested = |head: &str, inner: &str, tail: &str, levels: usize| {
        format!("{}{inner}{}", head.repeat(levels), tail.repeat(levels))
    };
    let queries = [
        nested("(", x, ")", n),
        nested("(", "1", ")", n),
        nested("-", x, "", n),
        nested("abs(", x, ")", n),
        nested("sum(", x, ")", n),
        nested("topk(1,", x, ")", n),
        nested("sort(", x, ")", n),
        nested("label_replace(", x, ",'a','b','c','d')", n),
        nested("absent(", x, ")", n),
        nested("", "1", "+1", n),
        nested("1^", "1", "", n),
        nested("", x, "+1", n),
        nested("1-", x, "", n),
        nested("", x, &format!("+{x}"), n),
        nested("", x, &format!(" or {x}"), n),
        nested(&format!("{x}^"), x, "", n),
        nested("scalar(vector(", "1", "))", n / 2),
        nested("vector(scalar(", x, "))", n / 2),
        nested("clamp(", x, ",-1,1e9)", n),
        nested("max_of(1,", "1", ")", n),
        nested("max_over_time(", x, "[1m:1m])", n / 2),
        nested("sum(", &format!("{x} @ 600"), ")", n),
        nested("histogram_quantile(0.5,", x, ")", n),
        nested("info(", x, ")", n),
    ];
    let run = move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(async {
            let settings = EngineSettings {
                parser: options,
                ..EngineSettings::default()
            };
            let source = Arc::new(Memory::new(series(3), 2));
            let executor = Executor::inline(tokio::runtime::Handle::current());
            let engine = Engine::builder(source, executor)
                .settings(settings)
                .build()
                .unwrap();
            for query in queries {
                let begins: String = query.chars().take(12).collect();
                let answer = ask(&engine, &query).await;
                assert!(answer.is_ok(), "{begins}…: {answer:?}");
            }
        });
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run);
    thread.unwrap().join().unwrap();
}

/// Steps cost memory before there is any value: what a query would need for them is asked for first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grid_that_memory_has_no_room_for_is_refused_before_it_is_made() {
    let settings = EngineSettings {
        parser: ParserOptions::everything(),
        max_memory: ByteSize::mib(64),
        ..EngineSettings::default()
    };
    let engine = engine(Arc::new(Memory::new(series(3), 2)), settings);
    for query in [
        "sum_over_time(vector(1)[100y:1ms])",
        "max_over_time(requests_total[100y:1ms])",
        "max_over_time((requests_total + scalar(requests_total) + time())[100y:1ms])",
        "absent_over_time(requests_total[100y:1ms])",
        "sum_over_time(absent(nothing)[100y:1ms])",
        "sum_over_time(hour()[100y:1ms])",
        "sum_over_time(max_over_time(vector(1)[1m:1m])[100y:1ms])",
        "sum_over_time(vector(1 < bool 2)[100y:1ms])",
        "vector(1)[100y:1ms]",
    ] {
        let asked = Query::instant(query, 3_600_000, &engine.settings().parser).unwrap();
        let answer = engine.query(&TenantId::anonymous(), &asked).await;
        let error = answer.expect_err(query).to_string();
        assert!(error.contains("querier.max_memory"), "{query}: {error}");
    }
    let asked = Query::range("vector(1)", 0..=i64::MAX, 1, &engine.settings().parser).unwrap();
    let answer = engine.query(&TenantId::anonymous(), &asked).await;
    let error = answer.unwrap_err().to_string();
    assert!(error.contains("querier.max_memory"), "{error}");
}

/// One series may have years of samples; they count while they are looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_samples_of_a_long_series_count_as_memory() {
    let run = (0..200_000).map(|i| (i * 15, SampleValue::Float(i as f64)));
    let chunks = encode_run(run).into_iter();
    let long = SeriesChunks {
        labels: Labels::from_pairs([("__name__", "long")]).unwrap(),
        chunks: chunks.collect(),
    };
    let settings = EngineSettings {
        max_memory: ByteSize::mib(1),
        ..EngineSettings::default()
    };
    let engine = engine(Arc::new(Memory::new(vec![long], 1)), settings);
    for query in [
        "count_over_time(long[1h])",
        "long[1h]",
        "max_over_time(long[1h]) > 5",
    ] {
        let asked = Query::instant(query, 3_000_000, &engine.settings().parser).unwrap();
        let answer = engine.query(&TenantId::anonymous(), &asked).await;
        let error = answer.expect_err(query).to_string();
        assert!(error.contains("querier.max_memory"), "{query}: {error}");
    }
}

/// Series that come and go by the step: each has a row of all steps in the answer, of which few have values.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_the_answer_count_as_memory() {
    let data: Vec<SeriesChunks> = (0..2000i64)
        .map(|i| {
            let run = [
                (i * 1000, SampleValue::Float(1.0)),
                (
                    i * 1000 + 999,
                    SampleValue::Float(lgtm_core::model::stale_nan()),
                ),
            ];
            let chunk = encode_run(run).remove(0);
            let labels =
                Labels::from_pairs([("__name__", "x".to_owned()), ("n", format!("{i:05}"))]);
            SeriesChunks {
                labels: labels.unwrap(),
                chunks: std::iter::once(chunk).collect(),
            }
        })
        .collect();
    let settings = EngineSettings {
        max_memory: ByteSize::mib(8),
        parser: ParserOptions::everything(),
        ..EngineSettings::default()
    };
    let engine = engine(Arc::new(Memory::new(data, 100)), settings);
    // 2,000 series of 2,000 steps are 32 MB.
    for query in ["topk(1, x)", "limitk(1, x)", "info(x)", "x @ 1999 + x"] {
        let asked = Query::range(query, 0..=1_999_000, 1000, &engine.settings().parser).unwrap();
        let answer = engine.query(&TenantId::anonymous(), &asked).await;
        let error = answer.expect_err(query).to_string();
        assert!(error.contains("querier.max_memory"), "{query}: {error}");
    }
}

/// What lanes notice of each other when they are joined is told in the same words as what one notices alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notes_do_not_depend_on_lanes() {
    let data: Vec<SeriesChunks> = [0, 1, 2, 3]
        .map(|n| {
            let custom = n % 2 == 1;
            let h = lgtm_core::model::FloatHistogram {
                schema: if custom { -53 } else { 0 },
                count: 1.0,
                positive_spans: vec![lgtm_core::model::BucketSpan {
                    offset: 0,
                    length: 1,
                }],
                positive_counts: vec![1.0],
                custom_values: if custom { vec![1.0] } else { Vec::new() },
                ..Default::default()
            };
            let chunk = encode_run([(600_000, SampleValue::FloatHistogram(Box::new(h)))]).remove(0);
            let labels = Labels::from_pairs([("__name__", "h"), ("n", &n.to_string())]);
            SeriesChunks {
                labels: labels.unwrap(),
                chunks: std::iter::once(chunk).collect(),
            }
        })
        .into();
    let mut warnings = BTreeSet::new();
    for (batch, parallelism) in [(4, 1), (2, 2), (1, 2), (1, 4)] {
        let settings = EngineSettings {
            parallelism,
            ..EngineSettings::default()
        };
        let engine = engine(Arc::new(Memory::new(data.clone(), batch)), settings);
        for query in ["sum(h)", "avg(h)"] {
            warnings.insert(ask(&engine, query).await.unwrap().warnings);
        }
    }
    let only = warnings.first().unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        only[0].contains("schemas for metric name \"h\""),
        "{only:?}"
    );
}
