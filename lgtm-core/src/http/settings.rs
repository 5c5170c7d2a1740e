//! How long clients may take, and how many there may be.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::telemetry::max_open_files;
use crate::units::{ByteSize, duration};

/// Connections where the system does not tell how many files may be open: half of the 1024 that most systems allow.
const UNKNOWN_MAX: usize = 512;
/// The most that are derived: at some 20 KiB each 200 MB, more than a process of this kind sees when all is well.
const DERIVED_MAX: usize = 10_000;

/// Bounds of the connections of all servers of a process together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionSettings {
    /// Connections at a time; beyond, the one whose client has kept us waiting longest is closed (those first that have had no answer yet),
    /// and when all are at work a new one is answered 503. 0 (default): half of the files that the process may open (`RLIMIT_NOFILE`), so
    /// that log and chunk files never go short, at most 10,000.
    pub max: usize,
    /// From the first byte of a request's head to its last. Default 10s: a head fits one packet, and three of those lost are made up
    /// for in less.
    #[serde(with = "duration")]
    pub head_timeout: Duration,
    /// How long a connection may stay without a request, also before its first. Default 2m, as in the peers: longer than the pools of
    /// most clients keep theirs (Go: 90 s), so that they close first.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// How long nothing of a body that is waited for may come. Default 10s: as for a head.
    #[serde(with = "duration")]
    pub body_stall_timeout: Duration,
    /// How long a whole body may be waited for. Default 1m: a request of 100 MiB at 14 Mbit/s, and most are below one; who trickles
    /// holds memory no longer.
    #[serde(with = "duration")]
    pub body_timeout: Duration,
    /// How long a client may take nothing of its answer. Default 30s, as long as the peers give a whole answer.
    #[serde(with = "duration")]
    pub send_stall_timeout: Duration,
    /// Bytes a second that a client must take of an answer in the mean, beyond `send_stall_timeout`. Default 16KiB: slower than any
    /// line that people query over; without it one byte now and then would hold an answer for ever. 0: no such bound.
    pub min_send_rate: ByteSize,
    /// Bytes of a request's head. Default 128KiB: a URL of 64 KiB, the most that is parsed, and as much in headers. The query of a longer
    /// URL does not count.
    pub max_head_bytes: ByteSize,
    /// Bytes of the first line of a GET or HEAD request. Default 1MiB, what Go's servers take, and so what the peers' clients may send.
    pub max_url_bytes: ByteSize,
    /// Bytes that URLs beyond 64 KiB may take together, each counted as two of the longest; further ones are refused. Default 64MiB:
    /// some thirty at a time, and no more memory than that whoever connects. 0: no bound.
    pub max_long_urls_bytes: ByteSize,
    /// Requests that one HTTP/2 connection may have under way; a client that knows waits with further ones. Default 100: what RFC 9113 asks
    /// for at least, and more than a collector sends at a time.
    pub max_http2_streams: u32,
    /// Bytes of bodies that an HTTP/2 connection may have sent before anybody reads them; those of one request are half of it. Default 512KiB: a
    /// batch of spans in one go, and no more than that whoever connects.
    pub http2_window: ByteSize,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            max: 0,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
            body_stall_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            send_stall_timeout: Duration::from_secs(30),
            min_send_rate: ByteSize::kib(16),
            max_head_bytes: ByteSize::kib(128),
            max_url_bytes: ByteSize::mib(1),
            max_long_urls_bytes: ByteSize::mib(64),
            max_http2_streams: 100,
            http2_window: ByteSize::kib(512),
        }
    }
}

impl ConnectionSettings {
    /// Checks all values.
    ///
    /// # Errors
    /// `InvalidInput` that names every setting out of its bounds.
    pub fn validate(&self) -> Result<()> {
        let head = self.max_head_bytes.as_u64();
        let checks = [
            (!self.head_timeout.is_zero(), "head_timeout must be above 0"),
            (!self.idle_timeout.is_zero(), "idle_timeout must be above 0"),
            (
                !self.body_stall_timeout.is_zero(),
                "body_stall_timeout must be above 0",
            ),
            (
                self.body_timeout >= self.body_stall_timeout,
                "body_timeout must be at least body_stall_timeout",
            ),
            (
                !self.send_stall_timeout.is_zero(),
                "send_stall_timeout must be above 0",
            ),
            // Below 8 KiB hyper reads nothing; above 16 MiB heads alone could fill the memory.
            (
                (8 << 10..=16 << 20).contains(&head),
                "max_head_bytes must be 8KiB to 16MiB",
            ),
            (
                self.max_url_bytes.as_u64() <= 16 << 20,
                "max_url_bytes must be at most 16MiB",
            ),
            (
                (1..=10_000).contains(&self.max_http2_streams),
                "max_http2_streams must be 1 to 10000",
            ),
            // 64 KiB is what a connection begins with.
            (
                (128 << 10..=64 << 20).contains(&self.http2_window.as_u64()),
                "http2_window must be 128KiB to 64MiB",
            ),
        ];
        let broken = checks.iter().filter(|(ok, _)| !ok);
        let broken: Vec<_> = broken.map(|(_, why)| *why).collect();
        if broken.is_empty() {
            return Ok(());
        }
        Err(Error::InvalidInput(format!(
            "connections: {}",
            broken.join("; ")
        )))
    }

    /// The bound on connections: what is set, or what the process's open files allow.
    pub(super) fn bound(&self) -> usize {
        if self.max > 0 {
            return self.max;
        }
        let files = max_open_files().map_or(UNKNOWN_MAX, |files| (files / 2.0) as usize);
        files.clamp(1, DERIVED_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_every_fault_is_named() {
        ConnectionSettings::default().validate().unwrap();
        let bad = ConnectionSettings {
            head_timeout: Duration::ZERO,
            body_timeout: Duration::from_secs(1),
            max_head_bytes: ByteSize::kib(1),
            max_url_bytes: ByteSize::mib(17),
            ..Default::default()
        };
        let message = bad.validate().unwrap_err().to_string();
        for name in [
            "head_timeout",
            "body_timeout",
            "max_head_bytes",
            "max_url_bytes",
        ] {
            assert!(message.contains(name), "{message}");
        }
    }

    #[test]
    fn half_of_the_open_files_are_left_to_others() {
        let derived = ConnectionSettings::default().bound();
        assert!((1..=DERIVED_MAX).contains(&derived));
        if let Some(files) = max_open_files() {
            assert!(derived as f64 <= files / 2.0);
        }
        let set = ConnectionSettings {
            max: 7,
            ..Default::default()
        };
        assert_eq!(set.bound(), 7);
    }
}
