//! When a failed request is sent again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::ErrorKind;
use crate::storage::fault;
use crate::storage::jitter::Jitter;
use crate::storage::settings::RetrySettings;

/// Whether sending a request twice does the same as sending it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Reads, overwrites, deletes: again after any failure that may pass.
    Always,
    /// Conditional writes: again only when the store said that it did nothing, since after a lost answer the second try would find
    /// the first one's work and call it a conflict.
    IfRefused,
}

/// The rule, shared by all requests of a component.
#[derive(Debug, Clone)]
pub(super) struct Retry {
    settings: RetrySettings,
    jitter: Arc<Jitter>,
}

/// The tries of one request.
#[derive(Debug)]
pub(super) struct Tries {
    retry: Retry,
    repeat: Repeat,
    done: u32,
    /// Tokio's clock, as the waits are tokio's.
    started: Instant,
}

impl Retry {
    pub(super) fn new(settings: RetrySettings, jitter: Arc<Jitter>) -> Self {
        Self { settings, jitter }
    }

    /// How long to wait after the `done`-th try, or none when there is to be no further one.
    pub(super) fn pause(&self, done: u32, elapsed: Duration) -> Option<Duration> {
        let settings = &self.settings;
        if done >= settings.max_attempts {
            return None;
        }
        let doublings = done.saturating_sub(1).min(31);
        let longest = settings
            .initial_backoff
            .saturating_mul(1 << doublings)
            .min(settings.max_backoff);
        // Half of the wait is certain, so that tries do spread out in time; half is chance, so that clients do not march in step.
        let pause = longest.mul_f64(0.5 + 0.5 * self.jitter.next_unit());
        (elapsed + pause < settings.max_elapsed).then_some(pause)
    }

    pub(super) fn begin(&self, repeat: Repeat) -> Tries {
        Tries {
            retry: self.clone(),
            repeat,
            done: 0,
            started: Instant::now(),
        }
    }
}

impl Tries {
    /// Waits before the next try, or gives the error back when there is to be none.
    pub(super) async fn again_after(
        &mut self,
        error: object_store::Error,
    ) -> object_store::Result<()> {
        match self.pause_after(&error) {
            Some(pause) => {
                tokio::time::sleep(pause).await;
                Ok(())
            }
            None => Err(error),
        }
    }

    fn pause_after(&mut self, error: &object_store::Error) -> Option<Duration> {
        self.done += 1;
        let may_pass = match self.repeat {
            Repeat::Always => fault::may_pass(error),
            Repeat::IfRefused => fault::kind_of(error) == ErrorKind::RateLimited,
        };
        let pause = self.retry.pause(self.done, self.started.elapsed());
        pause.filter(|_| may_pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fault::Fault;

    fn retry(settings: RetrySettings) -> Retry {
        Retry::new(settings, Arc::new(Jitter::seeded(1)))
    }

    fn timed_out() -> object_store::Error {
        let after = Duration::from_secs(1);
        Fault::TimedOut { after }.into()
    }

    #[tokio::test(start_paused = true)]
    async fn waits_double_up_to_their_bound_and_end() {
        let settings = RetrySettings {
            max_attempts: 6,
            initial_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_millis(400),
            max_elapsed: Duration::from_secs(60),
        };
        let mut tries = retry(settings).begin(Repeat::Always);
        for longest_ms in [100, 200, 400, 400, 400] {
            let before = Instant::now();
            tries.again_after(timed_out()).await.unwrap();
            let waited = before.elapsed().as_millis();
            assert!(
                (longest_ms / 2..=longest_ms + 1).contains(&waited),
                "{waited}"
            );
        }
        assert!(tries.again_after(timed_out()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn no_try_begins_after_the_time_is_up() {
        let settings = RetrySettings {
            max_attempts: 100,
            max_elapsed: Duration::from_secs(3),
            ..Default::default()
        };
        let started = Instant::now();
        let mut tries = retry(settings).begin(Repeat::Always);
        while tries.again_after(timed_out()).await.is_ok() {}
        assert!(started.elapsed() < Duration::from_secs(3));
        assert!(started.elapsed() > Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_will_not_pass_or_may_have_happened_is_not_repeated() {
        let retry = retry(RetrySettings::default());
        let missing = || object_store::Error::NotFound {
            path: "a".into(),
            source: "gone".into(),
        };
        assert!(
            retry
                .begin(Repeat::Always)
                .again_after(missing())
                .await
                .is_err()
        );
        assert!(
            retry
                .begin(Repeat::IfRefused)
                .again_after(timed_out())
                .await
                .is_err()
        );
        let refused = Fault::QueueFull { max: 1 }.into();
        assert!(
            retry
                .begin(Repeat::IfRefused)
                .again_after(refused)
                .await
                .is_ok()
        );
        let cause = "denied".into();
        let open = Fault::CircuitOpen { cause }.into();
        assert!(retry.begin(Repeat::Always).again_after(open).await.is_err());
    }
}
