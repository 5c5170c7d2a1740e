//! Which blocks are joined with which (docs/format/block.md): windows of time, the newest and the least joined first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lgtm_core::model::TimestampNs;

use crate::block::BlockMeta;
use crate::block_id::BlockId;

/// How blocks are chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactionRules {
    /// Length of a window; blocks are in that of their end. At least a second.
    pub window_s: i64,
    /// For so long blocks of a window are joined level by level, since more of them come; later all of a window are.
    pub active_s: i64,
    /// Blocks that are joined at once, at least and at most.
    pub min_inputs: usize,
    /// At most.
    pub max_inputs: usize,
    /// Traces that a joined block may have, about.
    pub max_traces: u64,
    /// Bytes that it may have, about.
    pub max_bytes: u64,
}

/// Blocks that become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactionJob {
    /// The blocks, in the order in which parts of a trace are taken.
    pub inputs: Vec<Arc<BlockMeta>>,
}

impl CompactionJob {
    /// Levels that the new block is above blocks of a head.
    pub fn level(&self) -> u32 {
        let levels = self.inputs.iter().map(|m| m.compaction_level);
        levels.max().unwrap_or(0).saturating_add(1)
    }
}

/// What blocks of one group share, in the order in which groups are joined.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct GroupKey {
    /// Groups of windows that are not active any more come last.
    is_old: bool,
    level: u32,
    /// The newest first.
    window: std::cmp::Reverse<i64>,
    replication_factor: u32,
}

/// Jobs of which no two have a block in common, the most urgent first. Blocks in `left_out` are in none.
pub fn plan(
    blocks: &[Arc<BlockMeta>],
    left_out: &BTreeSet<BlockId>,
    rules: &CompactionRules,
    now: TimestampNs,
) -> Vec<CompactionJob> {
    let window = |seconds: i64| seconds.div_euclid(rules.window_s.max(1));
    let window_of = |t: TimestampNs| window(t.to_seconds());
    let oldest_active = window(now.to_seconds().saturating_sub(rules.active_s));
    let mut groups: BTreeMap<GroupKey, Vec<&Arc<BlockMeta>>> = BTreeMap::new();
    for meta in blocks {
        if left_out.contains(&meta.block_id) {
            continue;
        }
        let window = window_of(meta.end);
        // What is about to leave the active windows may be in a job of another process by either rule.
        if window == oldest_active {
            continue;
        }
        let is_old = window < oldest_active;
        let key = GroupKey {
            is_old,
            level: if is_old { 0 } else { meta.compaction_level },
            window: std::cmp::Reverse(window),
            replication_factor: meta.replication_factor,
        };
        groups.entry(key).or_default().push(meta);
    }
    let mut jobs = Vec::new();
    for (key, mut group) in groups {
        group.sort_by_key(|m| {
            let level = if key.is_old { m.compaction_level } else { 0 };
            (level, m.trace_count, m.block_id)
        });
        while let Some(first) = group.first().copied() {
            let (alike, others): (Vec<_>, _) = group.into_iter().partition(|m| is_alike(first, m));
            jobs_of(&alike, rules, &mut jobs);
            group = others;
        }
    }
    jobs
}

/// Only blocks with the same columns are joined.
fn is_alike(a: &BlockMeta, b: &BlockMeta) -> bool {
    a.format == b.format && a.dedicated_columns == b.dedicated_columns
}

/// Consecutive blocks of a group, all alike, that may become one.
fn jobs_of(group: &[&Arc<BlockMeta>], rules: &CompactionRules, jobs: &mut Vec<CompactionJob>) {
    let mut rest = group;
    while let Some((first, others)) = rest.split_first() {
        let (mut traces, mut bytes) = (first.trace_count, first.size_bytes);
        let fitting = others.iter().take_while(|meta| {
            traces = traces.saturating_add(meta.trace_count);
            bytes = bytes.saturating_add(meta.size_bytes);
            traces <= rules.max_traces && bytes <= rules.max_bytes
        });
        let count = 1 + fitting.take(rules.max_inputs.saturating_sub(1)).count();
        let (chosen, others) = rest.split_at(count);
        rest = others;
        if count >= rules.min_inputs.max(2) {
            let inputs = chosen.iter().map(|meta| Arc::clone(meta)).collect();
            jobs.push(CompactionJob { inputs });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::DedicatedColumns;

    const HOUR: i64 = 3600;
    const NOW_S: i64 = 1_795_357_046;

    fn rules() -> CompactionRules {
        CompactionRules {
            window_s: HOUR,
            active_s: 24 * HOUR,
            min_inputs: 2,
            max_inputs: 4,
            max_traces: 1000,
            max_bytes: 1 << 40,
        }
    }

    /// A block: its number, how many hours ago it ends, level, traces.
    fn block(n: u8, hours: i64, level: u32, traces: u64) -> BlockMeta {
        let end = TimestampNs::new((NOW_S - hours * HOUR) * 1_000_000_000);
        BlockMeta {
            format: "vParquet4".into(),
            block_id: BlockId::random([n; 16]),
            tenant_id: "t".into(),
            start: end,
            end,
            trace_count: traces,
            size_bytes: 1 << 20,
            compaction_level: level,
            index_page_size: 0,
            row_group_count: 1,
            bloom_shards: 1,
            footer_size_bytes: 10,
            dedicated_columns: DedicatedColumns::default(),
            replication_factor: 1,
        }
    }

    fn planned(blocks: Vec<BlockMeta>, left_out: &[u8]) -> Vec<Vec<u8>> {
        let left_out = left_out.iter().map(|n| BlockId::random([*n; 16]));
        let blocks: Vec<_> = blocks.into_iter().map(Arc::new).collect();
        let now = TimestampNs::new(NOW_S * 1_000_000_000);
        let jobs = plan(&blocks, &left_out.collect(), &rules(), now);
        let number = |m: &Arc<BlockMeta>| m.block_id.as_bytes()[0];
        jobs.iter()
            .map(|job| job.inputs.iter().map(number).collect())
            .collect()
    }

    #[test]
    fn blocks_of_a_window_and_level_are_joined_the_newest_first() {
        let blocks = vec![
            block(1, 5, 0, 10),
            block(2, 5, 0, 5),
            block(3, 1, 0, 10),
            block(4, 1, 0, 10),
            block(5, 1, 1, 10),
            block(6, 1, 1, 10),
            block(7, 3, 0, 10),
        ];
        // Level 0 of all windows before level 1; one alone stays.
        assert_eq!(
            planned(blocks.clone(), &[]),
            [vec![3, 4], vec![2, 1], vec![5, 6]]
        );
        assert_eq!(planned(blocks, &[3]), [vec![2, 1], vec![5, 6]]);
    }

    #[test]
    fn old_windows_are_joined_whatever_the_level() {
        let old = vec![
            block(1, 30, 1, 10),
            block(2, 30, 0, 10),
            block(3, 40, 3, 10),
            block(4, 40, 2, 10),
            block(5, 1, 1, 10),
            block(6, 1, 0, 10),
        ];
        assert_eq!(planned(old, &[]), [vec![2, 1], vec![4, 3]]);
        // The window between is nobody's.
        assert!(planned(vec![block(1, 24, 0, 1), block(2, 24, 0, 1)], &[]).is_empty());
    }

    #[test]
    fn jobs_keep_within_bounds_and_to_what_is_alike() {
        let many = (1..=9).map(|n| block(n, 1, 0, 10)).collect();
        let jobs = planned(many, &[]);
        assert_eq!(jobs, [vec![1, 2, 3, 4], vec![5, 6, 7, 8]]);
        let large = vec![
            block(1, 1, 0, 400),
            block(2, 1, 0, 500),
            block(3, 1, 0, 600),
        ];
        assert_eq!(planned(large, &[]), [vec![1, 2]]);
        let mut other = block(2, 1, 0, 10);
        other.format = "vParquet5".into();
        let mut replicated = block(3, 1, 0, 10);
        replicated.replication_factor = 3;
        let blocks = vec![block(1, 1, 0, 10), other, replicated];
        assert!(planned(blocks, &[]).is_empty());
    }

    #[test]
    fn blocks_of_other_formats_between_them_keep_no_two_apart() {
        let blocks = (1..=6).map(|n| {
            let mut block = block(n, 1, 0, 10);
            block.format = ["vParquet4", "vParquet5"][usize::from(n % 2)].into();
            block
        });
        assert_eq!(
            planned(blocks.collect(), &[]),
            [vec![1, 3, 5], vec![2, 4, 6]]
        );
    }

    #[test]
    fn a_job_is_a_level_above_its_highest_input() {
        let inputs = vec![Arc::new(block(1, 1, 4, 1)), Arc::new(block(2, 1, 2, 1))];
        assert_eq!(CompactionJob { inputs }.level(), 5);
    }
}
