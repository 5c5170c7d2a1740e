//! In which blocks parts of traces lie.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use lgtm_core::Result;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::{TimestampNs, merge_warnings};

use super::open_block::OpenBlock;
use crate::bloom::{BloomShard, shard_of};
use crate::select::TraceSpot;
use crate::trace::TraceId;

/// So many looks into filters cost less than a hand-over to the compute pool.
const INLINE_LOOKS: usize = 200;

/// The filters of a block that say whether it has some ids, by number; one that cannot be read is missing.
#[derive(Debug)]
struct BlockFilters {
    start: TimestampNs,
    end: TimestampNs,
    shard_count: u32,
    shards: HashMap<u32, Bytes>,
}

impl BlockFilters {
    fn may_have(&self, spot: &TraceSpot) -> bool {
        if !overlaps(self.start, self.end, spot) {
            return false;
        }
        let shard = self.shards.get(&shard_of(spot.id, self.shard_count));
        let filter = shard.and_then(|file| BloomShard::open(file).ok());
        filter.is_none_or(|filter| filter.may_contain(spot.id))
    }
}

fn overlaps(start: TimestampNs, end: TimestampNs, spot: &TraceSpot) -> bool {
    let time = |ns: u64| TimestampNs::new(i64::try_from(ns).unwrap_or(i64::MAX));
    (spot.range).is_none_or(|r| start <= time(r.end_ns) && time(r.start_ns) <= end)
}

/// In how many of these blocks each trace may lie, by their filters. A filter that cannot be read says yes.
pub(super) async fn count_places(
    executor: &Executor,
    blocks: &[Arc<OpenBlock>],
    traces: &[TraceSpot],
) -> Result<Vec<u32>> {
    if traces.is_empty() || blocks.is_empty() {
        return Ok(vec![0; traces.len()]);
    }
    let mut filters = Vec::with_capacity(blocks.len());
    for block in blocks {
        let meta = block.meta();
        let spots = traces.iter();
        let spots = spots.filter(|spot| overlaps(meta.start, meta.end, spot));
        let wanted: BTreeSet<u32> = spots
            .map(|spot| shard_of(spot.id, meta.bloom_shards))
            .collect();
        let mut shards = HashMap::with_capacity(wanted.len());
        for shard in wanted {
            match block.bloom(shard).await {
                Ok(file) => shards.extend(file.map(|file| (shard, file))),
                Err(e) => {
                    tracing::warn!(block = %meta.block_id, error = %e, "a bloom filter cannot be read; the block may have any trace");
                }
            }
        }
        filters.push(BlockFilters {
            start: meta.start,
            end: meta.end,
            shard_count: meta.bloom_shards,
            shards,
        });
    }
    if traces.len() * filters.len() <= INLINE_LOOKS {
        return count_by(&filters, traces, &CancelToken::new());
    }
    let traces = traces.to_vec();
    let job = move |cancel: &CancelToken| count_by(&filters, &traces, cancel);
    executor.run(job, &CancelToken::new()).await
}

fn count_by(
    filters: &[BlockFilters],
    traces: &[TraceSpot],
    cancel: &CancelToken,
) -> Result<Vec<u32>> {
    let mut counts = vec![0; traces.len()];
    for filters in filters {
        cancel.check("the look for parts of traces")?;
        for (count, spot) in counts.iter_mut().zip(traces) {
            *count += u32::from(filters.may_have(spot));
        }
    }
    Ok(counts)
}

/// The parts of a trace in these blocks, one after the other, and what could not be read.
pub(super) async fn whole_trace(blocks: &[Arc<OpenBlock>], id: TraceId) -> (Vec<u8>, Vec<String>) {
    let (mut out, mut warnings) = (Vec::new(), Vec::new());
    for block in blocks {
        match block.find(id).await {
            Ok(part) => out.extend_from_slice(&part.unwrap_or_default()),
            Err(e) => merge_warnings(&mut warnings, vec![block.missing(&e)]),
        }
    }
    (out, warnings)
}
