//! Keeps recent samples, in memory and in the log, and moves them into blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::disk::Disk;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, TenantId, TextSet};
use lgtm_core::random::{RandomSource, os_random};
use lgtm_core::service::Service;
use lgtm_core::storage::{Bucket, Claim};
use lgtm_core::telemetry::Registry;
use lgtm_core::wal::{Refusal, ReplayProgress, WalReplay, WalStats, check_log_ready};
use lgtm_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::clients::IngesterClient;
use super::ingestion_rate::IngestionRates;
use crate::block::{BlockId, BlockMeta};
use crate::bucket::BucketBlocks;
use crate::head::{
    AppendReport, FlushScope, FlushTo, GlobalLimits, HeadReplayReport, HeadSelect, HeadSettings,
    Heads, TenantSeries,
};
use crate::limits::Limits;
use crate::select::{Listed, Select, SelectRequest, SeriesBatches};
use crate::wire::PushPart;

/// How an ingester works.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngesterSettings {
    /// Heads, log, chunk files.
    pub head: HeadSettings,
    /// How often complete ranges are looked for, idle series forgotten and the log's size checked.
    #[serde(with = "lgtm_core::units::duration")]
    pub maintenance_interval: Duration,
    /// Whether an orderly stop moves everything into blocks; otherwise the log keeps it for the next start. Off, as in Mimir.
    pub flush_on_shutdown: bool,
}

impl Default for IngesterSettings {
    fn default() -> Self {
        Self {
            head: HeadSettings::default(),
            maintenance_interval: Duration::from_secs(60),
            flush_on_shutdown: false,
        }
    }
}

/// Collects the parts of an [`Ingester`].
pub struct IngesterBuilder {
    bucket: Bucket,
    disk: Arc<dyn Disk>,
    limits: Overrides<Limits>,
    clock: Arc<dyn Clock>,
    random: RandomSource,
    blocks: Option<Arc<BucketBlocks>>,
    executor: Option<Executor>,
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

    /// Sets where block ids and hash seeds take their randomness from; without it, from the operating system.
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

    /// Readers of the bucket in the same process, which learn of new blocks at once.
    #[must_use]
    pub fn blocks(mut self, blocks: Arc<BucketBlocks>) -> Self {
        self.blocks = Some(blocks);
        self
    }

    /// Where searches through many series are computed. Without it that is done where they are asked for.
    #[must_use]
    pub fn executor(mut self, executor: Executor) -> Self {
        self.executor = Some(executor);
        self
    }

    /// What of the limits that hold for all ingesters together this one may take. Without it all of it.
    #[must_use]
    pub fn global_limits(mut self, limits: Arc<dyn GlobalLimits>) -> Self {
        self.global_limits = Some(limits);
        self
    }

    /// Checks everything, touches nothing.
    ///
    /// # Errors
    /// `InvalidInput` naming every fault of the settings.
    pub fn build(mut self) -> Result<Arc<Ingester>> {
        self.settings.head.validate()?;
        if self.settings.maintenance_interval < Duration::from_millis(10) {
            return Err(Error::InvalidInput(
                "maintenance_interval is less than 10ms".into(),
            ));
        }
        let registry = self.registry.take();
        let ingester = Arc::new(Ingester {
            parts: self,
            claim: Claim::new(BLOCKS_FORMAT),
            running: Mutex::default(),
            flushed: FlushCounts::default(),
            rates: Mutex::default(),
        });
        if let Some(registry) = &registry {
            ingester.register_metrics(registry);
        }
        Ok(ingester)
    }
}

/// Counts of flushes.
#[derive(Debug, Default)]
pub struct FlushCounts {
    /// Blocks uploaded.
    pub blocks: AtomicU64,
    /// Flushes that failed.
    pub failures: AtomicU64,
    /// Wall-clock time of the last success, milliseconds.
    pub last_success_ms: AtomicU64,
}

/// What exists once the ingester is started.
#[derive(Debug, Default)]
struct Running {
    heads: Option<Arc<Heads>>,
    replay: Option<WalReplay>,
    report: Option<HeadReplayReport>,
}

/// What the owner marker of the bucket says of its format.
pub(super) const BLOCKS_FORMAT: &str = "prometheus-tsdb-blocks";

/// Keeps recent samples.
#[derive(Debug)]
pub struct Ingester {
    parts: IngesterBuilder,
    claim: Claim,
    running: Mutex<Running>,
    flushed: FlushCounts,
    rates: Mutex<IngestionRates>,
}

impl Ingester {
    /// Begins a builder. Data go to `disk` (log, chunk files) and in the end to `bucket`.
    pub fn builder(
        bucket: Bucket,
        disk: Arc<dyn Disk>,
        limits: Overrides<Limits>,
    ) -> IngesterBuilder {
        IngesterBuilder {
            bucket,
            disk,
            limits,
            clock: Arc::new(SystemClock::new()),
            random: os_random(),
            blocks: None,
            executor: None,
            registry: None,
            global_limits: None,
            settings: IngesterSettings::default(),
        }
    }

    pub(super) fn heads(&self) -> Result<Arc<Heads>> {
        self.running
            .lock()
            .heads
            .clone()
            .ok_or_else(|| Error::Unavailable("the ingester is not started".into()))
    }

    /// Opens log and chunk files. Reads and writes are answered once [`Ingester::replay`] is done.
    ///
    /// # Errors
    /// `Unavailable` when the disk refuses.
    pub fn open(&self) -> Result<()> {
        let p = &self.parts;
        let mut seed = [0; 8];
        (p.random)(&mut seed);
        let (heads, replay) = Heads::open(
            Arc::clone(&p.disk),
            ".",
            p.settings.head.clone(),
            p.limits.clone(),
            Arc::clone(&p.clock),
            u64::from_le_bytes(seed),
        )?;
        let heads = heads.sharing(p.global_limits.clone());
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
        Ok(HeadSelect::new(self.heads()?, self.executor()))
    }

    pub(super) fn executor(&self) -> Executor {
        let executor = self.parts.executor.clone();
        executor.unwrap_or_else(|| Executor::inline(Handle::current()))
    }

    /// Marks the bucket as ours before anything is written to it, or checks that it is; once that is known nothing is asked again.
    ///
    /// # Errors
    /// `Conflict` when it is another's; those of the store.
    pub async fn claim(&self) -> Result<()> {
        self.claim.ensure(&self.parts.bucket).await
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

    fn new_id(&self) -> BlockId {
        let mut random = [0; 10];
        (self.parts.random)(&mut random);
        BlockId::new(
            u64::try_from(self.parts.clock.now_ms().get()).unwrap_or(0),
            random,
        )
    }

    /// Moves data into blocks. When it returns, everything received before the call that `scope` covers is in the bucket and can
    /// be queried from there.
    ///
    /// # Errors
    /// The first error of any tenant; the others are flushed all the same, and what failed stays in memory and in the log.
    pub async fn flush(&self, scope: FlushScope) -> Result<Vec<(TenantId, BlockMeta)>> {
        let heads = self.heads()?;
        let on_block = |tenant: &TenantId, meta: &BlockMeta| {
            self.flushed.blocks.fetch_add(1, Ordering::Relaxed);
            if let Some(blocks) = &self.parts.blocks {
                blocks.add(tenant, meta);
            }
        };
        self.claim().await.inspect_err(|_| {
            self.flushed.failures.fetch_add(1, Ordering::Relaxed);
        })?;
        let to = FlushTo {
            bucket: &self.parts.bucket,
            executor: &self.executor(),
            new_id: &|| self.new_id(),
            on_block: &on_block,
        };
        let flushed = heads.flush_all(scope, &to).await;
        match &flushed {
            Ok(_) => {
                let now = u64::try_from(self.parts.clock.now_ms().get()).unwrap_or(0);
                self.flushed.last_success_ms.store(now, Ordering::Relaxed);
            }
            Err(_) => {
                self.flushed.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
        flushed
    }

    /// One round of housekeeping: complete ranges, idle series and heads, the log's size.
    ///
    /// # Errors
    /// Those of flush and checkpoint; the round is repeated later.
    pub async fn maintain(&self) -> Result<()> {
        let heads = self.heads()?;
        let totals = heads.series_by_tenant().into_iter();
        let totals = totals.map(|t| (t.tenant, t.appended));
        self.rates.lock().count(self.parts.clock.now_ms(), totals);
        let flushed = self.flush(FlushScope::Complete).await;
        let idle = Arc::clone(&heads);
        let forget = move |_: &CancelToken| {
            idle.drop_moved();
            idle.collect_idle();
            Ok::<_, Error>(())
        };
        self.executor().run(forget, &CancelToken::new()).await?;
        if heads.checkpoint_is_due() {
            heads.checkpoint().await?;
        }
        flushed.map(drop)
    }

    /// Flush counts so far.
    pub fn flush_counts(&self) -> &FlushCounts {
        &self.flushed
    }

    /// Series by tenant.
    pub fn series_by_tenant(&self) -> Vec<TenantSeries> {
        self.heads()
            .map_or_else(|_| Vec::new(), |h| h.series_by_tenant())
    }

    /// Samples a second that a tenant brought between the last two rounds of maintenance.
    pub(super) fn samples_per_s(&self, tenant: &TenantId) -> f64 {
        self.rates.lock().of(tenant)
    }

    /// What the log has done so far.
    pub fn wal_stats(&self) -> WalStats {
        self.heads()
            .map_or_else(|_| WalStats::default(), |h| h.wal_stats())
    }

    /// Heap bytes of symbols, postings and series lookup, nearly; and exemplars held.
    pub fn index_bytes_and_exemplars(&self) -> (u64, u64) {
        self.heads()
            .map_or((0, 0), |h| h.index_bytes_and_exemplars())
    }

    /// Bytes in the chunk files.
    pub fn chunk_file_bytes(&self) -> u64 {
        self.heads().map_or(0, |h| h.chunk_file_bytes())
    }

    /// Finished chunks that could not be read since the start: each costs its own samples.
    pub fn damaged_chunks(&self) -> u64 {
        self.heads().map_or(0, |h| h.damaged_chunks())
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
    async fn push(&self, tenant: &TenantId, part: PushPart) -> Result<AppendReport> {
        self.heads()?.append(tenant, part.view()).await
    }
}

/// Before the start, and until the log is read back, every call is `Unavailable`.
#[async_trait]
impl Select for Ingester {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn SeriesBatches>> {
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
impl Service for Ingester {
    fn name(&self) -> &str {
        "metrics-ingester"
    }

    async fn start(&self) -> Result<()> {
        self.claim_if_there().await?;
        self.open()
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        let heads = self.heads()?;
        let replay = self.running.lock().replay.take();
        if let Some(replay) = replay {
            // The service is Running meanwhile, so that reads are answered; readiness waits.
            let replayed = tokio::task::spawn_blocking(move || heads.replay(replay)).await;
            let report = replayed
                .map_err(|e| Error::Internal(format!("replay of the write-ahead log: {e}")))??;
            tracing::info!(
                samples = report.samples,
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
