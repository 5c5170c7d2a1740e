//! Everything that a tenant has in the bucket, by listing it: what compaction and cleaning decide by. Queries never wait for this.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures::StreamExt;
use lgtm_core::model::{TenantId, TimestampMs};
use lgtm_core::storage::{Bucket, ObjectInfo};
use lgtm_core::{DecodeError, Error, ErrorKind, Result};
use parking_lot::Mutex;
use serde_json::Map;

use crate::block::{
    BlockMeta, BucketIndex, BucketIndexBlock, BucketIndexDeletionMark, DeletionMark, NoCompactMark,
    TenantDeletionMark, UnreadableBlock,
};
use crate::block_id::BlockId;

/// The folder of a tenant in which all marks stand.
pub const MARKERS_FOLDER: &str = "markers";
const META: &str = "meta.json";

/// A block that is whole.
#[derive(Debug, Clone)]
pub struct StoredBlock {
    /// What it is.
    pub meta: Arc<BlockMeta>,
    /// When its `meta.json` was uploaded, by the clock of the store.
    pub uploaded_ms: TimestampMs,
}

/// What a tenant has in the bucket.
#[derive(Debug, Clone, Default)]
pub struct TenantBlocks {
    /// When it was looked at, on the host's clock: what was uploaded later need not be here.
    pub scanned_ms: TimestampMs,
    /// Whole blocks, those that are marked too.
    pub blocks: BTreeMap<BlockId, StoredBlock>,
    /// Marked for deletion: since when, in seconds. `None` where the mark cannot be read.
    pub deletion_marks: BTreeMap<BlockId, Option<i64>>,
    /// Not to be compacted.
    pub no_compact: BTreeSet<BlockId>,
    /// Folders without a `meta.json` that have more in them than marks.
    pub partial: BTreeSet<BlockId>,
    /// Blocks whose `meta.json` cannot be read or that lack files it names, and why.
    pub unreadable: BTreeMap<BlockId, String>,
    /// Whether all of it is to be deleted.
    pub deletion: Option<TenantDeletionMark>,
}

impl TenantBlocks {
    /// Blocks without a deletion mark.
    pub fn live(&self) -> Vec<Arc<BlockMeta>> {
        let live = self.blocks.iter();
        let live = live.filter(|(id, _)| !self.deletion_marks.contains_key(id));
        live.map(|(_, b)| Arc::clone(&b.meta)).collect()
    }

    /// The bucket index that says this.
    pub fn index(&self) -> BucketIndex {
        let blocks = self
            .blocks
            .values()
            .map(|b| BucketIndexBlock::from_meta(&b.meta, b.uploaded_ms.to_seconds()));
        let marks = self.deletion_marks.iter().filter_map(|(id, time)| {
            Some(BucketIndexDeletionMark {
                id: *id,
                deletion_time_s: (*time)?,
                unknown: Map::new(),
            })
        });
        let unreadable = self.unreadable.iter().map(|(id, reason)| UnreadableBlock {
            id: *id,
            reason: reason.clone(),
        });
        BucketIndex {
            version: BucketIndex::VERSION,
            blocks: blocks.collect(),
            block_deletion_marks: marks.collect(),
            unreadable_blocks: unreadable.collect(),
            updated_at_s: self.scanned_ms.to_seconds(),
            unknown: Map::new(),
        }
    }
}

/// What is known of a tenant's blocks from before: neither blocks nor marks change.
#[derive(Debug, Clone, Default)]
struct Known {
    metas: BTreeMap<BlockId, Arc<BlockMeta>>,
    deletion_times: BTreeMap<BlockId, i64>,
}

/// Looks at the blocks of tenants.
#[derive(Debug)]
pub struct BlockScanner {
    bucket: Bucket,
    concurrency: usize,
    known: Mutex<HashMap<TenantId, Known>>,
}

impl BlockScanner {
    /// Of `bucket`; so many metas and marks are read at the same time.
    pub fn new(bucket: Bucket, concurrency: usize) -> Self {
        Self {
            bucket,
            concurrency: concurrency.max(1),
            known: Mutex::default(),
        }
    }

    /// The bucket.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Lists the marks of a tenant, then all its objects, and reads what is new.
    ///
    /// # Errors
    /// Those of the store. A `meta.json` or a mark that does not decode is told in the result.
    pub async fn scan(&self, tenant: &TenantId, now_ms: TimestampMs) -> Result<TenantBlocks> {
        let known = self.known.lock().get(tenant).cloned().unwrap_or_default();
        let mut found = TenantBlocks {
            scanned_ms: now_ms,
            ..TenantBlocks::default()
        };
        // Marks first: a block that replaces a marked one is listed then.
        let mut places = Places::default();
        let markers = format!("{tenant}/{MARKERS_FOLDER}");
        for object in self.bucket.list_sorted(&markers).await? {
            places.note_marker(&object.path);
        }
        for object in self.bucket.list_sorted(tenant.as_str()).await? {
            places.note(tenant, &object);
        }
        if let Some(path) = &places.tenant_deletion {
            found.deletion = match self.bucket.get(path).await {
                Ok(bytes) => Some(decoded(path, TenantDeletionMark::decode(&bytes))?),
                Err(e) if e.kind() == ErrorKind::NotFound => None,
                Err(e) => return Err(e),
            };
        }
        found.no_compact = std::mem::take(&mut places.no_compact);
        self.read_marks(&known, &places, &mut found).await?;
        self.read_metas(tenant, &known, &places, &mut found).await?;
        let is_partial = |id: &&BlockId| !places.metas.contains_key(id);
        found.partial = places.files.keys().filter(is_partial).copied().collect();
        self.remember(tenant, &found);
        Ok(found)
    }

    async fn read_marks(
        &self,
        known: &Known,
        places: &Places,
        found: &mut TenantBlocks,
    ) -> Result<()> {
        let marks = places.deletion_marks.clone().into_iter();
        let reads = marks.map(|(id, path)| async move {
            if let Some(time) = known.deletion_times.get(&id) {
                return Ok((id, Some(Some(*time))));
            }
            let mark = match self.bucket.get(&path).await {
                Ok(bytes) => DeletionMark::decode(&bytes),
                // Deleted meanwhile, with its block.
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok((id, None)),
                Err(e) => return Err(e),
            };
            let time = mark.ok().filter(|m| m.id == id).map(|m| m.deletion_time_s);
            if time.is_none() {
                tracing::error!(
                    mark = path,
                    "deletion mark cannot be read; its block is neither compacted nor deleted"
                );
            }
            Ok((id, Some(time)))
        });
        let mut reads = futures::stream::iter(reads).buffer_unordered(self.concurrency);
        while let Some(read) = reads.next().await {
            if let (id, Some(time)) = read? {
                found.deletion_marks.insert(id, time);
            }
        }
        Ok(())
    }

    async fn read_metas(
        &self,
        tenant: &TenantId,
        known: &Known,
        places: &Places,
        found: &mut TenantBlocks,
    ) -> Result<()> {
        let metas = places.metas.clone().into_iter();
        let reads = metas.map(|(id, uploaded_ms)| async move {
            if let Some(meta) = known.metas.get(&id) {
                let meta = Arc::clone(meta);
                return Ok((id, Some(Ok(StoredBlock { meta, uploaded_ms }))));
            }
            let path = format!("{tenant}/{id}/{META}");
            match self.read_meta(&path, id).await {
                Ok(meta) => {
                    let meta = Arc::new(meta);
                    Ok((id, Some(Ok(StoredBlock { meta, uploaded_ms }))))
                }
                Err(e) if e.kind() == ErrorKind::NotFound => Ok((id, None)),
                Err(e) if e.kind() == ErrorKind::Corrupt => Ok((id, Some(Err(e.to_string())))),
                Err(e) => Err(e),
            }
        });
        let mut reads = futures::stream::iter(reads).buffer_unordered(self.concurrency);
        while let Some(read) = reads.next().await {
            match read? {
                (_, None) => {}
                (id, Some(Ok(block))) => match places.missing(&block.meta) {
                    None => drop(found.blocks.insert(id, block)),
                    Some(e) => {
                        tracing::error!(%tenant, block = %id, error = e, "the block is not whole; it is left alone");
                        found.unreadable.insert(id, e);
                    }
                },
                (id, Some(Err(e))) => {
                    tracing::error!(%tenant, block = %id, error = e, "meta.json cannot be read; the block is left alone");
                    found.unreadable.insert(id, e);
                }
            }
        }
        Ok(())
    }

    /// Reads a meta twice: it has no checksum, and by what it says blocks are deleted.
    async fn read_meta(&self, path: &str, id: BlockId) -> Result<BlockMeta> {
        let first = self.bucket.get(path).await?;
        let reason = if self.bucket.get(path).await? != first {
            "it is not the same when it is read again".to_owned()
        } else {
            let meta = decoded(path, BlockMeta::decode(&first))?;
            if meta.ulid == id {
                return Ok(meta);
            }
            format!("it is that of block {}", meta.ulid)
        };
        Err(Error::corrupt(path, DecodeError::new(META, 0, reason)))
    }

    /// Reads everything of a tenant again next time.
    pub fn forget(&self, tenant: &TenantId) {
        self.known.lock().remove(tenant);
    }

    fn remember(&self, tenant: &TenantId, found: &TenantBlocks) {
        let metas = found.blocks.iter();
        let times = found.deletion_marks.iter();
        let known = Known {
            metas: metas.map(|(id, b)| (*id, Arc::clone(&b.meta))).collect(),
            deletion_times: times.filter_map(|(id, t)| Some((*id, (*t)?))).collect(),
        };
        let mut all = self.known.lock();
        if known.metas.is_empty() && known.deletion_times.is_empty() {
            all.remove(tenant);
        } else {
            all.insert(tenant.clone(), known);
        }
    }
}

fn decoded<T>(path: &str, decoded: Result<T, DecodeError>) -> Result<T> {
    decoded.map_err(|e| Error::corrupt(path, e))
}

/// Where the objects of a tenant are.
#[derive(Debug, Default)]
struct Places {
    /// When the meta of each whole block was uploaded.
    metas: BTreeMap<BlockId, TimestampMs>,
    /// What else is in the folders of blocks: names and sizes.
    files: BTreeMap<BlockId, Vec<(String, u64)>>,
    deletion_marks: BTreeMap<BlockId, String>,
    no_compact: BTreeSet<BlockId>,
    tenant_deletion: Option<String>,
}

impl Places {
    /// Notes an object of the folder with all marks.
    fn note_marker(&mut self, path: &str) {
        let name = path.rsplit('/').next().unwrap_or_default();
        if name == TenantDeletionMark::FILE_NAME {
            self.tenant_deletion = Some(path.to_owned());
        } else if let Some((id, mark)) = name.split_at_checked(BlockId::LEN)
            && let Ok(id) = id.parse::<BlockId>()
        {
            match mark.strip_prefix('-') {
                Some(DeletionMark::FILE_NAME) => {
                    self.deletion_marks.insert(id, path.to_owned());
                }
                Some(NoCompactMark::FILE_NAME) => {
                    self.no_compact.insert(id);
                }
                _ => {}
            }
        }
    }

    /// Notes an object of a block's folder. Thanos puts marks there only.
    fn note(&mut self, tenant: &TenantId, object: &ObjectInfo) {
        let below = object.path.strip_prefix(tenant.as_str());
        let Some((folder, name)) = below
            .and_then(|p| p.strip_prefix('/'))
            .and_then(|p| p.split_once('/'))
        else {
            return;
        };
        let Ok(id) = folder.parse::<BlockId>() else {
            return;
        };
        match name {
            META => drop(self.metas.insert(id, object.modified_ms)),
            DeletionMark::FILE_NAME => {
                let path = || object.path.clone();
                self.deletion_marks.entry(id).or_insert_with(path);
            }
            NoCompactMark::FILE_NAME => drop(self.no_compact.insert(id)),
            _ => {
                let files = self.files.entry(id).or_default();
                files.push((name.to_owned(), object.size_bytes));
            }
        }
    }

    /// What a block lacks that its meta names.
    fn missing(&self, meta: &BlockMeta) -> Option<String> {
        let have = self.files.get(&meta.ulid).map_or(&[][..], Vec::as_slice);
        let named = meta.thanos.iter().flat_map(|t| &t.files);
        let mut lacking = named.filter(|f| f.rel_path != META).filter(|f| {
            let is_it = |(name, size): &(String, u64)| {
                *name == f.rel_path && (f.size_bytes == 0 || f.size_bytes == *size)
            };
            !have.iter().any(is_it)
        });
        let file = lacking.next()?;
        Some(format!(
            "{} with {} bytes is missing",
            file.rel_path, file.size_bytes
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lgtm_core::storage::{DataKind, Layout};
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn blocks_marks_and_what_is_broken_are_told_apart() {
        let bucket = Layout::single_bucket(InMemory::new()).bucket(DataKind::MetricBlocks);
        let id = |n: u8| BlockId::from_bytes([n; 16]);
        let meta = |n: u8| {
            format!(
                r#"{{"ulid":"{}","minTime":0,"maxTime":{n},"stats":{{}},"compaction":{{"level":1}},"version":1}}"#,
                id(n)
            )
        };
        let put = async |path: String, bytes: Vec<u8>| {
            bucket.put(&format!("t/{path}"), bytes).await.unwrap();
        };
        for n in [1, 2, 3] {
            put(format!("{}/meta.json", id(n)), meta(n).into()).await;
            put(format!("{}/index", id(n)), b"x".to_vec()).await;
        }
        put(format!("{}/meta.json", id(4)), meta(5).into()).await;
        put(format!("{}/index", id(5)), b"x".to_vec()).await;
        let files = r#""thanos":{"files":[{"rel_path":"index","size_bytes":2},{"rel_path":"meta.json"}]},"version":1"#;
        let whole = |n: u8| meta(n).replace(r#""version":1"#, files);
        put(format!("{}/meta.json", id(7)), whole(7).into()).await;
        put(format!("{}/index", id(7)), b"xx".to_vec()).await;
        put(format!("{}/meta.json", id(8)), whole(8).into()).await;
        put(format!("{}/index", id(8)), b"x".to_vec()).await;
        let mark = |n: u8| DeletionMark::new(id(n), 77, "").encode().unwrap();
        put(format!("markers/{}-deletion-mark.json", id(1)), mark(1)).await;
        put(format!("{}/deletion-mark.json", id(2)), mark(2)).await;
        put(format!("{}/deletion-mark.json", id(6)), b"{".to_vec()).await;
        let no_compact = format!("markers/{}-no-compact-mark.json", id(3));
        put(no_compact, b"{}".to_vec()).await;
        put("debug/metas/x.json".into(), b"{}".to_vec()).await;
        put("bucket-index.json.gz".into(), b"".to_vec()).await;

        let (tenant, now) = (TenantId::new("t").unwrap(), TimestampMs::new(9_500));
        let scanner = BlockScanner::new(bucket.clone(), 4);
        for _ in 0..2 {
            let found = scanner.scan(&tenant, now).await.unwrap();
            let blocks: Vec<_> = found.blocks.keys().copied().collect();
            assert_eq!(blocks, [id(1), id(2), id(3), id(7)]);
            let marks: Vec<_> = found.deletion_marks.iter().map(|(i, t)| (*i, *t)).collect();
            assert_eq!(marks, [(id(1), Some(77)), (id(2), Some(77)), (id(6), None)]);
            assert_eq!(found.no_compact, [id(3)].into());
            assert_eq!(found.partial, [id(5)].into());
            assert!(found.unreadable.keys().eq(&[id(4), id(8)]));
            assert_eq!(found.live().len(), 2);
            let index = found.index();
            assert_eq!(
                (index.blocks.len(), index.block_deletion_marks.len()),
                (4, 2)
            );
            assert_eq!((index.updated_at_s, index.unreadable_blocks.len()), (9, 2));
            assert_eq!(index.blocks[2].max_ms.get(), 3);
        }
        assert!(scanner.scan(&tenant, now).await.unwrap().deletion.is_none());
        let gone = br#"{"deletion_time":5}"#.to_vec();
        put("markers/tenant-deletion-mark.json".into(), gone).await;
        let found = scanner.scan(&tenant, now).await.unwrap();
        assert_eq!(found.deletion.unwrap().deletion_time_s, 5);
    }
}
