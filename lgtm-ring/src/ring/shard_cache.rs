//! Shards that were computed before.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::ring::topology::Topology;

/// The tables of shards, bounded in bytes; the oldest go first. States and heartbeats are not in it, so they never get stale here.
#[derive(Debug)]
pub(super) struct ShardCache {
    capacity_bytes: usize,
    inner: Mutex<CachedShards>,
}

#[derive(Debug, Default)]
struct CachedShards {
    by_identifier: HashMap<Box<str>, Vec<CachedShard>>,
    /// In the order in which they came.
    order: VecDeque<(Box<str>, u64)>,
    next_number: u64,
    bytes: usize,
}

#[derive(Debug)]
struct CachedShard {
    number: u64,
    size: usize,
    lookback_s: Option<i64>,
    validity: Validity,
    topology: Arc<Topology>,
    bytes: usize,
}

/// What a shard was computed for.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShardRef<'a> {
    pub(super) identifier: &'a str,
    pub(super) size: usize,
    pub(super) lookback_s: Option<i64>,
}

/// Beginnings of the lookback for which a shard is right, both inclusive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validity {
    pub(super) from_s: i64,
    pub(super) to_s: i64,
}

impl Validity {
    pub(super) const ALWAYS: Self = Self {
        from_s: i64::MIN,
        to_s: i64::MAX,
    };
}

impl ShardCache {
    pub(super) fn new(capacity_bytes: usize) -> Self {
        Self {
            capacity_bytes,
            inner: Mutex::default(),
        }
    }

    /// The shard, if it is right for a lookback that begins at `since_s`.
    pub(super) fn get(&self, key: &ShardRef<'_>, since_s: i64) -> Option<Arc<Topology>> {
        let inner = self.inner.lock();
        let entries = inner.by_identifier.get(key.identifier)?;
        let entry = entries.iter().find(|e| e.is_for(key))?;
        let valid = (entry.validity.from_s..=entry.validity.to_s).contains(&since_s);
        valid.then(|| Arc::clone(&entry.topology))
    }

    /// Keeps a shard in the place of an older one of the same key.
    pub(super) fn put(&self, key: &ShardRef<'_>, topology: &Arc<Topology>, validity: Validity) {
        // The maps' own cost, roughly.
        let bytes = topology.size_bytes() + 2 * key.identifier.len() + 256;
        if bytes > self.capacity_bytes {
            return;
        }
        let mut inner = self.inner.lock();
        let number = inner.next_number;
        inner.next_number += 1;
        inner.bytes += bytes;
        inner.order.push_back((key.identifier.into(), number));
        let entry = CachedShard {
            number,
            size: key.size,
            lookback_s: key.lookback_s,
            validity,
            topology: Arc::clone(topology),
            bytes,
        };
        let entries = inner
            .by_identifier
            .entry(key.identifier.into())
            .or_default();
        match entries.iter_mut().find(|e| e.is_for(key)) {
            Some(old) => {
                let old = std::mem::replace(old, entry);
                inner.bytes -= old.bytes;
            }
            None => entries.push(entry),
        }
        inner.shrink(self.capacity_bytes);
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.inner.lock().bytes
    }
}

impl CachedShards {
    fn shrink(&mut self, capacity_bytes: usize) {
        // The order also names what was replaced meanwhile; a replaced one costs no more than its name, and not for long.
        while self.bytes > capacity_bytes || self.order.len() > 4 * self.by_identifier.len() + 64 {
            let Some((identifier, number)) = self.order.pop_front() else {
                return;
            };
            let Some(entries) = self.by_identifier.get_mut(&identifier) else {
                continue;
            };
            if let Some(at) = entries.iter().position(|e| e.number == number) {
                self.bytes -= entries.swap_remove(at).bytes;
            }
            if entries.is_empty() {
                self.by_identifier.remove(&identifier);
            }
        }
    }
}

impl CachedShard {
    fn is_for(&self, key: &ShardRef<'_>) -> bool {
        self.size == key.size && self.lookback_s == key.lookback_s
    }
}
