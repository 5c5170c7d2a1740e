//! Whether anybody still waits for the job that runs, for code deep inside of it that nobody hands a token.

use std::cell::RefCell;

use crate::error::{Error, Result};
use crate::exec::cancel::CancelToken;

thread_local! {
    static JOB: RefCell<Option<CancelToken>> = const { RefCell::new(None) };
}

/// Whether nobody waits any more for the job of an [`Executor`](crate::exec::Executor) around this call: its result will not be looked at, so that it may
/// end with anything. False outside of jobs. Costs a few nanoseconds: loops ask it every some hundred steps.
pub fn is_abandoned() -> bool {
    JOB.with_borrow(|job| job.as_ref().is_some_and(CancelToken::is_cancelled))
}

/// `Cancelled` once nobody waits any more for the job around this call, see [`is_abandoned`]; `what` names the work. For loops that end with `?`.
///
/// # Errors
/// `Cancelled`.
pub fn check_wanted(what: &str) -> Result<()> {
    if is_abandoned() {
        return Err(Error::Cancelled(what.to_owned()));
    }
    Ok(())
}

/// Runs a job of which `token` says whether anybody waits.
pub(super) fn with_token<T>(token: &CancelToken, job: impl FnOnce() -> T) -> T {
    /// Puts the token of the job around this one back, whatever ends it.
    struct Before(Option<CancelToken>);
    impl Drop for Before {
        fn drop(&mut self) {
            let before = self.0.take();
            JOB.with_borrow_mut(|job| *job = before);
        }
    }
    let _before = Before(JOB.with_borrow_mut(|job| job.replace(token.clone())));
    job()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_job_counts_and_no_job_is_none() {
        assert!(!is_abandoned());
        let (outer, inner) = (CancelToken::new(), CancelToken::new());
        with_token(&outer, || {
            assert!(!is_abandoned());
            assert!(check_wanted("test").is_ok());
            outer.cancel();
            assert!(is_abandoned() && check_wanted("test").is_err());
            with_token(&inner, || assert!(!is_abandoned()));
            let caught =
                std::panic::catch_unwind(|| with_token(&CancelToken::new(), || panic!("planted")));
            assert!(caught.is_err() && is_abandoned());
        });
        assert!(!is_abandoned());
    }
}
