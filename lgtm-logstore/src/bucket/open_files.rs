//! Readers of index files: opened when they are needed, closed when others are needed more.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use lgtm_core::clock::Clock;
use lgtm_core::codec::{DecodeFail, Decompressor};
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::storage::{Bucket, LocalFile, MemoryFile, ReadAt, file_error};
use lgtm_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use super::index_file::IndexFile;
use super::settings::BucketSettings;
use crate::index::{IndexReader, IndexReaderSettings, unpack, unpack_into};

/// How long what cannot be read is left out before a query tries it again. A query that tries pays for it.
pub(super) const RETRY_AFTER_MS: i64 = 30_000;

/// Opens index files and keeps those open that were used last.
#[derive(Debug)]
pub(super) struct OpenFiles {
    pub(super) bucket: Bucket,
    pub(super) executor: Executor,
    pub(super) clock: Arc<dyn Clock>,
    /// Where large files are unpacked to.
    folder: Option<PathBuf>,
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
        settings: BucketSettings,
    ) -> Self {
        Self {
            bucket,
            executor,
            clock,
            folder,
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
    pub(super) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// The reader of a file, opened if need be.
    async fn reader(&self, file: &Arc<IndexFile>) -> Result<Arc<IndexReader>> {
        let now = self.uses.fetch_add(1, Ordering::Relaxed);
        file.used.store(now, Ordering::Relaxed);
        let mut slot = file.reader.lock().await;
        if let Some(reader) = &*slot {
            return Ok(Arc::clone(reader));
        }
        let packed = self.bucket.get(&file.path).await?;
        let (unpacked, in_memory) = self.unpacked(&file.path, packed).await?;
        let reader = IndexReader::open(unpacked, IndexReaderSettings::default()).await?;
        let reader = Arc::new(reader);
        *slot = Some(Arc::clone(&reader));
        drop(slot);
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.keep_open(file, in_memory + reader.memory_bytes());
        Ok(reader)
    }

    /// The unpacked file, and the bytes of memory that it takes.
    async fn unpacked(&self, path: &str, packed: Bytes) -> Result<(Arc<dyn ReadAt>, u64)> {
        let path = path.to_owned();
        let max = self.settings.max_index_file_size.as_u64();
        let is_large = packed.len() as u64 > self.settings.local_index_file_size.as_u64();
        if let Some(folder) = self.folder.clone().filter(|_| is_large) {
            let number = self.uses.fetch_add(1, Ordering::Relaxed);
            let to = folder.join(format!("{}-{number}.tsdb", std::process::id()));
            let unpacked = move || -> Result<LocalFile> {
                let made = unpack_to_file(&path, &packed, max, &to);
                // It has no name any more, and is gone when the last reader is.
                let removed = std::fs::remove_file(&to);
                let file = made?;
                removed.map_err(|e| file_error(&to.display().to_string(), &e))?;
                Ok(file)
            };
            let file = self.executor.run_blocking(unpacked).await?;
            return Ok((Arc::new(file), 0));
        }
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let job = move |_: &CancelToken| -> Result<MemoryFile> {
            match unpack(&packed, max, &mut Decompressor::default()) {
                Ok(bytes) => Ok(MemoryFile::new(path, bytes)),
                Err(DecodeFail::Broken(e)) => Err(Error::corrupt(path, e)),
                Err(DecodeFail::Refused(e)) => Err(e),
            }
        };
        let file = self.executor.run(job, &CancelToken::new()).await?;
        let size = file.size();
        Ok((Arc::new(file), size))
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
        let first = match self.reader(file).await {
            Ok(reader) => asked(reader).await,
            Err(e) => Err(e),
        };
        match first {
            Err(e) if is_of_the_object(&e) => {}
            other => return other.map(Ok),
        }
        file.reread().await;
        let second = match self.reader(file).await {
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

fn unpack_to_file(path: &str, packed: &[u8], max: u64, to: &std::path::Path) -> Result<LocalFile> {
    let failed = |e: &std::io::Error| file_error(&to.display().to_string(), e);
    let file = std::fs::File::create_new(to).map_err(|e| failed(&e))?;
    let mut out = std::io::BufWriter::new(file);
    unpack_into(path, packed, max, &mut out)?;
    out.flush().map_err(|e| failed(&e))?;
    LocalFile::open(to)
}

/// Whether an error says that the object itself is damaged, gone or none that can be read, rather than that the store or the query is in
/// trouble.
pub(super) fn is_of_the_object(e: &Error) -> bool {
    use ErrorKind::{Corrupt, InvalidInput, NotFound};
    matches!(e.kind(), Corrupt | NotFound | InvalidInput)
}
