//! Near caches before far ones.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::cache::cache::{Cache, CacheStats};
use crate::cache::counts::CacheCounts;

/// One cache of several.
#[derive(Debug, Clone)]
pub struct CacheTier {
    /// The cache.
    pub cache: Arc<dyn Cache>,
    /// How long a value that was found further away stays here: the far cache does not tell how much of its time is left, so this is how
    /// much longer than asked for it may live. `None`: until there is no room.
    pub found_ttl: Option<Duration>,
}

/// Several caches, the nearest first: what is found in one is put into those before it.
///
/// A value is written to all; what is deleted is deleted in all, the furthest first, so that nobody brings it back meanwhile.
#[derive(Debug)]
pub struct Tiered {
    name: String,
    tiers: Vec<CacheTier>,
    counts: CacheCounts,
}

impl Tiered {
    /// Over `tiers`, the nearest first; without any it is a cache in which nothing is ever found.
    pub fn new(name: &str, tiers: Vec<CacheTier>) -> Self {
        Self {
            name: name.to_owned(),
            tiers,
            counts: CacheCounts::default(),
        }
    }
}

#[async_trait]
impl Cache for Tiered {
    fn name(&self) -> &str {
        &self.name
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Option<Bytes>> {
        let mut found: Vec<Option<Bytes>> = vec![None; keys.len()];
        let mut missing: Vec<usize> = (0..keys.len()).collect();
        for (n, tier) in self.tiers.iter().enumerate() {
            if missing.is_empty() {
                break;
            }
            let asked: Vec<&str> = missing.iter().map(|&i| keys[i]).collect();
            let answers = tier.cache.get_many(&asked).await;
            let mut still = Vec::new();
            for (&i, answer) in missing.iter().zip(answers) {
                let Some(value) = answer else {
                    still.push(i);
                    continue;
                };
                for near in &self.tiers[..n] {
                    near.cache.set(keys[i], value.clone(), near.found_ttl).await;
                }
                found[i] = Some(value);
            }
            missing = still;
        }
        self.counts.answered(&found);
        found
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) {
        self.counts.stored(1);
        for tier in &self.tiers {
            tier.cache.set(key, value.clone(), ttl).await;
        }
    }

    async fn delete(&self, key: &str) {
        for tier in self.tiers.iter().rev() {
            tier.cache.delete(key).await;
        }
    }

    async fn close(&self) {
        for tier in &self.tiers {
            tier.cache.close().await;
        }
    }

    fn stats(&self) -> CacheStats {
        let own = self.counts.stats();
        let mut all = own;
        for tier in &self.tiers {
            let tier = tier.cache.stats();
            all.skipped += tier.skipped;
            all.evicted += tier.evicted;
            all.expired += tier.expired;
            all.failures += tier.failures;
            all.items += tier.items;
            all.bytes += tier.bytes;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{CacheExt, MemoryCache, MemoryCacheSettings};
    use crate::clock::ManualClock;
    use crate::testing::cache_suite;

    fn two() -> (Arc<ManualClock>, Arc<MemoryCache>, Arc<MemoryCache>, Tiered) {
        let clock = Arc::new(ManualClock::default());
        let settings = MemoryCacheSettings::default();
        let memory = |name| Arc::new(MemoryCache::new(name, &settings, clock.clone()).unwrap());
        let (near, far) = (memory("near"), memory("far"));
        let tiers = vec![
            CacheTier {
                cache: near.clone(),
                found_ttl: Some(Duration::from_secs(1)),
            },
            CacheTier {
                cache: far.clone(),
                found_ttl: None,
            },
        ];
        let tiered = Tiered::new("both", tiers);
        (clock, near, far, tiered)
    }

    #[tokio::test]
    async fn it_is_a_cache() {
        let (clock, _, _, tiered) = two();
        cache_suite(&tiered, async |time| clock.advance(time)).await;
    }

    #[tokio::test]
    async fn what_is_found_far_away_is_near_for_a_while() {
        let (clock, near, far, tiered) = two();
        far.set("k", Bytes::from_static(b"v"), None).await;
        assert_eq!(tiered.get("k").await.as_deref(), Some(&b"v"[..]));
        let asked = far.stats().requests;
        assert_eq!(tiered.get("k").await.as_deref(), Some(&b"v"[..]));
        assert_eq!(far.stats().requests, asked, "it was near");
        clock.advance(Duration::from_secs(1));
        assert_eq!(near.get("k").await, None);
        assert!(tiered.get("k").await.is_some());
        assert_eq!(tiered.get("other").await, None);
        assert_eq!((tiered.stats().requests, tiered.stats().hits), (4, 3));
    }
}
