//! Traces taken out of stored blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lgtm_core::codec::Allowance;
use lgtm_core::exec::CancelToken;
use lgtm_core::model::{TenantId, TimeRangeNs};
use lgtm_core::{Error, ErrorKind, Result};
use serde_json::{from_slice, to_vec};

use super::{Compactor, RowGroupFeed};
use crate::block::{BlockMeta, META, REDACTIONS, TraceFeed};
use crate::block_id::BlockId;
use crate::bucket::{BlockSpec, BlockTraces, OpenBlock, TenantBlocks};
use crate::compact::{
    RedactedSource, RedactedTraces, RedactionBatch, RedactionReport, RedactionRequest, TraceMerge,
};
use crate::head::FlushScope;
use crate::schema::BlockVersion;
use crate::trace::{Trace, TraceId};
use crate::traceql::RedactionFilter;

/// Blocks that a redaction has been through, by its name. Those of another process, or of one before a restart, begin anew.
pub(super) type LookedAt = BTreeMap<String, BTreeSet<BlockId>>;

/// What one pass over a tenant's blocks found.
#[derive(Debug, Default)]
struct Pass {
    blocks: u64,
    warnings: Vec<String>,
    failed: Option<Error>,
}

impl Pass {
    /// A block that cannot be looked into.
    fn fail(&mut self, block: &OpenBlock, e: Error) {
        self.warnings.push(block.missing(&e));
        self.failed.get_or_insert(e);
    }
}

impl Compactor {
    /// Takes traces out of a tenant's blocks: each block that has some is written again without them, and the old one taken out of service; its objects are
    /// deleted `compacted_block_retention` later. The order is kept in the bucket first: what a stop or a failure leaves is done by the next rounds, which also
    /// look through blocks that come within `redaction_watch`. No block is joined meanwhile by this process. The ingester of the same process is flushed
    /// first; those of others are not, and what they write comes within the watch.
    ///
    /// Costs a read of a bloom shard a block and id; a query reads all traces of the blocks in its range.
    ///
    /// # Errors
    /// `InvalidInput` for a tenant whose compaction is off, and for a request without ids; `NotFound` when there is no block in the range; `LimitExceeded` for more
    /// than `max_redacted_traces`; as [`Bucket`](lgtm_core::storage::Bucket). Blocks that cannot be read are in the report's warnings. Those of a flush.
    pub async fn redact(
        &self,
        tenant: &TenantId,
        request: &RedactionRequest,
        cancel: &CancelToken,
    ) -> Result<RedactionReport> {
        if let RedactedTraces::Ids(ids) = &request.traces
            && ids.is_empty()
        {
            return Err(Error::InvalidInput(
                "a redaction without trace ids and query".into(),
            ));
        }
        let _one = self.working.lock().await;
        if self
            .limits
            .for_tenant(tenant)
            .compaction
            .compaction_disabled
        {
            return Err(Error::InvalidInput(format!(
                "compaction is disabled for tenant {tenant}: its blocks are not rewritten"
            )));
        }
        if let Some(ingester) = self.ingester.as_ref().filter(|_| !request.is_dry_run) {
            ingester.flush(FlushScope::All).await?;
        }
        self.claim_bucket().await?;
        let mut blocks = self.list.list_bucket(tenant).await?;
        let range = match &request.traces {
            RedactedTraces::Query(_, range) => *range,
            RedactedTraces::Ids(_) => None,
        };
        if !blocks.live.iter().any(|meta| is_in(meta, range)) {
            return Err(Error::NotFound(format!(
                "tenant {tenant} has no block in the range"
            )));
        }
        let mut batch = RedactionBatch::new(&request.traces, self.clock.now_ms());
        let id = self.ids.next();
        let name = id.to_string();
        let mut pass = if request.is_dry_run {
            self.dry_run(tenant, &blocks, &mut batch, cancel).await?
        } else {
            self.keep(tenant, &name, &batch).await?;
            let step = self.redact_blocks(tenant, &name, &mut batch, &mut blocks, cancel);
            match step.await {
                // It is refused as a whole: nothing was rewritten, and nobody is to try it again.
                Err(e) if e.kind() == ErrorKind::LimitExceeded => {
                    self.forget(tenant, &name).await?;
                    return Err(e);
                }
                step => step?,
            }
        };
        pass.warnings.append(&mut blocks.warnings);
        Ok(RedactionReport {
            batch: id,
            blocks: pass.blocks,
            traces: batch.trace_ids.len() as u64,
            warnings: pass.warnings,
        })
    }

    /// Goes on with what was ordered: blocks that failed, and those that have come since.
    pub(super) async fn redact_again(
        &self,
        tenant: &TenantId,
        blocks: &mut TenantBlocks,
        cancel: &CancelToken,
    ) -> Result<()> {
        let mut failed = None;
        for name in std::mem::take(&mut blocks.redactions) {
            let path = path(tenant, &name);
            let bytes = match self.bucket.get(&path).await {
                Ok(bytes) => bytes,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            let mut batch: RedactionBatch = match from_slice(&bytes) {
                Ok(batch) => batch,
                Err(e) => {
                    tracing::error!(path, error = %e, "a redaction cannot be read; what it orders is not done");
                    failed.get_or_insert(Error::InvalidInput(format!("{path}: {e}")));
                    continue;
                }
            };
            let pass = self.redact_blocks(tenant, &name, &mut batch, blocks, cancel);
            let pass = match pass.await {
                Err(e) if e.kind() == ErrorKind::LimitExceeded => {
                    tracing::error!(path, error = %e, "a redaction is given up: blocks that came later have too many such traces");
                    self.forget(tenant, &name).await?;
                    failed.get_or_insert(e);
                    continue;
                }
                pass => pass?,
            };
            let age_ms = self.clock.now_ms().get().saturating_sub(batch.created_ms);
            let watch_ms = self.settings.redaction_watch.as_millis();
            if let Some(e) = pass.failed {
                failed.get_or_insert(e);
            } else if u128::try_from(age_ms).is_ok_and(|age| age > watch_ms) {
                self.forget(tenant, &name).await?;
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn keep(&self, tenant: &TenantId, name: &str, batch: &RedactionBatch) -> Result<()> {
        let text = to_vec(batch).map_err(|e| Error::Internal(e.to_string()))?;
        self.bucket.put(&path(tenant, name), text).await
    }

    async fn forget(&self, tenant: &TenantId, name: &str) -> Result<()> {
        self.bucket.delete(&path(tenant, name)).await?;
        self.looked_at.lock().remove(name);
        Ok(())
    }

    /// Finds what a redaction means, and says which blocks have it.
    async fn dry_run(
        &self,
        tenant: &TenantId,
        blocks: &TenantBlocks,
        batch: &mut RedactionBatch,
        cancel: &CancelToken,
    ) -> Result<Pass> {
        let mut pass = Pass::default();
        let live = blocks.live.clone();
        self.find_ids(tenant, &live, batch, &mut pass, cancel)
            .await?;
        let ids = batch.ids()?;
        for meta in &live {
            cancel.check("redaction")?;
            let block = self.open(tenant, meta)?;
            match has_any(&block, &ids).await {
                Ok(has) => pass.blocks += u64::from(has),
                Err(e) => pass.fail(&block, e),
            }
        }
        Ok(pass)
    }

    /// Takes the traces of a redaction out of all blocks that were not looked at.
    async fn redact_blocks(
        &self,
        tenant: &TenantId,
        name: &str,
        batch: &mut RedactionBatch,
        blocks: &mut TenantBlocks,
        cancel: &CancelToken,
    ) -> Result<Pass> {
        let mut pass = Pass::default();
        let seen = self.looked_at.lock().get(name).cloned().unwrap_or_default();
        let is_new = |meta: &&Arc<BlockMeta>| !seen.contains(&meta.block_id);
        let mut wanted: Vec<_> = blocks.live.iter().filter(is_new).cloned().collect();
        let known = batch.trace_ids.len();
        self.find_ids(tenant, &wanted, batch, &mut pass, cancel)
            .await?;
        if batch.trace_ids.len() > known {
            self.keep(tenant, name, batch).await?;
            // Parts of the new ones may stand in blocks that were looked at for the others.
            wanted.clone_from(&blocks.live);
        }
        let ids = Arc::new(batch.ids()?);
        for meta in wanted {
            cancel.check("redaction")?;
            let block = self.open(tenant, &meta)?;
            let is_there = format!("{tenant}/{}/{}", meta.block_id, META);
            if !self.bucket.exists(&is_there).await? {
                continue;
            }
            match self.redact_block(tenant, &meta, &ids, blocks).await {
                Ok(had) => {
                    pass.blocks += u64::from(had);
                    let mut looked_at = self.looked_at.lock();
                    let seen = looked_at.entry(name.into()).or_default();
                    seen.insert(meta.block_id);
                }
                Err(e) => {
                    tracing::error!(%tenant, block = %meta.block_id, error = %e, "traces cannot be taken out of a block; it is tried again");
                    pass.fail(&block, e);
                }
            }
        }
        Ok(pass)
    }

    /// Writes a block again without some traces. False when it has none of them.
    async fn redact_block(
        &self,
        tenant: &TenantId,
        meta: &BlockMeta,
        ids: &Arc<BTreeSet<TraceId>>,
        blocks: &mut TenantBlocks,
    ) -> Result<bool> {
        let block = self.open(tenant, meta)?;
        if !has_any(&block, ids).await? {
            return Ok(false);
        }
        let is_written = matches!(
            BlockVersion::of_name(&meta.format),
            Ok(BlockVersion::V4 | BlockVersion::V5)
        );
        let spec = BlockSpec {
            id: self.ids.next(),
            // Of a format that is only read the block is written in the one that is set.
            format: is_written.then(|| meta.format.clone()),
            dedicated: meta.dedicated_columns.clone(),
            compaction_level: meta.compaction_level.saturating_add(1),
            replication_factor: meta.replication_factor,
            expected_bytes: Some(meta.size_bytes),
        };
        let merge = TraceMerge::new(1, usize::MAX);
        let feed = RowGroupFeed {
            next: vec![0],
            inputs: vec![block],
            max_bytes: self.max_trace_bytes,
            reading: None,
            left_out_spans: 0,
            failed: merge.failed(),
        };
        let left_out = Arc::new(AtomicU64::new(0));
        let source = RedactedSource {
            source: merge,
            ids: Arc::clone(ids),
            left_out: Arc::clone(&left_out),
        };
        let mut feed = RedactedFeed(feed);
        let written = (self.upload).write_fed(tenant, &spec, source, &mut feed);
        let written = written.await?;
        let old = meta.block_id;
        self.list.replace(tenant, &[old], written.clone());
        blocks.retire(&[old], self.clock.now_ms().to_ns());
        if let Some(new) = written {
            blocks.live.push(Arc::new(new));
            blocks.live.sort_by_key(|m| m.block_id);
        }
        let traces = left_out.load(Ordering::Relaxed);
        tracing::info!(%tenant, block = %old, traces, "traces were taken out of a block");
        self.counts
            .traces_redacted
            .fetch_add(traces, Ordering::Relaxed);
        self.counts.blocks_redacted.fetch_add(1, Ordering::Relaxed);
        (self.unmarked.lock().entry(tenant.clone()))
            .or_default()
            .insert(old);
        self.mark_again(tenant).await?;
        Ok(true)
    }

    /// Adds the ids of the traces that a query means, as far as they stand in these blocks.
    async fn find_ids(
        &self,
        tenant: &TenantId,
        blocks: &[Arc<BlockMeta>],
        batch: &mut RedactionBatch,
        pass: &mut Pass,
        cancel: &CancelToken,
    ) -> Result<()> {
        let Some(query) = &batch.query else {
            return Ok(());
        };
        let filter = RedactionFilter::new(query).map_err(|e| Error::InvalidInput(e.to_string()))?;
        let filter = Arc::new(filter);
        let range = batch
            .range_ns
            .map(|(start, end)| TimeRangeNs::new(start, end));
        for meta in blocks.iter().filter(|meta| is_in(meta, range)) {
            let block = self.open(tenant, meta)?;
            let room = self
                .settings
                .max_redacted_traces
                .saturating_sub(batch.trace_ids.len());
            match self.ids_of(tenant, &block, &filter, room, cancel).await {
                Ok(ids) => batch.trace_ids.extend(ids.iter().map(TraceId::to_string)),
                Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e),
                Err(e @ Error::LimitExceeded(_)) => return Err(e),
                Err(e) => pass.fail(&block, e),
            }
        }
        Ok(())
    }

    /// The ids of the traces of a block that pass; all its traces are read.
    async fn ids_of(
        &self,
        tenant: &TenantId,
        block: &OpenBlock,
        filter: &Arc<RedactionFilter>,
        room: usize,
        cancel: &CancelToken,
    ) -> Result<BTreeSet<TraceId>> {
        let mut found = BTreeSet::new();
        let executor = self.executor.in_line(tenant.as_str());
        for group in 0..block.file().await?.row_groups.len() {
            let mut traces = block.row_group(group, self.max_trace_bytes).await?;
            let filter = Arc::clone(filter);
            let job = move |cancel: &CancelToken| {
                let (mut ids, mut bytes) = (Vec::new(), Vec::new());
                while let Some(id) = traces.next_trace(&mut bytes)? {
                    cancel.check("redaction")?;
                    let mut grow = |_| Ok(());
                    let trace = Trace::decode(&bytes, &mut Allowance::new(0, &mut grow));
                    if filter.matches(id, &trace.map_err(Error::from)?)? {
                        ids.push(id);
                    }
                    bytes.clear();
                }
                Ok::<_, Error>(ids)
            };
            found.extend(executor.run(job, cancel).await?);
            if found.len() > room {
                return Err(Error::LimitExceeded(format!(
                    "a redaction means more than max_redacted_traces {} traces: narrow its range",
                    self.settings.max_redacted_traces
                )));
            }
        }
        Ok(found)
    }

    fn open(&self, tenant: &TenantId, meta: &BlockMeta) -> Result<OpenBlock> {
        OpenBlock::new(
            self.bucket.clone(),
            self.executor.clone(),
            tenant,
            meta.clone(),
            self.max_trace_bytes,
        )
    }
}

fn path(tenant: &TenantId, name: &str) -> String {
    format!("{tenant}/{REDACTIONS}/{name}")
}

fn is_in(meta: &BlockMeta, range: Option<TimeRangeNs>) -> bool {
    range.is_none_or(|range| meta.start < range.max_ns && meta.end >= range.min_ns)
}

/// Whether a block has one of these traces.
async fn has_any(block: &OpenBlock, ids: &BTreeSet<TraceId>) -> Result<bool> {
    for id in ids {
        if block.may_contain(*id).await? && block.find(*id).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Feeds what stands below a [`RedactedSource`].
#[derive(Debug)]
struct RedactedFeed(RowGroupFeed);

impl TraceFeed<RedactedSource<TraceMerge<BlockTraces>>> for RedactedFeed {
    async fn refill(
        &mut self,
        redacted: &mut RedactedSource<TraceMerge<BlockTraces>>,
    ) -> Result<bool> {
        self.0.refill(&mut redacted.source).await
    }
}
