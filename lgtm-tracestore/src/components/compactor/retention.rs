//! Blocks that are older than their tenant keeps them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lgtm_core::Result;
use lgtm_core::model::TenantId;

use super::Compactor;
use crate::block::BlockMeta;
use crate::bucket::TenantBlocks;
use crate::limits::Limits;

impl Compactor {
    /// Takes blocks out of service of which all ended longer ago than the tenant's `block_retention`. They are deleted as superseded ones are:
    /// `compacted_block_retention` later.
    pub(super) async fn retire_old(
        &self,
        tenant: &TenantId,
        limits: &Limits,
        blocks: &mut TenantBlocks,
    ) -> Result<()> {
        let retention = limits.compaction.block_retention;
        if retention.is_zero() {
            return Ok(());
        }
        let retention = i64::try_from(retention.as_nanos()).unwrap_or(i64::MAX);
        let before = self.clock.now_ms().to_ns().get().saturating_sub(retention);
        let is_old = |meta: &&Arc<BlockMeta>| meta.end.get() < before;
        let old: Vec<_> = blocks.live.iter().filter(is_old).cloned().collect();
        let mut failed = None;
        for meta in old {
            let block = meta.block_id;
            if let Err(e) = self.mark(tenant, block).await {
                tracing::warn!(%tenant, %block, error = %e, "a block that is older than block_retention cannot be marked so; it is tried again");
                failed.get_or_insert(e);
                continue;
            }
            self.list.replace(tenant, &[block], None);
            blocks.retire(&[block], self.clock.now_ms().to_ns());
            tracing::info!(%tenant, %block, end = %meta.end, "a block is older than block_retention; it is deleted a while later");
            self.counts.blocks_retired.fetch_add(1, Ordering::Relaxed);
        }
        failed.map_or(Ok(()), Err)
    }
}
