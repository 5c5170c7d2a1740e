//! The threads of the compute pool and the lines before them.
//!
//! Jobs stand in lines, first come, first served in each; lines take turns. As many jobs run as there are CPUs to compute on, and
//! beyond that one of each line that has none running, on spare threads: a job may take seconds, and who stands in another line does
//! not wait for it. How many jobs stand in line is bounded by the executor, not here.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::error::{Error, Result};

/// A job that catches its own panics.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// Whose jobs stand behind each other.
pub(super) type LineName = Arc<str>;

/// Threads that take jobs off the lines.
pub(super) struct Pool {
    shared: Arc<Shared>,
    /// Threads that have not ended.
    alive: watch::Receiver<usize>,
}

struct Shared {
    lines: Mutex<Lines>,
}

/// Where one thread waits for a job.
type Seat = Arc<Condvar>;

/// The jobs of one line; forgotten when it has none.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Job>,
    running: usize,
}

#[derive(Default)]
struct Lines {
    /// Jobs that run at a time, but for the first of each line.
    width: usize,
    running: usize,
    /// Jobs that wait, in all lines.
    waiting: usize,
    by_name: HashMap<LineName, Line>,
    /// Lines with jobs that wait, in the order of their turns.
    turns: VecDeque<LineName>,
    /// Threads without a job, by their numbers.
    idle: BTreeMap<usize, Seat>,
    /// Threads that were called for a job and have not come yet.
    called: usize,
    closed: bool,
}

impl Lines {
    fn push(&mut self, name: &LineName, job: Job) {
        let line = self.by_name.entry(Arc::clone(name)).or_default();
        if line.waiting.is_empty() {
            self.turns.push_back(Arc::clone(name));
        }
        line.waiting.push_back(job);
        self.waiting += 1;
    }

    /// The place in `turns` of the line that may start a job now.
    fn startable(&self) -> Option<usize> {
        if self.running < self.width {
            return (!self.turns.is_empty()).then_some(0);
        }
        let idle = |name: &LineName| self.by_name.get(name).is_some_and(|l| l.running == 0);
        self.turns.iter().position(idle)
    }

    /// Takes the next job, which counts as running until [`Lines::ended`].
    fn start(&mut self) -> Option<(LineName, Job)> {
        let name = self.turns.remove(self.startable()?)?;
        let line = self.by_name.get_mut(&name)?;
        let job = line.waiting.pop_front()?;
        line.running += 1;
        self.running += 1;
        self.waiting -= 1;
        if !line.waiting.is_empty() {
            self.turns.push_back(Arc::clone(&name));
        }
        Some((name, job))
    }

    fn ended(&mut self, name: &LineName) {
        self.running -= 1;
        let Some(line) = self.by_name.get_mut(name) else {
            return;
        };
        line.running -= 1;
        if line.running == 0 && line.waiting.is_empty() {
            self.by_name.remove(name);
        }
    }

    /// Whether a job may start that none of the called threads will take.
    fn is_short_of_threads(&self) -> bool {
        // Spare threads are looked for only while there are some, so that few lines are looked at.
        self.waiting.min(self.width.saturating_sub(self.running)) > self.called
            || !self.idle.is_empty() && self.idle_lines() > self.called
    }

    /// Lines with jobs that wait and none that runs.
    fn idle_lines(&self) -> usize {
        let lines = self.turns.iter().filter_map(|name| self.by_name.get(name));
        lines.filter(|line| line.running == 0).count()
    }

    /// Takes a thread for a job that may start and for which none was called yet. Always the first: what it has in its caches and heap serves again,
    /// and spare threads that nobody needs stay small.
    fn seat_for_startable(&mut self) -> Option<Seat> {
        if !self.is_short_of_threads() {
            return None;
        }
        let (_, seat) = self.idle.pop_first()?;
        self.called += 1;
        Some(seat)
    }

    /// Takes out all jobs that wait.
    fn close(&mut self) -> Vec<Job> {
        self.closed = true;
        self.turns.clear();
        self.waiting = 0;
        let lines = self.by_name.values_mut();
        let jobs = lines.flat_map(|l| l.waiting.drain(..)).collect();
        self.by_name.retain(|_, l| l.running > 0);
        jobs
    }
}

impl Pool {
    /// Starts threads that run `width` jobs at a time, and `spare` more.
    pub(super) fn start(width: usize, spare: usize) -> Result<Self> {
        let threads = width + spare;
        let shared = Arc::new(Shared {
            lines: Mutex::new(Lines {
                width,
                ..Lines::default()
            }),
        });
        let (ended, alive) = watch::channel(threads);
        let ended = Arc::new(ended);
        // Made first: if a thread cannot be started, dropping the pool ends those that were.
        let pool = Self { shared, alive };
        for i in 0..threads {
            let shared = pool.shared.clone();
            let ended = ended.clone();
            std::thread::Builder::new()
                .name(format!("lgtm-compute-{i}"))
                .spawn(move || {
                    work(&shared, i);
                    ended.send_modify(|alive| *alive -= 1);
                })
                .map_err(|e| {
                    Error::Internal(format!(
                        "compute thread {i} of {threads} did not start: {e}"
                    ))
                })?;
        }
        Ok(pool)
    }

    /// Puts a job at the end of a line; drops it if the pool is closed.
    pub(super) fn push(&self, line: &LineName, job: Job) {
        let mut lines = self.shared.lines.lock();
        if lines.closed {
            // Dropped without the lock: what the job holds may come back here.
            drop(lines);
            drop(job);
            return;
        }
        lines.push(line, job);
        let seat = lines.seat_for_startable();
        drop(lines);
        if let Some(seat) = seat {
            seat.notify_one();
        }
    }

    /// Takes no more jobs and drops those not started.
    pub(super) fn close(&self) {
        let mut lines = self.shared.lines.lock();
        let (dropped, idle) = (lines.close(), std::mem::take(&mut lines.idle));
        lines.called += idle.len();
        drop(lines);
        drop(dropped);
        for seat in idle.into_values() {
            seat.notify_one();
        }
    }

    /// Waits until every thread has ended; only after [`Pool::close`] does that happen.
    pub(super) async fn ended(&self) {
        // An error means that the senders are gone, and with them the threads.
        let _ = self.alive.clone().wait_for(|&alive| alive == 0).await;
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Not joined: the last handle may be dropped by a job, on a thread of this pool.
        self.close();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("running", &self.shared.lines.lock().running)
            .finish_non_exhaustive()
    }
}

fn work(shared: &Shared, number: usize) {
    let own = Seat::default();
    let mut lines = shared.lines.lock();
    loop {
        if let Some((name, job)) = lines.start() {
            // This thread was woken for one job; another one may be startable too.
            let next = lines.seat_for_startable();
            drop(lines);
            if let Some(next) = next {
                next.notify_one();
            }
            job();
            lines = shared.lines.lock();
            lines.ended(&name);
        } else if lines.closed {
            return;
        } else {
            lines.idle.insert(number, Arc::clone(&own));
            own.wait(&mut lines);
            // Who called it took it out. Otherwise it woke by itself.
            if lines.idle.remove(&number).is_none() {
                lines.called -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_until_idle(pool: &Pool, threads: usize) {
        while pool.shared.lines.lock().idle.len() < threads {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_job_after_the_other_is_done_by_the_first_thread() {
        let pool = Pool::start(3, 2).unwrap();
        let line: LineName = "".into();
        let names = Arc::new(Mutex::new(std::collections::BTreeSet::new()));
        for _ in 0..20 {
            wait_until_idle(&pool, 5);
            let names = Arc::clone(&names);
            pool.push(
                &line,
                Box::new(move || {
                    let name = std::thread::current().name().map(str::to_owned);
                    names.lock().insert(name);
                }),
            );
        }
        wait_until_idle(&pool, 5);
        assert_eq!(names.lock().len(), 1, "{names:?}");
    }

    /// For a job one thread is called, whoever looks before it comes.
    #[test]
    fn nobody_is_called_for_a_job_that_another_comes_for() {
        let mut lines = Lines {
            width: 2,
            idle: (0..6).map(|n| (n, Seat::default())).collect(),
            ..Lines::default()
        };
        let (one, two): (LineName, LineName) = ("one".into(), "two".into());
        lines.push(&one, Box::new(|| ()));
        assert!(lines.seat_for_startable().is_some());
        assert!(lines.seat_for_startable().is_none());
        lines.push(&one, Box::new(|| ()));
        assert!(lines.seat_for_startable().is_some());
        // The first one comes and takes its job; the second is on its way.
        lines.called -= 1;
        assert!(lines.start().is_some());
        assert!(lines.seat_for_startable().is_none());
        lines.called -= 1;
        assert!(lines.start().is_some());
        // Two run: a third of their line waits, one of another line begins beside them.
        lines.push(&one, Box::new(|| ()));
        assert!(lines.seat_for_startable().is_none());
        lines.push(&two, Box::new(|| ()));
        assert!(lines.seat_for_startable().is_some());
        assert!(lines.seat_for_startable().is_none());
        assert_eq!(lines.idle.keys().copied().collect::<Vec<_>>(), [3, 4, 5]);
    }

    /// Each of many lines begins at once, as far as there are threads, and all jobs are done.
    #[test]
    fn spare_threads_begin_lines_that_have_none_running() {
        let pool = Pool::start(1, 3).unwrap();
        let (begun, all_begun) = std::sync::mpsc::channel();
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let done = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        for line in ["a", "a", "b", "b", "c", "d"] {
            let (begun, gate, done) = (begun.clone(), Arc::clone(&gate), Arc::clone(&done));
            let job = move || {
                begun.send(line).unwrap();
                let mut is_open = gate.0.lock();
                while !*is_open {
                    gate.1.wait(&mut is_open);
                }
                done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            };
            pool.push(&line.into(), Box::new(job));
        }
        let mut first: Vec<_> = (0..4).map(|_| all_begun.recv().unwrap()).collect();
        first.sort_unstable();
        assert_eq!(first, ["a", "b", "c", "d"]);
        *gate.0.lock() = true;
        gate.1.notify_all();
        wait_until_idle(&pool, 4);
        while done.load(std::sync::atomic::Ordering::Relaxed) < 6 {
            std::thread::yield_now();
        }
    }
}
