//! So many at a time, no tenant all of them, and fairly who is next.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::frontend::fair_queue::FairQueue;
use crate::model::TenantId;

/// How many a [`FairGate`] lets through.
#[derive(Debug, Clone, Copy)]
pub struct FairGateBounds {
    /// At a time, over all tenants; at least one.
    pub max_concurrent: usize,
    /// Of the turns that others leave, what a tenant may hold, in percent; always at least one turn.
    ///
    /// 50: one tenant holds half, a second a quarter, a third an eighth, so that it takes several that are greedy at once to make
    /// another one wait.
    pub percent_per_tenant: u8,
    /// Waiting per tenant.
    pub max_waiting_per_tenant: usize,
}

impl FairGateBounds {
    /// Turns that a tenant may hold while others hold `others`.
    fn share(&self, others: usize) -> usize {
        let left = self.max_concurrent.max(1).saturating_sub(others);
        let share = left.saturating_mul(usize::from(self.percent_per_tenant.min(100))) / 100;
        share.max(1)
    }
}

/// Lets a number of requests through at a time, and of each tenant a part of it; the others wait in a [`FairQueue`].
#[derive(Debug, Clone)]
pub struct FairGate(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    bounds: FairGateBounds,
    running: usize,
    /// Of those who have any.
    running_of: HashMap<TenantId, usize>,
    waiting: FairQueue<oneshot::Sender<FairPermit>>,
}

impl State {
    /// Whether a tenant may have one more. While this is true of nobody who waits, nobody waits in vain.
    fn may_enter(&self, tenant: &TenantId) -> bool {
        let own = self.running_of.get(tenant).copied().unwrap_or(0);
        let is_free = self.running < self.bounds.max_concurrent.max(1);
        is_free && own < self.bounds.share(self.running - own)
    }

    fn enter(&mut self, tenant: &TenantId) {
        self.running += 1;
        *self.running_of.entry(tenant.clone()).or_insert(0) += 1;
    }

    fn leave(&mut self, tenant: &TenantId) {
        self.running -= 1;
        if let Some(own) = self.running_of.get_mut(tenant) {
            *own -= 1;
            if *own == 0 {
                self.running_of.remove(tenant);
            }
        }
    }

    /// The next who may enter, already counted.
    fn admit(&mut self) -> Option<(TenantId, oneshot::Sender<FairPermit>)> {
        let mut waiting = std::mem::replace(&mut self.waiting, FairQueue::new(0));
        let next = waiting.pop_of(|tenant| self.may_enter(tenant));
        self.waiting = waiting;
        if let Some((tenant, _)) = &next {
            self.enter(tenant);
        }
        next
    }
}

/// The right to run, until dropped.
#[derive(Debug)]
pub struct FairPermit(Option<(FairGate, TenantId)>);

impl FairGate {
    /// A gate with these bounds.
    pub fn new(bounds: FairGateBounds) -> Self {
        Self(Arc::new(Mutex::new(State {
            bounds,
            running: 0,
            running_of: HashMap::new(),
            waiting: FairQueue::new(bounds.max_waiting_per_tenant),
        })))
    }

    /// Waits for a turn. Cancel-safe: who goes away loses the place, and a permit on its way passes to the next.
    ///
    /// # Errors
    /// `RateLimited` when too many of the tenant wait already.
    pub async fn enter(&self, tenant: &TenantId) -> Result<FairPermit> {
        let turn = {
            let mut state = self.0.lock();
            if state.may_enter(tenant) {
                state.enter(tenant);
                return Ok(self.permit(tenant.clone()));
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

    fn permit(&self, tenant: TenantId) -> FairPermit {
        FairPermit(Some((self.clone(), tenant)))
    }

    /// Takes a permit back and gives turns to whoever may enter by that and is still there.
    fn release(&self, tenant: &TenantId) {
        self.0.lock().leave(tenant);
        loop {
            let next = self.0.lock().admit();
            let Some((tenant, sender)) = next else { return };
            if let Err(mut unused) = sender.send(self.permit(tenant.clone())) {
                // Gone meanwhile; its permit must not be released a second time.
                unused.0 = None;
                self.0.lock().leave(&tenant);
            }
        }
    }
}

impl Drop for FairPermit {
    fn drop(&mut self) {
        if let Some((gate, tenant)) = self.0.take() {
            gate.release(&tenant);
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

    fn gate(
        max_concurrent: usize,
        percent_per_tenant: u8,
        max_waiting_per_tenant: usize,
    ) -> FairGate {
        FairGate::new(FairGateBounds {
            max_concurrent,
            percent_per_tenant,
            max_waiting_per_tenant,
        })
    }

    #[tokio::test]
    async fn no_tenant_holds_all_turns() {
        let gate = gate(8, 50, 10);
        let (a, b, c) = (tenant("a"), tenant("b"), tenant("c"));
        let mut held = HashMap::new();
        for who in [&a, &b, &c] {
            let mut turns = Vec::new();
            while let Some(turn) = gate.enter(who).now_or_never() {
                turns.push(turn.unwrap());
            }
            held.insert(who.clone(), turns);
        }
        let counts = [&a, &b, &c].map(|who| held[who].len());
        assert_eq!(counts, [4, 2, 1], "half of what the others leave");
        // The last turn is left for a fourth.
        let last = gate.enter(&tenant("d")).now_or_never().unwrap().unwrap();
        let e = tenant("e");
        let mut late = Box::pin(gate.enter(&e));
        assert!((&mut late).now_or_never().is_none());
        let mut greedy = Box::pin(gate.enter(&a));
        assert!((&mut greedy).now_or_never().is_none());
        drop(last);
        assert!((&mut greedy).now_or_never().is_none(), "over its share");
        drop((&mut late).now_or_never().unwrap().unwrap());
        // What others give back is shared anew.
        held.remove(&b);
        held.remove(&c);
        drop(held.get_mut(&a).unwrap().pop());
        (&mut greedy).now_or_never().unwrap().unwrap();
        assert_eq!(gate.waiting(), 0);
    }

    #[tokio::test]
    async fn a_share_is_at_least_one_turn_and_all_of_them_if_wished() {
        let one = gate(1, 50, 10);
        let a = tenant("a");
        let turn = one.enter(&a).now_or_never().unwrap().unwrap();
        assert!(one.enter(&a).now_or_never().is_none());
        drop(turn);
        assert!(one.enter(&a).now_or_never().is_some());
        let all = gate(3, 100, 10);
        let turns: Vec<_> = (0..3)
            .map(|_| all.enter(&a).now_or_never().unwrap())
            .collect();
        assert!(all.enter(&a).now_or_never().is_none());
        drop(turns);
    }

    #[tokio::test]
    async fn tenants_enter_in_turn() {
        let gate = gate(1, 50, 2);
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
        let gate = gate(1, 50, 10);
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
