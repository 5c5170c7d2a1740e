//! The calls around the tracker.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use lgtm_core::exec::TaskGroup;
use lgtm_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::batch::tracker::{BatchOutcome, BatchTracker, ErrorFamily};
use crate::instance::Instance;
use crate::ring::{LookupBuffer, Operation, Ring};
use crate::token::Token;

/// What is written where.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The ring, or the tenant's shard of it.
    pub ring: &'a Ring,
    /// [`Operation::WRITE_NO_EXTEND`] or [`Operation::WRITE`], whose documentation says when to use which.
    pub operation: Operation,
    /// The token of each thing that is written; things are known by their place here.
    pub keys: &'a [Token],
    /// The wall clock, Unix seconds.
    pub now_s: i64,
    /// Which errors are the client's. Usually [`is_client_error`].
    pub is_client_error: fn(&Error) -> bool,
}

/// Why a batch failed, and what of it is safe all the same.
#[derive(Debug, Clone)]
pub struct BatchFailure {
    /// The error that decided.
    pub error: Error,
    /// Places of the keys that had their quorum by then; others may get it yet.
    pub done: Vec<u32>,
}

impl From<BatchFailure> for Error {
    fn from(failure: BatchFailure) -> Self {
        failure.error
    }
}

/// Whether an error's status would be a 4xx: sending the same again to another replica would not help.
pub fn is_client_error(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidInput
            | ErrorKind::NotFound
            | ErrorKind::LimitExceeded
            | ErrorKind::RateLimited
            | ErrorKind::Conflict
    )
}

/// Calls each instance once, with the places of its keys, and returns when every key has its quorum or one can no longer have it.
///
/// Calls run as tasks of `tasks` and go on after the return, so that slow replicas get the data too; dropping this future does not stop them
/// either. `cleanup` runs once, when the last of them has ended, or at once when none was started: give it whatever the calls borrow from.
/// Costs one lookup a key; memory is eight bytes a key and replica, and some hundred bytes a key.
///
/// Replicas of a key that share an address are one process: it is called once, gets the key once, and counts once.
///
/// # Errors
/// That of the lookup, before any call: `Unavailable`. Else the one that decided: if more errors of one family came for a key than it may
/// have, or no replica of it is left.
pub async fn do_batch<F, Fut>(
    batch: Batch<'_>,
    tasks: &TaskGroup,
    call: F,
    cleanup: impl FnOnce() + Send + Sync + 'static,
) -> Result<(), BatchFailure>
where
    F: Fn(Arc<Instance>, Vec<u32>) -> Fut,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let cleanup = Arc::new(Cleanup(Some(Box::new(cleanup))));
    if batch.keys.is_empty() {
        return Ok(());
    }
    let (tracker, shares) = assign(&batch).map_err(|error| BatchFailure {
        error,
        done: Vec::new(),
    })?;
    let (decided, outcome) = oneshot::channel();
    let progress = Arc::new(Mutex::new(Progress {
        tracker,
        decided: Some(decided),
    }));
    for (instance, keys) in shares {
        let answer = Answer {
            progress: Arc::clone(&progress),
            keys: keys.clone(),
            is_client_error: batch.is_client_error,
            addr: instance.addr.clone(),
            given: false,
            _cleanup: Arc::clone(&cleanup),
        };
        let call = call(instance, keys);
        tasks.spawn("batch call", async move {
            let result = call.await;
            answer.give(result);
        });
    }
    drop(cleanup);
    match outcome.await {
        Ok(BatchOutcome::Done) => Ok(()),
        Ok(BatchOutcome::Failed(error)) => {
            let done = progress.lock().tracker.done_keys();
            Err(BatchFailure { error, done })
        }
        Err(_) => Err(BatchFailure {
            error: Error::Internal("all calls of a batch ended without an outcome".into()),
            done: Vec::new(),
        }),
    }
}

type Share = (Arc<Instance>, Vec<u32>);

/// Looks up all keys: what is to be tracked, and which instance gets which.
fn assign(batch: &Batch<'_>) -> Result<(BatchTracker<Error>, Vec<Share>)> {
    let mut tracker = BatchTracker::with_capacity(batch.keys.len());
    let mut buffer = LookupBuffer::default();
    let mut shares: Vec<Share> = Vec::new();
    // Instances that share an address are one process and are called once.
    let mut by_addr: HashMap<&str, usize> = HashMap::new();
    let mut share_of: HashMap<u32, usize> = HashMap::new();
    for (key, &token) in (0u32..).zip(batch.keys) {
        let replicas = batch
            .ring
            .lookup(token, batch.operation, batch.now_s, &mut buffer)?;
        let mut processes = 0usize;
        for (&place, instance) in replicas.places().iter().zip(replicas.iter()) {
            let share = *share_of.entry(place).or_insert_with(|| {
                *by_addr.entry(&instance.addr).or_insert_with(|| {
                    shares.push((Arc::clone(instance), Vec::new()));
                    shares.len() - 1
                })
            });
            // Two records of one process, e.g. after a new name, are one copy of the data and one answer.
            if shares[share].1.last() != Some(&key) {
                shares[share].1.push(key);
                processes += 1;
            }
        }
        let may_fail = processes.saturating_sub(replicas.min_success());
        tracker.add_key(processes, may_fail);
    }
    Ok((tracker, shares))
}

#[derive(Debug)]
struct Progress {
    tracker: BatchTracker<Error>,
    decided: Option<oneshot::Sender<BatchOutcome<Error>>>,
}

/// One instance's answer. If it is never given (the call panicked, or its task was dropped), that is an answer too.
struct Answer {
    progress: Arc<Mutex<Progress>>,
    keys: Vec<u32>,
    is_client_error: fn(&Error) -> bool,
    addr: String,
    given: bool,
    _cleanup: Arc<Cleanup>,
}

impl Answer {
    fn give(mut self, result: Result<()>) {
        self.note(result);
    }

    fn note(&mut self, result: Result<()>) {
        self.given = true;
        let result = result.map_err(|error| {
            let family = if (self.is_client_error)(&error) {
                ErrorFamily::Client
            } else {
                ErrorFamily::Server
            };
            (family, error)
        });
        let mut progress = self.progress.lock();
        if let Some(outcome) = progress.tracker.answer(&self.keys, result)
            && let Some(decided) = progress.decided.take()
        {
            // The caller may have gone.
            let _ = decided.send(outcome);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.given {
            let text = format!("the call of {} ended without an answer", self.addr);
            self.note(Err(Error::Internal(text)));
        }
    }
}

/// Runs when its last owner is gone.
struct Cleanup(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Drop for Cleanup {
    fn drop(&mut self) {
        if let Some(run) = self.0.take() {
            run();
        }
    }
}
