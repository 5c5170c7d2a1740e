//! Values on their way out: nobody waits for them, and no more than so many wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use xxhash_rust::xxh3::xxh3_64;

use crate::cache::remote::failure::{Failure, RemoteCounts, RemoteOperation};
use crate::cache::remote::remote_cache::RemoteStore;
use crate::error::{Error, Result};
use crate::exec::{CancelToken, TaskGroup};
use crate::units::ByteSize;

/// What may wait to be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WriteBackSettings {
    /// Writers, each with its part of the keys, so that what is written under one key keeps its order. 10, as in Tempo.
    pub concurrency: usize,
    /// Values that wait; beyond it they are dropped. Mimir's default.
    pub max_items: usize,
    /// Bytes of all values that wait or are being written; beyond it they are dropped. Default 64MiB: a second of a busy network.
    pub max_bytes: ByteSize,
}

impl Default for WriteBackSettings {
    fn default() -> Self {
        Self {
            concurrency: 10,
            max_items: 25_000,
            max_bytes: ByteSize::mib(64),
        }
    }
}

impl WriteBackSettings {
    pub(in crate::cache) fn validate(&self) -> Result<()> {
        for (name, value) in [
            ("concurrency", self.concurrency),
            ("max_items", self.max_items),
            ("max_bytes", self.max_bytes.as_usize()),
        ] {
            if value == 0 {
                return Err(Error::InvalidInput(format!(
                    "write_back: {name} is 0, must be at least 1"
                )));
            }
        }
        Ok(())
    }
}

/// Writes that a writer hands over at a time.
const BATCH: usize = 100;

/// A key to be stored or forgotten.
#[derive(Debug, Clone)]
pub(in crate::cache) struct Write {
    pub(in crate::cache) key: String,
    /// The value and its time; none to forget the key.
    pub(in crate::cache) value: Option<(Bytes, Option<Duration>)>,
}

impl Write {
    /// What is done with the key.
    pub(in crate::cache) fn operation(&self) -> RemoteOperation {
        match self.value {
            Some(_) => RemoteOperation::Set,
            None => RemoteOperation::Delete,
        }
    }

    fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, |(value, _)| value.len())
    }
}

#[derive(Debug)]
enum Queued {
    Write(Write, Option<oneshot::Sender<()>>),
    /// Tells when everything before it is written.
    Mark(oneshot::Sender<()>),
}

/// The queues of the writers.
#[derive(Debug)]
pub(super) struct WriteBack {
    queues: Vec<mpsc::Sender<Queued>>,
    waiting: Arc<Waiting>,
    max_bytes: usize,
}

/// What waits or is being written.
#[derive(Debug, Default)]
struct Waiting {
    bytes: AtomicUsize,
    items: AtomicU64,
}

impl WriteBack {
    /// Starts the writers in `tasks`.
    pub(super) fn start<S: RemoteStore>(
        settings: &WriteBackSettings,
        store: &Arc<S>,
        tasks: &TaskGroup,
    ) -> Self {
        let waiting = Arc::new(Waiting::default());
        let per_queue = settings.max_items.div_ceil(settings.concurrency).max(1);
        let start = |_| {
            let (queue, writes) = mpsc::channel(per_queue);
            let (store, waiting) = (Arc::clone(store), Arc::clone(&waiting));
            let stop = tasks.cancel_token().clone();
            // The group joins it; nobody waits for its value.
            drop(tasks.spawn("cache writer", write_all(store, writes, waiting, stop)));
            queue
        };
        Self {
            queues: (0..settings.concurrency).map(start).collect(),
            waiting: Arc::clone(&waiting),
            max_bytes: settings.max_bytes.as_usize(),
        }
    }

    fn queue_of(&self, key: &str) -> &mpsc::Sender<Queued> {
        &self.queues[xxh3_64(key.as_bytes()) as usize % self.queues.len()]
    }

    /// Queues a write without waiting.
    pub(super) fn push(&self, write: Write, counts: &RemoteCounts) {
        let operation = write.operation();
        if !self.try_push(write, None) {
            counts.failed(operation, Failure::QueueFull, 1);
        }
    }

    /// Queues a write and waits until it was tried.
    pub(super) async fn push_and_wait(&self, write: Write, counts: &RemoteCounts) {
        let operation = write.operation();
        let (done, tried) = oneshot::channel();
        if self.try_push(write, Some(done)) {
            // An error: the writers have ended.
            let _ = tried.await;
        } else {
            counts.failed(operation, Failure::QueueFull, 1);
        }
    }

    fn try_push(&self, write: Write, done: Option<oneshot::Sender<()>>) -> bool {
        let bytes = write.bytes();
        let before = self.waiting.bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= self.max_bytes;
        self.waiting.items.fetch_add(1, Ordering::Relaxed);
        let queue = self.queue_of(&write.key);
        let is_queued = fits && queue.try_send(Queued::Write(write, done)).is_ok();
        if !is_queued {
            self.waiting.done(bytes, 1);
        }
        is_queued
    }

    /// Waits until all that was queued before is written, or has failed.
    pub(super) async fn flush(&self) {
        let mut marks = Vec::with_capacity(self.queues.len());
        for queue in &self.queues {
            let (mark, passed) = oneshot::channel();
            if queue.send(Queued::Mark(mark)).await.is_ok() {
                marks.push(passed);
            }
        }
        futures::future::join_all(marks).await;
    }

    /// Values and bytes that wait.
    pub(super) fn waiting(&self) -> (u64, u64) {
        let items = self.waiting.items.load(Ordering::Relaxed);
        (items, self.waiting.bytes.load(Ordering::Relaxed) as u64)
    }
}

impl Waiting {
    fn done(&self, bytes: usize, items: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.items.fetch_sub(items, Ordering::Relaxed);
    }
}

/// Hands over what comes through a queue until `stop`; what waits then is dropped.
async fn write_all<S: RemoteStore>(
    store: Arc<S>,
    mut writes: mpsc::Receiver<Queued>,
    waiting: Arc<Waiting>,
    stop: CancelToken,
) {
    let mut came = Vec::with_capacity(BATCH);
    loop {
        let count = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            count = writes.recv_many(&mut came, BATCH) => count,
        };
        if count == 0 {
            return;
        }
        let mut rest: VecDeque<Queued> = came.drain(..).collect();
        while !rest.is_empty() {
            let (batch, marks) = until_mark(&mut rest);
            let bytes = batch.iter().map(Write::bytes).sum();
            let items = batch.len() as u64;
            if !batch.is_empty() {
                store.write(&batch).await;
            }
            waiting.done(bytes, items);
            // Whoever waits may have gone.
            for mark in marks {
                let _ = mark.send(());
            }
        }
    }
}

/// The writes up to the next mark, and whom to tell once they are done.
fn until_mark(rest: &mut VecDeque<Queued>) -> (Vec<Write>, Vec<oneshot::Sender<()>>) {
    let (mut batch, mut tell) = (Vec::new(), Vec::new());
    while let Some(queued) = rest.pop_front() {
        match queued {
            Queued::Write(write, done) => {
                batch.push(write);
                tell.extend(done);
            }
            Queued::Mark(mark) => {
                tell.push(mark);
                break;
            }
        }
    }
    (batch, tell)
}

#[cfg(test)]
mod tests;
