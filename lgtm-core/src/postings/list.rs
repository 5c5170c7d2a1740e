//! A slice in memory.

use std::ops::Deref;

use crate::error::{Error, Result};
use crate::postings::postings::{Id, Postings};

/// Postings over a sorted slice, borrowed (`&[u64]`) or owned (`Vec<u64>`, `Arc<[u64]>`).
///
/// Seeking gallops: it costs the logarithm of the distance, so that a short list steers a long one for little.
#[derive(Debug, Clone)]
pub struct List<S> {
    ids: S,
    at: usize,
}

impl<I: Id, S: Deref<Target = [I]>> List<S> {
    /// Checks that `ids` ascend.
    ///
    /// # Errors
    /// `InvalidInput`, naming the first two ids that do not.
    pub fn new(ids: S) -> Result<Self> {
        match ids.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) => Err(Error::InvalidInput(format!(
                "postings must ascend, {:?} stands before {:?}",
                pair[0], pair[1]
            ))),
            None => Ok(Self { ids, at: 0 }),
        }
    }

    /// Takes `ids` that ascend by the way they were made; checked in debug builds only. Ids that do not make answers wrong, never
    /// memory unsafe or endless.
    pub fn from_ascending(ids: S) -> Self {
        debug_assert!(ids.is_sorted_by(|a, b| a < b), "postings must ascend");
        Self { ids, at: 0 }
    }
}

impl<I: Id, S: Deref<Target = [I]>> Postings for List<S> {
    type Id = I;

    #[inline]
    fn current(&self) -> Option<I> {
        self.ids.get(self.at).copied()
    }

    #[inline]
    fn advance(&mut self) {
        if self.at < self.ids.len() {
            self.at += 1;
        }
    }

    #[inline]
    fn seek(&mut self, target: I) -> Option<I> {
        let rest = &self.ids[self.at..];
        let mut high = 1;
        while high < rest.len() && rest[high] < target {
            high *= 2;
        }
        // What stands at high / 2 and before is smaller, unless that is the first.
        let low = high / 2;
        let window = &rest[low.min(rest.len())..(high + 1).min(rest.len())];
        self.at += low.min(rest.len()) + window.partition_point(|&id| id < target);
        self.current()
    }

    fn len_bound(&self) -> usize {
        self.ids.len() - self.at
    }
}
