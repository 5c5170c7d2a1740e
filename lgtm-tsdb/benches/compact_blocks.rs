//! What does compacting blocks cost: samples a CPU second, and the most memory, by the number of series?
//!
//! A program of its own: `cargo bench -p lgtm-tsdb --bench compact_blocks -- [SERIES]...` (default: 20000; 1000000 wants some minutes and 3 GB of
//! disk). Twelve blocks of two hours with ten samples a series become one. `KEEP=folder` leaves the blocks there, as a folder that Prometheus takes for
//! its data. Goal: 1 GB at most for a million series.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use lgtm_core::exec::{CancelToken, Executor, ExecutorSettings};
use lgtm_core::index::SymbolTable;
use lgtm_core::model::TenantId;
use lgtm_core::storage::{BackendSettings, Bucket, DataKind, Layout, from_url};
use lgtm_tsdb::block::{
    BlockId, BlockMeta, BlockWriter, BlockWriterSettings, MetaInput, ThanosMeta,
};
use lgtm_tsdb::chunk::{Chunk, SampleValue, encode_run};
use lgtm_tsdb::compact::{BlockMerge, CompactionRules, MergeTask, plan};
use lgtm_tsdb::components::CompactorSettings;

const HOUR: i64 = 3_600_000;
const START: i64 = 1_704_067_200_000;
const BLOCKS: i64 = 12;
const SAMPLES: i64 = 10;

type Failure = Box<dyn std::error::Error>;

/// CPU seconds of the process, user and system.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn status_mb(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(field));
    let kb = line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
    kb.unwrap_or(0.0) / 1000.0
}

/// Names and values of a series: a few that many share, an instance of a thousand, and a pod that few have.
fn labels(i: usize) -> Vec<(&'static str, String)> {
    vec![
        ("__name__", format!("metric_{:03}_total", i % 400)),
        ("cluster", "eu-west-1".to_owned()),
        (
            "instance",
            format!("10.0.{}.{}:9100", i / 400 % 8, i / 3200 % 250),
        ),
        ("job", format!("job-{}", i % 20)),
        ("namespace", format!("namespace-{}", i % 50)),
        (
            "pod",
            format!("pod-{:08x}", (i / 40).wrapping_mul(2_654_435_761)),
        ),
        ("series", format!("{i:07}")),
    ]
}

/// The series as the index has them: the symbols, and the label sets by symbol, sorted.
type Roster = (SymbolTable, Vec<Vec<(u32, u32)>>);

fn roster(count: usize) -> Result<Roster, Failure> {
    let mut symbols: Vec<String> = (0..count)
        .flat_map(labels)
        .flat_map(|(n, v)| [n.to_owned(), v])
        .collect();
    symbols.push(String::new());
    symbols.sort_unstable();
    symbols.dedup();
    let table = SymbolTable::from_sorted(&symbols)?;
    let of = |text: &str| table.ordinal(text).unwrap_or_default();
    let mut series: Vec<Vec<(u32, u32)>> = (0..count)
        .map(|i| labels(i).iter().map(|(n, v)| (of(n), of(v))).collect())
        .collect();
    series.sort_unstable();
    Ok((table, series))
}

async fn write(
    bucket: &Bucket,
    tenant: &TenantId,
    n: i64,
    (symbols, series): &Roster,
) -> Result<BlockMeta, Failure> {
    let start = START + n * 2 * HOUR;
    let id = BlockId::new((start / HOUR * HOUR) as u64, [n as u8; 10]);
    let settings = BlockWriterSettings::default();
    let mut writer = BlockWriter::new(bucket.clone(), tenant, id, symbols.clone(), settings)?;
    for (i, labels) in series.iter().enumerate() {
        let samples = (0..SAMPLES).map(|s| {
            let t = start + s * 12 * 60_000 + (i % 60_000) as i64;
            (
                t,
                SampleValue::Float((n * SAMPLES + s) as f64 * (1 + i % 7) as f64),
            )
        });
        let chunks = encode_run(samples);
        let chunks: Vec<_> = chunks.iter().map(Chunk::borrowed).collect();
        writer.add_series(labels, &chunks)?;
        if writer.wants_flush() {
            writer.flush_pending().await?;
        }
    }
    let input = MetaInput {
        min_ms: start.into(),
        max_ms: (start + 2 * HOUR).into(),
        level: 1,
        sources: Vec::new(),
        parents: Vec::new(),
        hints: Vec::new(),
        thanos: Some(ThanosMeta::new("receive", BTreeMap::new())),
    };
    Ok(writer.finish(input).await?.ok_or("an empty block")?)
}

async fn measure(count: usize, folder: PathBuf) -> Result<(), Failure> {
    let url = format!("file:{}", folder.display());
    let layout = Layout::builder().store(from_url(&url, &BackendSettings::default())?);
    let bucket = layout.build()?.bucket(DataKind::MetricBlocks);
    let tenant = TenantId::new("bench")?;
    let mut metas = Vec::new();
    let roster = roster(count)?;
    for n in 0..BLOCKS {
        metas.push(Arc::new(write(&bucket, &tenant, n, &roster).await?));
    }
    drop(roster);
    let rules = CompactionRules {
        ranges_ms: vec![24 * HOUR],
        shard_count: 0,
        split_groups: 1,
    };
    let jobs = plan(&metas, &rules, (START + 48 * HOUR).into());
    let settings = CompactorSettings::default();
    let executor = Executor::new(
        &ExecutorSettings::default(),
        tokio::runtime::Handle::current(),
    )?;
    let merge = BlockMerge::new(bucket, executor, settings.merge_settings(Some(folder)));
    // Memory of the writing goes back, so that the most is that of the compaction.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let (cpu, began, before) = (cpu_seconds(), Instant::now(), status_mb("VmRSS:"));
    let task = MergeTask {
        tenant: &tenant,
        job: &jobs[0],
        shard_count: 0,
    };
    let new_id = || BlockId::new(START as u64, [99; 10]);
    let report = merge.run(task, &new_id, &CancelToken::new()).await;
    let report = report.map_err(|e| e.error)?;
    let (cpu, wall) = (cpu_seconds() - cpu, began.elapsed().as_secs_f64());
    let samples = report.blocks[0].stats.num_samples as f64;
    println!(
        "{count:>9} {:>12} {wall:>8.2} {cpu:>8.2} {:>16.0} {before:>11.0} {:>9.0}",
        samples,
        samples / cpu,
        status_mb("VmHWM:")
    );
    Ok(())
}

fn main() -> Result<(), Failure> {
    let counts: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let counts = if counts.is_empty() {
        vec![20_000]
    } else {
        counts
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    println!("   series      samples   wall s    CPU s  samples a CPU s  RSS before  peak RSS");
    for count in counts {
        let temporary = tempfile::tempdir()?;
        let folder = match std::env::var_os("KEEP") {
            Some(folder) => PathBuf::from(folder),
            None => temporary.path().to_owned(),
        };
        runtime.block_on(measure(count, folder))?;
    }
    Ok(())
}
