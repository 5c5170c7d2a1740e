//! What does the query-frontend cost, and save, against asking the engine directly? Everything runs on one thread, so that the time
//! is processor time. Goals: 10 us more for a small instant query, 10 % more for a cold range, a tenth for a warm week.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use criterion::{Criterion, criterion_group, criterion_main};
use lgtm_core::Result;
use lgtm_core::clock::ManualClock;
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, TenantId, TextSet};
use lgtm_tsdb::chunk::{Chunk, SampleValue, encode_run};
use lgtm_tsdb::components::clients::{Queries, StoreGatewayClient};
use lgtm_tsdb::components::{Querier, QueryFrontend};
use lgtm_tsdb::limits::Limits;
use lgtm_tsdb::promql::{ParserOptions, Query};
use lgtm_tsdb::select::{Listed, ReadyBatches, Select, SelectRequest, SeriesBatches, SeriesChunks};

const SERIES: u64 = 100;
const DAY_MS: i64 = 86_400_000;
const STEP_MS: i64 = 30_000;
/// The last sample: the end of a week, some time after the beginning of time.
const END_MS: i64 = 100 * DAY_MS;

/// A week of a hundred series at 30 seconds, with their chunks.
#[derive(Debug)]
struct Week(Vec<SeriesChunks>);

impl Week {
    fn new() -> Self {
        let series = (0..SERIES).map(|i| {
            let labels = Labels::from_pairs([
                ("__name__", "http_requests_total".to_owned()),
                ("instance", format!("10.0.0.{i}:9090")),
                ("job", format!("job-{:02}", i % 20)),
            ]);
            let mut value = 0.0;
            let times = (END_MS - 7 * DAY_MS..=END_MS).step_by(STEP_MS as usize);
            let samples = times.map(|t_ms| {
                value += ((i + t_ms as u64 / 30_000) % 17) as f64;
                (t_ms, SampleValue::Float(value))
            });
            let chunks = encode_run(samples).into_iter();
            SeriesChunks {
                labels: labels.expect("names differ"),
                chunks: chunks.collect(),
            }
        });
        Self(series.collect())
    }
}

impl StoreGatewayClient for Week {}

#[async_trait]
impl Select for Week {
    async fn select(&self, _: &TenantId, r: &SelectRequest) -> Result<Box<dyn SeriesBatches>> {
        let passes = |s: &&SeriesChunks| {
            let value = |name| s.labels.get(name).unwrap_or_default();
            r.takes(&s.labels) && r.matchers.iter().all(|m| m.matches(value(m.name())))
        };
        let inside = |c: &&Chunk| c.min_ms < r.range.max_ms && c.max_ms >= r.range.min_ms;
        let chosen = self.0.iter().filter(passes).map(|s| SeriesChunks {
            labels: s.labels.clone(),
            chunks: s.chunks.iter().filter(inside).cloned().collect(),
        });
        Ok(Box::new(ReadyBatches::new(vec![chosen.collect()])))
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

fn frontend(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let executor = Executor::inline(runtime.handle().clone());
    // An hour later: all of the week is old enough to be kept.
    let clock = Arc::new(ManualClock::at_ms(END_MS + 3_600_000));
    let limits = Overrides::fixed(Limits::default());
    let week = vec![Arc::new(Week::new()) as _];
    let querier = Querier::builder(Vec::new(), week, limits.clone(), executor);
    let querier = querier.build().expect("settings");
    let engine = querier.engine().clone();
    let frontend = QueryFrontend::builder(querier, engine.clone(), limits).clock(clock);
    let frontend = frontend.build().expect("settings");
    let (tenant, parser) = (TenantId::anonymous(), ParserOptions::default());
    let text = "sum(rate(http_requests_total{job=\"job-01\"}[5m]))";
    let instant = Query::instant(text, END_MS, &parser).expect("a query");
    let range = |days: i64, step_ms: i64| {
        let text = "sum by (job) (rate(http_requests_total[5m]))";
        let range_ms = END_MS - days * DAY_MS..=END_MS;
        Query::range(text, range_ms, step_ms, &parser).expect("a query")
    };
    let (day, week) = (range(1, 300_000), range(7, 1_800_000));
    // Each time a tenant that was never seen: nothing of it is in the cache, and its answer goes there.
    let seen = AtomicU64::new(0);
    let stranger = || {
        let n = seen.fetch_add(1, Ordering::Relaxed);
        TenantId::new(&format!("tenant-{n}")).expect("a good name")
    };

    let mut group = c.benchmark_group("instant");
    group.bench_function("engine", |b| {
        b.iter(|| {
            black_box(
                runtime
                    .block_on(engine.query(&tenant, &instant))
                    .expect("ok"),
            )
        })
    });
    group.bench_function("frontend", |b| {
        b.iter(|| {
            black_box(
                runtime
                    .block_on(frontend.query(&tenant, &instant))
                    .expect("ok"),
            )
        })
    });
    group.finish();
    for (name, query) in [("day", &day), ("week", &week)] {
        let mut group = c.benchmark_group(name);
        group.sample_size(20);
        group.bench_function("engine", |b| {
            b.iter(|| black_box(runtime.block_on(engine.query(&tenant, query)).expect("ok")))
        });
        group.bench_function("frontend, cold", |b| {
            b.iter(|| {
                let tenant = stranger();
                black_box(
                    runtime
                        .block_on(frontend.query(&tenant, query))
                        .expect("ok"),
                )
            })
        });
        group.bench_function("frontend, warm", |b| {
            b.iter(|| {
                black_box(
                    runtime
                        .block_on(frontend.query(&tenant, query))
                        .expect("ok"),
                )
            })
        });
        group.finish();
    }
}

criterion_group!(benches, frontend);
criterion_main!(benches);
