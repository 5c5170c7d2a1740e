//! A bound on requests at a time, and on those that wait their turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::storage::fault::Fault;
use crate::storage::settings::StorageSettings;

/// The slots of one component.
#[derive(Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_waiting: usize,
}

/// Leave to have one request running; given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    _permit: OwnedSemaphorePermit,
}

impl Slots {
    pub(super) fn new(settings: &StorageSettings) -> Self {
        Self {
            free: Arc::new(Semaphore::new(settings.max_concurrent)),
            waiting: AtomicUsize::new(0),
            max_waiting: settings.max_waiting,
        }
    }

    /// Waits for a slot, first come first served; refuses when too many wait already.
    pub(super) async fn enter(&self) -> object_store::Result<Slot> {
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(Slot { _permit: permit });
        }
        let _waiting = Waiting::begin(&self.waiting, self.max_waiting)?;
        let permit = Arc::clone(&self.free).acquire_owned().await;
        Ok(Slot {
            _permit: permit.expect("the semaphore is never closed"),
        })
    }
}

/// One place in the queue; leaves it when dropped, also when the waiter is cancelled.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a AtomicUsize, max: usize) -> object_store::Result<Self> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let place = Self(waiting);
        if before >= max {
            return Err(Fault::QueueFull { max }.into());
        }
        Ok(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_runs_one_waits_one_is_refused() {
        let slots = Slots::new(&StorageSettings {
            max_concurrent: 1,
            max_waiting: 1,
            ..Default::default()
        });
        let running = slots.enter().await.unwrap();
        let mut waiter = Box::pin(slots.enter());
        assert!(waiter.as_mut().now_or_never().is_none());
        assert!(slots.enter().await.is_err());
        drop(waiter);
        let mut waiter = Box::pin(slots.enter());
        assert!(
            waiter.as_mut().now_or_never().is_none(),
            "a waiter that left made room"
        );
        drop(running);
        waiter.await.unwrap();
    }
}
