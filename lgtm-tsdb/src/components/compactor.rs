//! Compacts the blocks in the bucket, and keeps the bucket clean.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::{CancelToken, Executor, rounds};
use lgtm_core::limits::Overrides;
use lgtm_core::model::{TenantId, TimestampMs};
use lgtm_core::random::{RandomSource, os_random};
use lgtm_core::service::{CompactionProgress, Service, TenantProgress};
use lgtm_core::storage::{Bucket, Claim};
use lgtm_core::telemetry::Registry;
use lgtm_core::{ErrorKind, Result};
use parking_lot::Mutex;

use super::blocks_cleaner::BlocksCleaner;
use super::compaction_counts::{CompactionCounts, MarkReason};
use super::compactor_settings::CompactorSettings;
use super::ingester::BLOCKS_FORMAT;
use crate::block::{BlockMeta, DeletionMark, NoCompactMark};
use crate::block_id::BlockId;
use crate::bucket::{
    BlockScanner, BucketBlocks, StoredBlock, TenantBlocks, mark_for_deletion, mark_no_compact,
};
use crate::compact::{
    BlockMerge, CompactionJob, MergeError, MergeReport, MergeTask, plan, redundant,
};
use crate::limits::Limits;

/// Rounds in which a block was found damaged before it is marked: a single bad read says nothing of the block.
const DAMAGED_ROUNDS: u32 = 2;
/// How long after the start the first rounds are: a process that is restarted often works, too.
const FIRST_CLEANUP: Duration = Duration::from_secs(30);
const FIRST_COMPACTION: Duration = Duration::from_secs(60);

/// Decides whether a job is this process' own: it is told the key of the job ([`CompactionJob::key`]), or the tenant whose blocks are to be
/// cleaned.
pub type OwnsJob = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Collects the parts of a [`Compactor`].
pub struct CompactorBuilder {
    bucket: Bucket,
    limits: Overrides<Limits>,
    executor: Executor,
    clock: Arc<dyn Clock>,
    random: RandomSource,
    blocks: Option<Arc<BucketBlocks>>,
    folder: Option<PathBuf>,
    owns: OwnsJob,
    registry: Option<Registry>,
    settings: CompactorSettings,
}

impl std::fmt::Debug for CompactorBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompactorBuilder")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl CompactorBuilder {
    /// Sets the settings.
    #[must_use]
    pub fn settings(mut self, settings: CompactorSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets where names of blocks take their randomness from; without it, from the operating system.
    #[must_use]
    pub fn random(mut self, random: RandomSource) -> Self {
        self.random = random;
        self
    }

    /// Readers of the bucket in the same process, which know at once which block is in place of which.
    #[must_use]
    pub fn blocks(mut self, blocks: Arc<BucketBlocks>) -> Self {
        self.blocks = Some(blocks);
        self
    }

    /// Sets a local folder for postings that take more memory than they may. Its files have no names once they are open.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Sets which jobs are this process' own, where several share a bucket. Without it all are; two that do the same job do no harm but work.
    #[must_use]
    pub fn owns(mut self, owns: OwnsJob) -> Self {
        self.owns = owns;
        self
    }

    /// Has `registry` tell what was compacted and deleted.
    #[must_use]
    pub fn metrics(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// Checks everything, touches nothing.
    ///
    /// # Errors
    /// `InvalidInput` for settings out of bounds.
    pub fn build(self) -> Result<Arc<Compactor>> {
        self.settings.validate()?;
        let merge_settings = self.settings.merge_settings(self.folder);
        let scanner = BlockScanner::new(self.bucket.clone(), self.settings.meta_sync_concurrency);
        let parts = Arc::new(CompactorParts {
            scanner,
            bucket: self.bucket.clone(),
            limits: self.limits,
            clock: self.clock,
            random: self.random,
            blocks: self.blocks,
            owns: self.owns,
            claim: Claim::new(BLOCKS_FORMAT),
            settings: self.settings,
            counts: CompactionCounts::default(),
            progress: Arc::default(),
        });
        let compactor = Arc::new(Compactor {
            merge: BlockMerge::new(self.bucket, self.executor, merge_settings),
            cleaner: BlocksCleaner::new(Arc::clone(&parts)),
            parts,
            damaged: Mutex::default(),
            working: tokio::sync::Mutex::default(),
        });
        if let Some(registry) = &self.registry {
            compactor.register_metrics(registry);
            compactor.progress().register_metrics(registry, "metrics");
        }
        Ok(compactor)
    }
}

/// What compaction and cleaning share.
pub(super) struct CompactorParts {
    pub(super) scanner: BlockScanner,
    pub(super) bucket: Bucket,
    pub(super) limits: Overrides<Limits>,
    pub(super) clock: Arc<dyn Clock>,
    random: RandomSource,
    /// Readers in the same process.
    pub(super) blocks: Option<Arc<BucketBlocks>>,
    pub(super) owns: OwnsJob,
    pub(super) claim: Claim,
    pub(super) settings: CompactorSettings,
    pub(super) counts: CompactionCounts,
    progress: Arc<CompactionProgress>,
}

impl std::fmt::Debug for CompactorParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompactorParts")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl CompactorParts {
    fn new_id(&self) -> BlockId {
        let mut random = [0; 10];
        (self.random)(&mut random);
        BlockId::new(
            u64::try_from(self.clock.now_ms().get()).unwrap_or(0),
            random,
        )
    }

    pub(super) fn now_s(&self) -> i64 {
        self.clock.now_ms().to_seconds()
    }

    /// Marks a block for deletion, here and in `found`.
    pub(super) async fn mark(
        &self,
        tenant: &TenantId,
        id: BlockId,
        reason: MarkReason,
        found: &mut TenantBlocks,
    ) -> Result<()> {
        let now_s = self.now_s();
        let mark = DeletionMark::new(id, now_s, reason.details());
        mark_for_deletion(&self.bucket, tenant, &mark).await?;
        found.deletion_marks.insert(id, Some(now_s));
        self.counts.marked(reason);
        Ok(())
    }
}

/// Compacts blocks: those of one range of time become one, of short ranges those of longer ones, each sample once. Keeps the bucket clean: deletes
/// what is superseded, too old, or was left by uploads that broke off, and writes the index of each tenant's blocks.
///
/// The new block is there, whole, before the old ones are marked, and these are deleted only `deletion_delay` later. So it may be stopped at any
/// point: nothing is lost, and what was not finished is found again by what stands in the bucket.
#[derive(Debug)]
pub struct Compactor {
    pub(super) parts: Arc<CompactorParts>,
    merge: BlockMerge,
    pub(super) cleaner: BlocksCleaner,
    /// Blocks that could not be read, and in how many rounds.
    damaged: Mutex<BTreeMap<BlockId, u32>>,
    /// One round at a time.
    working: tokio::sync::Mutex<()>,
}

impl Compactor {
    /// Begins a builder: compacts the blocks in `bucket`; `executor` computes.
    pub fn builder(
        bucket: Bucket,
        limits: Overrides<Limits>,
        executor: Executor,
    ) -> CompactorBuilder {
        CompactorBuilder {
            bucket,
            limits,
            executor,
            clock: Arc::new(SystemClock::new()),
            random: os_random(),
            blocks: None,
            folder: None,
            owns: Arc::new(|_| true),
            registry: None,
            settings: CompactorSettings::default(),
        }
    }

    /// What was done so far.
    pub fn counts(&self) -> &CompactionCounts {
        &self.parts.counts
    }

    /// How far it is with each tenant.
    pub fn progress(&self) -> &Arc<CompactionProgress> {
        &self.parts.progress
    }

    /// One round of cleaning: applies retention, deletes what is marked for long enough and what broken uploads have left, writes the bucket index
    /// of each tenant. Costs a listing of each tenant's objects.
    ///
    /// # Errors
    /// The first error of any tenant; the others are cleaned all the same. What failed is tried again in the next round.
    pub async fn clean(&self, cancel: &CancelToken) -> Result<()> {
        self.cleaner.clean(cancel).await
    }

    /// One round of compaction: each tenant's blocks are compacted until there is nothing to do, or it is the next tenant's turn. Costs a listing of
    /// each tenant's objects beside the work.
    ///
    /// # Errors
    /// The first error of any tenant; the others have their turn all the same. What failed is tried again in the next round.
    pub async fn compact(&self, cancel: &CancelToken) -> Result<()> {
        let _one = self.working.lock().await;
        let counts = &self.parts.counts;
        counts.runs_started.fetch_add(1, Ordering::Relaxed);
        let done = self.round(cancel).await;
        match &done {
            Ok(()) => {
                counts.runs_completed.fetch_add(1, Ordering::Relaxed);
                let now_ms = self.parts.clock.now_ms().get();
                counts.last_success_ms.store(now_ms, Ordering::Relaxed);
            }
            Err(_) => drop(counts.runs_failed.fetch_add(1, Ordering::Relaxed)),
        }
        done
    }

    async fn round(&self, cancel: &CancelToken) -> Result<()> {
        let parts = &self.parts;
        if !parts.settings.compaction_enabled {
            return Ok(());
        }
        parts.claim.ensure(&parts.bucket).await?;
        let mut failed = None;
        let tenants = parts.bucket.tenants().await?;
        parts.progress.keep(&tenants);
        for tenant in tenants {
            cancel.check("compaction")?;
            let mut seen = TenantProgress::default();
            let done = self.compact_tenant(&tenant, &mut seen, cancel).await;
            let now_ms = parts.clock.now_ms();
            parts.progress.ended(&tenant, now_ms, &done, |p| {
                (p.serving, p.superseded) = (seen.serving, seen.superseded);
                (p.waiting_jobs, p.waiting_since) = (seen.waiting_jobs, seen.waiting_since);
            });
            if let Err(e) = done {
                tracing::warn!(%tenant, error = %e, "the blocks of a tenant cannot all be compacted; it is tried again");
                failed.get_or_insert(e);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn compact_tenant(
        &self,
        tenant: &TenantId,
        seen: &mut TenantProgress,
        cancel: &CancelToken,
    ) -> Result<()> {
        let parts = &self.parts;
        let mut found = parts.scanner.scan(tenant, parts.clock.now_ms()).await?;
        if found.deletion.is_some() {
            return Ok(());
        }
        for id in redundant(&found.live()) {
            parts
                .mark(tenant, id, MarkReason::Redundant, &mut found)
                .await?;
        }
        let rules = parts.settings.rules(&parts.limits.for_tenant(tenant));
        let began = parts.clock.monotonic();
        let mut left_out = LeftOut::default();
        let mut failed = None;
        loop {
            cancel.check("compaction")?;
            let mut blocks = found.live();
            blocks.retain(|m| !found.no_compact.contains(&m.ulid));
            blocks.retain(|m| !left_out.blocks.contains(&m.ulid));
            let jobs = plan(&blocks, &rules, parts.clock.now_ms());
            seen.serving = found.live().len() as u64;
            seen.superseded = found.deletion_marks.len() as u64;
            seen.waiting_jobs = jobs.len() as u64;
            seen.waiting_since = jobs.iter().filter_map(ready_since).min();
            let worked = parts.clock.monotonic().saturating_sub(began);
            if worked > parts.settings.max_compaction_time {
                break;
            }
            let is_next = |job: &CompactionJob| {
                let key = job.key(tenant);
                (parts.owns)(&key) && !left_out.jobs.contains(&key) && !self.waits(job, &found)
            };
            let Some(job) = jobs.into_iter().find(is_next) else {
                break;
            };
            let task = MergeTask {
                tenant,
                job: &job,
                shard_count: rules.shard_count,
            };
            if let Err(e) = self.run(task, &mut found, &mut left_out, cancel).await {
                left_out.jobs.insert(job.key(tenant));
                failed.get_or_insert(e);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Whether others may still upload blocks that belong to the job.
    fn waits(&self, job: &CompactionJob, found: &TenantBlocks) -> bool {
        let wait = self.parts.settings.first_level_compaction_wait_period;
        if wait.is_zero() {
            return false;
        }
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let now_ms = self.parts.clock.now_ms();
        let is_fresh = |m: &Arc<BlockMeta>| {
            let uploaded_ms = found.blocks.get(&m.ulid).map(|b| b.uploaded_ms);
            m.compaction.level <= 1
                && uploaded_ms.is_some_and(|at| at.saturating_add(wait_ms) > now_ms)
        };
        job.inputs.iter().any(is_fresh)
    }

    /// Does a job. That a block cannot be read is no error: it is left out.
    async fn run(
        &self,
        task: MergeTask<'_>,
        found: &mut TenantBlocks,
        left_out: &mut LeftOut,
        cancel: &CancelToken,
    ) -> Result<()> {
        let (parts, tenant) = (&self.parts, task.tenant);
        let counts = &parts.counts;
        counts.groups_started.fetch_add(1, Ordering::Relaxed);
        let merged = self.merge.run(task, &|| parts.new_id(), cancel).await;
        let report = match merged {
            Ok(report) => report,
            Err(e) => {
                counts.groups_failed.fetch_add(1, Ordering::Relaxed);
                return self.judge(tenant, e, found, left_out).await;
            }
        };
        let ids: Vec<BlockId> = task.job.inputs.iter().map(|m| m.ulid).collect();
        if let Some(blocks) = &parts.blocks {
            // No await between: from now on queries of this process look into the new blocks, and not into those that they have all of.
            blocks.replace(tenant, &ids, &report.blocks);
        }
        counts.compacted(&report, ids.len());
        self.note_made(&report, found);
        for id in ids {
            self.damaged.lock().remove(&id);
            parts
                .mark(tenant, id, MarkReason::Compaction, found)
                .await?;
        }
        Ok(())
    }

    fn note_made(&self, report: &MergeReport, found: &mut TenantBlocks) {
        let uploaded_ms = self.parts.clock.now_ms();
        for meta in &report.blocks {
            tracing::info!(block = %meta.ulid, level = meta.compaction.level, series = meta.stats.num_series, samples = meta.stats.num_samples, parents = meta.compaction.parents.len(), "blocks compacted");
            let meta = Arc::new(meta.clone());
            let block = StoredBlock { meta, uploaded_ms };
            found.blocks.insert(block.meta.ulid, block);
        }
    }

    /// What a failed job says of the block in which the fault was found.
    async fn judge(
        &self,
        tenant: &TenantId,
        e: MergeError,
        found: &mut TenantBlocks,
        left_out: &mut LeftOut,
    ) -> Result<()> {
        let MergeError { input, error } = e;
        let Some(block) = input else {
            return Err(error);
        };
        let is_damage = match error.kind() {
            ErrorKind::Corrupt | ErrorKind::InvalidInput => true,
            ErrorKind::NotFound => {
                let meta = format!("{tenant}/{block}/meta.json");
                let is_there = self.parts.bucket.exists(&meta).await?;
                if !is_there {
                    // Another has compacted it, and it is deleted.
                    found.blocks.remove(&block);
                    return Ok(());
                }
                true
            }
            _ => false,
        };
        if !is_damage {
            return Err(error);
        }
        left_out.blocks.insert(block);
        let rounds = {
            let mut damaged = self.damaged.lock();
            let rounds = damaged.entry(block).or_default();
            *rounds += 1;
            *rounds
        };
        tracing::error!(%tenant, %block, %error, rounds, "a block cannot be read; the others are compacted without it");
        if rounds >= DAMAGED_ROUNDS {
            let mut mark = NoCompactMark::new(block, self.parts.now_s(), "critical");
            mark.details = error.to_string();
            mark_no_compact(&self.parts.bucket, tenant, &mark).await?;
            self.damaged.lock().remove(&block);
            found.no_compact.insert(block);
            self.parts
                .counts
                .marked_no_compact
                .fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// When the data of a job ended.
fn ready_since(job: &CompactionJob) -> Option<TimestampMs> {
    job.inputs.iter().map(|m| m.max_ms).max()
}

/// What is not tried again in this round.
#[derive(Debug, Default)]
struct LeftOut {
    /// Blocks that could not be read.
    blocks: BTreeSet<BlockId>,
    /// Keys of jobs that failed.
    jobs: BTreeSet<String>,
}

#[async_trait]
impl Service for Compactor {
    fn name(&self) -> &str {
        "metrics-compactor"
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        let settings = &self.parts.settings;
        let clean = async || {
            if let Err(e) = self.clean(&stop).await
                && !stop.is_cancelled()
            {
                tracing::warn!(error = %e, "the bucket cannot be cleaned; it is tried again");
            }
        };
        let compact = async || {
            if let Err(e) = self.compact(&stop).await
                && !stop.is_cancelled()
            {
                tracing::warn!(error = %e, "blocks cannot be compacted; it is tried again");
            }
        };
        tokio::join!(
            rounds(FIRST_CLEANUP, settings.cleanup_interval, &stop, clean),
            rounds(
                FIRST_COMPACTION,
                settings.compaction_interval,
                &stop,
                compact
            ),
        );
        Ok(())
    }
}
