//! So many at a time, and fairly who is next.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::frontend::fair_queue::FairQueue;
use crate::model::TenantId;

/// Lets a number of requests through at a time; the others wait in a [`FairQueue`].
#[derive(Debug, Clone)]
pub struct FairGate(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    waiting: FairQueue<oneshot::Sender<FairPermit>>,
}

/// The right to run, until dropped.
#[derive(Debug)]
pub struct FairPermit(Option<FairGate>);

impl FairGate {
    /// A gate for `max_concurrent` at a time, at least one, with so many waiting per tenant.
    pub fn new(max_concurrent: usize, max_waiting_per_tenant: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: max_concurrent.max(1),
            waiting: FairQueue::new(max_waiting_per_tenant),
        })))
    }

    /// Waits for a turn. Cancel-safe: who goes away loses the place, and a permit on its way passes to the next.
    ///
    /// # Errors
    /// `RateLimited` when too many of the tenant wait already.
    pub async fn enter(&self, tenant: &TenantId) -> Result<FairPermit> {
        let turn = {
            let mut state = self.0.lock();
            if state.free > 0 && state.waiting.is_empty() {
                state.free -= 1;
                return Ok(FairPermit(Some(self.clone())));
            }
            let (sender, turn) = oneshot::channel();
            state.waiting.push(tenant, sender)?;
            turn
        };
        turn.await
            .map_err(|_| Error::Internal("the fair gate forgot a waiting request".into()))
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting.len()
    }

    /// Gives a permit that has become free to whoever is next and still there.
    fn release(&self) {
        let mut next = self.0.lock().waiting.pop();
        while let Some((_, sender)) = next {
            match sender.send(FairPermit(Some(self.clone()))) {
                Ok(()) => return,
                // Gone meanwhile; its permit comes back unused and must not be released again.
                Err(mut unused) => unused.0 = None,
            }
            next = self.0.lock().waiting.pop();
        }
        self.0.lock().free += 1;
    }
}

impl Drop for FairPermit {
    fn drop(&mut self) {
        if let Some(gate) = self.0.take() {
            gate.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).unwrap()
    }

    #[tokio::test]
    async fn tenants_enter_in_turn() {
        let gate = FairGate::new(1, 2);
        let (a, b) = (tenant("a"), tenant("b"));
        let running = gate.enter(&a).await.unwrap();
        let mut first = Box::pin(gate.enter(&a));
        let mut second = Box::pin(gate.enter(&a));
        let mut other = Box::pin(gate.enter(&b));
        for waiting in [&mut first, &mut second, &mut other] {
            assert!(waiting.now_or_never().is_none());
        }
        assert!(gate.enter(&a).await.is_err(), "two wait already");
        drop(running);
        let running = first.await.unwrap();
        assert!((&mut second).now_or_never().is_none());
        drop(running);
        let running = (&mut other).now_or_never().unwrap().unwrap();
        drop(running);
        second.await.unwrap();
        assert_eq!(gate.waiting(), 0);
    }

    #[tokio::test]
    async fn who_goes_away_holds_up_nobody() {
        let gate = FairGate::new(1, 10);
        let a = tenant("a");
        let running = gate.enter(&a).await.unwrap();
        let mut impatient = Box::pin(gate.enter(&a));
        assert!((&mut impatient).now_or_never().is_none());
        let mut patient = Box::pin(gate.enter(&a));
        assert!((&mut patient).now_or_never().is_none());
        drop(impatient);
        drop(running);
        let running = (&mut patient).now_or_never().unwrap().unwrap();
        // A permit that was sent but never received passes on too.
        let mut late = Box::pin(gate.enter(&a));
        assert!((&mut late).now_or_never().is_none());
        drop(running);
        drop(late);
        assert!(gate.enter(&a).now_or_never().is_some());
    }
}
