//! Joining the answers of several holders.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use async_trait::async_trait;
use lgtm_core::Result;

use super::end::SelectEnd;
use super::select::{ChunkList, SeriesBatches, SeriesChunks};

/// One holder's answer, with the batch that is being handed out.
#[derive(Debug)]
struct HolderAnswer {
    rest: Box<dyn SeriesBatches>,
    batch: std::vec::IntoIter<SeriesChunks>,
}

/// The next series of a source.
#[derive(Debug)]
struct NextSeries {
    series: SeriesChunks,
    source: usize,
}

/// Ordered so that the greatest is the one to take: least labels, then first source.
impl Ord for NextSeries {
    fn cmp(&self, other: &Self) -> Ordering {
        let labels = other.series.labels.cmp(&self.series.labels);
        labels.then_with(|| other.source.cmp(&self.source))
    }
}

impl PartialOrd for NextSeries {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for NextSeries {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for NextSeries {}

/// Joins several answers: series in label order, the chunks of equal label sets together, those of earlier sources first.
///
/// Costs a comparison of labels per series and doubling of the sources.
#[derive(Debug)]
pub struct MergedSeries {
    sources: Vec<HolderAnswer>,
    /// The next series of every source that is not at its end and not in `empty`.
    next: BinaryHeap<NextSeries>,
    /// Sources that must be asked before another series can be taken.
    empty: Vec<usize>,
    /// Sources that are not at their end.
    open: usize,
    batch_size: usize,
    /// Whether equal chunks of a series are one.
    of_replicas: bool,
    end: SelectEnd,
}

impl MergedSeries {
    /// Joins `answers`; batches have at most `batch_size` series.
    pub fn new(answers: Vec<Box<dyn SeriesBatches>>, batch_size: usize) -> Self {
        let source = |rest| HolderAnswer {
            rest,
            batch: Vec::new().into_iter(),
        };
        let sources: Vec<HolderAnswer> = answers.into_iter().map(source).collect();
        Self {
            empty: (0..sources.len()).rev().collect(),
            open: sources.len(),
            sources,
            next: BinaryHeap::new(),
            batch_size: batch_size.max(1),
            of_replicas: false,
            end: SelectEnd::default(),
        }
    }

    /// The answer with something to say at its end.
    #[must_use]
    pub fn ending_with(mut self, end: SelectEnd) -> Self {
        self.end.merge(end);
        self
    }

    /// The answers are those of replicas: of equal chunks of a series one is kept, so that they count once and are decoded once. Costs a comparison
    /// of the bytes.
    #[must_use]
    pub fn of_replicas(mut self) -> Self {
        self.of_replicas = true;
        self
    }

    /// Brings a series of every source into `next`, or the source to its end.
    async fn fill(&mut self) -> Result<()> {
        while let Some(&n) = self.empty.last() {
            let source = &mut self.sources[n];
            if let Some(series) = source.batch.next() {
                self.next.push(NextSeries { series, source: n });
                self.empty.pop();
                continue;
            }
            match source.rest.next_batch().await? {
                Some(batch) => source.batch = batch.into_iter(),
                None => {
                    self.end.merge(source.rest.end());
                    self.open -= 1;
                    self.empty.pop();
                }
            }
        }
        Ok(())
    }

    /// Takes the least series out of all sources, which [`MergedSeries::fill`] has filled.
    fn take_least(&mut self) -> Option<SeriesChunks> {
        let mut out = self.take_next()?;
        while let Some(next) = self.next.peek()
            && next.series.labels == out.labels
        {
            match self.take_next() {
                Some(more) if self.of_replicas => unite(&mut out.chunks, more.chunks),
                Some(more) => out.chunks.extend(more.chunks),
                None => break,
            }
        }
        Some(out)
    }

    /// The next series; the one behind it in its source takes its place.
    fn take_next(&mut self) -> Option<SeriesChunks> {
        let mut top = self.next.peek_mut()?;
        let n = top.source;
        match self.sources[n].batch.next() {
            Some(series) => Some(std::mem::replace(&mut top.series, series)),
            None => {
                self.empty.push(n);
                Some(PeekMut::pop(top).series)
            }
        }
    }
}

/// Adds the chunks that are not there yet. Replicas have theirs in the same order, so that most are found where they stand.
fn unite(all: &mut ChunkList, more: ChunkList) {
    let known = all.len();
    for (n, chunk) in more.into_iter().enumerate() {
        let is_known = all.get(n) == Some(&chunk) || all[..known].contains(&chunk);
        if !is_known {
            all.push(chunk);
        }
    }
}

#[async_trait]
impl SeriesBatches for MergedSeries {
    async fn next_batch(&mut self) -> Result<Option<Vec<SeriesChunks>>> {
        let mut out = Vec::new();
        while out.len() < self.batch_size {
            // A series that was taken alone may have an equal in a source that must be asked first.
            self.fill().await?;
            if self.open == 1
                && out.is_empty()
                && let Some(NextSeries { series, source }) = self.next.pop()
            {
                // Nobody else has anything: what is left of the batch passes as it is.
                self.empty.push(source);
                let rest = &mut self.sources[source].batch;
                let mut batch = Vec::with_capacity(1 + rest.len());
                batch.push(series);
                batch.extend(rest);
                return Ok(Some(batch));
            }
            match self.take_least() {
                Some(series) => out.push(series),
                None => break,
            }
        }
        Ok((!out.is_empty()).then_some(out))
    }

    fn end(&mut self) -> SelectEnd {
        std::mem::take(&mut self.end)
    }
}
