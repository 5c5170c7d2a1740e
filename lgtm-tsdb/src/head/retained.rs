//! What blocks have and the head keeps for a while all the same.
//!
//! Readers of blocks in other processes learn of a new block late. Until then what a flush has moved into it stays here for them: each flush leaves a
//! reader of the generation before it, which ends when its time is over. A checkpoint of the log names the chunks that stay and since when, so that a
//! restart goes on where the process before it ended.

use std::collections::BTreeMap;
use std::time::Duration;

use lgtm_core::model::TimestampMs;
use lgtm_core::wal::{ChunkState, Snapshot};
use parking_lot::Mutex;

use super::head_chunk::HeadChunk;
use super::heads::Heads;

/// What stays of one flush.
#[derive(Debug)]
struct RetainedFlush {
    /// When the block was on the list of this process' readers.
    moved_ms: TimestampMs,
    /// When this ends, on the monotonic clock.
    until: Duration,
    /// Holds the chunks.
    snapshot: Snapshot,
}

/// What stays of flushes, by the generation since which their blocks are on the list.
#[derive(Debug, Default)]
pub(super) struct Retained(Mutex<BTreeMap<u32, RetainedFlush>>);

/// A chunk that blocks have since a time.
#[derive(Debug)]
pub(super) struct MovedChunk {
    pub(super) moved_ms: TimestampMs,
    pub(super) chunk: HeadChunk,
}

impl Retained {
    /// Keeps what moved in `generation` until then; `snapshot` is of the generation before.
    pub(super) fn add(
        &self,
        generation: u32,
        moved_ms: TimestampMs,
        until: Duration,
        snapshot: Snapshot,
    ) {
        let flush = RetainedFlush {
            moved_ms,
            until,
            snapshot,
        };
        self.0.lock().insert(generation, flush);
    }

    /// What a reader sees that is to see all that stays; nothing when nothing does.
    pub(super) fn oldest(&self) -> Option<Snapshot> {
        let flushes = self.0.lock();
        let first = flushes.first_key_value();
        first.map(|(_, flush)| flush.snapshot.again())
    }

    /// Ends what is over at `now`.
    pub(super) fn end_before(&self, now: Duration) {
        self.0.lock().retain(|_, flush| flush.until > now);
    }

    /// Since when blocks have a chunk, if it stays for readers elsewhere.
    pub(super) fn moved_ms(&self, state: ChunkState) -> Option<TimestampMs> {
        let generation = state.generation()?;
        let flushes = self.0.lock();
        flushes.get(&generation).map(|flush| flush.moved_ms)
    }
}

impl Heads {
    /// How the chunks are taken back that blocks have since `moved_ms`; nothing when their time is over. Where the log tells of flushes in another order than
    /// theirs, as it may of several tenants, chunks of an early one can stay in memory as long as those of a later one.
    pub(super) fn retain_again(&self, moved_ms: TimestampMs) -> Option<ChunkState> {
        let age_ms = self.clock.now_ms().since(moved_ms).max(0);
        let age = Duration::from_millis(age_ms.unsigned_abs());
        let left = self.settings.retain_flushed.checked_sub(age)?;
        if left.is_zero() {
            return None;
        }
        let snapshot = self.parts.generations.enter();
        let (generation, _) = self.parts.generations.advance();
        let until = self.clock.monotonic().saturating_add(left);
        self.retained.add(generation, moved_ms, until, snapshot);
        Some(ChunkState::moved(generation))
    }
}
