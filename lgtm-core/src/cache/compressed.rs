//! Values that travel to other machines or files: compressed, and with a checksum.
//!
//! A stored value is a byte for its form, the CRC32-C of the value (4 bytes, little endian), and the value as it is or as a block of snappy.
//! What does not decode, or not to what was stored, is a miss.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::cache::cache::{Cache, CacheStats};
use crate::cache::counts::CacheCounts;
use crate::codec::{Reader, SizeBound, crc32c, snappy};
use crate::error::DecodeError;
use crate::exec::move_to_pool;

const PLAIN: u8 = 1;
const SNAPPY: u8 = 2;

/// Bytes before the value.
const HEADER_BYTES: usize = 5;

/// Smaller values are not worth it.
const MIN_COMPRESSED_BYTES: usize = 128;

/// Bytes that a value may decompress to: more is damage.
const MAX_VALUE_BYTES: usize = 64 << 20;

/// Larger values take longer than a thread of the runtime should be held.
const LARGE_BYTES: usize = 256 << 10;

/// Seals the values of another cache with a checksum and compresses those that get smaller by it. Values beyond 64 MiB are skipped.
#[derive(Debug)]
pub struct Compressed {
    inner: Arc<dyn Cache>,
    min_bytes: usize,
    counts: CacheCounts,
}

impl Compressed {
    /// Over `inner`.
    pub fn new(inner: Arc<dyn Cache>) -> Self {
        Self {
            inner,
            min_bytes: MIN_COMPRESSED_BYTES,
            counts: CacheCounts::default(),
        }
    }

    /// Over `inner`, with values as they are behind their checksums; those that another compressed can be read.
    pub fn checksum_only(inner: Arc<dyn Cache>) -> Self {
        Self {
            min_bytes: usize::MAX,
            ..Self::new(inner)
        }
    }
}

fn seal(value: &[u8], min_bytes: usize) -> Vec<u8> {
    let (mut form, mut body) = (PLAIN, None);
    if value.len() >= min_bytes {
        // A failure to compress is no failure: the value goes as it is.
        let packed = snap::raw::Encoder::new().compress_vec(value).ok();
        body = packed.filter(|packed| packed.len() < value.len() / 16 * 15);
    }
    if body.is_some() {
        form = SNAPPY;
    }
    let body = body.as_deref().unwrap_or(value);
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    out.push(form);
    out.extend_from_slice(&crc32c(value).to_le_bytes());
    out.extend_from_slice(body);
    out
}

fn open(sealed: Bytes) -> Result<Bytes, DecodeError> {
    let mut reader = Reader::new("cached value", &sealed);
    let (form, crc) = (reader.u8()?, reader.u32_le()?);
    let value = match form {
        PLAIN => sealed.slice(HEADER_BYTES..),
        SNAPPY => {
            let mut out = Vec::new();
            snappy::decompress(reader.rest(), SizeBound::new(MAX_VALUE_BYTES), &mut out)
                .map_err(|e| reader.error(e.to_string()))?;
            Bytes::from(out)
        }
        _ => return Err(reader.error(format!("form is {form}, known are {PLAIN} and {SNAPPY}"))),
    };
    if crc32c(&value) != crc {
        return Err(reader.error("checksum does not fit"));
    }
    Ok(value)
}

#[async_trait]
impl Cache for Compressed {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Option<Bytes>> {
        let found = self.inner.get_many(keys).await;
        if found.iter().flatten().map(Bytes::len).sum::<usize>() > LARGE_BYTES {
            move_to_pool().await;
        }
        let opened = keys.iter().zip(found).map(|(key, sealed)| {
            open(sealed?)
                .inspect_err(|error| {
                    tracing::debug!(%error, key, "cached value is passed over");
                    self.counts.failed(1);
                })
                .ok()
        });
        let found: Vec<_> = opened.collect();
        self.counts.answered(&found);
        found
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) {
        if value.len() > MAX_VALUE_BYTES {
            self.counts.skipped(1);
            // The older value must not stand in its place.
            return self.inner.delete(key).await;
        }
        if value.len() > LARGE_BYTES {
            move_to_pool().await;
        }
        self.counts.stored(1);
        let sealed = seal(&value, self.min_bytes);
        self.inner.set(key, sealed.into(), ttl).await;
    }

    async fn delete(&self, key: &str) {
        self.inner.delete(key).await;
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
    use proptest::prelude::*;

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
        let (clock, inner) = memory();
        let cache = Compressed::new(inner);
        cache_suite(&cache, async |time| clock.advance(time)).await;
    }

    #[tokio::test]
    async fn what_repeats_takes_less_room_and_damage_is_a_counted_miss() {
        let (_, inner) = memory();
        let cache = Compressed::new(inner.clone());
        let value: Bytes = (0..20_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        cache.set("k", value.clone(), None).await;
        let sealed = inner.get("k").await.unwrap();
        assert!(sealed.len() < value.len() / 2, "{}", sealed.len());
        assert_eq!(cache.get("k").await, Some(value.clone()));
        for bit in (0..sealed.len() * 8).step_by(97) {
            let mut damaged = sealed.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            inner.set("k", damaged.into(), None).await;
            // A copy may come from another place that has the same bytes.
            let found = cache.get("k").await;
            assert!(found.is_none_or(|found| found == value), "bit {bit}");
        }
        let stats = cache.stats();
        assert_eq!(stats.failures, stats.requests - stats.hits);
        assert!(stats.failures > 10 * stats.hits, "{stats:?}");
    }

    #[test]
    fn a_bomb_is_refused_by_its_claim() {
        let mut bomb = vec![SNAPPY, 0, 0, 0, 0];
        crate::codec::put_uvarint(&mut bomb, 1 << 31);
        assert!(open(bomb.into()).is_err());
    }

    proptest! {
        #[test]
        fn values_come_back(value in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert_eq!(open(seal(&value, MIN_COMPRESSED_BYTES).into()).unwrap(), value);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = open(bytes.into());
        }
    }
}
