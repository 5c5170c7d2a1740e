//! Readers of index files: opened when they are needed, closed when others are needed more.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use lgtm_core::cache::{Cache, CacheExt};
use lgtm_core::clock::Clock;
use lgtm_core::exec::Executor;
use lgtm_core::model::TimestampMs;
use lgtm_core::storage::{Bucket, MemoryFile};
use lgtm_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use super::index_file::IndexFile;
use super::settings::BucketSettings;
use crate::index::{IndexReader, IndexReaderSettings, IndexUnpacker};

/// How long what cannot be read is left out before a query tries it again. A query that tries pays for it.
pub(super) const RETRY_AFTER_MS: i64 = 30_000;

/// How long index files are kept in a cache: they are replaced within hours, and those of old days are asked for seldom.
const CACHE_TTL: Duration = Duration::from_secs(86_400);

/// Opens index files and keeps those open that were used last.
#[derive(Debug)]
pub(super) struct OpenFiles {
    pub(super) bucket: Bucket,
    pub(super) executor: Executor,
    pub(super) clock: Arc<dyn Clock>,
    unpacker: IndexUnpacker,
    /// Index files as they are in the bucket, if they are kept anywhere.
    cache: Option<Arc<dyn Cache>>,
    settings: BucketSettings,
    open: Mutex<OpenList>,
    uses: AtomicU64,
    opened: AtomicU64,
}

#[derive(Debug, Default)]
struct OpenList {
    /// Open files, and the bytes of memory that each takes.
    files: Vec<(Arc<IndexFile>, u64)>,
    bytes: u64,
}

impl OpenFiles {
    pub(super) fn new(
        bucket: Bucket,
        executor: Executor,
        clock: Arc<dyn Clock>,
        folder: Option<PathBuf>,
        cache: Option<Arc<dyn Cache>>,
        settings: BucketSettings,
    ) -> Self {
        Self {
            bucket,
            unpacker: IndexUnpacker::new(
                executor.clone(),
                folder,
                settings.max_index_file_size.as_u64(),
                settings.local_index_file_size.as_u64(),
            ),
            executor,
            clock,
            cache,
            settings,
            open: Mutex::default(),
            uses: AtomicU64::new(0),
            opened: AtomicU64::new(0),
        }
    }

    /// Readers opened so far.
    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Bytes of memory that open files take.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.open.lock().bytes
    }

    /// The host's time, milliseconds.
    pub(super) fn now_ms(&self) -> TimestampMs {
        self.clock.now_ms()
    }

    /// A file as it is in the bucket. `is_again`: what was kept may be what is damaged.
    async fn packed(&self, path: &str, is_again: bool) -> Result<Bytes> {
        let Some(cache) = &self.cache else {
            return self.bucket.get(path).await;
        };
        if !is_again && let Some(kept) = cache.get(path).await {
            return Ok(kept);
        }
        let packed = self.bucket.get(path).await?;
        cache.set(path, packed.clone(), Some(CACHE_TTL)).await;
        Ok(packed)
    }

    /// The reader of a file, opened if need be; of one that is asked again past the cache.
    async fn reader(&self, file: &Arc<IndexFile>, is_again: bool) -> Result<Arc<IndexReader>> {
        let now = self.uses.fetch_add(1, Ordering::Relaxed);
        file.used.store(now, Ordering::Relaxed);
        let mut slot = file.reader.lock().await;
        if let Some(reader) = &*slot {
            return Ok(Arc::clone(reader));
        }
        let packed = self.packed(&file.path, is_again).await?;
        let (unpacked, in_memory) = self.unpacker.unpacked(&file.path, packed).await?;
        let reader = IndexReader::open(unpacked, IndexReaderSettings::default()).await?;
        let reader = Arc::new(reader);
        *slot = Some(Arc::clone(&reader));
        drop(slot);
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.keep_open(file, in_memory + reader.memory_bytes());
        Ok(reader)
    }

    /// Takes a file that was just written, whose bytes are at hand, among the open ones.
    ///
    /// # Errors
    /// As [`IndexReader::open`].
    pub(super) async fn open_written(&self, file: &Arc<IndexFile>, index: Vec<u8>) -> Result<()> {
        let size = index.len() as u64;
        let unpacked = Arc::new(MemoryFile::new(file.path.clone(), index));
        let reader = IndexReader::open(unpacked, IndexReaderSettings::default()).await?;
        let held = size + reader.memory_bytes();
        *file.reader.lock().await = Some(Arc::new(reader));
        let now = self.uses.fetch_add(1, Ordering::Relaxed);
        file.used.store(now, Ordering::Relaxed);
        self.keep_open(file, held);
        Ok(())
    }

    fn keep_open(&self, fresh: &Arc<IndexFile>, bytes: u64) {
        let mut open = self.open.lock();
        // One that was let go of and opened again counts once.
        if let Some(at) = open.files.iter().position(|(f, _)| Arc::ptr_eq(f, fresh)) {
            let (_, before) = open.files.swap_remove(at);
            open.bytes -= before;
        }
        open.files.push((Arc::clone(fresh), bytes));
        open.bytes += bytes;
        while open.files.len() > 1
            && (open.files.len() > self.settings.max_open_index_files
                || open.bytes > self.settings.index_memory.as_u64())
        {
            let used = open.files.iter().map(|(f, _)| {
                let is_fresh = Arc::ptr_eq(f, fresh);
                (is_fresh, f.used.load(Ordering::Relaxed))
            });
            let Some((least, _)) = used.enumerate().min_by_key(|(_, used)| *used) else {
                return;
            };
            let (closed, held) = open.files.swap_remove(least);
            open.bytes -= held;
            // One that is being opened right now is in use.
            if let Ok(mut slot) = closed.reader.try_lock() {
                *slot = None;
            }
        }
    }

    /// Lets go of files that are on the list no more.
    pub(super) fn close(&self, gone: &[Arc<IndexFile>]) {
        let mut open = self.open.lock();
        let mut freed = 0;
        open.files.retain(|(file, held)| {
            let is_gone = gone.iter().any(|g| Arc::ptr_eq(g, file));
            if is_gone {
                freed += held;
            }
            !is_gone
        });
        open.bytes -= freed;
    }

    /// Asks a file, and once more when what came is damaged or gone. `Err(warning)` inside `Ok` after setting the file aside.
    ///
    /// # Errors
    /// Those that say nothing of the file: a store that does not answer, a bound.
    pub(super) async fn ask<'a, T>(
        &self,
        file: &Arc<IndexFile>,
        asked: impl Fn(Arc<IndexReader>) -> BoxFuture<'a, Result<T>>,
    ) -> Result<Result<T, String>> {
        let first = match self.reader(file, false).await {
            Ok(reader) => asked(reader).await,
            Err(e) => Err(e),
        };
        match first {
            Err(e) if is_of_the_object(&e) => {}
            other => return other.map(Ok),
        }
        file.reread().await;
        let second = match self.reader(file, true).await {
            Ok(reader) => asked(reader).await,
            Err(e) => Err(e),
        };
        match second {
            Err(e) if is_of_the_object(&e) => {
                if e.kind() == ErrorKind::NotFound {
                    file.is_gone.store(true, Ordering::Relaxed);
                }
                file.reread().await;
                file.set_aside(&e, self.now_ms().saturating_add(RETRY_AFTER_MS));
                Ok(Err(file.warning(&e.to_string())))
            }
            other => other.map(Ok),
        }
    }
}

/// Whether an error says that the object itself is damaged, gone or none that can be read, rather than that the store or the query is in
/// trouble.
pub(super) fn is_of_the_object(e: &Error) -> bool {
    use ErrorKind::{Corrupt, InvalidInput, NotFound};
    matches!(e.kind(), Corrupt | NotFound | InvalidInput)
}
