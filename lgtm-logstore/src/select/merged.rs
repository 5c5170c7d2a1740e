//! Joining the answers of several holders.

use std::collections::{BTreeMap, VecDeque};

use async_trait::async_trait;
use lgtm_core::model::{Labels, TimeRangeNs, TimestampNs};
use lgtm_core::{Error, Result};

use super::counts::StreamCounts;
use super::end::SelectEnd;
use super::request::SelectOrder;
use super::select::{EntryBatch, EntryBatches, StreamBlock};
use crate::entry::{EntryBlock, disjoint};

/// One holder's answer.
#[derive(Debug)]
struct Source {
    rest: Box<dyn EntryBatches>,
    /// Blocks that were brought and not handed out: stream by stream only.
    queue: VecDeque<StreamBlock>,
    /// What is known of later batches, once there was one.
    horizon_ns: Option<TimestampNs>,
    is_done: bool,
}

/// Joins several answers in the order that all of them have: each entry once, no time of a stream in two blocks.
///
/// Blocks that overlap nobody pass as they are. In the order of time, what one answer has beyond the horizon of the others waits; stream
/// by stream, at most a batch of each answer does.
#[derive(Debug)]
pub struct MergedEntries {
    sources: Vec<Source>,
    order: SelectOrder,
    /// Blocks that wait for the horizon, in the order of time.
    held: Vec<StreamBlock>,
    end: SelectEnd,
}

impl MergedEntries {
    /// Joins `answers` to a request of this order.
    pub fn new(answers: Vec<Box<dyn EntryBatches>>, order: SelectOrder) -> Self {
        let source = |rest| Source {
            rest,
            queue: VecDeque::new(),
            horizon_ns: None,
            is_done: false,
        };
        Self {
            sources: answers.into_iter().map(source).collect(),
            order,
            held: Vec::new(),
            end: SelectEnd::default(),
        }
    }

    /// The answer with something to say at its end.
    #[must_use]
    pub fn ending_with(mut self, end: SelectEnd) -> Self {
        self.end.merge(end);
        self
    }

    /// Asks a source for its next batch.
    async fn pull(&mut self, place: usize) -> Result<Option<EntryBatch>> {
        let source = &mut self.sources[place];
        let batch = source.rest.next_batch().await?;
        match &batch {
            Some(batch) => source.horizon_ns = Some(batch.horizon_ns),
            None => {
                source.is_done = true;
                self.end.merge(source.rest.end());
            }
        }
        Ok(batch)
    }

    /// The blocks of one stream, joined where they overlap.
    fn join(
        &mut self,
        labels: &Labels,
        blocks: Vec<EntryBlock>,
        out: &mut Vec<StreamBlock>,
    ) -> Result<()> {
        let made = disjoint(blocks).map_err(|e| Error::LimitExceeded(e.to_string()))?;
        self.end.stats.duplicates += made.duplicates;
        out.extend(made.blocks.into_iter().map(|block| StreamBlock {
            labels: labels.clone(),
            block,
        }));
        Ok(())
    }

    async fn next_of_streams(&mut self) -> Result<Option<EntryBatch>> {
        for place in 0..self.sources.len() {
            while !self.sources[place].is_done && self.sources[place].queue.is_empty() {
                if let Some(batch) = self.pull(place).await? {
                    let blocks = batch.blocks.into_iter().filter(|b| !b.block.is_empty());
                    self.sources[place].queue.extend(blocks);
                }
            }
        }
        let fronts = self.sources.iter().filter_map(|s| s.queue.front());
        let Some(labels) = fronts.map(|b| b.labels.clone()).min() else {
            return Ok(None);
        };
        let mut taken: Vec<(usize, Vec<EntryBlock>)> = Vec::new();
        // Behind it some source may still bring entries of the stream.
        let mut frontier = TimestampNs::MAX;
        for (place, source) in self.sources.iter_mut().enumerate() {
            let mut blocks = Vec::new();
            while source.queue.front().is_some_and(|b| b.labels == labels) {
                blocks.extend(source.queue.pop_front().map(|b| b.block));
            }
            if source.queue.is_empty() && !source.is_done {
                let last = blocks.last().and_then(EntryBlock::max_ns);
                frontier = frontier.min(last.unwrap_or(TimestampNs::MAX));
            }
            taken.push((place, blocks));
        }
        let mut ready = Vec::new();
        for (place, blocks) in taken {
            for block in blocks.into_iter().rev() {
                let cut = block.times().partition_point(|t| *t <= frontier);
                if cut < block.len() {
                    self.sources[place].queue.push_front(StreamBlock {
                        labels: labels.clone(),
                        block: block.slice(cut..block.len()),
                    });
                }
                if cut > 0 {
                    ready.push(block.slice(0..cut));
                }
            }
        }
        let mut blocks = Vec::new();
        self.join(&labels, ready, &mut blocks)?;
        Ok(Some(EntryBatch {
            blocks,
            horizon_ns: TimestampNs::EPOCH,
        }))
    }

    /// Of two times the one that comes first in the order.
    fn first(&self, a: TimestampNs, b: TimestampNs) -> TimestampNs {
        match self.order {
            SelectOrder::NewestFirst => a.max(b),
            _ => a.min(b),
        }
    }

    /// The one source that is left when nothing of the others waits: what it brings is joined with nothing any more, since all that was
    /// handed out comes before its horizon.
    fn only_source(&self) -> Option<usize> {
        let mut open = (0..self.sources.len()).filter(|n| !self.sources[*n].is_done);
        let only = open.next()?;
        (open.next().is_none() && self.held.is_empty()).then_some(only)
    }

    async fn next_by_time(&mut self) -> Result<Option<EntryBatch>> {
        let (begin, end) = match self.order {
            SelectOrder::NewestFirst => (TimestampNs::MAX, TimestampNs::MIN),
            _ => (TimestampNs::MIN, TimestampNs::MAX),
        };
        loop {
            if let Some(only) = self.only_source() {
                return self.pull(only).await;
            }
            // The source that holds the others up.
            let open = self.sources.iter().enumerate().filter(|(_, s)| !s.is_done);
            let horizons = open.map(|(n, s)| (n, s.horizon_ns.unwrap_or(begin)));
            let behind = horizons.reduce(|a, b| if self.first(a.1, b.1) == a.1 { a } else { b });
            let Some((place, _)) = behind else {
                let blocks = std::mem::take(&mut self.held);
                return self.ready(blocks, end);
            };
            if let Some(batch) = self.pull(place).await? {
                self.held.extend(batch.blocks);
            }
            let open = self.sources.iter().filter(|s| !s.is_done);
            let horizon = open
                .map(|s| s.horizon_ns.unwrap_or(begin))
                .fold(end, |all, h| self.first(all, h));
            if horizon == begin {
                continue;
            }
            let (mut ready, mut held) = (Vec::new(), Vec::new());
            for b in std::mem::take(&mut self.held) {
                let before = b.block.times().partition_point(|t| *t < horizon);
                let (low, high) = (
                    b.block.slice(0..before),
                    b.block.slice(before..b.block.len()),
                );
                let (now, later) = match self.order {
                    SelectOrder::NewestFirst => (high, low),
                    _ => (low, high),
                };
                for (list, block) in [(&mut ready, now), (&mut held, later)] {
                    if !block.is_empty() {
                        list.push(StreamBlock {
                            labels: b.labels.clone(),
                            block,
                        });
                    }
                }
            }
            self.held = held;
            if !ready.is_empty() {
                return self.ready(ready, horizon);
            }
        }
    }

    /// Joins what is complete; `None` if there is nothing.
    fn ready(
        &mut self,
        blocks: Vec<StreamBlock>,
        horizon_ns: TimestampNs,
    ) -> Result<Option<EntryBatch>> {
        if blocks.is_empty() {
            return Ok(None);
        }
        let mut streams: BTreeMap<Labels, Vec<EntryBlock>> = BTreeMap::new();
        for b in blocks {
            streams.entry(b.labels).or_default().push(b.block);
        }
        let mut out = Vec::new();
        for (labels, blocks) in streams {
            self.join(&labels, blocks, &mut out)?;
        }
        match self.order {
            SelectOrder::NewestFirst => out.sort_by_key(|b| std::cmp::Reverse(b.block.max_ns())),
            _ => out.sort_by_key(|b| b.block.min_ns()),
        }
        Ok(Some(EntryBatch {
            blocks: out,
            horizon_ns,
        }))
    }
}

#[async_trait]
impl EntryBatches for MergedEntries {
    async fn next_batch(&mut self) -> Result<Option<EntryBatch>> {
        match self.order {
            SelectOrder::Streams => self.next_of_streams().await,
            _ => self.next_by_time().await,
        }
    }

    async fn next_counts(&mut self) -> Result<Option<Vec<StreamCounts>>> {
        for source in &mut self.sources {
            if let Some(counts) = source.rest.next_counts().await? {
                return Ok(Some(counts));
            }
        }
        Ok(None)
    }

    fn times(&self) -> Option<TimeRangeNs> {
        let queued = self.sources.iter().any(|s| !s.queue.is_empty());
        if queued || !self.held.is_empty() {
            return None;
        }
        let mut all: Option<TimeRangeNs> = None;
        for source in self.sources.iter().filter(|s| !s.is_done) {
            let times = source.rest.times()?;
            all = Some(match all {
                _ if times.is_empty() => all.unwrap_or(times),
                Some(all) if !all.is_empty() => {
                    TimeRangeNs::new(all.min_ns.min(times.min_ns), all.max_ns.max(times.max_ns))
                }
                _ => times,
            });
        }
        Some(all.unwrap_or(TimeRangeNs::new(0, 0)))
    }

    fn end(&mut self) -> SelectEnd {
        for source in self.sources.iter_mut().filter(|s| !s.is_done) {
            self.end.merge(source.rest.end());
        }
        std::mem::take(&mut self.end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use lgtm_core::model::{Matcher, TenantId};
    use proptest::prelude::*;

    use super::*;
    use crate::entry::EntryBlockBuilder;
    use crate::select::{MemorySelect, Select, SelectRequest};

    type Seen = (String, i64, Vec<u8>);

    fn block(entries: &[(i64, u8)]) -> EntryBlock {
        let mut b = EntryBlockBuilder::copying(0);
        for (t, line) in entries {
            b.push_copy(*t, &[*line]).unwrap();
        }
        b.finish(Arc::default())
    }

    /// All entries, with a check of the order that batches promise.
    async fn read(mut answer: MergedEntries, order: SelectOrder) -> Vec<Seen> {
        let mut out = Vec::new();
        let mut horizon = None;
        while let Some(batch) = answer.next_batch().await.unwrap() {
            for b in batch.blocks {
                for e in b.block.iter() {
                    match (order, horizon) {
                        (SelectOrder::NewestFirst, Some(h)) => assert!(e.t_ns < h),
                        (SelectOrder::OldestFirst, Some(h)) => assert!(e.t_ns >= h),
                        _ => {}
                    }
                    out.push((b.labels.to_string(), e.t_ns.get(), e.line.to_vec()));
                }
            }
            horizon = Some(batch.horizon_ns);
        }
        out
    }

    proptest! {
        #[test]
        fn several_holders_answer_as_one(
            holders in prop::collection::vec(
                prop::collection::vec((0u8..3, prop::collection::vec((0i64..60, b'a'..b'd'), 1..6)), 0..30), 1..4),
            order in prop::sample::select(vec![
                SelectOrder::Streams, SelectOrder::OldestFirst, SelectOrder::NewestFirst]),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let tenant = TenantId::new("t").unwrap();
            let matcher = Matcher::regex("a", ".+").unwrap();
            let request = SelectRequest::new(vec![matcher], TimeRangeNs::new(5, 55)).order(order);
            let mut answers = Vec::new();
            let mut wanted: BTreeSet<Seen> = BTreeSet::new();
            for holder in &holders {
                let memory = MemorySelect::default();
                for (stream, entries) in holder {
                    let labels = Labels::from_pairs([("a", stream.to_string())]).unwrap();
                    memory.push(&tenant, &labels, block(entries)).unwrap();
                    let inside = entries.iter().filter(|e| (5..55).contains(&e.0));
                    wanted.extend(inside.map(|e| (labels.to_string(), e.0, vec![e.1])));
                }
                answers.push(runtime.block_on(memory.select(&tenant, &request)).unwrap());
            }
            let got = runtime.block_on(read(MergedEntries::new(answers, order), order));
            if order == SelectOrder::Streams {
                prop_assert!(got.is_sorted_by(|a, b| (&a.0, a.1) <= (&b.0, b.1)));
            }
            let mut sorted = got;
            sorted.sort();
            // A holder's own block may say a thing twice.
            sorted.dedup();
            prop_assert_eq!(sorted, wanted.into_iter().collect::<Vec<_>>());
        }
    }
}
