//! What an operator says about an instance's own record.

use std::time::Duration;

use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::token::MAX_TOKENS;

/// Settings of a lifecycler. Durations of 0 mean "at once" or "never", as each says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LifecyclerSettings {
    /// Tokens of the instance. Default 128, enough for an even load; 512 with spread-minimizing tokens.
    pub num_tokens: usize,
    /// Time between heartbeats. Default 15s: four fit into the default heartbeat timeout.
    #[serde(with = "lgtm_core::units::duration")]
    pub heartbeat_period: Duration,
    /// The age of a heartbeat from which on an instance counts as unhealthy; the ring's own setting. Default 1m.
    #[serde(with = "lgtm_core::units::duration")]
    pub heartbeat_timeout: Duration,
    /// How long to stay PENDING before joining. Default 0.
    #[serde(with = "lgtm_core::units::duration")]
    pub join_after: Duration,
    /// How long to watch after joining whether another took the same tokens. Default 0, right for stores that agree; a few seconds with
    /// gossip.
    #[serde(with = "lgtm_core::units::duration")]
    pub observe_period: Duration,
    /// How long the checks must have passed before the instance says it is ready. Default 15s, so that readers have seen it.
    #[serde(with = "lgtm_core::units::duration")]
    pub min_ready_duration: Duration,
    /// Whether all others must be healthy before this one is ready. Default no: one sick instance must not hold up a rollout.
    pub readiness_check_ring_health: bool,
    /// Whether the record is removed at shutdown. Default yes; with no, a restart finds its tokens and no data moves.
    pub unregister_on_shutdown: bool,
    /// How long heartbeats go on after the work of a shutdown is done, so that last scrapes and reads find the instance. Default 0.
    #[serde(with = "lgtm_core::units::duration")]
    pub final_sleep: Duration,
    /// Instances whose heartbeat is older are removed from the ring. Default 0: never, since who is gone may come back with data that it
    /// alone has. For instances without data ten heartbeat timeouts are usual.
    #[serde(with = "lgtm_core::units::duration")]
    pub forget_after: Duration,
    /// The longest that one read or write of the ring may take. Default 10s, less than a heartbeat period.
    #[serde(with = "lgtm_core::units::duration")]
    pub store_timeout: Duration,
}

impl Default for LifecyclerSettings {
    fn default() -> Self {
        Self {
            num_tokens: 128,
            heartbeat_period: Duration::from_secs(15),
            heartbeat_timeout: Duration::from_secs(60),
            join_after: Duration::ZERO,
            observe_period: Duration::ZERO,
            min_ready_duration: Duration::from_secs(15),
            readiness_check_ring_health: false,
            unregister_on_shutdown: true,
            final_sleep: Duration::ZERO,
            forget_after: Duration::ZERO,
            store_timeout: Duration::from_secs(10),
        }
    }
}

impl LifecyclerSettings {
    /// The settings of instances that hold no data of their own: the dead are forgotten after ten heartbeat timeouts.
    pub fn without_data() -> Self {
        Self {
            forget_after: Duration::from_secs(600),
            min_ready_duration: Duration::ZERO,
            ..Self::default()
        }
    }

    /// Checks the values.
    ///
    /// # Errors
    /// `InvalidInput`, naming every setting that is wrong.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        if !(1..=MAX_TOKENS).contains(&self.num_tokens) {
            let value = self.num_tokens;
            faults.push(format!("num_tokens is {value}, must be 1 to {MAX_TOKENS}"));
        }
        // Heartbeats are stamped in whole seconds.
        if self.heartbeat_period < Duration::from_secs(1) {
            let value = self.heartbeat_period;
            faults.push(format!(
                "heartbeat_period is {value:?}, must be at least 1s"
            ));
        }
        if self.heartbeat_timeout <= self.heartbeat_period {
            faults.push(format!(
                "heartbeat_timeout is {:?}, must be longer than heartbeat_period, {:?}",
                self.heartbeat_timeout, self.heartbeat_period
            ));
        }
        if !self.forget_after.is_zero() && self.forget_after <= self.heartbeat_timeout {
            faults.push(format!(
                "forget_after is {:?}, must be 0 or longer than heartbeat_timeout, {:?}",
                self.forget_after, self.heartbeat_timeout
            ));
        }
        if self.store_timeout.is_zero() {
            faults.push("store_timeout is 0, must be longer".into());
        }
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::InvalidInput(format!(
            "lifecycler: {}",
            faults.join("; ")
        )))
    }
}
