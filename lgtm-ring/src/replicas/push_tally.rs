//! What the ingesters make of one push: who has it, what they refuse, what the sender is told.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use lgtm_core::{Error, Result};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::copies::Copies;

/// What one replica says of its share of a push.
pub trait PushAnswer: Send + 'static {
    /// Why the first thing was refused that was; `None` when all was taken.
    fn refusal(&self) -> Option<String>;

    /// The answers of all replicas as one, where each thing is told of so many times in the mean.
    fn joined<'a>(answers: impl Iterator<Item = &'a Self>, copies: Copies) -> Self
    where
        Self: Sized;

    /// Forgets refusals: what a minority of the replicas refuses is with the others.
    fn forget_refusals(&mut self);
}

/// What became of a push.
#[derive(Debug)]
pub enum Pushed<R> {
    /// A quorum of replicas has refused nothing. Counts are those of some replicas, and may be less than what was sent.
    Whole(R),
    /// A quorum has what it does not refuse.
    InPart(R),
}

/// The answers of ingesters to one push.
///
/// An ingester that refuses something of its share has kept the rest: for the quorum of writes that counts as an error of the client, as in Mimir, so
/// that a sample that one replica alone refuses does not fail a push. But when a quorum cannot be had without refusals, the sender is told of them only
/// once all the rest is with a quorum; else it is told to come again.
#[derive(Debug)]
pub(super) struct PushTally<R> {
    state: Mutex<State<R>>,
    changed: Notify,
    /// Ingesters that must have a key.
    needed: u8,
}

#[derive(Debug)]
struct State<R> {
    /// Whose calls have not ended, by address.
    open: Vec<String>,
    /// By key, how many ingesters have taken what their rules allow.
    kept: Vec<u8>,
    /// Keys of which that are fewer than needed.
    lacking: usize,
    /// Answers, each with how many keys it was about.
    reports: Vec<(usize, R)>,
    has_refusals: bool,
    failure: Option<Error>,
}

/// A call of one ingester; when it is dropped without an answer, the call has ended all the same.
#[derive(Debug)]
pub(super) struct OpenCall<R> {
    of: Arc<PushTally<R>>,
    address: String,
}

impl<R> Drop for OpenCall<R> {
    fn drop(&mut self) {
        self.of.state.lock().open.retain(|a| *a != self.address);
        self.of.changed.notify_one();
    }
}

impl<R: PushAnswer> PushTally<R> {
    /// Of a push of so many keys, of which each is to be with `needed` ingesters.
    pub(super) fn new(keys: usize, needed: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                open: Vec::new(),
                kept: vec![0; keys],
                lacking: keys,
                reports: Vec::new(),
                has_refusals: false,
                failure: None,
            }),
            changed: Notify::new(),
            needed: u8::try_from(needed).unwrap_or(u8::MAX),
        })
    }

    /// Notes that the ingester at an address is called, once.
    pub(super) fn open(self: &Arc<Self>, address: &str) -> OpenCall<R> {
        self.state.lock().open.push(address.to_owned());
        OpenCall {
            of: Arc::clone(self),
            address: address.to_owned(),
        }
    }

    /// Waits for the calls that have not ended, but not for those of `late`. Whoever is not ready within `at_most` is added there.
    pub(super) async fn wait_for_rest(&self, at_most: Duration, late: &Mutex<HashSet<String>>) {
        let is_waited_for = |address: &String| !late.lock().contains(address);
        let all_ended = async {
            while self.state.lock().open.iter().any(is_waited_for) {
                self.changed.notified().await;
            }
        };
        if tokio::time::timeout(at_most, all_ended).await.is_err() {
            let open = self.state.lock().open.clone();
            late.lock().extend(open);
        }
    }

    /// Notes an answer; what it means for the quorum.
    ///
    /// # Errors
    /// `InvalidInput` with the first refusal; that of the call.
    pub(super) fn note(&self, keys: &[u32], answer: Result<R>) -> Result<()> {
        let mut state = self.state.lock();
        let report = match answer {
            Ok(report) => report,
            Err(error) => {
                state.failure.get_or_insert(error.clone());
                return Err(error);
            }
        };
        for key in keys {
            let kept = &mut state.kept[*key as usize];
            *kept = kept.saturating_add(1);
            if *kept == self.needed {
                state.lacking -= 1;
            }
        }
        let refusal = report.refusal();
        state.has_refusals |= refusal.is_some();
        state.reports.push((keys.len(), report));
        match refusal {
            Some(message) => Err(Error::InvalidInput(message)),
            None => Ok(()),
        }
    }

    /// What the sender is told when something was refused: all that was answered so far.
    pub(super) fn joined(&self) -> R {
        self.state.lock().joined()
    }

    /// What the sender is told when all keys have their quorum of ingesters that refused nothing.
    pub(super) fn succeeded(&self) -> R {
        let mut report = self.state.lock().joined();
        report.forget_refusals();
        report
    }

    /// Waits until it is sure what the sender is told when they have not, which `error` says; what was answered by then.
    ///
    /// # Errors
    /// The first that is no refusal, if something is with too few ingesters.
    pub(super) async fn failed(&self, error: Error) -> Result<R> {
        loop {
            {
                let state = self.state.lock();
                let is_over = state.open.is_empty();
                if !state.has_refusals && (is_over || state.failure.is_some()) {
                    return Err(error);
                }
                if state.has_refusals && state.lacking == 0 {
                    return Ok(state.joined());
                }
                if is_over {
                    return Err(state.failure.clone().unwrap_or(error));
                }
            }
            self.changed.notified().await;
        }
    }
}

impl<R: PushAnswer> State<R> {
    /// All reports as one: each thing is told of by several ingesters, as many as have answered for a key in the mean. Exact where every
    /// ingester has every key.
    fn joined(&self) -> R {
        let told: usize = self.reports.iter().map(|(keys, _)| keys).sum();
        let copies = Copies::new(told as f64 / self.kept.len().max(1) as f64);
        R::joined(self.reports.iter().map(|(_, report)| report), copies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lgtm_core::ErrorKind;

    #[derive(Debug, Default)]
    struct Told {
        samples: u64,
        refused: u64,
    }

    impl PushAnswer for Told {
        fn refusal(&self) -> Option<String> {
            (self.refused > 0).then(|| "too old".into())
        }

        fn joined<'a>(answers: impl Iterator<Item = &'a Self>, copies: Copies) -> Self {
            let (samples, refused) = answers.fold((0, 0), |sum, told| {
                (sum.0 + told.samples, sum.1 + told.refused)
            });
            Self {
                samples: copies.once(samples),
                refused: copies.once(refused),
            }
        }

        fn forget_refusals(&mut self) {
            self.refused = 0;
        }
    }

    fn report(samples: u64, refused: u64) -> Told {
        Told { samples, refused }
    }

    fn unavailable() -> Error {
        Error::Unavailable("gone".into())
    }

    #[tokio::test]
    async fn what_all_refuse_is_told_once_and_the_rest_is_kept() {
        let tally = PushTally::new(1, 2);
        let calls = ["a", "b", "c"].map(|a| tally.open(a));
        let refusal = tally.note(&[0], Ok(report(8, 2))).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::InvalidInput);
        tally.note(&[0], Ok(report(8, 2))).unwrap_err();
        let told = tally.failed(refusal).await.unwrap();
        assert_eq!((told.samples, told.refused), (8, 2));
        assert_eq!(told.refusal().unwrap(), "too old");
        drop(calls);
    }

    #[tokio::test]
    async fn what_one_refuses_is_no_fault_when_two_have_it() {
        let tally = PushTally::new(1, 2);
        tally.note(&[0], Ok(report(8, 2))).unwrap_err();
        tally.note(&[0], Ok(report(10, 0))).unwrap();
        tally.note(&[0], Ok(report(10, 0))).unwrap();
        let told = tally.succeeded();
        assert_eq!((told.samples, told.refused), (9, 0));
    }

    #[tokio::test]
    async fn a_refusal_is_told_only_when_the_rest_is_safe() {
        // The second key is with one ingester alone, and the others are gone.
        let tally = PushTally::new(2, 2);
        tally.note(&[0, 1], Ok(report(1, 1))).unwrap_err();
        tally.note(&[0], Ok(report(0, 1))).unwrap_err();
        tally.note(&[1], Err(unavailable())).unwrap_err();
        let told = tally.failed(Error::InvalidInput("x".into())).await;
        assert_eq!(told.unwrap_err().kind(), ErrorKind::Unavailable);
        // One that comes late makes it safe.
        let tally = PushTally::new(2, 2);
        let late = tally.open("late");
        tally.note(&[0, 1], Ok(report(1, 1))).unwrap_err();
        tally.note(&[0], Ok(report(0, 1))).unwrap_err();
        let waiting = tally.failed(Error::InvalidInput("x".into()));
        tokio::pin!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        tally.note(&[1], Ok(report(1, 0))).unwrap();
        drop(late);
        let told = waiting.await.unwrap();
        assert_eq!((told.samples, told.refused), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_are_late_are_waited_for_once() {
        let (moment, known) = (Duration::from_millis(100), Mutex::default());
        let tally = PushTally::<Told>::new(1, 2);
        let [quick, slow] = ["quick", "slow"].map(|a| tally.open(a));
        let began = tokio::time::Instant::now();
        drop(quick);
        tally.wait_for_rest(moment, &known).await;
        assert_eq!(began.elapsed(), moment);
        assert!(known.lock().contains("slow") && !known.lock().contains("quick"));
        tally.wait_for_rest(moment, &known).await;
        assert_eq!(began.elapsed(), moment, "not again");
        known.lock().clear();
        drop(slow);
        tally.wait_for_rest(moment, &known).await;
        assert_eq!(began.elapsed(), moment, "it has ended");
    }

    #[tokio::test]
    async fn failures_without_refusals_are_told_as_they_are() {
        let tally = PushTally::<Told>::new(1, 2);
        let open = tally.open("open");
        tally.note(&[0], Err(unavailable())).unwrap_err();
        let told = tally.failed(Error::RateLimited {
            message: "slow".into(),
            retry_after: None,
        });
        assert_eq!(told.await.unwrap_err().kind(), ErrorKind::RateLimited);
        drop(open);
    }
}
