//! Readers of blocks: opened when they are needed, closed when others are needed more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use lgtm_core::clock::Clock;
use lgtm_core::model::TimestampMs;
use lgtm_core::storage::Bucket;
use lgtm_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use super::block_entry::BlockEntry;
use crate::block::{BlockPages, BlockReader, BlockReaderSettings};

/// How long a block that cannot be read is left out before a query tries it again. A query that tries pays for it; the list is
/// brought up to date, and every block tried again, more rarely.
const RETRY_AFTER_MS: i64 = 30_000;

/// Opens blocks and keeps those open that were used last.
#[derive(Debug)]
pub(super) struct OpenBlocks {
    pub(super) bucket: Bucket,
    pages: BlockPages,
    clock: Arc<dyn Clock>,
    max_open: usize,
    open: Mutex<Vec<Arc<BlockEntry>>>,
    uses: AtomicU64,
    opened: AtomicU64,
}

impl OpenBlocks {
    pub(super) fn new(
        bucket: Bucket,
        pages: BlockPages,
        clock: Arc<dyn Clock>,
        max_open: usize,
    ) -> Self {
        Self {
            bucket,
            pages,
            clock,
            max_open: max_open.max(1),
            open: Mutex::default(),
            uses: AtomicU64::new(0),
            opened: AtomicU64::new(0),
        }
    }

    /// The caches of pages.
    pub(super) fn pages(&self) -> &BlockPages {
        &self.pages
    }

    /// Readers opened so far.
    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// The host's time, milliseconds.
    pub(super) fn now_ms(&self) -> TimestampMs {
        self.clock.now_ms()
    }

    /// The reader of a block, opened if need be.
    pub(super) async fn reader(&self, entry: &Arc<BlockEntry>) -> Result<Arc<BlockReader>> {
        let now = self.uses.fetch_add(1, Ordering::Relaxed);
        entry.used.store(now, Ordering::Relaxed);
        let mut slot = entry.reader.lock().await;
        if let Some(reader) = &*slot {
            return Ok(Arc::clone(reader));
        }
        let (folder, settings) = (entry.folder(), BlockReaderSettings::default());
        let pages = self.pages.edition(entry.edition.load(Ordering::Relaxed));
        let opened = BlockReader::open_cached(&self.bucket, &folder, settings, &pages).await?;
        let reader = Arc::new(opened);
        *slot = Some(Arc::clone(&reader));
        drop(slot);
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.close_least_used(entry);
        Ok(reader)
    }

    fn close_least_used(&self, fresh: &Arc<BlockEntry>) {
        let mut open = self.open.lock();
        open.push(Arc::clone(fresh));
        if open.len() <= self.max_open {
            return;
        }
        let used = open.iter().map(|e| e.used.load(Ordering::Relaxed));
        let Some((least, _)) = used.enumerate().min_by_key(|(_, used)| *used) else {
            return;
        };
        let closed = open.swap_remove(least);
        // One that is being opened right now is in use.
        if let Ok(mut slot) = closed.reader.try_lock() {
            *slot = None;
        }
    }

    /// Asks a block, and once more, past all caches, when what came is damaged or gone. `Err(warning)` inside `Ok` after setting the
    /// block aside.
    ///
    /// # Errors
    /// Those that say nothing of the block: a store that does not answer, a bound.
    pub(super) async fn ask<'a, T>(
        &self,
        entry: &Arc<BlockEntry>,
        asked: impl Fn(Arc<BlockReader>) -> BoxFuture<'a, Result<T>>,
    ) -> Result<Result<T, String>> {
        let first = match self.reader(entry).await {
            Ok(reader) => asked(reader).await,
            Err(e) => Err(e),
        };
        match first {
            Err(e) if is_of_the_block(&e) => {}
            other => return other.map(Ok),
        }
        entry.reread(self.now_ms()).await;
        let second = match self.reader(entry).await {
            Ok(reader) => asked(reader).await,
            Err(e) => Err(e),
        };
        match second {
            Err(e) if is_of_the_block(&e) => Ok(Err(self.set_aside(entry, &e))),
            other => other.map(Ok),
        }
    }

    /// Leaves a block out for a while. Gives what answers without it say.
    pub(super) fn set_aside(&self, entry: &Arc<BlockEntry>, e: &Error) -> String {
        entry.set_aside(e, self.now_ms().saturating_add(RETRY_AFTER_MS));
        entry.warning(&e.to_string())
    }
}

/// Whether an error says that the block itself is damaged, gone or none that can be read (a bit of its `meta.json` may make it look so),
/// rather than that the store or the query is in trouble.
pub(super) fn is_of_the_block(e: &Error) -> bool {
    use ErrorKind::{Corrupt, InvalidInput, NotFound};
    matches!(e.kind(), Corrupt | NotFound | InvalidInput)
}
