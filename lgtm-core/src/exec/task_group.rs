//! Async tasks that belong to somebody.
//!
//! A [`TaskGroup`] spawns onto the host's runtime and knows how many of its tasks still run. A service owns one, shuts it down in its
//! `stop` and thereby leaves nothing behind; a group that is dropped takes its tasks with it. A finished task costs no memory.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::error::{Error, Result};
use crate::exec::cancel::CancelToken;
use crate::exec::panic::panic_message;

/// Tasks that are cancelled and joined together.
#[derive(Debug)]
pub struct TaskGroup {
    runtime: Handle,
    /// Asks the tasks to end.
    cancel: CancelToken,
    /// Drops the tasks at their next await.
    abort: CancelToken,
    state: Arc<watch::Sender<State>>,
}

#[derive(Debug, Clone, Default)]
struct State {
    running: usize,
    panics: u64,
    first_panic: Option<String>,
}

impl TaskGroup {
    /// An empty group whose tasks run on `runtime`.
    pub fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            cancel: CancelToken::new(),
            abort: CancelToken::new(),
            state: Arc::new(watch::Sender::default()),
        }
    }

    /// The token that [`TaskGroup::shutdown`] cancels; tasks watch it, or a child of it, and return.
    pub fn cancel_token(&self) -> &CancelToken {
        &self.cancel
    }

    /// Starts a task. `name` stands in the error if it panics.
    ///
    /// The handle yields the task's value; whoever drops the handle leaves the task running in the group.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> TaskHandle<T> {
        let (done, value) = oneshot::channel();
        let running = Running::begin(self.state.clone());
        let abort = self.abort.clone();
        self.runtime.spawn(async move {
            let task = AssertUnwindSafe(task).catch_unwind();
            let outcome = tokio::select! {
                biased;
                () = abort.cancelled() => return,
                outcome = task => outcome,
            };
            let outcome = outcome.map_err(|payload| {
                let text = format!("task {name} panicked: {}", panic_message(&*payload));
                running.panicked(&text);
                Error::Internal(text)
            });
            // Nobody may be waiting for the value.
            let _ = done.send(outcome);
        });
        TaskHandle { name, value }
    }

    /// Tasks that have not ended.
    pub fn len(&self) -> usize {
        self.state.borrow().running
    }

    /// Whether no task runs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tasks that ended in a panic.
    pub fn panics(&self) -> u64 {
        self.state.borrow().panics
    }

    /// Waits until no task runs, tasks spawned meanwhile too. Cancel-safe.
    ///
    /// # Errors
    /// `Internal` if a task of this group ever panicked; names the first.
    pub async fn join(&self) -> Result<()> {
        let mut state = self.state.subscribe();
        let end = state.wait_for(|s| s.running == 0).await;
        let end = end.expect("the group holds the sender");
        match &end.first_panic {
            Some(text) => Err(Error::Internal(text.clone())),
            None => Ok(()),
        }
    }

    /// Cancels the token, then joins. Waits as long as the tasks take to see it.
    ///
    /// # Errors
    /// As [`TaskGroup::join`].
    pub async fn shutdown(&self) -> Result<()> {
        self.cancel.cancel();
        self.join().await
    }

    /// Drops every task at its next await, whether it watches the token or not.
    pub fn abort(&self) {
        self.cancel.cancel();
        self.abort.cancel();
    }
}

impl Drop for TaskGroup {
    fn drop(&mut self) {
        self.abort();
    }
}

/// Counts one task for as long as it lives, however it ends.
struct Running(Arc<watch::Sender<State>>);

impl Running {
    fn begin(state: Arc<watch::Sender<State>>) -> Self {
        state.send_modify(|s| s.running += 1);
        Self(state)
    }

    fn panicked(&self, text: &str) {
        self.0.send_modify(|s| {
            s.panics += 1;
            s.first_panic.get_or_insert_with(|| text.to_owned());
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|s| s.running -= 1);
    }
}

/// Waits for the value of one task. Dropping it leaves the task running.
#[derive(Debug)]
pub struct TaskHandle<T> {
    name: &'static str,
    value: oneshot::Receiver<Result<T>>,
}

impl<T> Future for TaskHandle<T> {
    /// `Internal` if the task panicked, `Cancelled` if it was dropped before its end.
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let value = ready!(self.value.poll_unpin(cx));
        Poll::Ready(value.unwrap_or_else(|_| Err(Error::Cancelled(format!("task {}", self.name)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[tokio::test]
    async fn shutdown_waits_for_tasks_that_tidy_up() {
        let group = TaskGroup::new(Handle::current());
        let token = group.cancel_token().clone();
        let handle = group.spawn("tidy", async move {
            token.cancelled().await;
            tokio::task::yield_now().await;
            7
        });
        assert_eq!(group.len(), 1);
        group.shutdown().await.unwrap();
        assert!(group.is_empty());
        assert_eq!(handle.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_panic_stays_in_its_task_and_is_counted() {
        let group = TaskGroup::new(Handle::current());
        let bad = group.spawn("bad", async { panic!("boom {}", 1) });
        let good = group.spawn("good", async { 1 });
        assert_eq!(good.await.unwrap(), 1);
        let error = bad.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(error.to_string(), "task bad panicked: boom 1");
        assert_eq!(group.panics(), 1);
        assert!(group.join().await.is_err());
    }

    #[tokio::test]
    async fn a_dropped_group_takes_its_tasks_with_it() {
        let group = TaskGroup::new(Handle::current());
        let deaf = group.spawn("deaf", std::future::pending::<()>());
        drop(group);
        assert_eq!(deaf.await.unwrap_err().kind(), ErrorKind::Cancelled);
    }
}
