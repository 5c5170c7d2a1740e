//! Keeps recent traces, in memory and in the log, and moves them into the bucket as blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::disk::Disk;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::limits::Overrides;
use lgtm_core::model::TenantId;
use lgtm_core::random::{RandomSource, os_random};
use lgtm_core::service::Service;
use lgtm_core::storage::{Bucket, claim};
use lgtm_core::telemetry::Registry;
use lgtm_core::units::ByteSize;
use lgtm_core::wal::{Refusal, ReplayProgress, WalReplay, WalStats, check_log_ready};
use lgtm_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::block_flusher::{BlockFlusher, CutRules, FlushCounts, FlushReport};
use super::clients::{FindTrace, IngesterClient};
use super::requests::{FoundTrace, TraceRequest};
use crate::bucket::{BlockList, BlockUpload, BucketSettings};
use crate::head::{
    FlushScope, HeadHost, HeadReplayReport, HeadSelect, HeadSettings, Heads, TenantTraces,
};
use crate::limits::{Limits, PushPart, PushReport};
use crate::select::{RecentRequest, RecentTraces, Select, SelectEnd, SpanBatches, SpanRequest};

/// How an ingester works.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngesterSettings {
    /// Heads, log, files of cut traces.
    pub head: HeadSettings,
    /// How often idle traces are cut, blocks that are due written and the log's size checked. Default 5s: as long as a trace may be idle.
    #[serde(with = "lgtm_core::units::duration")]
    pub maintenance_interval: Duration,
    /// Cut traces become a block when the first of them came so long ago. Tempo's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_block_duration: Duration,
    /// And when there are so many bytes of them, before compression. Default 256MiB, half of Tempo's: they are merged with a part of each batch
    /// in memory.
    pub max_block_bytes: ByteSize,
    /// Blocks that are written at a time. Default 2: each holds a row group in memory.
    pub concurrent_flushes: usize,
    /// Whether an orderly stop moves everything into the object store; otherwise the log keeps it for the next start. Off: a restart makes no
    /// small blocks.
    pub flush_on_shutdown: bool,
}

impl Default for IngesterSettings {
    fn default() -> Self {
        Self {
            head: HeadSettings::default(),
            maintenance_interval: Duration::from_secs(5),
            max_block_duration: Duration::from_secs(30 * 60),
            max_block_bytes: ByteSize::mib(256),
            concurrent_flushes: 2,
            flush_on_shutdown: false,
        }
    }
}

impl IngesterSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// `InvalidInput` naming every fault.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        if let Err(e) = self.head.validate() {
            faults.push(format!("head: {e}"));
        }
        if self.maintenance_interval < Duration::from_millis(10) {
            faults.push("maintenance_interval is less than 10ms".to_owned());
        }
        if self.max_block_bytes.as_u64() == 0 {
            faults.push("max_block_bytes is 0".to_owned());
        }
        if self.concurrent_flushes == 0 {
            faults.push("concurrent_flushes is 0".to_owned());
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Error::InvalidInput(faults.join("; ")))
        }
    }
}

/// Collects the parts of an [`Ingester`].
pub struct IngesterBuilder {
    bucket: Bucket,
    disk: Arc<dyn Disk>,
    limits: Overrides<Limits>,
    executor: Executor,
    clock: Arc<dyn Clock>,
    random: RandomSource,
    blocks: Option<Arc<BlockList>>,
    block_settings: BucketSettings,
    registry: Option<Registry>,
    settings: IngesterSettings,
}

impl std::fmt::Debug for IngesterBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IngesterBuilder")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl IngesterBuilder {
    /// Sets the settings.
    #[must_use]
    pub fn settings(mut self, settings: IngesterSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets how blocks are written.
    #[must_use]
    pub fn block_settings(mut self, settings: BucketSettings) -> Self {
        self.block_settings = settings;
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets where hash seeds and names of blocks take their randomness from; without it, from the operating system.
    #[must_use]
    pub fn random(mut self, random: RandomSource) -> Self {
        self.random = random;
        self
    }

    /// Has `registry` tell what the ingester holds and does.
    #[must_use]
    pub fn metrics(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// The list of readers of the bucket in the same process, which know new blocks at once.
    #[must_use]
    pub fn blocks(mut self, blocks: Arc<BlockList>) -> Self {
        self.blocks = Some(blocks);
        self
    }

    /// Checks everything, touches nothing.
    ///
    /// # Errors
    /// `InvalidInput` naming every fault of the settings.
    pub fn build(mut self) -> Result<Arc<Ingester>> {
        self.settings.validate()?;
        self.block_settings.validate()?;
        let registry = self.registry.take();
        let blocks = self.blocks.take().unwrap_or_else(|| {
            Arc::new(BlockList::new(
                self.bucket.clone(),
                self.executor.clone(),
                Arc::clone(&self.clock),
                self.block_settings.blocklist_poll,
            ))
        });
        let upload = BlockUpload::new(
            self.bucket.clone(),
            self.executor.clone(),
            self.block_settings.clone(),
        );
        let rules = CutRules {
            max_bytes: self.settings.max_block_bytes.as_u64(),
            max_age: self.settings.max_block_duration,
            concurrency: self.settings.concurrent_flushes,
        };
        let flusher = BlockFlusher::new(
            upload,
            blocks,
            self.limits.clone(),
            Arc::clone(&self.clock),
            Arc::clone(&self.random),
            rules,
        );
        let ingester = Arc::new(Ingester {
            flusher,
            parts: self,
            is_claimed: AtomicBool::new(false),
            running: Mutex::default(),
        });
        if let Some(registry) = &registry {
            ingester.register_metrics(registry);
        }
        Ok(ingester)
    }
}

/// What exists once the ingester is started.
#[derive(Debug, Default)]
struct Running {
    heads: Option<Arc<Heads>>,
    replay: Option<WalReplay>,
    report: Option<HeadReplayReport>,
}

/// What the owner marker of the bucket says of its format.
pub(super) const BLOCKS_FORMAT: &str = "tempo-blocks";

/// Keeps recent traces.
#[derive(Debug)]
pub struct Ingester {
    parts: IngesterBuilder,
    flusher: BlockFlusher,
    /// Whether the bucket is known to be ours.
    is_claimed: AtomicBool,
    running: Mutex<Running>,
}

impl Ingester {
    /// Begins a builder. Data go to `disk` (log, files of cut traces) and in the end to `bucket`; traces are packed and blocks made on `executor`.
    pub fn builder(
        bucket: Bucket,
        disk: Arc<dyn Disk>,
        limits: Overrides<Limits>,
        executor: Executor,
    ) -> IngesterBuilder {
        IngesterBuilder {
            bucket,
            disk,
            limits,
            executor,
            clock: Arc::new(SystemClock::new()),
            random: os_random(),
            blocks: None,
            block_settings: BucketSettings::default(),
            registry: None,
            settings: IngesterSettings::default(),
        }
    }

    fn heads(&self) -> Result<Arc<Heads>> {
        self.running
            .lock()
            .heads
            .clone()
            .ok_or_else(|| Error::Unavailable("the ingester is not started".into()))
    }

    /// Opens log and files. Reads and writes are answered once [`Ingester::replay`] is done.
    ///
    /// # Errors
    /// `Conflict`, naming the holder, when the folder is open already; `Unavailable` when the disk refuses.
    pub fn open(&self) -> Result<()> {
        let p = &self.parts;
        let mut seed = [0; 8];
        (p.random)(&mut seed);
        let host = HeadHost {
            disk: Arc::clone(&p.disk),
            clock: Arc::clone(&p.clock),
            executor: p.executor.clone(),
            seed: u64::from_le_bytes(seed),
        };
        let (heads, replay) = Heads::open(host, ".", p.settings.head.clone(), p.limits.clone())?;
        *self.running.lock() = Running {
            heads: Some(Arc::new(heads)),
            replay: Some(replay),
            report: None,
        };
        Ok(())
    }

    /// Reads the log back. Blocks the thread for as long as it takes.
    ///
    /// # Errors
    /// `Unavailable` when the log cannot be read.
    pub fn replay(&self) -> Result<HeadReplayReport> {
        let (heads, replay) = (self.heads()?, self.running.lock().replay.take());
        let Some(replay) = replay else {
            return Ok(self.running.lock().report.clone().unwrap_or_default());
        };
        let report = heads.replay(replay)?;
        self.running.lock().report = Some(report.clone());
        Ok(report)
    }

    /// Looks up blocks that a process before was writing when it ended. Until that is done answers have their traces once from the log and once from
    /// the block, and count them once; what cannot be looked up now is before the next flush.
    pub async fn settle(&self) {
        if let Ok(heads) = self.heads()
            && let Err(e) = self.flusher.settle(&heads).await
        {
            tracing::warn!(error = %e, "blocks that were being written cannot be looked up; it is tried again before the next flush");
        }
    }

    /// What the heads can be asked through.
    fn recent_heads(&self) -> Result<HeadSelect> {
        Ok(HeadSelect::new(self.heads()?))
    }

    /// Marks the bucket as ours before anything is written to it, or checks that it is; once that is known nothing is asked again.
    ///
    /// # Errors
    /// `Conflict` when it is another's; those of the store.
    pub async fn claim(&self) -> Result<()> {
        if !self.is_claimed.load(Ordering::Acquire) {
            claim(&self.parts.bucket, BLOCKS_FORMAT).await?;
            self.is_claimed.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// [`Ingester::claim`] at the start, where only another's bucket is a reason not to begin: a store that is away now is asked again
    /// before the first flush.
    ///
    /// # Errors
    /// `Conflict`.
    pub(super) async fn claim_if_there(&self) -> Result<()> {
        match self.claim().await {
            Err(e) if e.kind() != ErrorKind::Conflict => {
                tracing::warn!(error = %e, "the object store does not answer; writes are taken, and flushed when it does");
                Ok(())
            }
            claimed => claimed,
        }
    }

    /// Moves traces into the bucket. When it returns, everything received before the call that `scope` covers is there and can be queried from
    /// there.
    ///
    /// # Errors
    /// The first error of any block; the others are moved all the same, and what failed stays in memory and in the log.
    pub async fn flush(&self, scope: FlushScope) -> Result<FlushReport> {
        let heads = self.heads()?;
        self.claim().await.inspect_err(|_| self.flusher.failed())?;
        if scope == FlushScope::All {
            heads.pack_live(None).await?;
        }
        self.flusher.flush(&heads, scope).await
    }

    /// One round of housekeeping: traces that are idle or old are cut, batches of them that are old or many become blocks; the log's size is checked.
    ///
    /// # Errors
    /// Those of flush and checkpoint; the round is repeated later.
    pub async fn maintain(&self) -> Result<()> {
        let heads = self.heads()?;
        heads.maintain().await?;
        heads
            .pack_older(self.parts.settings.max_block_duration)
            .await?;
        let flushed = match self.claim().await {
            Ok(()) => self
                .flusher
                .flush(&heads, FlushScope::Complete)
                .await
                .map(drop),
            Err(e) => {
                self.flusher.failed();
                Err(e)
            }
        };
        if heads.checkpoint_is_due() {
            heads.checkpoint().await?;
        }
        flushed
    }

    /// Flush counts so far.
    pub fn flush_counts(&self) -> &FlushCounts {
        &self.flusher.counts
    }

    /// What is held, by tenant.
    pub fn traces_by_tenant(&self) -> Vec<TenantTraces> {
        self.heads()
            .map_or_else(|_| Vec::new(), |h| h.traces_by_tenant())
    }

    /// Bytes of traces that are in memory as they came.
    pub fn live_bytes(&self) -> u64 {
        self.heads().map_or(0, |h| h.live_bytes())
    }

    /// Heap bytes of tables, nearly.
    pub fn table_bytes(&self) -> u64 {
        self.heads().map_or(0, |h| h.table_bytes())
    }

    /// Bytes in the files of cut traces.
    pub fn batch_file_bytes(&self) -> u64 {
        self.heads().map_or(0, |h| h.batch_file_bytes())
    }

    /// Batches of cut traces that could not be read since the start: each costs its own traces.
    pub fn damaged_batches(&self) -> u64 {
        self.heads().map_or(0, |h| h.damaged_batches())
    }

    /// What the log has done so far.
    pub fn wal_stats(&self) -> WalStats {
        self.heads()
            .map_or_else(|_| WalStats::default(), |h| h.wal_stats())
    }

    /// Why no writes are taken, once that has lasted longer than a moment (two seconds).
    pub fn write_refusal(&self) -> Option<Refusal> {
        self.heads().ok()?.write_refusal()
    }

    /// How far the replay of the log has come; `None` before its first frame.
    pub fn replay_progress(&self) -> Option<ReplayProgress> {
        self.heads().ok()?.replay_progress()
    }

    /// What the replay found, once it is done.
    pub fn replay_report(&self) -> Option<HeadReplayReport> {
        self.running.lock().report.clone()
    }

    /// Flushes if the settings say so, and closes the log. Nothing can be pushed afterwards.
    ///
    /// # Errors
    /// Those of the flush; the log is closed all the same.
    pub async fn close(&self) -> Result<()> {
        let flushed = if self.parts.settings.flush_on_shutdown && self.heads().is_ok() {
            self.flush(FlushScope::All).await.map(drop)
        } else {
            Ok(())
        };
        let running = std::mem::take(&mut *self.running.lock());
        if let Some(heads) = running.heads {
            let closed = tokio::task::spawn_blocking(move || heads.close()).await;
            closed.map_err(|e| Error::Internal(format!("closing the heads: {e}")))?;
        }
        flushed
    }
}

#[async_trait]
impl IngesterClient for Ingester {
    async fn push(&self, tenant: &TenantId, part: PushPart) -> Result<PushReport> {
        let mut report = PushReport::default();
        let heads = self.heads()?;
        heads.push_part(tenant, &part, &mut report).await?;
        Ok(report)
    }

    async fn recent(
        &self,
        tenant: &TenantId,
        request: &RecentRequest,
    ) -> Result<Box<dyn RecentTraces>> {
        self.recent_heads()?.recent(tenant, request).await
    }
}

/// Before the start, and until the log is read back, every call is `Unavailable`.
#[async_trait]
impl Select for Ingester {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SpanRequest,
    ) -> Result<Box<dyn SpanBatches>> {
        self.recent_heads()?.select(tenant, request).await
    }
}

/// Recent traces are looked at whatever their time.
#[async_trait]
impl FindTrace for Ingester {
    async fn find_trace(&self, tenant: &TenantId, request: &TraceRequest) -> Result<FoundTrace> {
        let (bytes, warnings) = self.recent_heads()?.find(tenant, request.id).await?;
        Ok(FoundTrace {
            is_cut: bytes.len() > request.max_bytes,
            bytes,
            end: SelectEnd {
                warnings,
                ..SelectEnd::default()
            },
        })
    }
}

#[async_trait]
impl Service for Ingester {
    fn name(&self) -> &str {
        "traces-ingester"
    }

    async fn start(&self) -> Result<()> {
        self.claim_if_there().await?;
        self.open()
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        let heads = self.heads()?;
        let replay = self.running.lock().replay.take();
        if let Some(replay) = replay {
            // The service is Running meanwhile; readiness waits.
            let replayed = tokio::task::spawn_blocking(move || heads.replay(replay)).await;
            let report = replayed
                .map_err(|e| Error::Internal(format!("replay of the write-ahead log: {e}")))??;
            tracing::info!(
                spans = report.spans,
                records = report.log.records,
                torn_tail = report.log.torn_tail,
                damaged = report.log.set_aside.len(),
                lost_batches = report.lost_batches,
                "write-ahead log replayed"
            );
            self.running.lock().report = Some(report);
            self.settle().await;
        }
        while !stop.is_cancelled() {
            let pause = tokio::time::sleep(self.parts.settings.maintenance_interval);
            tokio::select! {
                () = pause => {
                    if let Err(e) = self.maintain().await {
                        tracing::warn!(error = %e, "maintenance of the heads is not complete; it is tried again");
                    }
                }
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }

    async fn stop(&self) -> Result<()> {
        self.close().await
    }

    fn remarks(&self) -> Vec<String> {
        let report = self.running.lock().report.clone();
        report.map_or_else(Vec::new, |r| r.remarks())
    }

    async fn check_ready(&self) -> Result<()> {
        let is_replayed = self.running.lock().report.is_some();
        check_log_ready(is_replayed, self.write_refusal(), self.replay_progress())
    }
}
