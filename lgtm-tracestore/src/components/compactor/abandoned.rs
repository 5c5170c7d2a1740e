//! What uploads left that broke off.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lgtm_core::Result;
use lgtm_core::model::TenantId;

use super::Compactor;
use crate::block_id::BlockId;
use crate::bucket::UnfinishedBlock;

/// Folders of blocks without a meta, and since when they are seen as they are, on the clock that never goes back.
pub(super) type SeenUnfinished = BTreeMap<TenantId, Vec<(UnfinishedBlock, Duration)>>;

impl Compactor {
    /// Deletes what uploads left that broke off. Other processes may be uploading: only what does not change for long is given up. The time is that for which
    /// this process has seen it, since the store's clock may be another.
    pub(super) async fn delete_abandoned(
        &self,
        tenant: &TenantId,
        found: &[UnfinishedBlock],
    ) -> Result<()> {
        let now = self.clock.monotonic();
        let abandoned: Vec<BlockId> = {
            let mut unfinished = self.unfinished.lock();
            let before = unfinished.remove(tenant).unwrap_or_default();
            let since = |found: &UnfinishedBlock| {
                let seen = before.iter().find(|(known, _)| known == found);
                seen.map_or(now, |(_, since)| *since)
            };
            let seen: Vec<_> = found.iter().map(|f| (*f, since(f))).collect();
            let old = seen.iter().filter(|(_, since)| {
                now.saturating_sub(*since) >= self.settings.abandoned_upload_age
            });
            let old = old.map(|(found, _)| found.block).collect();
            if !seen.is_empty() {
                unfinished.insert(tenant.clone(), seen);
            }
            old
        };
        for block in abandoned {
            if self.list.has_block(tenant, block).await? {
                continue;
            }
            self.delete(tenant, block).await?;
            tracing::info!(%tenant, %block, "an upload that broke off was deleted");
            self.counts.uploads_deleted.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
