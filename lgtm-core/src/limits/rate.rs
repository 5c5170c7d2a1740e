//! Rates with bursts, and how long a refused sender should wait.

use std::time::Duration;

/// A token bucket. Time comes in from outside.
#[derive(Debug, Clone)]
pub struct RateLimiter {
    tokens: f64,
    at: Duration,
}

impl RateLimiter {
    /// A full bucket of `burst` tokens.
    pub fn new(burst: f64, now: Duration) -> Self {
        Self { tokens: burst, at: now }
    }

    /// Takes `n` tokens if they are there. `rate` (a second) and `burst` may change from call to call; a rate of 0 is no limit.
    pub fn allow(&mut self, n: f64, rate: f64, burst: f64, now: Duration) -> bool {
        if rate <= 0.0 {
            return true;
        }
        let gained = now.saturating_sub(self.at).as_secs_f64() * rate;
        self.tokens = (self.tokens + gained).min(burst);
        self.at = now;
        if n > self.tokens {
            return false;
        }
        self.tokens -= n;
        true
    }
}

/// How long to wait before attempt number `attempt` (from 1): 6 s doubled with each, half more or less by `jitter` in 0..1,
/// between 6 s and 96 s. Mimir's rule.
pub fn retry_after(attempt: u32, jitter: f64) -> Duration {
    let base = 6.0 * 2f64.powi(attempt.clamp(1, 10) as i32 - 1);
    Duration::from_secs_f64((base * (0.5 + jitter.clamp(0.0, 1.0))).clamp(6.0, 96.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_fills_at_its_rate_up_to_its_burst() {
        let at = Duration::from_secs;
        let mut bucket = RateLimiter::new(10.0, at(0));
        assert!(bucket.allow(10.0, 5.0, 10.0, at(0)));
        assert!(!bucket.allow(6.0, 5.0, 10.0, at(1)));
        assert!(bucket.allow(5.0, 5.0, 10.0, at(1)));
        assert!(!bucket.allow(11.0, 5.0, 10.0, at(100)));
        assert!(bucket.allow(1e9, 0.0, 0.0, at(100)));
    }

    #[test]
    fn waiting_doubles_within_its_bounds() {
        assert_eq!(retry_after(1, 0.5), Duration::from_secs(6));
        assert_eq!(retry_after(3, 0.5), Duration::from_secs(24));
        assert_eq!(retry_after(9, 1.0), Duration::from_secs(96));
    }
}
