//! Extents in a cache.
//!
//! An entry is a version byte, the whole key, the number of extents, and per extent start, end and time of computation as signed
//! varints and the answer as bytes. The key in the cache is a hash, so the whole key is compared after reading: a collision is a
//! miss, as is everything that does not decode.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::cache::{Cache, CacheExt};
use crate::codec::{self, Reader};
use crate::error::DecodeError;
use crate::exec::move_to_pool;
use crate::frontend::extent::Extent;

/// Raised when the encoding changes; older entries are then never found.
const VERSION: u8 = 1;

/// Extents that an entry may have; more are a fault in it.
const MAX_EXTENTS: usize = 10_000;

/// Answers by key, over any [`Cache`].
#[derive(Debug, Clone)]
pub struct ResultsCache {
    cache: Arc<dyn Cache>,
    stats: Arc<ResultsCacheStats>,
}

/// What a results cache has done.
#[derive(Debug, Default)]
pub struct ResultsCacheStats {
    /// Entries asked for.
    pub requests: AtomicU64,
    /// Entries found.
    pub hits: AtomicU64,
    /// Entries found that did not decode or had another key.
    pub bad: AtomicU64,
    /// Requests that were not looked up since all their steps may still change.
    pub too_new: AtomicU64,
    /// Those that were not since they are not aligned with their step.
    pub unaligned: AtomicU64,
    /// Those that were not since they look ahead of their steps.
    pub has_modifiers: AtomicU64,
}

impl ResultsCache {
    /// Over a cache, which may hold other things too.
    pub fn new(cache: Arc<dyn Cache>) -> Self {
        Self {
            cache,
            stats: Arc::default(),
        }
    }

    /// What it has done.
    pub fn stats(&self) -> &ResultsCacheStats {
        &self.stats
    }

    /// The extents under a key, sorted by start; none if it is not there.
    pub async fn load<A>(
        &self,
        key: &str,
        decode: impl Fn(&[u8]) -> Result<A, DecodeError>,
    ) -> Vec<Extent<A>> {
        self.stats.requests.fetch_add(1, Ordering::Relaxed);
        let Some(bytes) = self.cache.get(&cache_key(key)).await else {
            return Vec::new();
        };
        if bytes.len() > LARGE_BYTES {
            move_to_pool().await;
        }
        match decode_entry(key, &bytes, decode) {
            Ok(extents) => {
                self.stats.hits.fetch_add(1, Ordering::Relaxed);
                extents
            }
            Err(error) => {
                tracing::debug!(%error, key, "entry of the results cache is passed over");
                self.stats.bad.fetch_add(1, Ordering::Relaxed);
                Vec::new()
            }
        }
    }

    /// Keeps extents under a key.
    pub async fn store<A>(
        &self,
        key: &str,
        extents: &[Extent<A>],
        ttl: Duration,
        encode: impl Fn(&A) -> Vec<u8>,
    ) {
        let entry = encode_entry(key, extents, encode);
        self.cache
            .set(&cache_key(key), Bytes::from(entry), Some(ttl))
            .await;
    }
}

/// A larger entry takes longer to decode than a thread of the runtime should be held.
const LARGE_BYTES: usize = 16 << 10;

fn cache_key(key: &str) -> String {
    hashed_key("results", VERSION, key)
}

/// FNV-1a of the key in hexadecimal, after what it is for and the version: no key is too long or has blanks.
pub(super) fn hashed_key(what: &str, version: u8, key: &str) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{what}@{version}@{hash:016x}")
}

fn encode_entry<A>(key: &str, extents: &[Extent<A>], encode: impl Fn(&A) -> Vec<u8>) -> Vec<u8> {
    let mut out = vec![VERSION];
    codec::put_bytes(&mut out, key.as_bytes());
    codec::put_uvarint(&mut out, extents.len() as u64);
    for extent in extents {
        for ms in [extent.start_ms, extent.end_ms, extent.query_ms] {
            codec::put_svarint(&mut out, ms.get());
        }
        codec::put_bytes(&mut out, &encode(&extent.answer));
    }
    out
}

fn decode_entry<A>(
    key: &str,
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<A, DecodeError>,
) -> Result<Vec<Extent<A>>, DecodeError> {
    let mut reader = Reader::new("results cache entry", bytes);
    let version = reader.u8()?;
    if version != VERSION {
        return Err(reader.error(format!("version is {version}, known is {VERSION}")));
    }
    if reader.str()? != key {
        return Err(reader.error("another key has the same hash"));
    }
    let count = reader.length()?;
    if count > MAX_EXTENTS {
        return Err(reader.error(format!(
            "{count} extents, at most {MAX_EXTENTS} are allowed"
        )));
    }
    let mut extents: Vec<Extent<A>> = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        let extent = Extent {
            start_ms: reader.svarint()?.into(),
            end_ms: reader.svarint()?.into(),
            query_ms: reader.svarint()?.into(),
            answer: decode(reader.bytes()?)?,
        };
        let is_after = extents.last().is_none_or(|l| l.end_ms < extent.start_ms);
        if extent.end_ms < extent.start_ms || !is_after {
            return Err(reader.error("extents are not in order"));
        }
        extents.push(extent);
    }
    if !reader.is_empty() {
        return Err(reader.error("bytes are left over"));
    }
    Ok(extents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timestamp::TimestampMs;
    use proptest::prelude::*;

    fn raw(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
        Ok(bytes.to_vec())
    }

    fn extents() -> impl Strategy<Value = Vec<Extent<Vec<u8>>>> {
        let one = (
            0i64..100,
            1i64..100,
            any::<i64>(),
            prop::collection::vec(any::<u8>(), 0..20),
        );
        prop::collection::vec(one, 0..5).prop_map(|parts| {
            let mut at = TimestampMs::new(-50);
            let make = |(length, gap, query_ms, answer): (i64, i64, i64, _)| {
                let extent = Extent {
                    start_ms: at,
                    end_ms: at + length,
                    query_ms: TimestampMs::new(query_ms),
                    answer,
                };
                at += length + gap;
                extent
            };
            parts.into_iter().map(make).collect()
        })
    }

    proptest! {
        #[test]
        fn entries_read_as_they_were_written(key in "\\PC{0,40}", all in extents()) {
            let bytes = encode_entry(&key, &all, Clone::clone);
            prop_assert_eq!(decode_entry(&key, &bytes, raw), Ok(all));
            prop_assert!(decode_entry("another", &bytes, raw).is_err());
            for end in 0..bytes.len() {
                prop_assert!(decode_entry(&key, &bytes[..end], raw).is_err());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_entry("key", &bytes, raw);
        }
    }

    #[test]
    fn keys_are_fit_for_any_cache() {
        let key = cache_key(&"a very long key with blanks\n".repeat(100));
        assert!(key.len() <= 250 && key.bytes().all(|b| b.is_ascii_graphic()));
        assert_eq!(cache_key(""), "results@1@cbf29ce484222325");
    }
}
