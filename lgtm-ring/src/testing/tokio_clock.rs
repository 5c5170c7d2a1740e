//! A clock that follows tokio's, so that a test with paused time needs no other.

use std::time::Duration;

use lgtm_core::clock::Clock;
use lgtm_core::model::TimestampMs;
use tokio::time::Instant;

/// Shows tokio's time: under `start_paused` it jumps from timer to timer.
#[derive(Debug)]
pub struct TokioClock {
    start: Instant,
    start_ms: i64,
}

impl TokioClock {
    /// A clock whose wall time is `start_ms` now.
    pub fn starting_at_ms(start_ms: i64) -> Self {
        Self {
            start: Instant::now(),
            start_ms,
        }
    }
}

impl Clock for TokioClock {
    fn now_ms(&self) -> TimestampMs {
        TimestampMs::new(self.start_ms + self.monotonic().as_millis() as i64)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}
