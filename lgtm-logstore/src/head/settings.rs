//! How heads keep their data.

use std::time::Duration;

use lgtm_core::units::ByteSize;
use lgtm_core::wal::WalSettings;
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::chunk::ChunkSettings;

/// How heads keep their data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeadSettings {
    /// How chunks are made: encoding, sizes of blocks and chunks.
    pub chunk: ChunkSettings,
    /// A chunk whose entries span more time is finished. Half of it is how far an entry may lie behind the newest of its stream. Loki's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_chunk_age: Duration,
    /// A chunk that got no entry for so long is finished. Loki's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub chunk_idle_period: Duration,
    /// Chunks end at the same phase of this period on all replicas, so that these hold the same chunks and store them once. Loki's default; 0: they do not.
    #[serde(with = "lgtm_core::units::duration")]
    pub sync_period: Duration,
    /// The part of its target size that a chunk must have to end so. Loki's default.
    pub sync_min_utilization: f64,
    /// Messages that an answer has about entries of one stream. Loki's default.
    pub max_returned_stream_errors: usize,
    /// A stream that holds nothing and got no entry for so long is forgotten.
    #[serde(with = "lgtm_core::units::duration")]
    pub stream_idle_timeout: Duration,
    /// Streams of all tenants together: bounds what is known of streams (about 1 KiB each). 0: no bound.
    pub max_streams: u64,
    /// The part of `max_streams` that one tenant may hold of what the others leave: above 0, at most 1. Three quarters (default): one tenant
    /// can use most of a process, and the next one still finds room. Streams that are known are always taken.
    pub max_streams_per_tenant_share: f64,
    /// Bytes of chunks in the making, of all tenants together. Above it the largest blocks are compressed before they are full, and then the
    /// largest chunks are finished early and leave memory. Default 96MiB: with what else a process holds it stays below 220 MB.
    pub max_open_chunk_bytes: ByteSize,
    /// Size of one file of finished chunks. Small enough that space comes back soon after a flush.
    pub chunk_file_size: ByteSize,
    /// Bytes of finished chunks that wait in memory until they are written in one call. One chunk is usually larger; more would only take
    /// memory.
    pub chunk_write_buffer: ByteSize,
    /// Bytes of side files that wait in memory with finished chunks until these go into the object store. Beyond it they are made again of the chunks
    /// that go. Default 16MiB: those of some 300 MB of chunks, more than comes between two flushes.
    pub max_waiting_side_bytes: ByteSize,
    /// How long what a flush has moved into the object store, index and all, can be read here all the same, so that nothing is missed by readers in other
    /// processes, who learn of a new index file late. 0 (default): not at all, as is right in one process; the host takes
    /// the longer of `index_gateway.full_sync_interval` and `sync_interval`, and another `sync_interval`, where there are several (65 minutes). Chunks that stay
    /// take room in chunk files, and their streams count as long.
    #[serde(with = "lgtm_core::units::duration")]
    pub retain_flushed: Duration,
    /// The write-ahead log. It is not compressed by default: lines would cost it as much CPU as all the rest of a push, for bytes that go
    /// with the next checkpoint.
    pub wal: WalSettings,
    /// The log is checkpointed when it has grown by so much since the last time: bounds disk use and the time of a replay (a few seconds).
    pub checkpoint_after: ByteSize,
}

impl Default for HeadSettings {
    fn default() -> Self {
        Self {
            chunk: ChunkSettings::default(),
            max_chunk_age: Duration::from_secs(2 * 3600),
            chunk_idle_period: Duration::from_secs(30 * 60),
            sync_period: Duration::from_secs(3600),
            sync_min_utilization: 0.1,
            max_returned_stream_errors: 10,
            stream_idle_timeout: Duration::from_secs(3600),
            max_streams: 2_000_000,
            max_streams_per_tenant_share: 0.75,
            max_open_chunk_bytes: ByteSize::mib(96),
            chunk_file_size: ByteSize::mib(128),
            chunk_write_buffer: ByteSize::kib(256),
            max_waiting_side_bytes: ByteSize::mib(16),
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
        if self.max_chunk_age < Duration::from_secs(1) {
            faults.push(format!(
                "max_chunk_age {:?} is less than 1s",
                self.max_chunk_age
            ));
        }
        for (name, part, least) in [
            ("sync_min_utilization", self.sync_min_utilization, 0.0),
            (
                "max_streams_per_tenant_share",
                self.max_streams_per_tenant_share,
                f64::MIN_POSITIVE,
            ),
        ] {
            if !(least..=1.0).contains(&part) {
                faults.push(format!("{name} {part} is not between {least} and 1"));
            }
        }
        for (name, size, least, most) in [
            (
                "max_open_chunk_bytes",
                self.max_open_chunk_bytes,
                1 << 20,
                u64::MAX,
            ),
            (
                "chunk_file_size",
                self.chunk_file_size,
                1 << 20,
                u64::from(u32::MAX),
            ),
            (
                "chunk_write_buffer",
                self.chunk_write_buffer,
                1 << 10,
                16 << 20,
            ),
        ] {
            if !(least..=most).contains(&size.as_u64()) {
                faults.push(format!("{name} {size} is not between {least} and {most}"));
            }
        }
        if self.max_returned_stream_errors == 0 {
            faults.push("max_returned_stream_errors is 0".to_owned());
        }
        for (name, valid) in [
            ("wal", self.wal.validate()),
            ("chunk", self.chunk.validate()),
        ] {
            if let Err(e) = valid {
                faults.push(format!("{name}: {e}"));
            }
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Error::InvalidInput(faults.join("; ")))
        }
    }

    /// How far an entry may lie behind the newest of its stream, nanoseconds.
    pub(super) fn window_ns(&self) -> i64 {
        ns(self.max_chunk_age / 2)
    }
}

/// A duration in nanoseconds; saturates.
pub(super) fn ns(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
