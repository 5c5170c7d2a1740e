//! The side objects of a bucket: which there are, and what of them is in memory (`docs/format/side_object.md`).
//!
//! Nothing here is an error to a query: what is not known, gone, damaged or cannot be loaded is counted, and the query reads the chunks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use hashbrown::HashMap;
use lgtm_core::clock::Clock;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::TimestampMs;
use lgtm_core::storage::Bucket;
use lgtm_core::{Error, Result};
use parking_lot::Mutex;

use super::open_files::RETRY_AFTER_MS;
use super::settings::BucketSettings;
use super::side_cache::SideCache;
use crate::skip::{SideDirectory, SideTail};

/// Bytes at the end of an object that are loaded first: tail and directory of a thousand chunks.
const END_BYTES: u64 = 64 << 10;
/// Bytes of memory of a chunk in the table of all chunks.
const ENTRY_BYTES: u64 = 24;

/// Which part of what stands beside a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum SideKind {
    Filters,
    Counts,
}

/// A side object.
#[derive(Debug)]
pub(super) struct SideFile {
    pub(super) path: String,
    day: i64,
    size_bytes: u64,
    /// Written by this process and not seen in a listing yet: it is there, whatever a listing says that may be older.
    is_unlisted: AtomicBool,
    pub(super) directory: Mutex<Option<Arc<SideDirectory>>>,
    /// One load at a time.
    loading: tokio::sync::Mutex<()>,
    /// Until when it is left out, as it could not be read.
    retry_at_ms: Mutex<Option<TimestampMs>>,
    used: AtomicU64,
}

impl SideFile {
    fn is_set_aside(&self, now_ms: TimestampMs) -> bool {
        let mut retry_at = self.retry_at_ms.lock();
        if retry_at.is_some_and(|at| at <= now_ms) {
            *retry_at = None;
        }
        retry_at.is_some()
    }
}

#[derive(Debug, Default)]
pub(super) struct SideList {
    days: BTreeMap<i64, BTreeMap<String, Arc<SideFile>>>,
    /// Chunks of all directories in memory, by their hashes.
    pub(super) chunks: HashMap<u64, Arc<SideFile>>,
    /// Bytes of memory of directories and of the table of chunks.
    bytes: u64,
}

/// Counts over side objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SideStats {
    /// Side objects known.
    pub objects: u64,
    /// Bytes of memory that directories and sections take.
    pub memory_bytes: u64,
    /// Chunks asked for.
    pub chunks_asked: u64,
    /// Chunks of these that something was known of.
    pub chunks_known: u64,
    /// Chunks that were not read as they surely have nothing of interest.
    pub chunks_skipped: u64,
    /// Chunks that were not read as they were counted already.
    pub chunks_counted: u64,
    /// Bytes of side objects loaded.
    pub bytes_loaded: u64,
    /// Side objects, and sections of them, found damaged or gone, and loads that failed.
    pub failures: u64,
    /// Side objects that could not be made or written.
    pub write_failures: u64,
}

#[derive(Debug, Default)]
pub(super) struct SideCounts {
    pub(super) asked: AtomicU64,
    pub(super) known: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) counted: AtomicU64,
    pub(super) loaded: AtomicU64,
    failures: AtomicU64,
    pub(super) write_failures: AtomicU64,
}

/// The side objects of a bucket.
#[derive(Debug)]
pub(super) struct SideFiles {
    pub(super) bucket: Bucket,
    pub(super) executor: Executor,
    clock: Arc<dyn Clock>,
    pub(super) concurrency: usize,
    max_files: usize,
    max_bytes: u64,
    pub(super) list: Mutex<SideList>,
    pub(super) cache: Mutex<SideCache>,
    uses: AtomicU64,
    pub(super) counts: SideCounts,
}

impl SideFiles {
    pub(super) fn new(
        bucket: Bucket,
        executor: Executor,
        clock: Arc<dyn Clock>,
        settings: &BucketSettings,
    ) -> Self {
        // A quarter for what finds sections, the rest for sections: these are some four times as large.
        let of_directories = settings.side_memory.as_u64() / 4;
        let of_sections = settings.side_memory.as_u64() - of_directories;
        Self {
            bucket,
            executor,
            clock,
            concurrency: settings.index_concurrency,
            max_files: settings.max_index_files,
            max_bytes: of_directories,
            list: Mutex::default(),
            cache: Mutex::new(SideCache::new(of_sections)),
            uses: AtomicU64::new(0),
            counts: SideCounts::default(),
        }
    }

    /// Learns which side objects there are; of some days, or of all.
    ///
    /// # Errors
    /// The first error of the store, `LimitExceeded` for too many; what is known stays.
    pub(super) async fn sync(&self, days: Option<&BTreeSet<i64>>) -> Result<()> {
        let folders: Vec<String> = match days {
            Some(days) => days.iter().map(i64::to_string).collect(),
            None => vec![String::new()],
        };
        let listed = folders.into_iter().map(|folder| async move {
            let mut objects = self.bucket.list(&folder);
            let mut found = Vec::new();
            while let Some(object) = objects.try_next().await? {
                if found.len() >= self.max_files {
                    return Err(Error::LimitExceeded(format!(
                        "more than {} side objects, the bound is max_index_files",
                        self.max_files
                    )));
                }
                let day = object
                    .path
                    .split_once('/')
                    .and_then(|(day, _)| day.parse().ok());
                found.extend(day.map(|day: i64| (day, object.path, object.size_bytes)));
            }
            Ok(found)
        });
        let mut listed = futures::stream::iter(listed).buffer_unordered(self.concurrency);
        let mut found: BTreeMap<i64, BTreeMap<String, u64>> = BTreeMap::new();
        while let Some(some) = listed.try_next().await? {
            for (day, path, size) in some {
                found.entry(day).or_default().insert(path, size);
            }
        }
        let mut list = self.list.lock();
        let asked: Vec<i64> = match days {
            Some(days) => days.iter().copied().collect(),
            None => list.days.keys().chain(found.keys()).copied().collect(),
        };
        for day in asked {
            let there = found.remove(&day).unwrap_or_default();
            let known = list.days.remove(&day).unwrap_or_default();
            let mut kept = BTreeMap::new();
            for (path, file) in known {
                if there.contains_key(&path) {
                    file.is_unlisted.store(false, Ordering::Relaxed);
                    kept.insert(path, file);
                } else if file.is_unlisted.load(Ordering::Relaxed) {
                    kept.insert(path, file);
                } else {
                    list.close(&file);
                }
            }
            for (path, size) in there {
                kept.entry(path.clone())
                    .or_insert_with(|| Arc::new(SideFile::new(path, day, size, false)));
            }
            if !kept.is_empty() {
                list.days.insert(day, kept);
            }
        }
        Ok(())
    }

    /// Puts an object on the list that was just written, its directory in memory already.
    pub(super) fn add_written(&self, path: String, day: i64, object: &[u8]) {
        let file = Arc::new(SideFile::new(path, day, object.len() as u64, true));
        let tail = SideTail::decode(object, object.len() as u64);
        let directory = tail.and_then(|tail| {
            let range = tail.directory();
            let bytes = &object[range.start as usize..range.end as usize];
            SideDirectory::decode(&tail, Bytes::copy_from_slice(bytes))
        });
        let mut list = self.list.lock();
        list.days
            .entry(day)
            .or_default()
            .insert(file.path.clone(), Arc::clone(&file));
        if let Ok(directory) = directory {
            list.open(&file, directory);
            list.shrink(self.max_bytes, &file);
        }
    }

    /// Sees to it that the directories of some days are in memory, as far as they can be had.
    pub(super) async fn open_days(&self, days: &BTreeSet<i64>) {
        let now_ms = self.clock.now_ms();
        let files: Vec<Arc<SideFile>> = {
            let list = self.list.lock();
            let files = days.iter().filter_map(|day| list.days.get(day));
            files.flat_map(|f| f.values().cloned()).collect()
        };
        let now = self.uses.fetch_add(1, Ordering::Relaxed);
        let mut missing = Vec::new();
        for file in files {
            file.used.store(now, Ordering::Relaxed);
            if file.directory.lock().is_none() && !file.is_set_aside(now_ms) {
                missing.push(file);
            }
        }
        let opened = missing.into_iter().map(|file| async move {
            let _one = file.loading.lock().await;
            if file.directory.lock().is_some() {
                return;
            }
            match self.directory(&file).await {
                Ok(directory) => {
                    let mut list = self.list.lock();
                    list.open(&file, directory);
                    list.shrink(self.max_bytes, &file);
                }
                Err(e) => self.set_aside(&file, &e),
            }
        });
        futures::stream::iter(opened)
            .buffer_unordered(self.concurrency)
            .collect::<()>()
            .await;
    }

    async fn directory(&self, file: &SideFile) -> Result<SideDirectory> {
        let size = file.size_bytes;
        let end = self.get(file, size.saturating_sub(END_BYTES)..size).await?;
        let corrupt = |e| Error::corrupt(file.path.clone(), e);
        let tail = SideTail::decode(&end, size).map_err(corrupt)?;
        let range = tail.directory();
        let in_end = range.start.checked_sub(size - end.len() as u64);
        let bytes = match in_end {
            Some(at) => end.slice(at as usize..at as usize + (range.end - range.start) as usize),
            None => self.get(file, range).await?,
        };
        let path = file.path.clone();
        // The rest of what was loaded need not stay in memory with it.
        let job = move |_: &CancelToken| {
            SideDirectory::decode(&tail, Bytes::copy_from_slice(&bytes))
                .map_err(|e| Error::corrupt(path, e))
        };
        self.executor.run(job, &CancelToken::new()).await
    }

    async fn get(&self, file: &SideFile, range: std::ops::Range<u64>) -> Result<Bytes> {
        let bytes = self.bucket.get_range(&file.path, range).await?;
        self.counts
            .loaded
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    pub(super) fn set_aside(&self, file: &SideFile, e: &Error) {
        self.counts.failures.fetch_add(1, Ordering::Relaxed);
        let until = self.clock.now_ms().saturating_add(RETRY_AFTER_MS);
        *file.retry_at_ms.lock() = Some(until);
        tracing::warn!(file = file.path, error = %e, "side object cannot be read; queries read the chunks instead");
    }

    /// Counts so far.
    pub(super) fn stats(&self) -> SideStats {
        let (objects, directories) = {
            let list = self.list.lock();
            let objects: usize = list.days.values().map(BTreeMap::len).sum();
            (objects as u64, list.bytes)
        };
        let of = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let counts = &self.counts;
        SideStats {
            objects,
            memory_bytes: directories + self.cache.lock().bytes(),
            chunks_asked: of(&counts.asked),
            chunks_known: of(&counts.known),
            chunks_skipped: of(&counts.skipped),
            chunks_counted: of(&counts.counted),
            bytes_loaded: of(&counts.loaded),
            failures: of(&counts.failures),
            write_failures: of(&counts.write_failures),
        }
    }
}

impl SideFile {
    fn new(path: String, day: i64, size_bytes: u64, is_unlisted: bool) -> Self {
        Self {
            path,
            day,
            size_bytes,
            is_unlisted: AtomicBool::new(is_unlisted),
            directory: Mutex::default(),
            loading: tokio::sync::Mutex::default(),
            retry_at_ms: Mutex::default(),
            used: AtomicU64::new(0),
        }
    }
}

impl SideList {
    /// Takes a directory into memory.
    fn open(&mut self, file: &Arc<SideFile>, directory: SideDirectory) {
        // One that went from the list meanwhile is not kept.
        let is_listed = |day: &BTreeMap<String, Arc<SideFile>>| {
            day.get(&file.path).is_some_and(|f| Arc::ptr_eq(f, file))
        };
        if !self.days.get(&file.day).is_some_and(is_listed) {
            return;
        }
        for hash in directory.hashes() {
            self.chunks.insert(hash, Arc::clone(file));
        }
        self.bytes += memory_of(&directory);
        *file.directory.lock() = Some(Arc::new(directory));
    }

    /// Lets go of a directory.
    fn close(&mut self, file: &Arc<SideFile>) {
        let Some(directory) = file.directory.lock().take() else {
            return;
        };
        self.bytes = self.bytes.saturating_sub(memory_of(&directory));
        for hash in directory.hashes() {
            if self.chunks.get(&hash).is_some_and(|f| Arc::ptr_eq(f, file)) {
                self.chunks.remove(&hash);
            }
        }
    }

    /// Lets go of directories that were used least lately until the others keep the bound.
    fn shrink(&mut self, max_bytes: u64, fresh: &Arc<SideFile>) {
        while self.bytes > max_bytes {
            let open = self.days.values().flat_map(BTreeMap::values);
            let open = open.filter(|f| !Arc::ptr_eq(f, fresh) && f.directory.lock().is_some());
            let least = open.min_by_key(|f| f.used.load(Ordering::Relaxed)).cloned();
            let Some(least) = least else { return };
            self.close(&least);
        }
    }
}

fn memory_of(directory: &SideDirectory) -> u64 {
    directory.size_bytes() as u64 + directory.len() as u64 * ENTRY_BYTES
}
