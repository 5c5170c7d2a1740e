//! The bucket as a holder of spans.
//!
//! Blocks are read one after the other, newest first, row group by row group. Nothing of a block is ruled out but by its times: filters on columns and
//! the side files that rule out row groups are not here yet, so that a search costs the decoding of all rows of the range. A trace that lies in
//! several blocks comes once of each.

use std::sync::Arc;

use async_trait::async_trait;
use hashbrown::HashMap;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::{TenantId, TimestampNs, merge_warnings};
use lgtm_core::storage::Bucket;
use lgtm_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use super::block_list::BlockList;
use super::open_block::{BlockTraces, OpenBlock};
use super::settings::BucketSettings;
use crate::block::BlockMeta;
use crate::block_id::BlockId;
use crate::select::{
    DecodedBatches, FetchStats, Select, SelectEnd, SpanBatches, SpanRequest, TraceBytes,
    TraceReader,
};
use crate::trace::TraceId;

/// Blocks of which footer and filters are kept.
const MAX_OPEN_BLOCKS: usize = 1000;

/// Answers from the blocks of a bucket.
#[derive(Debug)]
pub struct BucketSelect {
    bucket: Bucket,
    executor: Executor,
    list: Arc<BlockList>,
    max_bytes: usize,
    open: Mutex<HashMap<(TenantId, BlockId), Arc<OpenBlock>>>,
}

impl BucketSelect {
    /// A holder of what `bucket` has, by that list.
    pub fn new(
        bucket: Bucket,
        executor: Executor,
        list: Arc<BlockList>,
        settings: &BucketSettings,
    ) -> Self {
        Self {
            bucket,
            executor,
            list,
            max_bytes: settings.max_trace_memory.as_usize(),
            open: Mutex::default(),
        }
    }

    /// The blocks of a tenant that may have spans between two times, newest first, and what is missing from the list.
    ///
    /// # Errors
    /// As [`BlockList::blocks`].
    pub async fn blocks(
        &self,
        tenant: &TenantId,
        range: Option<(u64, u64)>,
    ) -> Result<(Vec<Arc<OpenBlock>>, Vec<String>)> {
        let listed = self.list.blocks(tenant).await?;
        let mut warnings = listed.warnings.clone();
        let time = |ns: u64| TimestampNs::new(i64::try_from(ns).unwrap_or(i64::MAX));
        let wanted = listed
            .live
            .iter()
            .filter(|meta| range.is_none_or(|(from, to)| meta.overlaps(time(from), time(to))));
        let mut blocks = Vec::new();
        for meta in wanted {
            match self.open(tenant, meta) {
                Ok(block) => blocks.push(block),
                Err(e) => {
                    let id = meta.block_id;
                    warnings.push(format!("block {id} is missing from the answer: {e}"));
                }
            }
        }
        blocks.sort_by_key(|b| std::cmp::Reverse((b.meta().end, b.meta().block_id)));
        Ok((blocks, warnings))
    }

    fn open(&self, tenant: &TenantId, meta: &BlockMeta) -> Result<Arc<OpenBlock>> {
        let key = (tenant.clone(), meta.block_id);
        let mut open = self.open.lock();
        if let Some(block) = open.get(&key) {
            return Ok(Arc::clone(block));
        }
        let (bucket, executor) = (self.bucket.clone(), self.executor.clone());
        let block = OpenBlock::new(bucket, executor, tenant, meta.clone(), self.max_bytes)?;
        let block = Arc::new(block);
        if open.len() >= MAX_OPEN_BLOCKS {
            // Those that nobody reads; all others end with their query.
            open.retain(|_, block| Arc::strong_count(block) > 1);
        }
        open.insert(key, Arc::clone(&block));
        Ok(block)
    }

    /// The parts of a trace that the bucket has, each as the protobuf message `Trace`; and what could not be looked at. Blocks of a range are looked
    /// into one after the other: most say no by their filter, which is kept.
    ///
    /// # Errors
    /// As [`BlockList::blocks`].
    pub async fn find(
        &self,
        tenant: &TenantId,
        id: TraceId,
        range: Option<(u64, u64)>,
    ) -> Result<(Vec<Vec<u8>>, Vec<String>)> {
        let (blocks, mut warnings) = self.blocks(tenant, range).await?;
        let mut parts = Vec::new();
        for block in blocks {
            match block.find(id).await {
                Ok(part) => parts.extend(part),
                Err(e) => merge_warnings(&mut warnings, vec![lacks(&block, &e)]),
            }
        }
        Ok((parts, warnings))
    }
}

/// What an answer says that lacks a block.
fn lacks(block: &OpenBlock, e: &Error) -> String {
    format!(
        "block {} is missing from the answer: {e}",
        block.meta().block_id
    )
}

#[async_trait]
impl Select for BucketSelect {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SpanRequest,
    ) -> Result<Box<dyn SpanBatches>> {
        let range = request.traces.map(|r| (r.start_ns, r.end_ns));
        let range = range.or(request.starts.map(|r| (r.after_ns, r.until_ns)));
        let (mut blocks, warnings) = self.blocks(tenant, range).await?;
        let mut stats = FetchStats {
            total_blocks: blocks.len() as u64,
            ..FetchStats::default()
        };
        stats.total_block_bytes = blocks.iter().map(|b| b.meta().size_bytes).sum();
        // The last one is read next.
        blocks.reverse();
        let executor = self.executor.in_line(tenant.as_str());
        let reader = BucketReader {
            blocks,
            executor: executor.clone(),
            max_bytes: self.max_bytes,
            next_group: 0,
            open: None,
            read: Vec::new(),
            end: SelectEnd { warnings, stats },
        };
        Ok(Box::new(DecodedBatches::new(reader, executor, request)))
    }
}

/// Reads blocks one after the other.
#[derive(Debug)]
struct BucketReader {
    /// Those that are not read to their end; the last one is being read.
    blocks: Vec<Arc<OpenBlock>>,
    executor: Executor,
    max_bytes: usize,
    next_group: usize,
    /// The row group that is being read.
    open: Option<BlockTraces>,
    /// Blocks that traces came from; a trace's place is the number of its block among them.
    read: Vec<Arc<OpenBlock>>,
    end: SelectEnd,
}

impl BucketReader {
    /// Opens the next row group; `None` when all is read.
    async fn next_group(&mut self) -> Result<Option<BlockTraces>> {
        while let Some(block) = self.blocks.last().cloned() {
            let opened = match block.file().await {
                Ok(file) if self.next_group < file.row_groups.len() => {
                    block.row_group(self.next_group, self.max_bytes).await
                }
                Ok(_) => {
                    self.next_block();
                    continue;
                }
                Err(e) => Err(e),
            };
            match opened {
                Ok(traces) => {
                    if self.next_group == 0 {
                        self.read.push(Arc::clone(&block));
                    }
                    self.next_group += 1;
                    return Ok(Some(traces));
                }
                Err(e) => {
                    // The rest of the block may be as it is; but half a block is worse than none, since nobody knows which half.
                    self.pass_over(&block, &e);
                }
            }
        }
        Ok(None)
    }

    fn next_block(&mut self) {
        self.blocks.pop();
        self.next_group = 0;
    }

    fn pass_over(&mut self, block: &OpenBlock, e: &Error) {
        if e.kind() != ErrorKind::NotFound {
            tracing::error!(block = %block.meta().block_id, error = %e, "a block cannot be read; queries go on without it");
        }
        merge_warnings(&mut self.end.warnings, vec![lacks(block, e)]);
        self.next_block();
    }
}

#[async_trait]
impl TraceReader for BucketReader {
    async fn next_traces(&mut self, max_bytes: usize) -> Result<Vec<TraceBytes>> {
        loop {
            let traces = match self.open.take() {
                Some(traces) => Some(traces),
                None => self.next_group().await?,
            };
            let Some(mut traces) = traces else {
                return Ok(Vec::new());
            };
            let place = self.read.len() as u32 - 1;
            let job = move |_: &CancelToken| {
                let (mut out, mut bytes) = (Vec::new(), 0);
                while bytes < max_bytes {
                    let mut trace = Vec::new();
                    match traces.next_trace(&mut trace) {
                        Ok(Some(id)) => {
                            bytes += trace.len();
                            out.push(TraceBytes {
                                id,
                                place,
                                bytes: trace,
                            });
                        }
                        Ok(None) => return Ok::<_, Error>((None, out, None)),
                        Err(e) => return Ok((None, out, Some(e))),
                    }
                }
                Ok((Some(traces), out, None))
            };
            let (rest, out, failed) = self.executor.run(job, &CancelToken::new()).await?;
            self.open = rest;
            if let (Some(e), Some(block)) = (failed, self.blocks.last().cloned()) {
                self.pass_over(&block, &e);
            }
            if !out.is_empty() {
                return Ok(out);
            }
        }
    }

    async fn find(&mut self, id: TraceId, place: u32) -> Result<Option<TraceBytes>> {
        let Some(block) = self.read.get(place as usize) else {
            return Ok(None);
        };
        let found = block.find(id).await?;
        Ok(found.map(|bytes| TraceBytes { id, place, bytes }))
    }

    fn newest_start_ns(&self) -> Option<u64> {
        let ends = self.blocks.iter().map(|b| b.meta().end.get());
        Some(ends.max().map_or(0, |end| u64::try_from(end).unwrap_or(0)))
    }

    fn end(&mut self) -> SelectEnd {
        std::mem::take(&mut self.end)
    }
}
