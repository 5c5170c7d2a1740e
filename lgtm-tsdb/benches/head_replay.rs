//! How fast does a log come back? Goal: 3 M samples/s a core. And what does an append cost without HTTP?
//!
//! A program of its own, as whole processes are measured: CPU seconds beside wall time. `cargo bench -p lgtm-tsdb --bench head_replay`.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

use std::sync::Arc;
use std::time::Instant;

use lgtm_core::model::{Labels, Sample, TenantId};
use lgtm_tsdb::Tsdb;
use object_store::memory::InMemory;

const SERIES: usize = 100_000;
const SCRAPES: i64 = 60;
const BATCH: usize = 2_000;

/// User and system time of the process, seconds.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks = |i: usize| {
        fields
            .get(i)
            .and_then(|f| f.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}

fn rss_anon_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    let kb = line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
    kb.unwrap_or(0.0) / 1000.0
}

fn measured<T>(what: &str, samples: f64, run: impl FnOnce() -> T) -> T {
    let (wall, cpu) = (Instant::now(), cpu_s());
    let out = run();
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_s() - cpu);
    println!(
        "{what}: {:.2} M samples/s of CPU, {:.2} M/s of wall time ({cpu:.2} CPU-s, {wall:.2} s), anonymous memory {:.0} MB",
        samples / 1e6 / cpu.max(0.01),
        samples / 1e6 / wall,
        rss_anon_mb()
    );
    out
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::args().any(|a| a == "--test") {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let dir = tempfile::tempdir()?;
    let tenant = TenantId::anonymous();
    let start_ms = 1_700_000_000_000;
    let labels: Vec<Labels> = (0..SERIES)
        .map(|i| {
            let (metric, pod) = (format!("metric_{}", i % 200), format!("pod-{:05}", i / 200));
            Labels::from_pairs([
                ("__name__", metric.as_str()),
                ("cluster", "eu-west-1"),
                ("job", "api"),
                ("namespace", "shop"),
                ("pod", &pod),
            ])
        })
        .collect::<Result<_, _>>()?;
    let samples = SERIES as f64 * SCRAPES as f64;
    let open = || {
        let store = Arc::new(InMemory::new());
        runtime.block_on(Tsdb::builder(dir.path(), store).open())
    };
    let db = open()?;
    measured("append", samples, || {
        for scrape in 0..SCRAPES {
            for (n, group) in labels.chunks(BATCH).enumerate() {
                let mut batch = db.batch();
                for (i, l) in group.iter().enumerate() {
                    let value = (scrape * (1 + (n * BATCH + i) as i64 % 17)) as f64;
                    let t_ms = start_ms + scrape * 15_000;
                    batch.push_series(
                        l.iter(),
                        &[Sample {
                            t_ms: t_ms.into(),
                            value,
                        }],
                    );
                }
                let report = runtime
                    .block_on(db.push(&tenant, batch))
                    .expect("a log that can be written");
                assert_eq!(report.rejected.total(), 0);
            }
        }
    });
    runtime.block_on(db.close())?;
    for _ in 0..3 {
        let db = measured("replay", samples, open)?;
        runtime.block_on(db.close())?;
    }
    Ok(())
}
