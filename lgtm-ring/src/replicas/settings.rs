//! How several ingesters are written to and read from.

use std::time::Duration;

use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How several ingesters are written to and read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplicationSettings {
    /// When a further ingester is asked although none has failed, and again after as long. Default 3s, as in Mimir; 0: only failures bring others in.
    #[serde(with = "lgtm_core::units::duration")]
    pub hedging_delay: Duration,
    /// Whether reads ask only as many ingesters as the quorum needs. Default yes: it saves a third of the work with three of them.
    pub minimize_requests: bool,
    /// How long a push that has its quorum waits for the other replicas, so that the sender's next one does not overtake it there. Default 100ms: replicas
    /// that are well answer within some milliseconds of each other. 0: not at all.
    #[serde(with = "lgtm_core::units::duration")]
    pub straggler_wait: Duration,
    /// How long an ingester that has left a tenant's shard is asked for it. Default 13h, as in Mimir: longer than anything stays in an ingester.
    #[serde(with = "lgtm_core::units::duration")]
    pub shard_lookback: Duration,
    /// Zones whose ingesters are asked first, best first. Default none: by chance; the host takes its own zone, if it has one.
    pub preferred_zones: Vec<String>,
}

impl Default for ReplicationSettings {
    fn default() -> Self {
        Self {
            hedging_delay: Duration::from_secs(3),
            minimize_requests: true,
            straggler_wait: Duration::from_millis(100),
            shard_lookback: Duration::from_secs(13 * 3600),
            preferred_zones: Vec::new(),
        }
    }
}

impl ReplicationSettings {
    /// Checks all values.
    ///
    /// # Errors
    /// `InvalidInput` for a lookback shorter than an hour, within which data may be missed.
    pub fn validate(&self) -> Result<()> {
        if self.shard_lookback < Duration::from_secs(3600) {
            return Err(Error::InvalidInput(format!(
                "shard_lookback is {:?}, must be at least 1h",
                self.shard_lookback
            )));
        }
        Ok(())
    }
}
