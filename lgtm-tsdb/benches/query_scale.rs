//! What does a query cost by the number of series it reads, from blocks on disk to the answer, and what does a second core bring?
//!
//! A program of its own: `cargo bench -p lgtm-tsdb --bench query_scale -- [SERIES]...` (default: 10000 100000; 1000000 wants some
//! minutes and 2 GB of disk). An hour of samples every 30 seconds, queried on blocks. Prints the table of docs/query_cost.md:
//! CPU and wall milliseconds a query, CPU nanoseconds a series, and the most memory the query added.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

use std::time::Instant;

use lgtm_core::exec::{Executor, ExecutorSettings};
use lgtm_core::model::{Labels, Sample, TenantId, TimestampMs};
use lgtm_core::storage::{BackendSettings, from_url};
use lgtm_tsdb::Tsdb;
use lgtm_tsdb::promql::{Engine, EngineSettings, Query};

const START_MS: i64 = 1_700_000_000_000;
const STEP_MS: i64 = 30_000;
/// An hour and the five minutes that the first step looks back at.
const SCRAPES: i64 = 131;
const RUNS: u32 = 5;

type Failure = Box<dyn std::error::Error>;

/// CPU seconds of all threads of the process, those that ended left out.
fn cpu_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let nanos = tasks.flatten().filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    nanos.sum::<u64>() as f64 / 1e9
}

fn status_mb(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(field));
    let kb = line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
    kb.unwrap_or(0.0) / 1000.0
}

fn labels(i: usize) -> lgtm_core::Result<Labels> {
    let name = match i % 10 {
        0 => "http_request_duration_seconds_bucket",
        _ => "http_requests_total",
    };
    let le = format!("{}", 1u64 << (i / 10 % 10));
    let bucket = [("le", le.as_str())];
    let extra = if i.is_multiple_of(10) {
        &bucket[..]
    } else {
        &[]
    };
    let shared = [
        ("__name__", name.to_owned()),
        ("cluster", "eu-west-1".to_owned()),
        (
            "instance",
            format!("10.0.{}.{}:9090", i / 2500, i / 10 % 250),
        ),
        ("job", format!("job-{:02}", i / 100 % 20)),
        ("method", ["GET", "PUT"][i / 10 % 2].to_owned()),
        ("pod", format!("pod-7c9f8d6b5-{i:07}")),
        ("status", "200".to_owned()),
    ];
    let extra = extra.iter().map(|(n, v)| (*n, (*v).to_owned()));
    Labels::from_pairs(shared.into_iter().chain(extra))
}

/// A store with `series` series in blocks.
async fn filled(dir: &std::path::Path, series: usize) -> Result<Tsdb, Failure> {
    let url = format!("file:{}", dir.join("bucket").display());
    let store = from_url(&url, &BackendSettings::default())?;
    let db = Tsdb::builder(dir.join("data"), store).open().await?;
    let labels: Vec<Labels> = (0..series).map(labels).collect::<Result<_, _>>()?;
    let tenant = TenantId::anonymous();
    for scrape in 0..SCRAPES {
        for some in labels.chunks(10_000) {
            let mut batch = db.batch();
            for (i, l) in some.iter().enumerate() {
                let sample = Sample {
                    t_ms: TimestampMs::new(START_MS + scrape * STEP_MS),
                    value: (scrape * (7 + i as i64 % 13)) as f64 + f64::from(i as u32 % 3),
                };
                batch.push_series(l.iter(), &[sample]);
            }
            let _ = db.push(&tenant, batch).await?;
        }
    }
    db.flush().await?;
    Ok(db)
}

const QUERIES: [(&str, &str, bool); 6] = [
    (
        "sum by rate, 1 h",
        "sum by (job) (rate(http_requests_total[5m]))",
        true,
    ),
    (
        "sum by rate, instant",
        "sum by (job) (rate(http_requests_total[5m]))",
        false,
    ),
    (
        "sum by, instant",
        "sum by (job) (http_requests_total)",
        false,
    ),
    (
        "topk of rate, 1 h",
        "topk(10, rate(http_requests_total[5m]))",
        true,
    ),
    (
        "histogram_quantile, 1 h",
        "histogram_quantile(0.99, sum by (le, job) (rate(http_request_duration_seconds_bucket[5m])))",
        true,
    ),
    ("vector, instant", "http_requests_total", false),
];

fn measure(
    runtime: &tokio::runtime::Runtime,
    engine: &Engine,
    query: &Query,
    series: usize,
    name: &str,
    threads: usize,
) -> Result<(), Failure> {
    let tenant = TenantId::anonymous();
    let ask = || runtime.block_on(engine.query(&tenant, query));
    ask()?;
    // 5 takes the high-water mark back to what is held now.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let (before_mb, cpu, begin) = (status_mb("VmRSS:"), cpu_seconds(), Instant::now());
    for _ in 0..RUNS {
        ask()?;
    }
    let cpu_ms = (cpu_seconds() - cpu) * 1000.0 / f64::from(RUNS);
    let wall_ms = begin.elapsed().as_secs_f64() * 1000.0 / f64::from(RUNS);
    let peak_mb = status_mb("VmHWM:") - before_mb;
    let per_series = cpu_ms * 1e6 / series as f64;
    println!(
        "| {series} | {name} | {threads} | {cpu_ms:.1} | {wall_ms:.1} | {per_series:.0} | {peak_mb:.1} |"
    );
    Ok(())
}

fn main() -> Result<(), Failure> {
    if std::env::args().any(|a| a == "--test") {
        return Ok(());
    }
    let wanted = std::env::args().skip(1).filter_map(|a| a.parse().ok());
    let mut sizes: Vec<usize> = wanted.collect();
    if sizes.is_empty() {
        sizes = vec![10_000, 100_000];
    }
    let only = std::env::var("ONLY").unwrap_or_default();
    println!("| series | query | threads | CPU ms | wall ms | CPU ns a series | peak MB |");
    println!("|---|---|---|---|---|---|---|");
    for series in sizes {
        let dir = tempfile::tempdir()?;
        let loader = tokio::runtime::Runtime::new()?;
        let db = loader.block_on(filled(dir.path(), series))?;
        for threads in [1, 2] {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(threads)
                .enable_all()
                .build()?;
            let pool = ExecutorSettings {
                threads,
                ..ExecutorSettings::default()
            };
            let executor = Executor::new(&pool, runtime.handle().clone())?;
            let settings = EngineSettings {
                parallelism: threads,
                max_memory: lgtm_core::units::ByteSize::mib(8 << 10),
                ..EngineSettings::default()
            };
            let engine = Engine::builder(db.source(), executor)
                .settings(settings)
                .build()?;
            for (name, text, is_range) in QUERIES.iter().filter(|q| q.0.contains(&only)) {
                let end_ms = START_MS + (SCRAPES - 1) * STEP_MS;
                let start_ms = if *is_range {
                    end_ms - 3_600_000
                } else {
                    end_ms
                };
                let query = Query::range(text, start_ms..=end_ms, STEP_MS, db.parser())?;
                measure(&runtime, &engine, &query, series, name, threads)?;
            }
        }
        loader.block_on(db.close())?;
    }
    Ok(())
}
