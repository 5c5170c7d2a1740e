//! One series in memory: its open chunk, its finished chunks, its out-of-order samples.

use lgtm_core::DecodeError;
use lgtm_core::model::{FloatHistogram, Histogram, TimestampMs, is_stale_nan};
use lgtm_core::postings::{SeriesId, SymbolId};
use lgtm_core::wal::{BlobFiles, BlobPlace};

use super::accept::{AppendRules, RejectReason, Taken};
use super::checkpoint::SeriesState;
use super::head::HeadParts;
use super::head_chunk::{ChunkBytes, HeadChunk, OpenSpan};
use super::record::Anchor;
use crate::chunk::cut::{FloatCut, HistogramCut};
use crate::chunk::{
    Appender, Chunk, CounterResetHeader, Encoding, FloatHistogramAppender, HistogramAppend,
    HistogramAppender, Kind, SampleTime, SampleValue, Xor2Appender, XorAppender,
    encode_started_run,
};
use crate::wire::HistogramValue;
use lgtm_core::wal::{ChunkState, Snapshot};

/// Out-of-order samples are packed into a chunk when so many wait (Prometheus' default).
const OOO_BUFFER_LEN: usize = 32;

/// The chunk that takes samples.
#[derive(Debug, Default)]
enum Open {
    #[default]
    None,
    Float(XorAppender, FloatCut),
    /// Boxed, as few series say since when they count: a series is no larger for it.
    StartedFloat(Box<(Xor2Appender, FloatCut)>),
    Histogram(Box<(HistogramAppender, HistogramCut)>),
    FloatHistogram(Box<(FloatHistogramAppender, HistogramCut)>),
}

/// Samples that came late.
#[derive(Debug, Default)]
struct OutOfOrder {
    /// Sorted by time.
    buffer: Vec<(TimestampMs, SampleValue)>,
    /// Since when the samples in `buffer` count; empty when that is known of none.
    starts: Vec<TimestampMs>,
    chunks: Vec<HeadChunk>,
}

impl OutOfOrder {
    /// A sample whose time is there already is dropped: the first one wins, as in Prometheus.
    fn push(&mut self, at: SampleTime, value: SampleValue) {
        let Err(place) = self.buffer.binary_search_by_key(&at.t_ms, |s| s.0) else {
            return;
        };
        if at.is_started() && self.starts.is_empty() {
            self.starts = vec![TimestampMs::EPOCH; self.buffer.len()];
        }
        if at.is_started() || !self.starts.is_empty() {
            self.starts.insert(place, at.start_ms);
        }
        self.buffer.insert(place, (at.t_ms, value));
    }

    /// The waiting samples in chunks.
    fn packed(&self) -> Vec<Chunk> {
        encode_late(self.buffer.iter().cloned(), &self.starts)
    }

    /// Takes the waiting samples out, in chunks.
    fn pack(&mut self) -> Vec<Chunk> {
        encode_late(self.buffer.drain(..), &std::mem::take(&mut self.starts))
    }
}

fn encode_late(
    samples: impl Iterator<Item = (TimestampMs, SampleValue)>,
    starts: &[TimestampMs],
) -> Vec<Chunk> {
    let starts = starts
        .iter()
        .copied()
        .chain(std::iter::repeat(TimestampMs::EPOCH));
    encode_started_run(
        samples
            .zip(starts)
            .map(|((t_ms, value), start_ms)| (SampleTime { t_ms, start_ms }, value)),
    )
}

/// The newest in-order sample, as far as the rules need it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Last {
    None,
    Float(f64),
    Histogram,
    FloatHistogram,
}

/// One series.
#[derive(Debug)]
pub(super) struct MemSeries {
    pub(super) labels: Box<[SymbolId]>,
    open: Open,
    last_t_ms: TimestampMs,
    last: Last,
    /// What samples in the log are written relative to.
    pub(super) base: f64,
    /// Check of labels and base in the log.
    pub(super) tag: u32,
    /// The log epoch in which the series' anchor was written; 0: none.
    pub(super) anchor_epoch: u32,
    /// Seconds on the host's clock when a sample last came.
    pub(super) touched_s: u32,
    #[allow(
        clippy::box_collection,
        reason = "most series have no finished chunk: 8 bytes instead of 24"
    )]
    chunks: Option<Box<Vec<HeadChunk>>>,
    ooo: Option<Box<OutOfOrder>>,
}

const _: () = assert!(
    size_of::<MemSeries>() <= 176,
    "a process holds millions of them"
);

impl MemSeries {
    pub(super) fn new(labels: Box<[SymbolId]>, base: f64, tag: u32) -> Self {
        Self {
            labels,
            open: Open::None,
            last_t_ms: TimestampMs::MIN,
            last: Last::None,
            base,
            tag,
            anchor_epoch: 0,
            touched_s: 0,
            chunks: None,
            ooo: None,
        }
    }

    /// What the log knows the series by.
    #[inline]
    pub(super) fn anchor(&self, id: SeriesId) -> Anchor {
        Anchor {
            id,
            tag: self.tag,
            base: self.base,
        }
    }

    /// Whether the series holds no sample.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.open, Open::None) && self.chunks.is_none() && self.ooo.is_none()
    }

    /// Where a sample at `t_ms` belongs. `same` tells whether it equals the newest one.
    #[inline]
    fn place(
        &self,
        t_ms: TimestampMs,
        same: impl FnOnce(&Self) -> bool,
        rules: &AppendRules,
    ) -> Result<Taken, RejectReason> {
        if t_ms > rules.max_valid_ms {
            return Err(RejectReason::TooFarInFuture);
        }
        if t_ms < rules.min_accepted_ms {
            return Err(RejectReason::TooFarInPast);
        }
        if t_ms >= rules.min_valid_ms {
            if self.last == Last::None || t_ms > self.last_t_ms {
                return Ok(Taken::InOrder);
            }
            if t_ms == self.last_t_ms {
                return if same(self) {
                    Ok(Taken::Known)
                } else {
                    Err(RejectReason::DuplicateTimestamp)
                };
            }
        }
        match rules.ooo_min_ms {
            Some(min) if t_ms >= min => Ok(Taken::OutOfOrder),
            Some(_) => Err(RejectReason::TooOld),
            None if t_ms < rules.min_valid_ms => Err(RejectReason::OutOfBounds),
            None => Err(RejectReason::OutOfOrder),
        }
    }

    /// Takes a float sample.
    #[inline]
    pub(super) fn append_float(
        &mut self,
        at: SampleTime,
        value: f64,
        rules: &AppendRules,
        files: &BlobFiles,
    ) -> Result<Taken, RejectReason> {
        if is_stale_nan(value) {
            // A series of histograms ends with a histogram: an empty one with the stale sum.
            match self.last {
                Last::Histogram => {
                    let stale = Histogram {
                        sum: value,
                        ..Histogram::default()
                    };
                    return self.append_histogram(at, &stale, rules, files);
                }
                Last::FloatHistogram => {
                    let stale = FloatHistogram {
                        sum: value,
                        ..FloatHistogram::default()
                    };
                    return self.append_float_histogram(at, &stale, rules, files);
                }
                Last::None | Last::Float(_) => {}
            }
        }
        let same = |s: &Self| matches!(s.last, Last::Float(v) if v.to_bits() == value.to_bits());
        let taken = self.place(at.t_ms, same, rules)?;
        match taken {
            Taken::InOrder => self.push_float(at, value, rules, files),
            Taken::OutOfOrder => self.push_late(at, SampleValue::Float(value), files),
            Taken::Known => {}
        }
        Ok(taken)
    }

    #[inline]
    fn push_float(&mut self, at: SampleTime, value: f64, rules: &AppendRules, files: &BlobFiles) {
        let t_ms = at.t_ms;
        self.last_t_ms = t_ms;
        self.last = Last::Float(value);
        if let Open::Float(chunk, cut) = &mut self.open
            && !at.is_started()
            && !cut.cut_before(
                t_ms,
                chunk.sample_count(),
                chunk.size_bytes(),
                chunk.first_t_ms(),
                chunk.last_t_ms(),
            )
        {
            chunk.append(t_ms, value);
            return;
        }
        self.push_float_slowly(at, value, rules, files);
    }

    /// A float that begins a chunk, or goes into one that keeps start times.
    fn push_float_slowly(
        &mut self,
        at: SampleTime,
        value: f64,
        rules: &AppendRules,
        files: &BlobFiles,
    ) {
        let t_ms = at.t_ms;
        if let Open::StartedFloat(open) = &mut self.open {
            let (chunk, cut) = &mut **open;
            if !cut.cut_before(
                t_ms,
                chunk.sample_count(),
                chunk.size_bytes(),
                chunk.first_t_ms(),
                chunk.last_t_ms(),
            ) {
                chunk.append(at, value);
                return;
            }
        }
        self.finish_open(files);
        let cut = FloatCut::new(t_ms, rules.block_range_ms);
        self.open = if at.is_started() {
            let mut chunk = Xor2Appender::new();
            chunk.append(at, value);
            Open::StartedFloat(Box::new((chunk, cut)))
        } else {
            let mut chunk = XorAppender::new();
            chunk.append(t_ms, value);
            Open::Float(chunk, cut)
        };
    }

    /// Takes a native histogram with integer counts.
    pub(super) fn append_histogram(
        &mut self,
        at: SampleTime,
        h: &Histogram,
        rules: &AppendRules,
        files: &BlobFiles,
    ) -> Result<Taken, RejectReason> {
        let same = |s: &Self| match &s.open {
            Open::Histogram(open) => open.0.last().is_some_and(|last| same_histogram(last, h)),
            _ => false,
        };
        let taken = self.place(at.t_ms, same, rules)?;
        match taken {
            Taken::InOrder => {
                (self.last_t_ms, self.last) = (at.t_ms, Last::Histogram);
                let ends = match &mut self.open {
                    Open::Histogram(open) => push_histogram(open, at, h),
                    _ => Some(CounterResetHeader::Unknown),
                };
                if let Some(header) = ends {
                    self.finish_open(files);
                    self.open = Open::Histogram(begin_histograms(header, at, h, rules));
                }
            }
            Taken::OutOfOrder => {
                self.push_late(at, SampleValue::Histogram(Box::new(h.clone())), files)
            }
            Taken::Known => {}
        }
        Ok(taken)
    }

    /// Takes a native histogram with float counts.
    pub(super) fn append_float_histogram(
        &mut self,
        at: SampleTime,
        h: &FloatHistogram,
        rules: &AppendRules,
        files: &BlobFiles,
    ) -> Result<Taken, RejectReason> {
        let same = |s: &Self| match &s.open {
            Open::FloatHistogram(open) => open
                .0
                .last()
                .is_some_and(|last| same_float_histogram(last, h)),
            _ => false,
        };
        let taken = self.place(at.t_ms, same, rules)?;
        match taken {
            Taken::InOrder => {
                (self.last_t_ms, self.last) = (at.t_ms, Last::FloatHistogram);
                let ends = match &mut self.open {
                    Open::FloatHistogram(open) => push_histogram(open, at, h),
                    _ => Some(CounterResetHeader::Unknown),
                };
                if let Some(header) = ends {
                    self.finish_open(files);
                    self.open = Open::FloatHistogram(begin_histograms(header, at, h, rules));
                }
            }
            Taken::OutOfOrder => {
                self.push_late(at, SampleValue::FloatHistogram(Box::new(h.clone())), files)
            }
            Taken::Known => {}
        }
        Ok(taken)
    }

    fn push_late(&mut self, at: SampleTime, value: SampleValue, files: &BlobFiles) {
        let ooo = self.ooo.get_or_insert_default();
        ooo.push(at, value);
        if ooo.buffer.len() >= OOO_BUFFER_LEN {
            let packed = ooo.pack();
            ooo.chunks
                .extend(packed.into_iter().map(|c| HeadChunk::on_disk(c, files)));
        }
    }

    /// Finishes the open chunk and moves it to the chunk files.
    fn finish_open(&mut self, files: &BlobFiles) {
        if let Some(chunk) = self.take_open() {
            let chunk = HeadChunk::on_disk(chunk, files);
            self.push_finished(chunk);
        }
    }

    fn push_finished(&mut self, chunk: HeadChunk) {
        let chunks = self.chunks.get_or_insert_default();
        if chunks.len() == chunks.capacity() {
            // Millions of these lists exist, most with a chunk or a few: no room for four at once.
            chunks.reserve_exact(1 + chunks.len() / 4);
        }
        chunks.push(chunk);
    }

    fn take_open(&mut self) -> Option<Chunk> {
        match std::mem::take(&mut self.open) {
            Open::None => None,
            Open::Float(chunk, _) => Some(chunk.snapshot()),
            Open::StartedFloat(open) => Some(open.0.snapshot()),
            Open::Histogram(open) => Some(open.0.snapshot()),
            Open::FloatHistogram(open) => Some(open.0.snapshot()),
        }
    }

    /// Finishes what lies before `before_ms`, open chunk and waiting late samples included, and marks it for a flush. The bytes
    /// stay in memory: what is about to be uploaded need not be written to the chunk files first.
    pub(super) fn mark_for_flush(
        &mut self,
        before_ms: TimestampMs,
        found: &mut dyn FnMut(TimestampMs),
    ) {
        if self.open_last_ms().is_some_and(|last| last < before_ms)
            && let Some(chunk) = self.take_open()
        {
            self.push_finished(HeadChunk::in_memory(chunk));
        }
        if let Some(ooo) = &mut self.ooo {
            let packed = ooo.pack();
            ooo.chunks
                .extend(packed.into_iter().map(HeadChunk::in_memory));
        }
        let late = self.ooo.iter_mut().flat_map(|o| &mut o.chunks);
        for chunk in self
            .chunks
            .iter_mut()
            .flat_map(|c| c.iter_mut())
            .chain(late)
        {
            if chunk.state.is_moved() {
                continue;
            }
            chunk.state = ChunkState::HELD;
            if chunk.max_ms < before_ms {
                chunk.state = ChunkState::FLUSHING;
                found(chunk.min_ms);
            }
        }
    }

    fn open_last_ms(&self) -> Option<TimestampMs> {
        match &self.open {
            Open::None => None,
            Open::Float(c, _) => Some(c.last_t_ms()),
            Open::StartedFloat(o) => Some(o.0.last_t_ms()),
            Open::Histogram(o) => Some(o.0.last_t_ms()),
            Open::FloatHistogram(o) => Some(o.0.last_t_ms()),
        }
    }

    /// Time and kind of the newest in-order sample.
    pub(super) fn last(&self) -> (TimestampMs, Last) {
        (self.last_t_ms, self.last)
    }

    /// Late chunks, without the samples that are not packed yet.
    pub(super) fn late_finished(&self) -> &[HeadChunk] {
        self.ooo.as_deref().map_or(&[], |o| o.chunks.as_slice())
    }

    /// Takes back what a checkpoint kept. Gives, in words, the chunks that are lost: all else is taken.
    pub(super) fn restore(&mut self, state: SeriesState<'_>, parts: &HeadParts) -> Vec<String> {
        let mut lost = Vec::new();
        (self.last_t_ms, self.last) = (state.last_t_ms, state.last);
        if let Some((encoding, data)) = state.open
            && let Err(e) = self.restore_open(encoding, data, parts)
        {
            lost.push(format!("the open chunk does not decode: {e}"));
            (self.last_t_ms, self.last) = (state.last_t_ms, state.last);
        }
        let (finished, late) = (
            adopted(state.finished, parts, &mut lost),
            adopted(state.late, parts, &mut lost),
        );
        self.put_before(finished, late);
        lost
    }

    /// Takes back chunks that blocks have, in order and late ones. Gives, in words, those that are lost.
    pub(super) fn restore_moved(
        &mut self,
        finished: Vec<HeadChunk>,
        late: Vec<HeadChunk>,
        parts: &HeadParts,
    ) -> Vec<String> {
        let mut lost = Vec::new();
        let finished = adopted(finished, parts, &mut lost);
        let late = adopted(late, parts, &mut lost);
        self.put_before(finished, late);
        lost
    }

    /// Puts finished chunks before those that are there.
    fn put_before(&mut self, mut finished: Vec<HeadChunk>, late: Vec<HeadChunk>) {
        if !finished.is_empty() {
            let chunks = self.chunks.get_or_insert_default();
            finished.append(chunks);
            **chunks = finished;
        }
        if !late.is_empty() {
            self.ooo.get_or_insert_default().chunks.extend(late);
        }
    }

    fn restore_open(
        &mut self,
        encoding: Encoding,
        data: &[u8],
        parts: &HeadParts,
    ) -> Result<(), DecodeError> {
        let range_ms = parts.block_range_ms;
        match encoding {
            Encoding::Xor => {
                let chunk = XorAppender::resume(data)?;
                let cut = FloatCut::new(chunk.first_t_ms(), range_ms);
                self.open = Open::Float(chunk, cut);
            }
            Encoding::Xor2 => {
                let chunk = Xor2Appender::resume(data)?;
                let cut = FloatCut::new(chunk.first_t_ms(), range_ms);
                self.open = Open::StartedFloat(Box::new((chunk, cut)));
            }
            encoding => {
                // Histograms are rare: their open chunk is rebuilt sample by sample.
                let rules = AppendRules::replay(range_ms);
                (self.last, self.last_t_ms) = (Last::None, TimestampMs::MIN);
                let mut samples = crate::chunk::iter(encoding, data)?;
                while let Some(sample) = samples.next() {
                    let (t_ms, value) = sample?;
                    let start_ms = samples.start_ms();
                    let at = SampleTime { t_ms, start_ms };
                    let taken = match value {
                        SampleValue::Float(v) => self.append_float(at, v, &rules, &parts.files),
                        SampleValue::Histogram(h) => {
                            self.append_histogram(at, &h, &rules, &parts.files)
                        }
                        SampleValue::FloatHistogram(h) => {
                            self.append_float_histogram(at, &h, &rules, &parts.files)
                        }
                    };
                    debug_assert!(taken.is_ok(), "replay's rules take everything");
                }
            }
        }
        Ok(())
    }

    /// Finished in-order chunks, oldest first.
    pub(super) fn finished(&self) -> &[HeadChunk] {
        self.chunks.as_deref().map_or(&[], Vec::as_slice)
    }

    /// Out-of-order chunks; the samples not packed yet come as one run of chunks more.
    pub(super) fn late_chunks(&self) -> Vec<HeadChunk> {
        let Some(ooo) = &self.ooo else {
            return Vec::new();
        };
        let mut out = ooo.chunks.clone();
        out.extend(ooo.packed().into_iter().map(HeadChunk::in_memory));
        out
    }

    /// Times of the first and the last sample of the open chunk.
    pub(super) fn open_range(&self) -> Option<(TimestampMs, TimestampMs)> {
        match &self.open {
            Open::None => None,
            Open::Float(c, _) => Some((c.first_t_ms(), c.last_t_ms())),
            Open::StartedFloat(o) => Some((o.0.first_t_ms(), o.0.last_t_ms())),
            Open::Histogram(o) => Some((o.0.first_t_ms(), o.0.last_t_ms())),
            Open::FloatHistogram(o) => Some((o.0.first_t_ms(), o.0.last_t_ms())),
        }
    }

    /// Copies the open chunk as it stands to the end of `out`.
    pub(super) fn copy_open_chunk(&self, out: &mut Vec<u8>) -> Option<OpenSpan> {
        let from = out.len();
        let (min_ms, max_ms, encoding) = if let Open::Float(chunk, _) = &self.open {
            chunk.encode_into(out);
            (chunk.first_t_ms(), chunk.last_t_ms(), Encoding::Xor)
        } else {
            let chunk = self.open_chunk()?;
            out.extend_from_slice(&chunk.data);
            (chunk.min_ms, chunk.max_ms, chunk.encoding)
        };
        Some(OpenSpan {
            min_ms,
            max_ms,
            encoding,
            bytes: from..out.len(),
        })
    }

    /// The open chunk as it stands.
    pub(super) fn open_chunk(&self) -> Option<Chunk> {
        match &self.open {
            Open::None => None,
            Open::Float(chunk, _) => Some(chunk.snapshot()),
            Open::StartedFloat(open) => Some(open.0.snapshot()),
            Open::Histogram(open) => Some(open.0.snapshot()),
            Open::FloatHistogram(open) => Some(open.0.snapshot()),
        }
    }

    /// Buckets of the newest native histogram, populated or within a span; `None` when the open chunk holds none.
    pub(super) fn histogram_buckets(&self) -> Option<u64> {
        Some(match &self.open {
            Open::None | Open::Float(..) | Open::StartedFloat(_) => return None,
            Open::Histogram(o) => {
                let h = o.0.last()?;
                (h.positive_deltas.len() + h.negative_deltas.len()) as u64
            }
            Open::FloatHistogram(o) => {
                let h = o.0.last()?;
                (h.positive_counts.len() + h.negative_counts.len()) as u64
            }
        })
    }

    /// Times of the oldest and the newest sample that no block has.
    pub(super) fn held_range(&self) -> Option<(TimestampMs, TimestampMs)> {
        self.range_of(|state| !state.is_moved())
    }

    /// Times of the oldest and the newest sample that a reader sees.
    pub(super) fn range_seen_by(&self, snapshot: &Snapshot) -> Option<(TimestampMs, TimestampMs)> {
        self.range_of(|state| snapshot.sees(state))
    }

    fn range_of(&self, takes: impl Fn(ChunkState) -> bool) -> Option<(TimestampMs, TimestampMs)> {
        let open = self.open_range();
        let waiting = self.ooo.iter().flat_map(|o| &o.buffer);
        let waiting = waiting.map(|s| (s.0, s.0));
        let chunks = self.finished().iter().chain(self.late_finished());
        let chunks = chunks.filter(|c| takes(c.state));
        let all = chunks
            .map(|c| (c.min_ms, c.max_ms))
            .chain(open)
            .chain(waiting);
        all.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Marks the chunks for which `moved` says so: a block has them since `generation`.
    pub(super) fn mark_moved(&mut self, generation: u32, moved: impl Fn(&HeadChunk) -> bool) {
        let late = self.ooo.iter_mut().flat_map(|o| &mut o.chunks);
        let chunks = self.chunks.iter_mut().flat_map(|c| c.iter_mut());
        for chunk in chunks.chain(late).filter(|c| moved(c)) {
            chunk.state = ChunkState::moved(generation);
        }
    }

    /// Drops the chunks for which `gone` says so: blocks have them, and no reader needs them here. Gives the places in the chunk files
    /// that are free again.
    pub(super) fn drop_moved(
        &mut self,
        mut gone: impl FnMut(&HeadChunk) -> bool,
        freed: &mut Vec<BlobPlace>,
    ) {
        let mut keep = |c: &HeadChunk| {
            let is_gone = gone(c);
            if let (true, ChunkBytes::File(place)) = (is_gone, &c.bytes) {
                freed.push(*place);
            }
            !is_gone
        };
        if let Some(chunks) = &mut self.chunks {
            chunks.retain(&mut keep);
            if chunks.is_empty() {
                self.chunks = None;
            }
        }
        if let Some(ooo) = &mut self.ooo {
            ooo.chunks.retain(&mut keep);
            if ooo.chunks.is_empty() && ooo.buffer.is_empty() {
                self.ooo = None;
            }
        }
    }

    /// Number of chunks held, the open one included.
    pub(super) fn chunk_count(&self) -> usize {
        self.finished().len()
            + usize::from(!matches!(self.open, Open::None))
            + self
                .ooo
                .as_ref()
                .map_or(0, |o| o.chunks.len() + usize::from(!o.buffer.is_empty()))
    }
}

/// The chunks of a checkpoint that are there; what of them is lost goes to `lost`, in words.
fn adopted(
    mut chunks: Vec<HeadChunk>,
    parts: &HeadParts,
    lost: &mut Vec<String>,
) -> Vec<HeadChunk> {
    chunks.retain(|c| match &c.bytes {
        ChunkBytes::File(place) if !parts.files.adopt(*place) => {
            let BlobPlace { file, offset, len } = *place;
            lost.push(format!(
                "chunk file {file:08} has no {len} bytes at byte {offset}, samples from {} to {} ms",
                c.min_ms, c.max_ms
            ));
            false
        }
        _ => true,
    });
    chunks
}

/// The chunk that takes histograms of a kind.
type OpenHistograms<K> = Box<(Appender<K>, HistogramCut)>;

/// Appends a histogram to the open chunk; `Some` if it must begin another one, with that header.
fn push_histogram<K: Kind>(
    open: &mut OpenHistograms<K>,
    at: SampleTime,
    h: &K::Histogram,
) -> Option<CounterResetHeader> {
    let (chunk, cut) = &mut **open;
    let ends = at.is_started() && !chunk.keeps_starts()
        || cut.cut_before(
            at.t_ms,
            chunk.sample_count(),
            chunk.size_bytes(),
            chunk.first_t_ms(),
            chunk.last_t_ms(),
        );
    if ends {
        return Some(chunk.next_header(h));
    }
    match chunk.append_started(at, h) {
        HistogramAppend::Appended | HistogramAppend::Recoded => None,
        HistogramAppend::NewChunk(header) => Some(header),
    }
}

fn begin_histograms<K: Kind>(
    header: CounterResetHeader,
    at: SampleTime,
    h: &K::Histogram,
    rules: &AppendRules,
) -> OpenHistograms<K> {
    Box::new((
        Appender::beginning_with(header, at, h),
        HistogramCut::new(at.t_ms, rules.block_range_ms),
    ))
}

/// Takes a native histogram of either kind.
pub(super) fn append_histogram(
    series: &mut MemSeries,
    at: SampleTime,
    value: &HistogramValue,
    rules: &AppendRules,
    files: &BlobFiles,
) -> Result<Taken, RejectReason> {
    match value {
        HistogramValue::Int(h) => series.append_histogram(at, h, rules, files),
        HistogramValue::Float(h) => series.append_float_histogram(at, h, rules, files),
    }
}

/// Equal but for the counter-reset hint, which the chunk does not keep per sample.
fn same_histogram(a: &Histogram, b: &Histogram) -> bool {
    if a.is_stale() || b.is_stale() {
        return a.is_stale() && b.is_stale();
    }
    let mut a = a.clone();
    a.hint = b.hint;
    a == *b
}

fn same_float_histogram(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    if a.is_stale() || b.is_stale() {
        return a.is_stale() && b.is_stale();
    }
    let mut a = a.clone();
    a.hint = b.hint;
    a == *b
}

/// The id of the shard that holds a series, and the slot in it.
pub(super) fn locate(id: SeriesId) -> (usize, usize) {
    (
        id as usize / super::shard::SHARD_LEN,
        id as usize % super::shard::SHARD_LEN,
    )
}
