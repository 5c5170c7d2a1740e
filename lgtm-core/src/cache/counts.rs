//! Counters behind [`CacheStats`] of a cache that wraps others or lives elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::cache::cache::CacheStats;

/// What was asked of a wrapper, and what it passed over itself.
#[derive(Debug, Default)]
pub(super) struct CacheCounts {
    requests: AtomicU64,
    hits: AtomicU64,
    stores: AtomicU64,
    skipped: AtomicU64,
    failures: AtomicU64,
}

impl CacheCounts {
    /// Counts an answer.
    pub(super) fn answered(&self, found: &[Option<Bytes>]) {
        let hits = found.iter().filter(|f| f.is_some()).count();
        self.requests
            .fetch_add(found.len() as u64, Ordering::Relaxed);
        self.hits.fetch_add(hits as u64, Ordering::Relaxed);
    }

    pub(super) fn stored(&self, n: u64) {
        self.stores.fetch_add(n, Ordering::Relaxed);
    }

    #[cfg(feature = "compression")]
    pub(super) fn skipped(&self, n: u64) {
        self.skipped.fetch_add(n, Ordering::Relaxed);
    }

    #[cfg(feature = "compression")]
    pub(super) fn failed(&self, n: u64) {
        self.failures.fetch_add(n, Ordering::Relaxed);
    }

    /// The counts alone.
    pub(super) fn stats(&self) -> CacheStats {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        CacheStats {
            requests: get(&self.requests),
            hits: get(&self.hits),
            stores: get(&self.stores),
            skipped: get(&self.skipped),
            failures: get(&self.failures),
            ..CacheStats::default()
        }
    }

    /// The counts of what was asked here, with what only the cache below can know.
    pub(super) fn over(&self, below: CacheStats) -> CacheStats {
        let own = self.stats();
        CacheStats {
            skipped: below.skipped + own.skipped,
            failures: below.failures + own.failures,
            evicted: below.evicted,
            expired: below.expired,
            items: below.items,
            bytes: below.bytes,
            ..own
        }
    }
}
