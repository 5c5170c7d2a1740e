//! Blocks in object storage as a component: [`BucketSelect`] read in this process.

use async_trait::async_trait;
use futures::StreamExt;
use lgtm_core::Result;
use lgtm_core::model::TenantId;

use super::clients::{FindTrace, StoreGatewayClient};
use super::requests::{FoundTrace, TraceRequest};
use super::trace_join::TraceJoin;
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
        let listed = SelectEnd {
            warnings,
            stats: FetchStats {
                total_blocks: blocks.len() as u64,
                total_block_bytes: blocks.iter().map(|b| b.meta().size_bytes).sum(),
                ..FetchStats::default()
            },
        };
        // Several blocks may have the same of it: those of its replicas.
        let mut join = TraceJoin::new(self.executor(tenant), request);
        join.add(FoundTrace {
            end: listed,
            ..FoundTrace::default()
        })
        .await?;
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
            join.add(answer).await?;
            if join.is_full() {
                // Others may have more of it.
                break;
            }
        }
        let mut found = join.finish();
        found.end.stats.inspected_bytes = found.bytes.len() as u64;
        Ok(found)
    }
}
