//! Which blocks there are, and their readers.
//!
//! The list comes from one listing per tenant, done at start and from time to time, and from the ingester of the same process,
//! which adds what it has just uploaded. No query lists anything. A block is opened by the first query that needs it; one
//! that turns out damaged is set aside, named in logs and counts, and the others serve.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use lgtm_core::cache::{CacheStats, MemoryCache, MemoryCacheSettings};
use lgtm_core::clock::SystemClock;
use lgtm_core::exec::CancelToken;
use lgtm_core::model::{Labels, TenantId, TextSet};
use lgtm_core::service::Service;
use lgtm_core::storage::Bucket;
use lgtm_core::units::ByteSize;
use lgtm_core::{Error, ErrorKind, Result};
use object_store::path::Path;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use super::block_postings::select;
use super::block_select::BlockBatches;
use crate::block::{BlockId, BlockMeta, BlockReader, BlockReaderSettings};
use crate::index::PageCache;
use crate::select::{MergedSeries, Select, SelectRequest, SeriesBatches};

/// How blocks are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BucketSettings {
    /// How often the bucket is listed. Mimir's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub sync_interval: Duration,
    /// Tenants and metas that are read at the same time.
    pub sync_concurrency: usize,
    /// Memory for pages of blocks that queries come back to: their postings, series and chunks. 0: none.
    pub page_cache_size: ByteSize,
    /// Blocks that are kept open; each holds a sample of its symbols and postings table, a few megabytes at most.
    pub max_open_blocks: usize,
    /// Series of one block that are read at the same time; two more batches are read ahead. Where a query touches more than eight
    /// blocks the batches are smaller, so that all of them hold no more than those of eight.
    pub batch_series: usize,
}

impl Default for BucketSettings {
    fn default() -> Self {
        Self {
            sync_interval: Duration::from_secs(15 * 60),
            sync_concurrency: 16,
            page_cache_size: ByteSize::mib(32),
            max_open_blocks: 256,
            batch_series: 1024,
        }
    }
}

/// Mimir's size for its cache of chunks.
const PAGE_BYTES: u64 = 16_000;
/// Blocks that one query reads in batches of full size.
const FULL_BATCH_BLOCKS: usize = 8;

/// A block of the list.
#[derive(Debug)]
struct Entry {
    meta: BlockMeta,
    reader: tokio::sync::Mutex<Option<Arc<BlockReader>>>,
    /// Why the block is set aside.
    fault: Mutex<Option<String>>,
}

/// Counts over the blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BucketStats {
    /// Blocks known.
    pub blocks: u64,
    /// Blocks set aside: tenant, block, fault.
    pub set_aside: Vec<(TenantId, BlockId, String)>,
    /// Readers opened so far.
    pub opened: u64,
}

/// The blocks of all tenants in a bucket.
#[derive(Debug)]
pub struct BucketBlocks {
    bucket: Bucket,
    settings: BucketSettings,
    pages: Option<PageCache>,
    tenants: RwLock<HashMap<TenantId, BTreeMap<BlockId, Arc<Entry>>>>,
    /// Blocks whose `meta.json` does not decode.
    unreadable: Mutex<BTreeMap<(TenantId, BlockId), String>>,
    /// Open blocks, the longest unused first.
    open: Mutex<Vec<Arc<Entry>>>,
    opened: std::sync::atomic::AtomicU64,
}

impl BucketBlocks {
    /// The blocks in `bucket`; none are known before [`BucketBlocks::sync`].
    ///
    /// # Errors
    /// `InvalidInput` for settings out of bounds.
    pub fn new(bucket: Bucket, settings: BucketSettings) -> Result<Self> {
        let pages = match settings.page_cache_size.as_u64() {
            0 => None,
            _ => {
                let size = MemoryCacheSettings {
                    max_bytes: settings.page_cache_size,
                };
                let cache = MemoryCache::new("block-pages", &size, Arc::new(SystemClock::new()))?;
                Some(PageCache::new(Arc::new(cache), PAGE_BYTES))
            }
        };
        Ok(Self {
            bucket,
            settings,
            pages,
            tenants: RwLock::default(),
            unreadable: Mutex::default(),
            open: Mutex::default(),
            opened: std::sync::atomic::AtomicU64::new(0),
        })
    }

    /// Counts of the cache of pages, if there is one.
    pub fn page_cache_stats(&self) -> Option<CacheStats> {
        self.pages.as_ref().map(PageCache::stats)
    }

    /// Adds a block that has just been uploaded.
    pub fn add(&self, tenant: &TenantId, meta: BlockMeta) {
        let entry = Arc::new(Entry {
            meta,
            reader: tokio::sync::Mutex::default(),
            fault: Mutex::default(),
        });
        self.tenants
            .write()
            .entry(tenant.clone())
            .or_default()
            .insert(entry.meta.ulid, entry);
    }

    /// Learns which blocks there are: new ones are added, those gone from the bucket are forgotten.
    ///
    /// # Errors
    /// `Unavailable` when the bucket cannot be listed; what is known stays. A `meta.json` that does not decode sets its block
    /// aside, no more.
    pub async fn sync(&self) -> Result<()> {
        let mut tenants = Vec::new();
        for folder in self.bucket.list_with_delimiter("").await?.folders {
            // Folders of markers are no tenants.
            tenants.extend(TenantId::new(&folder));
        }
        let known: BTreeSet<TenantId> = tenants.iter().cloned().collect();
        let syncs = tenants
            .into_iter()
            .map(|t| async move { self.sync_tenant(&t).await });
        let mut syncs =
            futures::stream::iter(syncs).buffer_unordered(self.settings.sync_concurrency.max(1));
        let mut failed = None;
        while let Some(done) = syncs.next().await {
            if let Err(e) = done {
                failed.get_or_insert(e);
            }
        }
        self.tenants
            .write()
            .retain(|t, blocks| known.contains(t) || !blocks.is_empty());
        failed.map_or(Ok(()), Err)
    }

    async fn sync_tenant(&self, tenant: &TenantId) -> Result<()> {
        let before: BTreeSet<BlockId> = self
            .tenants
            .read()
            .get(tenant)
            .map_or_else(BTreeSet::new, |b| b.keys().copied().collect());
        let listing = self.bucket.list_with_delimiter(tenant.as_str()).await?;
        let names = listing.folders.iter().filter_map(|f| f.rsplit('/').next());
        let listed: BTreeSet<BlockId> = names.filter_map(|f| f.parse().ok()).collect();
        for id in listed.difference(&before) {
            let path = format!("{tenant}/{id}/meta.json");
            let bytes = match self.bucket.get(&path).await {
                Ok(bytes) => bytes,
                // An upload under way, or one that was never finished.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            match BlockMeta::decode(&bytes) {
                Ok(meta) => self.add(tenant, meta),
                Err(e) => {
                    let new = self
                        .unreadable
                        .lock()
                        .insert((tenant.clone(), *id), e.to_string())
                        .is_none();
                    if new {
                        tracing::error!(%tenant, block = %id, error = %e, "block set aside: its meta.json does not decode");
                    }
                }
            }
        }
        // A block that was added meanwhile is not in the listing yet: only those known before may be gone.
        if let Some(blocks) = self.tenants.write().get_mut(tenant) {
            blocks.retain(|id, _| listed.contains(id) || !before.contains(id));
        }
        Ok(())
    }

    /// Counts over the blocks.
    pub fn stats(&self) -> BucketStats {
        let tenants = self.tenants.read();
        let mut stats = BucketStats {
            opened: self.opened.load(std::sync::atomic::Ordering::Relaxed),
            ..BucketStats::default()
        };
        for (tenant, blocks) in tenants.iter() {
            stats.blocks += blocks.len() as u64;
            let faults = blocks
                .iter()
                .filter_map(|(id, e)| Some((tenant.clone(), *id, e.fault.lock().clone()?)));
            stats.set_aside.extend(faults);
        }
        let unreadable = self.unreadable.lock();
        stats.set_aside.extend(
            unreadable
                .iter()
                .map(|((t, id), e)| (t.clone(), *id, e.clone())),
        );
        stats
    }

    /// The blocks of a tenant that overlap a request and are not set aside.
    fn overlapping(&self, tenant: &TenantId, request: &SelectRequest) -> Vec<Arc<Entry>> {
        let range = request.range;
        let tenants = self.tenants.read();
        let blocks = tenants.get(tenant).into_iter().flat_map(BTreeMap::values);
        let hit = |e: &&Arc<Entry>| {
            e.meta.min_ms < range.max_ms && e.meta.max_ms > range.min_ms && e.fault.lock().is_none()
        };
        blocks.filter(hit).cloned().collect()
    }

    async fn reader(&self, tenant: &TenantId, entry: &Arc<Entry>) -> Result<Arc<BlockReader>> {
        let mut slot = entry.reader.lock().await;
        if let Some(reader) = &*slot {
            return Ok(Arc::clone(reader));
        }
        let prefix = object_path(&format!("{tenant}/{}", entry.meta.ulid))?;
        let (store, settings) = (self.bucket.object_store(), BlockReaderSettings::default());
        let opened = match &self.pages {
            Some(pages) => BlockReader::open_cached(store, &prefix, settings, pages).await?,
            None => BlockReader::open_object(store, &prefix, settings).await?,
        };
        let reader = Arc::new(opened);
        *slot = Some(Arc::clone(&reader));
        drop(slot);
        self.opened
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.close_oldest(entry);
        Ok(reader)
    }

    fn close_oldest(&self, fresh: &Arc<Entry>) {
        let mut open = self.open.lock();
        open.push(Arc::clone(fresh));
        if open.len() > self.settings.max_open_blocks {
            let oldest = open.remove(0);
            // One that is being opened right now is not old.
            if let Ok(mut slot) = oldest.reader.try_lock() {
                *slot = None;
            }
        }
    }

    /// What a request finds in one block; `None`, after setting the block aside, when it is damaged.
    async fn ask<T>(
        &self,
        tenant: &TenantId,
        entry: &Arc<Entry>,
        asked: impl Future<Output = Result<T>>,
    ) -> Result<Option<T>> {
        match asked.await {
            Ok(answer) => Ok(Some(answer)),
            Err(e) if e.kind() == ErrorKind::Corrupt => {
                set_aside(tenant, entry, &e);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    async fn labels_of(
        &self,
        tenant: &TenantId,
        entry: &Arc<Entry>,
        request: &SelectRequest,
    ) -> Result<Vec<Labels>> {
        let reader = self.reader(tenant, entry).await?;
        let index = reader.index();
        let matched = select(index, &request.matchers).await?;
        let range = request.range;
        let mut out = Vec::new();
        for batch in matched.refs.chunks(self.settings.batch_series.max(1)) {
            let entries = index.series_entries(batch).await?;
            let mut labels = index.labels_of(&entries).await?;
            for entry in entries.iter() {
                let mut chunks = entry.chunks.iter();
                if chunks.any(|c| c.min_ms < range.max_ms && c.max_ms >= range.min_ms) {
                    let labels = labels.of(&entry)?;
                    if matched.takes(&labels) && request.takes(&labels) {
                        out.push(labels);
                    }
                }
            }
        }
        Ok(out)
    }
}

/// A path as it is, never encoded anew: tenant ids may hold `*`, `!` and `'`.
///
/// # Errors
/// `InvalidInput` when a segment is empty, `.` or `..`.
pub(crate) fn object_path(text: &str) -> Result<Path> {
    Path::parse(text).map_err(|e| Error::InvalidInput(format!("object path {text:?}: {e}")))
}

fn set_aside(tenant: &TenantId, entry: &Arc<Entry>, e: &Error) {
    tracing::error!(%tenant, block = %entry.meta.ulid, error = %e, "block set aside: it is damaged; the others serve");
    *entry.fault.lock() = Some(e.to_string());
}

/// Batches of one block; damage found on the way sets the block aside and ends the query, which does without it next time.
#[derive(Debug)]
struct Watched {
    inner: BlockBatches,
    tenant: TenantId,
    entry: Arc<Entry>,
}

#[async_trait]
impl SeriesBatches for Watched {
    async fn next_batch(&mut self) -> Result<Option<Vec<crate::select::SeriesChunks>>> {
        let batch = self.inner.next_batch().await;
        if let Err(e) = &batch
            && e.kind() == ErrorKind::Corrupt
        {
            // The series handed out so far are whole; what follows is left out, as if the block had not been there.
            set_aside(&self.tenant, &self.entry, e);
            return Ok(None);
        }
        batch
    }
}

#[async_trait]
impl Select for BucketBlocks {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn SeriesBatches>> {
        let mut answers: Vec<Box<dyn SeriesBatches>> = Vec::new();
        let blocks = self.overlapping(tenant, request);
        let batch_series =
            self.settings.batch_series * FULL_BATCH_BLOCKS / blocks.len().max(FULL_BATCH_BLOCKS);
        for entry in blocks {
            let asked = async {
                let reader = self.reader(tenant, &entry).await?;
                let matched = select(reader.index(), &request.matchers).await?;
                let batches =
                    BlockBatches::new(reader, matched, request.clone(), batch_series.max(1));
                batches.spend()?;
                Ok(batches)
            };
            if let Some(inner) = self.ask(tenant, &entry, asked).await? {
                answers.push(Box::new(Watched {
                    inner,
                    tenant: tenant.clone(),
                    entry,
                }));
            }
        }
        Ok(Box::new(MergedSeries::new(
            answers,
            self.settings.batch_series,
        )))
    }

    async fn series(&self, tenant: &TenantId, request: &SelectRequest) -> Result<Vec<Labels>> {
        let mut all = Vec::new();
        for entry in self.overlapping(tenant, request) {
            let asked = self.labels_of(tenant, &entry, request);
            all.extend(self.ask(tenant, &entry, asked).await?.unwrap_or_default());
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    async fn label_names(&self, tenant: &TenantId, request: &SelectRequest) -> Result<TextSet> {
        if !request.takes_all() {
            let series = self.series(tenant, request).await?;
            return Ok(series
                .iter()
                .flat_map(|l| l.iter().map(|(n, _)| n))
                .collect());
        }
        let mut all = TextSet::new();
        for entry in self.overlapping(tenant, request) {
            let asked = self.reader(tenant, &entry);
            if let Some(reader) = self.ask(tenant, &entry, asked).await? {
                all = all.union(reader.index().label_names().collect());
            }
        }
        Ok(all)
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<TextSet> {
        if !request.takes_all() {
            let series = self.series(tenant, request).await?;
            return Ok(series.iter().filter_map(|l| l.get(name)).collect());
        }
        let mut all = TextSet::new();
        for entry in self.overlapping(tenant, request) {
            let asked = async {
                self.reader(tenant, &entry)
                    .await?
                    .index()
                    .label_values(name)
                    .await
            };
            all = all.union(self.ask(tenant, &entry, asked).await?.unwrap_or_default());
        }
        Ok(all)
    }
}

#[async_trait]
impl Service for BucketBlocks {
    fn name(&self) -> &str {
        "metrics-store-gateway"
    }

    async fn start(&self) -> Result<()> {
        self.sync().await
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        while !stop.is_cancelled() {
            tokio::select! {
                () = tokio::time::sleep(self.settings.sync_interval) => {
                    if let Err(e) = self.sync().await {
                        tracing::warn!(error = %e, "list of blocks cannot be brought up to date; the old one serves");
                    }
                }
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }
}
