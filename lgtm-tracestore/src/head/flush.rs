//! Batches on their way into the object store.
//!
//! [`Heads::begin_flush`] marks the batches of a tenant that go, and names the block that they go into; [`Leaving::merge`] gives their traces in
//! order. A checkpoint notes the block, so that a process which ends between the block's upload and its next checkpoint finds out which
//! batches the store has ([`Heads::doubtful_blocks`], [`Heads::settle_block`]); so does one whose upload failed, as a failed answer may come of a write
//! that happened. When the block is listed, [`Heads::give`] begins a new generation
//! and lets go of the batches: queries that begin from then on find them in the store, and for those that began before they stay; with `retain_flushed` for all, a while
//! longer: a checkpoint names them with their block, so that the next process finds that in the store and lets them stay as long. What does
//! not get there stays too, in memory and in the log, and goes with the next flush.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lgtm_core::model::{TenantId, TimestampMs};
use lgtm_core::wal::ChunkState;

use super::batch_merge::BatchMerge;
use super::block_window::BlockWindow;
use super::head::Head;
use super::head_batch::HeadBatch;
use super::heads::Heads;
use crate::block_id::BlockId;

/// What of the heads a flush moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushScope {
    /// Batches that are large or old enough for a block.
    Complete,
    /// Everything, live traces too.
    All,
}

/// Batches of a tenant that can go into one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlushPart {
    /// Whose they are.
    pub tenant: TenantId,
    /// Which traces they have.
    pub window: BlockWindow,
    /// Bytes of them before compression.
    pub bytes: u64,
    /// When the first trace of them came.
    pub since_ms: TimestampMs,
}

/// A batch that is on its way into the object store, or there.
#[derive(Debug, Clone)]
pub(super) struct LeavingBatch {
    head: Arc<Head>,
    batch: Arc<HeadBatch>,
}

/// Batches that one flush has marked. Dropped, they go with the next one, once it is known whether the store has the block.
#[derive(Debug)]
pub struct Leaving {
    head: Arc<Head>,
    block: BlockId,
    batches: Vec<Arc<HeadBatch>>,
    is_given: bool,
}

impl Leaving {
    /// Who they belong to.
    pub fn tenant(&self) -> &TenantId {
        &self.head.tenant
    }

    /// The block that they go into.
    pub fn block(&self) -> BlockId {
        self.block
    }

    /// Number of batches.
    pub fn batch_count(&self) -> usize {
        self.batches.len()
    }

    /// Their traces in the order of ids, each once. Reads the local files: to be walked on the compute pool.
    pub fn merge(&self) -> BatchMerge {
        BatchMerge::new(Arc::clone(&self.head), self.batches.clone())
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if !self.is_given {
            for batch in &self.batches {
                batch.set_chunk_state(ChunkState::HELD);
            }
        }
    }
}

impl Heads {
    /// What could go, by tenant and window: packed batches that no flush has marked yet.
    pub fn flush_parts(&self) -> Vec<FlushPart> {
        let mut parts = Vec::new();
        for head in self.all() {
            let mut windows: BTreeMap<BlockWindow, (u64, TimestampMs)> = BTreeMap::new();
            for batch in head.lock().batches.iter().filter(|b| b.may_leave()) {
                let none = (0, TimestampMs::MAX);
                let (bytes, since_ms) = windows.entry(batch.window).or_insert(none);
                *bytes += batch.raw_bytes();
                *since_ms = batch.since_ms.min(*since_ms);
            }
            let of_tenant = windows
                .into_iter()
                .map(|(window, (bytes, since_ms))| FlushPart {
                    tenant: head.tenant.clone(),
                    window,
                    bytes,
                    since_ms,
                });
            parts.extend(of_tenant);
        }
        parts
    }

    /// Marks the oldest batches of a part, until they have `max_bytes` before compression; `None` when there are none left.
    pub fn begin_flush_of(
        &self,
        part: &FlushPart,
        block: BlockId,
        max_bytes: u64,
    ) -> Option<Leaving> {
        let mut bytes = 0;
        self.begin_flush_where(&part.tenant, block, |batch| {
            let is_wanted = batch.window == part.window && bytes < max_bytes;
            if is_wanted && batch.may_leave() {
                bytes += batch.raw_bytes();
            }
            is_wanted
        })
    }

    /// Marks all packed batches of a tenant that no flush has marked yet; `None` when there are none.
    pub fn begin_flush(&self, tenant: &TenantId, block: BlockId) -> Option<Leaving> {
        self.begin_flush_where(tenant, block, |_| true)
    }

    fn begin_flush_where(
        &self,
        tenant: &TenantId,
        block: BlockId,
        mut is_wanted: impl FnMut(&HeadBatch) -> bool,
    ) -> Option<Leaving> {
        let head = self.get(tenant)?;
        let batches: Vec<Arc<HeadBatch>> = {
            let state = head.lock();
            (state.batches.iter())
                .filter(|b| b.is_packed() && is_wanted(b) && b.leave(block))
                .cloned()
                .collect()
        };
        if batches.is_empty() {
            return None;
        }
        Some(Leaving {
            head,
            block,
            batches,
            is_given: false,
        })
    }

    /// Lets go of batches whose block is on the list that queries of this process know.
    pub fn give(&self, mut leaving: Leaving) {
        leaving.is_given = true;
        let batches = leaving.batches.iter().map(|batch| LeavingBatch {
            head: Arc::clone(&leaving.head),
            batch: Arc::clone(batch),
        });
        self.let_go(batches.collect());
    }

    fn let_go(&self, batches: Vec<LeavingBatch>) {
        if !self.settings.retain_flushed.is_zero() {
            let stays = (self.clock.monotonic(), self.parts.generations.enter());
            self.retained.lock().push_back(stays);
        }
        let (generation, oldest) = self.parts.generations.advance();
        for leaving in &batches {
            (leaving.batch).set_chunk_state(ChunkState::moved(generation));
        }
        self.moved.lock().extend(batches);
        if oldest == generation {
            self.drop_moved();
        }
    }

    /// Drops the batches that stayed for readers which are gone, and for as long as `retain_flushed` says.
    pub(super) fn drop_moved(&self) {
        let now = self.clock.monotonic();
        let is_over = |since: Duration| now.saturating_sub(since) >= self.settings.retain_flushed;
        {
            let mut retained = self.retained.lock();
            while retained.front().is_some_and(|(since, _)| is_over(*since)) {
                retained.pop_front();
            }
        }
        let oldest = self.parts.generations.oldest();
        let mut freed = Vec::new();
        self.moved.lock().retain(|leaving| {
            if !leaving.batch.chunk_state().is_past(oldest) {
                return true;
            }
            let removed = leaving.head.lock().remove_batch(leaving.batch.id);
            freed.extend(removed.and_then(|batch| batch.place()));
            false
        });
        self.parts.files.release(&freed);
    }

    /// Blocks that batches were on their way into when a flush failed or the process ended, by tenant: whether the store has them is to be looked
    /// up, and told to [`Heads::settle_block`], before these batches can go. After a start, before anything is read.
    pub fn doubtful_blocks(&self) -> BTreeMap<(TenantId, BlockId), usize> {
        let mut blocks = BTreeMap::new();
        for head in self.all() {
            for batch in &head.lock().batches {
                if let Some(block) = batch.leaving()
                    && batch.chunk_state() == ChunkState::HELD
                {
                    *blocks.entry((head.tenant.clone(), block)).or_default() += 1;
                }
            }
        }
        blocks
    }

    /// Says whether the store has a block that batches were on their way into. If so they are let go of; if not they go with the next flush.
    pub fn settle_block(&self, tenant: &TenantId, block: BlockId, is_stored: bool) {
        let Some(head) = self.get(tenant) else {
            return;
        };
        let of_block: Vec<Arc<HeadBatch>> = (head.lock().batches.iter())
            .filter(|b| b.leaving() == Some(block) && b.chunk_state() == ChunkState::HELD)
            .cloned()
            .collect();
        if !is_stored {
            of_block.iter().for_each(|b| b.stay());
            return;
        }
        let leaving = of_block.into_iter().map(|batch| LeavingBatch {
            head: Arc::clone(&head),
            batch,
        });
        self.let_go(leaving.collect());
    }
}
