//! A [`Cache`](crate::cache::Cache) out of something that answers over the network.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::cache::cache::{CacheStats, is_plain_key};
use crate::cache::remote::failure::{Failure, RemoteCounts, RemoteOperation};
use crate::cache::remote::write_back::{Write, WriteBack, WriteBackSettings};
use crate::exec::TaskGroup;
use crate::telemetry::Registry;

/// Servers that hold values. Both methods count what fails.
#[async_trait]
pub(in crate::cache) trait RemoteStore: Debug + Send + Sync + 'static {
    /// The values of keys that all caches take, in their order.
    async fn get_many(&self, keys: &[&str]) -> Vec<Option<Bytes>>;

    /// Stores and forgets, in this order for each key.
    async fn write(&self, batch: &[Write]);
}

/// Reads go to the servers at once, writes through the queue.
#[derive(Debug)]
pub(in crate::cache) struct RemoteCache<S> {
    pub(in crate::cache) name: String,
    pub(in crate::cache) store: Arc<S>,
    pub(in crate::cache) counts: Arc<RemoteCounts>,
    max_item_bytes: usize,
    queue: WriteBack,
    tasks: TaskGroup,
}

impl<S: RemoteStore> RemoteCache<S> {
    /// Starts the writers in `tasks`, which end with the cache.
    pub(in crate::cache) fn new(
        name: &str,
        store: Arc<S>,
        counts: Arc<RemoteCounts>,
        max_item_bytes: usize,
        write_back: &WriteBackSettings,
        tasks: TaskGroup,
    ) -> Self {
        Self {
            name: name.to_owned(),
            queue: WriteBack::start(write_back, &store, &tasks),
            store,
            counts,
            max_item_bytes,
            tasks,
        }
    }

    pub(in crate::cache) async fn get_many(&self, keys: &[&str]) -> Vec<Option<Bytes>> {
        self.counts.tried(RemoteOperation::Get, keys.len() as u64);
        let found = match keys.iter().all(|key| is_plain_key(key)) {
            true => self.store.get_many(keys).await,
            false => self.get_plain(keys).await,
        };
        self.counts.cache.answered(&found);
        found
    }

    /// Asks for those keys that servers take.
    async fn get_plain(&self, keys: &[&str]) -> Vec<Option<Bytes>> {
        let mut found = vec![None; keys.len()];
        let at: Vec<usize> = (0..keys.len()).filter(|&i| is_plain_key(keys[i])).collect();
        let bad = (keys.len() - at.len()) as u64;
        self.counts
            .failed(RemoteOperation::Get, Failure::MalformedKey, bad);
        let plain: Vec<&str> = at.iter().map(|&i| keys[i]).collect();
        for (i, value) in at.into_iter().zip(self.store.get_many(&plain).await) {
            found[i] = value;
        }
        found
    }

    pub(in crate::cache) fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) {
        let why = if !is_plain_key(key) {
            Failure::MalformedKey
        } else if value.len() > self.max_item_bytes {
            Failure::TooLarge
        } else if ttl.is_some_and(|ttl| ttl < Duration::from_secs(1)) {
            Failure::InvalidTtl
        } else {
            self.counts.cache.stored(1);
            // A copy: `value` may be a slice that keeps a far larger buffer alive, which the queue's bound would not see.
            let value = Some((Bytes::copy_from_slice(&value), ttl));
            let key = key.to_owned();
            return self.queue.push(Write { key, value }, &self.counts);
        };
        self.counts.failed(RemoteOperation::Set, why, 1);
        if why != Failure::MalformedKey {
            // An older value must not stand in the place of this one.
            let (key, value) = (key.to_owned(), None);
            self.queue.push(Write { key, value }, &self.counts);
        }
    }

    pub(in crate::cache) async fn delete(&self, key: &str) {
        if is_plain_key(key) {
            let (key, value) = (key.to_owned(), None);
            let write = Write { key, value };
            self.queue.push_and_wait(write, &self.counts).await;
        }
    }

    /// Waits until everything that was set before is written, or has failed.
    pub(in crate::cache) async fn flush(&self) {
        self.queue.flush().await;
    }

    pub(in crate::cache) async fn close(&self) {
        if let Err(error) = self.tasks.shutdown().await {
            tracing::error!(%error, cache = self.name, "a task of the cache ended before it was closed");
        }
    }

    pub(in crate::cache) fn stats(&self) -> CacheStats {
        self.counts.cache.stats()
    }

    /// Tells counts in `registry`, under names that begin with `prefix`.
    pub(in crate::cache) fn register_metrics(
        cache: &Arc<Self>,
        prefix: &'static str,
        registry: &Registry,
    ) {
        registry.collect_from(cache, move |cache: &Self, e| {
            cache.counts.tell(prefix, &cache.name, e);
            let (items, bytes) = cache.queue.waiting();
            let labels = [("name", cache.name.as_str())];
            e.gauge(
                &format!("{prefix}_queue_length"),
                "Values that wait to be written.",
                &labels,
                items as f64,
            );
            e.gauge(
                &format!("{prefix}_queue_bytes"),
                "Bytes of the values that wait to be written.",
                &labels,
                bytes as f64,
            );
        });
    }
}
