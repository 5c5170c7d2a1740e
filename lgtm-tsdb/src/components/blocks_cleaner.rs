//! Keeps the bucket clean, and writes the index of each tenant's blocks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lgtm_core::exec::{CancelToken, in_place};
use lgtm_core::model::TenantId;
use lgtm_core::storage::delete_leftovers;
use lgtm_core::{Error, Result};

use super::compaction_counts::{MarkReason, TenantCounts};
use super::compactor::CompactorParts;
use crate::block::{BLOCK_LEFTOVERS, BucketIndex, TenantDeletionMark};
use crate::block_id::BlockId;
use crate::bucket::{MARKERS_FOLDER, TenantBlocks, delete_block, deletion_time_s};
use crate::compact::{CompactionStage, plan};

/// The half of a compactor that deletes.
#[derive(Debug)]
pub(super) struct BlocksCleaner {
    parts: Arc<CompactorParts>,
    /// One round at a time.
    working: tokio::sync::Mutex<()>,
}

impl BlocksCleaner {
    pub(super) fn new(parts: Arc<CompactorParts>) -> Self {
        Self {
            parts,
            working: tokio::sync::Mutex::default(),
        }
    }

    pub(super) async fn clean(&self, cancel: &CancelToken) -> Result<()> {
        let _one = self.working.lock().await;
        let counts = &self.parts.counts;
        counts.cleanups_started.fetch_add(1, Ordering::Relaxed);
        let done = self.round(cancel).await;
        match &done {
            Ok(()) => {
                counts.cleanups_completed.fetch_add(1, Ordering::Relaxed);
                let now_ms = self.parts.clock.now_ms().get();
                counts
                    .cleanup_last_success_ms
                    .store(now_ms, Ordering::Relaxed);
            }
            Err(_) => drop(counts.cleanups_failed.fetch_add(1, Ordering::Relaxed)),
        }
        done
    }

    async fn round(&self, cancel: &CancelToken) -> Result<()> {
        let parts = &self.parts;
        parts.claim.ensure(&parts.bucket).await?;
        let tenants = parts.bucket.tenants().await?;
        parts.counts.keep_tenants(&tenants);
        let mut failed = None;
        for tenant in &tenants {
            if !(parts.owns)(tenant.as_str()) {
                continue;
            }
            cancel.check("cleaning")?;
            if let Err(e) = self.clean_tenant(tenant).await {
                tracing::warn!(%tenant, error = %e, "the blocks of a tenant cannot all be cleaned; it is tried again");
                failed.get_or_insert(e);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn clean_tenant(&self, tenant: &TenantId) -> Result<()> {
        let parts = &self.parts;
        let mut found = parts.scanner.scan(tenant, parts.clock.now_ms()).await?;
        if let Some(deletion) = found.deletion.take() {
            parts.counts.note_tenant(tenant, None);
            return self.delete_tenant(tenant, deletion, &found).await;
        }
        let mut failed = self.apply_retention(tenant, &mut found).await.err();
        failed = failed.or(self.delete_marked(tenant, &mut found).await.err());
        failed = failed.or(self.delete_partial(tenant, &mut found).await.err());
        let written = self.write_index(tenant, &found).await;
        self.count(tenant, &found, written.is_ok());
        failed = failed.or(written.err());
        failed.map_or(Ok(()), Err)
    }

    /// Marks blocks that are older than the tenant's samples are kept.
    async fn apply_retention(&self, tenant: &TenantId, found: &mut TenantBlocks) -> Result<()> {
        let period = self.parts.limits.for_tenant(tenant);
        let period = period.compactor_blocks_retention_period;
        if period.is_zero() {
            return Ok(());
        }
        let oldest_ms = found.scanned_ms.saturating_sub(as_ms(period));
        let mut old = found.live();
        old.retain(|m| m.max_ms <= oldest_ms);
        for meta in old {
            self.parts
                .mark(tenant, meta.ulid, MarkReason::Retention, found)
                .await?;
            tracing::info!(%tenant, block = %meta.ulid, "block marked for deletion by retention");
        }
        Ok(())
    }

    /// Deletes blocks that were marked long enough ago.
    async fn delete_marked(&self, tenant: &TenantId, found: &mut TenantBlocks) -> Result<()> {
        let delay_s = self.parts.settings.deletion_delay.as_secs();
        let marked_before_s = self.parts.now_s().saturating_sub_unsigned(delay_s);
        let marks = found.deletion_marks.iter();
        let due = marks.filter(|(_, time)| time.is_some_and(|t| t <= marked_before_s));
        let due: Vec<(BlockId, Option<i64>)> = due.map(|(id, time)| (*id, *time)).collect();
        for (id, time) in due {
            // A mark has no checksum, and what is deleted does not come back.
            let again = deletion_time_s(&self.parts.bucket, tenant, id).await?;
            if again.is_some() && again != time {
                self.parts.scanner.forget(tenant);
                let mark =
                    format!("{tenant}/{id}: its deletion mark says {again:?}, and {time:?} before");
                return Err(Error::Unavailable(mark));
            }
            self.delete(tenant, id).await?;
            found.blocks.remove(&id);
            found.deletion_marks.remove(&id);
            tracing::info!(%tenant, block = %id, "block deleted");
        }
        Ok(())
    }

    async fn delete(&self, tenant: &TenantId, id: BlockId) -> Result<()> {
        if let Some(blocks) = &self.parts.blocks {
            blocks.forget(tenant, &[id]);
        }
        delete_block(&self.parts.bucket, tenant, id).await?;
        self.parts
            .counts
            .blocks_cleaned
            .fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Deletes what uploads that never ended have left.
    async fn delete_partial(&self, tenant: &TenantId, found: &mut TenantBlocks) -> Result<()> {
        let parts = &self.parts;
        let delay = parts.limits.for_tenant(tenant);
        let delay = delay.compactor_partial_block_deletion_delay;
        if delay.is_zero() || found.partial.is_empty() {
            return Ok(());
        }
        let (rule, now_ms) = (&BLOCK_LEFTOVERS, parts.clock.now_ms());
        let deleted = delete_leftovers(&parts.bucket, tenant, rule, now_ms, as_ms(delay)).await?;
        for block in &deleted {
            tracing::info!(%tenant, block = block.folder, objects = block.objects.len(), "partial block deleted");
            let id: Option<BlockId> = block.folder.parse().ok();
            found.partial.retain(|p| Some(*p) != id);
        }
        let count = deleted.len() as u64;
        parts
            .counts
            .blocks_cleaned
            .fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    /// Writes the bucket index; of a tenant without anything it is deleted.
    async fn write_index(&self, tenant: &TenantId, found: &TenantBlocks) -> Result<()> {
        let path = format!("{tenant}/{}", BucketIndex::FILE_NAME);
        let bucket = &self.parts.bucket;
        if found.blocks.is_empty() && found.unreadable.is_empty() && found.deletion_marks.is_empty()
        {
            return bucket.delete(&path).await;
        }
        let index = in_place(|| found.index().encode())?;
        bucket.put(&path, index).await
    }

    /// Deletes all that a tenant has; the mark goes last, and a while after the rest.
    async fn delete_tenant(
        &self,
        tenant: &TenantId,
        mut deletion: TenantDeletionMark,
        found: &TenantBlocks,
    ) -> Result<()> {
        let mut ids: BTreeSet<BlockId> = found.blocks.keys().copied().collect();
        ids.extend(found.deletion_marks.keys());
        ids.extend(found.no_compact.iter());
        ids.extend(found.partial.iter());
        ids.extend(found.unreadable.keys());
        for &id in &ids {
            self.delete(tenant, id).await?;
        }
        let bucket = &self.parts.bucket;
        let index = format!("{tenant}/{}", BucketIndex::FILE_NAME);
        bucket.delete(&index).await?;
        let mark = format!(
            "{tenant}/{MARKERS_FOLDER}/{}",
            TenantDeletionMark::FILE_NAME
        );
        let now_s = self.parts.now_s();
        if deletion.finished_time_s == 0 || !ids.is_empty() {
            deletion.finished_time_s = now_s;
            bucket.put(&mark, deletion.encode()?).await?;
            tracing::info!(%tenant, blocks = ids.len(), "all blocks of a deleted tenant are gone");
            return Ok(());
        }
        let delay_s = self.parts.settings.tenant_cleanup_delay.as_secs();
        if now_s >= deletion.finished_time_s.saturating_add_unsigned(delay_s) {
            let left = bucket.list_sorted(tenant.as_str()).await?;
            let left: Vec<&str> = left.iter().map(|o| o.path.as_str()).collect();
            let rest: Vec<&str> = left.into_iter().filter(|p| *p != mark).collect();
            bucket.delete_all(&rest).await?;
            bucket.delete(&mark).await?;
            tracing::info!(%tenant, "a deleted tenant is gone");
        }
        Ok(())
    }

    fn count(&self, tenant: &TenantId, found: &TenantBlocks, is_written: bool) {
        let parts = &self.parts;
        let rules = parts.settings.rules(&parts.limits.for_tenant(tenant));
        let mut blocks = found.live();
        blocks.retain(|m| !found.no_compact.contains(&m.ulid));
        let jobs = plan(&blocks, &rules, found.scanned_ms);
        let of_stage = |stage| jobs.iter().filter(|j| j.stage == stage).count() as u64;
        let before = parts
            .counts
            .tenants()
            .get(tenant)
            .map(|c| c.index_updated_s);
        let counts = TenantCounts {
            blocks: found.blocks.len() as u64,
            marked_for_deletion: found.deletion_marks.len() as u64,
            marked_no_compact: found.no_compact.len() as u64,
            partial: found.partial.len() as u64,
            unreadable: found.unreadable.len() as u64,
            split_jobs: of_stage(CompactionStage::Split),
            merge_jobs: of_stage(CompactionStage::Merge),
            index_updated_s: if is_written {
                parts.now_s()
            } else {
                before.unwrap_or(0)
            },
        };
        parts.counts.note_tenant(tenant, Some(counts));
    }
}

fn as_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
