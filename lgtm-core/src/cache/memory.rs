//! The in-memory cache.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::cache::cache::{Cache, CacheStats};
use crate::cache::shard::{ENTRY_OVERHEAD_BYTES, Shard};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::units::ByteSize;

/// Locks that the keys are spread over, if there are bytes enough.
const MAX_SHARDS: usize = 16;

/// A shard smaller than this would refuse ordinary values.
const MIN_SHARD_BYTES: usize = 8 << 20;

/// How big a [`MemoryCache`] is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryCacheSettings {
    /// Bytes of all values, keys and bookkeeping. Default: 64 MiB, enough for a small node's results and index; the host divides
    /// its memory among its caches.
    pub max_bytes: ByteSize,
}

impl Default for MemoryCacheSettings {
    fn default() -> Self {
        Self {
            max_bytes: ByteSize::mib(64),
        }
    }
}

impl MemoryCacheSettings {
    /// Checks that at least one entry fits.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub fn validate(&self) -> Result<()> {
        if self.max_bytes.as_usize() <= ENTRY_OVERHEAD_BYTES {
            return Err(Error::InvalidInput(format!(
                "memory cache: max_bytes is {}, must be more than {ENTRY_OVERHEAD_BYTES}",
                self.max_bytes
            )));
        }
        Ok(())
    }
}

/// Bytes in this process, never more than its bound.
///
/// Sharded by key; each shard holds up to its part of the bound, and a value that is bigger than a part is skipped. Values leave
/// in S3-FIFO order.
#[derive(Debug)]
pub struct MemoryCache {
    name: String,
    clock: Arc<dyn Clock>,
    shards: Vec<Mutex<Shard>>,
}

impl MemoryCache {
    /// An empty cache.
    ///
    /// # Errors
    /// `InvalidInput` for settings out of bounds.
    pub fn new(name: &str, settings: &MemoryCacheSettings, clock: Arc<dyn Clock>) -> Result<Self> {
        settings.validate()?;
        let max_bytes = settings.max_bytes.as_usize();
        let shards = (max_bytes / MIN_SHARD_BYTES).clamp(1, MAX_SHARDS);
        Ok(Self {
            name: name.to_owned(),
            clock,
            shards: (0..shards)
                .map(|_| Mutex::new(Shard::new(max_bytes / shards)))
                .collect(),
        })
    }

    fn shard(&self, key: &str) -> (&Mutex<Shard>, u64) {
        let hash = xxh3_64(key.as_bytes());
        // The upper half, since the tables within use the lower bits.
        let at = (hash >> 32) as usize % self.shards.len();
        (&self.shards[at], hash)
    }
}

#[async_trait]
impl Cache for MemoryCache {
    fn name(&self) -> &str {
        &self.name
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Option<Bytes>> {
        let now = self.clock.monotonic();
        let get = |key: &&str| {
            let (shard, hash) = self.shard(key);
            shard.lock().get(key, hash, now)
        };
        keys.iter().map(get).collect()
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) {
        let now = self.clock.monotonic();
        let expires = ttl.map(|ttl| now.saturating_add(ttl));
        let (shard, hash) = self.shard(key);
        // A copy: `value` may be a slice that keeps a far larger buffer alive, which the bound would not see.
        let value = Bytes::copy_from_slice(&value);
        shard.lock().set(key, value, hash, expires, now);
    }

    async fn delete(&self, key: &str) {
        let (shard, hash) = self.shard(key);
        shard.lock().delete(key, hash);
    }

    fn stats(&self) -> CacheStats {
        let mut all = CacheStats::default();
        for shard in &self.shards {
            let shard = shard.lock();
            let stats = &shard.stats;
            all.requests += stats.requests;
            all.hits += stats.hits;
            all.stores += stats.stores;
            all.skipped += stats.skipped;
            all.evicted += stats.evicted;
            all.expired += stats.expired;
            all.items += shard.items() as u64;
            all.bytes += shard.bytes() as u64;
        }
        all
    }
}

#[cfg(test)]
mod tests;
