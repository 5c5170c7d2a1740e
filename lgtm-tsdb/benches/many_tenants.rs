//! What do 10,000 small tenants cost? Goals: 300 MB of anonymous memory and 256 file handles, the flush of all of them included.
//!
//! A program of its own: `cargo bench -p lgtm-tsdb --bench many_tenants`. Fails when a goal is missed.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lgtm_core::model::{Labels, Sample, TenantId, TimestampMs};
use lgtm_core::storage::{BackendSettings, from_url};
use lgtm_tsdb::Tsdb;

const TENANTS: usize = 10_000;
const SERIES: usize = 10;
const SCRAPES: i64 = 5;
const MAX_MB: f64 = 300.0;
const MAX_FILES: usize = 256;

fn rss_anon_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    let kb = line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
    kb.unwrap_or(0.0) / 1000.0
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// The most seen while `run` runs.
fn watched<T>(run: impl FnOnce() -> T) -> (T, f64, usize) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut mb, mut files) = (0.0f64, 0);
            while !stop.load(Ordering::Relaxed) {
                (mb, files) = (mb.max(rss_anon_mb()), files.max(open_files()));
                std::thread::park_timeout(Duration::from_millis(5));
            }
            (mb, files)
        });
        let out = run();
        stop.store(true, Ordering::Relaxed);
        let (mb, files) = watch.join().expect("the watcher only counts");
        (out, mb, files)
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::args().any(|a| a == "--test") {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let dir = tempfile::tempdir()?;
    let url = format!("file:{}", dir.path().join("bucket").display());
    let store = from_url(&url, &BackendSettings::default())?;
    let db = runtime.block_on(Tsdb::builder(dir.path().join("data"), store).open())?;
    let tenants: Vec<TenantId> = (0..TENANTS)
        .map(|i| TenantId::new(&format!("tenant-{i}")))
        .collect::<Result<_, _>>()?;
    let labels: Vec<Labels> = (0..SERIES)
        .map(|i| {
            Labels::from_pairs([
                ("__name__", format!("metric_{i}").as_str()),
                ("instance", &format!("host-{i}")),
                ("job", "api"),
            ])
        })
        .collect::<Result<_, _>>()?;
    let begin = Instant::now();
    for scrape in 0..SCRAPES {
        let sample = Sample {
            t_ms: TimestampMs::new(1_700_000_000_000 + scrape * 15_000),
            value: scrape as f64,
        };
        for tenant in &tenants {
            let mut batch = db.batch();
            for l in &labels {
                batch.push_series(l.iter(), &[sample]);
            }
            let _ = runtime.block_on(db.push(tenant, batch))?;
        }
    }
    let (steady_mb, files) = (rss_anon_mb(), open_files());
    println!(
        "{TENANTS} tenants x {SERIES} series: {steady_mb:.0} MB anonymous memory, {files} files open, {:.1} s",
        begin.elapsed().as_secs_f64()
    );
    let begin = Instant::now();
    let (flushed, peak_mb, peak_files) = watched(|| runtime.block_on(db.flush()));
    println!(
        "flush of {} blocks: peak {peak_mb:.0} MB and {peak_files} files, {:.1} s",
        flushed?.len(),
        begin.elapsed().as_secs_f64()
    );
    assert!(steady_mb.max(peak_mb) <= MAX_MB && files.max(peak_files) <= MAX_FILES);
    runtime.block_on(db.close())?;
    Ok(())
}
