//! The series of several blocks in label order, a window of each in memory.

use lgtm_core::DecodeError;

use super::chunk_merge::{ChunkCounts, InputChunk, merge_chunks};
use crate::chunk::Chunk;

/// Name and value, as ordinals in the symbol table of the new block: they compare as the texts do.
pub(super) type LabelSymbols = (u32, u32);

/// Some consecutive series of a block, with their chunks.
#[derive(Debug, Default)]
pub(super) struct SeriesWindow {
    pub(super) labels: Vec<LabelSymbols>,
    pub(super) series: Vec<WindowSeries>,
    pub(super) chunks: Vec<Chunk>,
}

/// Where the labels and chunks of a series end.
#[derive(Debug, Clone, Copy)]
pub(super) struct WindowSeries {
    pub(super) labels_end: usize,
    pub(super) chunks_end: usize,
}

/// A window, and how much of it was taken.
#[derive(Debug, Default)]
struct SeriesInput {
    window: SeriesWindow,
    /// The series that comes next, and where its labels and chunks begin.
    next: usize,
    labels_start: usize,
    chunks_start: usize,
    /// Nothing comes behind the window.
    is_last: bool,
}

impl SeriesInput {
    fn labels(&self) -> Option<&[LabelSymbols]> {
        let series = self.window.series.get(self.next)?;
        Some(&self.window.labels[self.labels_start..series.labels_end])
    }

    fn is_starved(&self) -> bool {
        self.next == self.window.series.len() && !self.is_last
    }

    /// Moves the chunks of the next series to `out`.
    fn take(&mut self, input: usize, out: &mut Vec<InputChunk>) {
        let Some(&series) = self.window.series.get(self.next) else {
            return;
        };
        let chunks = &self.window.chunks[self.chunks_start..series.chunks_end];
        out.extend(chunks.iter().map(|chunk| InputChunk {
            input,
            chunk: chunk.clone(),
        }));
        self.next += 1;
        (self.labels_start, self.chunks_start) = (series.labels_end, series.chunks_end);
    }
}

/// Merges windows that are fed one after the other.
#[derive(Debug)]
pub(super) struct SeriesMerge {
    inputs: Vec<SeriesInput>,
    chunks: Vec<InputChunk>,
    counts: ChunkCounts,
}

/// A series that the merge has put together.
#[derive(Debug, Default)]
pub(super) struct MergedSeriesChunks {
    pub(super) labels: Vec<LabelSymbols>,
    pub(super) chunks: Vec<Chunk>,
}

impl SeriesMerge {
    /// Of so many blocks.
    pub(super) fn new(count: usize) -> Self {
        Self {
            inputs: std::iter::repeat_with(SeriesInput::default)
                .take(count)
                .collect(),
            chunks: Vec::new(),
            counts: ChunkCounts::default(),
        }
    }

    /// The blocks of which the next window is wanted.
    pub(super) fn starved(&self) -> impl Iterator<Item = usize> {
        let inputs = self.inputs.iter().enumerate();
        inputs.filter(|(_, i)| i.is_starved()).map(|(n, _)| n)
    }

    /// What comes next of a block; `None`: nothing more.
    pub(super) fn feed(&mut self, number: usize, window: Option<SeriesWindow>) {
        self.inputs[number] = SeriesInput {
            is_last: window.is_none(),
            window: window.unwrap_or_default(),
            ..SeriesInput::default()
        };
    }

    /// What was done so far.
    pub(super) fn counts(&self) -> ChunkCounts {
        self.counts
    }

    /// Puts the next series into `out`; `false` when a block is starved, and at the end.
    ///
    /// # Errors
    /// A chunk that does not follow its format, with the number of its block.
    pub(super) fn next_series(
        &mut self,
        out: &mut MergedSeriesChunks,
    ) -> Result<bool, (usize, DecodeError)> {
        out.labels.clear();
        out.chunks.clear();
        if self.inputs.iter().any(SeriesInput::is_starved) {
            return Ok(false);
        }
        let Some(least) = self.inputs.iter().filter_map(SeriesInput::labels).min() else {
            return Ok(false);
        };
        out.labels.extend_from_slice(least);
        for (n, input) in self.inputs.iter_mut().enumerate() {
            if input.labels() == Some(out.labels.as_slice()) {
                input.take(n, &mut self.chunks);
            }
        }
        merge_chunks(&mut self.chunks, &mut out.chunks, &mut self.counts)?;
        Ok(true)
    }
}
