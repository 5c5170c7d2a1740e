//! The heads of all tenants of a process, and the log they share.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use lgtm_core::clock::Clock;
use lgtm_core::disk::{Disk, FolderLock};
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::limits::{GlobalLimits, Overrides};
use lgtm_core::model::TenantId;
use lgtm_core::wal::{
    BlobFiles, Refusal, ReplayProgress, Snapshot, SyncPolicy, Wal, WalReplay, WalSettings, WalStats,
};
use lgtm_core::{Error, Result};
use parking_lot::{Mutex, RwLock};

use super::capacity::HeadCapacity;
use super::flush::LeavingChunk;
use super::head::{Head, HeadParts};
use super::head_chunk::FinishReason;
use super::open_chunk::SideParts;
use super::push::PushScratch;
use super::settings::{HeadSettings, ns};
use super::stream::{MemStream, SyncRule};
use crate::limits::Limits;
use crate::schema::SchemaPeriods;
use crate::skip::SkipSettings;

/// Blocks smaller than this are not compressed early: that would gain little and cost their readers.
const MIN_BLOCK_BYTES: u64 = 16 << 10;
/// A log that takes nothing for so long has trouble that is worth a word.
const TOLD_AFTER: Duration = Duration::from_secs(2);

/// What heads need of their host.
#[derive(Debug, Clone)]
pub struct HeadHost {
    /// Where log and chunk files are.
    pub disk: Arc<dyn Disk>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Compresses and decompresses.
    pub executor: Executor,
    /// Seed of the label hashes, which nobody should be able to foretell.
    pub seed: u64,
}

/// Streams of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantStreams {
    /// Who.
    pub tenant: TenantId,
    /// Streams in the head.
    pub in_memory: u64,
    /// Entries taken since the head was made.
    pub appended: u64,
}

/// What is made beside a chunk is not brought into its final form below that: many small groups take more in the bucket than a few.
const MIN_DRAFT_BYTES: u64 = 32 << 10;

/// Somebody makes chunks smaller. Ends with whoever does it, also when their push is dropped half way: else nobody would do it again.
struct Relieving<'a>(&'a AtomicBool);

impl Drop for Relieving<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The heads of a process.
#[derive(Debug)]
pub struct Heads {
    pub(super) heads: RwLock<HashMap<TenantId, Arc<Head>>>,
    pub(super) wal: Wal,
    pub(super) parts: Arc<HeadParts>,
    pub(super) settings: HeadSettings,
    pub(super) limits: Overrides<Limits>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) executor: Executor,
    seed: u64,
    pub(super) scratch: Mutex<Vec<PushScratch>>,
    /// Chunks that the store has and that readers who began before may still need.
    pub(super) moved: Mutex<VecDeque<LeavingChunk>>,
    /// What flushes have moved lately stays readable while these are there; each with when it began.
    pub(super) retained: Mutex<VecDeque<(Duration, Snapshot)>>,
    /// The data folder is ours while this is there.
    lock: Mutex<Option<FolderLock>>,
    /// False until replay is done: the log's entries come first.
    pub(super) writable: AtomicBool,
    /// How far the replay has come; `None` before its first frame.
    pub(super) replay_progress: Mutex<Option<ReplayProgress>>,
    /// Only one checkpoint at a time; holds the log's size at the last one.
    pub(super) checkpoint: Arc<tokio::sync::Mutex<u64>>,
    /// Somebody is making open chunks smaller.
    is_relieving: AtomicBool,
}

impl Heads {
    /// Opens log and chunk files in `dir`, which nobody else can open until this is closed. Heads are empty until the log is
    /// [replayed](Heads::replay).
    ///
    /// # Errors
    /// `InvalidInput` for bad settings, `Conflict`, naming the holder, when the folder is open already, `Unavailable` when the disk refuses.
    pub fn open(
        host: HeadHost,
        dir: &str,
        settings: HeadSettings,
        schema: SchemaPeriods,
        limits: Overrides<Limits>,
    ) -> Result<(Self, WalReplay)> {
        settings.validate()?;
        let HeadHost {
            disk,
            clock,
            executor,
            seed,
        } = host;
        let lock = FolderLock::take(&*disk, dir, clock.now_ms())?;
        if settings.wal.sync != SyncPolicy::Os {
            // The folder's own name must survive a power loss too.
            let above = dir.rsplit_once('/').map_or(".", |(above, _)| above);
            let synced = disk.sync_dir(above);
            synced.map_err(|e| Error::Unavailable(format!("folder {above}: {e}")))?;
        }
        let file_size = u32::try_from(settings.chunk_file_size.as_u64()).unwrap_or(u32::MAX);
        let files = BlobFiles::open(
            Arc::clone(&disk),
            &format!("{dir}/chunks_head"),
            file_size,
            settings.chunk_write_buffer.as_usize(),
        )?;
        let wal_settings: WalSettings = settings.wal.clone();
        let wal = format!("{dir}/wal");
        let (wal, replay) = Wal::open(disk, &wal, wal_settings, Arc::clone(&clock))?;
        let target = settings.chunk.target_size_bytes as f64;
        let parts = HeadParts {
            files,
            chunk_settings: Arc::new(settings.chunk.clone()),
            schema,
            sync: SyncRule {
                period_ns: u64::try_from(ns(settings.sync_period)).unwrap_or(0),
                min_bytes: (target * settings.sync_min_utilization) as u64,
            },
            capacity: HeadCapacity::new(
                settings.max_streams,
                settings.max_streams_per_tenant_share,
                settings.max_open_chunk_bytes.as_u64(),
            ),
            generations: Arc::default(),
            chunk_ids: AtomicU64::new(0),
            sequence_floor: AtomicU64::new(0),
            tools: Mutex::default(),
            sides: None,
            global: None,
            is_replaying: AtomicBool::new(true),
        };
        let heads = Self {
            heads: RwLock::default(),
            wal,
            parts: Arc::new(parts),
            settings,
            limits,
            clock,
            executor,
            seed,
            scratch: Mutex::default(),
            moved: Mutex::default(),
            retained: Mutex::default(),
            lock: Mutex::new(Some(lock)),
            writable: AtomicBool::new(false),
            replay_progress: Mutex::default(),
            checkpoint: Arc::default(),
            is_relieving: AtomicBool::new(false),
        };
        Ok((heads, replay))
    }

    /// Has side files made beside chunks as their blocks are cut, for whoever [loads](Heads::load_some) them. Before anybody else has it.
    #[must_use]
    pub fn with_side_files(mut self, settings: SkipSettings) -> Self {
        let most = self.settings.max_waiting_side_bytes.as_u64();
        if let Some(parts) = Arc::get_mut(&mut self.parts) {
            parts.sides = Some(SideParts::new(settings, most));
        }
        self
    }

    /// Has limits divided among several ingesters. Before anybody else has it.
    #[must_use]
    pub(crate) fn sharing(mut self, global: Option<Arc<dyn GlobalLimits>>) -> Self {
        if let Some(parts) = Arc::get_mut(&mut self.parts) {
            parts.global = global;
        }
        self
    }

    /// What a reader sees: all that the store has not, and with `retain_flushed` what it has since lately.
    pub(super) fn snapshot(&self) -> Snapshot {
        let retained = self.retained.lock();
        let oldest = retained.front().map(|(_, snapshot)| snapshot.again());
        oldest.unwrap_or_else(|| self.parts.generations.enter())
    }

    /// Whether pushes and queries can be answered: not before all of the log is back, as a part of it would look like all there is.
    ///
    /// # Errors
    /// `Unavailable`, with how far the replay is.
    pub(super) fn check_open(&self) -> Result<()> {
        if self.writable.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(Error::Unavailable(match *self.replay_progress.lock() {
            Some(at) => format!(
                "the ingester is replaying its write-ahead log, {} of {} bytes, or is closed",
                at.done_bytes, at.total_bytes
            ),
            None => "the ingester is opening its write-ahead log".into(),
        }))
    }

    /// The head of a tenant, if it has one.
    pub(super) fn get(&self, tenant: &TenantId) -> Option<Arc<Head>> {
        self.heads.read().get(tenant).cloned()
    }

    /// The head of a tenant, made if need be.
    pub(super) fn get_or_create(&self, tenant: &TenantId) -> Arc<Head> {
        if let Some(head) = self.get(tenant) {
            return head;
        }
        let mut heads = self.heads.write();
        let make = || {
            Arc::new(Head::new(
                tenant.clone(),
                Arc::clone(&self.parts),
                self.seed,
            ))
        };
        Arc::clone(heads.entry(tenant.clone()).or_insert_with(make))
    }

    /// All heads, in no order.
    pub(super) fn all(&self) -> Vec<Arc<Head>> {
        self.heads.read().values().cloned().collect()
    }

    /// Seconds on the host's clock.
    pub(super) fn now_s(&self) -> u32 {
        u32::try_from(self.clock.now_ms().to_seconds()).unwrap_or(0)
    }

    /// Compresses full blocks of streams and puts their finished chunks together, on the compute pool.
    ///
    /// # Errors
    /// `Internal` when a compression fails: nothing is lost by that.
    pub(super) async fn tidy(&self, streams: Vec<Arc<MemStream>>) -> Result<()> {
        let parts = Arc::clone(&self.parts);
        let block_bytes = self.settings.chunk.block_size_bytes as u64;
        let job = move |_: &CancelToken| {
            parts.with_tools(|tools| {
                let mut streams = streams.iter();
                streams.try_for_each(|s| s.tidy(block_bytes, &parts, tools))
            })
        };
        self.executor.run(job, &CancelToken::new()).await
    }

    /// Makes open chunks smaller when all together take more than they may: settles what is made beside them, compresses the largest blocks, then
    /// finishes the largest chunks.
    /// Who finds somebody else at it goes on.
    pub(super) async fn relieve(&self) -> Result<()> {
        if !self.parts.capacity.is_over() || self.is_relieving.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let _relieving = Relieving(&self.is_relieving);
        let (heads, parts) = (self.all(), Arc::clone(&self.parts));
        let job = move |_: &CancelToken| relieve(&heads, &parts);
        self.executor.run(job, &CancelToken::new()).await
    }

    /// Finishes chunks that are too old, or whose stream got nothing for long; forgets streams and heads that hold nothing and have been
    /// quiet. To be called every half a minute or so.
    ///
    /// # Errors
    /// `Internal` when a compression fails.
    pub async fn maintain(&self) -> Result<()> {
        self.drop_moved();
        let now_s = self.now_s();
        let ago =
            |d: Duration| now_s.saturating_sub(u32::try_from(d.as_secs()).unwrap_or(u32::MAX));
        let idle_before_s = ago(self.settings.chunk_idle_period);
        let max_age_ns = ns(self.settings.max_chunk_age);
        for head in self.all() {
            let mut streams = Vec::new();
            for (_, stream) in head.streams() {
                let mut state = stream.lock();
                let is_idle = state.touched_s < idle_before_s;
                state.finish_due(max_age_ns, is_idle, &self.parts);
                if state.wants_tidying() {
                    drop(state);
                    streams.push(stream);
                }
            }
            for some in streams.chunks(64) {
                self.tidy(some.to_vec()).await?;
            }
            head.forget_idle(ago(self.settings.stream_idle_timeout));
        }
        let before_s = ago(self.settings.stream_idle_timeout);
        self.heads.write().retain(|_, head| {
            // Somebody who holds the head may be about to append to it.
            Arc::strong_count(head) > 1
                || head.stream_count() > 0
                || head.touched_s.load(Ordering::Relaxed) >= before_s
        });
        self.relieve().await
    }

    /// Finishes all open chunks, as before a flush of everything.
    ///
    /// # Errors
    /// `Internal` when a compression fails.
    pub async fn finish_all(&self) -> Result<()> {
        for head in self.all() {
            let streams: Vec<_> = head.streams().into_iter().map(|(_, s)| s).collect();
            for stream in &streams {
                let mut state = stream.lock();
                state.finish_all(FinishReason::Forced, &self.parts);
            }
            for some in streams.chunks(64) {
                self.tidy(some.to_vec()).await?;
            }
        }
        Ok(())
    }

    /// Writes what was appended to the log and gives the folder up: nothing can be pushed or read afterwards. Blocks as long as the last
    /// write takes.
    pub fn close(&self) {
        self.writable.store(false, Ordering::Release);
        self.wal.close();
        self.lock.lock().take();
    }

    /// Streams by tenant.
    pub fn streams_by_tenant(&self) -> Vec<TenantStreams> {
        let count = |h: &Arc<Head>| TenantStreams {
            tenant: h.tenant.clone(),
            in_memory: h.stream_count() as u64,
            appended: h.appended.load(Ordering::Relaxed),
        };
        self.all().iter().map(count).collect()
    }

    /// Streams of all tenants.
    pub fn stream_count(&self) -> u64 {
        self.parts.capacity.streams()
    }

    /// Bytes of chunks in the making.
    pub fn open_chunk_bytes(&self) -> u64 {
        self.parts.capacity.open_bytes()
    }

    /// Heap bytes of symbols, postings and stream lookup of all heads, nearly.
    pub fn index_bytes(&self) -> u64 {
        self.all().iter().map(|h| h.index_bytes() as u64).sum()
    }

    /// Bytes in the chunk files.
    pub fn chunk_file_bytes(&self) -> u64 {
        self.parts.files.size_bytes()
    }

    /// Finished chunks found damaged since the heads were opened.
    pub fn damaged_chunks(&self) -> u64 {
        self.parts.files.damaged_count()
    }

    /// Why no writes are taken, once that has lasted longer than a moment (two seconds): the log has trouble, or no room in its buffer.
    pub fn write_refusal(&self) -> Option<Refusal> {
        self.wal.refusal().filter(|r| r.lasted >= TOLD_AFTER)
    }

    /// What the log has done so far.
    pub fn wal_stats(&self) -> WalStats {
        self.wal.stats()
    }

    /// How far the replay has come; `None` before its first frame.
    pub fn replay_progress(&self) -> Option<ReplayProgress> {
        *self.replay_progress.lock()
    }
}

/// Makes open chunks smaller until they take less than their bound.
pub(super) fn relieve(heads: &[Arc<Head>], parts: &HeadParts) -> Result<()> {
    let target = parts.capacity.relieved_bytes();
    let streams = heads.iter().flat_map(|h| h.streams());
    let streams: Vec<Arc<MemStream>> = streams.map(|(_, s)| s).collect();
    let largest = |size: &dyn Fn(&MemStream) -> u64| {
        let mut sizes: Vec<(u64, &Arc<MemStream>)> = streams.iter().map(|s| (size(s), s)).collect();
        sizes.sort_unstable_by_key(|(size, _)| std::cmp::Reverse(*size));
        sizes
    };
    parts.with_tools(|tools| {
        // What costs least goes first.
        for (drafted, stream) in largest(&|s| s.open_draft_bytes()) {
            if parts.capacity.open_bytes() <= target || drafted < MIN_DRAFT_BYTES {
                break;
            }
            stream.settle_drafts(parts, tools);
        }
        for (loose, stream) in largest(&|s| s.lock().loose_bytes()) {
            if parts.capacity.open_bytes() <= target || loose < MIN_BLOCK_BYTES {
                break;
            }
            stream.tidy(MIN_BLOCK_BYTES, parts, tools)?;
        }
        for (_, stream) in largest(&|s| s.lock().open_bytes() as u64) {
            if parts.capacity.open_bytes() <= target {
                break;
            }
            let mut state = stream.lock();
            state.finish_all(FinishReason::Memory, parts);
            drop(state);
            stream.tidy(MIN_BLOCK_BYTES, parts, tools)?;
        }
        Ok(())
    })
}
