//! Bounds of calls between processes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::http::ConnectionSettings;
use crate::units::{ByteSize, duration};

/// How messages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RpcCompression {
    /// Not at all.
    #[default]
    None,
    /// Zstandard at its quickest level, messages from 1 KiB on.
    Zstd,
}

/// How a process calls others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RpcClientSettings {
    /// How long a connection may take to be made. Default 2s: in one data centre it takes a millisecond, and a lost packet is sent again after one second.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// How long a connection with calls under way may be silent before it is asked for a sign of life. Default 5s.
    #[serde(with = "duration")]
    pub keepalive_interval: Duration,
    /// How long the sign of life may take; then the connection is given up, and its calls fail. Default 5s.
    #[serde(with = "duration")]
    pub keepalive_timeout: Duration,
    /// Connections to one process, used in turn. Default 2: the requests of one connection are answered on one thread of the other side at a time.
    pub connections: usize,
    /// Bytes of one message of an answer. Default 100MiB, as peers take.
    pub max_message_size: ByteSize,
    /// Bytes of one answer that may have come before anybody reads them. Default 1MiB: one batch of series under way and one being read.
    pub answer_window: ByteSize,
    /// How messages are compressed, both ways. Default none: networks between components are quick, and the CPU is what is short.
    pub compression: RpcCompression,
}

impl Default for RpcClientSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            keepalive_interval: Duration::from_secs(5),
            keepalive_timeout: Duration::from_secs(5),
            connections: 2,
            max_message_size: ByteSize::mib(100),
            answer_window: ByteSize::mib(1),
            compression: RpcCompression::None,
        }
    }
}

impl RpcClientSettings {
    /// Checks all values.
    ///
    /// # Errors
    /// `InvalidInput` that names every setting out of its bounds.
    pub fn validate(&self) -> Result<()> {
        let checks = [
            (
                self.connect_timeout.is_zero(),
                "connect_timeout must be above 0",
            ),
            (
                self.keepalive_interval.is_zero(),
                "keepalive_interval must be above 0",
            ),
            (
                self.keepalive_timeout.is_zero(),
                "keepalive_timeout must be above 0",
            ),
            (
                !(1..=64).contains(&self.connections),
                "connections must be 1 to 64",
            ),
            (
                !message_size_fits(self.max_message_size),
                "max_message_size must be 64KiB to 1GiB",
            ),
            (
                !(64 << 10..=64 << 20).contains(&self.answer_window.as_u64()),
                "answer_window must be 64KiB to 64MiB",
            ),
        ];
        refuse("rpc client", &checks)
    }
}

/// How a process answers others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RpcServerSettings {
    /// Bytes of the message of a call. Default 100MiB, as peers take.
    pub max_message_size: ByteSize,
    /// Calls at a time; further ones are `Unavailable`. Default 30000, Mimir's for an ingester; 0: no bound.
    pub max_inflight_calls: u64,
    /// Bytes of the messages of all calls at a time, and of what they are decoded to; beyond, calls are `Unavailable`. Default 1GiB; 0: no bound.
    pub max_inflight_bytes: ByteSize,
}

impl Default for RpcServerSettings {
    fn default() -> Self {
        Self {
            max_message_size: ByteSize::mib(100),
            max_inflight_calls: 30_000,
            max_inflight_bytes: ByteSize::mib(1024),
        }
    }
}

impl RpcServerSettings {
    /// Checks all values.
    ///
    /// # Errors
    /// `InvalidInput` that names every setting out of its bounds.
    pub fn validate(&self) -> Result<()> {
        let checks = [(
            !message_size_fits(self.max_message_size),
            "max_message_size must be 64KiB to 1GiB",
        )];
        refuse("rpc server", &checks)
    }

    /// `outside`, the bounds of connections from anywhere, as they are right for components of one cluster: a query that reads several answers in turn
    /// leaves some of them alone for as long as it takes, and has one call open for each; and a connection is kept, so that no call meets one that is
    /// just being closed.
    pub fn connections(outside: &ConnectionSettings) -> ConnectionSettings {
        ConnectionSettings {
            send_stall_timeout: Duration::from_secs(600),
            idle_timeout: Duration::from_secs(3600),
            min_send_rate: ByteSize::bytes(0),
            max_http2_streams: 10_000,
            http2_window: ByteSize::mib(8),
            ..outside.clone()
        }
    }
}

fn message_size_fits(size: ByteSize) -> bool {
    (64 << 10..=1 << 30).contains(&size.as_u64())
}

fn refuse(what: &str, checks: &[(bool, &str)]) -> Result<()> {
    let faults: Vec<_> = checks.iter().filter(|c| c.0).map(|c| c.1).collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(Error::InvalidInput(format!(
        "{what}: {}",
        faults.join("; ")
    )))
}
