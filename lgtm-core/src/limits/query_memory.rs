//! Memory of all queries of a process together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// What all queries of a process hold, and the bound on it.
///
/// The bound of one query says nothing of a hundred at once; this one does. It counts what queries count for themselves, and answers
/// until they are printed.
#[derive(Debug)]
pub struct QueryMemory {
    /// 0: no bound.
    max_bytes: u64,
    /// The setting that the bound comes from.
    setting: &'static str,
    held: AtomicU64,
}

impl QueryMemory {
    /// Nothing held yet; at most `max_bytes`, or without a bound if that is 0. `setting` is where the bound comes from.
    pub fn new(max_bytes: u64, setting: &'static str) -> Arc<Self> {
        Arc::new(Self {
            max_bytes,
            setting,
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
    pub fn grow(&self, bytes: u64) -> Result<()> {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed);
        if self.max_bytes > 0 && held.saturating_add(bytes) > self.max_bytes {
            self.shrink(bytes);
            return Err(Error::Exhausted(format!(
                "the queries of this process hold {held} bytes of memory and one of them needs {bytes} more, the bound ({}) is {}; try again later",
                self.setting, self.max_bytes
            )));
        }
        Ok(())
    }

    /// Gives back what was taken by [`QueryMemory::grow`].
    pub fn shrink(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Takes memory until the hold is dropped.
    ///
    /// # Errors
    /// As [`QueryMemory::grow`].
    pub fn hold(self: &Arc<Self>, bytes: u64) -> Result<MemoryHold> {
        self.grow(bytes)?;
        Ok(self.keep(bytes))
    }

    /// A hold of what was taken by [`QueryMemory::grow`] already.
    pub fn keep(self: &Arc<Self>, bytes: u64) -> MemoryHold {
        MemoryHold {
            memory: Arc::clone(self),
            bytes,
        }
    }
}

/// Memory that is given back when dropped.
#[derive(Debug)]
pub struct MemoryHold {
    memory: Arc<QueryMemory>,
    bytes: u64,
}

impl Drop for MemoryHold {
    fn drop(&mut self) {
        self.memory.shrink(self.bytes);
    }
}

/// The memory that an answer takes, counted as long as the answer or a part of it is there. Says nothing of what the answer is: all
/// are equal.
#[derive(Debug, Clone, Default)]
pub struct AnswerMemory(Vec<Arc<MemoryHold>>);

impl AnswerMemory {
    /// What is held is the answer's.
    pub fn of(hold: MemoryHold) -> Self {
        Self(vec![Arc::new(hold)])
    }

    /// Takes over what a part of the answer holds.
    pub fn join(&mut self, part: &Self) {
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
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let memory = QueryMemory::new(100, "querier.max_memory_total");
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
        memory.grow(30).unwrap();
        drop(memory.keep(30));
        assert_eq!(memory.held_bytes(), 0);
        assert!(QueryMemory::new(0, "").hold(u64::MAX).is_ok());
    }
}
