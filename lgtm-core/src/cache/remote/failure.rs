//! Why something did not work, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::cache::counts::CacheCounts;
use crate::telemetry::Collection;

/// What is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cache) enum RemoteOperation {
    Get,
    Set,
    Delete,
}

impl RemoteOperation {
    const ALL: [Self; 3] = [Self::Get, Self::Set, Self::Delete];

    fn as_str(self) -> &'static str {
        match self {
            Self::Get => "getmulti",
            Self::Set => "set",
            Self::Delete => "delete",
        }
    }
}

/// Why an operation failed, or was not even tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cache) enum Failure {
    ConnectTimeout,
    RequestTimeout,
    Network,
    /// The server said that something is wrong.
    Server,
    /// What came is nothing that a server says.
    Protocol,
    CircuitOpen,
    NoServers,
    NotStored,
    MalformedKey,
    InvalidTtl,
    TooLarge,
    QueueFull,
}

const FAILURES: usize = 12;

impl Failure {
    const ALL: [Self; FAILURES] = [
        Self::ConnectTimeout,
        Self::RequestTimeout,
        Self::Network,
        Self::Server,
        Self::Protocol,
        Self::CircuitOpen,
        Self::NoServers,
        Self::NotStored,
        Self::MalformedKey,
        Self::InvalidTtl,
        Self::TooLarge,
        Self::QueueFull,
    ];

    pub(in crate::cache) fn as_str(self) -> &'static str {
        match self {
            Self::ConnectTimeout => "connect-timeout",
            Self::RequestTimeout => "request-timeout",
            Self::Network => "network-error",
            Self::Server => "server-error",
            Self::Protocol => "protocol-error",
            Self::CircuitOpen => "circuit-open",
            Self::NoServers => "no-servers",
            Self::NotStored => "not-stored",
            Self::MalformedKey => "malformed-key",
            Self::InvalidTtl => "invalid-ttl",
            Self::TooLarge => "max-item-size",
            Self::QueueFull => "async-buffer-full",
        }
    }

    /// Whether nothing was tried on purpose: no failure, but a bound.
    fn is_skip(self) -> bool {
        matches!(self, Self::TooLarge | Self::QueueFull)
    }

    /// Whether the server is to blame for not answering.
    pub(in crate::cache) fn is_silence(self) -> bool {
        matches!(
            self,
            Self::ConnectTimeout | Self::RequestTimeout | Self::Network | Self::Protocol
        )
    }
}

/// Counts of a cache on other machines.
#[derive(Debug, Default)]
pub(in crate::cache) struct RemoteCounts {
    pub(in crate::cache) cache: CacheCounts,
    operations: [AtomicU64; 3],
    /// Keys, by operation and reason.
    failures: [[AtomicU64; FAILURES]; 3],
    pub(in crate::cache) dns_lookups: AtomicU64,
    pub(in crate::cache) dns_failures: AtomicU64,
}

impl RemoteCounts {
    /// Counts keys that an operation was tried with.
    pub(in crate::cache) fn tried(&self, operation: RemoteOperation, keys: u64) {
        self.operations[operation as usize].fetch_add(keys, Ordering::Relaxed);
    }

    /// Counts keys with which it failed.
    pub(in crate::cache) fn failed(&self, operation: RemoteOperation, why: Failure, keys: u64) {
        self.failures[operation as usize][why as usize].fetch_add(keys, Ordering::Relaxed);
        match why.is_skip() {
            true => self.cache.skipped(keys),
            false => self.cache.failed(keys),
        }
    }

    /// Tells all of it, under names that begin with `prefix`: Mimir's for memcached.
    pub(in crate::cache) fn tell(&self, prefix: &str, name: &str, e: &mut Collection) {
        for operation in RemoteOperation::ALL {
            let labels = [("name", name), ("operation", operation.as_str())];
            let tried = self.operations[operation as usize].load(Ordering::Relaxed);
            e.counter(
                &format!("{prefix}_operations_total"),
                "Keys that operations were tried with.",
                &labels,
                tried as f64,
            );
            for why in Failure::ALL {
                let count = self.failures[operation as usize][why as usize].load(Ordering::Relaxed);
                if count == 0 {
                    continue;
                }
                let labels = [
                    ("name", name),
                    ("operation", operation.as_str()),
                    ("reason", why.as_str()),
                ];
                let (metric, help) = match why.is_skip() {
                    true => ("operation_skipped_total", "Keys that were not tried."),
                    false => ("operation_failures_total", "Keys that failed."),
                };
                e.counter(&format!("{prefix}_{metric}"), help, &labels, count as f64);
            }
        }
        let labels = [("name", name)];
        for (metric, help, count) in [
            (
                "dns_lookups_total",
                "Look-ups of server names.",
                &self.dns_lookups,
            ),
            (
                "dns_failures_total",
                "Look-ups of server names that failed.",
                &self.dns_failures,
            ),
        ] {
            let count = count.load(Ordering::Relaxed);
            e.counter(&format!("{prefix}_{metric}"), help, &labels, count as f64);
        }
    }
}
