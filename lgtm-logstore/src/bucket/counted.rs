//! Chunks whose entries were counted already, and what of them must be read all the same.
//!
//! A minute of a chunk is taken as counted where it lies between two edges of the question, and where no other chunk of the stream, and no other
//! holder, may have the same entries. The rest of the chunk is read: its blocks that touch such minutes, and of them only those entries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lgtm_core::Result;
use lgtm_core::exec::CancelToken;
use lgtm_core::model::{Labels, TenantId, TimeRangeNs};

use super::bucket_chunks::BucketChunks;
use super::side_cache::SidePart;
use super::side_files::{SideFiles, SideKind};
use super::streams::{FoundChunk, FoundStream, FoundStreams};
use crate::select::{CountCell, CountWish, SelectRequest, StreamCounts};
use crate::skip::{ChunkCounts, MINUTE_NS};

const NS_A_MS: i64 = 1_000_000;
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
                range: request.range,
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
    range: TimeRangeNs,
    wish: CountWish,
}

/// Counts of a stream by level and part of the question.
type Cells = BTreeMap<(Option<String>, usize), CountCell>;

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
            let shared = self.shared_times(&stream.chunks);
            let mut cells = Cells::new();
            for (chunk, part) in stream.chunks.iter_mut().zip(&mut parts) {
                if let Some(SidePart::Counts(counts)) = part {
                    self.count(chunk, &counts, &stream.labels, &shared, &mut cells);
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
            for ((level, _), cell) in cells {
                match out.last_mut() {
                    Some(StreamCounts {
                        labels,
                        level: known,
                        cells,
                    }) if *known == level && *labels == stream.labels => cells.push(cell),
                    _ => out.push(StreamCounts {
                        labels: stream.labels.clone(),
                        level,
                        cells: vec![cell],
                    }),
                }
            }
        }
        Ok((streams, out))
    }

    /// Times in which several chunks of a stream, or other holders, may have the same entries: apart, ascending.
    fn shared_times(&self, chunks: &[FoundChunk]) -> Vec<TimeRangeNs> {
        let mut out: Vec<TimeRangeNs> = self.wish.except.clone();
        let span = |c: &FoundChunk| {
            let first = c.meta.min_ms.saturating_mul(NS_A_MS);
            // The index knows whole milliseconds.
            let behind = c.meta.max_ms.saturating_add(1).saturating_mul(NS_A_MS);
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

    /// Counts what it may of a chunk, and leaves the rest to be read.
    fn count(
        &self,
        chunk: &mut FoundChunk,
        counts: &ChunkCounts,
        stream: &Labels,
        shared: &[TimeRangeNs],
        cells: &mut Cells,
    ) {
        let looks_at = |name: &String| self.wish.looks_at(name, stream);
        if counts.names.iter().any(looks_at) {
            return;
        }
        let (mut read, mut taken) = (Vec::<TimeRangeNs>::new(), Vec::new());
        for (level, counted) in counts.levels.iter().enumerate() {
            for minute in &counted.minutes {
                // The times of the minute that the chunk has, first and last inclusive.
                let begin = minute.minute.saturating_mul(MINUTE_NS);
                let first = begin.saturating_add(1).max(counts.min_ns);
                let last = begin.saturating_add(MINUTE_NS).min(counts.max_ns);
                if last < self.range.min_ns || first >= self.range.max_ns {
                    continue;
                }
                let at = shared.partition_point(|r| r.max_ns <= first);
                let is_shared = shared.get(at).is_some_and(|r| r.min_ns <= last);
                let is_inside = first >= self.range.min_ns && last < self.range.max_ns;
                let part = self.wish.part_of(first);
                if !is_shared && is_inside && part == self.wish.part_of(last) {
                    taken.push((level, part, first, *minute));
                } else {
                    read.push(TimeRangeNs::new(first, last.saturating_add(1)));
                }
            }
        }
        // Whether a minute is read does not depend on the level: each is in one of the two for all of them.
        for (level, part, t_ns, minute) in taken {
            let level = counts.levels[level].level.clone();
            let cell = cells.entry((level, part)).or_insert(CountCell {
                t_ns,
                lines: 0,
                bytes: 0,
            });
            cell.lines = cell.lines.saturating_add(minute.lines);
            cell.bytes = cell.bytes.saturating_add(minute.bytes);
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
