//! How heads keep their data.

use std::time::Duration;

use lgtm_core::units::ByteSize;
use lgtm_core::wal::WalSettings;
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How heads keep their data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeadSettings {
    /// A trace that got no span for so long is cut: what comes later is another part of it. Tempo's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_trace_idle: Duration,
    /// A trace is cut when its first span came so long ago. Tempo's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_trace_live: Duration,
    /// Bytes of traces, of all tenants together, that are in memory as they came. Above it the oldest ones are cut early. Default 48MiB: with
    /// what else a process holds it stays below 250 MB.
    pub max_live_traces_bytes: ByteSize,
    /// Cut traces are packed and leave memory for a local file when there are so many bytes of them. More means better compression and more
    /// memory.
    pub batch_bytes: ByteSize,
    /// Size of one local file of packed traces. Small enough that space comes back soon after a flush.
    pub batch_file_size: ByteSize,
    /// How long what a flush has moved into the object store can be read here all the same, so that nothing is missed by readers in other processes, who
    /// learn of a new block late. 0 (default): not at all, as is right in one process; the host takes four `store_gateway.blocklist_poll` where there are
    /// several (20 minutes): a list may come of an index that is two of them old, and serves for another one. Batches that stay take room in local files.
    #[serde(with = "lgtm_core::units::duration")]
    pub retain_flushed: Duration,
    /// The write-ahead log. It is not compressed by default: spans would cost it as much CPU as all the rest of a push, for bytes that go with
    /// the next checkpoint.
    pub wal: WalSettings,
    /// The log is checkpointed when it has grown by so much since the last time: bounds disk use and the time of a replay (a few seconds).
    pub checkpoint_after: ByteSize,
}

impl Default for HeadSettings {
    fn default() -> Self {
        Self {
            max_trace_idle: Duration::from_secs(5),
            max_trace_live: Duration::from_secs(30),
            max_live_traces_bytes: ByteSize::mib(48),
            batch_bytes: ByteSize::mib(4),
            batch_file_size: ByteSize::mib(128),
            retain_flushed: Duration::ZERO,
            wal: WalSettings {
                compress_above: ByteSize::gib(1),
                ..WalSettings::default()
            },
            checkpoint_after: ByteSize::gib(1),
        }
    }
}

impl HeadSettings {
    /// Names every fault.
    ///
    /// # Errors
    /// `InvalidInput` listing the settings and the bounds they break.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        if self.max_trace_live < self.max_trace_idle {
            faults.push(format!(
                "max_trace_live {:?} is less than max_trace_idle {:?}",
                self.max_trace_live, self.max_trace_idle
            ));
        }
        for (name, size, least, most) in [
            (
                "max_live_traces_bytes",
                self.max_live_traces_bytes,
                1 << 16,
                u64::MAX / 4,
            ),
            ("batch_bytes", self.batch_bytes, 1 << 10, 1 << 30),
            (
                "batch_file_size",
                self.batch_file_size,
                1 << 20,
                u64::from(u32::MAX),
            ),
        ] {
            if !(least..=most).contains(&size.as_u64()) {
                faults.push(format!("{name} {size} is not between {least} and {most}"));
            }
        }
        if let Err(e) = self.wal.validate() {
            faults.push(format!("wal: {e}"));
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Error::InvalidInput(faults.join("; ")))
        }
    }
}
