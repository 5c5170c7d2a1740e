//! A token bucket.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::error::{Error, Result};

/// How fast a bucket fills and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// Tokens per second. 0 is no limit, as `request_rate` in Mimir; so is what is below 0 or no number.
    pub per_second: f64,
    /// Tokens that may be taken at once. 0 is as many as a second fills.
    pub burst: f64,
}

impl RateLimit {
    /// No limit.
    pub const UNLIMITED: Self = Self {
        per_second: 0.0,
        burst: 0.0,
    };

    pub(super) fn is_unlimited(self) -> bool {
        self.per_second.is_nan() || self.per_second <= 0.0
    }

    fn capacity(self) -> f64 {
        if self.burst > 0.0 {
            self.burst
        } else {
            self.per_second
        }
    }
}

/// Lets through so much per second, and a burst more. Starts full; all or nothing.
///
/// The limit comes with each call, so that changed overrides hold at once.
#[derive(Debug)]
pub struct RateLimiter {
    clock: Arc<dyn Clock>,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Duration,
}

impl RateLimiter {
    /// A full bucket.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let at = clock.monotonic();
        Self {
            clock,
            bucket: Mutex::new(Bucket {
                // More than any bucket holds: the first call cuts it to its capacity.
                tokens: f64::INFINITY,
                at,
            }),
        }
    }

    /// Whether the bucket has filled by now, as `limit` fills it: then it says no more than a new one.
    pub(super) fn is_full(&self, limit: RateLimit) -> bool {
        let bucket = self.bucket.lock();
        let filled = self
            .clock
            .monotonic()
            .saturating_sub(bucket.at)
            .as_secs_f64();
        bucket.tokens + filled * limit.per_second >= limit.capacity()
    }

    /// Takes `count` tokens, or none. `what` names the limit in the error.
    ///
    /// # Errors
    /// `RateLimited`, with the time after which as much can be there; without one when `count` is more than the bucket ever holds.
    pub fn take(&self, what: &str, limit: RateLimit, count: f64) -> Result<()> {
        if limit.is_unlimited() {
            return Ok(());
        }
        let now = self.clock.monotonic();
        let mut bucket = self.bucket.lock();
        let filled = now.saturating_sub(bucket.at).as_secs_f64() * limit.per_second;
        bucket.tokens = (bucket.tokens + filled).min(limit.capacity());
        // Calls may arrive here in another order than they read the clock.
        bucket.at = bucket.at.max(now);
        if count <= bucket.tokens {
            bucket.tokens -= count;
            return Ok(());
        }
        let missing = count - bucket.tokens;
        drop(bucket);
        let in_reach = count <= limit.capacity();
        let wait = Duration::try_from_secs_f64(missing / limit.per_second);
        Err(Error::RateLimited {
            message: format!(
                "{what} is limited to {} per second with a burst of {}, {count} came",
                limit.per_second,
                limit.capacity()
            ),
            retry_after: wait.ok().filter(|_| in_reach),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::error::ErrorKind;
    use proptest::prelude::*;

    fn limiter() -> (Arc<ManualClock>, RateLimiter) {
        let clock = Arc::new(ManualClock::default());
        (clock.clone(), RateLimiter::new(clock))
    }

    const LIMIT: RateLimit = RateLimit {
        per_second: 10.0,
        burst: 20.0,
    };

    #[test]
    fn a_burst_passes_then_the_rate() {
        let (clock, limiter) = limiter();
        limiter.take("x", LIMIT, 20.0).unwrap();
        let error = limiter.take("x", LIMIT, 5.0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RateLimited);
        assert_eq!(error.retry_after(), Some(Duration::from_millis(500)));
        assert_eq!(
            error.to_string(),
            "x is limited to 10 per second with a burst of 20, 5 came"
        );
        clock.advance(Duration::from_millis(500));
        limiter.take("x", LIMIT, 5.0).unwrap();
        assert!(limiter.take("x", LIMIT, 1.0).is_err());
    }

    #[test]
    fn what_never_fits_has_no_time_to_come_back() {
        let (_, limiter) = limiter();
        let error = limiter.take("x", LIMIT, 21.0).unwrap_err();
        assert_eq!(error.retry_after(), None);
        limiter.take("x", LIMIT, 20.0).unwrap();
    }

    #[test]
    fn zero_is_no_limit_and_a_new_limit_holds_at_once() {
        let (clock, limiter) = limiter();
        limiter.take("x", RateLimit::UNLIMITED, f64::MAX).unwrap();
        limiter.take("x", LIMIT, 20.0).unwrap();
        clock.advance(Duration::from_secs(100));
        let small = RateLimit {
            per_second: 1.0,
            burst: 0.0,
        };
        assert!(limiter.take("x", small, 2.0).is_err());
        limiter.take("x", small, 1.0).unwrap();
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate(steps in prop::collection::vec((0u64..3000, 0u32..30), 1..100)) {
            let (clock, limiter) = limiter();
            let (mut taken, mut elapsed) = (0.0, 0.0);
            for (ms, count) in steps {
                clock.advance(Duration::from_millis(ms));
                elapsed += ms as f64 / 1000.0;
                if limiter.take("x", LIMIT, f64::from(count)).is_ok() {
                    taken += f64::from(count);
                }
                prop_assert!(taken <= LIMIT.burst + LIMIT.per_second * elapsed + 1e-6);
            }
        }
    }
}
