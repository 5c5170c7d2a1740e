//! The threads of the compute pool and the queue before them.
//!
//! The queue is first come, first served. Its length is bounded by the semaphore of the executor, not here: a job that stands in the
//! queue holds one of its permits.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::error::{Error, Result};

/// A job that catches its own panics.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// Threads that take jobs off one queue.
pub(super) struct Pool {
    shared: Arc<Shared>,
    /// Threads that have not ended.
    alive: watch::Receiver<usize>,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Pool {
    /// Starts `threads` threads.
    pub(super) fn start(threads: usize) -> Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
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
                    work(&shared);
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

    /// Puts a job at the end of the queue; drops it if the pool is closed.
    pub(super) fn push(&self, job: Job) {
        let mut queue = self.shared.queue.lock();
        if queue.closed {
            // Dropped without the lock: what the job holds may come back here.
            drop(queue);
            drop(job);
            return;
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.shared.filled.notify_one();
    }

    /// Takes no more jobs and drops those not started.
    pub(super) fn close(&self) {
        let dropped = {
            let mut queue = self.shared.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.jobs)
        };
        drop(dropped);
        self.shared.filled.notify_all();
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
            .field("queued", &self.shared.queue.lock().jobs.len())
            .finish_non_exhaustive()
    }
}

fn work(shared: &Shared) {
    loop {
        let job = {
            let mut queue = shared.queue.lock();
            loop {
                if let Some(job) = queue.jobs.pop_front() {
                    break job;
                }
                if queue.closed {
                    return;
                }
                shared.filled.wait(&mut queue);
            }
        };
        job();
    }
}
