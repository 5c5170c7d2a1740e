//! The calls around the tracker.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{AbortHandle, Abortable, Aborted};
use futures::stream::{FuturesUnordered, StreamExt};
use lgtm_core::{Error, Result};

use crate::fanout::tracker::{QuorumTracker, Verdict};
use crate::instance::Instance;
use crate::ring::ReplicationSet;

/// How a read asks.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// Ask only as many as the quorum needs, others when one fails or is slow. Default yes: it saves a third of the work with three zones.
    pub minimize_requests: bool,
    /// When one more is asked although nobody failed, and again after as long. Default 3s, as in Mimir: a replica that hangs does not hold a read up. With
    /// `None` only failures bring others in, and a read waits for as long as the calls do.
    pub hedging_delay: Option<Duration>,
    /// Zones to ask first, best first, e.g. the reader's own. Default none: by chance, so that load is even.
    pub preferred_zones: Vec<String>,
    /// Decides by chance whom to ask first. Give each read another one.
    pub seed: i64,
    /// Errors after which no other replica need be asked, e.g. a limit of the query. Default none.
    pub is_terminal: fn(&Error) -> bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            minimize_requests: true,
            hedging_delay: Some(Duration::from_secs(3)),
            preferred_zones: Vec::new(),
            seed: 0,
            is_terminal: |_| false,
        }
    }
}

/// Calls instances of `set` until a quorum has answered, and yields its answers.
///
/// By zones, a zone has answered when all its instances have; answers of other zones are dropped. Calls run inside this future: whoever is not
/// needed any more is dropped, that is cancelled, and so are all when the future is. A result that holds a stream keeps it when it is among
/// those returned.
///
/// # Errors
/// The one that made the quorum impossible, or the first that `is_terminal`; `Internal` for an empty set.
pub async fn read_quorum<T, F, Fut>(
    set: &ReplicationSet,
    options: &ReadOptions,
    call: F,
) -> Result<Vec<T>>
where
    F: Fn(Arc<Instance>) -> Fut,
    Fut: Future<Output = Result<T>>,
{
    if set.instances.is_empty() {
        return Err(Error::Internal(
            "a replication set without instances".into(),
        ));
    }
    let minimize = options.minimize_requests;
    let tracker = QuorumTracker::new(set, minimize, &options.preferred_zones, options.seed);
    let mut read = RunningRead {
        calls: FuturesUnordered::new(),
        aborts: set.instances.iter().map(|_| None).collect(),
        answers: set.instances.iter().map(|_| None).collect(),
        tracker,
    };
    let ask = |n: usize| {
        let (handle, registration) = AbortHandle::new_pair();
        let answer = call(Arc::clone(&set.instances[n]));
        let call = async move { (n, Abortable::new(answer, registration).await) };
        (handle, call)
    };
    for n in read.tracker.begin(minimize) {
        read.start(n, ask(n));
    }
    let mut hedge = std::pin::pin!(sleep(options.hedging_delay));
    loop {
        let answered = tokio::select! {
            biased;
            answered = read.calls.next() => answered,
            () = &mut hedge, if read.tracker.has_reserve() => {
                for n in read.tracker.release() {
                    read.start(n, ask(n));
                }
                hedge.set(sleep(options.hedging_delay));
                continue;
            }
        };
        let Some((n, result)) = answered else {
            return Err(Error::Internal("a read ended without a quorum".into()));
        };
        let result = match result {
            Ok(result) => result,
            Err(Aborted) => continue,
        };
        let failure = match result {
            Ok(value) => {
                read.answers[n] = Some(value);
                if read.tracker.answered(n) == Verdict::Enough {
                    return Ok(read.into_answers());
                }
                continue;
            }
            Err(error) => error,
        };
        if (options.is_terminal)(&failure) {
            return Err(failure);
        }
        let Some(next) = read.fail(n) else {
            return Err(failure);
        };
        for n in next {
            read.start(n, ask(n));
        }
    }
}

/// A read under way; vectors are by place in the set.
struct RunningRead<C, T> {
    calls: FuturesUnordered<C>,
    aborts: Vec<Option<AbortHandle>>,
    answers: Vec<Option<T>>,
    tracker: QuorumTracker,
}

impl<C, T> RunningRead<C, T> {
    fn start(&mut self, n: usize, (abort, call): (AbortHandle, C)) {
        self.aborts[n] = Some(abort);
        self.calls.push(call);
    }

    /// Notes a failure, stops what it makes useless, and yields whom to ask instead; `None` when there is no hope.
    fn fail(&mut self, n: usize) -> Option<Vec<usize>> {
        let (verdict, useless) = self.tracker.failed(n);
        if verdict == Verdict::Hopeless {
            return None;
        }
        let first = !useless.is_empty();
        for &n in useless {
            self.answers[n] = None;
            if let Some(abort) = self.aborts[n].take() {
                abort.abort();
            }
        }
        Some(if first {
            self.tracker.release()
        } else {
            Vec::new()
        })
    }

    fn into_answers(self) -> Vec<T> {
        let (answers, tracker) = (self.answers.into_iter().enumerate(), &self.tracker);
        answers
            .filter(|&(n, _)| tracker.counts(n))
            .filter_map(|(_, answer)| answer)
            .collect()
    }
}

/// Reads many sets at once, e.g. one per partition; fails with the first that fails.
///
/// # Errors
/// As [`read_quorum`].
pub async fn read_quorum_of_all<T, F, Fut>(
    sets: &[ReplicationSet],
    options: &ReadOptions,
    call: F,
) -> Result<Vec<T>>
where
    F: Fn(Arc<Instance>) -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let reads = sets.iter().map(|set| read_quorum(set, options, &call));
    let answers = futures::future::try_join_all(reads).await?;
    Ok(answers.into_iter().flatten().collect())
}

async fn sleep(delay: Option<Duration>) {
    match delay {
        Some(delay) => tokio::time::sleep(delay).await,
        None => std::future::pending().await,
    }
}
