//! Which chunks of a stream are worth being one.

use std::ops::Range;

use lgtm_core::model::TimestampMs;

use crate::index::ChunkMeta;

/// Which chunks are merged. Sizes are what indexes tell: KiB of lines and metadata, before compression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeRules {
    /// Chunks of less are merged.
    pub small_kb: u32,
    /// What a merged chunk may have.
    pub most_kb: u32,
    /// Fewer chunks are not worth reading and writing them.
    pub least_chunks: usize,
}

/// Groups of small chunks that follow each other, each of which becomes one chunk. `chunks` are those of a stream, in order of time; only those that
/// lie in the day `times` are merged, since others stand in the tables of several days.
pub fn small_groups(
    chunks: &[ChunkMeta],
    times: Range<TimestampMs>,
    rules: &MergeRules,
) -> Vec<Vec<ChunkMeta>> {
    let is_small =
        |c: &&ChunkMeta| c.kb < rules.small_kb && times.start <= c.min_ms && c.max_ms < times.end;
    let (mut groups, mut group, mut kb) = (Vec::new(), Vec::new(), 0u64);
    for chunk in chunks.iter().filter(is_small) {
        // Nothing is so small that it does not count.
        let own = u64::from(chunk.kb.max(1));
        if kb + own > u64::from(rules.most_kb) {
            groups.push(std::mem::take(&mut group));
            kb = 0;
        }
        kb += own;
        group.push(*chunk);
    }
    groups.push(group);
    groups.retain(|g| g.len() >= rules.least_chunks.max(2));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(min_ms: i64, max_ms: i64, kb: u32) -> ChunkMeta {
        ChunkMeta {
            min_ms: TimestampMs::new(min_ms),
            max_ms: TimestampMs::new(max_ms),
            kb,
            entries: 1,
            checksum: kb,
            ingested_day: None,
        }
    }

    #[test]
    fn small_chunks_of_a_day_that_follow_each_other_are_groups() {
        let rules = MergeRules {
            small_kb: 10,
            most_kb: 20,
            least_chunks: 3,
        };
        let times = TimestampMs::new(100)..TimestampMs::new(200);
        let sizes = |chunks: &[ChunkMeta]| -> Vec<usize> {
            let groups = small_groups(chunks, times.clone(), &rules);
            groups.iter().map(Vec::len).collect()
        };
        let small = |n: i64| chunk(110 + n, 111 + n, 5);
        let many: Vec<ChunkMeta> = (0..9).map(small).collect();
        assert_eq!(sizes(&many), [4, 4]);
        assert_eq!(sizes(&many[..2]), [0; 0]);
        assert_eq!(sizes(&[]), [0; 0]);
        // Large ones between them, and those that reach out of the day, stay as they are.
        let mixed = [
            chunk(99, 120, 1),
            chunk(100, 101, 0),
            chunk(110, 120, 10),
            chunk(121, 122, 1),
            chunk(130, 199, 1),
            chunk(140, 200, 1),
        ];
        assert_eq!(sizes(&mixed), [3]);
    }
}
