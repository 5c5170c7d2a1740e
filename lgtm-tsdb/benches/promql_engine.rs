//! What does a query over many series cost, from encoded chunks to the answer? Goals: 1 us per series and 6 ns per sample for
//! `sum by (rate)`, on one core.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::sync::Arc;

use async_trait::async_trait;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lgtm_core::Result;
use lgtm_core::exec::{Executor, ExecutorSettings};
use lgtm_core::model::{Labels, TenantId, TextSet};
use lgtm_tsdb::chunk::{SampleValue, encode_run};
use lgtm_tsdb::promql::{Engine, EngineSettings, Query};
use lgtm_tsdb::select::{Listed, ReadyBatches, Select, SelectRequest, SeriesBatches, SeriesChunks};

const SERIES: u64 = 10_000;
/// An hour at 30 seconds, and the five minutes before it.
const SAMPLES: i64 = 131;

/// Series with their chunks, the same for every query.
#[derive(Debug)]
struct Synthetic(Vec<Vec<SeriesChunks>>);

impl Synthetic {
    fn new() -> Self {
        let series: Vec<SeriesChunks> = (0..SERIES)
            .map(|i| {
                let labels = Labels::from_pairs([
                    ("__name__", "http_requests_total".to_owned()),
                    ("cluster", "eu-west-1".to_owned()),
                    ("instance", format!("10.0.{}.{}:9090", i / 250, i % 250)),
                    ("job", format!("job-{:02}", i % 20)),
                    ("method", "GET".to_owned()),
                    ("pod", format!("pod-7c9f8d6b5-{i:06}")),
                    ("status", "200".to_owned()),
                ]);
                let mut value = 0.0;
                let samples = (0..SAMPLES).map(|n| {
                    value += ((i + n as u64) % 17) as f64;
                    (n * 30_000, SampleValue::Float(value))
                });
                let chunks = encode_run(samples).into_iter();
                SeriesChunks {
                    labels: labels.expect("names differ"),
                    chunks: chunks.collect(),
                }
            })
            .collect();
        Self(series.chunks(512).map(<[SeriesChunks]>::to_vec).collect())
    }
}

#[async_trait]
impl Select for Synthetic {
    async fn select(&self, _: &TenantId, _: &SelectRequest) -> Result<Box<dyn SeriesBatches>> {
        Ok(Box::new(ReadyBatches::new(self.0.clone())))
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

fn queries(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let tenant = TenantId::anonymous();
    let source: Arc<dyn Select> = Arc::new(Synthetic::new());
    let mut group = c.benchmark_group("promql_engine");
    group.throughput(Throughput::Elements(SERIES));
    group.sample_size(20);
    for threads in [1, 2] {
        let settings = ExecutorSettings {
            threads,
            ..ExecutorSettings::default()
        };
        let executor = Executor::new(&settings, runtime.handle().clone()).expect("threads");
        let settings = EngineSettings {
            parallelism: threads,
            ..EngineSettings::default()
        };
        let engine = Engine::builder(Arc::clone(&source), executor)
            .settings(settings)
            .build()
            .expect("settings");
        for (name, query) in [
            (
                "sum_by_rate",
                "sum by (job) (rate(http_requests_total[5m]))",
            ),
            ("topk_rate", "topk(10, rate(http_requests_total[5m]))"),
            (
                "sum_max_over_time",
                "sum(max_over_time(http_requests_total[30m]))",
            ),
            ("instants", "http_requests_total"),
        ] {
            let (end_ms, parser) = ((SAMPLES - 1) * 30_000, &engine.settings().parser);
            let query = Query::range(query, 300_000..=end_ms, 30_000, parser).expect("a query");
            group.bench_function(format!("{name}/threads={threads}"), |b| {
                b.iter(|| {
                    let answer = engine.query(&tenant, &query);
                    runtime.block_on(answer).expect("an answer")
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, queries);
criterion_main!(benches);
