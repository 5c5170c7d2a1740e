//! A block as the list knows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lgtm_core::Error;
use lgtm_core::model::{TenantId, TimestampMs};
use parking_lot::Mutex;

use crate::block::{BlockMeta, BlockReader, BucketIndexBlock};
use crate::block_id::BlockId;

/// What the list knows of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListedBlock {
    pub(super) id: BlockId,
    /// Start of its time range, inclusive.
    pub(super) min_ms: TimestampMs,
    /// End of its time range, exclusive.
    pub(super) max_ms: TimestampMs,
}

impl From<&BlockMeta> for ListedBlock {
    fn from(meta: &BlockMeta) -> Self {
        Self {
            id: meta.ulid,
            min_ms: meta.min_ms,
            max_ms: meta.max_ms,
        }
    }
}

impl From<&BucketIndexBlock> for ListedBlock {
    fn from(block: &BucketIndexBlock) -> Self {
        Self {
            id: block.id,
            min_ms: block.min_ms,
            max_ms: block.max_ms,
        }
    }
}

/// A block on the list, open or not.
#[derive(Debug)]
pub(super) struct BlockEntry {
    pub(super) tenant: TenantId,
    pub(super) block: ListedBlock,
    /// When it came on the list, on the host's clock.
    pub(super) added_ms: TimestampMs,
    pub(super) reader: tokio::sync::Mutex<Option<Arc<BlockReader>>>,
    /// When the reader was last asked for, on the counter of all blocks.
    pub(super) used: AtomicU64,
    /// Raised when a page turned out damaged: those that the cache has are not looked at again.
    pub(super) edition: AtomicU64,
    fault: Mutex<Option<BlockFault>>,
}

/// Why a block is set aside.
#[derive(Debug, Clone)]
struct BlockFault {
    text: String,
    /// On the host's clock, milliseconds: from then on a query tries the block again.
    retry_at_ms: TimestampMs,
}

impl BlockEntry {
    pub(super) fn new(tenant: TenantId, block: ListedBlock, added_ms: TimestampMs) -> Self {
        Self {
            tenant,
            block,
            added_ms,
            reader: tokio::sync::Mutex::default(),
            used: AtomicU64::new(0),
            edition: AtomicU64::new(0),
            fault: Mutex::default(),
        }
    }

    /// Folder of the block in the bucket.
    pub(super) fn folder(&self) -> String {
        format!("{}/{}", self.tenant, self.block.id)
    }

    /// Why the block is set aside, unless it is time to try it again.
    pub(super) fn fault(&self, now_ms: TimestampMs) -> Option<String> {
        let mut fault = self.fault.lock();
        if fault.as_ref().is_some_and(|f| now_ms >= f.retry_at_ms) {
            *fault = None;
        }
        fault.as_ref().map(|f| f.text.clone())
    }

    /// Why the block is set aside.
    pub(super) fn known_fault(&self) -> Option<String> {
        self.fault.lock().as_ref().map(|f| f.text.clone())
    }

    /// Sets the block aside until `retry_at_ms`.
    pub(super) fn set_aside(&self, error: &Error, retry_at_ms: TimestampMs) {
        let text = error.to_string();
        let before = self.fault.lock().replace(BlockFault {
            text: text.clone(),
            retry_at_ms,
        });
        if before.is_none_or(|f| f.text != text) {
            tracing::error!(tenant = %self.tenant, block = %self.block.id, error = text, "block set aside: it cannot be read; the others serve, and answers that lack it say so");
        }
    }

    /// Gives the block another chance.
    pub(super) fn forgive(&self) {
        *self.fault.lock() = None;
    }

    /// Lets go of the reader and of what caches have of the block. `now_ms` is an edition that no process has had before: what one of them read
    /// damaged may lie in a cache that has outlived it.
    pub(super) async fn reread(&self, now_ms: TimestampMs) {
        let mut reader = self.reader.lock().await;
        let now = u64::try_from(now_ms.get()).unwrap_or(0);
        let last = self.edition.load(Ordering::Relaxed);
        self.edition.store(now.max(last + 1), Ordering::Relaxed);
        *reader = None;
    }

    /// What an answer without the block says.
    pub(super) fn warning(&self, fault: &str) -> String {
        format!(
            "block {} of tenant {} cannot be read, its samples from {} to {} are missing: {fault}",
            self.block.id, self.tenant, self.block.min_ms, self.block.max_ms
        )
    }
}
