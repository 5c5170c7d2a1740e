//! Which readers may still need what flushes of a head have moved into the object store.
//!
//! A query takes a [`Snapshot`] of the heads first and the list of blocks second. A flush puts its block on the list first and then
//! begins a new generation. So a query of an older generation may not know the block: what the flush moved stays in the head for it.
//! One of the new generation knows the block, and passes over what has moved. Each acknowledged sample is therefore seen by every
//! query, whatever is flushed meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Where a finished chunk of a head stands on its way into the object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkState(u32);

impl ChunkState {
    /// Only the head has it.
    pub const HELD: Self = Self(0);
    /// A flush under way writes it into a block.
    pub const FLUSHING: Self = Self(u32::MAX);

    /// A block has it, on the list since `generation`.
    pub fn moved(generation: u32) -> Self {
        Self(generation)
    }

    /// Whether a block on the list (the index, for logs) has it.
    pub fn is_moved(self) -> bool {
        self != Self::HELD && self != Self::FLUSHING
    }

    /// The generation since which a block on the list has it.
    pub fn generation(self) -> Option<u32> {
        self.is_moved().then_some(self.0)
    }

    /// Whether no reader of `oldest` or a later generation looks at it.
    pub fn is_past(self, oldest: u32) -> bool {
        self.is_moved() && self.0 <= oldest
    }
}

/// The generations of the heads of a process, and their readers.
#[derive(Debug, Default)]
pub struct Generations(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    now: u32,
    readers: BTreeMap<u32, u32>,
}

impl State {
    fn oldest(&self) -> u32 {
        self.readers.keys().next().copied().unwrap_or(self.now)
    }
}

impl Generations {
    /// A snapshot of the heads as they are now.
    pub fn enter(self: &Arc<Self>) -> Snapshot {
        let mut state = self.0.lock();
        let generation = state.now;
        *state.readers.entry(generation).or_default() += 1;
        Snapshot {
            of: Arc::clone(self),
            generation,
        }
    }

    /// Begins a generation: its readers know what was listed before this call. Gives its number, and the oldest one that still has
    /// readers.
    pub fn advance(&self) -> (u32, u32) {
        let mut state = self.0.lock();
        state.now += 1;
        (state.now, state.oldest())
    }

    /// The oldest generation that still has readers, or else the newest one.
    pub fn oldest(&self) -> u32 {
        self.0.lock().oldest()
    }
}

/// A reader's hold on what the heads had when it began. Costs no memory but for what flushes move while it lives.
#[derive(Debug)]
pub struct Snapshot {
    of: Arc<Generations>,
    generation: u32,
}

impl Snapshot {
    /// Another reader with the same sight: with all that has moved since this one began. For readers who may know the list of blocks as it was a while
    /// ago, as long as somebody [enters](Generations::enter) before a flush and stays for that while. Readers who follow each other must not take each
    /// other's sight, or it would never end.
    #[must_use]
    pub fn again(&self) -> Self {
        let mut state = self.of.0.lock();
        *state.readers.entry(self.generation).or_default() += 1;
        Self {
            of: Arc::clone(&self.of),
            generation: self.generation,
        }
    }

    /// Whether this reader is to look at a chunk: no block that it knows has it.
    pub fn sees(&self, state: ChunkState) -> bool {
        !state.is_past(self.generation)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let mut state = self.of.0.lock();
        if let Some(readers) = state.readers.get_mut(&self.generation) {
            *readers -= 1;
            if *readers == 0 {
                state.readers.remove(&self.generation);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_enters_again_sees_the_same_and_ends_for_itself() {
        let generations = Arc::new(Generations::default());
        let kept = generations.enter();
        let (generation, _) = generations.advance();
        let moved = ChunkState::moved(generation);
        let again = kept.again();
        assert!(!generations.enter().sees(moved) && again.sees(moved));
        drop(kept);
        assert!(!moved.is_past(generations.oldest()), "one stays");
        drop(again);
        assert!(moved.is_past(generations.oldest()));
    }

    #[test]
    fn what_moves_stays_for_those_who_began_before() {
        let generations = Arc::new(Generations::default());
        let before = generations.enter();
        let (generation, oldest) = generations.advance();
        let moved = ChunkState::moved(generation);
        assert!(before.sees(moved) && !moved.is_past(oldest));
        let after = generations.enter();
        assert!(!after.sees(moved) && after.sees(ChunkState::FLUSHING));
        assert!(after.sees(ChunkState::HELD) && !moved.is_past(generations.oldest()));
        drop(before);
        assert!(moved.is_past(generations.oldest()), "nobody needs it");
        drop(after);
        assert!(!ChunkState::FLUSHING.is_past(generations.oldest()));
        assert!(!ChunkState::HELD.is_past(generations.oldest()));
    }
}
