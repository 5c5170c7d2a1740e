//! Ranges of time where a query finds nothing, in a cache.
//!
//! An entry is a version byte, the whole key, and as signed varints the first moment of the range, the one behind its last, and when that
//! was found. As with results, another key under the same hash is a miss, and so is what does not decode.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::cache::{Cache, CacheExt};
use crate::codec::{self, Reader};
use crate::error::DecodeError;
use crate::frontend::results_cache::hashed_key;
use crate::frontend::sweep::SweepRange;
use crate::timestamp::{TimestampMs, TimestampNs};

/// Raised when the encoding changes; older entries are then never found.
const VERSION: u8 = 1;

/// Empty ranges by query and piece of time, over any [`Cache`]: one range a key.
#[derive(Debug)]
pub struct EmptyRanges {
    cache: Arc<dyn Cache>,
    stats: EmptyRangesStats,
}

/// What a cache of empty ranges has done.
#[derive(Debug, Default)]
pub struct EmptyRangesStats {
    /// Pieces that were known to be empty, or a part of them.
    pub hits: AtomicU64,
    /// Pieces of which nothing was known.
    pub misses: AtomicU64,
}

/// A range that is known to be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EmptyRange {
    /// The first moment, nanoseconds.
    pub(super) start_ns: TimestampNs,
    /// The moment behind the last, nanoseconds.
    pub(super) end_ns: TimestampNs,
    /// When it was found: of what was joined, the oldest. Milliseconds.
    pub(super) query_ms: TimestampMs,
}

impl EmptyRange {
    /// Both ranges if they touch, else the longer one.
    fn joined(self, new: Self) -> Self {
        let touch = self.start_ns <= new.end_ns && new.start_ns <= self.end_ns;
        let length = |r: Self| r.end_ns.abs_diff(r.start_ns);
        match touch {
            true => Self {
                start_ns: self.start_ns.min(new.start_ns),
                end_ns: self.end_ns.max(new.end_ns),
                query_ms: self.query_ms.min(new.query_ms),
            },
            false if length(self) > length(new) => self,
            false => new,
        }
    }
}

impl EmptyRanges {
    /// Over a cache, which may hold other things too.
    pub fn new(cache: Arc<dyn Cache>) -> Self {
        Self {
            cache,
            stats: EmptyRangesStats::default(),
        }
    }

    /// What it has done.
    pub fn stats(&self) -> &EmptyRangesStats {
        &self.stats
    }

    /// What is known under a key.
    pub(super) async fn load(&self, key: &str) -> Option<EmptyRange> {
        let bytes = self.cache.get(&hashed_key("empty", VERSION, key)).await;
        let known = bytes.and_then(|bytes| match decode_entry(key, &bytes) {
            Ok(known) => Some(known),
            Err(error) => {
                tracing::debug!(%error, key, "entry of the cache of empty ranges is passed over");
                None
            }
        });
        let count = match known {
            Some(_) => &self.stats.hits,
            None => &self.stats.misses,
        };
        count.fetch_add(1, Ordering::Relaxed);
        known
    }

    /// Keeps that a range is empty, together with what was known before if they touch.
    pub(super) async fn store(
        &self,
        key: &str,
        known: Option<EmptyRange>,
        new: EmptyRange,
        ttl: Duration,
    ) {
        let range = known.map_or(new, |known| known.joined(new));
        let mut entry = vec![VERSION];
        codec::put_bytes(&mut entry, key.as_bytes());
        codec::put_svarint(&mut entry, range.start_ns.get());
        codec::put_svarint(&mut entry, range.end_ns.get());
        codec::put_svarint(&mut entry, range.query_ms.get());
        let key = hashed_key("empty", VERSION, key);
        self.cache.set(&key, Bytes::from(entry), Some(ttl)).await;
    }
}

/// What of a piece is still to be asked for: without an end of it that is known to be empty. `None`: nothing.
pub(super) fn unknown_part(piece: SweepRange, known: Option<EmptyRange>) -> Option<SweepRange> {
    let mut rest = piece;
    if let Some(known) = known {
        if known.start_ns <= rest.start_ns {
            rest.start_ns = rest.start_ns.max(known.end_ns);
        }
        if known.end_ns >= rest.end_ns {
            rest.end_ns = rest.end_ns.min(known.start_ns);
        }
    }
    (!rest.is_empty()).then_some(rest)
}

fn decode_entry(key: &str, bytes: &[u8]) -> Result<EmptyRange, DecodeError> {
    let mut reader = Reader::new("entry of the cache of empty ranges", bytes);
    let version = reader.u8()?;
    if version != VERSION {
        return Err(reader.error(format!("version is {version}, known is {VERSION}")));
    }
    if reader.str()? != key {
        return Err(reader.error("another key has the same hash"));
    }
    let known = EmptyRange {
        start_ns: TimestampNs::new(reader.svarint()?),
        end_ns: TimestampNs::new(reader.svarint()?),
        query_ms: TimestampMs::new(reader.svarint()?),
    };
    if !reader.is_empty() {
        return Err(reader.error("bytes are left over"));
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[tokio::test]
    async fn ranges_that_touch_are_one() {
        let clock = Arc::new(crate::clock::ManualClock::at_ms(0));
        let settings = crate::cache::MemoryCacheSettings::default();
        let cache = crate::cache::MemoryCache::new("results", &settings, clock).unwrap();
        let empty = EmptyRanges::new(Arc::new(cache));
        let ttl = Duration::from_secs(60);
        let mut known = empty.load("k").await;
        let range = |(start_ns, end_ns, query_ms): (i64, i64, i64)| EmptyRange {
            start_ns: start_ns.into(),
            end_ns: end_ns.into(),
            query_ms: query_ms.into(),
        };
        for (new, wanted) in [
            ((10, 20, 7), (10, 20, 7)),
            ((20, 25, 9), (10, 25, 7)),
            ((40, 41, 9), (10, 25, 7)),
        ] {
            empty.store("k", known, range(new), ttl).await;
            known = empty.load("k").await;
            assert_eq!(known, Some(range(wanted)));
        }
        assert_eq!(empty.load("other").await, None);
    }

    proptest! {
        #[test]
        fn only_what_is_known_is_left_out(
            start in 0i64..50, length in 1i64..50, known_start in 0i64..60, known_length in 1i64..60,
        ) {
            let piece = SweepRange { start_ns: start.into(), end_ns: (start + length).into(), newest_first: true };
            let known = EmptyRange { start_ns: known_start.into(), end_ns: (known_start + known_length).into(), query_ms: TimestampMs::EPOCH };
            let rest = unknown_part(piece, Some(known));
            for t in (start..start + length).map(TimestampNs::new) {
                let asked = rest.is_some_and(|r| (r.start_ns..r.end_ns).contains(&t));
                prop_assert!(asked || (known.start_ns..known.end_ns).contains(&t), "{} of {:?}", t, rest);
            }
            prop_assert!(rest.is_none_or(|r| r.start_ns >= piece.start_ns && r.end_ns <= piece.end_ns));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode_entry("key", &bytes);
        }
    }
}
