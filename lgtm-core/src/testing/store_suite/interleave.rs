//! Tasks that take turns as dice say.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

use crate::exec::CancelToken;
use crate::testing::Dice;

/// Polls between which the runtime gets its turn: its timers and what threads have sent.
const POLLS_PER_TURN: usize = 64;

pub(super) type Actor = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Whether an actor wants to be polled.
#[derive(Debug, Default)]
struct Wanted {
    is_woken: AtomicBool,
    everybody: Arc<AtomicWaker>,
}

impl Wake for Wanted {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.everybody.wake();
    }
}

/// Runs actors in one task until all are done or the flag goes up: at each await of one of them the dice choose who is next. What the flag
/// interrupts is dropped where it stands.
pub(super) struct Interleaved {
    actors: Vec<(Actor, Arc<Wanted>)>,
    dice: Dice,
    stop: CancelToken,
    everybody: Arc<AtomicWaker>,
}

impl Interleaved {
    pub(super) fn new(actors: Vec<Actor>, dice: Dice, stop: CancelToken) -> Self {
        let everybody = Arc::new(AtomicWaker::new());
        let wanted = || {
            Arc::new(Wanted {
                is_woken: AtomicBool::new(true),
                everybody: everybody.clone(),
            })
        };
        Self {
            actors: actors.into_iter().map(|a| (a, wanted())).collect(),
            dice,
            stop,
            everybody: everybody.clone(),
        }
    }
}

impl Future for Interleaved {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.everybody.register(cx.waker());
        for _ in 0..POLLS_PER_TURN {
            if this.actors.is_empty() || this.stop.is_cancelled() {
                this.actors.clear();
                return Poll::Ready(());
            }
            let is_woken = |n: &usize| this.actors[*n].1.is_woken.load(Ordering::Acquire);
            let ready: Vec<usize> = (0..this.actors.len()).filter(is_woken).collect();
            if ready.is_empty() {
                return Poll::Pending;
            }
            let next = ready[this.dice.below(ready.len() as u64) as usize];
            let (actor, wanted) = &mut this.actors[next];
            wanted.is_woken.store(false, Ordering::Release);
            let waker = Waker::from(wanted.clone());
            if actor
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
            {
                drop(this.actors.swap_remove(next));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Polls a future so many times at most and drops it then, as a server does when the client has gone away.
pub(super) async fn abandoned_after<T>(polls: u64, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    let mut left = polls;
    std::future::poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        work.as_mut().poll(cx).map(Some)
    })
    .await
}
