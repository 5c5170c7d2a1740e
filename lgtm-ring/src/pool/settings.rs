//! What an operator says about client pools.

use std::time::Duration;

use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Settings of a [`ClientPool`](super::ClientPool).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientPoolSettings {
    /// Time between rounds in which all clients are checked and those of gone instances removed. Default 15s, a heartbeat period.
    #[serde(with = "lgtm_core::units::duration")]
    pub check_interval: Duration,
    /// Whether clients are asked for their health; with no, only the gone are removed. Default yes.
    pub health_check_enabled: bool,
    /// The longest that a health check may take. Default 1s: a healthy instance answers in milliseconds.
    #[serde(with = "lgtm_core::units::duration")]
    pub health_check_timeout: Duration,
    /// Health checks at the same time. Default 16.
    pub max_concurrent_health_checks: usize,
    /// The most clients; more instances are refused. Default 10000, beyond any ring.
    pub max_clients: usize,
}

impl Default for ClientPoolSettings {
    fn default() -> Self {
        Self {
            check_interval: Duration::from_secs(15),
            health_check_enabled: true,
            health_check_timeout: Duration::from_secs(1),
            max_concurrent_health_checks: 16,
            max_clients: 10_000,
        }
    }
}

impl ClientPoolSettings {
    /// Checks the values.
    ///
    /// # Errors
    /// `InvalidInput`, naming every setting that is wrong.
    pub fn validate(&self) -> Result<()> {
        let wrong = [
            ("check_interval", self.check_interval.is_zero()),
            ("health_check_timeout", self.health_check_timeout.is_zero()),
            (
                "max_concurrent_health_checks",
                self.max_concurrent_health_checks == 0,
            ),
            ("max_clients", self.max_clients == 0),
        ];
        let faults: Vec<_> = wrong
            .iter()
            .filter(|(_, wrong)| *wrong)
            .map(|(name, _)| format!("{name} is 0, must be more"))
            .collect();
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::InvalidInput(format!(
            "client pool: {}",
            faults.join("; ")
        )))
    }
}
