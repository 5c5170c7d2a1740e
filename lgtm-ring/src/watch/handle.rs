//! The newest view, for whoever needs it.

use std::sync::Arc;
use std::time::Duration;

use lgtm_core::{Error, Result};
use tokio::sync::watch;

use crate::instance::InstanceState;
use crate::ring::Ring;

/// The newest view of a ring. Cloning is cheap; clones see the same.
#[derive(Debug, Clone)]
pub struct RingHandle {
    views: watch::Receiver<Ring>,
    /// Of a ring that nobody watches: the other end, so that waiting on it does not end.
    _fixed: Option<Arc<watch::Sender<Ring>>>,
}

impl RingHandle {
    pub(super) fn new(views: watch::Receiver<Ring>) -> Self {
        Self {
            views,
            _fixed: None,
        }
    }

    /// The ring of a process that is the whole cluster: one instance, which owns every key.
    pub fn standalone(id: &str) -> Self {
        Ring::standalone(id).into()
    }

    /// The view now. Take it once per request, so that all of the request sees the same ring.
    pub fn current(&self) -> Ring {
        self.views.borrow().clone()
    }

    /// Waits for a view newer than the last one that this handle's `changed` or creation saw, and yields the newest. Cancel-safe. Waits for
    /// ever once the watcher has ended.
    pub async fn changed(&mut self) -> Ring {
        if self.views.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.views.borrow_and_update().clone()
    }

    /// Waits until the instance `id` is in one of `states`, at most `within`.
    ///
    /// # Errors
    /// `Timeout`.
    pub async fn wait_for_state(
        &self,
        id: &str,
        states: &[InstanceState],
        within: Duration,
    ) -> Result<()> {
        let is_there = |ring: &Ring| ring.instance(id).is_some_and(|i| states.contains(&i.state));
        let mut views = self.views.clone();
        let waited = tokio::time::timeout(within, views.wait_for(is_there)).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Error::Timeout {
                what: format!("waiting for instance {id} to be in one of the states {states:?}"),
                after: within,
            }),
        }
    }

    /// Waits until nobody has come, gone or changed tokens for `min_stability`, at most `max_waiting`: before a first sync, so that it is not
    /// done again for each member of a cluster that starts. True if the ring was stable.
    pub async fn wait_stable(&self, min_stability: Duration, max_waiting: Duration) -> bool {
        let mut handle = self.clone();
        let mut seen = handle.views.borrow_and_update().clone();
        let calm = async {
            let mut calm_at = tokio::time::Instant::now() + min_stability;
            while let Ok(ring) = tokio::time::timeout_at(calm_at, handle.changed()).await {
                if !ring.shares_tables_with(&seen) {
                    calm_at = tokio::time::Instant::now() + min_stability;
                }
                seen = ring;
            }
        };
        tokio::time::timeout(max_waiting, calm).await.is_ok()
    }
}

impl From<Ring> for RingHandle {
    fn from(ring: Ring) -> Self {
        let (fixed, views) = watch::channel(ring);
        Self {
            views,
            _fixed: Some(Arc::new(fixed)),
        }
    }
}
