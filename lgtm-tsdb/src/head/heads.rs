//! The heads of all tenants of a process, and the log they share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use lgtm_core::clock::Clock;
use lgtm_core::disk::{Disk, FolderLock};
use lgtm_core::limits::{GlobalLimits, Overrides};
use lgtm_core::model::{Metadata, TenantId};
use lgtm_core::units::ByteSize;
use lgtm_core::wal::{BlobFiles, ReplayProgress, Snapshot, Wal, WalSettings};
use lgtm_core::{Error, Result};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use super::append::AppendScratch;
use super::head::{Head, HeadParts, SeriesCapacity};
use super::head_chunk::{ChunkBytes, HeadChunk};
use super::retained::Retained;
use crate::limits::Limits;

/// How heads keep their data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeadSettings {
    /// Length of a block; blocks begin at multiples of it. Two hours, as everywhere in the field.
    #[serde(with = "lgtm_core::units::duration")]
    pub block_range: Duration,
    /// Size of one file of finished chunks. Small enough that space comes back soon after a flush.
    pub chunk_file_size: ByteSize,
    /// Bytes of finished chunks that wait in memory until they are written in one call. Default 256KiB: a call for a thousand chunks, and a
    /// fraction of what one head of many series takes.
    pub chunk_write_buffer: ByteSize,
    /// The write-ahead log.
    pub wal: WalSettings,
    /// The log is checkpointed when it has grown by so much since the last time: bounds disk use and the time of a replay.
    pub checkpoint_after: ByteSize,
    /// A series that holds nothing and got no sample for so long is forgotten.
    #[serde(with = "lgtm_core::units::duration")]
    pub series_idle_timeout: Duration,
    /// A series that got a sample within so long counts as active. Mimir's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub active_series_idle_timeout: Duration,
    /// A head that got no sample for so long is flushed and closed.
    #[serde(with = "lgtm_core::units::duration")]
    pub head_idle_timeout: Duration,
    /// Series of all tenants together: the bound of this process' memory (about 1 KiB each). 0: no bound.
    pub max_series: u64,
    /// The part of `max_series` that one tenant may hold of what the others leave: above 0, at most 1. Three quarters (default): one
    /// tenant can use most of a process, and however many fill their shares, the next one still finds room, as each leaves a quarter of
    /// what it found. Series that are known are always taken. 1: whoever comes first may take all, as is right for a single tenant.
    pub max_series_per_tenant_share: f64,
    /// Blocks written at the same time.
    pub flush_concurrency: usize,
    /// How long what a flush has written into a block can be read here all the same, also after a restart, so that nothing is missed by readers of blocks
    /// in other processes, who learn of a new block late. 0 (default): not at all, as is right in one process; the host takes
    /// `store_gateway.max_stale_period` and two `sync_interval` where there are several.
    #[serde(with = "lgtm_core::units::duration")]
    pub retain_flushed: Duration,
}

impl Default for HeadSettings {
    fn default() -> Self {
        Self {
            block_range: Duration::from_secs(2 * 3600),
            chunk_file_size: ByteSize::mib(64),
            chunk_write_buffer: ByteSize::kib(256),
            wal: WalSettings::default(),
            checkpoint_after: ByteSize::mib(512),
            series_idle_timeout: Duration::from_secs(3600),
            active_series_idle_timeout: Duration::from_secs(20 * 60),
            head_idle_timeout: Duration::from_secs(13 * 3600),
            max_series: 8_000_000,
            max_series_per_tenant_share: 0.75,
            flush_concurrency: 2,
            retain_flushed: Duration::ZERO,
        }
    }
}

impl HeadSettings {
    /// Names every fault.
    ///
    /// # Errors
    /// `InvalidInput` listing the settings and the bounds they break.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        if self.block_range < Duration::from_secs(60) {
            faults.push(format!(
                "block_range {:?} is less than 1m",
                self.block_range
            ));
        }
        let size = self.chunk_file_size.as_u64();
        if !(1 << 20..=u64::from(u32::MAX)).contains(&size) {
            faults.push(format!(
                "chunk_file_size {size} is not between 1MiB and 4GiB"
            ));
        }
        let buffer = self.chunk_write_buffer.as_u64();
        if !(1 << 10..=16 << 20).contains(&buffer) {
            faults.push(format!(
                "chunk_write_buffer {buffer} is not between 1KiB and 16MiB"
            ));
        }
        let share = self.max_series_per_tenant_share;
        if !(share > 0.0 && share <= 1.0) {
            faults.push(format!(
                "max_series_per_tenant_share {share} is not above 0 and at most 1"
            ));
        }
        if self.flush_concurrency == 0 {
            faults.push("flush_concurrency is 0".to_owned());
        }
        if let Err(e) = self.wal.validate() {
            faults.push(format!("wal: {e}"));
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Error::InvalidInput(faults.join("; ")))
        }
    }
}

/// How many series a tenant has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantSeries {
    /// Who.
    pub tenant: TenantId,
    /// Series in the head.
    pub in_memory: u64,
    /// Those that got a sample within `active_series_idle_timeout`, as counted by the last maintenance.
    pub active: u64,
    /// Samples taken since the head was made.
    pub appended: u64,
}

/// The heads of a process.
#[derive(Debug)]
pub(crate) struct Heads {
    pub(super) heads: RwLock<HashMap<TenantId, Arc<Head>>>,
    pub(super) wal: Wal,
    pub(super) parts: HeadParts,
    pub(super) settings: HeadSettings,
    pub(super) limits: Overrides<Limits>,
    /// Where there are other ingesters.
    global: Option<Arc<dyn GlobalLimits>>,
    pub(super) clock: Arc<dyn Clock>,
    /// Seed of the label hashes.
    seed: u64,
    pub(super) scratch: Mutex<Vec<AppendScratch>>,
    /// What stays on behalf of readers elsewhere.
    pub(super) retained: Retained,
    /// The data folder is ours while this is there.
    lock: Mutex<Option<FolderLock>>,
    /// False until replay is done: the log's samples come first.
    pub(super) writable: AtomicBool,
    /// How far the replay has come; `None` before its first frame.
    pub(super) replay_progress: Mutex<Option<ReplayProgress>>,
    /// Only one checkpoint at a time; holds the log's size at the last one.
    pub(super) checkpoint: Arc<tokio::sync::Mutex<u64>>,
}

impl Heads {
    /// Opens log and chunk files in `dir`, which nobody else can open until this is closed. Heads are empty until the log is replayed.
    ///
    /// # Errors
    /// `InvalidInput` for bad settings, `Conflict`, naming the holder, when the folder is open already, `Unavailable` when the disk refuses.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &str,
        settings: HeadSettings,
        limits: Overrides<Limits>,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Result<(Self, lgtm_core::wal::WalReplay)> {
        settings.validate()?;
        let lock = FolderLock::take(&*disk, dir, clock.now_ms())?;
        let file_size = u32::try_from(settings.chunk_file_size.as_u64()).unwrap_or(u32::MAX);
        let files = Arc::new(BlobFiles::open(
            Arc::clone(&disk),
            &format!("{dir}/chunks_head"),
            file_size,
            settings.chunk_write_buffer.as_usize(),
        )?);
        let (wal, replay) = Wal::open(
            disk,
            &format!("{dir}/wal"),
            settings.wal.clone(),
            Arc::clone(&clock),
        )?;
        let block_range_ms = i64::try_from(settings.block_range.as_millis()).unwrap_or(i64::MAX);
        let heads = Self {
            heads: RwLock::default(),
            wal,
            parts: HeadParts {
                files,
                block_range_ms,
                capacity: Arc::new(SeriesCapacity {
                    used: AtomicU64::new(0),
                    max: settings.max_series,
                    tenant_share: settings.max_series_per_tenant_share,
                }),
                generations: Arc::default(),
            },
            settings,
            limits,
            global: None,
            clock,
            seed,
            scratch: Mutex::default(),
            retained: Retained::default(),
            lock: Mutex::new(Some(lock)),
            writable: AtomicBool::new(false),
            replay_progress: Mutex::default(),
            checkpoint: Arc::default(),
        };
        Ok((heads, replay))
    }

    /// Whether queries can be answered: not before all of the log is back, as a part of it would look like all there is.
    ///
    /// # Errors
    /// `Unavailable`, with how far the replay is.
    pub(super) fn check_readable(&self) -> Result<()> {
        if self.writable.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(Error::Unavailable(match self.replay_progress() {
            Some(at) => format!(
                "the ingester is replaying its write-ahead log: {} of {} bytes",
                at.done_bytes, at.total_bytes
            ),
            None => "the ingester is opening its write-ahead log".into(),
        }))
    }

    /// The same heads of an ingester that takes its part of what a tenant may have.
    pub(crate) fn sharing(mut self, global: Option<Arc<dyn GlobalLimits>>) -> Self {
        self.global = global;
        self
    }

    /// The limits of a tenant, those that hold for all ingesters together divided among them.
    pub(super) fn limits_here(&self, tenant: &TenantId) -> Arc<Limits> {
        let limits = self.limits.for_tenant(tenant);
        let Some(global) = &self.global else {
            return limits;
        };
        let bounds = [
            limits.max_global_series_per_user,
            limits.max_global_series_per_metric,
            limits.max_global_metadata_per_user,
        ];
        let shard_size = limits.ingestion_tenant_shard_size;
        let here = bounds.map(|bound| match bound {
            0 => 0,
            bound => global.local(bound, shard_size),
        });
        if here == bounds {
            return limits;
        }
        let mut own = (*limits).clone();
        [
            own.max_global_series_per_user,
            own.max_global_series_per_metric,
            own.max_global_metadata_per_user,
        ] = here;
        Arc::new(own)
    }

    /// What a reader sees: all that no block has, and with `retain_flushed` what blocks have since lately.
    pub(super) fn snapshot(&self) -> Snapshot {
        let retained = self.retained.oldest();
        retained.unwrap_or_else(|| self.parts.generations.enter())
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
        let exemplars = self.limits.for_tenant(tenant).max_global_exemplars_per_user;
        let mut heads = self.heads.write();
        let make = || {
            Arc::new(Head::new(
                tenant.clone(),
                self.parts.clone(),
                self.seed,
                exemplars,
            ))
        };
        Arc::clone(heads.entry(tenant.clone()).or_insert_with(make))
    }

    /// All heads, in no order.
    pub(super) fn all(&self) -> Vec<Arc<Head>> {
        self.heads.read().values().cloned().collect()
    }

    /// Writes what was appended to the log and gives the folder up: nothing can be pushed afterwards, reads go on. Blocks as long as the last
    /// write takes.
    pub(crate) fn close(&self) {
        self.writable.store(false, Ordering::Release);
        self.wal.close();
        self.lock.lock().take();
    }

    /// The bytes of a chunk, wherever they are.
    pub(super) fn chunk_bytes(&self, chunk: &HeadChunk) -> Result<Bytes> {
        match &chunk.bytes {
            ChunkBytes::Memory(data) => Ok(Bytes::copy_from_slice(data)),
            ChunkBytes::File(place) => self.parts.files.read(*place, chunk.encoding as u8),
        }
    }

    /// Forgets series that have been empty and quiet for long, and heads that have no series left.
    pub(crate) fn collect_idle(&self) {
        let now_s = u32::try_from(self.clock.now_ms().to_seconds()).unwrap_or(0);
        let ago =
            |d: Duration| now_s.saturating_sub(u32::try_from(d.as_secs()).unwrap_or(u32::MAX));
        for head in self.all() {
            let gone = head.collect_idle(
                ago(self.settings.series_idle_timeout),
                ago(self.settings.active_series_idle_timeout),
            );
            if gone > 0 {
                tracing::debug!(tenant = %head.tenant, series = gone, "idle series forgotten");
            }
        }
        let before_s = ago(self.settings.head_idle_timeout);
        self.heads.write().retain(|_, head| {
            // Somebody who holds the head may be about to append to it.
            Arc::strong_count(head) > 1
                || head.series_count() > 0
                || head.touched_s.load(Ordering::Relaxed) >= before_s
        });
    }

    /// Series by tenant.
    pub(crate) fn series_by_tenant(&self) -> Vec<TenantSeries> {
        let count = |h: &Arc<Head>| TenantSeries {
            tenant: h.tenant.clone(),
            in_memory: h.series_count() as u64,
            active: h.active.load(Ordering::Relaxed),
            appended: h.appended.load(Ordering::Relaxed),
        };
        self.all().iter().map(count).collect()
    }

    /// Series of one tenant.
    pub(crate) fn series_of(&self, tenant: &TenantId) -> u64 {
        self.get(tenant).map_or(0, |h| h.series_count() as u64)
    }

    /// How far the replay has come; `None` before its first frame.
    pub(crate) fn replay_progress(&self) -> Option<ReplayProgress> {
        *self.replay_progress.lock()
    }

    /// What the log has done so far.
    pub(crate) fn wal_stats(&self) -> lgtm_core::wal::WalStats {
        self.wal.stats()
    }

    /// Heap bytes of symbols, postings and series lookup of all heads, nearly; and exemplars held.
    pub(crate) fn index_bytes_and_exemplars(&self) -> (u64, u64) {
        let heads = self.all();
        let bytes = heads.iter().map(|h| h.index_bytes() as u64).sum();
        (
            bytes,
            heads.iter().map(|h| h.exemplars.lock().len() as u64).sum(),
        )
    }

    /// Bytes in the chunk files.
    pub(crate) fn chunk_file_bytes(&self) -> u64 {
        self.parts.files.size_bytes()
    }

    /// Series of all heads.
    #[cfg(test)]
    pub(crate) fn series_count(&self) -> u64 {
        self.parts.capacity.used.load(Ordering::Relaxed)
    }

    /// Metadata of a tenant's metrics, by name.
    pub(crate) fn metadata(
        &self,
        tenant: &TenantId,
        name: Option<&str>,
    ) -> Vec<(String, Vec<Metadata>)> {
        let Some(head) = self.get(tenant) else {
            return Vec::new();
        };
        let store = head.metadata.lock();
        match name {
            Some(name) => vec![(name.to_owned(), store.get(name).to_vec())],
            None => store
                .iter()
                .map(|(n, m)| (n.to_owned(), m.to_vec()))
                .collect(),
        }
    }
}
