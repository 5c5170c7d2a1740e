//! Which blocks are joined with which: Mimir's split-and-merge rules (docs/format/block.md).

use std::collections::BTreeMap;
use std::sync::Arc;

use lgtm_core::model::{TenantId, TimeRange, TimestampMs};

use crate::block::{BlockMeta, BlockParent, Compaction, ThanosMeta};
use crate::block_id::BlockId;

/// How blocks are chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactionRules {
    /// Lengths of the ranges that blocks grow to, ascending, milliseconds.
    pub ranges_ms: Vec<i64>,
    /// Shards that the series of a tenant are split into; 0: blocks are not split.
    pub shard_count: u32,
    /// Jobs that the blocks of one range are split by; 0 counts as 1.
    pub split_groups: u32,
}

/// What a job makes of its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CompactionStage {
    /// A block for each shard that has series.
    Split,
    /// One block.
    Merge,
}

/// Blocks that are compacted together.
#[derive(Debug, Clone, PartialEq)]
pub struct CompactionJob {
    /// What becomes of them.
    pub stage: CompactionStage,
    /// Of a merge the shard that all of them are of (empty: none), of a split which of the split groups, each as `i_of_n`.
    pub shard: String,
    /// The aligned range that they lie in.
    pub range: TimeRange,
    /// The blocks, by start, then id: of two different samples of one time that of the later one stays.
    pub inputs: Vec<Arc<BlockMeta>>,
}

impl CompactionJob {
    /// Names the job among those of all tenants; its hash decides in a ring who does it.
    pub fn key(&self, tenant: &TenantId) -> String {
        let stage = match self.stage {
            CompactionStage::Split => "split",
            CompactionStage::Merge => "merge",
        };
        let TimeRange { min_ms, max_ms } = self.range;
        format!("{tenant}-{stage}-{min_ms}-{max_ms}-{}", self.shard)
    }

    /// What the new blocks say of where their data came from.
    pub fn compaction(&self) -> Compaction {
        let level = self.inputs.iter().map(|m| m.compaction.level).max();
        let mut sources: Vec<BlockId> = self.inputs.iter().flat_map(|m| sources_of(m)).collect();
        sources.sort_unstable();
        sources.dedup();
        let parent = |m: &Arc<BlockMeta>| BlockParent {
            ulid: m.ulid,
            min_ms: m.min_ms,
            max_ms: m.max_ms,
            unknown: serde_json::Map::new(),
        };
        let is_out_of_order = self.inputs.iter().all(|m| m.is_out_of_order());
        let hint = is_out_of_order.then(|| Compaction::FROM_OUT_OF_ORDER.to_owned());
        Compaction {
            level: level.unwrap_or(0).saturating_add(1),
            sources,
            parents: self.inputs.iter().map(parent).collect(),
            hints: hint.into_iter().collect(),
            ..Compaction::default()
        }
    }

    /// From the first start to the last end of the blocks.
    pub fn time_range(&self) -> TimeRange {
        let min_ms = self.inputs.iter().map(|m| m.min_ms).min();
        let max_ms = self.inputs.iter().map(|m| m.max_ms).max();
        TimeRange {
            min_ms: min_ms.unwrap_or(self.range.min_ms),
            max_ms: max_ms.unwrap_or(self.range.max_ms),
        }
    }

    /// The external labels that the blocks share.
    pub fn external_labels(&self) -> BTreeMap<String, String> {
        let first = self.inputs.first();
        first.map(|m| external_labels(m)).unwrap_or_default()
    }

    fn length_ms(&self) -> i64 {
        self.range.max_ms.since(self.range.min_ms)
    }

    /// Whether the other has to be done first: its blocks are some of what this one would take.
    fn conflicts(&self, other: &Self) -> bool {
        let may_share_blocks = self.stage != other.stage || self.shard == other.shard;
        may_share_blocks && self.range.overlaps(&other.range)
    }

    /// Whether no block is to be expected any more that belongs to the job, or it pays even so.
    fn is_due(&self, newest_end_ms: TimestampMs, now_ms: TimestampMs) -> bool {
        let TimeRange { min_ms, max_ms } = self.time_range();
        self.range.max_ms <= newest_end_ms
            || self.range.max_ms.saturating_add(self.length_ms()) <= now_ms
            || self.inputs.iter().all(|m| m.compaction.level <= 1)
            || max_ms.since(min_ms) == self.length_ms()
    }
}

/// Jobs of which no two have a block in common: the shortest ranges first, of these the oldest.
///
/// `blocks` are those that may be compacted: without a deletion mark or a no-compact mark.
pub fn plan(
    blocks: &[Arc<BlockMeta>],
    rules: &CompactionRules,
    now_ms: TimestampMs,
) -> Vec<CompactionJob> {
    let mut groups: BTreeMap<BTreeMap<String, String>, Vec<&Arc<BlockMeta>>> = BTreeMap::new();
    for meta in blocks.iter().filter(|m| is_compactable(m)) {
        groups.entry(external_labels(meta)).or_default().push(meta);
    }
    let newest_end_ms = blocks.iter().map(|m| m.max_ms).max();
    let newest_end_ms = newest_end_ms.unwrap_or(TimestampMs::MIN);
    let mut jobs = Vec::new();
    for group in groups.values_mut() {
        group.sort_by_key(|m| (m.min_ms, m.ulid));
        let mut planned: Vec<CompactionJob> = Vec::new();
        for (n, &length_ms) in rules.ranges_ms.iter().enumerate() {
            for candidate in jobs_of_range(group, length_ms, n == 0, rules) {
                if !planned.iter().any(|job| candidate.conflicts(job)) {
                    planned.push(candidate);
                }
            }
        }
        jobs.extend(planned);
    }
    jobs.retain(|job| job.is_due(newest_end_ms, now_ms));
    jobs.sort_by(|a, b| {
        let key = |job: &CompactionJob| (job.length_ms(), job.range.min_ms, job.stage);
        key(a).cmp(&key(b)).then_with(|| a.shard.cmp(&b.shard))
    });
    jobs
}

/// Blocks of which other blocks have all data, so that they may be deleted: what a compaction that was interrupted has left, and what two have
/// written twice.
///
/// `blocks` are those without a deletion mark.
pub fn redundant(blocks: &[Arc<BlockMeta>]) -> Vec<BlockId> {
    let sources: Vec<Vec<BlockId>> = blocks.iter().map(|m| sources_of(m)).collect();
    // Only blocks with one of its sources may have all of them.
    let mut having: BTreeMap<BlockId, Vec<usize>> = BTreeMap::new();
    for (n, of_block) in sources.iter().enumerate() {
        for source in of_block {
            having.entry(*source).or_default().push(n);
        }
    }
    let covers = |other: usize, one: usize| {
        let (all, some) = (&sources[other], &sources[one]);
        let is_subset = some.iter().all(|s| all.binary_search(s).is_ok());
        // Of two that have the same the one stays that was made first.
        is_subset && (all.len() > some.len() || blocks[other].ulid < blocks[one].ulid)
    };
    let is_redundant = |&n: &usize| {
        let shard = blocks[n].shard_id();
        let mut shards: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let others = sources[n].first().and_then(|s| having.get(s));
        for &other in others.into_iter().flatten().filter(|&&o| covers(o, n)) {
            if blocks[other].shard_id() == shard {
                return true;
            }
            if let Some((part, count)) =
                parse_shard(blocks[other].shard_id()).filter(|_| shard.is_empty())
            {
                shards.entry(count).or_default().push(part);
            }
        }
        let is_whole = |count: u32, parts: &[u32]| (1..=count).all(|part| parts.contains(&part));
        shards.iter().any(|(&count, parts)| is_whole(count, parts))
    };
    let found = (0..blocks.len()).filter(is_redundant);
    found.map(|n| blocks[n].ulid).collect()
}

/// The level-1 blocks that a block's data came from, ascending; where it does not say, it is one itself.
fn sources_of(meta: &BlockMeta) -> Vec<BlockId> {
    let mut sources = meta.compaction.sources.clone();
    if sources.is_empty() {
        sources.push(meta.ulid);
    }
    sources.sort_unstable();
    sources
}

fn is_compactable(meta: &BlockMeta) -> bool {
    let thanos = meta.thanos.as_ref();
    !meta.compaction.failed && thanos.is_none_or(|t| t.downsample.resolution_ms == 0)
}

/// Labels by which blocks are kept apart: all but the shard.
fn external_labels(meta: &BlockMeta) -> BTreeMap<String, String> {
    let mut labels = meta
        .thanos
        .as_ref()
        .map(|t| t.labels.clone())
        .unwrap_or_default();
    labels.remove(ThanosMeta::SHARD_LABEL);
    labels
}

/// `i` and `n` of `i_of_n`.
fn parse_shard(text: &str) -> Option<(u32, u32)> {
    let (shard, count) = text.split_once("_of_")?;
    Some((shard.parse().ok()?, count.parse().ok()?))
}

fn jobs_of_range(
    blocks: &[&Arc<BlockMeta>],
    length_ms: i64,
    is_shortest: bool,
    rules: &CompactionRules,
) -> Vec<CompactionJob> {
    let mut ranges: BTreeMap<TimestampMs, Vec<&Arc<BlockMeta>>> = BTreeMap::new();
    for meta in blocks {
        let start = meta.min_ms.floor(length_ms.max(1));
        // What reaches beyond the range waits for a longer one.
        if meta.max_ms <= start.saturating_add(length_ms) {
            ranges.entry(start).or_default().push(meta);
        }
    }
    let mut jobs = Vec::new();
    for (start, found) in ranges {
        let range = TimeRange::new(start, start.saturating_add(length_ms));
        let mut add = |stage, groups: BTreeMap<String, Vec<Arc<BlockMeta>>>, min_inputs| {
            for (shard, inputs) in groups {
                if inputs.len() >= min_inputs {
                    jobs.push(CompactionJob {
                        stage,
                        shard,
                        range,
                        inputs,
                    });
                }
            }
        };
        let is_unsplit = |m: &&&Arc<BlockMeta>| m.shard_id().is_empty();
        if is_shortest && rules.shard_count > 0 && found.iter().any(|m| is_unsplit(&m)) {
            let count = rules.split_groups.max(1);
            let group_of = |m: &BlockMeta| format!("{}_of_{count}", m.ulid.hash32() % count + 1);
            let unsplit = found.iter().filter(is_unsplit);
            add(CompactionStage::Split, grouped(unsplit, group_of), 1);
        } else {
            let shard_of = |m: &BlockMeta| m.shard_id().to_owned();
            add(CompactionStage::Merge, grouped(found.iter(), shard_of), 2);
        }
    }
    jobs
}

fn grouped<'a>(
    blocks: impl Iterator<Item = &'a &'a Arc<BlockMeta>>,
    key: impl Fn(&BlockMeta) -> String,
) -> BTreeMap<String, Vec<Arc<BlockMeta>>> {
    let mut groups: BTreeMap<String, Vec<Arc<BlockMeta>>> = BTreeMap::new();
    for meta in blocks {
        groups.entry(key(meta)).or_default().push(Arc::clone(meta));
    }
    groups
}

#[cfg(test)]
mod tests;
