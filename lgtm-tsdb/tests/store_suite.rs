//! The metrics store in motion, at crash points and with faults of its object store: `lgtm_core::testing::store_suite`.

#![allow(clippy::unwrap_used, reason = "what serves tests only is a test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lgtm_core::disk::Disk;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, Matcher, Sample, TenantId, TimeRange};
use lgtm_core::random::RandomSource;
use lgtm_core::storage::{Backend, BackendKind, DataKind, Layout, RetrySettings, StorageSettings};
use lgtm_core::testing::store_suite::{
    Answer, Entry, Ground, StoreOpener, StoreUnderTest, SuiteSettings, Turns, Violation,
    crash_points, in_motion, store_away_at_start, store_faults,
};
use lgtm_core::testing::{CrashDisk, Dice, ForgetfulDisk, Forgets, StoreFault};
use lgtm_core::units::ByteSize;
use lgtm_core::wal::{SyncPolicy, WalSettings};
use lgtm_core::{Error, Result};
use lgtm_tsdb::bucket::{BucketBlocks, BucketSettings};
use lgtm_tsdb::chunk::SampleValue;
use lgtm_tsdb::components::clients::IngesterClient;
use lgtm_tsdb::components::{
    BlockRange, Compactor, CompactorSettings, Holders, Ingester, IngesterSettings,
};
use lgtm_tsdb::head::{FlushScope, HeadSettings};
use lgtm_tsdb::limits::Limits;
use lgtm_tsdb::select::{Select, SelectRequest, samples};
use lgtm_tsdb::wire::WriteBatch;
use tokio::runtime::Handle;

/// Tries of a request in all; a longer burst of faults is seen by the store.
const ATTEMPTS: u32 = 2;

/// A fault that the store has had, put back around it: the suite must find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OldFault {
    /// A checkpoint refers to chunks that are not in their file yet.
    ChunksHeldBack,
    /// A checkpoint refers to chunks that a power loss takes.
    ChunksUnsynced,
    /// The list of blocks is taken before the heads are asked: what a flush moves in between is in neither.
    BlocksFirst,
    /// What could not be read is passed over in silence.
    NoWarnings,
    /// A file of the log is gone.
    LogFileGone,
}

/// Opens the metrics store with settings that make everything frequent.
struct Opener {
    sync: SyncPolicy,
    fault: Option<OldFault>,
}

impl Opener {
    fn new(sync: SyncPolicy) -> Self {
        Self { sync, fault: None }
    }

    fn has(&self, fault: OldFault) -> bool {
        self.fault == Some(fault)
    }

    /// The disk as the store sees it.
    fn disk(&self, disk: CrashDisk) -> Arc<dyn Disk> {
        if self.has(OldFault::LogFileGone) {
            let files = disk.files().into_iter();
            let segments = files.filter(|f| f.starts_with("wal/0"));
            // The last one has just been begun, and holds nothing.
            if let Some(newest) = segments.rev().nth(1) {
                disk.remove(&newest).unwrap();
            }
        }
        let forgets = match self.fault {
            Some(OldFault::ChunksHeldBack) => Forgets::LastAppend,
            Some(OldFault::ChunksUnsynced) => Forgets::Syncs,
            _ => return Arc::new(disk),
        };
        Arc::new(ForgetfulDisk::new(disk, "chunks_head", forgets))
    }

    /// Ranges of a minute, segments of a few pushes, chunk buffers of a page, a checkpoint in every round of maintenance.
    fn settings(&self) -> IngesterSettings {
        let head = HeadSettings {
            block_range: Duration::from_secs(60),
            chunk_file_size: ByteSize::mib(1),
            chunk_write_buffer: ByteSize::kib(4),
            wal: WalSettings {
                segment_size: ByteSize::kib(2),
                sync: self.sync,
                retry_interval: Duration::from_millis(1),
                ..WalSettings::default()
            },
            checkpoint_after: ByteSize::bytes(1),
            series_idle_timeout: Duration::from_secs(60),
            head_idle_timeout: Duration::from_secs(120),
            ..HeadSettings::default()
        };
        IngesterSettings {
            head,
            ..IngesterSettings::default()
        }
    }
}

/// Ingester, blocks and compactor, wired as a host does it.
struct Store {
    ingester: Arc<Ingester>,
    blocks: Arc<BucketBlocks>,
    holders: Holders,
    hides_warnings: bool,
    compactor: Arc<Compactor>,
    /// Questions so far.
    asked: AtomicU64,
}

fn bucket(ground: &Ground) -> Result<lgtm_core::storage::Bucket> {
    let settings = StorageSettings {
        retry: RetrySettings {
            max_attempts: ATTEMPTS,
            initial_backoff: Duration::from_millis(1),
            max_backoff: Duration::from_millis(1),
            ..RetrySettings::default()
        },
        ..StorageSettings::default()
    };
    let objects = Arc::new(ground.objects.clone());
    let layout = Layout::builder()
        .store(Backend::new(objects, BackendKind::Memory))
        .settings(settings)
        .clock(ground.clock.clone())
        .jitter_seed(ground.seed);
    Ok(layout.build()?.bucket(DataKind::MetricBlocks))
}

/// Rounds of housekeeping by whose end blocks were compacted.
static COMPACTED: AtomicU64 = AtomicU64::new(0);

/// Ranges of one, two and six minutes; what is compacted is deleted a few pushes later.
fn compaction() -> CompactorSettings {
    CompactorSettings {
        block_ranges: [60, 120, 360]
            .map(|s| BlockRange(Duration::from_secs(s)))
            .into(),
        deletion_delay: Duration::from_secs(120),
        first_level_compaction_wait_period: Duration::ZERO,
        ..CompactorSettings::default()
    }
}

fn random(seed: u64) -> RandomSource {
    let dice = std::sync::Mutex::new(Dice::seeded(seed));
    Arc::new(move |out: &mut [u8]| {
        for byte in out {
            *byte = dice.lock().unwrap().next_u64() as u8;
        }
    })
}

impl StoreOpener for Opener {
    type Store = Store;

    async fn open(&self, ground: &Ground) -> Result<Store> {
        let bucket = bucket(ground)?;
        let limits = Overrides::fixed(Limits {
            out_of_order_time_window: Duration::from_secs(3600),
            ..Limits::default()
        });
        let settings = BucketSettings {
            max_open_blocks: 2,
            batch_series: 2,
            ignore_deletion_marks_delay: Duration::from_secs(60),
            ..BucketSettings::default()
        };
        let mut blocks = BucketBlocks::builder(bucket.clone())
            .clock(ground.clock.clone())
            .settings(settings);
        if let Some(cache) = ground.cache() {
            blocks = blocks
                .page_cache(cache.clone())
                .metadata_cache(cache.clone());
            blocks = blocks.postings_cache(cache);
        }
        let blocks = blocks.build()?;
        let (disk, clock) = (self.disk(ground.disk.clone()), ground.clock.clone());
        let ingester = Ingester::builder(bucket.clone(), disk, limits.clone())
            .settings(self.settings())
            .clock(clock.clone())
            .random(random(ground.seed))
            .blocks(blocks.clone())
            .build()?;
        let compactor = Compactor::builder(bucket, limits, Executor::inline(Handle::current()))
            .settings(compaction())
            .clock(clock)
            .random(random(ground.seed ^ 1))
            .blocks(blocks.clone())
            .build()?;
        ingester.open()?;
        let (recent, stored) = (vec![ingester.clone() as _], vec![blocks.clone() as _]);
        let holders = if self.has(OldFault::BlocksFirst) {
            Holders::new(stored, recent)
        } else {
            Holders::new(recent, stored)
        };
        Ok(Store {
            ingester,
            blocks,
            holders,
            hides_warnings: self.has(OldFault::NoWarnings),
            compactor,
            asked: AtomicU64::new(0),
        })
    }

    fn survives_power_loss(&self) -> bool {
        self.sync == SyncPolicy::EveryBatch
    }
}

fn labels(stream: u32) -> Labels {
    let stream = stream.to_string();
    let pairs = [("__name__", "suite"), ("job", "x"), ("stream", &stream)];
    Labels::from_pairs(pairs).unwrap()
}

impl StoreUnderTest for Store {
    async fn recover(&self) -> Result<()> {
        let ingester = self.ingester.clone();
        let replayed = tokio::task::spawn_blocking(move || ingester.replay()).await;
        replayed.map_err(|e| Error::Internal(e.to_string()))??;
        // The service goes on without its object store, and tries again.
        let _ = self.blocks.sync().await;
        Ok(())
    }

    async fn push(&self, tenant: &TenantId, entries: &[Entry]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for e in entries {
            let sample = Sample {
                t_ms: e.time_ms,
                value: e.value as f64,
            };
            batch.push_series(labels(e.stream).iter(), &[sample]);
        }
        let report = self.ingester.push(tenant, batch.into()).await?;
        match report.rejected.total() {
            0 => Ok(()),
            _ => Err(Error::InvalidInput(format!("{:?}", report.rejected))),
        }
    }

    async fn ask(&self, tenant: &TenantId, range: TimeRange) -> Result<Answer> {
        // By turns one whose postings are kept.
        let matcher = match self.asked.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => Matcher::equal("job", "x"),
            _ => Matcher::regex("job", "x|y.+")?,
        };
        let request = SelectRequest::new(vec![matcher], range)?;
        let mut batches = self.holders.select(tenant, &request).await?;
        let mut answer = Answer::default();
        while let Some(batch) = batches.next_batch().await? {
            for series in batch {
                let stream = series.labels.get("stream").and_then(|s| s.parse().ok());
                let found = samples(&series.chunks, range)
                    .map_err(|e| Error::corrupt(series.labels.to_string(), e))?;
                for (time_ms, value) in found {
                    let SampleValue::Float(value) = value else {
                        return Err(Error::Internal(format!("{value:?} is no float")));
                    };
                    answer.entries.push(Entry {
                        stream: stream.unwrap_or(u32::MAX),
                        time_ms,
                        value: value as u64,
                    });
                }
            }
        }
        if !self.hides_warnings {
            answer.warnings = batches.end().warnings;
        }
        Ok(answer)
    }

    async fn flush(&self) -> Result<()> {
        self.ingester.flush(FlushScope::All).await.map(drop)
    }

    async fn keep_house(&self) -> Result<()> {
        let kept = self.ingester.maintain().await;
        let synced = self.blocks.sync().await;
        let compacted = self.compactor.compact(&CancelToken::new()).await;
        if self
            .compactor
            .counts()
            .blocks_compacted
            .load(Ordering::Relaxed)
            > 0
        {
            COMPACTED.fetch_add(1, Ordering::Relaxed);
        }
        let cleaned = self.compactor.clean(&CancelToken::new()).await;
        kept.and(synced).and(compacted).and(cleaned)
    }

    async fn checkpoint(&self) -> Result<()> {
        self.ingester.maintain().await
    }

    async fn close(&self) -> Result<()> {
        self.ingester.close().await
    }
}

/// Runs seeds, alternately with both sync policies.
async fn seeds(seeds: std::ops::Range<u64>, turns: Turns) {
    let openers = [SyncPolicy::Os, SyncPolicy::EveryBatch].map(Opener::new);
    let (settings, count) = (SuiteSettings::default(), seeds.end - seeds.start);
    let (mut acknowledged, mut whole) = (0, 0);
    for seed in seeds {
        let opener = &openers[(seed % 2) as usize];
        let report = in_motion(opener, &settings, turns, seed).await;
        let report = report.unwrap_or_else(|v| panic!("{turns:?}, {:?}, {v}", opener.sync));
        acknowledged += report.acknowledged;
        whole += report.answers.whole;
    }
    assert!(acknowledged > 50 * count, "{acknowledged} acknowledged");
    assert!(whole > 20 * count, "{whole} whole answers");
    let compacted = COMPACTED.load(Ordering::Relaxed);
    assert!(compacted > 2 * count, "{compacted} rounds with compactions");
}

#[tokio::test]
async fn nothing_is_lost_or_hidden_in_motion() {
    seeds(0..20, Turns::BySeed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_or_hidden_on_many_threads() {
    seeds(0..20, Turns::ByMachine).await;
}

#[tokio::test]
#[ignore = "a minute: with its three neighbours the thousand seeds of CI"]
async fn the_first_quarter_of_a_thousand_seeds_holds() {
    seeds(1000..1250, Turns::BySeed).await;
}

#[tokio::test]
#[ignore = "a minute"]
async fn the_second_quarter_of_a_thousand_seeds_holds() {
    seeds(1250..1500, Turns::BySeed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "a minute"]
async fn the_third_quarter_of_a_thousand_seeds_holds_on_many_threads() {
    seeds(1500..1750, Turns::ByMachine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "a minute"]
async fn the_last_quarter_of_a_thousand_seeds_holds_on_many_threads() {
    seeds(1750..2000, Turns::ByMachine).await;
}

/// The seeds that `scripts/store-seeds` asks for.
fn asked_for() -> std::ops::Range<u64> {
    let number = |name: &str, default| {
        let given = std::env::var(name).ok();
        given.and_then(|n| n.parse().ok()).unwrap_or(default)
    };
    let first = number("LGTM_STORE_FIRST", 100_000);
    first..first + number("LGTM_STORE_SEEDS", 250)
}

#[tokio::test]
#[ignore = "for scripts/store-seeds"]
async fn many_seeds_by_seed_long() {
    seeds(asked_for(), Turns::BySeed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "for scripts/store-seeds"]
async fn many_seeds_by_machine_long() {
    seeds(asked_for(), Turns::ByMachine).await;
}

async fn stopped_everywhere(sync: SyncPolicy, stride: u64, seed: u64) {
    let (opener, settings) = (Opener::new(sync), SuiteSettings::default());
    let report = crash_points(&opener, &settings, 1 + seed % stride, stride, seed).await;
    let report = report.unwrap_or_else(|v| panic!("{sync:?}, {v}"));
    assert!(report.points > 60 / stride, "{report:?}");
    assert!(report.acknowledged > 10 * report.reopened, "{report:?}");
}

#[tokio::test]
async fn nothing_is_lost_at_any_operation_of_the_disk() {
    for seed in 0..4 {
        stopped_everywhere(SyncPolicy::Os, 4, seed).await;
        stopped_everywhere(SyncPolicy::EveryBatch, 4, seed).await;
    }
}

#[tokio::test]
#[ignore = "half a minute"]
async fn nothing_is_lost_at_any_operation_of_the_disk_for_more_seeds() {
    for seed in 10..14 {
        stopped_everywhere(SyncPolicy::Os, 1, seed).await;
        stopped_everywhere(SyncPolicy::EveryBatch, 1, seed).await;
    }
}

async fn faults(opener: &Opener, fault: StoreFault) -> Result<(), Violation> {
    for burst in [1, u64::from(ATTEMPTS) + 1] {
        let report = store_faults(opener, &SuiteSettings::default(), fault, burst, 1).await?;
        assert!(report.faults > 20, "{report:?}");
    }
    Ok(())
}

async fn lives_with(fault: StoreFault) {
    let lived = faults(&Opener::new(SyncPolicy::Os), fault).await;
    lived.unwrap_or_else(|v| panic!("{fault:?}: {v}"));
}

#[tokio::test]
#[ignore = "20 s"]
async fn lost_connections_to_the_object_store_lose_and_hide_nothing() {
    lives_with(StoreFault::Reset).await;
}

#[tokio::test]
#[ignore = "20 s"]
async fn lost_answers_of_the_object_store_lose_and_hide_nothing() {
    lives_with(StoreFault::LostAck).await;
}

#[tokio::test]
#[ignore = "20 s"]
async fn refusals_of_the_object_store_lose_and_hide_nothing() {
    lives_with(StoreFault::Denied).await;
}

#[tokio::test]
#[ignore = "20 s"]
async fn a_bad_read_loses_and_hides_nothing() {
    lives_with(StoreFault::FlippedBit).await;
}

#[tokio::test]
async fn a_start_without_the_object_store_loses_and_hides_nothing() {
    let (opener, settings) = (Opener::new(SyncPolicy::Os), SuiteSettings::default());
    let report = store_away_at_start(&opener, &settings, 1).await;
    let report = report.unwrap_or_else(|v| panic!("{v}"));
    assert!(report.answers.whole > 0, "{report:?}");
}

/// The violation that an old fault makes, in one of some seeds in motion.
async fn found_in_motion(fault: OldFault) {
    for seed in 0..100 {
        let opener = Opener {
            sync: SyncPolicy::Os,
            fault: Some(fault),
        };
        let run = in_motion(&opener, &SuiteSettings::default(), Turns::BySeed, seed).await;
        if let Err(violation) = run {
            assert!(violation.what.contains("missing"), "{violation}");
            return;
        }
    }
    panic!("{fault:?} is not found");
}

#[tokio::test]
async fn chunks_that_a_checkpoint_does_not_wait_for_are_found() {
    found_in_motion(OldFault::ChunksHeldBack).await;
}

#[tokio::test]
async fn a_query_that_misses_what_a_flush_moves_is_found() {
    found_in_motion(OldFault::BlocksFirst).await;
}

#[tokio::test]
async fn a_file_of_the_log_that_is_gone_is_found() {
    found_in_motion(OldFault::LogFileGone).await;
}

#[tokio::test]
async fn chunks_that_are_not_synced_are_found() {
    let opener = Opener {
        sync: SyncPolicy::EveryBatch,
        fault: Some(OldFault::ChunksUnsynced),
    };
    for seed in 0..20 {
        let run = crash_points(&opener, &SuiteSettings::default(), 1, 3, seed).await;
        if let Err(violation) = run {
            assert!(violation.what.contains("missing"), "{violation}");
            return;
        }
    }
    panic!("chunks without a sync are not found");
}

#[tokio::test]
async fn warnings_that_are_swallowed_are_found() {
    let opener = Opener {
        sync: SyncPolicy::Os,
        fault: Some(OldFault::NoWarnings),
    };
    let mut found = Vec::new();
    for fault in [StoreFault::Reset, StoreFault::FlippedBit] {
        found.extend(faults(&opener, fault).await.err());
        let away = store_away_at_start(&opener, &SuiteSettings::default(), 1).await;
        found.extend(away.err());
    }
    let is_told = |v: &Violation| v.what.contains("without a warning");
    assert!(!found.is_empty() && found.iter().all(is_told), "{found:?}");
}
