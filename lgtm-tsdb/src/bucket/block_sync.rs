//! Bringing the list of blocks up to date.
//!
//! Of each tenant one object is read, the bucket index that the compactor writes. Where there is none, or it is old, the tenant's blocks are
//! listed instead. They are listed once more when a process begins, since the last blocks of the one before may not be in the index yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use lgtm_core::exec::in_place;
use lgtm_core::model::{TenantId, TimestampMs};
use lgtm_core::{ErrorKind, Result};

use super::block_entry::{BlockEntry, ListedBlock};
use super::blocks::{BucketBlocks, TenantList, Unlisted};
use crate::block::{BlockMeta, BucketIndex};
use crate::block_id::BlockId;

/// Departures that are remembered of a tenant.
const MAX_DEPARTED: usize = 256;

/// What is looked at for a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// The bucket index, and the bucket itself where that does not do.
    Index,
    /// The bucket itself, too.
    Listing,
}

/// A number for a tenant.
fn number_of(tenant: &TenantId) -> usize {
    let bytes = tenant.as_str().bytes();
    bytes.fold(0, |sum: usize, b| {
        sum.wrapping_mul(31).wrapping_add(usize::from(b))
    })
}

/// The blocks that a tenant was found to have.
#[derive(Debug, Default)]
struct FoundBlocks {
    blocks: BTreeMap<BlockId, ListedBlock>,
    /// Of whose samples others on the list are.
    superseded: BTreeSet<BlockId>,
    /// Marked for deletion for so long that nobody reads them any more.
    ignored: BTreeSet<BlockId>,
    /// Blocks whose `meta.json` cannot be read.
    unreadable: BTreeMap<BlockId, String>,
    /// Blocks that came later may be missing.
    as_of_ms: TimestampMs,
    /// Whether the bucket was listed.
    is_listed: bool,
}

impl BucketBlocks {
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
            let synced = self.sync_tenant(&t, Look::Index).await;
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
        let is_of_use = |list: &TenantList| !list.blocks.is_empty() || !list.superseded.is_empty();
        self.tenants.write().retain(|_, list| is_of_use(list));
        failed.map_or(Ok(()), Err)
    }

    /// Whether the blocks of a tenant were listed after these holders of recent data had gone.
    pub(super) fn is_listed_after(&self, tenant: &TenantId, departed: &[String]) -> bool {
        if departed.is_empty() {
            return true;
        }
        let tenants = self.tenants.read();
        let list = tenants.get(tenant);
        list.is_some_and(|l| departed.iter().all(|d| l.listed_after.contains(d)))
    }

    /// Lists the blocks of a tenant, unless they were listed after all of `departed` had gone. A warning for the answer when that fails.
    pub(super) async fn list_after(
        &self,
        tenant: &TenantId,
        departed: &[String],
    ) -> Option<String> {
        if self.is_listed_after(tenant, departed) {
            return None;
        }
        let place = number_of(tenant) % self.looks.len();
        // Who waits for another one's look finds what that found.
        let _one = self.looks[place].lock().await;
        if self.is_listed_after(tenant, departed) {
            return None;
        }
        if let Err(e) = self.sync_tenant(tenant, Look::Listing).await {
            return Some(format!(
                "an ingester has gone, and the blocks of tenant {tenant} in the object store cannot be listed, samples may be missing: {e}"
            ));
        }
        let mut tenants = self.tenants.write();
        let list = tenants.entry(tenant.clone()).or_default();
        for d in departed {
            if !list.listed_after.contains(d) {
                list.listed_after.push_back(d.clone());
            }
        }
        while list.listed_after.len() > MAX_DEPARTED {
            list.listed_after.pop_front();
        }
        None
    }

    async fn sync_tenant(&self, tenant: &TenantId, look: Look) -> Result<()> {
        let before = self.known(tenant);
        let mut found = FoundBlocks::default();
        let has_index = match self.read_index(tenant).await? {
            Some(index) => {
                self.take_index(index, &mut found);
                true
            }
            None => false,
        };
        if !has_index || !before.is_listed || look == Look::Listing {
            self.list_blocks(tenant, &before, &mut found).await?;
        }
        let gone = self.gone(&before, &found).await?;
        let now_ms = self.blocks.now_ms();
        let mut tenants = self.tenants.write();
        let list = tenants.entry(tenant.clone()).or_default();
        list.is_listed |= found.is_listed;
        let is_there =
            |id: &BlockId| found.blocks.contains_key(id) || found.superseded.contains(id);
        list.superseded.retain(is_there);
        for (id, block) in &found.blocks {
            if !before.blocks.contains_key(id) && !list.superseded.contains(id) {
                let entry = BlockEntry::new(tenant.clone(), *block, now_ms);
                list.blocks.entry(*id).or_insert_with(|| Arc::new(entry));
            }
        }
        gone.iter().for_each(|id| drop(list.blocks.remove(id)));
        drop(tenants);
        self.note_unreadable(tenant, found.unreadable);
        Ok(())
    }

    fn known(&self, tenant: &TenantId) -> TenantList {
        let tenants = self.tenants.read();
        tenants.get(tenant).cloned().unwrap_or_default()
    }

    /// The tenant's bucket index, unless there is none that can be relied on.
    async fn read_index(&self, tenant: &TenantId) -> Result<Option<BucketIndex>> {
        let path = format!("{tenant}/{}", BucketIndex::FILE_NAME);
        let bytes = match self.blocks.bucket.get(&path).await {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let max_bytes = self.settings.max_bucket_index_size.as_u64();
        let index = match in_place(|| BucketIndex::decode(&path, &bytes, max_bytes)) {
            Ok(index) => index,
            Err(e) => {
                tracing::warn!(%tenant, error = %e, "bucket index cannot be read; the blocks are listed instead");
                return Ok(None);
            }
        };
        let max_age_s = self.settings.max_stale_period.as_secs();
        let now_s = self.blocks.now_ms().to_seconds();
        if now_s.saturating_sub(index.updated_at_s) > i64::try_from(max_age_s).unwrap_or(i64::MAX) {
            tracing::warn!(%tenant, updated_at = index.updated_at_s, "bucket index is older than max_stale_period; the blocks are listed instead");
            return Ok(None);
        }
        Ok(Some(index))
    }

    fn take_index(&self, index: BucketIndex, found: &mut FoundBlocks) {
        let delay_s = self.settings.ignore_deletion_marks_delay.as_secs();
        let now_s = self.blocks.now_ms().to_seconds();
        let ignored_before = now_s.saturating_sub_unsigned(delay_s);
        let marks = index.block_deletion_marks.iter();
        let marks = marks.filter(|m| m.deletion_time_s <= ignored_before);
        found.ignored = marks.map(|m| m.id).collect();
        let blocks = index.blocks.iter().map(ListedBlock::from);
        let read = blocks.filter(|b| !found.ignored.contains(&b.id));
        found.blocks = read.map(|b| (b.id, b)).collect();
        let unreadable = index.unreadable_blocks.into_iter();
        found.unreadable = unreadable.map(|b| (b.id, b.reason)).collect();
        found.as_of_ms = TimestampMs::new(index.updated_at_s.saturating_mul(1000));
    }

    /// Adds the blocks that a listing has.
    async fn list_blocks(
        &self,
        tenant: &TenantId,
        before: &TenantList,
        found: &mut FoundBlocks,
    ) -> Result<()> {
        let bucket = &self.blocks.bucket;
        found.as_of_ms = self.blocks.now_ms();
        let listing = bucket.list_with_delimiter(tenant.as_str()).await?;
        let names = listing.folders.iter().filter_map(|f| f.rsplit('/').next());
        for id in names.filter_map(|f| f.parse::<BlockId>().ok()) {
            if found.blocks.contains_key(&id) || found.ignored.contains(&id) {
                continue;
            }
            if let Some(entry) = before.blocks.get(&id) {
                found.blocks.insert(id, entry.block);
                continue;
            }
            if before.superseded.contains(&id) {
                found.superseded.insert(id);
                continue;
            }
            let meta = match bucket.get(&format!("{tenant}/{id}/meta.json")).await {
                Ok(bytes) => BlockMeta::decode(&bytes).map_err(|e| e.to_string()),
                // An upload under way, or one that was never finished.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => Err(e.to_string()),
            };
            match meta {
                Ok(meta) => {
                    let block = ListedBlock {
                        id,
                        ..ListedBlock::from(&meta)
                    };
                    found.blocks.insert(id, block);
                    found.unreadable.remove(&id);
                }
                Err(e) => drop(found.unreadable.insert(id, e)),
            }
        }
        found.is_listed = true;
        Ok(())
    }

    /// Blocks of the list that are to be read no more.
    async fn gone(&self, before: &TenantList, found: &FoundBlocks) -> Result<Vec<BlockId>> {
        let mut gone = Vec::new();
        for (id, entry) in &before.blocks {
            // What was found may be older than the block: then its own object decides.
            let is_gone = found.ignored.contains(id)
                || !found.blocks.contains_key(id)
                    && entry.added_ms <= found.as_of_ms
                    && !self
                        .blocks
                        .bucket
                        .exists(&format!("{}/meta.json", entry.folder()))
                        .await?;
            if is_gone {
                gone.push(*id);
            } else {
                entry.forgive();
            }
        }
        Ok(gone)
    }

    fn note_unreadable(&self, tenant: &TenantId, found: BTreeMap<BlockId, String>) {
        let mut all = self.unreadable.lock();
        for (id, e) in &found {
            if all.get(&(tenant.clone(), *id)) != Some(e) {
                tracing::error!(%tenant, block = %id, error = e, "block set aside: it cannot be read");
            }
        }
        all.retain(|(t, _), _| t != tenant);
        all.extend(found.into_iter().map(|(id, e)| ((tenant.clone(), id), e)));
    }
}
