//! When a refused client shall come back.

use std::time::Duration;

/// The least and the most that a client is asked to wait, as in Mimir.
const MIN_SECONDS: f64 = 6.0;
const MAX_SECONDS: f64 = 96.0;

/// The wait before the attempt after the `attempt`th (from 1, the `Retry-Attempt` header): 6 s doubled each time, spread by half of it up
/// or down, within 6 s to 96 s, in whole seconds as `Retry-After` has them.
///
/// `spread` in `[0, 1)` is the caller's random number; 0.5 changes nothing. Without it all clients would come back together.
pub fn retry_after(attempt: u32, spread: f64) -> Duration {
    // At the sixth doubling half of the base passes the maximum already.
    let doublings = attempt.saturating_sub(1).min(6);
    let base = MIN_SECONDS * f64::from(1u32 << doublings);
    let spread = if spread.is_finite() {
        spread.clamp(0.0, 1.0)
    } else {
        0.5
    };
    let seconds = (base * (0.5 + spread)).clamp(MIN_SECONDS, MAX_SECONDS);
    Duration::from_secs(seconds.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_6_to_96_seconds() {
        let waits = [0, 1, 2, 3, 4, 5, 6, u32::MAX].map(|n| retry_after(n, 0.5).as_secs());
        assert_eq!(waits, [6, 6, 12, 24, 48, 96, 96, 96]);
    }

    #[test]
    fn the_spread_is_half_up_or_down_and_stays_in_bounds() {
        assert_eq!(retry_after(3, 0.0).as_secs(), 12);
        assert_eq!(retry_after(3, 1.0).as_secs(), 36);
        assert_eq!(retry_after(1, 0.0).as_secs(), 6);
        assert_eq!(retry_after(5, 1.0).as_secs(), 96);
        assert_eq!(retry_after(5, 0.0).as_secs(), 48);
        assert_eq!(retry_after(1, f64::NAN).as_secs(), 6);
    }
}
