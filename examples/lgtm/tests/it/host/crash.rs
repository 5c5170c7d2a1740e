//! Hosts that end at random moments among checkpoints and flushes, by `kill -9` and by SIGTERM in turn.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Host;

/// Threads that push while a host ends.
pub(crate) const WRITERS: usize = 3;
/// After so many rounds a new folder, so that checking stays short.
const ROUNDS_OF_A_FOLDER: u64 = 8;

/// What is done to hosts over one folder, and what they owe.
pub(crate) trait Load: Send + Sync + 'static {
    /// Settings under which checkpoints are made at nearly every moment.
    const FLAGS: &'static [&'static str];

    /// Pushes what nobody pushes to again: only checkpoints keep it.
    fn begin(&self, host: &Host);

    /// Pushes until the host is gone, and remembers what was acknowledged.
    fn write(&self, host: &Host, writer: usize, dice: Dice);

    /// Panics unless all that was acknowledged is there, once.
    fn check(&self, host: &Host);

    /// How much was acknowledged.
    fn acknowledged(&self) -> u64;
}

/// Rounds: a few in CI, more by `LGTM_CRASH_ROUNDS=200`.
pub(crate) fn rounds() -> u64 {
    let given = std::env::var("LGTM_CRASH_ROUNDS").ok();
    given.and_then(|n| n.parse().ok()).unwrap_or(5)
}

/// Numbers that look random, the same in each run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Ends hosts for [`rounds`] rounds; what was acknowledged in all of them.
pub(crate) fn survive<L: Load>(new: impl Fn() -> L) -> u64 {
    let mut dice = Dice(0x9e37_79b9);
    let mut acknowledged = 0;
    for first in (0..rounds()).step_by(ROUNDS_OF_A_FOLDER as usize) {
        let dir = tempfile::tempdir().unwrap();
        let load = Arc::new(new());
        for n in first..rounds().min(first + ROUNDS_OF_A_FOLDER) {
            round(dir.path(), n, &load, &mut dice);
        }
        let host = Host::start(dir.path(), L::FLAGS);
        load.check(&host);
        assert_eq!(host.post("/flush", &[], b"").status, 200);
        load.check(&host);
        acknowledged += load.acknowledged();
    }
    acknowledged
}

/// One life of the host, from the check of what the lives before have left to its end.
fn round<L: Load>(dir: &Path, round: u64, load: &Arc<L>, dice: &mut Dice) {
    let host = Arc::new(Host::start(dir, L::FLAGS));
    if round.is_multiple_of(ROUNDS_OF_A_FOLDER) {
        load.begin(&host);
    }
    load.check(&host);
    let writers: Vec<_> = (0..WRITERS)
        .map(|w| {
            let (host, load, dice) = (host.clone(), load.clone(), Dice(dice.below(u64::MAX)));
            std::thread::spawn(move || load.write(&host, w, dice))
        })
        .collect();
    std::thread::park_timeout(Duration::from_millis(100 + dice.below(700)));
    let (flushing, is_flushing) = (host.clone(), round % 3 == 2);
    // A flush is under way when the process ends.
    let flush = std::thread::spawn(move || {
        if is_flushing {
            drop(flushing.try_request("POST", "/flush", &[], b""));
        }
    });
    std::thread::park_timeout(Duration::from_millis(dice.below(30)));
    if round % 2 == 1 {
        host.ask_to_end();
    } else {
        host.kill_9();
    }
    flush.join().unwrap();
    writers.into_iter().for_each(|w| w.join().unwrap());
    let host = Arc::into_inner(host).expect("nobody talks to the host any more");
    assert_eq!(host.wait(), round % 2 == 1, "an orderly end is a success");
}
