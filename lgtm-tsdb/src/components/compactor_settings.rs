//! How blocks are compacted and the bucket is kept clean. Names and most defaults are Mimir's.

use std::path::PathBuf;
use std::time::Duration;

use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::compact::{CompactionRules, MergeSettings};
use crate::limits::Limits;

/// Length of the range of time that blocks grow to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlockRange(#[serde(with = "lgtm_core::units::duration")] pub Duration);

impl BlockRange {
    fn as_ms(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }
}

/// How blocks are compacted and the bucket is kept clean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompactorSettings {
    /// Whether blocks are compacted. Off, the bucket is still kept clean, and its index written.
    pub compaction_enabled: bool,
    /// Lengths of the ranges that blocks grow to, each a multiple of the one before. Mimir's default.
    pub block_ranges: Vec<BlockRange>,
    /// How often is looked for blocks to compact. Mimir's default: half the length of the shortest range.
    #[serde(with = "lgtm_core::units::duration")]
    pub compaction_interval: Duration,
    /// How often retention is applied, what is marked for deletion deleted, and the bucket index written. Mimir's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub cleanup_interval: Duration,
    /// How long a block stays that is marked for deletion, for readers that do not know yet what replaces it. Mimir's default: 12 times what
    /// they need.
    #[serde(with = "lgtm_core::units::duration")]
    pub deletion_delay: Duration,
    /// How long the mark of a deleted tenant stays when its last block is gone: readers stop to look for blocks meanwhile. Mimir's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub tenant_cleanup_delay: Duration,
    /// How long after their upload blocks of ingesters wait for those of the others. Mimir's default: ingesters cut blocks within some
    /// minutes.
    #[serde(with = "lgtm_core::units::duration")]
    pub first_level_compaction_wait_period: Duration,
    /// How long jobs of one tenant are begun before the next tenant's turn. Mimir's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_compaction_time: Duration,
    /// Metas and marks that are read at the same time. Mimir's default.
    pub meta_sync_concurrency: usize,
    /// Memory for what is read of blocks that are compacted. Default 128MiB: windows of 4 MiB of sixteen blocks, two of each.
    pub max_read_memory: ByteSize,
    /// Memory for the symbols of a new block, and for four bytes a symbol of each of the old ones. Default 512MiB: some 5 million distinct names and
    /// values in twelve blocks.
    pub max_symbols_memory: ByteSize,
    /// Memory for the postings of a new block. Default 256MiB: some two million series of twelve labels; beyond it they go to the local folder.
    pub max_postings_memory: ByteSize,
}

impl Default for CompactorSettings {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            compaction_enabled: true,
            block_ranges: [2, 12, 24].map(|n| BlockRange(n * HOUR)).into(),
            compaction_interval: HOUR,
            cleanup_interval: HOUR / 4,
            deletion_delay: 12 * HOUR,
            tenant_cleanup_delay: 6 * HOUR,
            first_level_compaction_wait_period: Duration::from_secs(25 * 60),
            max_compaction_time: HOUR,
            meta_sync_concurrency: 20,
            max_read_memory: ByteSize::mib(128),
            max_symbols_memory: ByteSize::mib(512),
            max_postings_memory: ByteSize::mib(256),
        }
    }
}

impl CompactorSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// `InvalidInput` naming every fault.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        for (name, interval) in [
            ("compaction_interval", self.compaction_interval),
            ("cleanup_interval", self.cleanup_interval),
        ] {
            if interval < Duration::from_secs(1) {
                faults.push(format!("{name} {interval:?} is less than 1s"));
            }
        }
        let mut before = BlockRange(Duration::from_secs(1));
        for &range in &self.block_ranges {
            if range.as_ms() < before.as_ms() || range.as_ms() % before.as_ms() != 0 {
                faults.push(format!(
                    "block_ranges has {:?}, which is no multiple of {:?}",
                    range.0, before.0
                ));
                break;
            }
            before = range;
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Error::InvalidInput(faults.join("; ")))
        }
    }

    pub(super) fn rules(&self, limits: &Limits) -> CompactionRules {
        CompactionRules {
            ranges_ms: self.block_ranges.iter().map(|r| r.as_ms()).collect(),
            shard_count: limits.compactor_split_and_merge_shards,
            split_groups: limits.compactor_split_groups,
        }
    }

    /// The bounds of a merge; what takes more goes to `folder`.
    pub fn merge_settings(&self, folder: Option<PathBuf>) -> MergeSettings {
        MergeSettings {
            max_read_memory: self.max_read_memory,
            max_symbols_memory: self.max_symbols_memory,
            max_postings_memory: self.max_postings_memory,
            folder,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        let ranges = |seconds: &[u64]| CompactorSettings {
            block_ranges: (seconds.iter())
                .map(|&s| BlockRange(Duration::from_secs(s)))
                .collect(),
            cleanup_interval: Duration::ZERO,
            ..CompactorSettings::default()
        };
        for bad in [&[0][..], &[60, 90], &[120, 60]] {
            let text = ranges(bad).validate().unwrap_err().to_string();
            assert!(
                text.contains("block_ranges") && text.contains("cleanup_interval 0ns"),
                "{text}"
            );
        }
        CompactorSettings::default().validate().unwrap();
    }
}
