//! Whether what is said of a tenant's blocks is true: its bucket index and its marks.

use std::collections::{BTreeMap, BTreeSet};

use lgtm_core::model::TenantId;
use lgtm_core::storage::{Bucket, Fault, Findings, ObjectInfo};
use lgtm_core::{Error, Result};

use crate::block::{
    BlockMeta, BucketIndex, BucketIndexBlock, DeletionMark, NoCompactMark, TenantDeletionMark,
};
use crate::block_id::BlockId;
use crate::bucket::MARKERS_FOLDER;

/// Most bytes of the JSON in a bucket index: hundreds of thousands of blocks.
const MAX_BUCKET_INDEX_BYTES: u64 = 512 << 20;

/// Compares a tenant's bucket index and marks with the blocks that there are, and adds what is wrong to `findings`; gives the blocks of the tenant, those that
/// are not whole too. Blocks themselves are [`verify_block`](super::verify_block)'s.
///
/// Costs a listing of the tenant's objects, and a read of its bucket index and of each mark and `meta.json`.
///
/// # Errors
/// Those that say nothing of an object: a store that does not answer.
pub async fn verify_tenant(
    bucket: &Bucket,
    tenant: &TenantId,
    findings: &mut Findings,
) -> Result<Vec<BlockId>> {
    let objects = bucket.list_sorted(tenant.as_str()).await?;
    let mut lists = TenantLists {
        bucket,
        tenant,
        findings,
        blocks: BTreeSet::new(),
        whole: BTreeSet::new(),
        marked: BTreeMap::new(),
    };
    lists.note(&objects);
    lists.marks(&objects).await?;
    let index = format!("{tenant}/{}", BucketIndex::FILE_NAME);
    if objects.iter().any(|o| o.path == index) {
        lists.bucket_index(&index).await?;
    }
    Ok(lists.blocks.into_iter().collect())
}

struct TenantLists<'a> {
    bucket: &'a Bucket,
    tenant: &'a TenantId,
    findings: &'a mut Findings,
    blocks: BTreeSet<BlockId>,
    /// Those with a `meta.json`.
    whole: BTreeSet<BlockId>,
    /// Since when blocks are marked for deletion.
    marked: BTreeMap<BlockId, i64>,
}

impl TenantLists<'_> {
    fn note(&mut self, objects: &[ObjectInfo]) {
        for object in objects {
            let mut parts = object.path.split('/').skip(1);
            let (Some(folder), Some(name)) = (parts.next(), parts.next()) else {
                continue;
            };
            let Ok(id) = folder.parse::<BlockId>() else {
                continue;
            };
            self.blocks.insert(id);
            if name == "meta.json" {
                self.whole.insert(id);
            }
        }
    }

    async fn marks(&mut self, objects: &[ObjectInfo]) -> Result<()> {
        for object in objects {
            let below = object.path.strip_prefix(self.tenant.as_str());
            let Some((folder, name)) = below
                .and_then(|p| p.strip_prefix('/'))
                .and_then(|p| p.split_once('/'))
            else {
                continue;
            };
            // In the folder of marks the block stands in front of the name.
            let (id, mark) = match name.split_at_checked(BlockId::LEN) {
                Some((id, mark)) if folder == MARKERS_FOLDER && id.parse::<BlockId>().is_ok() => {
                    (id, mark.trim_start_matches('-'))
                }
                _ => (folder, name),
            };
            let path = &object.path;
            match mark {
                DeletionMark::FILE_NAME => {
                    let mark = self.decoded(path, DeletionMark::decode).await?;
                    if let Some(mark) = mark
                        && self.is_of(path, id, mark.id)
                    {
                        self.marked.insert(mark.id, mark.deletion_time_s);
                    }
                }
                NoCompactMark::FILE_NAME => {
                    if let Some(mark) = self.decoded(path, NoCompactMark::decode).await? {
                        self.is_of(path, id, mark.id);
                    }
                }
                TenantDeletionMark::FILE_NAME => {
                    self.decoded(path, TenantDeletionMark::decode).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn decoded<T>(
        &mut self,
        path: &str,
        decode: impl Fn(&[u8]) -> Result<T, lgtm_core::DecodeError>,
    ) -> Result<Option<T>> {
        let read = self.bucket.get(path).await;
        let decoded = read.and_then(|b| decode(&b).map_err(|e| Error::corrupt(path, e)));
        self.findings.good(path, decoded)
    }

    /// Whether a mark is of the block that its name says.
    fn is_of(&mut self, path: &str, named: &str, id: BlockId) -> bool {
        if id.to_string() != named {
            let detail = format!("it is of block {id}");
            self.findings.add(path, Fault::WrongPlace, detail);
            return false;
        }
        if !self.blocks.contains(&id) {
            let detail = "the block that it is of is gone";
            self.findings.add(path, Fault::Leftover, detail);
        }
        true
    }

    async fn bucket_index(&mut self, path: &str) -> Result<()> {
        let read = self.bucket.get(path).await;
        let decoded = read.and_then(|b| BucketIndex::decode(path, &b, MAX_BUCKET_INDEX_BYTES));
        let Some(index) = self.findings.good(path, decoded)? else {
            return Ok(());
        };
        let mut listed = BTreeSet::new();
        for entry in &index.blocks {
            if !listed.insert(entry.id) {
                let detail = format!("block {} is listed twice", entry.id);
                self.findings.add(path, Fault::Disagreement, detail);
            } else if self.whole.contains(&entry.id) {
                self.entry(path, entry).await?;
            } else {
                let detail = format!("block {} is listed and has no meta.json", entry.id);
                self.findings.add(path, Fault::Dangling, detail);
            }
        }
        listed.extend(index.unreadable_blocks.iter().map(|b| b.id));
        for id in self.whole.difference(&listed) {
            let detail = format!("block {id} is not listed");
            self.findings.add(path, Fault::Unlisted, detail);
        }
        for mark in &index.block_deletion_marks {
            let detail = match self.marked.get(&mark.id) {
                None => format!("block {} is listed as marked and has no mark", mark.id),
                Some(time) if *time != mark.deletion_time_s => format!(
                    "block {} is listed as marked at {}, its mark says {time}",
                    mark.id, mark.deletion_time_s
                ),
                Some(_) => continue,
            };
            // The next round lists it anew; until then a block that serves may be left out.
            self.findings.add(path, Fault::Disagreement, detail);
        }
        Ok(())
    }

    async fn entry(&mut self, path: &str, entry: &BucketIndexBlock) -> Result<()> {
        let meta_path = format!("{}/{}/meta.json", self.tenant, entry.id);
        let read = self.bucket.get(&meta_path).await;
        // What is wrong with the meta itself is told with its block.
        let Ok(meta) = read
            .and_then(|b| BlockMeta::decode(&b).map_err(|e| Error::corrupt(meta_path.as_str(), e)))
        else {
            return Ok(());
        };
        if (meta.min_ms, meta.max_ms) != (entry.min_ms, entry.max_ms) {
            let detail = format!(
                "block {} is listed from {} to {}, its meta.json says {} to {}",
                entry.id, entry.min_ms, entry.max_ms, meta.min_ms, meta.max_ms
            );
            self.findings.add(path, Fault::Disagreement, detail);
        }
        let fresh = BucketIndexBlock::from_meta(&meta, entry.uploaded_at_s);
        if fresh.compactor_shard_id != entry.compactor_shard_id {
            let detail = format!(
                "block {} is listed as shard {:?}, its meta.json says {:?}",
                entry.id, entry.compactor_shard_id, fresh.compactor_shard_id
            );
            self.findings.add(path, Fault::Disagreement, detail);
        }
        Ok(())
    }
}
