//! What the engine promises whatever the query: bounds, faults that stay alone, the same answer however it is computed.

#![allow(clippy::unwrap_used, reason = "what serves tests only is a test")]

mod memory;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::exec::{Executor, ExecutorSettings};
use lgtm_core::model::{Labels, Sample, TenantId};
use lgtm_core::units::ByteSize;
use lgtm_core::{ErrorKind, Result};
use lgtm_tsdb::chunk::{SampleValue, encode_run};
use lgtm_tsdb::promql::{
    Answer, Engine, EngineSettings, ParserOptions, QueryError, QueryOptions, QueryValue, RangeQuery,
};
use lgtm_tsdb::select::{Select, SelectRequest, SeriesBatches, SeriesChunk, SeriesChunks};
use memory::Memory;

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
                ((i + t) % 11 != 0).then_some(Sample { t_ms, value })
            });
            let run = samples.map(|s| (s.t_ms, SampleValue::Float(s.value)));
            let chunks = encode_run(run).into_iter().map(|c| SeriesChunk {
                min_ms: c.min_ms,
                max_ms: c.max_ms,
                encoding: c.encoding,
                data: c.data.into(),
            });
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
    Engine::new(source, executor, settings).unwrap()
}

async fn ask(engine: &Engine, query: &str) -> Result<Answer, QueryError> {
    let request = RangeQuery {
        query: query.to_owned(),
        start_ms: 300_000,
        end_ms: 3_600_000,
        step_ms: 30_000,
        options: QueryOptions::default(),
    };
    engine.range(&TenantId::anonymous(), &request).await
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
            .map(|p| (p.t_ms, format!("{:.9e}", p.value)));
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

    async fn series(&self, _: &TenantId, _: &SelectRequest) -> Result<Vec<Labels>> {
        Ok(Vec::new())
    }

    async fn label_names(&self, _: &TenantId, _: &SelectRequest) -> Result<BTreeSet<String>> {
        Ok(BTreeSet::new())
    }

    async fn label_values(
        &self,
        _: &TenantId,
        _: &str,
        _: &SelectRequest,
    ) -> Result<BTreeSet<String>> {
        Ok(BTreeSet::new())
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
