//! What a cache promises.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::cache::single_flight::SingleFlight;
use crate::error::Result;

/// Bytes under text keys, which may be forgotten at any time.
///
/// Nothing fails: what goes wrong is a miss, or a write that did not happen, and is counted. Keys have 1 to 250 bytes without blanks
/// and control characters, as memcached wants them; others may be treated as never stored. What
/// `testing::cache_suite` does not check is not promised.
#[async_trait]
pub trait Cache: Debug + Send + Sync + 'static {
    /// The cache's name in metrics.
    fn name(&self) -> &str;

    /// The values of `keys`, in their order. Cancel-safe.
    async fn get_many(&self, keys: &[&str]) -> Vec<Option<Bytes>>;

    /// Stores a value in the place of an older one, for `ttl` or, without one, until there is no room. May return before it is
    /// stored.
    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>);

    /// Forgets a key; one that is not there is fine.
    async fn delete(&self, key: &str);

    /// Ends what works in the background; afterwards everything may be a miss. Dropping the cache does so too, but waits for nothing: what a cache
    /// keeps for the next start may then lack the last values. Default: there is nothing to end.
    async fn close(&self) {}

    /// Counts so far.
    fn stats(&self) -> CacheStats;
}

/// Bytes that a key may have.
const MAX_KEY_BYTES: usize = 250;

/// Whether all caches take a key.
pub(super) fn is_plain_key(key: &str) -> bool {
    let is_plain = |b: u8| b > 0x20 && b != 0x7f;
    (1..=MAX_KEY_BYTES).contains(&key.len()) && key.bytes().all(is_plain)
}

/// What a cache has done and holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Keys asked for.
    pub requests: u64,
    /// Keys found.
    pub hits: u64,
    /// Values stored.
    pub stores: u64,
    /// Values not stored: too big, or a full queue.
    pub skipped: u64,
    /// Values dropped for others.
    pub evicted: u64,
    /// Values dropped because their time was over.
    pub expired: u64,
    /// Operations that failed and were treated as misses.
    pub failures: u64,
    /// Values held; 0 if it cannot be known.
    pub items: u64,
    /// Bytes held, keys and bookkeeping too; 0 if it cannot be known.
    pub bytes: u64,
}

#[async_trait]
impl<C: Cache + ?Sized> Cache for Arc<C> {
    fn name(&self) -> &str {
        (**self).name()
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Option<Bytes>> {
        (**self).get_many(keys).await
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) {
        (**self).set(key, value, ttl).await;
    }

    async fn delete(&self, key: &str) {
        (**self).delete(key).await;
    }

    async fn close(&self) {
        (**self).close().await;
    }

    fn stats(&self) -> CacheStats {
        (**self).stats()
    }
}

/// Comfort on top of [`Cache`].
pub trait CacheExt: Cache {
    /// The value of one key.
    fn get(&self, key: &str) -> impl Future<Output = Option<Bytes>> + Send {
        async move { self.get_many(&[key]).await.pop().flatten() }
    }

    /// The value of `key`, else what `load` yields, which is then stored. Of all who miss the same key at the same time one loads.
    ///
    /// # Errors
    /// Those of `load`; they are not stored, but all who wait get them.
    fn get_or_load<F>(
        &self,
        flights: &SingleFlight<Bytes>,
        key: &str,
        ttl: Option<Duration>,
        load: impl FnOnce() -> F + Send,
    ) -> impl Future<Output = Result<Bytes>> + Send
    where
        F: Future<Output = Result<Bytes>> + Send,
    {
        async move {
            if let Some(value) = self.get(key).await {
                return Ok(value);
            }
            let load_and_store = || async move {
                let value = load().await?;
                self.set(key, value.clone(), ttl).await;
                Ok(value)
            };
            flights.run(key, load_and_store).await
        }
    }
}

impl<C: Cache + ?Sized> CacheExt for C {}
