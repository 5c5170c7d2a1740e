//! Keys of one user of a cache that many share.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use crate::cache::cache::{Cache, CacheStats, is_plain_key};
use crate::cache::counts::CacheCounts;
use crate::codec::{Reader, put_bytes};
use crate::model::TenantId;

/// First byte of keys that are hashes of longer ones.
const HASHED: char = '#';

/// Puts a prefix before every key of another cache: whose it is (tenant, layer), and a version that is raised when what is stored is written in
/// another way.
///
/// Takes any key: one that with its prefix is longer than 250 bytes or has blanks becomes a hash of 128 bits, and the whole key is stored
/// with the value and compared after reading, so that a collision is a miss.
#[derive(Debug)]
pub struct Prefixed {
    prefix: String,
    inner: Arc<dyn Cache>,
    counts: CacheCounts,
}

impl Prefixed {
    /// `inner`, in which every key begins with `prefix`.
    pub fn new(prefix: impl Into<String>, inner: Arc<dyn Cache>) -> Self {
        Self {
            prefix: prefix.into(),
            inner,
            counts: CacheCounts::default(),
        }
    }

    /// The part of `inner` that belongs to a tenant.
    pub fn tenant(tenant: &TenantId, inner: Arc<dyn Cache>) -> Self {
        Self::new(format!("{tenant}/"), inner)
    }

    /// Values of one version only; those of others are never found and leave by themselves.
    pub fn version(version: u32, inner: Arc<dyn Cache>) -> Self {
        Self::new(format!("{version}@"), inner)
    }

    fn key(&self, key: &str) -> PrefixedKey {
        let whole = format!("{}{key}", self.prefix);
        if is_plain_key(&whole) && !whole.starts_with(HASHED) {
            return PrefixedKey {
                stored: whole,
                whole: None,
            };
        }
        PrefixedKey {
            stored: format!("{HASHED}{:032x}", xxh3_128(whole.as_bytes())),
            whole: Some(whole),
        }
    }
}

struct PrefixedKey {
    stored: String,
    /// The key itself, where a hash stands for it.
    whole: Option<String>,
}

impl PrefixedKey {
    fn seal(&self, value: Bytes) -> Bytes {
        let Some(whole) = &self.whole else {
            return value;
        };
        let mut out = Vec::with_capacity(whole.len() + value.len() + 4);
        put_bytes(&mut out, whole.as_bytes());
        out.extend_from_slice(&value);
        out.into()
    }

    fn open(&self, stored: Bytes) -> Option<Bytes> {
        let Some(whole) = &self.whole else {
            return Some(stored);
        };
        let mut reader = Reader::new("cached value of a long key", &stored);
        let is_same = reader.str().is_ok_and(|key| key == whole);
        let at = reader.position();
        is_same.then(|| stored.slice(at..))
    }
}

#[async_trait]
impl Cache for Prefixed {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Option<Bytes>> {
        let keys: Vec<PrefixedKey> = keys.iter().map(|key| self.key(key)).collect();
        let stored: Vec<&str> = keys.iter().map(|key| key.stored.as_str()).collect();
        let found = self.inner.get_many(&stored).await;
        let opened = keys.iter().zip(found);
        let found: Vec<_> = opened
            .map(|(key, found)| found.and_then(|value| key.open(value)))
            .collect();
        self.counts.answered(&found);
        found
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) {
        let key = self.key(key);
        self.counts.stored(1);
        self.inner.set(&key.stored, key.seal(value), ttl).await;
    }

    async fn delete(&self, key: &str) {
        self.inner.delete(&self.key(key).stored).await;
    }

    async fn close(&self) {
        self.inner.close().await;
    }

    fn stats(&self) -> CacheStats {
        self.counts.over(self.inner.stats())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{CacheExt, MemoryCache, MemoryCacheSettings};
    use crate::clock::ManualClock;
    use crate::testing::cache_suite;

    fn memory() -> (Arc<ManualClock>, Arc<MemoryCache>) {
        let clock = Arc::new(ManualClock::default());
        let settings = MemoryCacheSettings::default();
        let cache = MemoryCache::new("test", &settings, clock.clone()).unwrap();
        (clock, Arc::new(cache))
    }

    #[tokio::test]
    async fn it_is_a_cache() {
        for prefix in ["a/", "blank in it ", &"long".repeat(100)] {
            let (clock, inner) = memory();
            let cache = Prefixed::new(prefix, inner);
            cache_suite(&cache, async |time| clock.advance(time)).await;
        }
    }

    #[tokio::test]
    async fn what_belongs_to_others_is_not_found() {
        let (_, inner) = memory();
        let tenant = |name: &str| {
            let tenant = TenantId::new(name).unwrap();
            Prefixed::tenant(&tenant, inner.clone())
        };
        let (a, b) = (tenant("a"), tenant("b"));
        let long = "k".repeat(1000);
        for key in ["k", &long, "with blank", "#", ""] {
            a.set(key, Bytes::from_static(b"1"), None).await;
            assert_eq!(b.get(key).await, None, "{key}");
            assert_eq!(a.get(key).await.as_deref(), Some(&b"1"[..]), "{key}");
        }
        let (v1, v2) = (
            Prefixed::version(1, inner.clone()),
            Prefixed::version(2, inner.clone()),
        );
        v1.set("k", Bytes::from_static(b"old"), None).await;
        assert_eq!(v2.get("k").await, None);
        assert_eq!(inner.get("1@k").await.as_deref(), Some(&b"old"[..]));
    }

    #[tokio::test]
    async fn a_collision_is_a_miss() {
        let (_, inner) = memory();
        let cache = Prefixed::new("p", inner.clone());
        let long = "k".repeat(300);
        let stored = cache.key(&long).stored;
        for foreign in [&b""[..], b"\x01x", b"\xff\xff\xff\xff\xff", b"\x03abcvalue"] {
            let foreign = Bytes::copy_from_slice(foreign);
            inner.set(&stored, foreign, None).await;
            assert_eq!(cache.get(&long).await, None);
        }
        assert_eq!((cache.stats().requests, cache.stats().hits), (4, 0));
    }
}
