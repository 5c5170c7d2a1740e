//! Telling work that nobody waits for it any more.
//!
//! A [`CancelToken`] is one shared flag. Cancelling a token cancels its children, never its parent. Asking costs one atomic load, so
//! that inner loops can ask often.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::error::{Error, Result};

/// Children kept before dead ones are looked for.
const FIRST_PRUNE: usize = 16;

/// A flag that says "stop", shared by clones and inherited by children.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<Node>);

#[derive(Debug, Default)]
struct Node {
    cancelled: AtomicBool,
    woken: Notify,
    children: Mutex<Children>,
}

#[derive(Debug, Default)]
struct Children {
    alive: Vec<Weak<Node>>,
    prune_at: usize,
}

impl CancelToken {
    /// A token that nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// A token that is cancelled with this one, and can be cancelled alone.
    ///
    /// Children that were dropped are forgotten in constant amortised time, so a token may live as long as the process.
    pub fn child(&self) -> Self {
        let child = Self::new();
        let mut children = self.0.children.lock();
        if self.is_cancelled() {
            child.0.cancelled.store(true, Ordering::Release);
            return child;
        }
        if children.alive.len() >= children.prune_at.max(FIRST_PRUNE) {
            children.alive.retain(|node| node.strong_count() > 0);
            children.prune_at = children.alive.len() * 2;
        }
        children.alive.push(Arc::downgrade(&child.0));
        child
    }

    /// Cancels this token and all that descend from it. Doing it twice is fine.
    pub fn cancel(&self) {
        let mut pending = vec![self.0.clone()];
        while let Some(node) = pending.pop() {
            let children = {
                // Under the lock, so that a child made meanwhile is either seen here or born cancelled.
                let mut children = node.children.lock();
                node.cancelled.store(true, Ordering::Release);
                std::mem::take(&mut children.alive)
            };
            node.woken.notify_waiters();
            pending.extend(children.iter().filter_map(Weak::upgrade));
        }
    }

    /// Whether somebody cancelled this token or one above it.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// `Cancelled` once the token is cancelled; `what` names the work. For loops that end with `?`.
    ///
    /// # Errors
    /// `Cancelled`.
    #[inline]
    pub fn check(&self, what: &str) -> Result<()> {
        if self.is_cancelled() {
            return Err(Error::Cancelled(what.to_owned()));
        }
        Ok(())
    }

    /// Waits until the token is cancelled. Cancel-safe.
    pub async fn cancelled(&self) {
        let woken = self.0.woken.notified();
        tokio::pin!(woken);
        // Registered before the flag is read: a cancel in between is not lost.
        woken.as_mut().enable();
        if !self.is_cancelled() {
            woken.await;
        }
    }

    /// A guard that cancels this token when it is dropped.
    pub fn cancel_on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(self.clone())
    }

    #[cfg(test)]
    fn children_kept(&self) -> usize {
        self.0.children.lock().alive.len()
    }
}

/// Cancels its token when it is dropped.
#[derive(Debug)]
pub struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_is_cancelled_with_its_parent_and_not_the_other_way() {
        let parent = CancelToken::new();
        let (left, right) = (parent.child(), parent.child());
        left.cancel();
        assert!(left.is_cancelled() && !parent.is_cancelled() && !right.is_cancelled());
        let grandchild = right.child();
        parent.cancel();
        grandchild.cancelled().await;
        assert!(right.is_cancelled());
        assert!(parent.child().is_cancelled(), "born cancelled");
        assert!(parent.check("test").is_err());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn everyone_who_waits_is_woken() {
        let token = CancelToken::new();
        let waiters: Vec<_> = (0..50)
            .map(|_| {
                let token = token.child();
                tokio::runtime::Handle::current().spawn(async move { token.cancelled().await })
            })
            .collect();
        token.cancel();
        for waiter in waiters {
            waiter.await.unwrap();
        }
    }

    #[test]
    fn dropped_children_are_forgotten() {
        let token = CancelToken::new();
        for _ in 0..10_000 {
            token.child();
        }
        assert!(token.children_kept() <= FIRST_PRUNE + 1);
    }

    #[test]
    fn the_guard_cancels() {
        let token = CancelToken::new();
        drop(token.cancel_on_drop());
        assert!(token.is_cancelled());
    }
}
