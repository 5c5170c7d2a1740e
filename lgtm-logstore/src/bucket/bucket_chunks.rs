//! The logs in a bucket, of all tenants.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::cache::{Cache, CacheStats, MemoryCache, MemoryCacheSettings};
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::service::Service;
use lgtm_core::storage::{BackendKind, Bucket};
use lgtm_core::telemetry::Registry;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::chunk_source::ChunkSource;
use super::index_file::IndexFile;
use super::known_streams::KnownStreams;
use super::open_files::OpenFiles;
use super::settings::BucketSettings;
use super::side_files::{SideFiles, SideStats};
use super::tables::Tables;
use crate::schema::{DAY_MS, SchemaPeriods, SchemaSettings};

/// How long after a failed listing the next one is tried, until the list is known for the first time: answers lack everything meanwhile.
const FIRST_SYNC_RETRY: Duration = Duration::from_secs(2);

/// Departures of holders of recent data that are remembered.
const MAX_DEPARTED: usize = 256;

/// Collects the parts of [`BucketChunks`].
#[derive(Debug)]
pub struct BucketChunksBuilder {
    bucket: Bucket,
    executor: Executor,
    clock: Arc<dyn Clock>,
    schema: SchemaSettings,
    index_folder: Option<PathBuf>,
    side_bucket: Option<Bucket>,
    chunk_cache: Option<Arc<dyn Cache>>,
    index_cache: Option<Arc<dyn Cache>>,
    registry: Option<Registry>,
    settings: BucketSettings,
}

impl BucketChunksBuilder {
    /// Sets the settings.
    #[must_use]
    pub fn settings(mut self, settings: BucketSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the schema periods of the bucket. Default: `v13` from 1970 on.
    #[must_use]
    pub fn schema(mut self, schema: SchemaSettings) -> Self {
        self.schema = schema;
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets an existing local folder for large unpacked index files. Their names are taken away as soon as they are open. Without it they are
    /// unpacked to memory.
    #[must_use]
    pub fn index_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.index_folder = Some(folder.into());
        self
    }

    /// Sets the place of side files, [`DataKind::LogSkip`](lgtm_core::storage::DataKind): what says where a text surely is not, and what was counted
    /// already. Without it none are read or written.
    #[must_use]
    pub fn side_files(mut self, bucket: Bucket) -> Self {
        self.side_bucket = Some(bucket);
        self
    }

    /// Sets what keeps loaded chunks. Without it that is memory, as much as `chunk_cache_size` says, unless the bucket is a local folder or in memory
    /// itself.
    #[must_use]
    pub fn chunk_cache(mut self, cache: Arc<dyn Cache>) -> Self {
        self.chunk_cache = Some(cache);
        self
    }

    /// Sets what keeps index files as they are in the bucket, for a day, beside those that are open in this process. Without it there is nothing.
    #[must_use]
    pub fn index_cache(mut self, cache: Arc<dyn Cache>) -> Self {
        self.index_cache = Some(cache);
        self
    }

    /// Has `registry` tell which index files are known and what was read.
    #[must_use]
    pub fn metrics(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// Checks everything, touches nothing.
    ///
    /// # Errors
    /// `InvalidInput` for settings out of bounds.
    pub fn build(self) -> Result<Arc<BucketChunks>> {
        self.settings.validate()?;
        let periods = SchemaPeriods::new(&self.schema)?;
        let is_near = matches!(self.bucket.kind(), BackendKind::File | BackendKind::Memory);
        let max_bytes = self.settings.chunk_cache_size;
        let cache = match self.chunk_cache {
            None if !is_near && max_bytes.as_u64() > 0 => {
                let size = MemoryCacheSettings { max_bytes };
                let memory = MemoryCache::new("log-chunks", &size, Arc::clone(&self.clock))?;
                Some(Arc::new(memory) as Arc<dyn Cache>)
            }
            given => given,
        };
        let source = ChunkSource::new(
            self.bucket.clone(),
            periods.clone(),
            Arc::clone(&self.clock),
            cache,
        );
        let tables = Tables::new(
            self.bucket.clone(),
            periods,
            self.settings.max_index_files,
            self.settings.index_concurrency,
        );
        let side = self.side_bucket.map(|bucket| {
            let (executor, clock) = (self.executor.clone(), Arc::clone(&self.clock));
            Arc::new(SideFiles::new(bucket, executor, clock, &self.settings))
        });
        let files = OpenFiles::new(
            self.bucket,
            self.executor,
            self.clock,
            self.index_folder,
            self.index_cache,
            self.settings.clone(),
        );
        let chunks = Arc::new(BucketChunks {
            known_streams: KnownStreams::new(self.settings.index_memory.as_u64() / 4),
            settings: self.settings,
            tables,
            files,
            source: Arc::new(source),
            side,
            listing: tokio::sync::Mutex::new(ListingState {
                full_at: None,
                is_known: false,
            }),
            unlisted: Mutex::new(Some("it was not listed yet".to_owned())),
            failed_listings: AtomicU64::new(0),
            listed_after: Mutex::default(),
            wake: Notify::new(),
        });
        if let Some(registry) = &self.registry {
            chunks.register_metrics(registry);
        }
        Ok(chunks)
    }
}

/// Counts over index files and chunks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BucketStats {
    /// Index files known.
    pub index_files: u64,
    /// Readers of index files opened so far.
    pub index_files_opened: u64,
    /// Bytes of memory that open index files take.
    pub index_memory_bytes: u64,
    /// Index files set aside: path, fault.
    pub index_files_set_aside: Vec<(String, String)>,
    /// Chunks loaded so far.
    pub chunks_loaded: u64,
    /// Of those, how many not whole: their ends, and the blocks that a query wanted.
    pub chunks_loaded_in_part: u64,
    /// Bytes of chunks loaded so far.
    pub chunk_bytes_loaded: u64,
    /// Chunks found damaged or gone so far, each as often as it was tried.
    pub chunks_damaged: u64,
    /// Whether the list of index files is complete as of the last listing.
    pub is_listed: bool,
    /// What is known beside chunks.
    pub side: SideStats,
}

#[derive(Debug)]
struct ListingState {
    /// When all tables were listed last, on the clock that never goes back.
    full_at: Option<Duration>,
    is_known: bool,
}

/// The chunks of all tenants in a bucket, found by its index files.
///
/// Answers [`Select`](crate::select::Select) and tells [volumes](BucketChunks::volumes). As a [`Service`] it keeps the list of index files up
/// to date.
#[derive(Debug)]
pub struct BucketChunks {
    pub(super) settings: BucketSettings,
    pub(super) tables: Tables,
    pub(super) files: OpenFiles,
    pub(super) source: Arc<ChunkSource>,
    pub(super) known_streams: KnownStreams,
    /// What is known beside chunks, where there is a place for it.
    pub(super) side: Option<Arc<SideFiles>>,
    listing: tokio::sync::Mutex<ListingState>,
    /// Why the list may lack files: what went wrong with the last listing.
    unlisted: Mutex<Option<String>>,
    /// Listings that failed so far.
    failed_listings: AtomicU64,
    /// Holders of recent data after whose departure all tables were listed, the latest last.
    listed_after: Mutex<VecDeque<String>>,
    /// Asks the service for a listing at once.
    wake: Notify,
}

impl BucketChunks {
    /// Begins a builder: the logs in `bucket`; `executor` unpacks and decodes. No index file is known before [`BucketChunks::sync`].
    pub fn builder(bucket: Bucket, executor: Executor) -> BucketChunksBuilder {
        BucketChunksBuilder {
            bucket,
            executor,
            clock: Arc::new(SystemClock::new()),
            schema: SchemaSettings::default(),
            index_folder: None,
            side_bucket: None,
            chunk_cache: None,
            index_cache: None,
            registry: None,
            settings: BucketSettings::default(),
        }
    }

    /// Learns which index files there are: those of the last days, every now and then all. New ones are added, those gone are forgotten, those
    /// set aside get another chance.
    ///
    /// Costs one request per table and 1000 objects; a listing of all tables one per 1000 index files.
    ///
    /// # Errors
    /// The first error of the store, `LimitExceeded` for more files than `max_index_files`; what is known stays, and answers say that they
    /// may lack something.
    pub async fn sync(&self) -> Result<()> {
        let mut state = self.listing.lock().await;
        let now = self.files.clock.monotonic();
        let is_recent = |at: Duration| now.saturating_sub(at) < self.settings.full_sync_interval;
        let is_full = !state.is_known || !state.full_at.is_some_and(is_recent);
        let days = (!is_full).then(|| self.days_to_list());
        self.list(&mut state, days).await
    }

    /// Lists the tables of some days, or all.
    async fn list(&self, state: &mut ListingState, days: Option<BTreeSet<i64>>) -> Result<()> {
        let now = self.files.clock.monotonic();
        let listed = match &days {
            None => self.tables.sync_all().await,
            Some(days) => self.tables.sync_days(days).await,
        };
        if let Some(side) = &self.side
            && let Err(e) = side.sync(days.as_ref()).await
        {
            tracing::warn!(error = %e, "the side files in the object store cannot be listed; queries do with those that are known");
        }
        match listed {
            Ok(gone) => {
                self.files.close(&gone);
                self.known_streams.forget_closed();
                if days.is_none() {
                    state.full_at = Some(now);
                    state.is_known = true;
                }
                *self.unlisted.lock() = None;
                Ok(())
            }
            Err(e) => {
                *self.unlisted.lock() = Some(e.to_string());
                self.failed_listings.fetch_add(1, Ordering::Relaxed);
                Err(e)
            }
        }
    }

    /// Whether all tables were listed after these holders of recent data had gone.
    fn is_listed_after(&self, departed: &[String]) -> bool {
        if departed.is_empty() {
            return true;
        }
        let listed = self.listed_after.lock();
        departed.iter().all(|d| listed.contains(d))
    }

    /// Lists all tables, unless they were listed after all of `departed` had gone. A warning for the answer when that fails.
    pub(super) async fn list_after(&self, departed: &[String]) -> Option<String> {
        if self.is_listed_after(departed) {
            return None;
        }
        let missing = |why: &str| {
            format!(
                "an ingester has gone, and the index files in the object store cannot be listed, entries may be missing: {why}"
            )
        };
        let failed_before = self.failed_listings.load(Ordering::Relaxed);
        // Who waits for another one's listing finds what that found, also that it failed.
        let mut state = self.listing.lock().await;
        if self.is_listed_after(departed) {
            return None;
        }
        if self.failed_listings.load(Ordering::Relaxed) != failed_before {
            let why = self.unlisted.lock().clone();
            return Some(missing(&why.unwrap_or_default()));
        }
        if let Err(e) = self.list(&mut state, None).await {
            return Some(missing(&e.to_string()));
        }
        let mut listed = self.listed_after.lock();
        for d in departed {
            if !listed.contains(d) {
                listed.push_back(d.clone());
            }
        }
        while listed.len() > MAX_DEPARTED {
            listed.pop_front();
        }
        None
    }

    /// Lists the tables of which a file turned out to be gone, unless somebody has meanwhile. Whether there are files that were not known.
    pub(super) async fn sync_outdated(&self) -> bool {
        let days: BTreeSet<i64> = self.tables.outdated().into_iter().collect();
        if days.is_empty() {
            return false;
        }
        let of_days = || {
            let files = self.tables.all().into_iter();
            files
                .filter(|f| days.contains(&f.day))
                .map(|f| f.path.clone())
        };
        let known: BTreeSet<String> = of_days().collect();
        let state = self.listing.lock().await;
        if !self.tables.outdated().is_empty() {
            match self.tables.sync_days(&days).await {
                Ok(gone) => self.files.close(&gone),
                Err(_) => return false,
            }
        }
        drop(state);
        of_days().any(|path| !known.contains(&path))
    }

    fn days_to_list(&self) -> BTreeSet<i64> {
        // Clocks of others may be ahead.
        let last = self.files.now_ms().get().div_euclid(DAY_MS) + 1;
        let first = last - i64::from(self.settings.recent_tables) + 1;
        let mut days: BTreeSet<i64> = (first..=last).collect();
        days.extend(self.tables.outdated());
        days
    }

    /// Whether there is a place for side files.
    pub(crate) fn has_side_files(&self) -> bool {
        self.side.is_some()
    }

    /// Has the service list at once: an object that is on the list is gone, as after a compaction by others.
    pub(super) fn wake_sync(&self) {
        if !self.tables.outdated().is_empty() {
            self.wake.notify_one();
        }
    }

    /// What every answer has to say of the list.
    pub(super) fn list_warnings(&self) -> Vec<String> {
        let why = self.unlisted.lock();
        let warning = why.as_ref().map(|why| {
            format!("the index files in the object store are not all known, entries may be missing: {why}")
        });
        warning.into_iter().collect()
    }

    /// The periods of the bucket.
    pub(crate) fn periods(&self) -> &SchemaPeriods {
        self.tables.periods()
    }

    /// Puts an index file on the list that was just uploaded, open already. Queries that begin later know it.
    pub(super) async fn add_written(&self, path: String, day: i64, index: Vec<u8>) {
        let file = Arc::new(IndexFile::written(path, day));
        // What cannot be opened here is read from the store, and judged then.
        if let Err(e) = self.files.open_written(&file, index).await {
            tracing::warn!(file = file.path, error = %e, "index file just written does not open");
        }
        self.tables.add(file);
    }

    /// Counts of the cache of chunks, if there is one.
    pub fn chunk_cache_stats(&self) -> Option<CacheStats> {
        self.source.cache_stats()
    }

    /// Counts so far.
    pub fn stats(&self) -> BucketStats {
        let all = self.tables.all();
        let set_aside = all
            .iter()
            .filter_map(|f| Some((f.path.clone(), f.known_fault()?)));
        let counts = &self.source.counts;
        BucketStats {
            index_files: self.tables.len() as u64,
            index_files_opened: self.files.opened(),
            index_memory_bytes: self.files.memory_bytes(),
            index_files_set_aside: set_aside.collect(),
            chunks_loaded: counts.loaded(),
            chunks_loaded_in_part: counts.in_part(),
            chunk_bytes_loaded: counts.bytes(),
            chunks_damaged: counts.damaged(),
            is_listed: self.unlisted.lock().is_none(),
            side: self.side.as_ref().map(|s| s.stats()).unwrap_or_default(),
        }
    }
}

#[async_trait]
impl Service for BucketChunks {
    fn name(&self) -> &str {
        "logs-index-gateway"
    }

    async fn start(&self) -> Result<()> {
        // Without its store the process still takes writes and answers from the heads, with a warning.
        if let Err(e) = self.sync().await {
            tracing::warn!(error = %e, "the index files in the object store cannot be listed; answers say that entries may be missing until they can");
        }
        Ok(())
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        while !stop.is_cancelled() {
            let interval = self.settings.sync_interval;
            let is_known = self.listing.lock().await.is_known;
            let pause = if is_known {
                interval
            } else {
                FIRST_SYNC_RETRY.min(interval)
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wake.notified() => {}
                () = stop.cancelled() => return Ok(()),
            }
            if let Err(e) = self.sync().await {
                tracing::warn!(error = %e, "the list of index files cannot be brought up to date; the old one serves");
            }
        }
        Ok(())
    }
}
