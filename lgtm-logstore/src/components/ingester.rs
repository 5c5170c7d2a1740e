//! Keeps recent entries, in memory and in the log, and moves them into the bucket as chunks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::disk::Disk;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::limits::{GlobalLimits, Overrides};
use lgtm_core::model::{Labels, Listed, TenantId, TextSet};
use lgtm_core::random::{RandomSource, os_random};
use lgtm_core::service::Service;
use lgtm_core::storage::{Bucket, claim};
use lgtm_core::telemetry::Registry;
use lgtm_core::wal::{Refusal, ReplayProgress, WalReplay, WalStats, check_log_ready};
use lgtm_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::chunk_flusher::{ChunkFlusher, FlushCounts, FlushReport, IndexWhen};
use super::clients::{
    IngesterClient, Inspect, PatternCounts, Patterns, PatternsRequest, Tail, TailFeed, TailRequest,
};
use super::followers::{FollowSettings, Followers};
use super::recent_patterns::{PatternSettings, RecentPatterns};
use crate::bucket::{BucketChunks, BucketWriter, BucketWriterSettings};
use crate::head::{
    FlushScope, HeadHost, HeadReplayReport, HeadSelect, HeadSettings, Heads, TenantStreams,
};
use crate::limits::{Limits, PushPart, PushReport};
use crate::logql::QueryError;
use crate::select::{EntryBatches, Select, SelectRequest, StreamVolume};

/// How an ingester works.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngesterSettings {
    /// Heads, log, chunk files.
    pub head: HeadSettings,
    /// How often finished chunks are put into the object store, idle streams looked for and the log's size checked. Default 30s, Loki's
    /// `flush_check_period`.
    #[serde(with = "lgtm_core::units::duration")]
    pub maintenance_interval: Duration,
    /// How long chunks that were put wait for the index file that names them; the heads answer for them meanwhile. Default 15m, as in Loki: each
    /// index file is an object that every query of its day may open.
    #[serde(with = "lgtm_core::units::duration")]
    pub index_interval: Duration,
    /// Chunks that may wait so; with more the index is written at once. Default 50000, which is some 10 MB of memory.
    pub max_unindexed_chunks: usize,
    /// How chunks are put into the object store.
    pub writer: BucketWriterSettings,
    /// How patterns of recent lines are found.
    pub patterns: PatternSettings,
    /// How entries are handed to those who follow a query.
    pub follow: FollowSettings,
    /// Whether an orderly stop moves everything into the object store; otherwise the log keeps it for the next start. Off: a restart costs no
    /// small chunks.
    pub flush_on_shutdown: bool,
}

impl Default for IngesterSettings {
    fn default() -> Self {
        Self {
            head: HeadSettings::default(),
            maintenance_interval: Duration::from_secs(30),
            index_interval: Duration::from_secs(15 * 60),
            max_unindexed_chunks: 50_000,
            writer: BucketWriterSettings::default(),
            patterns: PatternSettings::default(),
            follow: FollowSettings::default(),
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
        self.head.validate()?;
        self.writer.validate()?;
        self.patterns.validate()?;
        if self.maintenance_interval < Duration::from_millis(10) {
            return Err(Error::InvalidInput(
                "maintenance_interval is less than 10ms".into(),
            ));
        }
        if self.max_unindexed_chunks == 0 {
            return Err(Error::InvalidInput("max_unindexed_chunks is 0".into()));
        }
        Ok(())
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
    chunks: Option<Arc<BucketChunks>>,
    instance: Option<String>,
    registry: Option<Registry>,
    global_limits: Option<Arc<dyn GlobalLimits>>,
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

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets where hash seeds and names of instances take their randomness from; without it, from the operating system.
    #[must_use]
    pub fn random(mut self, random: RandomSource) -> Self {
        self.random = random;
        self
    }

    /// Sets the name of this process among others that write into the bucket: letters, digits, `-`, `_` and `.`. Without it a random one.
    #[must_use]
    pub fn instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = Some(instance.into());
        self
    }

    /// Has `registry` tell what the ingester holds and does.
    #[must_use]
    pub fn metrics(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// Sets how limits that hold for all ingesters together are divided among them. Without it this one is alone.
    #[must_use]
    pub fn global_limits(mut self, limits: Arc<dyn GlobalLimits>) -> Self {
        self.global_limits = Some(limits);
        self
    }

    /// Readers of the bucket in the same process, which learn of new chunks at once, and whose schema chunks are written by. Without them the
    /// schema is `v13`.
    #[must_use]
    pub fn chunks(mut self, chunks: Arc<BucketChunks>) -> Self {
        self.chunks = Some(chunks);
        self
    }

    /// Checks everything, touches nothing.
    ///
    /// # Errors
    /// `InvalidInput` naming every fault of the settings.
    pub fn build(mut self) -> Result<Arc<Ingester>> {
        self.settings.validate()?;
        let registry = self.registry.take();
        let chunks = match self.chunks.take() {
            Some(chunks) => chunks,
            None => BucketChunks::builder(self.bucket.clone(), self.executor.clone())
                .clock(Arc::clone(&self.clock))
                .build()?,
        };
        let instance = self.instance.take().unwrap_or_else(|| {
            let mut id = [0; 4];
            (self.random)(&mut id);
            format!("lgtm-{:08x}", u32::from_le_bytes(id))
        });
        let writer = BucketWriter::new(
            self.bucket.clone(),
            self.executor.clone(),
            Arc::clone(&self.clock),
            Arc::clone(&chunks),
            &instance,
            self.settings.writer.clone(),
        )?;
        let concurrency = self.settings.writer.put_concurrency;
        let clock = Arc::clone(&self.clock);
        let patterns = RecentPatterns::new(self.settings.patterns.clone(), Arc::clone(&clock))?;
        let follow = self.settings.follow.clone();
        let ingester = Arc::new(Ingester {
            patterns: Arc::new(patterns),
            followers: Followers::new(follow, clock, self.executor.clone()),
            flusher: ChunkFlusher::new(writer, Arc::clone(&self.clock), concurrency),
            parts: self,
            chunks,
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
pub(super) const CHUNKS_FORMAT: &str = "loki-chunks";

/// Keeps recent entries.
#[derive(Debug)]
pub struct Ingester {
    parts: IngesterBuilder,
    chunks: Arc<BucketChunks>,
    flusher: ChunkFlusher,
    patterns: Arc<RecentPatterns>,
    followers: Arc<Followers>,
    /// Whether the bucket is known to be ours.
    is_claimed: AtomicBool,
    running: Mutex<Running>,
}

impl Ingester {
    /// Begins a builder. Data go to `disk` (log, chunk files) and in the end to `bucket`; chunks are compressed and searched on `executor`.
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
            chunks: None,
            instance: None,
            registry: None,
            global_limits: None,
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

    /// Opens log and chunk files. Reads and writes are answered once [`Ingester::replay`] is done.
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
        let (settings, schema) = (p.settings.head.clone(), self.chunks.periods().clone());
        let (mut heads, replay) = Heads::open(host, ".", settings, schema, p.limits.clone())?;
        heads = heads.sharing(p.global_limits.clone());
        if self.chunks.has_side_files() {
            heads = heads.with_side_files(p.settings.writer.side_files.clone());
        }
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

    /// What the heads can be asked through.
    fn recent(&self) -> Result<HeadSelect> {
        Ok(HeadSelect::new(self.heads()?))
    }

    /// Marks the bucket as ours before anything is written to it, or checks that it is; once that is known nothing is asked again.
    ///
    /// # Errors
    /// `Conflict` when it is another's; those of the store.
    pub async fn claim(&self) -> Result<()> {
        if !self.is_claimed.load(Ordering::Acquire) {
            claim(&self.parts.bucket, CHUNKS_FORMAT).await?;
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

    /// Moves chunks into the bucket. When it returns, everything received before the call that `scope` covers is there and can be queried from
    /// there.
    ///
    /// # Errors
    /// The first error of any chunk; the others are moved all the same, and what failed stays in memory and in the log.
    pub async fn flush(&self, scope: FlushScope) -> Result<FlushReport> {
        let heads = self.heads()?;
        self.claim().await.inspect_err(|_| self.flusher.failed())?;
        if scope == FlushScope::All {
            heads.finish_all().await?;
        }
        self.flusher.flush(&heads, IndexWhen::Now).await
    }

    /// One round of housekeeping: chunks that are too old or idle are finished, finished ones put into the bucket, their index written when
    /// it is due; idle streams are forgotten, the log's size is checked.
    ///
    /// # Errors
    /// Those of flush and checkpoint; the round is repeated later.
    pub async fn maintain(&self) -> Result<()> {
        let heads = self.heads()?;
        heads.maintain().await?;
        self.patterns.maintain(&self.parts.executor).await?;
        let settings = &self.parts.settings;
        let when = IndexWhen::Due {
            after: settings.index_interval,
            chunks: settings.max_unindexed_chunks,
        };
        let flushed = match self.claim().await {
            Ok(()) => self.flusher.flush(&heads, when).await.map(drop),
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

    /// What recent lines have in common.
    pub fn recent_patterns(&self) -> &RecentPatterns {
        &self.patterns
    }

    /// Who follows what comes in.
    pub fn followers(&self) -> &Followers {
        &self.followers
    }

    /// Flush counts so far.
    pub fn flush_counts(&self) -> &FlushCounts {
        &self.flusher.counts
    }

    /// Streams by tenant.
    pub fn streams_by_tenant(&self) -> Vec<TenantStreams> {
        self.heads()
            .map_or_else(|_| Vec::new(), |h| h.streams_by_tenant())
    }

    /// Bytes of chunks in the making.
    pub fn open_chunk_bytes(&self) -> u64 {
        self.heads().map_or(0, |h| h.open_chunk_bytes())
    }

    /// Heap bytes of symbols, postings and stream lookup, nearly.
    pub fn index_bytes(&self) -> u64 {
        self.heads().map_or(0, |h| h.index_bytes())
    }

    /// Bytes in the chunk files.
    pub fn chunk_file_bytes(&self) -> u64 {
        self.heads().map_or(0, |h| h.chunk_file_bytes())
    }

    /// Finished chunks that could not be read since the start: each costs its own entries.
    pub fn damaged_chunks(&self) -> u64 {
        self.heads().map_or(0, |h| h.damaged_chunks())
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
        let (batch, accepted) = (part.batch(), part.accepted());
        let heads = self.heads()?;
        let stored = heads.push(tenant, batch, accepted, &mut report).await?;
        self.followers.publish(tenant, batch, &stored).await;
        self.patterns.observe(tenant, batch, &stored).await;
        Ok(report)
    }
}

#[async_trait]
impl Patterns for Ingester {
    async fn patterns(
        &self,
        tenant: &TenantId,
        request: &PatternsRequest,
    ) -> Result<Listed<Vec<PatternCounts>>> {
        let executor = &self.parts.executor;
        let found = self.patterns.patterns(executor, tenant, request).await?;
        Ok(Listed::whole(found))
    }
}

/// What comes in from now on: the past is the querier's.
#[async_trait]
impl Tail for Ingester {
    async fn tail(
        &self,
        tenant: &TenantId,
        request: &TailRequest,
    ) -> Result<Box<dyn TailFeed>, QueryError> {
        self.heads()?;
        let limits = self.parts.limits.for_tenant(tenant);
        let max_tails = limits.max_concurrent_tail_requests;
        self.followers.tail(tenant, request, max_tails).await
    }
}

/// Before the start, and until the log is read back, every call is `Unavailable`.
#[async_trait]
impl Select for Ingester {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn EntryBatches>> {
        self.recent()?.select(tenant, request).await
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        self.recent()?.series(tenant, request).await
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        self.recent()?.label_names(tenant, request).await
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        self.recent()?.label_values(tenant, name, request).await
    }
}

#[async_trait]
impl Inspect for Ingester {
    async fn volumes(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<StreamVolume>>> {
        self.recent()?.volumes(tenant, request).await
    }
}

#[async_trait]
impl Service for Ingester {
    fn name(&self) -> &str {
        "logs-ingester"
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
                entries = report.entries,
                records = report.log.records,
                torn_tail = report.log.torn_tail,
                damaged = report.log.set_aside.len(),
                lost_chunks = report.lost_chunks,
                "write-ahead log replayed"
            );
            self.running.lock().report = Some(report);
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
