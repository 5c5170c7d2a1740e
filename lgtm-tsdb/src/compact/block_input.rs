//! One block of a compaction, read from its first series to its last.

use std::sync::Arc;

use lgtm_core::index::SymbolStream;
use lgtm_core::model::TenantId;
use lgtm_core::storage::{Bucket, ReadPlan};
use lgtm_core::{DecodeError, Error, Result};

use super::series_merge::{LabelSymbols, SeriesWindow, WindowSeries};
use crate::block::{BlockMeta, BlockReader, BlockReaderSettings, ChunkReaderSettings};
use crate::index::{ChunkRefMeta, IndexReaderSettings, SeriesEntries};
use crate::select::ChunkList;

/// What a chunk is taken to have whose end is not told by the next one.
const CHUNK_GUESS_BYTES: u64 = 1 << 10;
/// Series entries that are read at once, at least and at most.
const MIN_ENTRIES: usize = 64;
const MAX_ENTRIES: usize = 16 << 10;

/// Reads the series of a block in order, in windows.
#[derive(Debug)]
pub(super) struct BlockInput {
    reader: Arc<BlockReader>,
    /// References of all series, in label order.
    references: Vec<u32>,
    /// The reference behind those in `entries`.
    next: usize,
    /// Where the block's symbols are in the table of the new block.
    symbols: Vec<u32>,
    /// Entries that were read, and how many of them are in windows already.
    entries: SeriesEntries,
    taken: usize,
    /// Entries that are read next time.
    batch: usize,
    /// About so many bytes are in a window.
    window_bytes: u64,
    last_labels: Vec<LabelSymbols>,
}

impl BlockInput {
    /// Opens a block and sees that it is the one that was planned with.
    ///
    /// # Errors
    /// `Corrupt` when its `meta.json` says other than when it was read before; as [`BlockReader::open_object`].
    pub(super) async fn open(
        bucket: &Bucket,
        tenant: &TenantId,
        meta: &BlockMeta,
        window_bytes: u64,
    ) -> Result<Self> {
        let folder = format!("{tenant}/{}", meta.ulid);
        let reads = ReadPlan {
            // Everything is wanted: gaps are paddings and checksums.
            max_gap_bytes: 64 << 10,
            ..ReadPlan::default()
        };
        let settings = BlockReaderSettings {
            index: IndexReaderSettings {
                // Symbols are walked over once; nothing is looked up.
                max_resident_section_bytes: 0,
                reads,
                ..IndexReaderSettings::default()
            },
            chunks: ChunkReaderSettings {
                chunk_guess_bytes: CHUNK_GUESS_BYTES,
                reads,
            },
        };
        let reader = BlockReader::open_object(bucket, &folder, settings).await?;
        if reader.meta() != meta {
            let reason = "it says other than when it was read before".to_owned();
            let error = DecodeError::new("meta.json", 0, reason);
            return Err(Error::corrupt(format!("{folder}/meta.json"), error));
        }
        Ok(Self {
            references: reader.index().postings_all().await?,
            reader: Arc::new(reader),
            next: 0,
            symbols: Vec::new(),
            entries: SeriesEntries::default(),
            taken: 0,
            batch: 512,
            window_bytes,
            last_labels: Vec::new(),
        })
    }

    /// Bytes of its chunk files and of its index.
    pub(super) fn sizes(&self) -> (u64, u64) {
        let reader = &self.reader;
        (reader.chunks().size_bytes(), reader.index().size_bytes())
    }

    /// All symbols from the first on, for [`BlockInput::next_symbols`].
    pub(super) fn symbol_stream(&self) -> SymbolStream {
        self.reader.index().symbol_stream()
    }

    /// The next symbols of a stream.
    ///
    /// # Errors
    /// As [`IndexReader::next_symbols`](crate::index::IndexReader::next_symbols).
    pub(super) async fn next_symbols(
        &self,
        stream: &mut SymbolStream,
    ) -> Result<Option<lgtm_core::index::SymbolTable>> {
        let index = self.reader.index();
        index.next_symbols(stream, self.window_bytes).await
    }

    /// Tells where the block's symbols are in the table of the new block.
    pub(super) fn map_symbols(&mut self, symbols: Vec<u32>) {
        self.symbols = symbols;
    }

    /// Begins again with the first series.
    pub(super) fn rewind(&mut self) {
        self.next = 0;
        self.taken = 0;
        self.entries = SeriesEntries::default();
        self.last_labels.clear();
    }

    /// The labels of the next series, back to back with their counts; `None` behind the last.
    ///
    /// # Errors
    /// As [`BlockInput::next_window`].
    pub(super) async fn next_labels(&mut self) -> Result<Option<SeriesWindow>> {
        if !self.fill().await? {
            return Ok(None);
        }
        let mut window = SeriesWindow::default();
        for entry in self.entries.iter() {
            self.push_labels(entry.reference, entry.labels, 0, &mut window)?;
        }
        self.taken = self.entries.len();
        Ok(Some(window))
    }

    /// The next series with their chunks; `None` behind the last.
    ///
    /// # Errors
    /// `Corrupt` for what is damaged, series that are out of order, and chunks outside the time range of the block; what the reads return.
    pub(super) async fn next_window(&mut self) -> Result<Option<SeriesWindow>> {
        if !self.fill().await? {
            return Ok(None);
        }
        let mut window = SeriesWindow::default();
        let mut wanted: Vec<ChunkRefMeta> = Vec::new();
        let mut references = Vec::new();
        let mut bytes = 0;
        for entry in self.entries.iter().skip(self.taken) {
            if bytes > self.window_bytes && !references.is_empty() {
                break;
            }
            self.check_times(entry.reference, entry.chunks)?;
            bytes += chunk_bytes(entry.chunks);
            wanted.extend_from_slice(entry.chunks);
            references.push(entry.reference);
            self.push_labels(entry.reference, entry.labels, wanted.len(), &mut window)?;
        }
        self.taken += references.len();
        window.chunks = self.reader.chunks().read(&wanted).await?;
        if !self.reader.tombstones().is_empty() {
            self.apply_tombstones(&references, &mut window)?;
        }
        if let Some(last) = window.series.len().checked_sub(1) {
            let start = last
                .checked_sub(1)
                .map_or(0, |n| window.series[n].labels_end);
            self.last_labels.clear();
            self.last_labels.extend_from_slice(&window.labels[start..]);
        }
        Ok(Some(window))
    }

    /// Reads entries if all that were read are in windows; `false` behind the last.
    async fn fill(&mut self) -> Result<bool> {
        if self.taken < self.entries.len() {
            return Ok(true);
        }
        let end = self.references.len().min(self.next + self.batch);
        if end == self.next {
            return Ok(false);
        }
        let index = self.reader.index();
        self.entries = index
            .series_entries(&self.references[self.next..end])
            .await?;
        self.next = end;
        self.taken = 0;
        // So many that they take a part of what their chunks may.
        let each = (self.entries.memory_bytes() / self.entries.len().max(1)).max(1);
        let batch = (self.window_bytes as usize / 4) / each;
        self.batch = batch.clamp(MIN_ENTRIES, MAX_ENTRIES);
        Ok(true)
    }

    /// Adds a series whose chunks end at `chunks_end`.
    fn push_labels(
        &self,
        reference: u32,
        labels: &[(u32, u32)],
        chunks_end: usize,
        window: &mut SeriesWindow,
    ) -> Result<()> {
        let start = window.labels.len();
        for (name, value) in labels {
            let of = |symbol: &u32| self.symbols.get(*symbol as usize).copied();
            let (Some(name), Some(value)) = (of(name), of(value)) else {
                return Err(self.broken(reference, "it has a symbol that is not in the table"));
            };
            window.labels.push((name, value));
        }
        let (before, this) = window.labels.split_at(start);
        let last = match window.series.len() {
            0 => self.last_labels.as_slice(),
            1 => before,
            n => &before[window.series[n - 2].labels_end..],
        };
        if last >= this && !last.is_empty() {
            return Err(self.broken(
                reference,
                "its labels do not follow those of the series before",
            ));
        }
        window.series.push(WindowSeries {
            labels_end: window.labels.len(),
            chunks_end,
        });
        Ok(())
    }

    fn check_times(&self, reference: u32, chunks: &[ChunkRefMeta]) -> Result<()> {
        let meta = self.reader.meta();
        let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else {
            return Ok(());
        };
        if first.min_ms < meta.min_ms || last.max_ms >= meta.max_ms {
            let reason = format!(
                "it has samples from {} to {}, the block those from {} to before {}",
                first.min_ms, last.max_ms, meta.min_ms, meta.max_ms
            );
            return Err(self.broken(reference, &reason));
        }
        Ok(())
    }

    fn apply_tombstones(&self, references: &[u32], window: &mut SeriesWindow) -> Result<()> {
        let mut whole = std::mem::take(&mut window.chunks).into_iter();
        let mut start = 0;
        for (series, &reference) in window.series.iter_mut().zip(references) {
            let count = series.chunks_end - start;
            start = series.chunks_end;
            let chunks: ChunkList = whole.by_ref().take(count).collect();
            let kept = self.reader.tombstones().apply(reference, chunks);
            let kept = kept.map_err(|e| self.broken(reference, &e.to_string()))?;
            window.chunks.extend(kept);
            series.chunks_end = window.chunks.len();
        }
        Ok(())
    }

    fn broken(&self, reference: u32, reason: &str) -> Error {
        let place = format!("block {}, series {reference}", self.reader.meta().ulid);
        Error::corrupt(
            place,
            DecodeError::new("index series", 0, reason.to_owned()),
        )
    }
}

/// About what the chunks of a series have, by how far their references are apart.
fn chunk_bytes(chunks: &[ChunkRefMeta]) -> u64 {
    let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else {
        return 0;
    };
    let guess = CHUNK_GUESS_BYTES * chunks.len() as u64;
    match last.reference.checked_sub(first.reference) {
        // One that lies in another segment is not that far away.
        Some(span) if span < 1 << 32 => span + CHUNK_GUESS_BYTES,
        _ => guess,
    }
}
