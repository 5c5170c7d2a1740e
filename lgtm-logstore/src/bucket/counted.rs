//! Chunks whose entries were counted already, and what of them must be read all the same.
//!
//! A minute of a chunk is taken as counted where it lies between two edges of the question, and where no other chunk of the stream, and no other
//! holder, may have the same entries. The rest of the chunk is read: its blocks that touch such minutes, and of them only those entries.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lgtm_core::Result;
use lgtm_core::exec::CancelToken;
use lgtm_core::model::{Labels, TenantId, TimeRangeNs, TimestampNs};

use super::bucket_chunks::BucketChunks;
use super::side_cache::{KnownCounts, SidePart};
use super::side_files::{SideFiles, SideKind};
use super::streams::{FoundChunk, FoundStream, FoundStreams};
use crate::select::{CountCell, CountWish, SelectRequest, StreamCounts};
use crate::skip::{ChunkCounts, MINUTE_NS};

/// Chunks that are looked up at once.
const BATCH_CHUNKS: usize = 4096;

impl BucketChunks {
    /// Takes out of `found` what is counted already.
    ///
    /// # Errors
    /// When the pool is shut down.
    pub(super) async fn counted(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
        wish: &CountWish,
        mut found: FoundStreams,
    ) -> Result<(FoundStreams, Vec<StreamCounts>)> {
        let Some(side) = self.side.clone() else {
            return Ok((found, Vec::new()));
        };
        let mut counts = Vec::new();
        let mut done: Vec<FoundStream> = Vec::with_capacity(found.streams.len());
        let executor = self.files.executor.in_line(tenant.as_str());
        let mut rest = std::mem::take(&mut found.streams).into_iter().peekable();
        while rest.peek().is_some() {
            // Whole streams, since their chunks are held against each other.
            let (mut streams, mut chunks) = (Vec::new(), Vec::new());
            while chunks.len() < BATCH_CHUNKS
                && let Some(stream) = rest.next()
            {
                chunks.extend(stream.chunks.iter().cloned());
                streams.push(stream);
            }
            let parts = side.parts(tenant, &chunks, SideKind::Counts).await;
            let job = CountJob {
                side: Arc::clone(&side),
                request: request.clone(),
                wish: wish.clone(),
            };
            let work = move |cancel: &CancelToken| job.run(streams, parts, cancel);
            let (mut some, mut counted) = executor.run(work, &CancelToken::new()).await?;
            done.append(&mut some);
            counts.append(&mut counted);
        }
        found.streams = done;
        Ok((found, counts))
    }
}

#[derive(Debug)]
struct CountJob {
    side: Arc<SideFiles>,
    request: SelectRequest,
    wish: CountWish,
}

/// Which times of a stream are wanted.
#[derive(Debug)]
struct WantedTimes {
    range: TimeRangeNs,
    /// Where several chunks, or other holders, may have the same entries: apart, ascending.
    shared: Vec<TimeRangeNs>,
}

impl WantedTimes {
    /// Whether entries between two times, both inclusive, are wanted and nobody else has them.
    fn are_countable(&self, first: TimestampNs, last: TimestampNs) -> bool {
        let at = self.shared.partition_point(|r| r.max_ns <= first);
        let is_shared = self.shared.get(at).is_some_and(|r| r.min_ns <= last);
        first >= self.range.min_ns && last < self.range.max_ns && !is_shared
    }
}

/// Counts of a stream by level and part of the question: few, as streams have few levels and chunks lie in few parts.
#[derive(Debug, Default)]
struct Cells(Vec<(Option<String>, LevelCells)>);

/// By parts of the question, in order.
type LevelCells = Vec<(usize, CountCell)>;

impl Cells {
    /// Adds entries of a level in a part, one of which is at `t_ns`.
    fn add(
        &mut self,
        level: Option<&str>,
        part: usize,
        t_ns: TimestampNs,
        (lines, bytes): (u64, u64),
    ) {
        let known = self.0.iter().position(|(l, _)| l.as_deref() == level);
        let place = known.unwrap_or_else(|| {
            self.0.push((level.map(str::to_owned), Vec::new()));
            self.0.len() - 1
        });
        let parts = &mut self.0[place].1;
        // Chunks and minutes come in order of time, nearly.
        let at = match parts.last() {
            Some((last, _)) if *last == part => parts.len() - 1,
            _ => match parts.binary_search_by_key(&part, |(p, _)| *p) {
                Ok(at) => at,
                Err(at) => {
                    let none = CountCell {
                        t_ns,
                        lines: 0,
                        bytes: 0,
                    };
                    parts.insert(at, (part, none));
                    at
                }
            },
        };
        let cell = &mut parts[at].1;
        cell.lines = cell.lines.saturating_add(lines);
        cell.bytes = cell.bytes.saturating_add(bytes);
    }

    /// What a stream of these labels has, in order of the levels.
    fn of_stream(mut self, labels: &Labels) -> impl Iterator<Item = StreamCounts> {
        self.0.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        self.0.into_iter().map(|(level, parts)| StreamCounts {
            labels: labels.clone(),
            level,
            cells: parts.into_iter().map(|(_, cell)| cell).collect(),
        })
    }
}

impl CountJob {
    fn run(
        &self,
        mut streams: Vec<FoundStream>,
        parts: Vec<Option<SidePart>>,
        cancel: &CancelToken,
    ) -> Result<(Vec<FoundStream>, Vec<StreamCounts>)> {
        let mut out = Vec::new();
        let mut parts = parts.into_iter();
        for stream in &mut streams {
            cancel.check("counting log chunks")?;
            let times = WantedTimes {
                range: self.request.range_of(&stream.labels),
                shared: self.shared_times(&stream.chunks),
            };
            let mut cells = Cells::default();
            for (chunk, part) in stream.chunks.iter_mut().zip(&mut parts) {
                match part {
                    Some(SidePart::Counts(counts)) => {
                        self.count(chunk, &counts, &stream.labels, &times, &mut cells);
                    }
                    Some(SidePart::Batch(batch, number)) => {
                        // Where it is damaged, the chunk is read.
                        if let Ok(Some(counts)) = batch.chunk(number) {
                            let counts = KnownCounts::from(counts);
                            self.count(chunk, &counts, &stream.labels, &times, &mut cells);
                        }
                    }
                    _ => {}
                }
            }
            let before = stream.chunks.len();
            let is_read = |c: &FoundChunk| !c.times.as_ref().is_some_and(|t| t.is_empty());
            stream.chunks.retain(is_read);
            let counted = (before - stream.chunks.len()) as u64;
            self.side
                .counts
                .counted
                .fetch_add(counted, Ordering::Relaxed);
            out.extend(cells.of_stream(&stream.labels));
        }
        Ok((streams, out))
    }

    /// Times in which several chunks of a stream, or other holders, may have the same entries: apart, ascending.
    fn shared_times(&self, chunks: &[FoundChunk]) -> Vec<TimeRangeNs> {
        let mut out: Vec<TimeRangeNs> = self.wish.except.clone();
        let span = |c: &FoundChunk| {
            let first = c.meta.min_ms.to_ns();
            // The index knows whole milliseconds.
            let behind = c.meta.max_ms.saturating_add(1).to_ns();
            TimeRangeNs::new(first, behind)
        };
        // In order of their first times: one shares what it has with those before it up to the last of their ends.
        let mut before: Option<TimeRangeNs> = None;
        for chunk in chunks {
            let own = span(chunk);
            if let Some(before) = before
                && own.min_ns < before.max_ns
            {
                out.push(TimeRangeNs::new(own.min_ns, own.max_ns.min(before.max_ns)));
            }
            before = Some(match before {
                Some(before) => TimeRangeNs::new(before.min_ns, before.max_ns.max(own.max_ns)),
                None => own,
            });
        }
        out.retain(|r| !r.is_empty());
        out.sort_unstable_by_key(|r| r.min_ns);
        let mut apart: Vec<TimeRangeNs> = Vec::with_capacity(out.len());
        for range in out {
            match apart.last_mut() {
                Some(last) if range.min_ns <= last.max_ns => {
                    last.max_ns = last.max_ns.max(range.max_ns);
                }
                _ => apart.push(range),
            }
        }
        apart
    }

    /// The part that all entries of a chunk are in, where all of them may be counted.
    fn part_of_all(&self, counts: &ChunkCounts, times: &WantedTimes) -> Option<usize> {
        self.part_of(counts.min_ns, counts.max_ns, times)
    }

    /// The part that all entries between two times, both inclusive, are in, where they may be counted.
    fn part_of(&self, first: TimestampNs, last: TimestampNs, times: &WantedTimes) -> Option<usize> {
        let part = self.wish.part_of(first);
        (times.are_countable(first, last) && part == self.wish.part_of(last)).then_some(part)
    }

    /// Counts what it may of a chunk, and leaves the rest to be read.
    fn count(
        &self,
        chunk: &mut FoundChunk,
        known: &KnownCounts,
        stream: &Labels,
        times: &WantedTimes,
        cells: &mut Cells,
    ) {
        let counts = &known.counts;
        let looks_at = |name: &String| self.wish.looks_at(name, stream);
        if counts.names.iter().any(looks_at) {
            return;
        }
        if let Some(part) = self.part_of_all(counts, times) {
            let levels = counts.levels.iter().zip(&known.totals);
            for (level, total) in levels.filter(|(_, total)| total.0 > 0) {
                cells.add(level.level.as_deref(), part, counts.min_ns, *total);
            }
            chunk.times = Some(Arc::default());
            return;
        }
        if !known.is_by_minute {
            return;
        }
        let (mut read, mut taken) = (Vec::<TimeRangeNs>::new(), Vec::new());
        for (level, counted) in counts.levels.iter().enumerate() {
            for minute in &counted.minutes {
                // The times of the minute that the chunk has, first and last inclusive.
                let begin = TimestampNs::new(minute.minute.saturating_mul(MINUTE_NS));
                let first = begin.saturating_add(1).max(counts.min_ns);
                let last = begin.saturating_add(MINUTE_NS).min(counts.max_ns);
                let range = times.range;
                if last < range.min_ns || first >= range.max_ns {
                    continue;
                }
                match self.part_of(first, last, times) {
                    Some(part) => taken.push((level, part, first, *minute)),
                    None => read.push(TimeRangeNs::new(
                        first.max(range.min_ns),
                        last.saturating_add(1).min(range.max_ns),
                    )),
                }
            }
        }
        // Whether a minute is read does not depend on the level: each is in one of the two for all of them.
        for (level, part, t_ns, minute) in taken {
            let level = counts.levels[level].level.as_deref();
            cells.add(level, part, t_ns, (minute.lines, minute.bytes));
        }
        read.sort_unstable_by_key(|r| r.min_ns);
        read.dedup();
        let mut apart: Vec<TimeRangeNs> = Vec::new();
        for range in read {
            match apart.last_mut() {
                Some(last) if last.max_ns == range.min_ns => last.max_ns = range.max_ns,
                _ => apart.push(range),
            }
        }
        chunk.times = Some(apart.into());
    }
}
