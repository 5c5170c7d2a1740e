//! The heads of all tenants of a process, and the log they share.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use lgtm_core::clock::Clock;
use lgtm_core::codec::{CompressionLevels, Compressor};
use lgtm_core::disk::{Disk, FolderLock};
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::limits::Overrides;
use lgtm_core::model::TenantId;
use lgtm_core::wal::{
    BlobFiles, Refusal, ReplayProgress, Snapshot, SyncPolicy, Wal, WalReplay, WalSettings, WalStats,
};
use lgtm_core::{Error, Result};
use parking_lot::{Mutex, RwLock};

use super::capacity::HeadCapacity;
use super::flush::LeavingBatch;
use super::head::{Head, HeadParts, HeadState};
use super::head_batch::HeadBatch;
use super::push::PushScratch;
use super::settings::HeadSettings;
use crate::limits::Limits;

/// A log that takes nothing for so long has trouble that is worth a word.
const TOLD_AFTER: Duration = Duration::from_secs(2);
/// A head that holds nothing and got nothing for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// What heads need of their host.
#[derive(Debug, Clone)]
pub struct HeadHost {
    /// Where log and files of packed traces are.
    pub disk: Arc<dyn Disk>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Compresses and decompresses.
    pub executor: Executor,
    /// Seed of the hashes of resources, which nobody should be able to foretell.
    pub seed: u64,
}

/// What the head of a tenant holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantTraces {
    /// Who.
    pub tenant: TenantId,
    /// Traces that spans still come in for, or that are not packed yet.
    pub live_traces: u64,
    /// Batches of cut traces that the object store has not.
    pub batches: u64,
    /// Bytes of these before compression.
    pub batch_bytes: u64,
    /// When the first trace of them came, milliseconds since the epoch; `None` without batches.
    pub since_ms: Option<lgtm_core::model::TimestampMs>,
}

/// Somebody packs traces. Ends with whoever does it, also when their push is dropped half way: else nobody would do it again.
struct Relieving<'a>(&'a AtomicBool);

impl Drop for Relieving<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The heads of a process.
#[derive(Debug)]
pub struct Heads {
    heads: RwLock<HashMap<TenantId, Arc<Head>>>,
    pub(super) wal: Wal,
    pub(super) parts: Arc<HeadParts>,
    pub(super) settings: HeadSettings,
    pub(super) limits: Overrides<Limits>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) executor: Executor,
    seed: u64,
    pub(super) scratch: Mutex<Vec<PushScratch>>,
    /// Batches that the store has and that readers who began before may still need.
    pub(super) moved: Mutex<Vec<LeavingBatch>>,
    /// What stays for readers elsewhere, and since when: a reader of before each flush.
    pub(super) retained: Mutex<VecDeque<(Duration, Snapshot)>>,
    /// The data folder is ours while this is there.
    lock: Mutex<Option<FolderLock>>,
    /// False until replay is done: the log's spans come first.
    pub(super) writable: AtomicBool,
    /// How far the replay has come; `None` before its first frame.
    pub(super) replay_progress: Mutex<Option<ReplayProgress>>,
    /// Only one checkpoint at a time; holds the log's size at the last one.
    pub(super) checkpoint: Arc<tokio::sync::Mutex<u64>>,
    /// Somebody is packing traces since there are too many.
    is_relieving: AtomicBool,
}

impl Heads {
    /// Opens log and files in `dir`, which nobody else can open until this is closed. Heads are empty until the log is
    /// [replayed](Heads::replay).
    ///
    /// # Errors
    /// `InvalidInput` for bad settings, `Conflict`, naming the holder, when the folder is open already, `Unavailable` when the disk refuses.
    pub fn open(
        host: HeadHost,
        dir: &str,
        settings: HeadSettings,
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
        let file_size = u32::try_from(settings.batch_file_size.as_u64()).unwrap_or(u32::MAX);
        // A batch is large enough to be written alone: with the next one, or at the next checkpoint.
        let files = BlobFiles::open(Arc::clone(&disk), &format!("{dir}/batches"), file_size, 0)?;
        let wal_settings: WalSettings = settings.wal.clone();
        let wal = format!("{dir}/wal");
        let (wal, replay) = Wal::open(disk, &wal, wal_settings, Arc::clone(&clock))?;
        let parts = HeadParts {
            files,
            capacity: HeadCapacity::new(settings.max_live_traces_bytes.as_u64()),
            generations: Arc::default(),
            batch_ids: AtomicU64::new(0),
            sequence: AtomicU64::new(0),
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

    /// Cuts traces of a head as `cut` says, and packs all that is to be packed, on the compute pool.
    async fn cut_and_pack(
        &self,
        head: Arc<Head>,
        cut: impl FnOnce(&mut HeadState, &HeadParts) + Send + 'static,
    ) -> Result<()> {
        let parts = Arc::clone(&self.parts);
        let job = move |_: &CancelToken| {
            let batches = {
                let mut state = head.lock();
                cut(&mut state, &parts);
                // Those that could not be packed before among them.
                state.batches.clone()
            };
            pack_all(&batches, &parts)
        };
        self.executor.run(job, &CancelToken::new()).await
    }

    /// Packs the oldest traces when all together take more than they may. Who finds somebody else at it goes on.
    pub(super) async fn relieve(&self) -> Result<()> {
        if !self.parts.capacity.is_over() || self.is_relieving.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let _relieving = Relieving(&self.is_relieving);
        let (heads, parts) = (self.all(), Arc::clone(&self.parts));
        // Cutting looks at every run of what is cut: no work for the runtime's threads either.
        let job = move |_: &CancelToken| pack_all(&cut_for_room(&heads, &parts), &parts);
        self.executor.run(job, &CancelToken::new()).await
    }

    /// Cuts traces that are idle or old, packs what was cut when there is enough of it or it has waited long, and forgets heads that hold nothing.
    /// To be called every few seconds.
    ///
    /// # Errors
    /// `Internal` when a compression fails: what was to be packed stays as it is, and is packed the next time.
    pub async fn maintain(&self) -> Result<()> {
        self.drop_moved();
        let now_ms = self.clock.now_ms();
        let (idle, live) = (self.settings.max_trace_idle, self.settings.max_trace_live);
        let batch_bytes = self.settings.batch_bytes.as_u64();
        for head in self.all() {
            let cut = move |state: &mut HeadState, parts: &HeadParts| {
                state.cut_due(now_ms, idle, live);
                if state.cut_bytes() as u64 >= batch_bytes {
                    state.begin_batches(parts);
                }
            };
            self.cut_and_pack(head, cut).await?;
        }
        let before_ms = now_ms.saturating_sub(FORGOTTEN_AFTER.as_millis() as i64);
        self.heads.write().retain(|_, head| {
            // Somebody who holds the head may be about to append to it.
            if Arc::strong_count(head) > 1 {
                return true;
            }
            let state = head.lock();
            !state.is_empty() || state.touched_ms >= before_ms
        });
        self.relieve().await
    }

    /// Packs what was cut of each tenant of which the first trace came so long ago: however little it is, it is to be in a block.
    ///
    /// # Errors
    /// As [`Heads::maintain`].
    pub async fn pack_older(&self, age: Duration) -> Result<()> {
        let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let before_ms = self.clock.now_ms().saturating_sub(age_ms);
        for head in self.all() {
            let pack = move |state: &mut HeadState, parts: &HeadParts| {
                if state.cut_since_ms().is_some_and(|t| t <= before_ms) {
                    state.begin_batches(parts);
                }
            };
            self.cut_and_pack(head, pack).await?;
        }
        Ok(())
    }

    /// Cuts and packs all traces of a tenant, or of all, as before a flush.
    ///
    /// # Errors
    /// As [`Heads::maintain`].
    pub async fn pack_live(&self, tenant: Option<&TenantId>) -> Result<()> {
        let heads = match tenant {
            Some(tenant) => self.get(tenant).into_iter().collect(),
            None => self.all(),
        };
        for head in heads {
            let cut = |state: &mut HeadState, parts: &HeadParts| {
                state.cut_all();
                state.begin_batches(parts);
            };
            self.cut_and_pack(head, cut).await?;
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

    /// What heads hold, by tenant.
    pub fn traces_by_tenant(&self) -> Vec<TenantTraces> {
        let count = |head: &Arc<Head>| {
            let state = head.lock();
            let held = (state.batches.iter()).filter(|b| !b.chunk_state().is_moved());
            TenantTraces {
                tenant: head.tenant.clone(),
                live_traces: state.loose_count() as u64,
                batches: held.clone().count() as u64,
                batch_bytes: held.clone().map(|b| b.raw_bytes()).sum(),
                since_ms: held.map(|b| b.since_ms).min(),
            }
        };
        self.all().iter().map(count).collect()
    }

    /// Bytes of traces that are in memory as they came.
    pub fn live_bytes(&self) -> u64 {
        self.parts.capacity.bytes()
    }

    /// Heap bytes of tables, nearly.
    pub fn table_bytes(&self) -> u64 {
        let heads = self.all();
        heads.iter().map(|h| h.lock().table_bytes() as u64).sum()
    }

    /// Bytes in the files of packed traces.
    pub fn batch_file_bytes(&self) -> u64 {
        self.parts.files.size_bytes()
    }

    /// Batches found damaged since the heads were opened.
    pub fn damaged_batches(&self) -> u64 {
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

/// Cuts the oldest traces of all heads, each its part, until what is left takes less than the bound.
pub(super) fn cut_for_room(heads: &[Arc<Head>], parts: &HeadParts) -> Vec<Arc<HeadBatch>> {
    let (bytes, target) = (parts.capacity.bytes(), parts.capacity.relieved_bytes());
    let share = bytes.saturating_sub(target) as f64 / bytes.max(1) as f64;
    let mut batches = Vec::new();
    for head in heads {
        let mut state = head.lock();
        let own = state.live_bytes() + state.cut_bytes();
        let excess = (own as f64 * share).ceil() as usize;
        let excess = excess.saturating_sub(state.cut_bytes());
        state.cut_oldest(excess);
        batches.extend(state.begin_batches(parts));
    }
    batches
}

/// Packs batches, one after the other.
pub(super) fn pack_all(batches: &[Arc<HeadBatch>], parts: &HeadParts) -> Result<()> {
    // Batches leave the disk within minutes: half the CPU is worth more than some bytes.
    let mut compressor = Compressor::new(CompressionLevels {
        zstd: 1,
        ..CompressionLevels::default()
    });
    for batch in batches {
        let freed = batch.pack(&parts.files, &mut compressor)?;
        parts.capacity.gave(freed);
    }
    Ok(())
}
