//! How long to wait before the next try.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Waits that double from `least` to `most`, each between half and all of it, so that the members of a cluster do not come back at once.
#[derive(Debug)]
pub(super) struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
    rng: SmallRng,
}

impl Backoff {
    pub(super) fn new(least: Duration, most: Duration, seed: u64) -> Self {
        Self {
            least,
            most,
            next: least,
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    /// The next wait.
    pub(super) fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.most);
        wait.mul_f64(0.5 + 0.5 * self.rng.random::<f64>())
    }

    /// It worked: the next failure begins anew.
    pub(super) fn reset(&mut self) {
        self.next = self.least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_begin_anew() {
        let secs = Duration::from_secs;
        let mut backoff = Backoff::new(secs(1), secs(10), 7);
        for most in [1, 2, 4, 8, 10, 10] {
            let wait = backoff.wait();
            assert!(
                wait <= secs(most) && wait * 2 >= secs(most),
                "{wait:?} of {most} s"
            );
        }
        backoff.reset();
        assert!(backoff.wait() <= secs(1));
    }
}
