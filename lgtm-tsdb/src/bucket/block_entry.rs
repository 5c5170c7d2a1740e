//! A block as the list knows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use lgtm_core::Error;
use lgtm_core::model::{TenantId, TimestampMs};
use parking_lot::Mutex;

use crate::block::{BlockMeta, BlockReader};

/// A block on the list, open or not.
#[derive(Debug)]
pub(super) struct BlockEntry {
    pub(super) tenant: TenantId,
    pub(super) meta: BlockMeta,
    pub(super) reader: tokio::sync::Mutex<Option<Arc<BlockReader>>>,
    /// When the reader was last asked for, on the counter of all blocks.
    pub(super) used: AtomicU64,
    /// Raised when a page turned out damaged: those that the cache has are not looked at again.
    pub(super) edition: AtomicU32,
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
    pub(super) fn new(tenant: TenantId, meta: BlockMeta) -> Self {
        Self {
            tenant,
            meta,
            reader: tokio::sync::Mutex::default(),
            used: AtomicU64::new(0),
            edition: AtomicU32::new(0),
            fault: Mutex::default(),
        }
    }

    /// Folder of the block in the bucket.
    pub(super) fn folder(&self) -> String {
        format!("{}/{}", self.tenant, self.meta.ulid)
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
            tracing::error!(tenant = %self.tenant, block = %self.meta.ulid, error = text, "block set aside: it cannot be read; the others serve, and answers that lack it say so");
        }
    }

    /// Gives the block another chance.
    pub(super) fn forgive(&self) {
        *self.fault.lock() = None;
    }

    /// Lets go of the reader and of what caches have of the block.
    pub(super) async fn reread(&self) {
        let mut reader = self.reader.lock().await;
        self.edition.fetch_add(1, Ordering::Relaxed);
        *reader = None;
    }

    /// What an answer without the block says.
    pub(super) fn warning(&self, fault: &str) -> String {
        format!(
            "block {} of tenant {} cannot be read, its samples from {} to {} are missing: {fault}",
            self.meta.ulid, self.tenant, self.meta.min_ms, self.meta.max_ms
        )
    }
}
