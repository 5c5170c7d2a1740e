use super::*;

const HOUR: i64 = 3_600_000;
/// A day's beginning.
const DAY: i64 = 1_795_305_600_000;

fn rules(shard_count: u32) -> CompactionRules {
    CompactionRules {
        ranges_ms: vec![2 * HOUR, 12 * HOUR, 24 * HOUR],
        shard_count,
        split_groups: 1,
    }
}

fn id(n: u8) -> BlockId {
    BlockId::from_bytes([n; 16])
}

/// A block: its number, hours since the day's beginning, level, shard.
fn block(n: u8, hours: std::ops::Range<i64>, level: u32, shard: &str) -> BlockMeta {
    let mut labels = BTreeMap::new();
    if !shard.is_empty() {
        labels.insert(ThanosMeta::SHARD_LABEL.to_owned(), shard.to_owned());
    }
    BlockMeta {
        ulid: id(n),
        min_ms: (DAY + hours.start * HOUR).into(),
        max_ms: (DAY + hours.end * HOUR).into(),
        stats: crate::block::BlockStats::default(),
        compaction: Compaction {
            level,
            sources: vec![id(n)],
            ..Compaction::default()
        },
        version: 1,
        thanos: Some(ThanosMeta::new("test", labels)),
        unknown: serde_json::Map::new(),
    }
}

fn with_sources(mut meta: BlockMeta, sources: &[u8]) -> BlockMeta {
    meta.compaction.sources = sources.iter().map(|&n| id(n)).collect();
    meta
}

fn jobs(blocks: Vec<BlockMeta>, shard_count: u32) -> Vec<(CompactionStage, String, Vec<u8>)> {
    let blocks: Vec<_> = blocks.into_iter().map(Arc::new).collect();
    let now_ms = DAY + 25 * HOUR;
    let number = |m: &Arc<BlockMeta>| m.ulid.to_bytes()[0];
    let planned = plan(&blocks, &rules(shard_count), now_ms.into()).into_iter();
    planned
        .map(|job| {
            (
                job.stage,
                job.shard.clone(),
                job.inputs.iter().map(number).collect(),
            )
        })
        .collect()
}

/// Jobs where nothing is split.
fn merged(blocks: Vec<BlockMeta>) -> Vec<Vec<u8>> {
    jobs(blocks, 0)
        .into_iter()
        .map(|(_, _, inputs)| inputs)
        .collect()
}

#[test]
fn blocks_of_the_shortest_range_come_first_and_the_oldest_of_them() {
    let blocks = vec![
        block(1, 2..4, 1, ""),
        block(2, 2..4, 1, ""),
        block(3, 0..2, 1, ""),
        block(4, 0..1, 1, ""),
        block(5, 4..6, 2, ""),
        block(9, 24..26, 1, ""),
    ];
    // The twelve hours wait until their parts are done.
    assert_eq!(merged(blocks), [vec![3, 4], vec![1, 2]]);
}

#[test]
fn ranges_are_joined_when_no_more_is_expected_of_them() {
    let first_half = || (0..6).map(|n| block(n as u8 + 1, 2 * n..2 * n + 2, 2, ""));
    // Full, though nothing newer is there.
    assert_eq!(merged(first_half().collect()), [vec![1, 2, 3, 4, 5, 6]]);
    // Not full, nothing newer, and its end is less than its length ago.
    let late = |n: i64| block(n as u8 + 1, 12 + 2 * n..14 + 2 * n, 2, "");
    assert!(merged((0..4).map(late).collect()).is_empty());
    // Something newer.
    let mut blocks: Vec<_> = (0..4).map(late).collect();
    blocks.push(block(9, 24..26, 1, ""));
    assert_eq!(merged(blocks), [vec![1, 2, 3, 4]]);
    // Its end is as long ago as it is long.
    assert_eq!(
        merged(first_half().take(5).collect()),
        [vec![1, 2, 3, 4, 5]]
    );
    // Fresh blocks are joined at once.
    let fresh = |n: i64| block(n as u8 + 1, 22..24, 1, "");
    assert_eq!(merged((0..2).map(fresh).collect()), [vec![1, 2]]);
}

#[test]
fn halves_of_a_day_become_a_day_and_a_day_stays() {
    let halves = vec![block(1, 0..12, 3, ""), block(2, 12..24, 3, "")];
    assert_eq!(merged(halves), [vec![1, 2]]);
    let days = vec![block(1, 0..24, 4, ""), block(2, -24..0, 4, "")];
    assert!(merged(days).is_empty());
    // What came late is merged into the day.
    let late = vec![
        block(1, 0..24, 4, ""),
        block(2, 3..4, 1, ""),
        block(3, 24..25, 1, ""),
    ];
    assert_eq!(merged(late), [vec![1, 2]]);
}

#[test]
fn blocks_across_ranges_wait_for_a_longer_one() {
    let blocks = vec![
        block(1, 0..2, 1, ""),
        block(2, 1..3, 1, ""),
        block(3, 2..4, 1, ""),
        block(4, 11..13, 1, ""),
        block(5, 13..36, 1, ""),
        block(6, 25..26, 1, ""),
    ];
    assert_eq!(merged(blocks), [vec![1, 2, 3]]);
}

#[test]
fn blocks_that_differ_in_labels_or_resolution_are_kept_apart() {
    let mut other = block(2, 0..2, 1, "");
    let thanos = other.thanos.as_mut().unwrap();
    thanos.labels.insert("replica".into(), "b".into());
    assert!(merged(vec![block(1, 0..2, 1, ""), other]).is_empty());
    let mut coarse = block(2, 0..2, 1, "");
    coarse.thanos.as_mut().unwrap().downsample.resolution_ms = 300_000;
    assert!(merged(vec![block(1, 0..2, 1, ""), coarse]).is_empty());
    let mut failed = block(2, 0..2, 1, "");
    failed.compaction.failed = true;
    assert!(merged(vec![block(1, 0..2, 1, ""), failed]).is_empty());
    // Those of Prometheus itself have no labels at all.
    let mut plain = block(2, 0..2, 1, "");
    plain.thanos = None;
    assert_eq!(merged(vec![block(1, 0..2, 1, ""), plain]), [vec![1, 2]]);
}

#[test]
fn the_shortest_range_is_split_and_shards_are_merged_among_themselves() {
    let split = |inputs| (CompactionStage::Split, "1_of_1".to_owned(), inputs);
    let merge = |shard: &str, inputs| (CompactionStage::Merge, shard.to_owned(), inputs);
    let blocks = vec![
        block(1, 0..2, 1, ""),
        block(2, 0..2, 2, "1_of_2"),
        block(3, 0..2, 2, "1_of_2"),
        block(4, 2..4, 2, "1_of_2"),
        block(5, 2..4, 2, "1_of_2"),
        block(6, 2..4, 2, "2_of_2"),
        block(9, 24..26, 2, "2_of_2"),
    ];
    assert_eq!(
        jobs(blocks.clone(), 2),
        [split(vec![1]), merge("1_of_2", vec![4, 5])]
    );
    // What is split stays so when splitting is turned off.
    assert_eq!(
        jobs(blocks, 0),
        [merge("1_of_2", vec![2, 3]), merge("1_of_2", vec![4, 5])]
    );
    let wide = vec![
        block(1, 0..2, 2, "1_of_2"),
        block(2, 2..4, 2, "1_of_2"),
        block(3, 0..2, 2, "2_of_2"),
        block(4, 4..6, 2, "2_of_2"),
        block(5, 6..8, 2, ""),
        block(6, 0..12, 2, ""),
        block(9, 24..26, 2, "1_of_2"),
    ];
    // Shards wait for what is split first.
    assert_eq!(jobs(wide, 2), [split(vec![5])]);
}

#[test]
fn split_groups_go_by_the_hash_of_the_block() {
    let blocks: Vec<_> = (1..=20).map(|n| Arc::new(block(n, 0..2, 1, ""))).collect();
    let rules = CompactionRules {
        split_groups: 3,
        ..rules(2)
    };
    let planned = plan(&blocks, &rules, (DAY + 25 * HOUR).into());
    assert_eq!(planned.iter().map(|j| j.inputs.len()).sum::<usize>(), 20);
    for job in &planned {
        let group = |m: &Arc<BlockMeta>| format!("{}_of_3", m.ulid.hash32() % 3 + 1);
        assert!(job.inputs.iter().all(|m| group(m) == job.shard));
    }
    let tenant = TenantId::new("t").unwrap();
    let end = DAY + 2 * HOUR;
    assert_eq!(
        planned[0].key(&tenant),
        format!("t-split-{DAY}-{end}-1_of_3")
    );
}

#[test]
fn a_new_block_tells_the_truth_of_its_origin() {
    let mut late = block(3, 1..2, 1, "");
    late.compaction.hints = vec![Compaction::FROM_OUT_OF_ORDER.into()];
    let inputs = [with_sources(block(1, 0..2, 3, ""), &[8, 7]), late];
    let job = CompactionJob {
        stage: CompactionStage::Merge,
        shard: String::new(),
        range: TimeRange::new(DAY, DAY + 2 * HOUR),
        inputs: inputs.into_iter().map(Arc::new).collect(),
    };
    let made = job.compaction();
    assert_eq!((made.level, made.sources), (4, vec![id(3), id(7), id(8)]));
    assert_eq!(made.parents.len(), 2);
    assert!(made.hints.is_empty());
}

#[test]
fn a_block_is_redundant_when_others_have_all_its_sources() {
    let found = |blocks: Vec<BlockMeta>| {
        let blocks: Vec<_> = blocks.into_iter().map(Arc::new).collect();
        let found = redundant(&blocks).into_iter();
        found.map(|id| id.to_bytes()[0]).collect::<Vec<_>>()
    };
    let one = || block(1, 0..2, 1, "");
    let two = || block(2, 0..2, 1, "");
    let both = |n| with_sources(block(n, 0..2, 2, ""), &[1, 2]);
    assert_eq!(found(vec![one(), two(), both(3)]), [1, 2]);
    // Of two that are the same the older stays.
    assert_eq!(found(vec![both(3), both(4), one()]), [4, 1]);
    let shard = |n, shard| with_sources(block(n, 0..2, 2, shard), &[1, 2]);
    assert!(found(vec![one(), shard(3, "1_of_2")]).is_empty());
    assert_eq!(
        found(vec![one(), shard(3, "1_of_2"), shard(4, "2_of_2")]),
        [1]
    );
    assert!(found(vec![one(), shard(3, "1_of_2"), shard(4, "2_of_3")]).is_empty());
    let of_one = with_sources(block(5, 0..2, 2, "1_of_2"), &[1]);
    assert_eq!(found(vec![of_one, shard(3, "1_of_2"), both(6)]), [5]);
    assert!(found(vec![one(), two()]).is_empty());
}
