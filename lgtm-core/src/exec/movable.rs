//! Futures that begin where they are awaited and go on in the compute pool once they have much to do.
//!
//! Most requests are small, and a thread of the runtime answers them sooner than a job could be handed over. Some are not, and how
//! large one is shows only on the way: a long text, a list of many series, an answer to print. Such a future says so with
//! [`move_to_pool`], and from then on each of its polls is a job of the pool, so that nothing it computes between two awaits holds a
//! thread of the runtime.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::Notify;

use crate::error::{Error, Result};
use crate::exec::cancel::CancelToken;
use crate::exec::executor::Executor;

tokio::task_local! {
    static MOVABLE: Arc<Movable>;
}

/// What a future under way and its driver tell each other.
#[derive(Debug, Default)]
struct Movable {
    /// Whether polls are to be jobs of the pool, from the next one on.
    is_wanted: AtomicBool,
    /// Whether they are.
    in_pool: AtomicBool,
    cancel: CancelToken,
}

/// Says that there is more to do than a thread of the runtime should be held for, half a millisecond: the future goes on in the pool
/// of the [`Executor::run_movable`] around it. Without one, and when it is there already, nothing happens. Costs one hand-over, some
/// microseconds, and as much at each await from then on.
pub async fn move_to_pool() {
    let Ok(movable) = MOVABLE.try_with(Arc::clone) else {
        return;
    };
    // Of several futures that are polled together each waits, not only the one that says so first: a poll ends here, and the driver makes
    // the next one a job.
    std::future::poll_fn(|cx| {
        if movable.in_pool.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        movable.is_wanted.store(true, Ordering::Relaxed);
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Moves on to the pool with a query whose text alone may take longer to read, print and plan than a thread of the runtime should be held:
/// a long one, or one with counted repetitions, Unicode classes or flags in regular expressions.
pub async fn move_if_heavy(text: &str) {
    const LONG_BYTES: usize = 1024;
    let is_counted = |at: usize| text.as_bytes().get(at + 1).is_some_and(u8::is_ascii_digit);
    let has_classes = || ["\\p", "\\P", "(?"].iter().any(|c| text.contains(c));
    if text.len() > LONG_BYTES
        || text.match_indices('{').any(|(at, _)| is_counted(at))
        || has_classes()
    {
        move_to_pool().await;
    }
}

/// A token that is cancelled when the [`Executor::run_movable`] around this call is dropped, for loops between two awaits, which a
/// drop cannot end. Outside of one nobody cancels it.
pub fn current_cancel() -> CancelToken {
    let token = MOVABLE.try_with(|movable| movable.cancel.child());
    token.unwrap_or_default()
}

/// Wakes the driver.
struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}

impl Executor {
    /// Runs a future here, or in the pool once it has called [`move_to_pool`]. Within another such future, and without a pool, it
    /// simply runs.
    ///
    /// Dropping it drops the future; if a poll of it is just running in the pool, [`current_cancel`] tells that poll.
    ///
    /// # Errors
    /// The future's own; those of [`Executor::run`] once it is in the pool. It never waits for a place in the queue there.
    pub async fn run_movable<T, E>(
        &self,
        future: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        if MOVABLE.try_with(|_| ()).is_ok() || !self.has_pool() {
            return future.await;
        }
        let movable = Arc::new(Movable::default());
        let _stop_when_dropped = movable.cancel.cancel_on_drop();
        let mut future = Box::pin(MOVABLE.scope(Arc::clone(&movable), future));
        let done = std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending if movable.is_wanted.load(Ordering::Relaxed) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        match done.await {
            Some(outcome) => outcome,
            None => {
                movable.in_pool.store(true, Ordering::Relaxed);
                self.run_in_pool(future, &movable.cancel).await
            }
        }
    }

    async fn run_in_pool<T, E, F>(
        &self,
        mut future: Pin<Box<F>>,
        cancel: &CancelToken,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let woken = Arc::new(Woken(Notify::new()));
        loop {
            let waker = Waker::from(Arc::clone(&woken));
            let runtime = self.runtime().clone();
            let poll = move |_: &CancelToken| {
                // Timers and connections belong to the runtime.
                let _entered = runtime.enter();
                let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
                Ok::<_, E>((future, polled))
            };
            let (back, polled) = self.run_poll(poll, cancel).await?;
            if let Poll::Ready(outcome) = polled {
                return outcome;
            }
            future = back;
            woken.0.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::exec::ExecutorSettings;

    fn executor() -> Executor {
        let settings = ExecutorSettings {
            threads: 1,
            ..Default::default()
        };
        Executor::new(&settings, tokio::runtime::Handle::current()).unwrap()
    }

    fn in_pool() -> bool {
        let name = std::thread::current().name().map(str::to_owned);
        name.is_some_and(|n| n.starts_with("lgtm-compute"))
    }

    #[tokio::test]
    async fn a_future_goes_on_in_the_pool_from_where_it_says() {
        let exec = executor();
        let inner = exec.clone();
        let work = async move {
            assert!(!in_pool());
            tokio::task::yield_now().await;
            assert!(!in_pool());
            move_to_pool().await;
            assert!(in_pool());
            tokio::time::sleep(Duration::from_millis(2)).await;
            assert!(in_pool(), "after a wait too");
            move_to_pool().await;
            // Jobs of its own are no trouble on a pool of one thread, nor are others of its kind.
            let one = inner.run(|_| Ok::<_, Error>(1), &current_cancel()).await?;
            let nested = inner.run_movable(async { Ok::<_, Error>(in_pool()) });
            Ok::<_, Error>((one, nested.await?))
        };
        assert_eq!(exec.run_movable(work).await.unwrap(), (1, true));
        move_to_pool().await;
        assert!(!in_pool(), "nothing happens outside");
    }

    #[tokio::test]
    async fn of_several_that_move_at_once_none_stays_behind() {
        let exec = executor();
        let parts = [(); 3].map(|()| async {
            move_to_pool().await;
            in_pool()
        });
        let work = async { Ok::<_, Error>(futures::future::join_all(parts).await) };
        assert_eq!(exec.run_movable(work).await.unwrap(), [true; 3]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn jobs_of_a_future_take_no_place_that_its_polls_need() {
        let settings = ExecutorSettings {
            threads: 1,
            max_queued_jobs: 2,
            ..Default::default()
        };
        let exec = Executor::new(&settings, tokio::runtime::Handle::current()).unwrap();
        let inner = exec.clone();
        let work = async move {
            move_to_pool().await;
            let jobs = (0..50).map(|n| {
                let exec = inner.clone();
                async move {
                    exec.run(move |_| Ok::<_, Error>(n), &current_cancel())
                        .await
                }
            });
            futures::future::try_join_all(jobs).await
        };
        let done = tokio::time::timeout(Duration::from_secs(10), exec.run_movable(work)).await;
        assert_eq!(done.unwrap().unwrap().len(), 50);
    }

    #[tokio::test]
    async fn a_running_poll_sees_that_its_future_was_dropped() {
        let exec = executor();
        let (started, starts) = tokio::sync::oneshot::channel();
        let (ended, ends) = tokio::sync::oneshot::channel();
        let work = async move {
            move_to_pool().await;
            let cancel = current_cancel();
            let _ = started.send(());
            while !cancel.is_cancelled() {
                std::thread::yield_now();
            }
            let _ = ended.send(());
            Ok::<_, Error>(())
        };
        tokio::select! {
            _ = exec.run_movable(work) => panic!("it runs until it is dropped"),
            _ = starts => {}
        }
        ends.await.unwrap();
    }

    #[tokio::test]
    async fn panics_and_errors_come_back_from_the_pool() {
        let exec = executor();
        let work = async {
            move_to_pool().await;
            Err::<(), _>(Error::NotFound("x".into()))
        };
        let error = exec.run_movable(work).await.unwrap_err();
        assert!(matches!(error, Error::NotFound(_)));
        let work = async {
            move_to_pool().await;
            panic!("a fault");
            #[allow(unreachable_code, reason = "gives the type")]
            Ok::<(), Error>(())
        };
        let error = exec.run_movable(work).await.unwrap_err();
        assert!(error.to_string().contains("a fault"), "{error}");
    }
}
