//! The compute pool.
//!
//! CPU work past half a millisecond goes here, so that the host's async threads stay free. A job never waits: the async side fetches
//! a batch, then runs a fold over it on the pool. Who drops the future of a job cancels the job: one still in the queue never
//! starts, one that runs sees its token.
//!
//! Work that others must not wait for stands in a line of its own ([`Executor::in_line`]), as that of a tenant: lines take turns, and
//! one that has no job running need not wait until those of others end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::available_parallelism;

use hashbrown::HashMap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::{Error, Result};
use crate::exec::abandoned::with_token;
use crate::exec::cancel::CancelToken;
use crate::exec::panic::panic_message;
use crate::exec::pool::{Job, LineName, Pool};
use crate::exec::task_group::TaskGroup;

/// How wide an [`Executor`] is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExecutorSettings {
    /// Threads that compute. Default: one per CPU that the process may use; more would only take turns.
    pub threads: usize,
    /// Further threads, each for a job of a line (a tenant) that has none running, when all others are busy: the system then shares the CPUs
    /// among them. 0: a line waits until the jobs of others end. Default: 4, so that it takes long jobs of more than four tenants at once to
    /// delay another one; a thread that waits costs a few KiB.
    pub spare_threads: usize,
    /// Jobs that may wait for a thread, of one line half as many; beyond, who brings more waits. Default: 1024,
    /// enough to keep every thread busy, few enough that their inputs fit in memory.
    pub max_queued_jobs: usize,
    /// Blocking calls (file system) at the same time. Default: 64, since a disk gains nothing from a deeper queue.
    pub max_blocking_jobs: usize,
}

impl Default for ExecutorSettings {
    fn default() -> Self {
        Self {
            threads: available_parallelism().map_or(1, usize::from),
            spare_threads: 4,
            max_queued_jobs: 1024,
            max_blocking_jobs: 64,
        }
    }
}

impl ExecutorSettings {
    /// Checks that every bound is at least 1 and none is beyond what can be counted.
    ///
    /// # Errors
    /// `InvalidInput`, naming every setting that is wrong.
    pub fn validate(&self) -> Result<()> {
        let faults: Vec<_> = [
            ("threads", self.threads, 1),
            ("spare_threads", self.spare_threads, 0),
            ("max_queued_jobs", self.max_queued_jobs, 1),
            ("max_blocking_jobs", self.max_blocking_jobs, 1),
        ]
        .into_iter()
        .filter(|&(_, value, least)| !(least..=Semaphore::MAX_PERMITS / 2).contains(&value))
        .map(|(name, value, least)| {
            let most = Semaphore::MAX_PERMITS / 2;
            format!("{name} is {value}, must be {least} to {most}")
        })
        .collect();
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::InvalidInput(format!(
            "executor: {}",
            faults.join("; ")
        )))
    }
}

/// What an [`Executor`] has done and is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExecutorStats {
    /// Jobs in the queue.
    pub queued: usize,
    /// Jobs that run now.
    pub running: usize,
    /// Jobs that ran to their end, well or with an error.
    pub finished: u64,
    /// Jobs cancelled before they started.
    pub cancelled: u64,
    /// Jobs that panicked.
    pub panicked: u64,
}

/// Runs CPU jobs on its own threads, and tasks on the host's runtime. Clones share both.
#[derive(Debug, Clone)]
pub struct Executor {
    shared: Arc<Shared>,
    line: Arc<Line>,
}

/// Where jobs stand that wait behind each other.
#[derive(Debug)]
struct Line {
    name: LineName,
    places: Arc<Semaphore>,
}

impl Line {
    fn new(name: &str, max_queued_jobs: usize) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            places: Arc::new(Semaphore::new(max_queued_jobs.div_ceil(2))),
        })
    }
}

/// The lines that somebody holds, by name.
#[derive(Debug, Default)]
struct OpenLines {
    by_name: HashMap<LineName, Weak<Line>>,
    /// Those that nobody holds any more are thrown out when there are so many.
    prune_at: usize,
}

#[derive(Debug)]
struct Shared {
    /// None: jobs run where they are awaited.
    pool: Option<Pool>,
    runtime: Handle,
    queue: Arc<Semaphore>,
    max_queued_jobs: usize,
    lines: Mutex<OpenLines>,
    blocking: Arc<Semaphore>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    queued: AtomicUsize,
    running: AtomicUsize,
    finished: AtomicU64,
    cancelled: AtomicU64,
    panicked: AtomicU64,
}

impl Executor {
    /// Starts the threads.
    ///
    /// # Errors
    /// `InvalidInput` for settings out of bounds, `Internal` when the system refuses a thread.
    pub fn new(settings: &ExecutorSettings, runtime: Handle) -> Result<Self> {
        settings.validate()?;
        let pool = Pool::start(settings.threads, settings.spare_threads)?;
        Ok(Self::with_pool(Some(pool), settings, runtime))
    }

    /// An executor without threads: a job runs where it is awaited. For simulations, which must be deterministic.
    pub fn inline(runtime: Handle) -> Self {
        Self::with_pool(None, &ExecutorSettings::default(), runtime)
    }

    fn with_pool(pool: Option<Pool>, settings: &ExecutorSettings, runtime: Handle) -> Self {
        Self {
            shared: Arc::new(Shared {
                pool,
                runtime,
                queue: Arc::new(Semaphore::new(settings.max_queued_jobs)),
                max_queued_jobs: settings.max_queued_jobs,
                lines: Mutex::default(),
                blocking: Arc::new(Semaphore::new(settings.max_blocking_jobs)),
                counts: Arc::default(),
            }),
            line: Line::new("", settings.max_queued_jobs),
        }
    }

    /// The same executor, whose jobs stand in the line of a name, as of a tenant. Lines take turns; a line takes at most half of the
    /// queue; and one none of whose jobs runs starts one on a spare thread while those of others compute.
    ///
    /// Cost: a look into a table under a lock; for each query, not for each job.
    #[must_use]
    pub fn in_line(&self, name: &str) -> Self {
        let shared = Arc::clone(&self.shared);
        let mut lines = shared.lines.lock();
        if let Some(line) = lines.by_name.get(name).and_then(Weak::upgrade) {
            drop(lines);
            return Self { shared, line };
        }
        if lines.by_name.len() >= lines.prune_at {
            lines.by_name.retain(|_, line| line.strong_count() > 0);
            lines.prune_at = 2 * lines.by_name.len() + 16;
        }
        let line = Line::new(name, shared.max_queued_jobs);
        let entry = (Arc::clone(&line.name), Arc::downgrade(&line));
        lines.by_name.insert(entry.0, entry.1);
        drop(lines);
        Self { shared, line }
    }

    /// Runs a CPU job on the pool and yields its result.
    ///
    /// Waits while the queue is full. The job gets a child of `cancel`, which is also cancelled when this future is dropped; long jobs
    /// ask it now and then. A job must not block and must not wait for other jobs.
    ///
    /// # Errors
    /// The job's own; `Cancelled` if `cancel` was cancelled before the job started; `Internal` if it panicked; `Unavailable` after
    /// [`Executor::shutdown`].
    pub async fn run<T, E>(
        &self,
        job: impl FnOnce(&CancelToken) -> Result<T, E> + Send + 'static,
        cancel: &CancelToken,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let token = cancel.child();
        let _stop_when_dropped = token.cancel_on_drop();
        let Some(pool) = &self.shared.pool else {
            return run_job(job, &token, &self.shared.counts);
        };
        let place = tokio::select! {
            biased;
            () = token.cancelled() => return Err(self.cancelled_in_line()),
            place = self.place() => place?,
        };
        self.run_at(pool, Some(place), job, &token).await
    }

    /// As [`Executor::run`] for a poll of a future under way, which takes no place: the jobs that the future has brought may have all of them, and those that
    /// wait for one go on only when it is polled. Each future has one such job at a time, so requests bound them.
    pub(super) async fn run_poll<T, E>(
        &self,
        poll: impl FnOnce(&CancelToken) -> Result<T, E> + Send + 'static,
        cancel: &CancelToken,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let token = cancel.child();
        let _stop_when_dropped = token.cancel_on_drop();
        match &self.shared.pool {
            Some(pool) => self.run_at(pool, None, poll, &token).await,
            None => run_job(poll, &token, &self.shared.counts),
        }
    }

    async fn run_at<T, E>(
        &self,
        pool: &Pool,
        place: Option<Place>,
        job: impl FnOnce(&CancelToken) -> Result<T, E> + Send + 'static,
        token: &CancelToken,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (done, mut result) = oneshot::channel();
        let counts = self.shared.counts.clone();
        let job_token = token.clone();
        let job: Job = Box::new(move || {
            // Nobody may be waiting for the result.
            let _ = done.send(run_job(job, &job_token, &counts));
        });
        let ticket = Ticket::new(job, self.shared.counts.clone());
        let queued = Queued::new(place, &ticket);
        pool.push(&self.line.name, Box::new(move || queued.start()));
        tokio::select! {
            biased;
            result = &mut result => return result.unwrap_or_else(|_| Err(closed().into())),
            () = token.cancelled() => {}
        }
        if ticket.withdraw() {
            return Err(Error::Cancelled("compute job".into()).into());
        }
        // It has started and sees its token: wait, so that its effects are over when this returns.
        result.await.unwrap_or_else(|_| Err(closed().into()))
    }

    /// A place in the line, then in the queue of all: who holds the latter waits for nothing but the pool.
    async fn place(&self) -> Result<Place> {
        let in_line = self.line.places.clone().acquire_owned().await;
        let in_line = in_line.map_err(|_| closed())?;
        let in_queue = self.shared.queue.clone().acquire_owned().await;
        Ok(Place {
            _in_queue: in_queue.map_err(|_| closed())?,
            _in_line: in_line,
        })
    }

    fn cancelled_in_line<E: From<Error>>(&self) -> E {
        self.shared.counts.cancelled.fetch_add(1, Ordering::Relaxed);
        Error::Cancelled("compute job".into()).into()
    }

    /// Runs a call that blocks (file system) on the runtime's blocking threads, at most `max_blocking_jobs` at once.
    ///
    /// Once started it runs to its end, even if this future is dropped.
    ///
    /// # Errors
    /// The call's own; `Internal` if it panicked; `Unavailable` when the runtime shuts down.
    pub async fn run_blocking<T, E>(
        &self,
        call: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let place = self.shared.blocking.clone().acquire_owned().await;
        let place = place.map_err(|_| closed())?;
        let counts = self.shared.counts.clone();
        let task = self.shared.runtime.spawn_blocking(move || {
            let _place = place;
            run_job(|_| call(), &CancelToken::new(), &counts)
        });
        task.await.unwrap_or_else(|_| Err(closed().into()))
    }

    /// An empty group of tasks on the host's runtime.
    pub fn task_group(&self) -> TaskGroup {
        TaskGroup::new(self.shared.runtime.clone())
    }

    /// Whether there are threads to compute on.
    pub(super) fn has_pool(&self) -> bool {
        self.shared.pool.is_some()
    }

    /// The host's runtime.
    pub fn runtime(&self) -> &Handle {
        &self.shared.runtime
    }

    /// Counts so far.
    pub fn stats(&self) -> ExecutorStats {
        let counts = &self.shared.counts;
        ExecutorStats {
            queued: counts.queued.load(Ordering::Relaxed),
            running: counts.running.load(Ordering::Relaxed),
            finished: counts.finished.load(Ordering::Relaxed),
            cancelled: counts.cancelled.load(Ordering::Relaxed),
            panicked: counts.panicked.load(Ordering::Relaxed),
        }
    }

    /// Refuses new work, drops jobs not started, and waits for those that run. Blocking calls under way go on, awaited by their callers.
    pub async fn shutdown(&self) {
        self.shared.queue.close();
        self.shared.blocking.close();
        if let Some(pool) = &self.shared.pool {
            pool.close();
            pool.ended().await;
        }
    }
}

fn closed() -> Error {
    Error::Unavailable("compute pool is shut down".into())
}

/// What a job holds while it waits.
struct Place {
    _in_queue: OwnedSemaphorePermit,
    _in_line: OwnedSemaphorePermit,
}

/// A job that has not started, held by the caller and by the queue: whoever takes it out has it.
type Slot = Arc<Mutex<Option<Job>>>;

/// The caller's hold on its job. Dropping it withdraws the job.
struct Ticket {
    slot: Slot,
    counts: Arc<Counts>,
}

impl Ticket {
    fn new(job: Job, counts: Arc<Counts>) -> Self {
        Self {
            slot: Arc::new(Mutex::new(Some(job))),
            counts,
        }
    }

    /// Drops the job, and what it holds, if it has not started; else false.
    fn withdraw(&self) -> bool {
        let job = self.slot.lock().take();
        if job.is_some() {
            self.counts.cancelled.fetch_add(1, Ordering::Relaxed);
        }
        job.is_some()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// The queue's hold on a job. It keeps its place even when the job was withdrawn, so that the queue stays bounded.
struct Queued {
    slot: Slot,
    counts: Arc<Counts>,
    _place: Option<Place>,
}

impl Queued {
    fn new(place: Option<Place>, ticket: &Ticket) -> Self {
        ticket.counts.queued.fetch_add(1, Ordering::Relaxed);
        Self {
            slot: ticket.slot.clone(),
            counts: ticket.counts.clone(),
            _place: place,
        }
    }

    fn start(self) {
        let job = self.slot.lock().take();
        drop(self);
        if let Some(job) = job {
            job();
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        // If the pool was closed the job is still there; dropping it tells the caller.
        let job = self.slot.lock().take();
        drop(job);
        self.counts.queued.fetch_sub(1, Ordering::Relaxed);
    }
}

fn run_job<T, E: From<Error>>(
    job: impl FnOnce(&CancelToken) -> Result<T, E>,
    token: &CancelToken,
    counts: &Counts,
) -> Result<T, E> {
    if token.is_cancelled() {
        counts.cancelled.fetch_add(1, Ordering::Relaxed);
        return Err(Error::Cancelled("compute job".into()).into());
    }
    counts.running.fetch_add(1, Ordering::Relaxed);
    let outcome = catch_unwind(AssertUnwindSafe(|| with_token(token, || job(token))));
    counts.running.fetch_sub(1, Ordering::Relaxed);
    match outcome {
        Ok(result) => {
            counts.finished.fetch_add(1, Ordering::Relaxed);
            result
        }
        Err(payload) => {
            counts.panicked.fetch_add(1, Ordering::Relaxed);
            let text = format!("compute job panicked: {}", panic_message(&*payload));
            Err(Error::Internal(text).into())
        }
    }
}

#[cfg(test)]
mod tests;
