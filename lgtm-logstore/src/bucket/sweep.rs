//! In which order chunks are loaded and their blocks decoded.
//!
//! Every chunk is *due* at the time by which it may have entries: its first in ascending order, its last in descending order, as the index
//! tells it; once it is loaded, those of its next block. The sweep takes what is due first. Whatever a stream has before all that is still due
//! of it is complete and is handed out. So no more is held than what overlaps, and who stops reading early loads and decodes little more than
//! what was read.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::codec::DecodeFail;
use lgtm_core::exec::{Executor, TaskGroup, TaskHandle, in_place};
use lgtm_core::model::{Labels, TenantId, TimeRangeNs, TimestampNs, merge_warnings};
use lgtm_core::{Error, Result};
use memchr::memmem::Finder;

use super::chunk_source::{ChunkSource, LoadedChunk};
use super::chunk_wish::ChunkWish;
use super::due_blocks::{Decoded, DueBlock, decode, needles_of};
use super::screen::Screen;
use super::settings::BucketSettings;
use super::side_files::SideFiles;
use super::streams::{FoundChunk, FoundStreams};
use crate::chunk::{BlockPlace, ChunkKey};
use crate::entry::{EntryBlock, disjoint};
use crate::index::ChunkMeta;
use crate::select::{
    EntryBatch, EntryBatches, FetchStats, SelectEnd, SelectOrder, SelectRequest, StreamBlock,
    StreamCounts,
};
use crate::skip::BlockChoice;

/// Bytes of decompressed blocks in a batch, by their chunks' tables; a single larger block comes alone.
const BATCH_BYTES: u64 = 4 << 20;
/// Chunks that are put in order in less time than another thread needs to wake up.
const SORTED_AT_ONCE: usize = 4096;
/// Bytes that a chunk is taken to have for each byte that the index counts, until it was loaded.
const COMPRESSED_PART: u64 = 4;

/// When something is due: the stream's place, where streams come one after the other, else 0; then the time, its bits turned over where the
/// newest come first.
type Due = (u32, i64);

/// Where a chunk is.
#[derive(Debug)]
enum RunState {
    Away,
    Coming(TaskHandle<Result<Result<LoadedChunk, String>>>),
    Here(Arc<LoadedChunk>),
}

/// A chunk on its way through the sweep.
#[derive(Debug)]
struct ChunkRun {
    stream: u32,
    found: FoundChunk,
    state: RunState,
    due: Due,
    /// What is left of its blocks of the range, the next one first; `None` before it was loaded.
    blocks: Option<VecDeque<BlockPlace>>,
    /// Bytes of its object, as far as is known.
    size_bytes: u64,
    /// Blocks that may have something of interest; `None`: all.
    choice: Option<BlockChoice>,
}

#[derive(Debug)]
struct SweepStream {
    labels: Labels,
    /// Its chunks that are not done, without those that wait.
    due: BTreeSet<(Due, u32)>,
    /// Decoded, and not complete yet.
    held: Vec<EntryBlock>,
}

/// The entries of many chunks in the order of a request.
#[derive(Debug)]
pub(super) struct ChunkSweep {
    source: Arc<ChunkSource>,
    executor: Executor,
    tasks: TaskGroup,
    tenant: TenantId,
    request: SelectRequest,
    concurrency: usize,
    max_loaded_bytes: u64,
    batch_blocks: usize,
    runs: Vec<ChunkRun>,
    streams: Vec<SweepStream>,
    /// Chunks that nobody has looked at yet, in their order.
    waiting: std::vec::IntoIter<(Due, u32)>,
    /// The other chunks that are not done.
    due: BTreeSet<(Due, u32)>,
    /// Streams whose blocks may have become complete.
    touched: BTreeSet<u32>,
    /// Streams with blocks that are not complete.
    holding: BTreeSet<u32>,
    loaded: BTreeSet<u32>,
    loaded_bytes: u64,
    coming: BTreeSet<u32>,
    coming_bytes: u64,
    /// Entries that the reader is taken to want before it stops; 0: it reads all.
    wanted: u64,
    handed_out: u64,
    /// Chunks beyond those that the wanted entries need that are loaded ahead, where the reader may stop: grows as it does not.
    ahead: usize,
    /// What side files can tell of chunks before they are loaded.
    screen: Option<Screen>,
    /// What finds the bytes that each line of interest holds.
    needles: Arc<[Finder<'static>]>,
    /// What was counted already.
    counts: std::vec::IntoIter<StreamCounts>,
    end: SelectEnd,
}

/// Bytes of a chunk's object, about.
fn expected_bytes(meta: &ChunkMeta) -> u64 {
    (u64::from(meta.kb) * 1024 / COMPRESSED_PART).max(4096)
}

impl ChunkSweep {
    pub(super) fn new(
        source: Arc<ChunkSource>,
        executor: Executor,
        tenant: &TenantId,
        request: SelectRequest,
        found: FoundStreams,
        settings: &BucketSettings,
    ) -> Self {
        let mut sweep = Self {
            source,
            tasks: executor.task_group(),
            executor: executor.in_line(tenant.as_str()),
            tenant: tenant.clone(),
            concurrency: settings.chunk_concurrency,
            max_loaded_bytes: settings.chunk_memory.as_u64(),
            batch_blocks: settings.batch_blocks,
            runs: Vec::new(),
            streams: Vec::with_capacity(found.streams.len()),
            waiting: Vec::new().into_iter(),
            due: BTreeSet::new(),
            touched: BTreeSet::new(),
            holding: BTreeSet::new(),
            loaded: BTreeSet::new(),
            loaded_bytes: 0,
            coming: BTreeSet::new(),
            coming_bytes: 0,
            wanted: request.hints.entries as u64,
            handed_out: 0,
            ahead: 0,
            screen: None,
            needles: needles_of(&request.hints),
            counts: Vec::new().into_iter(),
            end: SelectEnd {
                warnings: found.warnings,
                ..SelectEnd::default()
            },
            request,
        };
        sweep.end.stats.streams = found.streams.len() as u64;
        let mut waiting = Vec::new();
        for (n, stream) in found.streams.into_iter().enumerate() {
            let n = n as u32;
            for found in stream.chunks {
                let meta = &found.meta;
                let first = meta.min_ms.to_ns();
                let last = meta.max_ms.to_ns();
                let run = sweep.runs.len() as u32;
                let at = sweep.due_at(n, first, last);
                waiting.push((at, run));
                sweep.runs.push(ChunkRun {
                    stream: n,
                    state: RunState::Away,
                    due: at,
                    blocks: None,
                    choice: None,
                    size_bytes: expected_bytes(meta),
                    found,
                });
            }
            sweep.streams.push(SweepStream {
                labels: stream.labels,
                due: BTreeSet::new(),
                held: Vec::new(),
            });
        }
        sweep.end.stats.chunks_referenced = sweep.runs.len() as u64;
        if waiting.len() > SORTED_AT_ONCE {
            in_place(|| waiting.sort_unstable());
        } else {
            waiting.sort_unstable();
        }
        sweep.waiting = waiting.into_iter();
        sweep
    }

    /// Has it leave out what `side` knows to have nothing of interest.
    pub(super) fn screened_by(mut self, side: Option<Arc<SideFiles>>) -> Self {
        self.screen = side.and_then(|side| Screen::new(side, &self.request.hints));
        self
    }

    /// Has it bring what was counted already.
    pub(super) fn with_counts(mut self, counts: Vec<StreamCounts>) -> Self {
        self.counts = counts.into_iter();
        self
    }

    /// The first of the chunks that wait.
    fn first_waiting(&self) -> Option<Due> {
        self.waiting.as_slice().first().map(|(due, _)| *due)
    }

    /// Takes in the chunks that are due next, but those that have nothing of interest as the side files tell.
    async fn look_ahead(&mut self) -> Result<()> {
        if self.first_waiting().is_none() {
            return Ok(());
        }
        let Some(mut screen) = self.screen.take() else {
            let all: Vec<u32> = self.waiting.by_ref().map(|(_, run)| run).collect();
            self.admit(all.into_iter());
            return Ok(());
        };
        loop {
            let reach = self.concurrency + self.loaded.len() + self.coming.len();
            let last = self.due.iter().nth(reach).map(|(due, _)| *due);
            let Some(first) = self.first_waiting() else {
                break;
            };
            if last.is_some_and(|last| last < first) {
                break;
            }
            let new = self.waiting.by_ref().take(screen.next_count());
            let new: Vec<u32> = new.map(|(_, run)| run).collect();
            let of = |run: &u32| &self.runs[*run as usize];
            let chunks = new.iter().map(|run| of(run).found.clone()).collect();
            let streams = new.iter().map(|run| of(run).stream as usize);
            let streams = streams.map(|s| self.streams[s].labels.clone()).collect();
            let choices = screen
                .choices(&self.tenant, chunks, streams, &self.executor)
                .await?;
            let is_of_interest = |choice: &Option<BlockChoice>| {
                !choice
                    .as_ref()
                    .is_some_and(|c| c.is_empty() && c.block_count() > 0)
            };
            let mut admitted = Vec::new();
            for (run, choice) in new.into_iter().zip(choices) {
                if is_of_interest(&choice) {
                    self.runs[run as usize].choice = choice;
                    admitted.push(run);
                }
            }
            self.admit(admitted.into_iter());
        }
        self.screen = Some(screen);
        Ok(())
    }

    /// Takes in chunks that waited; the others that were before those that still wait have nothing of interest.
    fn admit(&mut self, runs: impl ExactSizeIterator<Item = u32>) {
        let mut new = Vec::with_capacity(runs.len());
        for run in runs {
            let chunk = &self.runs[run as usize];
            new.push((chunk.due, run));
            let of_stream = &mut self.streams[chunk.stream as usize].due;
            of_stream.insert((chunk.due, run));
        }
        // Quick, as they are in order.
        self.due.append(&mut BTreeSet::from_iter(new));
        self.touched.extend(&self.holding);
    }

    fn is_newest_first(&self) -> bool {
        self.request.order == SelectOrder::NewestFirst
    }

    /// When what has entries from `first` to `last` is due.
    fn due_at(&self, stream: u32, first: TimestampNs, last: TimestampNs) -> Due {
        match self.request.order {
            SelectOrder::Streams => (stream, first.get()),
            SelectOrder::OldestFirst => (0, first.get()),
            SelectOrder::NewestFirst => (0, !last.get()),
        }
    }

    fn key(&self, run: u32) -> ChunkKey {
        let found = &self.runs[run as usize].found;
        ChunkKey {
            tenant: self.tenant.as_str().to_owned(),
            fingerprint: found.fingerprint,
            from_ms: found.meta.min_ms,
            through_ms: found.meta.max_ms,
            checksum: found.meta.checksum,
        }
    }

    fn begin_load(&mut self, run: u32) {
        let (source, executor, key) = (
            Arc::clone(&self.source),
            self.executor.clone(),
            self.key(run),
        );
        let wish = self.wish(run);
        let whole_bytes = expected_bytes(&self.runs[run as usize].found.meta);
        let load = async move { source.load_for(&key, &wish, whole_bytes, &executor).await };
        self.coming_bytes += self.runs[run as usize].size_bytes;
        self.coming.insert(run);
        self.runs[run as usize].state = RunState::Coming(self.tasks.spawn("log-chunk", load));
    }

    /// Begins to load what is due first, and as much behind it as the bounds and the reader's hint allow.
    fn load_ahead(&mut self) {
        let (mut entries, mut beyond, mut begun) = (0u64, 0usize, Vec::new());
        let mut bytes = self.loaded_bytes + self.coming_bytes;
        let mut room = self.concurrency.saturating_sub(self.coming.len());
        // Loaded chunks stand among the first ones, as many as the bound on their bytes lets; behind them there is nothing to look for.
        let reach = self.concurrency + self.loaded.len() + self.coming.len();
        for (place, &(_, run)) in self.due.iter().take(reach).enumerate() {
            if self.wanted > 0 && entries >= self.wanted {
                beyond += 1;
                if beyond > self.ahead {
                    break;
                }
            }
            let chunk = &self.runs[run as usize];
            let next = chunk.blocks.as_ref().and_then(VecDeque::front);
            entries += next.map_or(u64::from(chunk.found.meta.entries), |b| b.entry_count);
            if !matches!(chunk.state, RunState::Away) {
                continue;
            }
            let fits = bytes + chunk.size_bytes <= self.max_loaded_bytes && room > 0;
            if !fits && place > 0 {
                break;
            }
            begun.push((place, run));
            bytes += chunk.size_bytes;
            room = room.saturating_sub(1);
        }
        for (place, run) in begun {
            if place == 0 && self.handed_out > 0 && self.wanted > 0 {
                // The reader has come here without stopping.
                self.ahead = (2 * self.ahead + 1).min(self.concurrency);
            }
            self.begin_load(run);
        }
    }

    /// Waits for a chunk that is on its way.
    async fn arrive(&mut self, run: u32) -> Result<()> {
        let before = std::mem::replace(&mut self.runs[run as usize].state, RunState::Away);
        let RunState::Coming(load) = before else {
            return Ok(());
        };
        self.coming.remove(&run);
        self.coming_bytes -= self.runs[run as usize].size_bytes;
        match load.await?? {
            Ok(chunk) => self.take_loaded(run, chunk),
            Err(warning) => {
                merge_warnings(&mut self.end.warnings, vec![warning]);
                self.finish(run);
                Ok(())
            }
        }
    }

    fn take_loaded(&mut self, run: u32, loaded: LoadedChunk) -> Result<()> {
        let stats = &mut self.end.stats;
        stats.chunks_downloaded += 1;
        stats.chunks_download_ns += loaded.load_ns;
        stats.compressed_bytes += loaded.size_bytes;
        self.request.bounds.check(stats)?;
        if let Some(fault) = &loaded.fault {
            merge_warnings(&mut self.end.warnings, vec![fault.clone()]);
        }
        let size = loaded.size_bytes;
        self.runs[run as usize].size_bytes = size;
        if self.runs[run as usize].blocks.is_none() {
            let mut blocks = self.wish(run).blocks(&loaded.chunk, &loaded.symbols);
            // In the order of the sweep; those of a chunk that was not closed properly may overlap.
            blocks.sort_by_key(|b| self.due_at(0, b.min_ns, b.max_ns));
            self.runs[run as usize].blocks = Some(blocks.into());
        }
        self.runs[run as usize].state = RunState::Here(Arc::new(loaded));
        self.loaded.insert(run);
        self.loaded_bytes += size;
        self.next_due(run);
        self.let_go();
        Ok(())
    }

    /// What is wanted of a chunk.
    fn wish(&self, run: u32) -> ChunkWish {
        let run = &self.runs[run as usize];
        let labels = &self.streams[run.stream as usize].labels;
        let needles = self.request.hints.metadata_needles.iter();
        let needles = needles.filter(|(label, _)| labels.get(label).is_none());
        ChunkWish {
            range: self.request.range,
            times: run.found.times.clone(),
            choice: run.choice.clone(),
            needles: needles.map(|(_, value)| value.clone()).collect(),
        }
    }

    /// Puts a chunk where its next block belongs; ends it when there is none.
    fn next_due(&mut self, run: u32) {
        let chunk = &self.runs[run as usize];
        let (stream, before) = (chunk.stream, chunk.due);
        let next = chunk.blocks.as_ref().and_then(VecDeque::front).copied();
        let Some(next) = next else {
            self.finish(run);
            return;
        };
        let at = self.due_at(stream, next.min_ns, next.max_ns);
        // A table that contradicts the index must not bring the sweep back.
        let at = at.max(before);
        self.due.remove(&(before, run));
        self.due.insert((at, run));
        let of_stream = &mut self.streams[stream as usize].due;
        of_stream.remove(&(before, run));
        of_stream.insert((at, run));
        self.runs[run as usize].due = at;
        self.touched.insert(stream);
    }

    /// Nothing is left of a chunk.
    fn finish(&mut self, run: u32) {
        let chunk = &mut self.runs[run as usize];
        chunk.state = RunState::Away;
        chunk.blocks = None;
        let (stream, due) = (chunk.stream, chunk.due);
        if self.loaded.remove(&run) {
            self.loaded_bytes -= self.runs[run as usize].size_bytes;
        }
        self.due.remove(&(due, run));
        self.streams[stream as usize].due.remove(&(due, run));
        self.touched.insert(stream);
    }

    /// Lets go of loaded chunks beyond the bound, those that come last first. They are loaded again when it is their turn.
    fn let_go(&mut self) {
        while self.loaded_bytes > self.max_loaded_bytes && self.loaded.len() > 1 {
            let last = self.loaded.iter().max_by_key(|run| {
                let chunk = &self.runs[**run as usize];
                (chunk.due, **run)
            });
            let Some(&run) = last else { return };
            self.loaded.remove(&run);
            let chunk = &mut self.runs[run as usize];
            chunk.state = RunState::Away;
            self.loaded_bytes -= chunk.size_bytes;
        }
    }

    /// Takes the blocks whose turn it is, as far as their chunks are there.
    fn take_due(&mut self) -> Vec<DueBlock> {
        let mut out = Vec::new();
        let (mut bytes, mut entries) = (0u64, 0u64);
        while out.len() < self.batch_blocks
            && bytes < BATCH_BYTES
            && (self.wanted == 0 || entries < self.wanted)
            && let Some(&(_, run)) = self.due.first()
        {
            let chunk = &mut self.runs[run as usize];
            let RunState::Here(loaded) = &chunk.state else {
                break;
            };
            let loaded = Arc::clone(loaded);
            let stream = chunk.stream;
            if let Some(place) = chunk.blocks.as_mut().and_then(VecDeque::pop_front) {
                bytes += place.uncompressed_bytes.max(place.len);
                entries += place.entry_count;
                out.push(DueBlock {
                    stream,
                    run,
                    chunk: loaded,
                    place,
                });
            }
            self.next_due(run);
        }
        out
    }

    fn hold(&mut self, decoded: Vec<Decoded>) {
        let TimeRangeNs { min_ns, max_ns } = self.request.range;
        for (stream, run, place, block) in decoded {
            let block = match block {
                Ok(Some(block)) => block,
                Ok(None) => {
                    let stats = &mut self.end.stats;
                    stats.decompressed_lines += place.entry_count;
                    stats.decompressed_bytes += place.uncompressed_bytes;
                    continue;
                }
                Err(e) => {
                    self.warn_of_block(run, &place, &e);
                    continue;
                }
            };
            let (lines, metadata) = (block.line_bytes(), block.metadata_bytes());
            let stats = &mut self.end.stats;
            stats.decompressed_lines += block.len() as u64;
            stats.decompressed_bytes += lines + metadata;
            stats.decompressed_metadata_bytes += metadata;
            let whole = [TimeRangeNs { min_ns, max_ns }];
            let times = self.runs[run as usize].found.times.as_deref();
            for times in times.unwrap_or(&whole) {
                let block = block.between(times.min_ns, times.max_ns);
                if !block.is_empty() {
                    self.streams[stream as usize].held.push(block);
                    self.touched.insert(stream);
                    self.holding.insert(stream);
                }
            }
        }
    }

    fn warn_of_block(&mut self, run: u32, place: &BlockPlace, e: &DecodeFail) {
        let name = self.source.plain_name(&self.key(run));
        let why = match e {
            DecodeFail::Broken(e) => e.to_string(),
            DecodeFail::Refused(e) => e.to_string(),
        };
        let warning = format!(
            "a block of chunk {name} cannot be read, its {} entries from {} to {} are missing: {why}",
            place.entry_count, place.min_ns, place.max_ns
        );
        tracing::error!("{warning}");
        self.source.counts.add_damaged();
        merge_warnings(&mut self.end.warnings, vec![warning]);
    }

    /// Hands out what is complete.
    fn release(&mut self) -> Result<Vec<StreamBlock>> {
        let newest_first = self.is_newest_first();
        let waiting = self.first_waiting();
        let is_of_streams = self.request.order == SelectOrder::Streams;
        let mut out = Vec::new();
        for n in std::mem::take(&mut self.touched) {
            let stream = &mut self.streams[n as usize];
            let mut ready = Vec::new();
            let due = stream.due.first().map(|((_, due), _)| *due);
            // A chunk of the stream may be among those that wait.
            let waiting = waiting.filter(|(of, _)| !is_of_streams || *of == n);
            let due = due.into_iter().chain(waiting.map(|(_, due)| due)).min();
            match due {
                None => ready = std::mem::take(&mut stream.held),
                Some(due) => {
                    let mut rest = Vec::new();
                    for block in stream.held.drain(..) {
                        let times = block.times();
                        let (done, left) = if newest_first {
                            let cut = times.partition_point(|t| *t <= TimestampNs::new(!due));
                            (cut..block.len(), 0..cut)
                        } else {
                            let cut = times.partition_point(|t| *t < TimestampNs::new(due));
                            (0..cut, cut..block.len())
                        };
                        if !done.is_empty() {
                            ready.push(block.slice(done));
                        }
                        if !left.is_empty() {
                            rest.push(block.slice(left));
                        }
                    }
                    stream.held = rest;
                }
            }
            if stream.held.is_empty() {
                self.holding.remove(&n);
            }
            let made = if ready.len() > 1 {
                // Joining may copy a batch of lines.
                in_place(|| disjoint(ready))
            } else {
                disjoint(ready)
            };
            let made = made.map_err(|e| Error::LimitExceeded(e.to_string()))?;
            self.end.stats.duplicates += made.duplicates;
            let labels = &stream.labels;
            out.extend(made.blocks.into_iter().map(|block| StreamBlock {
                labels: labels.clone(),
                block,
            }));
        }
        match self.request.order {
            SelectOrder::Streams => {}
            SelectOrder::OldestFirst => out.sort_by_key(|b| b.block.min_ns()),
            SelectOrder::NewestFirst => out.sort_by_key(|b| std::cmp::Reverse(b.block.max_ns())),
        }
        Ok(out)
    }

    /// What is known of all later batches.
    fn horizon_ns(&self) -> TimestampNs {
        let next = self.due.first().map(|(due, _)| *due);
        let next = next.into_iter().chain(self.first_waiting()).min();
        match (self.request.order, next.map(|(_, due)| due)) {
            (SelectOrder::Streams, _) => TimestampNs::EPOCH,
            (SelectOrder::OldestFirst, next) => next.map_or(TimestampNs::MAX, TimestampNs::new),
            (SelectOrder::NewestFirst, next) => next.map_or(TimestampNs::MIN, |due| {
                TimestampNs::new((!due).saturating_add(1))
            }),
        }
    }

    fn hand_out(&mut self, blocks: Vec<StreamBlock>) -> EntryBatch {
        self.handed_out += blocks.iter().map(|b| b.block.len() as u64).sum::<u64>();
        if self.wanted > 0 && self.handed_out >= self.wanted {
            // It had enough and reads on: filters leave little of it.
            self.wanted = self.wanted.saturating_mul(2);
        }
        EntryBatch {
            blocks,
            horizon_ns: self.horizon_ns(),
        }
    }
}

#[async_trait]
impl EntryBatches for ChunkSweep {
    async fn next_batch(&mut self) -> Result<Option<EntryBatch>> {
        loop {
            self.look_ahead().await?;
            self.load_ahead();
            let Some(&(_, first)) = self.due.first() else {
                let blocks = self.release()?;
                return Ok((!blocks.is_empty()).then(|| self.hand_out(blocks)));
            };
            if !self.loaded.contains(&first) {
                self.arrive(first).await?;
                continue;
            }
            let due = self.take_due();
            let codecs = &self.source.codecs;
            let decoded = decode(due, &self.needles, codecs, &self.executor).await?;
            self.hold(decoded);
            let blocks = self.release()?;
            if !blocks.is_empty() {
                return Ok(Some(self.hand_out(blocks)));
            }
        }
    }

    async fn next_counts(&mut self) -> Result<Option<Vec<StreamCounts>>> {
        const STREAMS_AT_ONCE: usize = 1024;
        let some: Vec<_> = self.counts.by_ref().take(STREAMS_AT_ONCE).collect();
        Ok((!some.is_empty()).then_some(some))
    }

    fn end(&mut self) -> SelectEnd {
        let taken = std::mem::take(&mut self.end);
        // Asked again it says nothing twice.
        self.end.stats = FetchStats::default();
        taken
    }
}
