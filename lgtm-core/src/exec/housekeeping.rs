//! Rounds of work that a store does by itself while somebody holds it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::exec::cancel::CancelToken;
use crate::exec::task_group::TaskGroup;

/// Does `round` again and again, `first` after the call and then every `interval` after the last one has ended, until `stop` is cancelled: the
/// `run` of a service that keeps house.
pub async fn rounds<F: Future<Output = ()>>(
    first: Duration,
    interval: Duration,
    stop: &CancelToken,
    mut round: impl FnMut() -> F,
) {
    let mut pause = first.min(interval);
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        round().await;
        pause = interval;
    }
}

/// Tasks that work at intervals until they are stopped or what they work for is gone. Dropped, they end at their next await.
#[derive(Debug)]
pub struct Housekeeping(TaskGroup);

impl Housekeeping {
    /// Rounds are tasks of this group.
    pub fn new(tasks: TaskGroup) -> Self {
        Self(tasks)
    }

    /// Does `round` every `interval`, the first time after one. `part` is held during a round only, so that whoever drops the store
    /// between two frees all of it at once.
    pub fn every<T, F>(
        &self,
        name: &'static str,
        interval: Duration,
        part: &Arc<T>,
        round: impl Fn(Arc<T>) -> F + Send + 'static,
    ) where
        T: Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let part: Weak<T> = Arc::downgrade(part);
        let stop = self.0.cancel_token().clone();
        // It ends with the group, which joins it; nobody waits for its value.
        drop(self.0.spawn(name, async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(interval) => {}
                    () = stop.cancelled() => return,
                }
                let Some(part) = part.upgrade() else { return };
                round(part).await;
            }
        }));
    }

    /// Ends the tasks after the rounds that are under way.
    pub async fn end(self) {
        if let Err(e) = self.0.shutdown().await {
            tracing::error!(error = %e, "housekeeping ended before the store was closed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rounds_go_on_until_they_are_stopped() {
        let stop = CancelToken::new();
        let began = tokio::time::Instant::now();
        let mut at = Vec::new();
        rounds(
            Duration::from_secs(1),
            Duration::from_secs(10),
            &stop,
            || {
                at.push(began.elapsed().as_secs());
                if at.len() == 3 {
                    stop.cancel();
                }
                std::future::ready(())
            },
        )
        .await;
        assert_eq!(at, [1, 11, 21]);
    }
}
