//! Whether one piece of work keeps others from being done.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, SystemClock};

/// How often the probe begins: finer than what it is to see.
const EVERY: Duration = Duration::from_millis(1);

/// Runs `work` and meanwhile, every millisecond, `probe`; gives what the work gave and the longest that a probe took, from the moment
/// at which it was to begin. Hold that against what a request may at most hold a thread.
///
/// Both run in one task: whatever holds the thread without awaiting holds up the probe, however many threads the runtime has. Work that
/// goes to a pool does not. The time is the machine's, so that a bound in a test should leave room for a busy machine.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
/// # runtime.block_on(async {
/// use std::time::Duration;
/// use lgtm_core::testing::store_suite::worst_latency;
///
/// let work = async { tokio::time::sleep(Duration::from_millis(5)).await; 7 };
/// let (seven, worst) = worst_latency(work, async || ()).await;
/// assert!(seven == 7 && worst < Duration::from_secs(1));
/// # });
/// ```
pub async fn worst_latency<T>(
    work: impl Future<Output = T>,
    probe: impl AsyncFn(),
) -> (T, Duration) {
    let clock = SystemClock::new();
    let is_done = AtomicBool::new(false);
    let work = async {
        let value = work.await;
        is_done.store(true, Ordering::Relaxed);
        value
    };
    let probing = async {
        let mut worst = Duration::ZERO;
        // The round that stands when the work ends is counted too: the work may have held the thread to its very end.
        while !is_done.load(Ordering::Relaxed) {
            let due = clock.monotonic() + EVERY;
            tokio::time::sleep(EVERY).await;
            probe().await;
            worst = worst.max(clock.monotonic().saturating_sub(due));
        }
        worst
    };
    let (worst, value) = futures::join!(probing, work);
    (value, worst)
}

/// Waits until `used` says 0 again, as the counts of a bound do when the requests that it counted are gone, and at most for `patience`.
///
/// # Errors
/// What it still says.
pub async fn back_to_zero(used: impl Fn() -> u64, patience: Duration) -> Result<(), u64> {
    let clock = SystemClock::new();
    let end = clock.monotonic() + patience;
    loop {
        match used() {
            0 => return Ok(()),
            left if clock.monotonic() >= end => return Err(left),
            _ => tokio::time::sleep(EVERY).await,
        }
    }
}

/// Physical memory of this process, bytes; `None` where the system does not say (it is read from Linux' `/proc`).
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Runs `work` and gives what it gave, the longest time for which it held others up (as [`worst_latency`]), and by how much the process
/// grew meanwhile, looked at every millisecond: 0 where the system does not say. Run it in a process without other work.
pub async fn cost_to_others<T>(
    work: impl Future<Output = T>,
    probe: impl AsyncFn(),
) -> (T, Duration, u64) {
    let before = resident_bytes();
    let peak = AtomicU64::new(0);
    let (value, worst) = worst_latency(work, async || {
        probe().await;
        peak.fetch_max(resident_bytes().unwrap_or(0), Ordering::Relaxed);
    })
    .await;
    let grown = before.map(|b| peak.load(Ordering::Relaxed).saturating_sub(b));
    (value, worst, grown.unwrap_or(0))
}

#[cfg(test)]
mod tests {

    use super::*;

    /// Holds the thread, as a request does that computes without awaiting.
    fn hold_thread(for_how_long: Duration) {
        let clock = SystemClock::new();
        while clock.monotonic() < for_how_long {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn work_that_holds_the_thread_is_seen_and_work_that_awaits_is_not() {
        let held = Duration::from_millis(60);
        let (_, worst) = worst_latency(async { hold_thread(held) }, async || ()).await;
        assert!(worst >= held / 2, "{worst:?}");
        let in_pieces = async {
            for _ in 0..60 {
                hold_thread(held / 60);
                tokio::task::yield_now().await;
            }
        };
        let (_, worst) = worst_latency(in_pieces, async || ()).await;
        assert!(worst < held / 2, "{worst:?}");
    }

    #[tokio::test]
    async fn memory_that_work_takes_is_seen() {
        let work = async {
            let mut taken = vec![0u8; 64 << 20];
            for page in taken.chunks_mut(4096) {
                page[0] = 1;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            taken.len()
        };
        let (taken, _, grown) = cost_to_others(work, async || ()).await;
        if resident_bytes().is_some() {
            assert!(grown as usize > taken / 2, "{grown}");
        }
    }

    #[tokio::test]
    async fn a_count_that_stays_is_told() {
        let left = AtomicU64::new(3);
        let used = || left.load(Ordering::Relaxed);
        assert_eq!(back_to_zero(used, Duration::from_millis(5)).await, Err(3));
        let falling = || left.fetch_sub(1, Ordering::Relaxed) - 1;
        assert_eq!(back_to_zero(falling, Duration::from_secs(1)).await, Ok(()));
    }
}
