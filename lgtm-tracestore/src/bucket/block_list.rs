//! Which blocks a tenant has.
//!
//! The list comes from the tenant's index, which compactors write (`index.pb.zst`, else `index.json.gz`), or else from a listing of the bucket; only metas
//! that are not known yet are read then. Blocks that this process has uploaded are on its list at once and stay there, whatever an older index
//! says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use hashbrown::HashMap;
use lgtm_core::clock::Clock;
use lgtm_core::codec::DecodeFail;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::{TenantId, TimestampMs, TimestampNs};
use lgtm_core::storage::{Bucket, ObjectInfo};
use lgtm_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use crate::block::{
    BlockMeta, CompactedBlockMeta, MetaKind, NO_COMPACT, REDACTIONS, TENANT_INDEX_JSON,
    TENANT_INDEX_PROTOBUF, TenantIndex, block_of_meta,
};
use crate::block_id::BlockId;

/// Metas read at a time. Tempo's default.
const CONCURRENCY: usize = 50;
/// Bytes that an index may have when it is decompressed: some hundred thousand blocks.
const MAX_INDEX_BYTES: usize = 256 << 20;
/// Departures of holders of recent data that are remembered for each tenant.
const MAX_DEPARTED: usize = 64;
/// Bytes of a meta; more is none.
const MAX_META_BYTES: u64 = 1 << 20;

/// The blocks of a tenant at some time.
#[derive(Debug, Clone, Default)]
pub struct TenantBlocks {
    /// Those that serve, by id.
    pub live: Vec<Arc<BlockMeta>>,
    /// Those that are superseded and not deleted yet, by id.
    pub compacted: Vec<Arc<CompactedBlockMeta>>,
    /// Those of both that are marked not to be compacted; only where the bucket was listed.
    pub no_compact: Vec<BlockId>,
    /// Folders of blocks that have neither meta: their upload is under way, or will never end; only where the bucket was listed.
    pub unfinished: Vec<UnfinishedBlock>,
    /// Names of redactions that are under way; only where the bucket was listed.
    pub redactions: Vec<String>,
    /// Metas that cannot be read, in words for the user: their blocks are missing from the list.
    pub warnings: Vec<String>,
}

impl TenantBlocks {
    /// Takes blocks out of service.
    pub(crate) fn retire(&mut self, blocks: &[BlockId], now: TimestampNs) {
        let live = std::mem::take(&mut self.live);
        let (gone, live) =
            (live.into_iter()).partition::<Vec<_>, _>(|meta| blocks.contains(&meta.block_id));
        self.live = live;
        self.compacted.extend(gone.into_iter().map(|meta| {
            Arc::new(CompactedBlockMeta {
                meta: (*meta).clone(),
                compacted: now,
            })
        }));
        self.compacted.sort_by_key(|c| c.meta.block_id);
    }
}

/// A folder with objects of a block that is not there as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnfinishedBlock {
    /// The block.
    pub block: BlockId,
    /// Objects that there are.
    pub objects: usize,
    /// When the last of them was written, by the store.
    pub modified_ms: TimestampMs,
}

/// How long a list is kept whole that nobody reads.
const KEPT_UNREAD: Duration = Duration::from_secs(24 * 3600);

/// What is known of a tenant's blocks.
#[derive(Debug, Default)]
struct Known {
    blocks: Arc<TenantBlocks>,
    /// When it was listed, on the clock that never goes back; `None`: never.
    listed: Option<Duration>,
    /// What of the bucket it knows: all that was there at that time.
    as_of: Option<TimestampNs>,
    /// When the index was made that it comes of.
    index: Option<TimestampNs>,
    /// Uploaded by this process, and when that was.
    own: Vec<(Arc<BlockMeta>, TimestampNs)>,
    /// Superseded by this process, and when that was.
    superseded: Vec<(BlockId, TimestampNs)>,
}

#[derive(Debug, Default)]
struct TenantList {
    known: Mutex<Known>,
    /// One reading at a time; the others wait for it.
    reading: tokio::sync::Mutex<()>,
    /// Holders of recent data after whose departure the bucket was listed, the latest last.
    listed_after: Mutex<VecDeque<String>>,
    /// Listings after departures that failed.
    failed: AtomicU64,
}

impl TenantList {
    fn is_listed_after(&self, departed: &[String]) -> bool {
        if departed.is_empty() {
            return true;
        }
        let listed = self.listed_after.lock();
        departed.iter().all(|d| listed.contains(d))
    }
}

/// Where a list is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListSource {
    /// The tenant's index, where it is young enough.
    Index,
    /// The bucket itself: an index need not have what came a moment ago.
    Bucket,
}

/// The blocks of all tenants, each list read when it is first asked for, and again when it is old.
#[derive(Debug)]
pub struct BlockList {
    bucket: Bucket,
    executor: Executor,
    clock: Arc<dyn Clock>,
    poll: Duration,
    tenants: Mutex<HashMap<TenantId, Arc<TenantList>>>,
}

impl BlockList {
    /// Lists of `bucket`; one that is older than `poll` is read again.
    pub fn new(bucket: Bucket, executor: Executor, clock: Arc<dyn Clock>, poll: Duration) -> Self {
        Self {
            bucket,
            executor,
            clock,
            poll,
            tenants: Mutex::default(),
        }
    }

    fn of(&self, tenant: &TenantId) -> Arc<TenantList> {
        let mut tenants = self.tenants.lock();
        Arc::clone(tenants.entry(tenant.clone()).or_default())
    }

    /// The blocks of a tenant. An old list that cannot be read anew serves on, which is logged.
    ///
    /// # Errors
    /// As [`Bucket`], when there is no list yet.
    pub async fn blocks(&self, tenant: &TenantId) -> Result<Arc<TenantBlocks>> {
        let list = self.of(tenant);
        if let Some(blocks) = self.fresh(&list) {
            return Ok(blocks);
        }
        let _reading = list.reading.lock().await;
        // Somebody else may have read it meanwhile.
        if let Some(blocks) = self.fresh(&list) {
            return Ok(blocks);
        }
        match self.read(tenant, &list, ListSource::Index).await {
            Ok(()) => {}
            Err(e) if list.known.lock().listed.is_some() => {
                tracing::warn!(%tenant, error = %e, "the list of blocks cannot be read again; the last one serves on");
            }
            Err(e) => return Err(e),
        }
        Ok(Arc::clone(&list.known.lock().blocks))
    }

    /// Lists what the bucket has of a tenant, unless that was done after all of `departed` had gone.
    ///
    /// # Errors
    /// As [`Bucket`].
    pub async fn list_after(&self, tenant: &TenantId, departed: &[String]) -> Result<()> {
        let list = self.of(tenant);
        if list.is_listed_after(departed) {
            return Ok(());
        }
        let failed_before = list.failed.load(Ordering::Relaxed);
        // Who waits for another one's listing finds what that found, also that it failed.
        let _reading = list.reading.lock().await;
        if list.is_listed_after(departed) {
            return Ok(());
        }
        if list.failed.load(Ordering::Relaxed) != failed_before {
            return Err(Error::Unavailable("it could not be listed just now".into()));
        }
        let read = self.read(tenant, &list, ListSource::Bucket).await;
        read.inspect_err(|_| {
            list.failed.fetch_add(1, Ordering::Relaxed);
        })?;
        let mut listed = list.listed_after.lock();
        for d in departed {
            if !listed.contains(d) {
                listed.push_back(d.clone());
            }
        }
        while listed.len() > MAX_DEPARTED {
            listed.pop_front();
        }
        Ok(())
    }

    /// For how long the list of a tenant has not been read; `None` when it never was.
    pub fn age(&self, tenant: &TenantId) -> Option<Duration> {
        let listed = self.of(tenant).known.lock().listed?;
        Some(self.clock.monotonic().saturating_sub(listed))
    }

    /// The age at which a list is read again.
    pub fn poll(&self) -> Duration {
        self.poll
    }

    fn fresh(&self, list: &TenantList) -> Option<Arc<TenantBlocks>> {
        let known = list.known.lock();
        let age = self.clock.monotonic().saturating_sub(known.listed?);
        (age < self.poll).then(|| Arc::clone(&known.blocks))
    }

    /// Puts a block that this process has uploaded on the list.
    pub fn add(&self, tenant: &TenantId, meta: BlockMeta) {
        let now = self.clock.now_ms().to_ns();
        let list = self.of(tenant);
        let mut known = list.known.lock();
        self.forget_unread(&mut known, now);
        let meta = Arc::new(meta);
        known.own.push((Arc::clone(&meta), now));
        let mut blocks = (*known.blocks).clone();
        insert(&mut blocks.live, meta);
        known.blocks = Arc::new(blocks);
    }

    /// Blocks of a tenant that are known without a look.
    #[cfg(test)]
    pub(super) fn known_count(&self, tenant: &TenantId) -> usize {
        self.of(tenant).known.lock().blocks.live.len()
    }

    /// Lets go of what nobody reads here: the list of a process that only takes traces would grow for ever. Who reads after all lists the bucket first, which
    /// has all but what is on its way.
    fn forget_unread(&self, known: &mut Known, now: TimestampNs) {
        let monotonic = self.clock.monotonic();
        let is_read = |listed: Duration| monotonic.saturating_sub(listed) < KEPT_UNREAD;
        if known.listed.is_some_and(is_read) {
            return;
        }
        let margin = (self.poll.as_nanos() as i64).saturating_mul(4);
        let is_recent = |when: &TimestampNs| when.saturating_add(margin) > now;
        let own = std::mem::take(&mut known.own).into_iter();
        let own: Vec<_> = own.filter(|(_, when)| is_recent(when)).collect();
        let mut blocks = TenantBlocks::default();
        for (meta, _) in &own {
            insert(&mut blocks.live, Arc::clone(meta));
        }
        known.superseded.retain(|(_, when)| is_recent(when));
        *known = Known {
            blocks: Arc::new(blocks),
            own,
            superseded: std::mem::take(&mut known.superseded),
            ..Known::default()
        };
    }

    /// Puts a block on the list in place of others, which it has all of.
    pub fn replace(&self, tenant: &TenantId, inputs: &[BlockId], meta: Option<BlockMeta>) {
        let now = self.clock.now_ms().to_ns();
        let list = self.of(tenant);
        let mut known = list.known.lock();
        known
            .own
            .retain(|(meta, _)| !inputs.contains(&meta.block_id));
        let mut blocks = (*known.blocks).clone();
        blocks.retire(inputs, now);
        // An older index may have them still.
        let until = |block: &BlockId| (*block, now);
        known.superseded.extend(inputs.iter().map(until));
        if let Some(meta) = meta {
            let meta = Arc::new(meta);
            known.own.push((Arc::clone(&meta), now));
            insert(&mut blocks.live, meta);
        }
        known.blocks = Arc::new(blocks);
    }

    /// What the bucket has of a tenant, by a listing. Metas that are on the list are not read again.
    ///
    /// # Errors
    /// As [`Bucket`].
    pub async fn list_bucket(&self, tenant: &TenantId) -> Result<TenantBlocks> {
        let before = Arc::clone(&self.of(tenant).known.lock().blocks);
        self.read_listing(tenant, &before).await
    }

    /// Reads the list now, whatever its age.
    ///
    /// # Errors
    /// As [`Bucket`].
    pub async fn refresh(&self, tenant: &TenantId) -> Result<Arc<TenantBlocks>> {
        let list = self.of(tenant);
        let _reading = list.reading.lock().await;
        self.read(tenant, &list, ListSource::Index).await?;
        Ok(Arc::clone(&list.known.lock().blocks))
    }

    /// Whether the bucket has a block, be it superseded: for one whose upload nobody knows the end of. Asks the bucket, not the list.
    ///
    /// # Errors
    /// As [`Bucket`].
    pub async fn has_block(&self, tenant: &TenantId, block: BlockId) -> Result<bool> {
        for name in [crate::block::META, crate::block::COMPACTED_META] {
            if self
                .bucket
                .exists(&format!("{tenant}/{block}/{name}"))
                .await?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// As [`BlockList::has_block`]; a block that is there is on the list when this returns.
    ///
    /// # Errors
    /// As [`Bucket`]; `Corrupt` for a meta that is none.
    pub async fn find_block(&self, tenant: &TenantId, block: BlockId) -> Result<bool> {
        let path = format!("{tenant}/{block}/{}", crate::block::META);
        match self.bucket.get(&path).await {
            Ok(bytes) => {
                let meta = BlockMeta::decode(&bytes).map_err(|e| Error::corrupt(path, e))?;
                self.add(tenant, meta);
                Ok(true)
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let is_superseded = self.has_block(tenant, block).await?;
                if is_superseded {
                    // What it became is known to the list that was made then, or later.
                    self.refresh(tenant).await?;
                }
                Ok(is_superseded)
            }
            Err(e) => Err(e),
        }
    }

    async fn read(&self, tenant: &TenantId, list: &TenantList, source: ListSource) -> Result<()> {
        let began = (self.clock.monotonic(), self.clock.now_ms().to_ns());
        let (before, last, last_index) = {
            let known = list.known.lock();
            (Arc::clone(&known.blocks), known.as_of, known.index)
        };
        let margin = self.poll.as_nanos() as i64;
        // Nobody brings an index up to date for ever; and one that is older than what is known has not all of it, as that which this process wrote
        // before it was started again.
        let is_fresh = |made: TimestampNs| {
            let age = began.1.get().saturating_sub(made.get());
            age <= margin.saturating_mul(2)
        };
        let is_news = |made| is_fresh(made) && last.is_some_and(|last| made > last);
        let mut index_made = None;
        let index = match source {
            ListSource::Index => self.read_index(tenant).await?,
            ListSource::Bucket => None,
        };
        let (mut blocks, as_of) = match index {
            Some((made, index)) if is_news(made) => {
                index_made = Some(made);
                (of_index(index), made)
            }
            Some((made, _)) if last_index == Some(made) && is_fresh(made) => {
                list.known.lock().listed = Some(began.0);
                return Ok(());
            }
            Some((_, index)) => {
                let mut known = of_index(index);
                for meta in &before.live {
                    insert(&mut known.live, Arc::clone(meta));
                }
                (self.read_listing(tenant, &known).await?, began.1)
            }
            None => (self.read_listing(tenant, &before).await?, began.1),
        };
        let mut known = list.known.lock();
        // An index made before the upload, or while it ran, need not have the block; a later one that lacks it knows that it is gone.
        (known.own).retain(|(_, uploaded)| uploaded.saturating_add(margin) > as_of);
        for (meta, _) in &known.own {
            let is_gone = blocks
                .compacted
                .iter()
                .any(|c| c.meta.block_id == meta.block_id);
            if !is_gone {
                insert(&mut blocks.live, Arc::clone(meta));
            }
        }
        // The same of those that it superseded.
        (known.superseded).retain(|(_, when)| when.saturating_add(margin) > as_of);
        for (block, when) in &known.superseded {
            if let Ok(at) = blocks.live.binary_search_by_key(block, |m| m.block_id) {
                let meta = (*blocks.live.remove(at)).clone();
                let compacted = *when;
                let meta = CompactedBlockMeta { meta, compacted };
                blocks.compacted.push(Arc::new(meta));
            }
        }
        blocks.compacted.sort_by_key(|c| c.meta.block_id);
        known.blocks = Arc::new(blocks);
        known.listed = Some(began.0);
        (known.as_of, known.index) = (Some(as_of), index_made);
        Ok(())
    }

    /// The tenant's index and when it was made; `None` when there is none that can be read.
    async fn read_index(&self, tenant: &TenantId) -> Result<Option<(TimestampNs, TenantIndex)>> {
        for name in [TENANT_INDEX_PROTOBUF, TENANT_INDEX_JSON] {
            let path = format!("{tenant}/{name}");
            let file = match self.bucket.get(&path).await {
                Ok(file) => file,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            let is_protobuf = name == TENANT_INDEX_PROTOBUF;
            let job = move |_: &CancelToken| {
                let decoded = if is_protobuf {
                    TenantIndex::decode_protobuf_zstd(&file, MAX_INDEX_BYTES)
                } else {
                    TenantIndex::decode_json_gzip(&file, MAX_INDEX_BYTES)
                };
                Ok::<_, Error>(decoded)
            };
            match self.executor.run(job, &CancelToken::new()).await? {
                Ok(index) => return Ok(Some((index.created, index))),
                Err(DecodeFail::Broken(e)) => {
                    tracing::warn!(path, error = %e, "the index of a tenant's blocks cannot be read; the next source is asked");
                }
                Err(DecodeFail::Refused(e)) => {
                    tracing::warn!(path, error = %e, "the index of a tenant's blocks is too large; the next source is asked");
                }
            }
        }
        Ok(None)
    }

    async fn read_listing(&self, tenant: &TenantId, before: &TenantBlocks) -> Result<TenantBlocks> {
        let mut objects = self.bucket.list(tenant.as_str());
        let (mut wanted, mut no_compact, mut redactions) = (Vec::new(), Vec::new(), Vec::new());
        let mut unfinished: HashMap<BlockId, UnfinishedBlock> = HashMap::new();
        let front = format!("{tenant}/");
        while let Some(object) = objects.try_next().await? {
            let below = object.path.strip_prefix(&front);
            if let Some((block, kind)) = below.and_then(block_of_meta) {
                wanted.push((block, kind, object));
            } else if let Some((REDACTIONS, name)) = below.and_then(|path| path.split_once('/')) {
                redactions.push(name.to_owned());
            } else if let Some((block, name)) = below.and_then(|path| path.split_once('/'))
                && let Ok(block) = block.parse::<BlockId>()
            {
                if name == NO_COMPACT {
                    no_compact.push(block);
                }
                let seen = unfinished.entry(block).or_insert(UnfinishedBlock {
                    block,
                    objects: 0,
                    modified_ms: object.modified_ms,
                });
                seen.objects += 1;
                seen.modified_ms = seen.modified_ms.max(object.modified_ms);
            }
        }
        for (block, ..) in &wanted {
            unfinished.remove(block);
        }
        let known: HashMap<BlockId, &Arc<BlockMeta>> =
            before.live.iter().map(|m| (m.block_id, m)).collect();
        let metas = wanted.into_iter().map(|(block, kind, object)| {
            let known = known.get(&block).map(|m| Arc::clone(m));
            async move {
                let meta = match known {
                    Some(meta) => Ok(meta),
                    None => self.read_meta_of(kind, &object).await.map(Arc::new),
                };
                (kind, object, meta)
            }
        });
        let mut metas = stream::iter(metas).buffer_unordered(CONCURRENCY);
        let mut out = TenantBlocks {
            no_compact,
            redactions,
            unfinished: unfinished.into_values().collect(),
            ..TenantBlocks::default()
        };
        while let Some((kind, object, meta)) = metas.next().await {
            let meta = match meta {
                Ok(meta) => meta,
                // It was superseded or deleted since it was listed.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) if e.kind() == ErrorKind::Corrupt => {
                    tracing::error!(path = object.path, error = %e, "the meta of a block cannot be read; the block is left out");
                    out.warnings
                        .push(format!("a block is missing from the answer: {e}"));
                    continue;
                }
                Err(e) => return Err(e),
            };
            match kind {
                MetaKind::Live => insert(&mut out.live, meta),
                MetaKind::Compacted => out.compacted.push(Arc::new(CompactedBlockMeta {
                    meta: (*meta).clone(),
                    compacted: object.modified_ms.to_ns(),
                })),
            }
        }
        // Both metas of a block are there for a moment while it is superseded.
        let live = &mut out.live;
        for block in &out.compacted {
            live.retain(|m| m.block_id != block.meta.block_id);
        }
        out.compacted.sort_by_key(|c| c.meta.block_id);
        Ok(out)
    }

    /// The meta of a block that was listed. One that has been superseded since serves on: that which is in its place need not have been listed.
    async fn read_meta_of(&self, kind: MetaKind, object: &ObjectInfo) -> Result<BlockMeta> {
        match self.read_meta(object).await {
            Err(e) if e.kind() == ErrorKind::NotFound && kind == MetaKind::Live => {
                let folder = object.path.strip_suffix(crate::block::META);
                let path = format!(
                    "{}{}",
                    folder.unwrap_or_default(),
                    crate::block::COMPACTED_META
                );
                let renamed = ObjectInfo {
                    path,
                    ..object.clone()
                };
                self.read_meta(&renamed).await
            }
            read => read,
        }
    }

    async fn read_meta(&self, object: &ObjectInfo) -> Result<BlockMeta> {
        let path = &object.path;
        if object.size_bytes > MAX_META_BYTES {
            let reason = format!(
                "{} bytes, at most {MAX_META_BYTES} are read",
                object.size_bytes
            );
            let error = lgtm_core::DecodeError::new("trace block meta", 0, reason);
            return Err(Error::corrupt(path.clone(), error));
        }
        let bytes = self.bucket.get(path).await?;
        BlockMeta::decode(&bytes).map_err(|e| Error::corrupt(path.clone(), e))
    }
}

fn of_index(index: TenantIndex) -> TenantBlocks {
    let mut out = TenantBlocks::default();
    for meta in index.meta {
        insert(&mut out.live, Arc::new(meta));
    }
    let compacted = index.compacted.into_iter().map(Arc::new);
    out.compacted = compacted.collect();
    out.compacted.sort_by_key(|c| c.meta.block_id);
    out
}

/// Puts a block into its place, once.
fn insert(live: &mut Vec<Arc<BlockMeta>>, meta: Arc<BlockMeta>) {
    match live.binary_search_by_key(&meta.block_id, |m| m.block_id) {
        Ok(at) => live[at] = meta,
        Err(at) => live.insert(at, meta),
    }
}
