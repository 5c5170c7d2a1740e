//! How long one poll keeps a thread of the runtime from all others, in processor time: what other programs of the machine do does not count.

use std::io;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{Instant, sleep};

/// How often [`longest_poll`] looks.
const LOOK: Duration = Duration::from_millis(1);

/// A runtime of one thread that looks at its timers after every poll, so that [`longest_poll`] can tell polls apart.
///
/// # Errors
/// When the system has no room for one.
pub fn one_poll_at_a_time() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .event_interval(1)
        .enable_all()
        .build()
}

/// Runs `work` for up to `within` and says how much processor time any poll took on the way, of whatever task of the runtime, and whether it ended
/// by itself. What is between two looks counts as one poll: up to two milliseconds more than the longest. Must be awaited by the runtime's own
/// thread, that is by `block_on` of a runtime of [`one_poll_at_a_time`].
///
/// # Panics
/// If `work` does.
pub async fn longest_poll(
    work: impl Future<Output = ()> + Send + 'static,
    within: Duration,
) -> (Duration, bool) {
    let work = Handle::current().spawn(work);
    let begin = Instant::now();
    let mut longest = Duration::ZERO;
    while begin.elapsed() < within && !work.is_finished() {
        let before = processor_time();
        sleep(LOOK).await;
        longest = longest.max(processor_time().saturating_sub(before));
    }
    let has_ended = work.is_finished();
    work.abort();
    if let Err(e) = work.await {
        assert!(e.is_cancelled(), "{e}");
    }
    (longest, has_ended)
}

/// What this thread has computed so far.
fn processor_time() -> Duration {
    time_of(ClockId::ThreadCPUTime)
}

/// What all threads of this process have computed so far.
pub fn process_time() -> Duration {
    time_of(ClockId::ProcessCPUTime)
}

fn time_of(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compute(time: Duration) {
        let end = processor_time() + time;
        while processor_time() < end {
            std::hint::spin_loop();
        }
    }

    fn measured(work: impl Future<Output = ()> + Send + 'static) -> (Duration, bool) {
        let runtime = one_poll_at_a_time().unwrap();
        runtime.block_on(longest_poll(work, Duration::from_secs(20)))
    }

    #[test]
    fn one_long_poll_is_found_and_many_short_ones_are_not_added() {
        let (long, _) = measured(async {
            tokio::task::yield_now().await;
            compute(Duration::from_millis(20));
        });
        assert!(long >= Duration::from_millis(20), "{long:?}");
        let (short, has_ended) = measured(async {
            for _ in 0..100 {
                compute(Duration::from_millis(1));
                tokio::task::yield_now().await;
            }
        });
        assert!(has_ended && short < Duration::from_millis(10), "{short:?}");
        let inner = async {
            let task = Handle::current().spawn(async { compute(Duration::from_millis(20)) });
            task.await.unwrap();
        };
        let (of_a_task, _) = measured(inner);
        assert!(of_a_task >= Duration::from_millis(20), "{of_a_task:?}");
    }
}
