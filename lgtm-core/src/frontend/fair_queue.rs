//! Turns: each tenant's items in their order, tenants one after the other.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::model::TenantId;

/// Items that wait, first in, first out per tenant, tenants round robin: one who queues a thousand delays another by one.
///
/// Bounded per tenant; a tenant costs memory only while it has items. Operations take constant time unless they say otherwise.
#[derive(Debug)]
pub struct FairQueue<T> {
    max_per_tenant: usize,
    waiting: HashMap<TenantId, VecDeque<T>>,
    /// Who has items, in the order of their turns.
    turns: VecDeque<TenantId>,
    len: usize,
}

impl<T> FairQueue<T> {
    /// An empty queue that takes at most `max_per_tenant` items of a tenant.
    pub fn new(max_per_tenant: usize) -> Self {
        Self {
            max_per_tenant,
            waiting: HashMap::new(),
            turns: VecDeque::new(),
            len: 0,
        }
    }

    /// Queues an item.
    ///
    /// # Errors
    /// `RateLimited` when the tenant has as many as it may.
    pub fn push(&mut self, tenant: &TenantId, item: T) -> Result<()> {
        let count = self.waiting.get(tenant).map_or(0, VecDeque::len);
        if count >= self.max_per_tenant {
            return Err(Error::RateLimited {
                message: format!(
                    "too many outstanding requests: tenant {tenant} has {count} waiting, the bound (max_outstanding_requests_per_tenant) is {}",
                    self.max_per_tenant
                ),
                retry_after: None,
            });
        }
        if count == 0 {
            self.turns.push_back(tenant.clone());
        }
        self.waiting
            .entry(tenant.clone())
            .or_default()
            .push_back(item);
        self.len += 1;
        Ok(())
    }

    /// The next item: that of the tenant whose turn it is.
    pub fn pop(&mut self) -> Option<(TenantId, T)> {
        self.pop_of(|_| true)
    }

    /// The next item of a tenant of whom `may` is true; who is passed over keeps the turn. Takes time by how many are passed over.
    pub fn pop_of(&mut self, may: impl FnMut(&TenantId) -> bool) -> Option<(TenantId, T)> {
        let place = self.turns.iter().position(may)?;
        let tenant = self.turns.remove(place)?;
        let items = self.waiting.get_mut(&tenant)?;
        let item = items.pop_front()?;
        self.len -= 1;
        if items.is_empty() {
            self.waiting.remove(&tenant);
        } else {
            self.turns.push_back(tenant.clone());
        }
        Some((tenant, item))
    }

    /// Items that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).unwrap()
    }

    #[test]
    fn tenants_take_turns_and_each_is_bounded() {
        let mut queue = FairQueue::new(3);
        let (a, b) = (tenant("a"), tenant("b"));
        for n in 0..3 {
            queue.push(&a, n).unwrap();
        }
        queue.push(&b, 10).unwrap();
        let error = queue.push(&a, 3).unwrap_err();
        assert!(
            error.to_string().contains("too many outstanding requests"),
            "{error}"
        );
        let order: Vec<i32> = std::iter::from_fn(|| queue.pop()).map(|(_, n)| n).collect();
        assert_eq!(order, [0, 10, 1, 2]);
        assert!(queue.is_empty() && queue.waiting.is_empty() && queue.turns.is_empty());
    }

    #[test]
    fn who_is_passed_over_keeps_the_turn() {
        let mut queue = FairQueue::new(3);
        let (a, b) = (tenant("a"), tenant("b"));
        for (who, n) in [(&a, 1), (&a, 2), (&b, 3), (&b, 4)] {
            queue.push(who, n).unwrap();
        }
        assert_eq!(queue.pop_of(|t| *t == b), Some((b.clone(), 3)));
        assert_eq!(queue.pop_of(|_| false), None);
        let order: Vec<i32> = std::iter::from_fn(|| queue.pop()).map(|(_, n)| n).collect();
        assert_eq!(order, [1, 4, 2]);
        assert!(queue.is_empty() && queue.waiting.is_empty() && queue.turns.is_empty());
    }

    proptest! {
        #[test]
        fn nobody_waits_for_more_than_one_of_each_other(pushes in prop::collection::vec((0u8..5, any::<bool>()), 1..200)) {
            let mut queue = FairQueue::new(1000);
            let mut pushed = 0;
            let mut popped = Vec::new();
            for (who, also_pop) in pushes {
                queue.push(&tenant(&format!("t{who}")), pushed).unwrap();
                pushed += 1;
                if also_pop {
                    popped.extend(queue.pop());
                }
            }
            let before = popped.len();
            popped.extend(std::iter::from_fn(|| queue.pop()));
            // Nothing is lost, and each tenant's own order is kept.
            let mut all: Vec<i32> = popped.iter().map(|(_, n)| *n).collect();
            for who in 0..5u8 {
                let id = tenant(&format!("t{who}"));
                let own: Vec<i32> = popped.iter().filter(|(t, _)| *t == id).map(|(_, n)| *n).collect();
                prop_assert!(own.is_sorted());
            }
            // While nobody is added, no tenant comes twice before all others that still have items.
            let rest = &popped[before..];
            for (n, (who, _)) in rest.iter().enumerate() {
                if let Some(again) = rest[n + 1..].iter().position(|(t, _)| t == who) {
                    let between: std::collections::HashSet<_> = rest[n + 1..n + 1 + again].iter().map(|(t, _)| t).collect();
                    prop_assert_eq!(between.len(), again);
                }
            }
            all.sort_unstable();
            prop_assert_eq!(all, (0..pushed).collect::<Vec<_>>());
        }
    }
}
