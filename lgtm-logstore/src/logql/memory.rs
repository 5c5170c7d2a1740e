//! Memory of queries: of one, and of all of a process together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lgtm_core::Error;

use super::query_error::{QueryError, Result};

/// What all queries of a process hold, and the bound on it. The bound of one query says nothing of a hundred at once; this one does.
#[derive(Debug)]
pub struct QueryMemory {
    /// 0: no bound.
    max_bytes: u64,
    held: AtomicU64,
}

impl QueryMemory {
    pub(crate) fn new(max_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            max_bytes,
            held: AtomicU64::new(0),
        })
    }

    /// Bytes held now.
    pub fn held_bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    fn grow(&self, bytes: u64) -> Result<()> {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed);
        if self.max_bytes > 0 && held.saturating_add(bytes) > self.max_bytes {
            self.held.fetch_sub(bytes, Ordering::Relaxed);
            return Err(QueryError::Source(Error::Exhausted(format!(
                "the queries of this process hold {held} bytes of memory and one of them needs {bytes} more, the bound (logs querier.max_memory_total) is {}; try again later",
                self.max_bytes
            ))));
        }
        Ok(())
    }
}

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
                "the query needs more than {} bytes of memory (logs querier.max_memory): use more label matchers, fewer labels or a shorter time range",
                usage.max_bytes
            )));
        }
        if let Err(e) = usage.all.grow(bytes) {
            usage.held.fetch_sub(bytes, Ordering::Relaxed);
            return Err(e);
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
        self.usage.all.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Takes over what another holds.
    pub(crate) fn join(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

/// The memory that an answer takes, counted as long as the answer or a copy of it is there. Says nothing of what the answer is: all are
/// equal.
#[derive(Debug, Clone, Default)]
pub struct AnswerMemory(Option<Arc<Charge>>);

impl AnswerMemory {
    pub(crate) fn of(charge: Charge) -> Self {
        Self(Some(Arc::new(charge)))
    }

    /// Bytes counted.
    pub fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |c| c.bytes)
    }
}

impl PartialEq for AnswerMemory {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_hold_and_all_is_given_back() {
        let all = QueryMemory::new(150);
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
        let kept = AnswerMemory::of(b);
        drop(a);
        assert_eq!(
            (all.held_bytes(), kept.bytes(), first.peak_bytes()),
            (60, 60, 90)
        );
        drop(kept);
        assert_eq!(all.held_bytes(), 0);
    }
}
