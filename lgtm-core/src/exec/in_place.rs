//! Waiting for a lock that somebody may hold for long.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs what may block for some milliseconds, such as a wait for a lock, where it stands. A worker of a runtime of several threads
/// hands its other tasks to another thread meanwhile, so that nobody waits with it; elsewhere the call just runs.
///
/// Costs a switch of threads on such a worker: try without waiting first.
///
/// # Panics
/// Inside of a `LocalSet`, as [`tokio::task::block_in_place`].
pub fn in_place<T>(call: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|h| h.runtime_flavor());
    if matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
        tokio::task::block_in_place(call)
    } else {
        call()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use parking_lot::{Condvar, Mutex};

    use super::*;

    #[test]
    fn who_waits_holds_up_no_other_task() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        let waiting = Arc::clone(&shared);
        let waits = runtime.spawn(async move {
            in_place(|| {
                let mut done = waiting.0.lock();
                let until = |done: &mut bool| !*done;
                let limit = Duration::from_secs(30);
                waiting
                    .1
                    .wait_while_for(&mut done, until, limit)
                    .timed_out()
            })
        });
        // The only worker waits; this task runs all the same and ends the wait.
        let wakes = runtime.spawn(async move {
            *shared.0.lock() = true;
            shared.1.notify_all();
        });
        runtime.block_on(async {
            wakes.await.unwrap();
            assert!(!waits.await.unwrap(), "the other task never ran");
        });
        assert_eq!(in_place(|| 1), 1, "outside of a runtime");
    }
}
