//! Memory of all queries of a process together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lgtm_core::{Error, Result};

/// What all queries of a process hold, and the bound on it.
///
/// The bound of one query says nothing of a hundred at once; this one does. It counts what queries count for themselves, and answers
/// until they are printed.
#[derive(Debug)]
pub struct QueryMemory {
    /// 0: no bound.
    max_bytes: u64,
    held: AtomicU64,
}

impl QueryMemory {
    /// Nothing held yet; at most `max_bytes`, or without a bound if that is 0.
    pub(super) fn new(max_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            max_bytes,
            held: AtomicU64::new(0),
        })
    }

    /// Bytes held now.
    pub fn held_bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Takes more.
    ///
    /// # Errors
    /// `Unavailable`, naming the setting; then nothing is taken.
    pub(super) fn grow(&self, bytes: u64) -> Result<()> {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed);
        if self.max_bytes > 0 && held.saturating_add(bytes) > self.max_bytes {
            self.shrink(bytes);
            return Err(Error::Exhausted(format!(
                "the queries of this process hold {held} bytes of memory and one of them needs {bytes} more, the bound (metrics.querier.max_memory_total) is {}; try again later",
                self.max_bytes
            )));
        }
        Ok(())
    }

    pub(super) fn shrink(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Takes memory until the hold is dropped.
    ///
    /// # Errors
    /// As [`QueryMemory::grow`].
    pub(super) fn hold(self: &Arc<Self>, bytes: u64) -> Result<Hold> {
        self.grow(bytes)?;
        Ok(Hold {
            memory: Arc::clone(self),
            bytes,
        })
    }
}

/// Memory that is given back when dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    memory: Arc<QueryMemory>,
    bytes: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.memory.shrink(self.bytes);
    }
}

/// The memory that an answer takes, counted as long as the answer or a part of it is there. Says nothing of what the answer is: all
/// are equal.
#[derive(Debug, Clone, Default)]
pub struct AnswerMemory(Vec<Arc<Hold>>);

impl AnswerMemory {
    pub(super) fn of(hold: Hold) -> Self {
        Self(vec![Arc::new(hold)])
    }

    /// Takes over what a part of the answer holds.
    pub(super) fn join(&mut self, part: &Self) {
        self.0.extend(part.0.iter().cloned());
    }

    /// Bytes counted.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|hold| hold.bytes).sum()
    }
}

impl PartialEq for AnswerMemory {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use lgtm_core::ErrorKind;

    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let memory = QueryMemory::new(100);
        let first = AnswerMemory::of(memory.hold(60).unwrap());
        let refused = memory.hold(41).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert!(refused.to_string().contains("querier.max_memory_total"));
        assert_eq!(memory.held_bytes(), 60);
        let mut whole = AnswerMemory::of(memory.hold(40).unwrap());
        whole.join(&first);
        drop(first);
        assert_eq!((whole.bytes(), memory.held_bytes()), (100, 100));
        drop(whole);
        assert_eq!(memory.held_bytes(), 0);
        assert!(QueryMemory::new(0).hold(u64::MAX).is_ok());
    }
}
