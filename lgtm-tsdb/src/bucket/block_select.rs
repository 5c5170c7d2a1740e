//! Answering a select from one block.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::exec::{TaskGroup, TaskHandle};
use lgtm_core::index::MatchedSeries;
use lgtm_core::model::Labels;
use lgtm_core::{Error, Result};
use tokio::runtime::Handle;

use crate::block::BlockReader;
use crate::index::ChunkRefMeta;
use crate::select::{ChunkList, FetchStats, SelectEnd, SelectRequest, SeriesBatches, SeriesChunks};

/// Batches that are read ahead while the one before is worked on.
const AHEAD: usize = 2;

/// The series of one block, batch by batch: index entries and chunks of a batch are read together, and while one is worked on the
/// next ones are read and decoded on other threads.
#[derive(Debug)]
pub(super) struct BlockBatches {
    block: Arc<BlockSeries>,
    next: usize,
    /// References whose series were handed out, or that hold nothing of what is asked for.
    handed_out: usize,
    stats: FetchStats,
    batch_series: usize,
    /// In order; those left over end when this is dropped.
    ahead: VecDeque<ReadAhead>,
    tasks: Option<TaskGroup>,
}

/// A batch that is being read, and how many references it is of.
type ReadAhead = (usize, TaskHandle<Result<Vec<SeriesChunks>>>);

/// Series of one block that are asked for.
#[derive(Debug)]
struct BlockSeries {
    reader: Arc<BlockReader>,
    matched: MatchedSeries,
    request: SelectRequest,
}

impl BlockBatches {
    pub(super) fn new(
        reader: Arc<BlockReader>,
        matched: MatchedSeries,
        request: SelectRequest,
        batch_series: usize,
    ) -> Self {
        Self {
            block: Arc::new(BlockSeries {
                reader,
                matched,
                request,
            }),
            next: 0,
            handed_out: 0,
            stats: FetchStats::default(),
            batch_series,
            ahead: VecDeque::new(),
            tasks: None,
        }
    }

    /// Whether the series that are wanted for sure are within the bounds; the others are counted as they are found.
    ///
    /// # Errors
    /// `LimitExceeded`.
    pub(super) fn check_bounds(&self) -> Result<()> {
        if self.block.is_sifted() {
            return Ok(());
        }
        let series = self.block.matched.refs.len() as u64;
        self.block.request.bounds.check(&FetchStats {
            series,
            ..FetchStats::default()
        })
    }

    /// What was brought so far.
    pub(super) fn stats(&self) -> FetchStats {
        self.stats
    }

    /// Goes on with another reader of the same block, from the batch that was not handed out.
    pub(super) fn reopened(&mut self, reader: Arc<BlockReader>) {
        self.ahead.clear();
        self.next = self.handed_out;
        self.block = Arc::new(BlockSeries {
            reader,
            matched: self.block.matched.clone(),
            request: self.block.request.clone(),
        });
    }

    /// Counts a batch that is about to be handed out, and the references behind it.
    fn hand_out(
        &mut self,
        references: usize,
        batch: Vec<SeriesChunks>,
    ) -> Result<Option<Vec<SeriesChunks>>> {
        self.handed_out += references;
        self.stats = self.stats.plus(FetchStats::of(&batch));
        self.block.request.bounds.check(&self.stats)?;
        Ok(Some(batch))
    }

    fn take_range(&mut self) -> Option<Range<usize>> {
        let range = self.next..(self.next + self.batch_series).min(self.block.matched.refs.len());
        self.next = range.end;
        (!range.is_empty()).then_some(range)
    }
}

impl BlockSeries {
    /// Whether which series are wanted is known only when their labels are read.
    fn is_sifted(&self) -> bool {
        self.request.shard.is_some() || !self.matched.pending.is_empty()
    }

    fn takes(&self, labels: &Labels) -> bool {
        self.matched.takes(labels) && self.request.takes(labels)
    }

    async fn read_batch(&self, range: Range<usize>) -> Result<Vec<SeriesChunks>> {
        let index = self.reader.index();
        let entries = index.series_entries(&self.matched.refs[range]).await?;
        let mut labels = index.labels_of(&entries).await?;
        let mut out = Vec::with_capacity(entries.len());
        let mut wanted: Vec<ChunkRefMeta> = Vec::with_capacity(entries.len());
        let range = self.request.range;
        // The series that hold something in the range, and how many chunks.
        let mut kept = Vec::with_capacity(entries.len());
        for entry in entries.iter() {
            let before = wanted.len();
            let inside = |c: &&ChunkRefMeta| c.min_ms < range.max_ms && c.max_ms >= range.min_ms;
            wanted.extend(entry.chunks.iter().filter(inside));
            if wanted.len() == before {
                continue;
            }
            let labels = labels.of(&entry)?;
            if !self.takes(&labels) {
                wanted.truncate(before);
                continue;
            }
            kept.push((entry.reference, wanted.len() - before));
            out.push(SeriesChunks {
                labels,
                chunks: ChunkList::new(),
            });
        }
        let mut chunks = self.reader.chunks().read(&wanted).await?.into_iter();
        for (series, (reference, count)) in out.iter_mut().zip(kept) {
            series.chunks.reserve_exact(count);
            series.chunks.extend(chunks.by_ref().take(count));
            let whole = std::mem::take(&mut series.chunks);
            let kept = self.reader.tombstones().apply(reference, whole);
            series.chunks = kept.map_err(|e| {
                let place = format!("block {}, series {reference}", self.reader.meta().ulid);
                Error::corrupt(place, e)
            })?;
        }
        Ok(out)
    }
}

#[async_trait]
impl SeriesBatches for BlockBatches {
    async fn next_batch(&mut self) -> Result<Option<Vec<SeriesChunks>>> {
        if self.ahead.is_empty() && self.block.matched.refs.len() - self.next <= self.batch_series {
            // The last one, and often the only one: nobody would gain by another thread.
            return match self.take_range() {
                Some(range) => {
                    let references = range.len();
                    let batch = self.block.read_batch(range).await?;
                    self.hand_out(references, batch)
                }
                None => Ok(None),
            };
        }
        while self.ahead.len() <= AHEAD
            && let Some(range) = self.take_range()
        {
            let references = range.len();
            let block = Arc::clone(&self.block);
            let tasks = self
                .tasks
                .get_or_insert_with(|| TaskGroup::new(Handle::current()));
            let read = async move { block.read_batch(range).await };
            self.ahead
                .push_back((references, tasks.spawn("block-series", read)));
        }
        match self.ahead.pop_front() {
            Some((references, read)) => {
                let batch = read.await??;
                self.hand_out(references, batch)
            }
            None => Ok(None),
        }
    }

    fn end(&mut self) -> SelectEnd {
        SelectEnd {
            stats: self.stats,
            ..SelectEnd::default()
        }
    }
}
