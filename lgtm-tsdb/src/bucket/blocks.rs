//! Which blocks there are.
//!
//! The list comes from one listing per tenant, done at start and from time to time, and from the ingester of the same process,
//! which adds what it has just uploaded. No query lists anything. A block is opened by the first query that needs it. One that turns
//! out damaged is read once more; if it stays so it is set aside, named in logs, counts and in the warnings of every answer that needed
//! it, tried again from time to time and after every sync, and the others serve.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use lgtm_core::cache::{Cache, CacheStats, MemoryCache, MemoryCacheSettings};
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::CancelToken;
use lgtm_core::model::TenantId;
use lgtm_core::service::Service;
use lgtm_core::storage::{Bucket, PageCache};
use lgtm_core::telemetry::Registry;
use lgtm_core::units::ByteSize;
use lgtm_core::{ErrorKind, Result};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use super::block_entry::BlockEntry;
use super::open_blocks::OpenBlocks;
use crate::block::{BlockId, BlockMeta};
use crate::select::SelectRequest;

/// How blocks are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BucketSettings {
    /// How often the bucket is listed for blocks of others. Mimir's default.
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
/// How long after a failed sync the next one is tried, until the list is known for the first time: answers lack all blocks meanwhile.
const FIRST_SYNC_RETRY: Duration = Duration::from_secs(2);

/// Collects the parts of [`BucketBlocks`].
#[derive(Debug)]
pub struct BucketBlocksBuilder {
    bucket: Bucket,
    clock: Arc<dyn Clock>,
    page_cache: Option<Arc<dyn Cache>>,
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

    /// Sets where pages of blocks are kept. Without it that is memory, as much as `page_cache_size` says.
    #[must_use]
    pub fn page_cache(mut self, cache: Arc<dyn Cache>) -> Self {
        self.page_cache = Some(cache);
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
            page_cache,
            registry,
            settings,
        } = self;
        let max_bytes = settings.page_cache_size;
        let cache = match page_cache {
            None if max_bytes.as_u64() > 0 => {
                let size = MemoryCacheSettings { max_bytes };
                let memory = MemoryCache::new("block-pages", &size, Arc::clone(&clock))?;
                Some(Arc::new(memory) as Arc<dyn Cache>)
            }
            given => given,
        };
        let pages = cache.map(|cache| PageCache::new(cache, PAGE_BYTES));
        let blocks = OpenBlocks::new(bucket, pages, clock, settings.max_open_blocks);
        let blocks = Arc::new(BucketBlocks {
            settings,
            blocks: Arc::new(blocks),
            tenants: RwLock::default(),
            unreadable: Mutex::default(),
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
    tenants: RwLock<HashMap<TenantId, BTreeMap<BlockId, Arc<BlockEntry>>>>,
    /// Blocks whose `meta.json` cannot be read.
    unreadable: Mutex<BTreeMap<(TenantId, BlockId), String>>,
    /// Why tenants' lists may lack blocks: the error of the listing that failed last.
    unlisted: Mutex<Unlisted>,
}

/// Of whom the list of blocks is not known.
#[derive(Debug)]
struct Unlisted {
    /// Of all tenants, before the first listing: what went wrong so far.
    everybody: Option<String>,
    tenants: BTreeMap<TenantId, String>,
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
            page_cache: None,
            registry: None,
            settings: BucketSettings::default(),
        }
    }

    /// Counts of the cache of pages, if there is one.
    pub fn page_cache_stats(&self) -> Option<CacheStats> {
        self.blocks.pages().map(PageCache::stats)
    }

    /// Adds a block that has just been uploaded.
    pub fn add(&self, tenant: &TenantId, meta: BlockMeta) {
        let entry = Arc::new(BlockEntry::new(tenant.clone(), meta));
        self.tenants
            .write()
            .entry(tenant.clone())
            .or_default()
            .insert(entry.meta.ulid, entry);
    }

    /// Learns which blocks there are: new ones are added, those gone from the bucket are forgotten, those set aside get another chance.
    ///
    /// # Errors
    /// The first error of the store; what is known stays, and answers that may lack blocks say so. A `meta.json` that does not decode
    /// sets its block aside, no more.
    pub async fn sync(&self) -> Result<()> {
        let listed = self.blocks.bucket.tenants().await.inspect_err(|e| {
            let mut unlisted = self.unlisted.lock();
            if let Some(why) = &mut unlisted.everybody {
                *why = e.to_string();
            }
        })?;
        // Those whose folders are gone are looked at too: their blocks have to be forgotten.
        let mut tenants: BTreeSet<TenantId> = self.tenants.read().keys().cloned().collect();
        tenants.extend(listed);
        let syncs = tenants.into_iter().map(|t| async move {
            let synced = self.sync_tenant(&t).await;
            (t, synced)
        });
        let mut syncs =
            futures::stream::iter(syncs).buffer_unordered(self.settings.sync_concurrency.max(1));
        let mut failed = None;
        let mut unlisted = BTreeMap::new();
        while let Some((tenant, synced)) = syncs.next().await {
            if let Err(e) = synced {
                unlisted.insert(tenant, e.to_string());
                failed.get_or_insert(e);
            }
        }
        drop(syncs);
        *self.unlisted.lock() = Unlisted {
            everybody: None,
            tenants: unlisted,
        };
        self.tenants.write().retain(|_, blocks| !blocks.is_empty());
        failed.map_or(Ok(()), Err)
    }

    async fn sync_tenant(&self, tenant: &TenantId) -> Result<()> {
        let before = self.known(tenant);
        let bucket = &self.blocks.bucket;
        let listing = bucket.list_with_delimiter(tenant.as_str()).await?;
        let names = listing.folders.iter().filter_map(|f| f.rsplit('/').next());
        let listed: BTreeSet<BlockId> = names.filter_map(|f| f.parse().ok()).collect();
        let mut unreadable = BTreeMap::new();
        for id in listed.iter().filter(|id| !before.contains_key(id)) {
            let meta = match bucket.get(&format!("{tenant}/{id}/meta.json")).await {
                Ok(bytes) => BlockMeta::decode(&bytes).map_err(|e| e.to_string()),
                // An upload under way, or one that was never finished.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => Err(e.to_string()),
            };
            match meta {
                Ok(meta) => self.add(tenant, meta),
                Err(e) => {
                    unreadable.insert(*id, e);
                }
            }
        }
        self.note_unreadable(tenant, unreadable);
        // A block that was added meanwhile is not in the listing yet: only those known before may be gone.
        let mut gone = Vec::new();
        for (id, entry) in &before {
            // A listing may be older than the block: its own object decides.
            let is_gone = !listed.contains(id)
                && !bucket
                    .exists(&format!("{}/meta.json", entry.folder()))
                    .await?;
            if is_gone {
                gone.push(*id);
            } else {
                entry.forgive();
            }
        }
        if let Some(blocks) = self.tenants.write().get_mut(tenant) {
            gone.iter().for_each(|id| drop(blocks.remove(id)));
        }
        Ok(())
    }

    fn known(&self, tenant: &TenantId) -> BTreeMap<BlockId, Arc<BlockEntry>> {
        let tenants = self.tenants.read();
        tenants.get(tenant).cloned().unwrap_or_default()
    }

    fn note_unreadable(&self, tenant: &TenantId, found: BTreeMap<BlockId, String>) {
        let mut all = self.unreadable.lock();
        for (id, e) in &found {
            if all.get(&(tenant.clone(), *id)) != Some(e) {
                tracing::error!(%tenant, block = %id, error = e, "block set aside: its meta.json cannot be read");
            }
        }
        all.retain(|(t, _), _| t != tenant);
        all.extend(found.into_iter().map(|(id, e)| ((tenant.clone(), id), e)));
    }

    /// Counts over the blocks.
    pub fn stats(&self) -> BucketStats {
        let tenants = self.tenants.read();
        let mut stats = BucketStats {
            opened: self.blocks.opened(),
            is_listed: self.unlisted.lock().everybody.is_none(),
            ..BucketStats::default()
        };
        for (tenant, blocks) in tenants.iter() {
            stats.blocks += blocks.len() as u64;
            let faults = blocks
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
        if let Some(blocks) = self.tenants.read().get(tenant) {
            let hit = |e: &&Arc<BlockEntry>| {
                e.meta.min_ms < range.max_ms
                    && e.meta.max_ms > range.min_ms
                    && request.wants_block(e.meta.ulid)
            };
            for entry in blocks.values().filter(hit) {
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
            // Which times it holds stands in what cannot be read.
            found.warnings.push(format!(
                "block {id} of tenant {tenant} cannot be read, samples may be missing: its meta.json: {e}"
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
