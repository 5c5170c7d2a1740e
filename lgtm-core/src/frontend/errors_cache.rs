//! Failures that would be met again, in a cache.
//!
//! Kept is what is wrong with the request itself or more than the tenant may ask for: it stays so for a while. What may pass
//! (unavailable, timed out, too many at once) and faults of the program are not. An entry is a version byte, the whole key, a byte
//! for the kind, and the message; as with results, another key under the same hash is a miss, and so is what does not decode.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::cache::{Cache, CacheExt};
use crate::codec::{self, Reader};
use crate::error::{DecodeError, Error};
use crate::frontend::results_cache::hashed_key;

/// Raised when the encoding changes; older entries are then never found.
const VERSION: u8 = 1;

const INVALID_INPUT: u8 = 1;
const LIMIT_EXCEEDED: u8 = 2;

/// Failures by request, over any [`Cache`].
#[derive(Debug)]
pub struct ErrorsCache {
    cache: Arc<dyn Cache>,
    stats: ErrorsCacheStats,
}

/// What an errors cache has done.
#[derive(Debug, Default)]
pub struct ErrorsCacheStats {
    /// Requests looked up.
    pub requests: AtomicU64,
    /// Requests whose failure was known.
    pub hits: AtomicU64,
    /// Failures stored.
    pub stores: AtomicU64,
}

impl ErrorsCache {
    /// Over a cache, which may hold other things too.
    pub fn new(cache: Arc<dyn Cache>) -> Self {
        Self {
            cache,
            stats: ErrorsCacheStats::default(),
        }
    }

    /// What it has done.
    pub fn stats(&self) -> &ErrorsCacheStats {
        &self.stats
    }

    /// The failure of a request, if it is known.
    pub async fn load(&self, key: &str) -> Option<Error> {
        self.stats.requests.fetch_add(1, Ordering::Relaxed);
        let bytes = self.cache.get(&cache_key(key)).await?;
        match decode_entry(key, &bytes) {
            Ok(error) => {
                self.stats.hits.fetch_add(1, Ordering::Relaxed);
                Some(error)
            }
            Err(error) => {
                tracing::debug!(%error, key, "entry of the errors cache is passed over");
                None
            }
        }
    }

    /// Keeps a failure, if it is of a kind that stays.
    pub async fn store(&self, key: &str, error: &Error, ttl: Duration) {
        if let Some(entry) = encode_entry(key, error) {
            self.stats.stores.fetch_add(1, Ordering::Relaxed);
            let entry = Bytes::from(entry);
            self.cache.set(&cache_key(key), entry, Some(ttl)).await;
        }
    }
}

fn cache_key(key: &str) -> String {
    hashed_key("errors", VERSION, key)
}

fn encode_entry(key: &str, error: &Error) -> Option<Vec<u8>> {
    let (kind, message) = match error {
        Error::InvalidInput(message) => (INVALID_INPUT, message),
        Error::LimitExceeded(message) => (LIMIT_EXCEEDED, message),
        _ => return None,
    };
    let mut out = vec![VERSION];
    codec::put_bytes(&mut out, key.as_bytes());
    out.push(kind);
    codec::put_bytes(&mut out, message.as_bytes());
    Some(out)
}

fn decode_entry(key: &str, bytes: &[u8]) -> Result<Error, DecodeError> {
    let mut reader = Reader::new("errors cache entry", bytes);
    let version = reader.u8()?;
    if version != VERSION {
        return Err(reader.error(format!("version is {version}, known is {VERSION}")));
    }
    if reader.str()? != key {
        return Err(reader.error("another key has the same hash"));
    }
    let kind = reader.u8()?;
    let message = reader.str()?.to_owned();
    if !reader.is_empty() {
        return Err(reader.error("bytes are left over"));
    }
    match kind {
        INVALID_INPUT => Ok(Error::InvalidInput(message)),
        LIMIT_EXCEEDED => Ok(Error::LimitExceeded(message)),
        other => Err(reader.error(format!("kind is {other}, known are 1 and 2"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_read_as_they_were_written(key in "\\PC{0,40}", message in "\\PC{0,40}", limit: bool) {
            let error = if limit { Error::LimitExceeded(message) } else { Error::InvalidInput(message) };
            let bytes = encode_entry(&key, &error).unwrap();
            let read = decode_entry(&key, &bytes).unwrap();
            prop_assert_eq!(format!("{read:?}"), format!("{error:?}"));
            prop_assert!(decode_entry("another", &bytes).is_err());
            for end in 0..bytes.len() {
                prop_assert!(decode_entry(&key, &bytes[..end]).is_err());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode_entry("key", &bytes);
        }
    }

    #[test]
    fn what_may_pass_is_not_kept() {
        for error in [
            Error::Unavailable("x".into()),
            Error::Internal("x".into()),
            Error::Cancelled("x".into()),
            Error::Timeout {
                what: "x".into(),
                after: Duration::ZERO,
            },
            Error::RateLimited {
                message: "x".into(),
                retry_after: None,
            },
        ] {
            assert!(encode_entry("key", &error).is_none(), "{error:?}");
        }
    }
}
