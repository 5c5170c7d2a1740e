//! Memory of one query.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lgtm_core::limits::{MemoryHold, QueryMemory};

use super::query_error::{QueryError, Result};

/// What one query holds.
#[derive(Debug)]
pub(crate) struct QueryUsage {
    all: Arc<QueryMemory>,
    max_bytes: u64,
    held: AtomicU64,
    peak: AtomicU64,
}

impl QueryUsage {
    pub(crate) fn new(all: Arc<QueryMemory>, max_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            all,
            max_bytes,
            held: AtomicU64::new(0),
            peak: AtomicU64::new(0),
        })
    }

    pub(crate) fn peak_bytes(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

/// Memory that is given back when dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    usage: Arc<QueryUsage>,
    bytes: u64,
}

impl Charge {
    pub(crate) fn none(usage: &Arc<QueryUsage>) -> Self {
        Self {
            usage: Arc::clone(usage),
            bytes: 0,
        }
    }

    /// Takes so much more.
    ///
    /// # Errors
    /// `Limit` beyond the bound of the query, `Unavailable` beyond that of all.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<()> {
        let usage = &*self.usage;
        let held = usage
            .held
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes);
        if usage.max_bytes > 0 && held > usage.max_bytes {
            usage.held.fetch_sub(bytes, Ordering::Relaxed);
            return Err(QueryError::Limit(format!(
                "the query needs more than {} bytes of memory (logs.querier.max_memory): use more label matchers, fewer labels or a shorter time range",
                usage.max_bytes
            )));
        }
        if let Err(e) = usage.all.grow(bytes) {
            usage.held.fetch_sub(bytes, Ordering::Relaxed);
            return Err(e.into());
        }
        usage.peak.fetch_max(held, Ordering::Relaxed);
        self.bytes += bytes;
        Ok(())
    }

    /// Gives back so much, or all there is if that is less.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.usage.held.fetch_sub(bytes, Ordering::Relaxed);
        self.usage.all.shrink(bytes);
    }

    /// Takes over what another holds.
    pub(crate) fn join(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// What is held stays counted for the process, though the query is over.
    pub(crate) fn into_hold(mut self) -> MemoryHold {
        let bytes = std::mem::take(&mut self.bytes);
        self.usage.held.fetch_sub(bytes, Ordering::Relaxed);
        self.usage.all.keep(bytes)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use lgtm_core::limits::AnswerMemory;

    use super::*;

    #[test]
    fn both_bounds_hold_and_all_is_given_back() {
        let all = QueryMemory::new(150, "setting");
        let (first, second) = (
            QueryUsage::new(Arc::clone(&all), 100),
            QueryUsage::new(Arc::clone(&all), 100),
        );
        let mut a = Charge::none(&first);
        a.grow(90).unwrap();
        assert!(matches!(a.grow(11), Err(QueryError::Limit(_))));
        let mut b = Charge::none(&second);
        assert!(matches!(b.grow(61), Err(QueryError::Source(_))));
        b.grow(60).unwrap();
        a.shrink(40);
        assert_eq!(all.held_bytes(), 110);
        let kept = AnswerMemory::of(b.into_hold());
        drop(a);
        assert_eq!(
            (all.held_bytes(), kept.bytes(), first.peak_bytes()),
            (60, 60, 90)
        );
        drop(kept);
        assert_eq!(all.held_bytes(), 0);
    }
}
