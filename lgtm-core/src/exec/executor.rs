//! The compute pool.
//!
//! CPU work past half a millisecond goes here, so that the host's async threads stay free. A job never waits: the async side fetches
//! a batch, then runs a fold over it on the pool. Who drops the future of a job cancels the job: one still in the queue never
//! starts, one that runs sees its token.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::available_parallelism;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::{Error, Result};
use crate::exec::cancel::CancelToken;
use crate::exec::panic::panic_message;
use crate::exec::pool::{Job, Pool};
use crate::exec::task_group::TaskGroup;

/// How wide an [`Executor`] is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExecutorSettings {
    /// Compute threads. Default: one per CPU that the process may use; more would only take turns.
    pub threads: usize,
    /// Jobs that wait for a thread before callers of [`Executor::run`] wait themselves. Default: 1024, enough to keep every thread
    /// busy, few enough that their inputs fit in memory.
    pub max_queued_jobs: usize,
    /// Blocking calls (file system) at the same time. Default: 64, since a disk gains nothing from a deeper queue.
    pub max_blocking_jobs: usize,
}

impl Default for ExecutorSettings {
    fn default() -> Self {
        Self {
            threads: available_parallelism().map_or(1, usize::from),
            max_queued_jobs: 1024,
            max_blocking_jobs: 64,
        }
    }
}

impl ExecutorSettings {
    /// Checks that every bound is at least 1.
    ///
    /// # Errors
    /// `InvalidInput`, naming every setting that is wrong.
    pub fn validate(&self) -> Result<()> {
        let faults: Vec<_> = [
            ("threads", self.threads),
            ("max_queued_jobs", self.max_queued_jobs),
            ("max_blocking_jobs", self.max_blocking_jobs),
        ]
        .into_iter()
        .filter(|&(_, value)| value == 0 || value > Semaphore::MAX_PERMITS)
        .map(|(name, value)| format!("{name} is {value}, must be 1 to {}", Semaphore::MAX_PERMITS))
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
pub struct Executor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// None: jobs run where they are awaited.
    pool: Option<Pool>,
    runtime: Handle,
    queue: Arc<Semaphore>,
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
        let pool = Pool::start(settings.threads)?;
        Ok(Self::with_pool(Some(pool), settings, runtime))
    }

    /// An executor without threads: a job runs where it is awaited. For simulations, which must be deterministic.
    pub fn inline(runtime: Handle) -> Self {
        Self::with_pool(None, &ExecutorSettings::default(), runtime)
    }

    fn with_pool(pool: Option<Pool>, settings: &ExecutorSettings, runtime: Handle) -> Self {
        Self(Arc::new(Inner {
            pool,
            runtime,
            queue: Arc::new(Semaphore::new(settings.max_queued_jobs)),
            blocking: Arc::new(Semaphore::new(settings.max_blocking_jobs)),
            counts: Arc::default(),
        }))
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
        let Some(pool) = &self.0.pool else {
            return run_job(job, &token, &self.0.counts);
        };
        let place = tokio::select! {
            biased;
            () = token.cancelled() => return Err(self.cancelled_in_line()),
            place = self.0.queue.clone().acquire_owned() => place.map_err(|_| closed())?,
        };
        let (done, mut result) = oneshot::channel();
        let counts = self.0.counts.clone();
        let job_token = token.clone();
        let job: Job = Box::new(move || {
            // Nobody may be waiting for the result.
            let _ = done.send(run_job(job, &job_token, &counts));
        });
        let ticket = Ticket::new(job, self.0.counts.clone());
        let queued = Queued::new(place, &ticket);
        pool.push(Box::new(move || queued.start()));
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

    fn cancelled_in_line<E: From<Error>>(&self) -> E {
        self.0.counts.cancelled.fetch_add(1, Ordering::Relaxed);
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
        let place = self.0.blocking.clone().acquire_owned().await;
        let place = place.map_err(|_| closed())?;
        let counts = self.0.counts.clone();
        let task = self.0.runtime.spawn_blocking(move || {
            let _place = place;
            run_job(|_| call(), &CancelToken::new(), &counts)
        });
        task.await.unwrap_or_else(|_| Err(closed().into()))
    }

    /// An empty group of tasks on the host's runtime.
    pub fn task_group(&self) -> TaskGroup {
        TaskGroup::new(self.0.runtime.clone())
    }

    /// The host's runtime.
    pub fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    /// Counts so far.
    pub fn stats(&self) -> ExecutorStats {
        let counts = &self.0.counts;
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
        self.0.queue.close();
        self.0.blocking.close();
        if let Some(pool) = &self.0.pool {
            pool.close();
            pool.ended().await;
        }
    }
}

fn closed() -> Error {
    Error::Unavailable("compute pool is shut down".into())
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
    _place: OwnedSemaphorePermit,
}

impl Queued {
    fn new(place: OwnedSemaphorePermit, ticket: &Ticket) -> Self {
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
    let outcome = catch_unwind(AssertUnwindSafe(|| job(token)));
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
