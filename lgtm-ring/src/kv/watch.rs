//! News of values, the newest only.
//!
//! A channel whose queue holds at most one update per key: a newer value takes the place of one that nobody fetched yet. So a slow
//! reader costs no more memory than the store itself, and nothing that is newest is ever dropped.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// A key and its value, `None` once it was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvUpdate {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Option<Bytes>,
}

/// The reading end. Dropping it ends the watch.
#[derive(Debug)]
pub struct KvWatch {
    shared: Arc<PendingUpdates>,
    /// Bytes to take off the front of every key.
    prefix_bytes: usize,
}

/// The writing end, for those who implement [`Kv`](crate::kv::Kv). Dropping it ends the watch once all was read.
#[derive(Debug)]
pub struct KvWatchSender(Arc<PendingUpdates>);

#[derive(Debug, Default)]
struct PendingUpdates {
    queue: Mutex<Queue>,
    news: Notify,
    closed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    order: VecDeque<String>,
    values: HashMap<String, Option<Bytes>>,
    no_sender: bool,
    no_reader: bool,
}

impl KvWatch {
    /// Both ends of a new watch.
    pub fn channel() -> (KvWatchSender, KvWatch) {
        let shared = Arc::new(PendingUpdates::default());
        let watch = KvWatch {
            shared: shared.clone(),
            prefix_bytes: 0,
        };
        (KvWatchSender(shared), watch)
    }

    /// The next update; `None` when the store is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<KvUpdate> {
        loop {
            let news = self.shared.news.notified();
            {
                let mut queue = self.shared.queue.lock();
                if let Some(update) = queue.pop() {
                    return Some(update.without_prefix(self.prefix_bytes));
                }
                if queue.no_sender {
                    return None;
                }
            }
            news.await;
        }
    }

    /// The next update if one waits already.
    pub fn try_next(&mut self) -> Option<KvUpdate> {
        let update = self.shared.queue.lock().pop()?;
        Some(update.without_prefix(self.prefix_bytes))
    }

    /// The same watch with `bytes` taken off the front of every key, for stores that wrap others. Every key it yields must
    /// have that prefix.
    #[must_use]
    pub fn without_prefix(mut self, bytes: usize) -> Self {
        self.prefix_bytes += bytes;
        self
    }
}

impl KvUpdate {
    fn without_prefix(mut self, bytes: usize) -> Self {
        self.key.drain(..bytes.min(self.key.len()));
        self
    }
}

impl Drop for KvWatch {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        queue.no_reader = true;
        queue.order.clear();
        queue.values.clear();
        drop(queue);
        self.shared.closed.notify_one();
    }
}

impl KvWatchSender {
    /// Queues an update in the place of an older one of the same key. False if nobody reads any more.
    pub fn send(&self, key: &str, value: Option<Bytes>) -> bool {
        let mut queue = self.0.queue.lock();
        if queue.no_reader {
            return false;
        }
        if queue.values.insert(key.to_owned(), value).is_none() {
            queue.order.push_back(key.to_owned());
        }
        drop(queue);
        self.0.news.notify_one();
        true
    }

    /// Whether nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.0.queue.lock().no_reader
    }

    /// Waits until nobody reads any more. Cancel-safe; for one waiter.
    pub async fn closed(&self) {
        while !self.is_closed() {
            self.0.closed.notified().await;
        }
    }
}

impl Drop for KvWatchSender {
    fn drop(&mut self) {
        self.0.queue.lock().no_sender = true;
        self.0.news.notify_one();
    }
}

impl Queue {
    fn pop(&mut self) -> Option<KvUpdate> {
        let key = self.order.pop_front()?;
        let value = self
            .values
            .remove(&key)
            .expect("every key in the order has a value");
        Some(KvUpdate { key, value })
    }
}

/// The watches of a store that learns of every change itself.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Vec<Watcher>);

#[derive(Debug)]
struct Watcher {
    scope: Scope,
    sender: KvWatchSender,
}

/// What a watch is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// One key.
    Key(String),
    /// All keys that begin so.
    Prefix(String),
}

impl Scope {
    pub(crate) fn covers(&self, key: &str) -> bool {
        match self {
            Self::Key(own) => own == key,
            Self::Prefix(prefix) => key.starts_with(prefix.as_str()),
        }
    }
}

impl Watchers {
    /// A new watch that has `current` in its queue. Forgets watches that nobody reads.
    pub(crate) fn add(
        &mut self,
        scope: Scope,
        current: impl Iterator<Item = (String, Bytes)>,
    ) -> KvWatch {
        self.0.retain(|w| !w.sender.is_closed());
        let (sender, watch) = KvWatch::channel();
        for (key, value) in current {
            sender.send(&key, Some(value));
        }
        self.0.push(Watcher { scope, sender });
        watch
    }

    /// Tells all whom it concerns.
    pub(crate) fn notify(&mut self, key: &str, value: Option<&Bytes>) {
        self.0
            .retain(|w| !w.scope.covers(key) || w.sender.send(key, value.cloned()));
    }

    /// Whether anybody watches `key`.
    pub(crate) fn concerns(&self, key: &str) -> bool {
        self.0.iter().any(|w| w.scope.covers(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static str) -> Option<Bytes> {
        Some(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn a_slow_reader_sees_each_key_once_and_its_newest_value() {
        let (sender, mut watch) = KvWatch::channel();
        sender.send("a", bytes("1"));
        sender.send("b", bytes("1"));
        sender.send("a", bytes("2"));
        sender.send("b", None);
        let seen = [watch.next().await, watch.next().await].map(Option::unwrap);
        assert_eq!((seen[0].key.as_str(), &seen[0].value), ("a", &bytes("2")));
        assert_eq!((seen[1].key.as_str(), &seen[1].value), ("b", &None));
        assert_eq!(watch.try_next(), None);
        drop(sender);
        assert_eq!(watch.next().await, None);
    }

    #[tokio::test]
    async fn a_watch_that_is_dropped_closes_its_sender() {
        let (sender, watch) = KvWatch::channel();
        let waits = async { sender.closed().await };
        let (_, ()) = tokio::join!(async move { drop(watch) }, waits);
        assert!(!sender.send("a", None));
    }
}
