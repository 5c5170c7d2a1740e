//! Which blocks there are.
//!
//! The list comes from the bucket index of each tenant, which is read from time to time ([`super::block_sync`]), and from ingester and
//! compactor of the same process, which tell what they have just uploaded. No query lists anything. A block is opened by the first query that needs it. One that turns
//! out damaged is read once more; if it stays so it is set aside, named in logs, counts and in the warnings of every answer that needed
//! it, tried again from time to time and after every sync, and the others serve.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::cache::{Cache, CacheStats, MemoryCache, MemoryCacheSettings};
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::CancelToken;
use lgtm_core::model::TenantId;
use lgtm_core::service::Service;
use lgtm_core::storage::{Bucket, KeptObjects, PageCache};
use lgtm_core::telemetry::Registry;
use lgtm_core::units::ByteSize;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use super::block_entry::{BlockEntry, ListedBlock};
use super::known_postings::KnownPostings;
use super::open_blocks::OpenBlocks;
use crate::block::{BlockId, BlockMeta, BlockPages};
use crate::select::SelectRequest;

/// How blocks are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BucketSettings {
    /// How often is looked for blocks of others: an object a tenant. Mimir's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub sync_interval: Duration,
    /// Tenants and metas that are read at the same time.
    pub sync_concurrency: usize,
    /// How old the bucket index of a tenant, which the compactor writes, may be to be read instead of listing the tenant's blocks. Default 1h,
    /// Mimir's: four of its rounds.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_stale_period: Duration,
    /// How long after a block was marked for deletion it is still read. Default 1h, Mimir's: by then the block that replaces it is on the list of
    /// every reader.
    #[serde(with = "lgtm_core::units::duration")]
    pub ignore_deletion_marks_delay: Duration,
    /// Bytes that a bucket index may unpack to. Default 256MiB: some 500,000 blocks.
    pub max_bucket_index_size: ByteSize,
    /// Memory for pages of blocks that queries come back to: their postings, series and chunks. 0: none.
    pub page_cache_size: ByteSize,
    /// Memory for which series of a block pass a selector that is not made of equalities only, unless a cache is named for that. Default 4MiB: some
    /// thousand answers of a thousand series; 0: none.
    pub postings_cache_size: ByteSize,
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
            max_stale_period: Duration::from_secs(3600),
            ignore_deletion_marks_delay: Duration::from_secs(3600),
            max_bucket_index_size: ByteSize::mib(256),
            page_cache_size: ByteSize::mib(32),
            postings_cache_size: ByteSize::mib(4),
            max_open_blocks: 256,
            batch_series: 1024,
        }
    }
}

/// Mimir's size for its cache of chunks.
const PAGE_BYTES: u64 = 16_000;
/// How long pages are kept in a cache that is given: Mimir's times.
const INDEX_TTL: Duration = Duration::from_secs(7 * 86_400);
const CHUNKS_TTL: Duration = Duration::from_secs(86_400);
/// How long after a failed sync the next one is tried, until the list is known for the first time: answers lack all blocks meanwhile.
const FIRST_SYNC_RETRY: Duration = Duration::from_secs(2);

/// Collects the parts of [`BucketBlocks`].
#[derive(Debug)]
pub struct BucketBlocksBuilder {
    bucket: Bucket,
    clock: Arc<dyn Clock>,
    index_cache: Option<Arc<dyn Cache>>,
    chunk_cache: Option<Arc<dyn Cache>>,
    postings_cache: Option<Arc<dyn Cache>>,
    metadata_cache: Option<Arc<dyn Cache>>,
    registry: Option<Registry>,
    settings: BucketSettings,
}

impl BucketBlocksBuilder {
    /// Sets the settings.
    #[must_use]
    pub fn settings(mut self, settings: BucketSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets where pages of blocks are kept, of their index and of their chunks. Without it that is memory, as much as `page_cache_size` says.
    #[must_use]
    pub fn page_cache(self, cache: Arc<dyn Cache>) -> Self {
        self.index_cache(Arc::clone(&cache)).chunk_cache(cache)
    }

    /// Sets where pages of indexes are kept, for a week; the memory of `page_cache_size` is for chunks then, unless those are kept elsewhere too.
    #[must_use]
    pub fn index_cache(mut self, cache: Arc<dyn Cache>) -> Self {
        self.index_cache = Some(cache);
        self
    }

    /// Sets where pages of chunks are kept, for a day: all that queries read, not only what is small. The memory of `page_cache_size` is for indexes
    /// then, unless those are kept elsewhere too.
    #[must_use]
    pub fn chunk_cache(mut self, cache: Arc<dyn Cache>) -> Self {
        self.chunk_cache = Some(cache);
        self
    }

    /// Sets where is kept which series of a block pass a selector, for a week, instead of in the memory of `postings_cache_size`.
    #[must_use]
    pub fn postings_cache(mut self, cache: Arc<dyn Cache>) -> Self {
        self.postings_cache = Some(cache);
        self
    }

    /// Sets where each block's `meta.json` is kept, for a day. Which blocks there are is read of the bucket at each sync: one object a tenant, which must not
    /// be old.
    #[must_use]
    pub fn metadata_cache(mut self, cache: Arc<dyn Cache>) -> Self {
        self.metadata_cache = Some(cache);
        self
    }

    /// Has `registry` tell which blocks are known and how they are read.
    #[must_use]
    pub fn metrics(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// Checks everything, touches nothing.
    ///
    /// # Errors
    /// `InvalidInput` for settings out of bounds.
    pub fn build(self) -> Result<Arc<BucketBlocks>> {
        let Self {
            bucket,
            clock,
            index_cache,
            chunk_cache,
            postings_cache,
            metadata_cache,
            registry,
            settings,
        } = self;
        let max_bytes = settings.postings_cache_size;
        let postings = match postings_cache {
            Some(cache) => Some(cache),
            None if max_bytes.as_u64() > 0 => {
                let size = MemoryCacheSettings { max_bytes };
                let memory = MemoryCache::new("block-postings", &size, Arc::clone(&clock))?;
                Some(Arc::new(memory) as Arc<dyn Cache>)
            }
            None => None,
        };
        let max_bytes = settings.page_cache_size;
        let is_needed = index_cache.is_none() || chunk_cache.is_none();
        let memory = match is_needed && max_bytes.as_u64() > 0 {
            true => {
                let size = MemoryCacheSettings { max_bytes };
                let memory = MemoryCache::new("block-pages", &size, Arc::clone(&clock))?;
                Some(PageCache::new(Arc::new(memory), PAGE_BYTES))
            }
            false => None,
        };
        let pages = |given: Option<Arc<dyn Cache>>, ttl| match given {
            Some(cache) => {
                let pages = PageCache::new(cache, PAGE_BYTES);
                Some(pages.ttl(ttl).large_reads())
            }
            None => memory.clone(),
        };
        let pages = BlockPages {
            index: pages(index_cache, INDEX_TTL),
            chunks: pages(chunk_cache, CHUNKS_TTL),
            metadata: metadata_cache.map(KeptObjects::new),
        };
        let blocks = OpenBlocks::new(bucket, pages, clock, settings.max_open_blocks);
        let blocks = Arc::new(BucketBlocks {
            settings,
            blocks: Arc::new(blocks),
            postings: postings.map(KnownPostings::new),
            tenants: RwLock::default(),
            unreadable: Mutex::default(),
            looks: Default::default(),
            unlisted: Mutex::new(Unlisted {
                everybody: Some("the object store was not listed yet".to_owned()),
                tenants: BTreeMap::new(),
            }),
        });
        if let Some(registry) = &registry {
            blocks.register_metrics(registry);
        }
        Ok(blocks)
    }
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
    /// Whether the list was ever complete.
    pub is_listed: bool,
}

/// The blocks of all tenants in a bucket.
#[derive(Debug)]
pub struct BucketBlocks {
    pub(super) settings: BucketSettings,
    pub(super) blocks: Arc<OpenBlocks>,
    pub(super) postings: Option<KnownPostings>,
    pub(super) tenants: RwLock<HashMap<TenantId, TenantList>>,
    /// Blocks whose `meta.json` cannot be read.
    pub(super) unreadable: Mutex<BTreeMap<(TenantId, BlockId), String>>,
    /// Why tenants' lists may lack blocks: the error of the listing that failed last.
    pub(super) unlisted: Mutex<Unlisted>,
    /// One look at a tenant's blocks at a time, where a query asks for it; shared by tenants.
    pub(super) looks: [tokio::sync::Mutex<()>; 16],
}

/// The blocks of a tenant.
#[derive(Debug, Clone, Default)]
pub(super) struct TenantList {
    pub(super) blocks: BTreeMap<BlockId, Arc<BlockEntry>>,
    /// Blocks that are still in the bucket, and of whose samples others on the list are.
    pub(super) superseded: BTreeSet<BlockId>,
    /// Whether its blocks were listed in the bucket by this process.
    pub(super) is_listed: bool,
    /// Holders of recent data after whose departure they were listed, the latest last.
    pub(super) listed_after: VecDeque<String>,
}

/// Of whom the list of blocks is not known.
#[derive(Debug)]
pub(super) struct Unlisted {
    /// Of all tenants, before the first listing: what went wrong so far.
    pub(super) everybody: Option<String>,
    pub(super) tenants: BTreeMap<TenantId, String>,
}

/// The blocks that an answer needs, and what it has to say of those that it cannot have.
#[derive(Debug, Default)]
pub(super) struct Overlapping {
    pub(super) blocks: Vec<Arc<BlockEntry>>,
    pub(super) warnings: Vec<String>,
}

impl BucketBlocks {
    /// Begins a builder: the blocks in `bucket`. None are known before [`BucketBlocks::sync`].
    pub fn builder(bucket: Bucket) -> BucketBlocksBuilder {
        BucketBlocksBuilder {
            bucket,
            clock: Arc::new(SystemClock::new()),
            index_cache: None,
            chunk_cache: None,
            postings_cache: None,
            metadata_cache: None,
            registry: None,
            settings: BucketSettings::default(),
        }
    }

    /// Counts of the cache of pages of chunks, if there is one: unless others were given, of the memory for all pages.
    pub fn page_cache_stats(&self) -> Option<CacheStats> {
        self.blocks.pages().chunks.as_ref().map(PageCache::stats)
    }

    /// Counts of the memory, or cache, of which series pass a selector, if there is one.
    pub fn postings_cache_stats(&self) -> Option<CacheStats> {
        self.postings.as_ref().map(|known| known.cache().stats())
    }

    /// Counts of the cache of pages of indexes, if there is one.
    pub fn index_cache_stats(&self) -> Option<CacheStats> {
        self.blocks.pages().index.as_ref().map(PageCache::stats)
    }

    /// Adds a block that has just been uploaded.
    pub fn add(&self, tenant: &TenantId, meta: &BlockMeta) {
        self.replace(tenant, &[], std::slice::from_ref(meta));
    }

    /// Puts blocks in place of those whose samples they have, in one moment for all queries.
    pub fn replace(&self, tenant: &TenantId, old: &[BlockId], new: &[BlockMeta]) {
        let now_ms = self.blocks.now_ms();
        let entry = |meta| Arc::new(BlockEntry::new(tenant.clone(), meta, now_ms));
        let new: Vec<_> = new
            .iter()
            .map(|meta| entry(ListedBlock::from(meta)))
            .collect();
        let mut tenants = self.tenants.write();
        let list = tenants.entry(tenant.clone()).or_default();
        for id in old {
            list.blocks.remove(id);
            list.superseded.insert(*id);
        }
        for entry in new {
            list.blocks.insert(entry.block.id, entry);
        }
    }

    /// Takes blocks off the list that are about to be deleted.
    pub fn forget(&self, tenant: &TenantId, ids: &[BlockId]) {
        if let Some(list) = self.tenants.write().get_mut(tenant) {
            ids.iter().for_each(|id| drop(list.blocks.remove(id)));
        }
    }

    /// Counts over the blocks.
    pub fn stats(&self) -> BucketStats {
        let tenants = self.tenants.read();
        let mut stats = BucketStats {
            opened: self.blocks.opened(),
            is_listed: self.unlisted.lock().everybody.is_none(),
            ..BucketStats::default()
        };
        for (tenant, list) in tenants.iter() {
            stats.blocks += list.blocks.len() as u64;
            let faults = list
                .blocks
                .iter()
                .filter_map(|(id, e)| Some((tenant.clone(), *id, e.known_fault()?)));
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

    /// The blocks of a tenant that a request is about, and what an answer from them lacks.
    pub(super) fn overlapping(&self, tenant: &TenantId, request: &SelectRequest) -> Overlapping {
        let range = request.range;
        let mut found = Overlapping::default();
        let now_ms = self.blocks.now_ms();
        if let Some(list) = self.tenants.read().get(tenant) {
            let hit = |e: &&Arc<BlockEntry>| {
                e.block.min_ms < range.max_ms
                    && e.block.max_ms > range.min_ms
                    && request.wants_block(e.block.id)
            };
            for entry in list.blocks.values().filter(hit) {
                match entry.fault(now_ms) {
                    Some(fault) => found.warnings.push(entry.warning(&fault)),
                    None => found.blocks.push(Arc::clone(entry)),
                }
            }
        }
        let unlisted = self.unlisted.lock();
        if let Some(why) = unlisted.everybody.as_ref().or(unlisted.tenants.get(tenant)) {
            found.warnings.push(format!(
                "the blocks of tenant {tenant} in the object store are not all known, samples may be missing: {why}"
            ));
        }
        drop(unlisted);
        for ((_, id), e) in self
            .unreadable
            .lock()
            .iter()
            .filter(|((t, _), _)| t == tenant)
        {
            // Which times it holds is not known.
            found.warnings.push(format!(
                "block {id} of tenant {tenant} cannot be read, samples may be missing: {e}"
            ));
        }
        found
    }
}

#[async_trait]
impl Service for BucketBlocks {
    fn name(&self) -> &str {
        "metrics-store-gateway"
    }

    async fn start(&self) -> Result<()> {
        // Without its store the process still takes writes and answers from the heads, with a warning.
        if let Err(e) = self.sync().await {
            tracing::warn!(error = %e, "the blocks in the object store cannot be listed; answers say that they may be missing until they can");
        }
        Ok(())
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        while !stop.is_cancelled() {
            let pause = if self.stats().is_listed {
                self.settings.sync_interval
            } else {
                FIRST_SYNC_RETRY.min(self.settings.sync_interval)
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {
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
