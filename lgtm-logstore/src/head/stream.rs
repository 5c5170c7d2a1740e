//! One stream in memory: its open chunk, finished ones, and the rules by which it takes entries.

use std::sync::Arc;

use lgtm_core::Result;
use lgtm_core::codec::Compressor;
use lgtm_core::exec::in_place;
use lgtm_core::limits::RateLimiter;
use lgtm_core::model::TimestampNs;
use lgtm_core::postings::SymbolId;
use parking_lot::{Mutex, MutexGuard};

use super::head::HeadParts;
use super::head_chunk::{ChunkBytes, FinishReason, HeadChunk};
use super::open_chunk::{OpenChunk, SideParts};
use crate::chunk::{Appended, ChunkBuilder, ChunkCodec, ChunkSettings};
use crate::skip::{SkipBuilder, SkipDraft};

/// A stream. It has a lock of its own: streams hold much, and compressing a block takes a millisecond.
#[derive(Debug)]
pub(super) struct MemStream {
    /// Loki's fingerprint of the labels.
    pub(super) fingerprint: u64,
    state: Mutex<StreamState>,
}

/// What changes of a stream.
#[derive(Debug)]
pub(super) struct StreamState {
    /// Symbols of names and values in order.
    pub(super) labels: Box<[SymbolId]>,
    /// Forgotten: whoever holds it still looks for the stream again.
    pub(super) is_gone: bool,
    /// Time of the newest entry ever taken; `i64::MIN` before the first.
    pub(super) highest_ns: TimestampNs,
    /// The number that the next entry gets in the log.
    pub(super) sequence: u64,
    /// Entries of a lower number are in the checkpoint that was replayed.
    pub(super) replayed_from: u64,
    pub(super) open: Option<Box<OpenChunk>>,
    /// Entries too late for the open chunk, where they are accepted.
    pub(super) late: Option<Box<OpenChunk>>,
    pub(super) finished: Vec<HeadChunk>,
    pub(super) rate: Option<Box<RateLimiter>>,
    /// Seconds on the host's clock when it last got an entry.
    pub(super) touched_s: u32,
}

/// A chunk that is to be put together: its number, its builder, and what was made beside it.
type WaitingChunk = (u64, Arc<ChunkBuilder>, Option<Box<SkipDraft>>);

/// Which of the two open chunks an entry goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Open,
    Late,
}

impl MemStream {
    pub(super) fn new(labels: Box<[SymbolId]>, fingerprint: u64, sequence: u64) -> Self {
        Self {
            fingerprint,
            state: Mutex::new(StreamState {
                labels,
                is_gone: false,
                highest_ns: TimestampNs::MIN,
                sequence,
                replayed_from: 0,
                open: None,
                late: None,
                finished: Vec::new(),
                rate: None,
                touched_s: 0,
            }),
        }
    }

    /// Its state. Somebody may be compressing a block of it: then the wait holds up no other task.
    pub(super) fn lock(&self) -> MutexGuard<'_, StreamState> {
        let state = self.state.try_lock();
        state.unwrap_or_else(|| in_place(|| self.state.lock()))
    }

    /// Bytes of what is made beside its open chunks and has not its final form.
    pub(super) fn open_draft_bytes(&self) -> u64 {
        let state = self.lock();
        let open = [&state.open, &state.late].into_iter().flatten();
        open.map(|c| c.open_draft_bytes() as u64).sum()
    }

    /// Brings what is made beside its open chunks into its final form. For the compute pool.
    pub(super) fn settle_drafts(&self, parts: &HeadParts, tools: &mut ChunkTools) {
        let mut state = self.lock();
        let before = state.open_bytes();
        let StreamState { open, late, .. } = &mut *state;
        for chunk in [open, late].into_iter().flatten() {
            chunk.settle_draft(parts.side_parts(), tools);
        }
        (parts.capacity).open_bytes_changed(before, state.open_bytes());
    }

    /// Compresses the open block of each chunk that has at least `min_bytes`, and puts finished chunks together. For the compute pool.
    ///
    /// # Errors
    /// `Internal` when a compression fails: what was to be compressed stays as it is.
    pub(super) fn tidy(
        &self,
        min_bytes: u64,
        parts: &HeadParts,
        tools: &mut ChunkTools,
    ) -> Result<()> {
        let mut state = self.lock();
        let before = state.open_bytes();
        let sides = parts.side_parts();
        let cut = state.cut_blocks(min_bytes, sides, tools);
        let waiting = state.take_waiting();
        (parts.capacity).open_bytes_changed(before, state.open_bytes());
        drop(state);
        cut?;
        // The oldest first, so that those which still wait stay the last ones.
        for (id, builder, draft) in waiting.into_iter().rev() {
            // Without the lock: overlapping blocks are all made anew.
            let made = match draft.zip(sides) {
                Some((mut draft, sides)) => sides.finished(&builder, &mut draft, tools)?,
                None => {
                    let (compressor, codec) = (&mut tools.compressor, &mut tools.codec);
                    (builder.finished(compressor, codec)?, None)
                }
            };
            let mut state = self.lock();
            let place = state.finished.iter_mut().find(|c| c.id == id);
            if let Some(chunk) = place.filter(|c| matches!(c.bytes, ChunkBytes::Builder(_))) {
                chunk.complete(made, &parts.files);
                (parts.capacity).open_bytes_changed(builder.memory_bytes(), 0);
            }
        }
        Ok(())
    }
}

/// What making and reading chunks needs beside their bytes.
#[derive(Debug)]
pub(super) struct ChunkTools {
    pub(super) compressor: Compressor,
    pub(super) codec: ChunkCodec,
    pub(super) skip: SkipBuilder,
}

impl ChunkTools {
    pub(super) fn new(settings: &ChunkSettings) -> Self {
        Self {
            compressor: settings.compressor(),
            codec: ChunkCodec::default(),
            skip: SkipBuilder::default(),
        }
    }
}

impl StreamState {
    /// Whether nothing would be lost with it.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_none() && self.late.is_none() && self.finished.is_empty()
    }

    /// Bytes of the chunks that are open, or not put together yet.
    pub(super) fn open_bytes(&self) -> usize {
        let size = |c: &Option<Box<OpenChunk>>| c.as_ref().map_or(0, |c| c.memory_bytes());
        let finished = self.finished.iter().rev();
        let waiting = finished.map_while(|c| match &c.bytes {
            ChunkBytes::Builder(builder) => {
                let draft = c.draft.as_ref().map_or(0, |d| d.memory_bytes());
                Some(builder.memory_bytes() + draft)
            }
            _ => None,
        });
        size(&self.open) + size(&self.late) + waiting.sum::<usize>()
    }

    /// The chunks that are to be put together, with their numbers, the last one first; they are the last ones of `finished`. Takes what was made
    /// beside them.
    fn take_waiting(&mut self) -> Vec<WaitingChunk> {
        let finished = self.finished.iter_mut().rev();
        let waiting = finished.map_while(|c| match &c.bytes {
            ChunkBytes::Builder(builder) => Some((c.id, Arc::clone(builder), c.draft.take())),
            _ => None,
        });
        waiting.collect()
    }

    fn has_waiting(&self) -> bool {
        let last = self.finished.last();
        last.is_some_and(|c| matches!(c.bytes, ChunkBytes::Builder(_)))
    }

    /// Bytes of the open chunks that are not compressed yet.
    pub(super) fn loose_bytes(&self) -> u64 {
        let size =
            |c: &Option<Box<OpenChunk>>| c.as_ref().map_or(0, |c| c.head().uncompressed_bytes());
        size(&self.open) + size(&self.late)
    }

    /// Puts an entry into a chunk; the rules were kept. Finishes the chunk that has no room for it.
    ///
    /// # Errors
    /// `InvalidInput` for a line of 1 GiB or more.
    pub(super) fn append(
        &mut self,
        lane: Lane,
        entry: (TimestampNs, &[u8], &[(&str, &str)]),
        fingerprint: u64,
        parts: &HeadParts,
    ) -> Result<Appended> {
        let (t_ns, line, metadata) = entry;
        let highest_ns = self.highest_ns;
        if let Some(chunk) = self.lane(lane) {
            let is_full = !chunk.is_empty() && !chunk.has_room_for(line, metadata);
            if is_full {
                self.finish(lane, FinishReason::Full, parts);
            } else if lane == Lane::Open && parts.sync.ends(chunk, t_ns, highest_ns, fingerprint) {
                self.finish(lane, FinishReason::Synced, parts);
            }
        }
        let chunk = self.lane(lane);
        let chunk = chunk.get_or_insert_with(|| Box::new(parts.new_chunk(t_ns)));
        let appended = chunk.append(t_ns, line, metadata)?;
        self.highest_ns = self.highest_ns.max(t_ns);
        Ok(appended)
    }

    /// The open chunk of a lane.
    pub(super) fn lane(&mut self, lane: Lane) -> &mut Option<Box<OpenChunk>> {
        match lane {
            Lane::Open => &mut self.open,
            Lane::Late => &mut self.late,
        }
    }

    /// Whether somebody should [tidy](MemStream::tidy) up.
    pub(super) fn wants_tidying(&self) -> bool {
        let is_full = |c: &Option<Box<OpenChunk>>| c.as_ref().is_some_and(|c| c.is_block_full());
        is_full(&self.open) || is_full(&self.late) || self.has_waiting()
    }

    fn cut_blocks(
        &mut self,
        min_bytes: u64,
        sides: Option<&SideParts>,
        tools: &mut ChunkTools,
    ) -> Result<()> {
        for chunk in [&mut self.open, &mut self.late].into_iter().flatten() {
            if chunk.head().uncompressed_bytes() >= min_bytes {
                chunk.cut(sides, tools)?;
            }
        }
        Ok(())
    }

    /// Ends an open chunk: it takes no more entries, and is put together by the next [tidying](MemStream::tidy).
    pub(super) fn finish(&mut self, lane: Lane, reason: FinishReason, parts: &HeadParts) {
        let chunk = self.lane(lane).take();
        let chunk = chunk.and_then(|c| HeadChunk::of_open(parts.next_chunk_id(), *c, reason));
        self.finished.extend(chunk);
    }

    /// Times of the first and the last entry held.
    pub(super) fn range(&self) -> Option<(TimestampNs, TimestampNs)> {
        let open = [&self.open, &self.late].into_iter().flatten();
        let open = open.filter_map(|c| c.time_range());
        let finished = self.finished.iter().map(|c| (c.min_ns, c.max_ns));
        open.chain(finished)
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Finishes chunks that span more than `max_age_ns` or, when the stream is idle, all.
    pub(super) fn finish_due(&mut self, max_age_ns: i64, is_idle: bool, parts: &HeadParts) {
        for lane in [Lane::Open, Lane::Late] {
            let range = self.lane(lane).as_ref().and_then(|c| c.time_range());
            let is_old = |(min, max): (TimestampNs, TimestampNs)| max.since(min) > max_age_ns;
            match range {
                Some(range) if is_old(range) => self.finish(lane, FinishReason::MaxAge, parts),
                Some(_) if is_idle => self.finish(lane, FinishReason::Idle, parts),
                _ => {}
            }
        }
    }

    /// Finishes all chunks.
    pub(super) fn finish_all(&mut self, reason: FinishReason, parts: &HeadParts) {
        self.finish(Lane::Open, reason, parts);
        self.finish(Lane::Late, reason, parts);
    }
}

/// By which all replicas end their chunks at the same entries.
#[derive(Debug, Clone, Copy)]
pub(super) struct SyncRule {
    pub(super) period_ns: u64,
    /// Bytes that a chunk must have.
    pub(super) min_bytes: u64,
}

impl SyncRule {
    /// Whether a chunk ends before an entry: the phase of its time in the period, shifted by the fingerprint so that not all streams end
    /// at once, is below that of the newest entry.
    #[inline]
    fn ends(
        self,
        chunk: &ChunkBuilder,
        t_ns: TimestampNs,
        highest_ns: TimestampNs,
        fingerprint: u64,
    ) -> bool {
        if self.period_ns == 0 || t_ns < highest_ns || highest_ns == TimestampNs::MIN {
            return false;
        }
        let phase = |t: TimestampNs| (t.get() as u64).wrapping_add(fingerprint) % self.period_ns;
        phase(t_ns) < phase(highest_ns)
            && chunk.compressed_bytes() + chunk.head().uncompressed_bytes() > self.min_bytes
    }
}
