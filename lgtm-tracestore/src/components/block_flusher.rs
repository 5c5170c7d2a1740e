//! Moves batches of the heads into the bucket, as blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use lgtm_core::clock::Clock;
use lgtm_core::exec::in_place;
use lgtm_core::limits::Overrides;
use lgtm_core::random::RandomSource;
use lgtm_core::{Error, Result};

use crate::block_id::BlockId;
use crate::bucket::{BlockList, BlockUpload};
use crate::head::{FlushPart, FlushScope, Heads, Leaving};
use crate::limits::Limits;

/// What a flush has moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlushReport {
    /// Blocks put into the store.
    pub blocks: u64,
    /// Traces of these.
    pub traces: u64,
    /// Bytes of their data, as they are stored.
    pub bytes: u64,
}

/// Counts of flushes.
#[derive(Debug, Default)]
pub struct FlushCounts {
    /// Blocks put into the store.
    pub blocks: AtomicU64,
    /// Traces of these.
    pub traces: AtomicU64,
    /// Bytes of their data, as they are stored.
    pub bytes: AtomicU64,
    /// Flushes that failed.
    pub failures: AtomicU64,
    /// Wall-clock time of the last success, milliseconds.
    pub last_success_ms: AtomicU64,
}

/// When batches become blocks, and how many at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct CutRules {
    pub(super) max_bytes: u64,
    pub(super) max_age: Duration,
    pub(super) concurrency: usize,
}

impl CutRules {
    /// Whether a part is to go, in a round of housekeeping.
    fn is_due(&self, part: &FlushPart, now_ms: i64) -> bool {
        let age_ms = now_ms.saturating_sub(part.since_ms.get());
        let max_ms = i64::try_from(self.max_age.as_millis()).unwrap_or(i64::MAX);
        part.bytes >= self.max_bytes || age_ms >= max_ms
    }
}

/// Moves batches of the heads into the bucket: first the log notes where they go, then the blocks are written and listed, then the heads let go of the
/// batches, then the log does.
///
/// Each verb may be dropped at any await: what is not in the store by then stays in the heads, and goes with the next flush. What nobody
/// knows the end of is looked up before.
#[derive(Debug)]
pub(super) struct BlockFlusher {
    upload: BlockUpload,
    list: Arc<BlockList>,
    limits: Overrides<Limits>,
    clock: Arc<dyn Clock>,
    random: NewIds,
    rules: CutRules,
    /// One flush at a time.
    flushing: tokio::sync::Mutex<()>,
    pub(super) counts: FlushCounts,
}

/// Where the names of blocks come from.
pub(super) struct NewIds(pub(super) RandomSource);

impl std::fmt::Debug for NewIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewIds")
    }
}

impl NewIds {
    pub(super) fn next(&self) -> BlockId {
        let mut bytes = [0; 16];
        (self.0)(&mut bytes);
        BlockId::random(bytes)
    }
}

impl BlockFlusher {
    pub(super) fn new(
        upload: BlockUpload,
        list: Arc<BlockList>,
        limits: Overrides<Limits>,
        clock: Arc<dyn Clock>,
        random: RandomSource,
        rules: CutRules,
    ) -> Self {
        Self {
            upload,
            list,
            limits,
            clock,
            random: NewIds(random),
            rules,
            flushing: tokio::sync::Mutex::default(),
            counts: FlushCounts::default(),
        }
    }

    /// Puts batches into the bucket.
    ///
    /// # Errors
    /// The first one; all else is moved all the same.
    pub(super) async fn flush(&self, heads: &Arc<Heads>, scope: FlushScope) -> Result<FlushReport> {
        let _one = self.flushing.lock().await;
        let mut report = FlushReport::default();
        let settled = self.settle_all(heads).await;
        let moved = self.move_blocks(heads, scope, &mut report).await;
        let done = settled.and(moved);
        match &done {
            Ok(()) => {
                let now_ms = u64::try_from(self.clock.now_ms().get()).unwrap_or(0);
                self.counts.last_success_ms.store(now_ms, Ordering::Relaxed);
            }
            Err(_) => self.failed(),
        }
        done.map(|()| report)
    }

    /// Counts a flush that failed.
    pub(super) fn failed(&self) {
        self.counts.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Looks up blocks of which nobody knows whether they got into the store.
    ///
    /// # Errors
    /// The first one of the store; the batches then wait for the next time, in the heads.
    pub(super) async fn settle(&self, heads: &Arc<Heads>) -> Result<()> {
        let _one = self.flushing.lock().await;
        self.settle_all(heads).await
    }

    async fn settle_all(&self, heads: &Arc<Heads>) -> Result<()> {
        let mut failed = None;
        for (tenant, block) in heads.doubtful_blocks().into_keys() {
            match self.list.find_block(&tenant, block).await {
                Ok(is_stored) => heads.settle_block(&tenant, block, is_stored),
                Err(e) => {
                    failed.get_or_insert(e);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Marks what goes, before anything is written.
    fn begin(&self, heads: &Heads, scope: FlushScope) -> Vec<Leaving> {
        let now_ms = self.clock.now_ms().get();
        let mut leaving = Vec::new();
        for part in heads.flush_parts() {
            if scope == FlushScope::All || self.rules.is_due(&part, now_ms) {
                let max = self.rules.max_bytes;
                let blocks = || heads.begin_flush_of(&part, self.random.next(), max);
                leaving.extend(std::iter::from_fn(blocks));
            }
        }
        leaving
    }

    async fn move_blocks(
        &self,
        heads: &Arc<Heads>,
        scope: FlushScope,
        report: &mut FlushReport,
    ) -> Result<()> {
        let leaving = self.begin(heads, scope);
        if leaving.is_empty() {
            return Ok(());
        }
        // A process that ends from here on knows which blocks to look for.
        heads.checkpoint().await?;
        let moves = leaving.into_iter().map(|l| self.move_block(heads, l));
        let mut moves = futures::stream::iter(moves).buffer_unordered(self.rules.concurrency);
        let mut failed = None;
        while let Some(moved) = moves.next().await {
            match moved {
                Ok(one) => {
                    report.blocks += one.blocks;
                    report.traces += one.traces;
                    report.bytes += one.bytes;
                }
                Err(e) => {
                    failed.get_or_insert(e);
                }
            }
        }
        heads.checkpoint().await?;
        failed.map_or(Ok(()), Err)
    }

    async fn move_block(&self, heads: &Arc<Heads>, leaving: Leaving) -> Result<FlushReport> {
        let tenant = leaving.tenant().clone();
        let limits = self.limits.for_tenant(&tenant);
        let dedicated = &limits.storage.parquet_dedicated_columns;
        let written = self
            .upload
            .write(&tenant, leaving.block(), dedicated, leaving.merge())
            .await;
        let written = written.inspect_err(|e| {
            let block = leaving.block();
            tracing::warn!(%tenant, %block, error = %e, "a block cannot be written; its traces stay, and go with the next flush");
        })?;
        let mut report = FlushReport::default();
        // No await from here on: the block is listed before the heads let go, and they do if it is.
        in_place(|| {
            if let Some(meta) = written {
                report = FlushReport {
                    blocks: 1,
                    traces: meta.trace_count,
                    bytes: meta.size_bytes,
                };
                self.list.add(&tenant, meta);
            }
            heads.give(leaving);
        });
        for (count, n) in [
            (&self.counts.blocks, report.blocks),
            (&self.counts.traces, report.traces),
            (&self.counts.bytes, report.bytes),
        ] {
            count.fetch_add(n, Ordering::Relaxed);
        }
        Ok::<_, Error>(report)
    }
}
