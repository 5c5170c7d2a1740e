//! Blocks in object storage as a component: [`BucketSelect`] read in this process.

use async_trait::async_trait;
use futures::StreamExt;
use lgtm_core::Result;
use lgtm_core::model::TenantId;

use super::clients::{FindTrace, StoreGatewayClient};
use super::requests::{FoundTrace, TraceRequest};
use crate::bucket::BucketSelect;
use crate::select::{FetchStats, SelectEnd};

/// Blocks that are asked for a trace at a time. Most say no by their filter, which is in memory once it was asked.
const CONCURRENCY: usize = 16;

impl StoreGatewayClient for BucketSelect {}

#[async_trait]
impl FindTrace for BucketSelect {
    async fn find_trace(&self, tenant: &TenantId, request: &TraceRequest) -> Result<FoundTrace> {
        let range = request.range.map(|r| (r.start_ns, r.end_ns));
        let (blocks, warnings) = self.blocks(tenant, range).await?;
        let mut found = FoundTrace {
            end: SelectEnd {
                warnings,
                stats: FetchStats {
                    total_blocks: blocks.len() as u64,
                    total_block_bytes: blocks.iter().map(|b| b.meta().size_bytes).sum(),
                    ..FetchStats::default()
                },
            },
            ..FoundTrace::default()
        };
        let id = request.id;
        let asked = blocks.into_iter().map(|block| async move {
            let part = block.find(id).await;
            (block, part)
        });
        // In the order of blocks, so that the answer is the same at every call.
        let mut asked = futures::stream::iter(asked).buffered(CONCURRENCY);
        while let Some((block, part)) = asked.next().await {
            let mut answer = FoundTrace::default();
            match part {
                Ok(part) => answer.bytes = part.unwrap_or_default(),
                Err(e) => answer.end.warnings.push(block.missing(&e)),
            }
            found.merge(answer, request.max_bytes);
            if found.bytes.len() > request.max_bytes {
                // Others may have more of it.
                found.is_cut = true;
                break;
            }
        }
        found.end.stats.inspected_bytes = found.bytes.len() as u64;
        Ok(found)
    }
}
