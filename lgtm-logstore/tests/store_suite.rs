//! The log store in motion, at crash points and with faults of its object store: `lgtm_core::testing::store_suite`.

#![allow(clippy::unwrap_used, reason = "what serves tests only is a test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lgtm_core::clock::{Clock, ManualClock};
use lgtm_core::disk::Disk;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::limits::Overrides;
use lgtm_core::model::{
    Labels, Matcher, TenantId, TimeRange, TimeRangeNs, TimestampMs, TimestampNs,
};
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
use lgtm_logstore::bucket::{BucketChunks, BucketSettings};
use lgtm_logstore::chunk::{ChunkEncoding, ChunkSettings};
use lgtm_logstore::components::{
    Compactor, CompactorSettings, DeleteRequests, DeleteSettings, Distributor, Holders, Ingester,
    IngesterSettings, Querier,
};
use lgtm_logstore::head::{FlushScope, HeadSettings};
use lgtm_logstore::limits::{Limits, StreamRetention, StreamSelector};
use lgtm_logstore::select::{Select, SelectOrder, SelectRequest};
use lgtm_logstore::wire::{LogEntry, PushBatch, decode_entries};
use tokio::runtime::Handle;

/// Tries of a request in all; a longer burst of faults is seen by the store.
const ATTEMPTS: u32 = 2;
const NS_A_MS: i64 = 1_000_000;

/// Few streams, as each has chunks of its own.
fn suite() -> SuiteSettings {
    SuiteSettings {
        streams: 2,
        ..SuiteSettings::default()
    }
}

/// A fault that the store could have, put around it: the suite must find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OldFault {
    /// A checkpoint refers to chunks that are not in their file yet.
    ChunksHeldBack,
    /// A checkpoint refers to chunks that a power loss takes.
    ChunksUnsynced,
    /// The index files are asked before the heads are: what a flush moves in between is in neither.
    StoredFirst,
    /// What could not be read is passed over in silence.
    NoWarnings,
    /// A file of the log is gone.
    LogFileGone,
}

/// Opens the log store with settings that make everything frequent.
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

    /// Chunks of a minute at most and of a few entries, segments of a few pushes, chunk buffers of a page, a checkpoint every few rounds of
    /// maintenance; every second store writes the index some seconds behind the chunks.
    fn settings(&self, seed: u64) -> IngesterSettings {
        let head = HeadSettings {
            chunk: ChunkSettings {
                encoding: ChunkEncoding::Snappy,
                block_size_bytes: 30,
                target_size_bytes: 200,
                ..ChunkSettings::default()
            },
            max_chunk_age: Duration::from_secs(60),
            chunk_idle_period: Duration::from_secs(40),
            sync_period: Duration::from_secs(20),
            stream_idle_timeout: Duration::from_secs(60),
            chunk_file_size: ByteSize::mib(1),
            chunk_write_buffer: ByteSize::kib(4),
            wal: WalSettings {
                segment_size: ByteSize::kib(2),
                sync: self.sync,
                retry_interval: Duration::from_millis(1),
                ..WalSettings::default()
            },
            checkpoint_after: ByteSize::bytes(if seed.is_multiple_of(3) { 64 << 10 } else { 1 }),
            ..HeadSettings::default()
        };
        let index_interval = Duration::from_secs(15 * (seed % 2));
        IngesterSettings {
            head,
            index_interval,
            ..IngesterSettings::default()
        }
    }
}

/// Rounds of housekeeping by whose end chunks were written anew, and by whose end some had left the index for their age.
static REWRITTEN: AtomicU64 = AtomicU64::new(0);
static EXPIRED: AtomicU64 = AtomicU64::new(0);

/// What is deleted: it stands among the entries of the suite, in their streams.
const CHAFF: &str = "chaff";
/// The label of streams that are kept for a few minutes, with an entry beside each of the suite's.
const SHORT: &str = "short";
/// How long these are kept.
const SHORT_PERIOD: Duration = Duration::from_secs(48);

/// Joins all files in each round; what left the index is deleted a few pushes later.
fn compaction() -> CompactorSettings {
    CompactorSettings {
        min_files: 1,
        settle_after: Duration::from_secs(5),
        delete_delay: Duration::from_secs(10),
        deletion_delay: Duration::from_secs(40),
        full_interval: Duration::from_secs(5),
        ..CompactorSettings::default()
    }
}

/// What was deleted is hidden for ever here: heads may hold it for as long as the store is away.
fn deletes() -> DeleteSettings {
    DeleteSettings {
        cancel_period: Duration::from_secs(5),
        visible_delay: Duration::from_secs(1_000_000),
        ..DeleteSettings::default()
    }
}

/// Distributor, ingester, compactor and readers of the bucket, wired as a host does it.
struct Store {
    distributor: Arc<Distributor>,
    ingester: Arc<Ingester>,
    chunks: Arc<BucketChunks>,
    compactor: Arc<Compactor>,
    deletes: Arc<DeleteRequests>,
    clock: Arc<ManualClock>,
    tenants: std::sync::Mutex<std::collections::BTreeSet<TenantId>>,
    /// Whether the holders hide nothing.
    is_raw: bool,
    holders: Arc<dyn Select>,
    hides_warnings: bool,
    orders: std::sync::Mutex<Dice>,
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
    Ok(layout.build()?.bucket(DataKind::Logs))
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
            // What comes late goes into chunks of its own.
            accept_late_entries: true,
            retention_stream: vec![StreamRetention {
                selector: StreamSelector::new(&format!("{{job=\"{SHORT}\"}}"))?,
                priority: 0,
                period: SHORT_PERIOD,
            }],
            ..Limits::default()
        });
        let settings = BucketSettings {
            max_open_index_files: 2,
            batch_blocks: 2,
            chunk_memory: ByteSize::bytes(200),
            ..BucketSettings::default()
        };
        let executor = Executor::inline(Handle::current());
        let mut chunks = BucketChunks::builder(bucket.clone(), executor.clone())
            .clock(ground.clock.clone())
            .settings(settings);
        if let Some(cache) = ground.cache() {
            chunks = chunks.chunk_cache(cache.clone()).index_cache(cache);
        }
        let chunks = chunks.build()?;
        let (disk, clock) = (self.disk(ground.disk.clone()), ground.clock.clone());
        let deletes = DeleteRequests::new(bucket.clone(), clock.clone(), deletes())?;
        let compactor = Compactor::builder(bucket.clone(), executor.clone())
            .settings(compaction())
            .limits(limits.clone())
            .deletes(deletes.clone())
            .chunks(chunks.clone())
            .clock(clock.clone())
            .build()?;
        let ingester = Ingester::builder(bucket, disk, limits.clone(), executor.clone())
            .settings(self.settings(ground.seed))
            .clock(clock.clone())
            .random(random(ground.seed))
            .chunks(chunks.clone())
            .build()?;
        ingester.open()?;
        let distributor = Distributor::builder(ingester.clone(), limits.clone());
        let holders: Arc<dyn Select> = if self.has(OldFault::StoredFirst) {
            let (recent, stored) = (vec![ingester.clone() as _], vec![chunks.clone() as _]);
            Arc::new(Holders::new(stored, recent))
        } else {
            let (recent, stored) = (vec![ingester.clone() as _], vec![chunks.clone() as _]);
            let querier = Querier::builder(recent, stored, limits, executor);
            let querier = querier.clock(clock.clone()).deletes(deletes.clone());
            querier.build()?.holders()
        };
        Ok(Store {
            distributor: distributor.clock(clock).build(),
            ingester,
            chunks,
            compactor,
            deletes,
            clock: ground.clock.clone(),
            tenants: std::sync::Mutex::default(),
            is_raw: self.has(OldFault::StoredFirst),
            holders,
            hides_warnings: self.has(OldFault::NoWarnings),
            orders: std::sync::Mutex::new(Dice::seeded(ground.seed)),
        })
    }

    fn survives_power_loss(&self) -> bool {
        self.sync == SyncPolicy::EveryBatch
    }
}

fn labels(job: &str, stream: u32) -> Labels {
    let stream = stream.to_string();
    let pairs = [("job", job), ("stream", &stream)];
    Labels::from_pairs(pairs).unwrap()
}

impl Store {
    /// That nothing is shown which is over.
    async fn check_short(&self, tenant: &TenantId) -> Result<()> {
        let period = (SHORT_PERIOD + SHORT_PERIOD / 24).as_millis() as i64;
        let over_ms = self.clock.now_ms() - period;
        let short = vec![Matcher::equal("job", SHORT)];
        let request = SelectRequest::new(short, TimeRangeNs::ALL);
        let mut batches = self.holders.select(tenant, &request).await?;
        while let Some(batch) = batches.next_batch().await? {
            let times = batch.blocks.iter().filter_map(|b| b.block.min_ns());
            if let Some(t_ns) = times.min()
                && t_ns < over_ms.to_ns()
            {
                return Err(Error::InvalidInput(format!("{t_ns} is over at {over_ms}")));
            }
        }
        Ok(())
    }

    /// Until when chaff is hidden that is shown after this.
    fn hidden_until(&self, tenant: &TenantId) -> TimestampMs {
        let requests = self.deletes.list(tenant);
        let ends = requests.iter().map(|r| r.request.end_ms);
        ends.max().unwrap_or(TimestampMs::MIN)
    }

    /// Asks for the deletion of all chaff so far, now and then.
    async fn delete_chaff(&self) -> Result<()> {
        let tenants: Vec<TenantId> = self.tenants.lock().unwrap().iter().cloned().collect();
        for tenant in tenants {
            let open = self.deletes.list(&tenant);
            if open.iter().filter(|r| r.processed_ms.is_none()).count() < 2 {
                let query = format!("{{job=\"x\"}} |= \"{CHAFF}\"");
                let now_ms = self.clock.now_ms();
                self.deletes.add(&tenant, &query, 0, now_ms).await?;
            }
        }
        Ok(())
    }
}

impl StoreUnderTest for Store {
    async fn recover(&self) -> Result<()> {
        let ingester = self.ingester.clone();
        let replayed = tokio::task::spawn_blocking(move || ingester.replay()).await;
        replayed.map_err(|e| Error::Internal(e.to_string()))??;
        // The service goes on without its object store, and tries again.
        let _ = self.chunks.sync().await;
        let _ = self.deletes.sync().await;
        Ok(())
    }

    async fn push(&self, tenant: &TenantId, entries: &[Entry]) -> Result<()> {
        self.tenants.lock().unwrap().insert(tenant.clone());
        let stream = |e: &Entry| {
            let t_ns = TimestampNs::new(e.time_ms.get() * NS_A_MS);
            let entry = LogEntry::new(t_ns, format!("value {}", e.value));
            let mut own = vec![entry.with("of", e.stream.to_string())];
            // Beside some, as each costs as much as one of the suite's.
            if e.value.is_multiple_of(2) {
                own.push(LogEntry::new(t_ns, CHAFF));
            }
            let short = (e.value % 4 == 1).then(|| {
                let entry = LogEntry::new(t_ns, "short");
                (labels(SHORT, e.stream), vec![entry])
            });
            [Some((labels("x", e.stream), own)), short]
        };
        let streams: Vec<_> = entries.iter().flat_map(stream).flatten().collect();
        let limits = self.distributor.limits(tenant);
        let mut batch = PushBatch::default();
        let mut grow = |_| Ok(());
        let mut allowance = lgtm_core::codec::Allowance::new(0, &mut grow);
        decode_entries(&mut batch, &limits.push_options(), &mut allowance, &streams)?;
        let report = self.distributor.push(tenant, batch).await?;
        match report.refusal(tenant.as_str()) {
            None => Ok(()),
            Some(refusal) => Err(Error::InvalidInput(refusal.message)),
        }
    }

    async fn ask(&self, tenant: &TenantId, range: TimeRange) -> Result<Answer> {
        let ns = |ms: i64| ms.saturating_mul(NS_A_MS);
        let range = TimeRangeNs::new(ns(range.min_ms.get()), ns(range.max_ms.get()));
        let order = match self.orders.lock().unwrap().below(3) {
            0 => SelectOrder::Streams,
            1 => SelectOrder::OldestFirst,
            _ => SelectOrder::NewestFirst,
        };
        let hidden_until = self.hidden_until(tenant);
        if !self.is_raw {
            self.check_short(tenant).await?;
        }
        let request = SelectRequest::new(vec![Matcher::equal("job", "x")], range).order(order);
        let mut batches = self.holders.select(tenant, &request).await?;
        let mut answer = Answer::default();
        while let Some(batch) = batches.next_batch().await? {
            for found in batch.blocks {
                let stream = found.labels.get("stream").and_then(|s| s.parse().ok());
                for entry in found.block.iter() {
                    if entry.line == CHAFF.as_bytes() {
                        if !self.is_raw && entry.t_ns <= hidden_until.to_ns() {
                            let text = format!("chaff of {} is shown", entry.t_ns);
                            return Err(Error::InvalidInput(text));
                        }
                        continue;
                    }
                    let line = std::str::from_utf8(entry.line).unwrap_or_default();
                    let value = line.strip_prefix("value ").and_then(|v| v.parse().ok());
                    let value = value.ok_or_else(|| Error::Internal(format!("line {line:?}")))?;
                    answer.entries.push(Entry {
                        stream: stream.unwrap_or(u32::MAX),
                        time_ms: TimestampMs::new(entry.t_ns.get() / NS_A_MS),
                        value,
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
        let synced = self.chunks.sync().await;
        let asked = self.delete_chaff().await;
        let compacted = self.compactor.compact(&CancelToken::new()).await;
        let counts = self.compactor.counts();
        for (all, now) in [
            (&REWRITTEN, &counts.chunks_rewritten),
            (&EXPIRED, &counts.chunks_expired),
        ] {
            let done = u64::from(now.load(Ordering::Relaxed) > 0);
            all.fetch_add(done, Ordering::Relaxed);
        }
        kept.and(synced).and(asked).and(compacted)
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
    let (settings, count) = (suite(), seeds.end - seeds.start);
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
    for (what, rounds) in [("rewritten", &REWRITTEN), ("expired", &EXPIRED)] {
        let rounds = rounds.load(Ordering::Relaxed);
        assert!(
            rounds >= count / 4,
            "{rounds} rounds with chunks that were {what}"
        );
    }
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
    let (opener, settings) = (Opener::new(sync), suite());
    let report = crash_points(&opener, &settings, 1 + seed % stride, stride, seed).await;
    let report = report.unwrap_or_else(|v| panic!("{sync:?}, {v}"));
    assert!(report.points > 40 / stride, "{report:?}");
    assert!(report.acknowledged > 10 * report.reopened, "{report:?}");
}

#[tokio::test]
async fn nothing_is_lost_at_any_operation_of_the_disk() {
    for seed in 0..2 {
        stopped_everywhere(SyncPolicy::Os, 4, seed).await;
        stopped_everywhere(SyncPolicy::EveryBatch, 4, seed).await;
    }
}

#[tokio::test]
#[ignore = "a minute"]
async fn nothing_is_lost_at_any_operation_of_the_disk_for_more_seeds() {
    for seed in 10..14 {
        stopped_everywhere(SyncPolicy::Os, 1, seed).await;
        stopped_everywhere(SyncPolicy::EveryBatch, 1, seed).await;
    }
}

async fn faults(opener: &Opener, fault: StoreFault) -> Result<(), Violation> {
    // A life for each request, and each chunk is one.
    let settings = SuiteSettings {
        tenants: 1,
        writers: 1,
        ..suite()
    };
    for burst in [1, u64::from(ATTEMPTS) + 1] {
        let report = store_faults(opener, &settings, fault, burst, 1).await?;
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
    let (opener, settings) = (Opener::new(SyncPolicy::Os), suite());
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
        let run = in_motion(&opener, &suite(), Turns::BySeed, seed).await;
        if let Err(Violation { what, .. }) = &run {
            // A chunk whose end is not there yet is known to be, and cannot be read.
            let is_told = fault == OldFault::ChunksHeldBack && what.starts_with("warnings where");
            assert!(what.contains("missing") || is_told, "{run:?}");
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
    found_in_motion(OldFault::StoredFirst).await;
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
        let run = crash_points(&opener, &suite(), 1, 3, seed).await;
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
    found.extend(faults(&opener, StoreFault::FlippedBit).await.err());
    let away = store_away_at_start(&opener, &suite(), 1).await;
    found.extend(away.err());
    let is_told = |v: &Violation| v.what.contains("without a warning");
    assert!(!found.is_empty() && found.iter().all(is_told), "{found:?}");
}
