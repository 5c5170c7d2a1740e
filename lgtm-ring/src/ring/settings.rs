//! What an operator says about a ring.

use std::time::Duration;

use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::ring::ReplicationStrategy;

/// Settings of one ring, the same in every process that reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RingSettings {
    /// Instances that hold each key. Default 3: one may be lost without a write failing. A single process needs 1.
    pub replication_factor: usize,
    /// Whether replicas lie in different zones. Default off: instances without zones are what most start with.
    pub zone_awareness_enabled: bool,
    /// An instance whose heartbeat is older counts as unhealthy. Default 1m: four heartbeats of 15 s.
    #[serde(with = "lgtm_core::units::duration")]
    pub heartbeat_timeout: Duration,
    /// Whether the ring goes on as it last was when *nobody* was heard of for longer: then the store is down, not all instances at once. When heartbeats come
    /// again, those who were healthy before have one more `heartbeat_timeout` to be heard. For rings that a watcher follows. Default yes; with no, as in
    /// the reference systems, nothing is written or read once a store has been down for that long.
    pub serve_while_silent: bool,
    /// Zones whose instances are not seen, for emptying a zone. Default none.
    pub excluded_zones: Vec<String>,
    /// How many replicas of a key must answer. Default `quorum`; components without data of their own use `ignore_unhealthy`.
    pub strategy: ReplicationStrategy,
    /// Memory for shuffle shards of tenants; the oldest go first. Default 64MiB: some 2000 shards of six instances with 512 tokens.
    pub shard_cache_size: ByteSize,
    /// How long after a new view the next may come; values in between are skipped. Default 100ms: a large ring changes many times a second, by
    /// heartbeats alone, and reading it takes milliseconds each time.
    #[serde(with = "lgtm_core::units::duration")]
    pub min_update_interval: Duration,
}

impl Default for RingSettings {
    fn default() -> Self {
        Self {
            replication_factor: 3,
            zone_awareness_enabled: false,
            heartbeat_timeout: Duration::from_secs(60),
            serve_while_silent: true,
            excluded_zones: Vec::new(),
            strategy: ReplicationStrategy::Quorum,
            shard_cache_size: ByteSize::mib(64),
            min_update_interval: Duration::from_millis(100),
        }
    }
}

impl RingSettings {
    /// Checks the values.
    ///
    /// # Errors
    /// `InvalidInput`, naming every setting that is wrong.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        if !(1..=255).contains(&self.replication_factor) {
            let value = self.replication_factor;
            faults.push(format!("replication_factor is {value}, must be 1 to 255"));
        }
        if self.heartbeat_timeout < Duration::from_secs(1) {
            let value = self.heartbeat_timeout;
            faults.push(format!(
                "heartbeat_timeout is {value:?}, must be at least 1s"
            ));
        }
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::InvalidInput(format!("ring: {}", faults.join("; "))))
    }

    pub(crate) fn heartbeat_timeout_s(&self) -> i64 {
        i64::try_from(self.heartbeat_timeout.as_secs()).unwrap_or(i64::MAX)
    }
}
