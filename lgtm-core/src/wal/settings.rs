//! Settings of the log.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::units::ByteSize;

/// When the log is made to survive a power loss. All policies survive the end of the process, `kill -9` included, with
/// nothing acknowledged lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncPolicy {
    /// The operating system decides, in half a minute or so.
    #[default]
    Os,
    /// So often.
    #[serde(with = "crate::units::duration")]
    Interval(Duration),
    /// Before any write is acknowledged.
    EveryBatch,
}

/// How the log is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WalSettings {
    /// A segment is closed when it has grown to this. Prometheus' size.
    pub segment_size: ByteSize,
    /// When the log survives a power loss: `os` (the default: in half a minute or so), `every_batch`, or `!interval 1s`; `kill -9` it survives
    /// in each.
    pub sync: SyncPolicy,
    /// Groups of records larger than this are compressed with zstd. Below, the header of a zstd frame eats the gain.
    pub compress_above: ByteSize,
    /// Level at which zstd compresses records of the log. 1 costs about 5 ns a sample; higher levels gain little on columns.
    pub compression_level: i32,
    /// Bytes of records that may wait to be written; beyond, appends are refused with `Unavailable` (503).
    pub max_buffered: ByteSize,
    /// How long to wait before a failed write (disk full) is tried again.
    #[serde(with = "crate::units::duration")]
    pub retry_interval: Duration,
}

impl Default for WalSettings {
    fn default() -> Self {
        Self {
            segment_size: ByteSize::mib(128),
            sync: SyncPolicy::Os,
            compress_above: ByteSize::kib(1),
            compression_level: 1,
            max_buffered: ByteSize::mib(64),
            retry_interval: Duration::from_secs(1),
        }
    }
}

impl WalSettings {
    /// Names every fault.
    ///
    /// # Errors
    /// `InvalidInput` listing the settings and the bounds they break.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        if self.segment_size.as_u64() < 1 << 10 {
            faults.push(format!(
                "segment_size {} is less than 1KiB",
                self.segment_size
            ));
        }
        if !(1 << 16..=1 << 30).contains(&self.max_buffered.as_u64()) {
            faults.push(format!(
                "max_buffered {} is not between 64KiB and 1GiB",
                self.max_buffered
            ));
        }
        if !(1..=19).contains(&self.compression_level) {
            faults.push(format!(
                "compression_level {} is not between 1 and 19",
                self.compression_level
            ));
        }
        if self.retry_interval < Duration::from_millis(1) {
            faults.push("retry_interval is less than 1ms".to_owned());
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Error::InvalidInput(faults.join("; ")))
        }
    }
}
