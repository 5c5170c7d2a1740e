//! Joins blocks in the bucket, and deletes those that are superseded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use async_trait::async_trait;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::limits::Overrides;
use lgtm_core::model::{TenantId, TimestampMs, TimestampNs};
use lgtm_core::random::{RandomSource, os_random};
use lgtm_core::service::{CompactionProgress, Service, TenantProgress};
use lgtm_core::storage::{Bucket, claim};
use lgtm_core::telemetry::Registry;
use lgtm_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use self::abandoned::SeenUnfinished;
use self::redaction::LookedAt;
use super::block_flusher::NewIds;
use super::compactor_settings::CompactorSettings;
use super::ingester::{BLOCKS_FORMAT, Ingester};
use crate::block::{
    BlockMeta, COMPACTED_META, CompactedBlockMeta, META, TENANT_INDEX_JSON, TENANT_INDEX_PROTOBUF,
    TenantIndex, TraceFeed,
};
use crate::block_id::BlockId;
use crate::bucket::{
    BlockList, BlockSpec, BlockTraces, BlockUpload, BucketSettings, OpenBlock, TenantBlocks,
};
use crate::compact::{CompactionJob, FailedSource, TraceMerge, plan};
use crate::limits::Limits;
use crate::schema::BlockVersion;

/// Decides whether a tenant's blocks are this process' to join, by the tenant's name.
pub type OwnsJob = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Collects the parts of a [`Compactor`].
pub struct CompactorBuilder {
    bucket: Bucket,
    limits: Overrides<Limits>,
    executor: Executor,
    clock: Arc<dyn Clock>,
    random: RandomSource,
    blocks: Option<Arc<BlockList>>,
    block_settings: BucketSettings,
    registry: Option<Registry>,
    ingester: Option<Arc<Ingester>>,
    owns: OwnsTenant,
    settings: CompactorSettings,
}

/// Which tenants are this process' own.
struct OwnsTenant(OwnsJob);

impl std::fmt::Debug for OwnsTenant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnsTenant")
    }
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

    /// Sets how blocks are written and read.
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

    /// Sets where names of blocks take their randomness from; without it, from the operating system.
    #[must_use]
    pub fn random(mut self, random: RandomSource) -> Self {
        self.random = random;
        self
    }

    /// The list of readers of the bucket in the same process, which know at once which block is in place of which.
    #[must_use]
    pub fn blocks(mut self, blocks: Arc<BlockList>) -> Self {
        self.blocks = Some(blocks);
        self
    }

    /// An ingester in the same process, which is flushed before traces are redacted.
    #[must_use]
    pub fn ingester(mut self, ingester: Arc<Ingester>) -> Self {
        self.ingester = Some(ingester);
        self
    }

    /// Shares the work with other processes: this one joins and deletes the blocks, and writes the lists, of tenants of which `owns` says so. Default: of all.
    /// Two that take themselves for the owner for a moment cost work twice; what both write stands in two blocks then, counts once, and is joined again.
    #[must_use]
    pub fn owns(mut self, owns: OwnsJob) -> Self {
        self.owns = OwnsTenant(owns);
        self
    }

    /// Has `registry` tell what was joined and deleted.
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
        self.block_settings.validate()?;
        let list = self.blocks.unwrap_or_else(|| {
            Arc::new(BlockList::new(
                self.bucket.clone(),
                self.executor.clone(),
                Arc::clone(&self.clock),
                self.block_settings.blocklist_poll,
            ))
        });
        let max_trace_bytes = self.block_settings.max_trace_memory.as_usize();
        let compactor = Arc::new(Compactor {
            upload: BlockUpload::new(
                self.bucket.clone(),
                self.executor.clone(),
                self.block_settings,
            ),
            bucket: self.bucket,
            list,
            limits: self.limits,
            executor: self.executor,
            clock: self.clock,
            ids: NewIds(self.random),
            max_trace_bytes,
            ingester: self.ingester,
            owns: self.owns,
            settings: self.settings,
            damaged: Mutex::default(),
            unmarked: Mutex::default(),
            marked: Mutex::default(),
            unfinished: Mutex::default(),
            looked_at: Mutex::default(),
            is_claimed: AtomicBool::new(false),
            working: tokio::sync::Mutex::default(),
            counts: CompactionCounts::default(),
            progress: Arc::default(),
        });
        if let Some(registry) = &self.registry {
            compactor.register_metrics(registry);
            compactor.progress().register_metrics(registry, "traces");
        }
        Ok(compactor)
    }
}

/// What a compactor has done.
#[derive(Debug, Default)]
pub struct CompactionCounts {
    /// Rounds that went through.
    pub rounds: AtomicU64,
    /// Rounds in which something failed.
    pub failed_rounds: AtomicU64,
    /// Blocks joined, those that became one each.
    pub blocks: AtomicU64,
    /// Blocks written.
    pub blocks_written: AtomicU64,
    /// Traces of these.
    pub traces_written: AtomicU64,
    /// Bytes of their data.
    pub bytes_written: AtomicU64,
    /// Spans that were left out since their trace would have been too large.
    pub left_out_spans: AtomicU64,
    /// Blocks taken out of service since they are older than their tenant keeps them.
    pub blocks_retired: AtomicU64,
    /// Traces taken out of blocks by redactions.
    pub traces_redacted: AtomicU64,
    /// Blocks that these were taken out of.
    pub blocks_redacted: AtomicU64,
    /// Blocks deleted: superseded ones, and old ones.
    pub blocks_deleted: AtomicU64,
    /// Folders of uploads that broke off deleted.
    pub uploads_deleted: AtomicU64,
    /// Blocks that could not be read, and are left alone.
    pub damaged: AtomicU64,
    /// When the last round went through, milliseconds; 0 before.
    pub last_success_ms: AtomicI64,
}

/// Joins blocks: those of a window of time become fewer and larger ones, in which each trace stands once. Deletes what is superseded, and writes the list
/// of each tenant's blocks.
///
/// The new block is there, whole, before the old ones are marked, and these are deleted only a while later. So it may be stopped at any point:
/// nothing is lost. What stands in two blocks for a moment counts once all the same, and is joined again later.
#[derive(Debug)]
pub struct Compactor {
    bucket: Bucket,
    upload: BlockUpload,
    list: Arc<BlockList>,
    limits: Overrides<Limits>,
    executor: Executor,
    clock: Arc<dyn Clock>,
    ids: NewIds,
    max_trace_bytes: usize,
    ingester: Option<Arc<Ingester>>,
    owns: OwnsTenant,
    settings: CompactorSettings,
    /// Blocks that cannot be read.
    damaged: Mutex<BTreeSet<BlockId>>,
    /// Superseded blocks that could not be marked so.
    unmarked: Mutex<BTreeMap<TenantId, BTreeSet<BlockId>>>,
    /// When this process marked which blocks; of others the time of the mark says it.
    marked: Mutex<BTreeMap<BlockId, TimestampNs>>,
    /// Folders of blocks without a meta.
    unfinished: Mutex<SeenUnfinished>,
    /// What redactions have been through.
    looked_at: Mutex<LookedAt>,
    /// Whether the bucket is known to be ours.
    is_claimed: AtomicBool,
    /// One round at a time.
    working: tokio::sync::Mutex<()>,
    counts: CompactionCounts,
    progress: Arc<CompactionProgress>,
}

impl Compactor {
    /// Begins a builder: joins the blocks in `bucket`; `executor` reads and writes them.
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
            block_settings: BucketSettings::default(),
            registry: None,
            ingester: None,
            owns: OwnsTenant(Arc::new(|_| true)),
            settings: CompactorSettings::default(),
        }
    }

    /// Whether a tenant's blocks are rewritten at all: its limit `compaction_disabled`.
    pub fn rewrites_blocks_of(&self, tenant: &TenantId) -> bool {
        !self
            .limits
            .for_tenant(tenant)
            .compaction
            .compaction_disabled
    }

    /// What was done so far.
    pub fn counts(&self) -> &CompactionCounts {
        &self.counts
    }

    /// How far it is with each tenant.
    pub fn progress(&self) -> &Arc<CompactionProgress> {
        &self.progress
    }

    /// One round: deletes what is superseded for long enough, joins what is to be joined, writes the lists of blocks. Costs a listing of each tenant.
    ///
    /// # Errors
    /// The first error of any tenant; the others have their turn all the same. What failed is tried again in the next round.
    pub async fn compact(&self, cancel: &CancelToken) -> Result<()> {
        let _one = self.working.lock().await;
        let done = self.round(cancel).await;
        match &done {
            Ok(()) => {
                self.counts.rounds.fetch_add(1, Ordering::Relaxed);
                let now_ms = self.clock.now_ms().get();
                self.counts.last_success_ms.store(now_ms, Ordering::Relaxed);
            }
            Err(_) => {
                self.counts.failed_rounds.fetch_add(1, Ordering::Relaxed);
            }
        }
        done
    }

    async fn claim_bucket(&self) -> Result<()> {
        if !self.is_claimed.load(Ordering::Acquire) {
            claim(&self.bucket, BLOCKS_FORMAT).await?;
            self.is_claimed.store(true, Ordering::Release);
        }
        Ok(())
    }

    async fn round(&self, cancel: &CancelToken) -> Result<()> {
        self.claim_bucket().await?;
        let mut failed = None;
        let mut tenants = self.bucket.tenants().await?;
        tenants.retain(|tenant| (self.owns.0)(tenant.as_str()));
        self.progress.keep(&tenants);
        for tenant in tenants {
            cancel.check("compaction")?;
            let mut seen = TenantProgress::default();
            let done = self.compact_tenant(&tenant, &mut seen, cancel).await;
            let now_ms = self.clock.now_ms();
            self.progress.ended(&tenant, now_ms, &done, |p| {
                (p.serving, p.superseded) = (seen.serving, seen.superseded);
                (p.waiting_jobs, p.waiting_since) = (seen.waiting_jobs, seen.waiting_since);
            });
            if let Err(e) = done {
                tracing::warn!(%tenant, error = %e, "the blocks of a tenant cannot all be joined; it is tried again");
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
        let limits = self.limits.for_tenant(tenant);
        let mut failed = self.mark_again(tenant).await.err();
        // What is uploaded from now on need not be on the list that is written at the end.
        let listed = self.clock.now_ms().to_ns();
        let mut blocks = self.list.list_bucket(tenant).await?;
        if !limits.compaction.compaction_disabled {
            let redacted = self.redact_again(tenant, &mut blocks, cancel).await;
            failed = failed.or(redacted.err());
            let retired = self.retire_old(tenant, &limits, &mut blocks).await;
            failed = failed.or(retired.err());
            let joined = self.join_blocks(tenant, &limits, &mut blocks, cancel).await;
            failed = failed.or(joined.err());
            let deleted = self.delete_superseded(tenant, &mut blocks).await;
            failed = failed.or(deleted.err());
            let cleaned = self.delete_abandoned(tenant, &blocks.unfinished).await;
            failed = failed.or(cleaned.err());
        }
        let jobs = plan(
            &blocks.live,
            &self.left_out(&blocks),
            &self.settings.rules(&limits),
            self.clock.now_ms().to_ns(),
        );
        seen.serving = blocks.live.len() as u64;
        seen.superseded = blocks.compacted.len() as u64;
        if !limits.compaction.compaction_disabled {
            seen.waiting_jobs = jobs.len() as u64;
            seen.waiting_since = jobs.iter().filter_map(ready_since).min();
        }
        let written = if blocks.live.is_empty() && blocks.compacted.is_empty() {
            self.delete_index(tenant).await
        } else {
            self.write_index(tenant, &blocks, listed).await
        };
        failed = failed.or(written.err());
        failed.map_or(Ok(()), Err)
    }

    /// Joins blocks until there is nothing to join, or it is the next tenant's turn.
    async fn join_blocks(
        &self,
        tenant: &TenantId,
        limits: &Limits,
        blocks: &mut TenantBlocks,
        cancel: &CancelToken,
    ) -> Result<()> {
        let began = self.clock.monotonic();
        let rules = self.settings.rules(limits);
        let mut failed = None;
        loop {
            let jobs = plan(
                &blocks.live,
                &self.left_out(blocks),
                &rules,
                self.clock.now_ms().to_ns(),
            );
            let mut is_done = true;
            for job in jobs {
                cancel.check("compaction")?;
                let worked = self.clock.monotonic().saturating_sub(began);
                if worked > self.settings.max_time_per_tenant {
                    return failed.map_or(Ok(()), Err);
                }
                match self.join(tenant, limits, &job).await {
                    Ok(Some(meta)) => {
                        is_done = false;
                        replace(blocks, &job, meta, self.clock.now_ms().to_ns());
                    }
                    Ok(None) => {}
                    Err(e) => {
                        failed.get_or_insert(e);
                    }
                }
            }
            // What was joined may be joined again.
            if is_done || failed.is_some() {
                return failed.map_or(Ok(()), Err);
            }
        }
    }

    /// Blocks that are in no job: damaged ones, those marked so, and those in a format that is only read.
    fn left_out(&self, blocks: &TenantBlocks) -> BTreeSet<BlockId> {
        let mut out = self.damaged.lock().clone();
        out.extend(&blocks.no_compact);
        let is_written = |format: &str| {
            matches!(
                BlockVersion::of_name(format),
                Ok(BlockVersion::V4 | BlockVersion::V5)
            )
        };
        let others = blocks.live.iter().filter(|m| !is_written(&m.format));
        out.extend(others.map(|m| m.block_id));
        out
    }

    /// Makes one block of several. `None` when one of them is gone, or cannot be read.
    async fn join(
        &self,
        tenant: &TenantId,
        limits: &Limits,
        job: &CompactionJob,
    ) -> Result<Option<BlockMeta>> {
        let mut inputs = Vec::with_capacity(job.inputs.len());
        for meta in &job.inputs {
            let path = format!("{tenant}/{}/{META}", meta.block_id);
            if !self.bucket.exists(&path).await? {
                return Ok(None);
            }
            inputs.push(OpenBlock::new(
                self.bucket.clone(),
                self.executor.clone(),
                tenant,
                (**meta).clone(),
                self.max_trace_bytes,
            )?);
        }
        let Some(first) = job.inputs.first() else {
            return Ok(None);
        };
        let spec = BlockSpec {
            id: self.ids.next(),
            format: Some(first.format.clone()),
            dedicated: first.dedicated_columns.clone(),
            compaction_level: job.level(),
            replication_factor: first.replication_factor,
            expected_bytes: Some(job.inputs.iter().map(|meta| meta.size_bytes).sum()),
        };
        let merge = TraceMerge::new(inputs.len(), limits.max_trace_bytes());
        let mut feed = RowGroupFeed {
            next: vec![0; inputs.len()],
            inputs,
            max_bytes: self.max_trace_bytes,
            reading: None,
            left_out_spans: 0,
            failed: merge.failed(),
        };
        let written = self.upload.write_fed(tenant, &spec, merge, &mut feed).await;
        let meta = match written {
            Ok(Some(meta)) => meta,
            Ok(None) => return Ok(None),
            Err(e) => return self.judge(tenant, job, &feed, e).map(|()| None),
        };
        let ids: Vec<BlockId> = job.inputs.iter().map(|m| m.block_id).collect();
        // No await between: from now on queries of this process look into the new block, and not into those that it has all of.
        self.list.replace(tenant, &ids, Some(meta.clone()));
        let count = |counter: &AtomicU64, n: u64| counter.fetch_add(n, Ordering::Relaxed);
        count(&self.counts.blocks, ids.len() as u64);
        count(&self.counts.blocks_written, 1);
        count(&self.counts.traces_written, meta.trace_count);
        count(&self.counts.bytes_written, meta.size_bytes);
        count(&self.counts.left_out_spans, feed.left_out_spans);
        (self.unmarked.lock().entry(tenant.clone()))
            .or_default()
            .extend(ids);
        self.mark_again(tenant).await?;
        Ok(Some(meta))
    }

    /// A block that cannot be read is left alone from now on.
    fn judge(
        &self,
        tenant: &TenantId,
        job: &CompactionJob,
        feed: &RowGroupFeed,
        e: Error,
    ) -> Result<()> {
        let is_damage = matches!(
            e.kind(),
            ErrorKind::Corrupt | ErrorKind::InvalidInput | ErrorKind::LimitExceeded
        );
        let number = feed.reading.or(feed.failed.number());
        match number.filter(|_| is_damage) {
            Some(n) => {
                let block = job.inputs[n].block_id;
                tracing::error!(%tenant, %block, error = %e, "a block cannot be read; it is not joined with others");
                self.damaged.lock().insert(block);
                self.counts.damaged.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            None => Err(e),
        }
    }

    /// Marks blocks as superseded.
    async fn mark_again(&self, tenant: &TenantId) -> Result<()> {
        let blocks = self.unmarked.lock().get(tenant).cloned();
        for block in blocks.unwrap_or_default() {
            self.mark(tenant, block).await?;
            let mut unmarked = self.unmarked.lock();
            if let Some(blocks) = unmarked.get_mut(tenant) {
                blocks.remove(&block);
            }
            unmarked.retain(|_, blocks| !blocks.is_empty());
        }
        Ok(())
    }

    /// Gives a block's meta its other name. It is written anew, so that its time says since when.
    async fn mark(&self, tenant: &TenantId, block: BlockId) -> Result<()> {
        let (from, to) = (
            format!("{tenant}/{block}/{META}"),
            format!("{tenant}/{block}/{COMPACTED_META}"),
        );
        match self.bucket.get(&from).await {
            Ok(meta) => {
                self.bucket.put(&to, meta).await?;
                self.bucket.delete(&from).await?;
                let now = self.clock.now_ms().to_ns();
                self.marked.lock().insert(block, now);
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Deletes blocks that are superseded for long enough.
    async fn delete_superseded(&self, tenant: &TenantId, blocks: &mut TenantBlocks) -> Result<()> {
        let retention = self.settings.compacted_block_retention.as_nanos();
        let retention = i64::try_from(retention).unwrap_or(i64::MAX);
        let before = self.clock.now_ms().to_ns().get().saturating_sub(retention);
        let old: Vec<BlockId> = {
            let marked = self.marked.lock();
            let since = |c: &CompactedBlockMeta| {
                let known = marked.get(&c.meta.block_id);
                known.copied().unwrap_or(c.compacted)
            };
            let old = blocks.compacted.iter();
            let old = old.filter(|c| since(c).get() < before);
            old.map(|c| c.meta.block_id).collect()
        };
        for block in old {
            self.delete(tenant, block).await?;
            blocks.compacted.retain(|c| c.meta.block_id != block);
            self.marked.lock().remove(&block);
            self.counts.blocks_deleted.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Deletes a block's folder; what says that it is superseded goes last.
    async fn delete(&self, tenant: &TenantId, block: BlockId) -> Result<()> {
        let folder = format!("{tenant}/{block}");
        let objects = self.bucket.list_sorted(&folder).await?;
        let is_mark = |path: &str| path.ends_with(COMPACTED_META);
        let paths = objects.iter().map(|o| o.path.as_str());
        let (mark, rest): (Vec<&str>, Vec<&str>) = paths.partition(|p| is_mark(p));
        self.bucket.delete_all(&rest).await?;
        self.bucket.delete_all(&mark).await
    }

    async fn write_index(
        &self,
        tenant: &TenantId,
        blocks: &TenantBlocks,
        listed: TimestampNs,
    ) -> Result<()> {
        let index = TenantIndex {
            created: listed,
            meta: blocks.live.iter().map(|m| (**m).clone()).collect(),
            compacted: blocks.compacted.iter().map(|c| (**c).clone()).collect(),
        };
        let job = move |_: &CancelToken| {
            let files = (index.encode_protobuf_zstd()?, index.encode_json_gzip()?);
            Ok::<_, Error>(files)
        };
        let executor = self.executor.in_line(tenant.as_str());
        let (protobuf, json) = executor.run(job, &CancelToken::new()).await?;
        for (name, bytes) in [(TENANT_INDEX_PROTOBUF, protobuf), (TENANT_INDEX_JSON, json)] {
            self.bucket.put(&format!("{tenant}/{name}"), bytes).await?;
        }
        Ok(())
    }

    /// Nothing is left of a tenant without blocks.
    async fn delete_index(&self, tenant: &TenantId) -> Result<()> {
        for name in [TENANT_INDEX_PROTOBUF, TENANT_INDEX_JSON] {
            self.bucket.delete(&format!("{tenant}/{name}")).await?;
        }
        Ok(())
    }
}

/// When the data of a job ended.
fn ready_since(job: &CompactionJob) -> Option<TimestampMs> {
    let end = job.inputs.iter().map(|m| m.end).max()?;
    Some(TimestampMs::new(end.get().div_euclid(1_000_000)))
}

/// Puts a block in place of those that became it.
fn replace(blocks: &mut TenantBlocks, job: &CompactionJob, meta: BlockMeta, now: TimestampNs) {
    let inputs: Vec<BlockId> = job.inputs.iter().map(|m| m.block_id).collect();
    blocks.retire(&inputs, now);
    blocks.live.push(Arc::new(meta));
    blocks.live.sort_by_key(|m| m.block_id);
}

/// Reads blocks row group by row group.
#[derive(Debug)]
struct RowGroupFeed {
    inputs: Vec<OpenBlock>,
    /// The row group of each that comes next.
    next: Vec<usize>,
    max_bytes: usize,
    /// Which is read.
    reading: Option<usize>,
    left_out_spans: u64,
    failed: FailedSource,
}

impl TraceFeed<TraceMerge<BlockTraces>> for RowGroupFeed {
    async fn refill(&mut self, merge: &mut TraceMerge<BlockTraces>) -> Result<bool> {
        self.left_out_spans = merge.left_out_spans();
        let mut is_fed = false;
        while let Some(n) = merge.starved() {
            self.reading = Some(n);
            let block = &self.inputs[n];
            let group = self.next[n];
            let traces = if group < block.file().await?.row_groups.len() {
                self.next[n] += 1;
                Some(block.row_group(group, self.max_bytes).await?)
            } else {
                None
            };
            self.reading = None;
            merge.feed(n, traces);
            is_fed = true;
        }
        Ok(is_fed)
    }
}

#[async_trait]
impl Service for Compactor {
    fn name(&self) -> &str {
        "traces-compactor"
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        while !stop.is_cancelled() {
            tokio::select! {
                () = tokio::time::sleep(self.settings.compaction_interval) => {
                    if let Err(e) = self.compact(&stop).await && !stop.is_cancelled() {
                        tracing::warn!(error = %e, "blocks cannot be joined; it is tried again");
                    }
                }
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }
}

mod abandoned;
mod redaction;
mod retention;
