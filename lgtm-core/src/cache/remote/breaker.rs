//! A server that fails again and again is left alone for a while.

use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// When a server is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerSettings {
    /// Failures in a row (no connection, no answer in time) after which a server is not asked. 10: Loki's and Tempo's bound. 0: it is always
    /// asked.
    pub failures_to_open: u32,
    /// How long a server is left alone before one request tries it again. 10 s, as in Loki and Tempo.
    #[serde(with = "crate::units::duration")]
    pub open_for: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failures_to_open: 10,
            open_for: Duration::from_secs(10),
        }
    }
}

impl BreakerSettings {
    pub(in crate::cache) fn validate(&self) -> Result<()> {
        if self.failures_to_open > 0 && self.open_for.is_zero() {
            return Err(Error::InvalidInput(
                "breaker: open_for is 0, must be more while failures_to_open is not 0".into(),
            ));
        }
        Ok(())
    }
}

/// The breaker of one server. Times are the monotonic clock's.
#[derive(Debug, Default)]
pub(in crate::cache) struct Breaker(Mutex<BreakerState>);

#[derive(Debug, Default)]
struct BreakerState {
    failures: u32,
    /// Nobody asks before; then one may, and the moment moves on, so that a trial that is cancelled needs no clean-up.
    trial_at: Option<Duration>,
}

impl Breaker {
    /// Whether the server may be asked now.
    pub(in crate::cache) fn lets_through(&self, now: Duration, settings: &BreakerSettings) -> bool {
        let mut state = self.0.lock();
        match state.trial_at {
            None => true,
            Some(at) if now < at => false,
            Some(_) => {
                state.trial_at = Some(now + settings.open_for);
                true
            }
        }
    }

    pub(in crate::cache) fn answered(&self) {
        let mut state = self.0.lock();
        if state.failures > 0 || state.trial_at.is_some() {
            *state = BreakerState::default();
        }
    }

    pub(in crate::cache) fn failed(&self, now: Duration, settings: &BreakerSettings) {
        if settings.failures_to_open == 0 {
            return;
        }
        let mut state = self.0.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= settings.failures_to_open {
            state.trial_at = Some(now + settings.open_for);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_open_it_and_one_trial_at_a_time_closes_it() {
        let settings = BreakerSettings {
            failures_to_open: 3,
            open_for: Duration::from_secs(10),
        };
        let breaker = Breaker::default();
        let at = Duration::from_secs;
        let lets = |now| breaker.lets_through(at(now), &settings);
        breaker.failed(at(0), &settings);
        breaker.failed(at(0), &settings);
        breaker.answered();
        breaker.failed(at(0), &settings);
        breaker.failed(at(0), &settings);
        assert!(lets(1), "not in a row");
        breaker.failed(at(1), &settings);
        assert!(!lets(1) && !lets(10));
        assert!(lets(11) && !lets(11), "one trial");
        breaker.failed(at(11), &settings);
        assert!(!lets(20) && lets(21));
        breaker.answered();
        assert!(lets(21) && lets(21));
    }

    #[test]
    fn it_can_be_turned_off() {
        let settings = BreakerSettings {
            failures_to_open: 0,
            ..BreakerSettings::default()
        };
        let breaker = Breaker::default();
        (0..100).for_each(|_| breaker.failed(Duration::ZERO, &settings));
        assert!(breaker.lets_through(Duration::ZERO, &settings));
    }
}
