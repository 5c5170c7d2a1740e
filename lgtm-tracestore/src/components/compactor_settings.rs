//! How blocks are joined.

use std::time::Duration;

use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::compact::CompactionRules;
use crate::limits::Limits;

/// How blocks are joined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompactorSettings {
    /// How often the blocks of tenants are looked at. Default 5m, as often as readers look at the list that is written then: each round is a
    /// listing.
    #[serde(with = "lgtm_core::units::duration")]
    pub compaction_interval: Duration,
    /// Blocks that are joined at once, at least. Tempo's default.
    pub min_input_blocks: usize,
    /// At most. Tempo's default: of each a row group is in memory.
    pub max_input_blocks: usize,
    /// Traces of a joined block, about. Tempo's default.
    pub max_compaction_objects: u64,
    /// Bytes of a joined block, about. Tempo's default.
    pub max_block_bytes: ByteSize,
    /// For so long blocks of a window of time are joined level by level, since more of them come; later all of a window are. Tempo's.
    #[serde(with = "lgtm_core::units::duration")]
    pub active_window: Duration,
    /// How long joined blocks stay beside the new one, for readers whose list is old. Tempo's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub compacted_block_retention: Duration,
    /// How long the folder of a block without a meta is seen unchanged before it is deleted: what an upload left that broke off. A day is far more than an
    /// upload takes, which has all its time between the first object and the meta, and each attempt goes to a folder of its own.
    #[serde(with = "lgtm_core::units::duration")]
    pub abandoned_upload_age: Duration,
    /// Traces of one redaction, at most: their ids are in memory, 16 bytes and some each.
    pub max_redacted_traces: usize,
    /// For so long after a redaction blocks that come are looked through for what it means: other processes may have been writing them, or joining what it took
    /// apart. Tempo's five looks, five minutes apart, and as much again.
    #[serde(with = "lgtm_core::units::duration")]
    pub redaction_watch: Duration,
    /// Time that the blocks of one tenant are joined for before the next tenant's turn. Tempo's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_time_per_tenant: Duration,
}

impl Default for CompactorSettings {
    fn default() -> Self {
        Self {
            compaction_interval: Duration::from_secs(300),
            min_input_blocks: 2,
            max_input_blocks: 4,
            max_compaction_objects: 6_000_000,
            max_block_bytes: ByteSize::gib(100),
            active_window: Duration::from_secs(24 * 3600),
            compacted_block_retention: Duration::from_secs(3600),
            abandoned_upload_age: Duration::from_secs(24 * 3600),
            max_redacted_traces: 100_000,
            redaction_watch: Duration::from_secs(50 * 60),
            max_time_per_tenant: Duration::from_secs(300),
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
        if self.compaction_interval < Duration::from_secs(1) {
            faults.push(format!(
                "compaction_interval {:?} is less than 1s",
                self.compaction_interval
            ));
        }
        if self.min_input_blocks < 2 {
            faults.push(format!(
                "min_input_blocks {} is less than 2",
                self.min_input_blocks
            ));
        }
        if self.max_input_blocks < self.min_input_blocks {
            faults.push(format!(
                "max_input_blocks {} is less than min_input_blocks {}",
                self.max_input_blocks, self.min_input_blocks
            ));
        }
        if self.abandoned_upload_age < Duration::from_secs(600) {
            faults.push(format!(
                "abandoned_upload_age {:?} is less than 10m",
                self.abandoned_upload_age
            ));
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Error::InvalidInput(faults.join("; ")))
        }
    }

    /// By which a tenant's blocks are chosen.
    pub(super) fn rules(&self, limits: &Limits) -> CompactionRules {
        let seconds = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
        CompactionRules {
            window_s: seconds(limits.compaction.compaction_window).max(1),
            active_s: seconds(self.active_window),
            min_inputs: self.min_input_blocks,
            max_inputs: self.max_input_blocks,
            max_traces: self.max_compaction_objects,
            max_bytes: self.max_block_bytes.as_u64(),
        }
    }
}
