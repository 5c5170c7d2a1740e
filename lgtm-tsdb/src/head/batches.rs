//! The head's answer to a select: series were chosen when it was asked, chunks are read batch by batch, as they were then.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lgtm_core::exec::{CancelOnDrop, CancelToken, Executor};
use lgtm_core::model::{LabelArena, Labels, TimeRange, TimestampMs};
use lgtm_core::postings::{MemPostings, SeriesId, SymbolId};
use lgtm_core::wal::Snapshot;
use lgtm_core::{Error, Result};
use smallvec::SmallVec;

use super::head::Head;
use super::head_chunk::{HeadChunk, OpenSpan};
use super::heads::Heads;
use super::series::{MemSeries, locate};
use super::shard::{Shard, ShardGuard};
use crate::chunk::Chunk;
use crate::select::{ChunkList, FetchBounds, FetchStats, SelectEnd, SeriesBatches, SeriesChunks};

/// Series per batch at most. A query has several batches under way, of some 300 bytes a series beside the chunks.
const BATCH_SERIES: usize = 512;
/// Bytes of chunks after which a batch ends.
const BATCH_BYTES: usize = 256 << 10;
/// So few series are read where they are asked for, in at most a quarter of a millisecond: handing them over would take longer.
const FEW_SERIES: usize = 256;

/// The series of an answer that are still to be read.
#[derive(Debug)]
pub(super) enum Chosen {
    /// With their labels, in label order.
    Labelled(std::vec::IntoIter<(Labels, SeriesId)>),
    /// By id, in the order in which they lie in memory, with the names of the labels that are looked at. Labels are made as the series
    /// are read: of a million series few labels are there at a time.
    Bare(std::vec::IntoIter<SeriesId>, Vec<String>),
}

impl Chosen {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Labelled(series) => series.len(),
            Self::Bare(ids, _) => ids.len(),
        }
    }
}

/// The chosen series, and what it takes to read them.
#[derive(Debug)]
pub(super) struct HeadSeries {
    pub(super) heads: Arc<Heads>,
    pub(super) head: Arc<Head>,
    /// Keeps what a flush moves meanwhile, and the ids what they are.
    pub(super) snapshot: Snapshot,
    pub(super) shards: Arc<Vec<Arc<Shard>>>,
    pub(super) range: TimeRange,
    pub(super) chosen: Chosen,
    pub(super) end: SelectEnd,
}

/// What the series of a batch hold in the range, as it was behind the locks. Bytes of finished chunks are read later, outside them.
#[derive(Debug, Default)]
struct Gathered {
    series: Vec<GatheredSeries>,
    kept: Vec<HeadChunk>,
    open_bytes: Vec<u8>,
    kept_bytes: usize,
}

#[derive(Debug)]
struct GatheredSeries {
    labels: Labels,
    id: SeriesId,
    /// Of `kept`.
    kept: Range<usize>,
    open: Option<OpenSpan>,
}

impl Gathered {
    fn is_full(&self) -> bool {
        self.series.len() >= BATCH_SERIES || self.open_bytes.len() + self.kept_bytes >= BATCH_BYTES
    }

    /// Notes what a series holds; one that holds nothing of the range is left out.
    fn add(
        &mut self,
        (id, series): (SeriesId, &MemSeries),
        range: TimeRange,
        snapshot: &Snapshot,
        labels: impl FnOnce() -> Labels,
    ) {
        let inside = |min: TimestampMs, max: TimestampMs| min < range.max_ms && max >= range.min_ms;
        let from = self.kept.len();
        self.kept.extend(series.late_chunks());
        self.kept.extend_from_slice(series.finished());
        if self.kept.len() > from {
            let mut wanted = from;
            for at in from..self.kept.len() {
                let c = &self.kept[at];
                if inside(c.min_ms, c.max_ms) && snapshot.sees(c.state) {
                    self.kept_bytes += c.bytes.len();
                    self.kept.swap(wanted, at);
                    wanted += 1;
                }
            }
            self.kept.truncate(wanted);
        }
        let open = series
            .open_range()
            .filter(|(min, max)| inside(*min, *max))
            .and_then(|_| series.copy_open_chunk(&mut self.open_bytes));
        if self.kept.len() > from || open.is_some() {
            self.series.push(GatheredSeries {
                labels: labels(),
                id,
                kept: from..self.kept.len(),
                open,
            });
        }
    }
}

/// Makes the labels that are looked at. Series that lie together often have the same ones, which are then made once.
struct LabelPicker<'a> {
    index: &'a MemPostings,
    names: SmallVec<[SymbolId; 4]>,
    arena: LabelArena,
    last: Option<(SmallVec<[SymbolId; 8]>, Labels)>,
}

impl<'a> LabelPicker<'a> {
    fn new(index: &'a MemPostings, names: &[String]) -> Self {
        let symbols = names.iter().filter_map(|n| index.symbols().find(n));
        Self {
            index,
            names: symbols.collect(),
            arena: LabelArena::default(),
            last: None,
        }
    }

    fn pick(&mut self, pairs: &[SymbolId]) -> Labels {
        let wanted = pairs
            .chunks_exact(2)
            .filter(|pair| self.names.contains(&pair[0]))
            .flatten()
            .copied();
        let picked: SmallVec<[SymbolId; 8]> = wanted.collect();
        if let Some((last, labels)) = &self.last
            && *last == picked
        {
            return labels.clone();
        }
        let labels = self.index.labels(&picked, &mut self.arena);
        self.last = Some((picked, labels.clone()));
        labels
    }
}

impl HeadSeries {
    /// The next batch; `None` at the end.
    fn read_batch(&mut self) -> Option<Vec<SeriesChunks>> {
        if self.chosen.len() == 0 {
            return None;
        }
        let mut gathered = Gathered::default();
        let series = self.chosen.len().min(BATCH_SERIES);
        gathered.series.reserve(series);
        match &mut self.chosen {
            Chosen::Labelled(chosen) => {
                while !gathered.is_full()
                    && let Some((labels, id)) = chosen.next()
                {
                    let (shard, slot) = locate(id);
                    if let Some(Some(series)) = self.shards[shard].lock().get(slot) {
                        gathered.add((id, series), self.range, &self.snapshot, || labels);
                    }
                }
            }
            Chosen::Bare(ids, names) => {
                let index = self.head.index.read();
                let mut picker = LabelPicker::new(&index, names);
                let mut locked: Option<(usize, ShardGuard<'_>)> = None;
                while !gathered.is_full()
                    && let Some(id) = ids.next()
                {
                    let (shard, slot) = locate(id);
                    if locked.as_ref().is_none_or(|(n, _)| *n != shard) {
                        drop(locked.take());
                        locked = Some((shard, self.shards[shard].lock()));
                    }
                    let slots = locked.as_ref().map(|(_, slots)| slots);
                    if let Some(Some(series)) = slots.and_then(|s| s.get(slot)) {
                        let labels = || picker.pick(&series.labels);
                        gathered.add((id, series), self.range, &self.snapshot, labels);
                    }
                }
            }
        }
        let batch = self.read(gathered);
        self.end.stats = self.end.stats.plus(FetchStats::of(&batch));
        Some(batch)
    }

    /// Reads the bytes of finished chunks. One that cannot be read is left out, with a warning.
    fn read(&mut self, gathered: Gathered) -> Vec<SeriesChunks> {
        let open_bytes = Bytes::from(gathered.open_bytes);
        let kept = gathered.kept;
        let mut out = Vec::with_capacity(gathered.series.len());
        for series in gathered.series {
            let mut chunks = ChunkList::with_capacity(series.kept.len() + 1);
            for c in &kept[series.kept] {
                match self.heads.read_chunk(&self.head, series.id, c) {
                    Some(data) => chunks.push(Chunk {
                        min_ms: c.min_ms,
                        max_ms: c.max_ms,
                        encoding: c.encoding,
                        data,
                    }),
                    None => self.miss(series.id, &series.labels, c),
                }
            }
            if let Some(open) = series.open {
                chunks.push(Chunk {
                    min_ms: open.min_ms,
                    max_ms: open.max_ms,
                    encoding: open.encoding,
                    data: open_bytes.slice(open.bytes),
                });
            }
            if !chunks.is_empty() {
                let labels = series.labels;
                out.push(SeriesChunks { labels, chunks });
            }
        }
        out
    }

    fn miss(&mut self, id: SeriesId, known: &Labels, c: &HeadChunk) {
        // What was picked may not tell which series it is.
        let labels = self.whole_labels(id).unwrap_or_else(|| known.clone());
        self.end.merge(SelectEnd {
            warnings: vec![format!(
                "samples of {labels} from {} to {} are missing: a damaged chunk of the head was set aside",
                c.min_ms, c.max_ms
            )],
            ..SelectEnd::default()
        });
    }
}

impl HeadSeries {
    fn whole_labels(&self, id: SeriesId) -> Option<Labels> {
        let index = self.head.index.read();
        let (shard, slot) = locate(id);
        let slots = self.shards.get(shard)?.lock();
        let series = slots.get(slot)?.as_ref()?;
        Some(index.labels(&series.labels, &mut LabelArena::default()))
    }
}

/// Hands out [`HeadSeries`], reading on the compute pool what is more than a few series.
#[derive(Debug)]
pub(super) struct HeadBatches {
    /// `None` after a failure.
    series: Option<HeadSeries>,
    bounds: FetchBounds,
    executor: Executor,
    cancel: CancelToken,
    _stops: CancelOnDrop,
}

impl HeadBatches {
    pub(super) fn new(series: HeadSeries, bounds: FetchBounds, executor: Executor) -> Self {
        let cancel = CancelToken::new();
        Self {
            series: Some(series),
            bounds,
            executor,
            _stops: cancel.cancel_on_drop(),
            cancel,
        }
    }
}

#[async_trait]
impl SeriesBatches for HeadBatches {
    async fn next_batch(&mut self) -> Result<Option<Vec<SeriesChunks>>> {
        let Some(mut series) = self.series.take() else {
            return Ok(None);
        };
        let (series, batch) = if series.chosen.len() <= FEW_SERIES {
            let batch = series.read_batch();
            (series, batch)
        } else {
            let job = move |_: &CancelToken| {
                let batch = series.read_batch();
                Ok::<_, Error>((series, batch))
            };
            self.executor.run(job, &self.cancel).await?
        };
        self.bounds.check(&series.end.stats)?;
        self.series = Some(series);
        Ok(batch)
    }

    fn end(&mut self) -> SelectEnd {
        let end = self.series.as_mut().map(|s| std::mem::take(&mut s.end));
        end.unwrap_or_default()
    }
}
