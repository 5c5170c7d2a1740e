//! Asking again what may succeed next time.

use std::future::Future;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// The wait after the first failure; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest wait.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Runs `ask` until it succeeds, fails for good, or has run `max_attempts` times.
///
/// Again after `Unavailable` only: a holder that starts, stops or cannot be reached, where another one may serve; not when it is
/// [`Error::Exhausted`], which repeating makes worse. What is wrong with the request stays wrong; a query that took too long would take as long again; of a full queue the caller is told; and a fault of
/// this program would be met again. Cancel-safe as `ask` is.
///
/// # Errors
/// The last of `ask`.
pub(super) async fn retry<T, F: Future<Output = Result<T>>>(
    max_attempts: u32,
    mut ask: impl FnMut() -> F,
    mut on_retry: impl FnMut(),
) -> Result<T> {
    let mut pause = FIRST_PAUSE;
    let mut attempt = 1;
    loop {
        match ask().await {
            Err(e) if may_pass(&e) && attempt < max_attempts => {
                attempt += 1;
                on_retry();
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

fn may_pass(error: &Error) -> bool {
    error.kind() == ErrorKind::Unavailable && !matches!(error, Error::Exhausted(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn attempts(max: u32, errors: Vec<Error>) -> (u32, Result<()>) {
        let mut left = errors.into_iter();
        let mut count = 0;
        let ask = || {
            count += 1;
            let outcome = left.next().map_or(Ok(()), Err);
            async move { outcome }
        };
        let outcome = retry(max, ask, || ()).await;
        (count, outcome)
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_may_pass_is_asked_again() {
        let down = || Error::Unavailable("starting".into());
        assert!(matches!(
            attempts(5, vec![down(), down()]).await,
            (3, Ok(()))
        ));
        assert!(matches!(attempts(5, vec![down(); 9]).await, (5, Err(_))));
        assert!(matches!(attempts(1, vec![down()]).await, (1, Err(_))));
        for error in [
            Error::InvalidInput("x".into()),
            Error::LimitExceeded("x".into()),
            Error::Cancelled("x".into()),
            Error::Internal("x".into()),
            Error::Exhausted("x".into()),
            Error::RateLimited {
                message: "x".into(),
                retry_after: None,
            },
            Error::Timeout {
                what: "x".into(),
                after: Duration::ZERO,
            },
        ] {
            assert!(matches!(attempts(5, vec![error]).await, (1, Err(_))));
        }
    }
}
