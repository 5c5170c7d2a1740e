//! A chunk that takes entries, and what is made beside it meanwhile.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lgtm_core::Result;

use super::stream::ChunkTools;
use crate::chunk::{ChunkBuilder, FinishedChunk};
use crate::skip::{MadeSkip, SkipDraft, SkipSettings};

/// A chunk in the making. It reads as its builder.
#[derive(Debug)]
pub(super) struct OpenChunk {
    builder: ChunkBuilder,
    /// `None`: what stands beside it is made of the finished chunk.
    draft: Option<Box<SkipDraft>>,
}

impl OpenChunk {
    /// A chunk that something is known of already, or that nothing is made beside.
    pub(super) fn alone(builder: ChunkBuilder) -> Self {
        Self {
            builder,
            draft: None,
        }
    }

    /// An empty chunk, with what is made beside it.
    pub(super) fn beside(builder: ChunkBuilder, settings: &SkipSettings) -> Self {
        Self {
            builder,
            draft: Some(Box::new(SkipDraft::new(settings))),
        }
    }

    /// Bytes of memory.
    pub(super) fn memory_bytes(&self) -> usize {
        let draft = self.draft.as_ref().map_or(0, |d| d.memory_bytes());
        self.builder.memory_bytes() + draft
    }

    /// Bytes of memory of what is made beside it and has not its final form.
    pub(super) fn open_draft_bytes(&self) -> usize {
        self.draft.as_ref().map_or(0, |d| d.open_bytes())
    }

    /// Brings what is made beside it into its final form, which is much smaller.
    pub(super) fn settle_draft(&mut self, sides: Option<&SideParts>, tools: &mut ChunkTools) {
        if let Some((draft, sides)) = self.draft.as_mut().zip(sides) {
            draft.go_on(&mut tools.skip, &sides.settings).settle();
        }
    }

    /// Compresses what is not compressed yet.
    ///
    /// # Errors
    /// `Internal` when that fails: what was to be compressed stays as it is.
    pub(super) fn cut(&mut self, sides: Option<&SideParts>, tools: &mut ChunkTools) -> Result<()> {
        let Some((draft, sides)) = self.draft.as_mut().zip(sides) else {
            return self.builder.cut(&mut tools.compressor);
        };
        let mut drafting = draft.go_on(&mut tools.skip, &sides.settings);
        let cut = self
            .builder
            .cut_observed(&mut tools.compressor, &mut drafting);
        drafting.pause();
        cut
    }

    /// The builder, and what was made beside it so far.
    pub(super) fn into_parts(self) -> (ChunkBuilder, Option<Box<SkipDraft>>) {
        (self.builder, self.draft)
    }
}

impl Deref for OpenChunk {
    type Target = ChunkBuilder;

    fn deref(&self) -> &ChunkBuilder {
        &self.builder
    }
}

impl DerefMut for OpenChunk {
    fn deref_mut(&mut self) -> &mut ChunkBuilder {
        &mut self.builder
    }
}

/// How side files are made beside chunks, and what finished ones wait with.
#[derive(Debug)]
pub(super) struct SideParts {
    pub(super) settings: SkipSettings,
    /// Bytes that wait with finished chunks, and the most of them.
    waiting_bytes: Arc<AtomicU64>,
    max_waiting_bytes: u64,
}

impl SideParts {
    pub(super) fn new(settings: SkipSettings, max_waiting_bytes: u64) -> Self {
        Self {
            settings,
            waiting_bytes: Arc::default(),
            max_waiting_bytes,
        }
    }

    /// Completes a chunk, and what stands beside it as far as there is room to wait.
    ///
    /// # Errors
    /// Those of [`ChunkBuilder::finish`].
    pub(super) fn finished(
        &self,
        builder: &ChunkBuilder,
        draft: &mut SkipDraft,
        tools: &mut ChunkTools,
    ) -> Result<(FinishedChunk, Option<Arc<WaitingSkip>>)> {
        let mut drafting = draft.go_on(&mut tools.skip, &self.settings);
        let (compressor, codec) = (&mut tools.compressor, &mut tools.codec);
        let chunk = builder.finished_observed(compressor, codec, &mut drafting)?;
        let made = drafting.finish(chunk.bytes.len());
        Ok((chunk, made.and_then(|made| self.wait(made))))
    }

    fn wait(&self, skip: MadeSkip) -> Option<Arc<WaitingSkip>> {
        let bytes = skip.memory_bytes() as u64;
        let before = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let waiting = WaitingSkip {
            skip,
            bytes,
            all: Arc::clone(&self.waiting_bytes),
        };
        // Dropped, it is counted no more.
        (before + bytes <= self.max_waiting_bytes).then(|| Arc::new(waiting))
    }
}

/// What stands beside a finished chunk until it goes into the object store; counted.
#[derive(Debug)]
pub(super) struct WaitingSkip {
    pub(super) skip: MadeSkip,
    bytes: u64,
    all: Arc<AtomicU64>,
}

impl Drop for WaitingSkip {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
