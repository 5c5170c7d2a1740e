//! Small objects that never change, whole, in a cache.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::cache::{Cache, CacheExt};
use crate::error::Result;
use crate::storage::bucket::Bucket;

/// Larger objects are read and not kept: Mimir's bound.
const MAX_BYTES: usize = 1 << 20;
/// How long they are kept: Mimir's time.
const TTL: Duration = Duration::from_secs(86_400);

/// Keeps small immutable objects, such as a block's `meta.json`, in a [`Cache`], by their path, for a day. For readers: who plans changes (a compactor)
/// reads the bucket.
#[derive(Debug, Clone)]
pub struct KeptObjects {
    cache: Arc<dyn Cache>,
    edition: u64,
}

impl KeptObjects {
    /// Objects in `cache`.
    pub fn new(cache: Arc<dyn Cache>) -> Self {
        Self { cache, edition: 0 }
    }

    /// The same cache, in which nothing of another edition is found: after something turned out damaged, the next edition reads anew.
    #[must_use]
    pub fn edition(&self, edition: u64) -> Self {
        Self {
            cache: Arc::clone(&self.cache),
            edition,
        }
    }

    /// An object of `bucket`.
    ///
    /// # Errors
    /// As [`Bucket::get`].
    pub async fn get(&self, bucket: &Bucket, path: &str) -> Result<Bytes> {
        let key = format!("{path}#{}", self.edition);
        if let Some(kept) = self.cache.get(&key).await {
            return Ok(kept);
        }
        let object = bucket.get(path).await?;
        if object.len() <= MAX_BYTES {
            self.cache.set(&key, object.clone(), Some(TTL)).await;
        }
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{MemoryCache, MemoryCacheSettings};
    use crate::clock::ManualClock;
    use crate::storage::{DataKind, Layout};
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn what_is_small_is_kept_until_another_edition() {
        let bucket = Layout::single_bucket(InMemory::new()).bucket(DataKind::Traces);
        let clock = Arc::new(ManualClock::at_ms(0));
        let settings = MemoryCacheSettings::default();
        let cache = MemoryCache::new("kept", &settings, Arc::clone(&clock) as _).unwrap();
        let kept = KeptObjects::new(Arc::new(cache));
        bucket.put("small", "one").await.unwrap();
        bucket.put("large", vec![7; MAX_BYTES + 1]).await.unwrap();
        assert_eq!(kept.get(&bucket, "small").await.unwrap(), "one");
        assert_eq!(kept.get(&bucket, "large").await.unwrap()[0], 7);
        for path in ["small", "large"] {
            bucket.put(path, "two").await.unwrap();
        }
        assert_eq!(kept.get(&bucket, "small").await.unwrap(), "one");
        assert_eq!(kept.get(&bucket, "large").await.unwrap(), "two");
        let next = kept.edition(1);
        assert_eq!(next.get(&bucket, "small").await.unwrap(), "two");
        clock.advance(TTL);
        assert_eq!(kept.get(&bucket, "small").await.unwrap(), "two");
        assert!(kept.get(&bucket, "none").await.is_err());
    }
}
