//! Building chunks of native histograms (encodings 2 and 3; with start timestamps 5 and 6), and the rules of when one can go on.
//!
//! The two kinds of count differ in how numbers are written, not in the rules; what differs is a [`Kind`].

use std::cmp::Ordering;

use lgtm_core::model::{BucketSpan, CounterResetHint, Histogram, TimestampMs};

use super::bits::{BitWriter, XorState};
use super::chunk::Chunk;
use super::encoding::{CounterResetHeader, Encoding};
use super::iter::{ChunkIter, SampleValue};
use super::layout::{Layout, indices, is_readable, spans_of, widen};
use super::sample_time::SampleTime;
use super::start_time::StartTimes;

/// What became of a histogram that was to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistogramAppend {
    /// It stands at the end of the chunk.
    Appended,
    /// The same, but the chunk was rewritten with more buckets first.
    Recoded,
    /// Nothing was appended: it must begin a chunk with this header.
    NewChunk(CounterResetHeader),
}

/// The count of a chunk with start timestamps has 14 bits.
const MAX_STARTED: u16 = 0x3fff;

/// What all histograms have.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    pub(super) hint: CounterResetHint,
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) sum: f64,
    pub(super) positive_spans: &'a [BucketSpan],
    pub(super) negative_spans: &'a [BucketSpan],
    pub(super) custom_values: &'a [f64],
}

/// How one kind of histogram counts, and how its numbers are written.
pub trait Kind: Sized + std::fmt::Debug + 'static {
    /// The histogram.
    type Histogram: Clone + std::fmt::Debug;
    /// A count.
    type Count: Copy + PartialOrd + Default + std::fmt::Debug;
    /// What the encoder remembers of the sample before.
    type State: Clone + std::fmt::Debug;
    /// The chunk's encoding.
    const ENCODING: Encoding;
    /// The encoding of a chunk that keeps start timestamps.
    const ENCODING_ST: Encoding;
    /// Header of a chunk that a counter begins after a gauge (they differ; a quirk of the reference).
    const AFTER_GAUGE: CounterResetHeader;
    /// Header of a chunk that goes on without a reset but with another layout.
    const AFTER_CUT: CounterResetHeader;

    /// The parts that all kinds have.
    fn shape(h: &Self::Histogram) -> Shape<'_>;
    /// Count of all observations, and of those in the zero bucket.
    fn totals(h: &Self::Histogram) -> (Self::Count, Self::Count);
    /// Absolute counts of the positive and the negative buckets.
    fn counts(h: &Self::Histogram) -> (Vec<Self::Count>, Vec<Self::Count>);
    /// The same histogram over other buckets.
    fn rebuild(
        h: &Self::Histogram,
        positive: (Vec<BucketSpan>, Vec<Self::Count>),
        negative: (Vec<BucketSpan>, Vec<Self::Count>),
    ) -> Self::Histogram;
    /// The empty histogram that a stale marker is stored as.
    fn stale(sum: f64) -> Self::Histogram;
    /// Writes all but the time of a chunk's first sample.
    fn write_first(w: &mut BitWriter, h: &Self::Histogram) -> Self::State;
    /// Writes all but the time of a later sample.
    fn write_next(w: &mut BitWriter, state: &mut Self::State, h: &Self::Histogram);
    /// The histogram in a value read back.
    fn from_value(value: SampleValue) -> Option<Self::Histogram>;
}

/// What is to happen before a histogram can be appended.
enum Fit {
    AsIs,
    /// The histogram gets the chunk's buckets.
    WidenSample,
    /// Chunk and histogram get these buckets.
    Recode(Vec<BucketSpan>, Vec<BucketSpan>),
    New(CounterResetHeader),
}

/// Builds one chunk of histograms.
#[derive(Debug, Clone)]
pub struct Appender<K: Kind> {
    bits: BitWriter,
    header: CounterResetHeader,
    layout: Layout,
    first_t_ms: TimestampMs,
    t_ms: TimestampMs,
    delta_ms: i64,
    count: u16,
    last: Option<(K::Histogram, K::State)>,
    /// Boxed, as few series have them.
    starts: Option<Box<StartTimes>>,
}

/// Builds a chunk of histograms with integer counts.
pub type HistogramAppender = Appender<Integer>;

impl<K: Kind> Appender<K> {
    /// An empty chunk that knows nothing of the one before.
    pub fn new() -> Self {
        Self::with_header(CounterResetHeader::Unknown)
    }

    /// An empty chunk. The header holds unless its first sample says gauge or reset itself.
    pub fn with_header(header: CounterResetHeader) -> Self {
        Self {
            bits: BitWriter::default(),
            header,
            layout: Layout::default(),
            first_t_ms: TimestampMs::EPOCH,
            t_ms: TimestampMs::EPOCH,
            delta_ms: 0,
            count: 0,
            last: None,
            starts: None,
        }
    }

    /// The empty chunk, to keep start timestamps.
    #[must_use]
    pub fn keeping_starts(self) -> Self {
        debug_assert_eq!(self.count, 0, "starts are kept from the first sample on");
        Self {
            starts: Some(Box::default()),
            ..self
        }
    }

    /// A chunk of one histogram. It keeps start timestamps if that one has any.
    pub fn beginning_with(header: CounterResetHeader, at: SampleTime, h: &K::Histogram) -> Self {
        let mut chunk = Self::with_header(header);
        if at.is_started() {
            chunk = chunk.keeping_starts();
        }
        let first = chunk.append_started(at, h);
        debug_assert_eq!(
            first,
            HistogramAppend::Appended,
            "an empty chunk takes any histogram"
        );
        chunk
    }

    /// Whether the chunk keeps start timestamps.
    pub fn keeps_starts(&self) -> bool {
        self.starts.is_some()
    }

    /// Appends a histogram of which is not known since when it counts, as [`Appender::append_started`] does.
    pub fn append(&mut self, t_ms: TimestampMs, h: &K::Histogram) -> HistogramAppend {
        self.append_started(SampleTime::unstarted(t_ms), h)
    }

    /// Appends a histogram, or says why it must begin another chunk. A stale one is stored as an empty one with its sum. The start
    /// timestamp is dropped if the chunk keeps none.
    ///
    /// # Panics
    /// When the chunk has 65,535 samples; one with start timestamps, 16,383.
    pub fn append_started(&mut self, at: SampleTime, h: &K::Histogram) -> HistogramAppend {
        let shape = K::shape(h);
        let hint = shape.hint;
        let stale = lgtm_core::model::is_stale_nan(shape.sum).then(|| K::stale(shape.sum));
        if self.count == 0 {
            self.header = match hint {
                CounterResetHint::Gauge => CounterResetHeader::Gauge,
                CounterResetHint::Reset => CounterResetHeader::Reset,
                _ if self.header == CounterResetHeader::Gauge => CounterResetHeader::Unknown,
                _ => self.header,
            };
            self.push(at, stale.as_ref().unwrap_or(h));
            return HistogramAppend::Appended;
        }
        match self.fit(h) {
            Fit::AsIs => self.push(at, stale.as_ref().unwrap_or(h)),
            Fit::WidenSample => {
                let (positive, negative) = (
                    self.layout.positive_spans.clone(),
                    self.layout.negative_spans.clone(),
                );
                self.push(at, &rebuilt::<K>(h, positive, negative));
            }
            Fit::Recode(positive, negative) => {
                self.recode(&positive, &negative);
                self.push(at, &rebuilt::<K>(h, positive, negative));
                return HistogramAppend::Recoded;
            }
            Fit::New(header) => return HistogramAppend::NewChunk(header),
        }
        HistogramAppend::Appended
    }

    /// The header of a chunk that `h` begins for another reason (size, time): what the comparison with this chunk says.
    pub fn next_header(&self, h: &K::Histogram) -> CounterResetHeader {
        match self.fit(h) {
            Fit::New(header)
                if header == CounterResetHeader::Reset
                    || K::AFTER_CUT == CounterResetHeader::Unknown =>
            {
                header
            }
            Fit::New(header) if K::ENCODING == Encoding::Histogram => header,
            _ => CounterResetHeader::NotReset,
        }
    }

    fn push(&mut self, at: SampleTime, h: &K::Histogram) {
        let SampleTime { t_ms, start_ms } = at;
        if self.count == 0 {
            let s = K::shape(h);
            self.layout = Layout {
                schema: s.schema,
                zero_threshold: s.zero_threshold,
                positive_spans: s.positive_spans.to_vec(),
                negative_spans: s.negative_spans.to_vec(),
                custom_values: s.custom_values.to_vec(),
            };
            self.layout.write(&mut self.bits);
            self.bits.vbi(t_ms.get());
            self.first_t_ms = t_ms;
            let state = K::write_first(&mut self.bits, h);
            self.last = Some((h.clone(), state));
        } else {
            let delta_ms = t_ms.wrapping_since(self.t_ms);
            self.bits.vbi(delta_ms.wrapping_sub(self.delta_ms));
            self.delta_ms = delta_ms;
            if let Some((last, state)) = &mut self.last {
                K::write_next(&mut self.bits, state, h);
                *last = h.clone();
            }
        }
        let mut max = u16::MAX;
        if let Some(starts) = &mut self.starts {
            starts.write(&mut self.bits, self.count, t_ms, self.t_ms, start_ms);
            max = MAX_STARTED;
        }
        self.t_ms = t_ms;
        assert!(self.count < max, "chunks are cut long before {max} samples");
        self.count += 1;
    }

    /// The rules of section 6.5 of the format page, in its order.
    fn fit(&self, h: &K::Histogram) -> Fit {
        use CounterResetHeader::{Gauge, Reset, Unknown};
        let Some((a, _)) = &self.last else {
            return Fit::AsIs;
        };
        let (sa, sh) = (K::shape(a), K::shape(h));
        let gauge = sh.hint == CounterResetHint::Gauge;
        let (a_stale, h_stale) = (
            lgtm_core::model::is_stale_nan(sa.sum),
            lgtm_core::model::is_stale_nan(sh.sum),
        );
        if gauge {
            if self.header != Gauge {
                return Fit::New(Gauge);
            }
        } else {
            if self.header == Gauge {
                return Fit::New(K::AFTER_GAUGE);
            }
            if sh.hint == CounterResetHint::Reset {
                return Fit::New(Reset);
            }
        }
        if h_stale {
            return Fit::AsIs;
        }
        let otherwise = if gauge { Gauge } else { Unknown };
        if a_stale {
            return Fit::New(otherwise);
        }
        let (ta, th) = (K::totals(a), K::totals(h));
        if !gauge && th.0 < ta.0 {
            return Fit::New(Reset);
        }
        if sh.schema != self.layout.schema
            || sh.zero_threshold.to_bits() != self.layout.zero_threshold.to_bits()
        {
            return Fit::New(otherwise);
        }
        if sh.custom_values != self.layout.custom_values {
            return Fit::New(if gauge { Gauge } else { Reset });
        }
        if !gauge && th.1 < ta.1 {
            return Fit::New(Reset);
        }
        self.fit_buckets(a, h, gauge)
    }

    fn fit_buckets(&self, a: &K::Histogram, h: &K::Histogram, gauge: bool) -> Fit {
        let (ca, ch) = (K::counts(a), K::counts(h));
        let sh = K::shape(h);
        let layout = &self.layout;
        let positive = compare(
            &layout.positive_spans,
            &ca.0,
            sh.positive_spans,
            &ch.0,
            gauge,
        );
        let negative = compare(
            &layout.negative_spans,
            &ca.1,
            sh.negative_spans,
            &ch.1,
            gauge,
        );
        let (Some(positive), Some(negative)) = (positive, negative) else {
            return Fit::New(CounterResetHeader::Reset);
        };
        let forward = positive.forward || negative.forward;
        let backward = positive.backward || negative.backward;
        match (forward, backward) {
            (false, false) => Fit::AsIs,
            (false, true) => Fit::WidenSample,
            (true, false) => Fit::Recode(sh.positive_spans.to_vec(), sh.negative_spans.to_vec()),
            (true, true) => {
                let side = |d: &Inserts, ours: &[BucketSpan], theirs: &[BucketSpan]| {
                    if gauge || d.backward {
                        union(ours, theirs)
                    } else {
                        theirs.to_vec()
                    }
                };
                let positive = side(&positive, &layout.positive_spans, sh.positive_spans);
                let negative = side(&negative, &layout.negative_spans, sh.negative_spans);
                if is_readable(&positive) && is_readable(&negative) {
                    Fit::Recode(positive, negative)
                } else if gauge {
                    // Each alone can be read, both in one chunk could not.
                    Fit::New(CounterResetHeader::Gauge)
                } else {
                    Fit::New(K::AFTER_CUT)
                }
            }
        }
    }

    /// Rewrites all samples with other buckets; the header stays.
    fn recode(&mut self, positive: &[BucketSpan], negative: &[BucketSpan]) {
        let old = self.snapshot();
        let mut fresh = Self::with_header(self.header);
        fresh.starts = self.starts.as_ref().map(|_| Box::default());
        let written = "what the appender wrote can be read";
        let mut samples = ChunkIter::new(old.encoding, &old.data).expect(written);
        while let Some(sample) = samples.next() {
            let (t_ms, value) = sample.expect(written);
            let start_ms = samples.start_ms();
            let at = SampleTime { t_ms, start_ms };
            let h = K::from_value(value).expect(written);
            if lgtm_core::model::is_stale_nan(K::shape(&h).sum) {
                fresh.push(at, &h);
            } else {
                fresh.push(at, &rebuilt::<K>(&h, positive.to_vec(), negative.to_vec()));
            }
        }
        *self = fresh;
    }

    /// Samples in the chunk.
    pub fn sample_count(&self) -> u16 {
        self.count
    }

    /// Bytes of the chunk as it stands.
    pub fn size_bytes(&self) -> usize {
        3 + self.bits.len_bytes()
    }

    /// Time of the first sample; 0 while there is none.
    pub fn first_t_ms(&self) -> TimestampMs {
        self.first_t_ms
    }

    /// Time of the newest sample; 0 while there is none.
    pub fn last_t_ms(&self) -> TimestampMs {
        self.t_ms
    }

    /// The newest sample, over the chunk's buckets.
    pub fn last(&self) -> Option<&K::Histogram> {
        self.last.as_ref().map(|(h, _)| h)
    }

    /// The chunk as it stands, for readers.
    pub fn snapshot(&self) -> Chunk {
        let mut data = Vec::with_capacity(self.size_bytes());
        let header = self.header.bits();
        match &self.starts {
            None => {
                data.extend_from_slice(&self.count.to_be_bytes());
                data.push(header << 6);
            }
            Some(starts) => {
                let count = u16::from(header) << 14 | self.count;
                data.extend_from_slice(&count.to_be_bytes());
                data.push(starts.header());
            }
        }
        self.bits.copy_to(&mut data);
        Chunk {
            min_ms: self.first_t_ms,
            max_ms: self.t_ms,
            encoding: match self.starts {
                None => K::ENCODING,
                Some(_) => K::ENCODING_ST,
            },
            data: data.into(),
        }
    }
}

impl<K: Kind> Default for Appender<K> {
    fn default() -> Self {
        Self::new()
    }
}

fn rebuilt<K: Kind>(
    h: &K::Histogram,
    positive: Vec<BucketSpan>,
    negative: Vec<BucketSpan>,
) -> K::Histogram {
    let shape = K::shape(h);
    let counts = K::counts(h);
    let p = widen(&counts.0, shape.positive_spans, &positive);
    let n = widen(&counts.1, shape.negative_spans, &negative);
    K::rebuild(h, (positive, p), (negative, n))
}

/// Which side lacks buckets that the other has.
struct Inserts {
    /// The chunk lacks some.
    forward: bool,
    /// The sample lacks some.
    backward: bool,
}

/// Compares the buckets of one sign; `None` is a counter reset.
fn compare<C: Copy + PartialOrd + Default>(
    ours: &[BucketSpan],
    our_counts: &[C],
    theirs: &[BucketSpan],
    their_counts: &[C],
    gauge: bool,
) -> Option<Inserts> {
    let mut a = indices(ours).zip(our_counts.iter().copied()).peekable();
    let mut h = indices(theirs).zip(their_counts.iter().copied()).peekable();
    let mut inserts = Inserts {
        forward: false,
        backward: false,
    };
    loop {
        let order = match (a.peek(), h.peek()) {
            (None, None) => return Some(inserts),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((i, _)), Some((j, _))) => i.cmp(j),
        };
        match order {
            Ordering::Less => {
                let (_, count) = a.next()?;
                if !gauge && count != C::default() {
                    return None;
                }
                inserts.backward = true;
            }
            Ordering::Greater => {
                h.next();
                inserts.forward = true;
            }
            Ordering::Equal => {
                let ((_, old), (_, new)) = (a.next()?, h.next()?);
                if !gauge && new < old {
                    return None;
                }
            }
        }
    }
}

/// Spans of the buckets that are in either; costs one walk over both.
fn union(a: &[BucketSpan], b: &[BucketSpan]) -> Vec<BucketSpan> {
    let (mut a, mut b) = (indices(a).peekable(), indices(b).peekable());
    spans_of(std::iter::from_fn(move || {
        let next = match (a.peek(), b.peek()) {
            (Some(i), Some(j)) => *i.min(j),
            (i, j) => *i.or(j)?,
        };
        a.next_if_eq(&next);
        b.next_if_eq(&next);
        Some(next)
    }))
}

/// Integer counts; buckets as differences to the neighbour.
#[derive(Debug, Clone, Copy)]
pub struct Integer;

/// Values and first differences of the integers of the sample before.
#[derive(Debug, Clone)]
pub struct IntegerState {
    totals: [(i64, i64); 2],
    sum: XorState,
    buckets: Vec<(i64, i64)>,
}

fn write_dod(w: &mut BitWriter, (value, delta): &mut (i64, i64), new: i64) {
    let d = new.wrapping_sub(*value);
    w.vbi(d.wrapping_sub(*delta));
    (*value, *delta) = (new, d);
}

pub(super) fn absolute(deltas: &[i64]) -> Vec<i64> {
    let mut n = 0i64;
    let sum = |d: &i64| {
        n = n.wrapping_add(*d);
        n
    };
    deltas.iter().map(sum).collect()
}

fn differences(counts: &[i64]) -> Vec<i64> {
    let mut last = 0i64;
    counts
        .iter()
        .map(|c| c.wrapping_sub(std::mem::replace(&mut last, *c)))
        .collect()
}

impl Kind for Integer {
    type Histogram = Histogram;
    type Count = i64;
    type State = IntegerState;
    const ENCODING: Encoding = Encoding::Histogram;
    const ENCODING_ST: Encoding = Encoding::HistogramSt;
    const AFTER_GAUGE: CounterResetHeader = CounterResetHeader::NotReset;
    const AFTER_CUT: CounterResetHeader = CounterResetHeader::Unknown;

    fn shape(h: &Histogram) -> Shape<'_> {
        Shape {
            hint: h.hint,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            sum: h.sum,
            positive_spans: &h.positive_spans,
            negative_spans: &h.negative_spans,
            custom_values: &h.custom_values,
        }
    }

    fn totals(h: &Histogram) -> (i64, i64) {
        (h.count as i64, h.zero_count as i64)
    }

    fn counts(h: &Histogram) -> (Vec<i64>, Vec<i64>) {
        (absolute(&h.positive_deltas), absolute(&h.negative_deltas))
    }

    fn rebuild(
        h: &Histogram,
        positive: (Vec<BucketSpan>, Vec<i64>),
        negative: (Vec<BucketSpan>, Vec<i64>),
    ) -> Histogram {
        Histogram {
            hint: h.hint,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            zero_count: h.zero_count,
            count: h.count,
            sum: h.sum,
            positive_spans: positive.0,
            negative_spans: negative.0,
            positive_deltas: differences(&positive.1),
            negative_deltas: differences(&negative.1),
            custom_values: h.custom_values.clone(),
        }
    }

    fn stale(sum: f64) -> Histogram {
        Histogram {
            sum,
            ..Histogram::default()
        }
    }

    fn write_first(w: &mut BitWriter, h: &Histogram) -> IntegerState {
        w.vbu(h.count);
        w.vbu(h.zero_count);
        w.write(h.sum.to_bits(), 64);
        let buckets: Vec<_> = h
            .positive_deltas
            .iter()
            .chain(&h.negative_deltas)
            .map(|d| (*d, 0))
            .collect();
        buckets.iter().for_each(|b| w.vbi(b.0));
        let totals = [(h.count as i64, 0), (h.zero_count as i64, 0)];
        IntegerState {
            totals,
            sum: XorState::starting_at(h.sum),
            buckets,
        }
    }

    fn write_next(w: &mut BitWriter, state: &mut IntegerState, h: &Histogram) {
        if h.is_stale() {
            // Counts are written as "no change of the difference", whatever they were: nothing but stale markers follows.
            w.write(0, 2);
            return state.sum.write(w, h.sum);
        }
        write_dod(w, &mut state.totals[0], h.count as i64);
        write_dod(w, &mut state.totals[1], h.zero_count as i64);
        state.sum.write(w, h.sum);
        let deltas = h.positive_deltas.iter().chain(&h.negative_deltas);
        state
            .buckets
            .iter_mut()
            .zip(deltas)
            .for_each(|(b, d)| write_dod(w, b, *d));
    }

    fn from_value(value: SampleValue) -> Option<Histogram> {
        match value {
            SampleValue::Histogram(h) => Some(*h),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lgtm_core::model::MAX_HISTOGRAM_BUCKETS;

    /// `buckets` buckets from `first` on, each holding one observation.
    fn gauge(first: i32, buckets: usize) -> Histogram {
        let mut deltas = vec![0; buckets];
        deltas[0] = 1;
        Histogram {
            hint: CounterResetHint::Gauge,
            count: buckets as u64,
            positive_spans: vec![BucketSpan {
                offset: first,
                length: buckets as u32,
            }],
            positive_deltas: deltas,
            ..Histogram::default()
        }
    }

    #[test]
    fn histograms_that_one_chunk_could_not_be_read_with_go_into_two() {
        let half = MAX_HISTOGRAM_BUCKETS / 2;
        let mut chunk = HistogramAppender::new();
        chunk.append(TimestampMs::new(1), &gauge(0, half));
        let fits = chunk
            .clone()
            .append(TimestampMs::new(2), &gauge(half as i32, half));
        assert_eq!(fits, HistogramAppend::Recoded);
        let larger = gauge(half as i32, half + 1);
        let taken = chunk.append(TimestampMs::new(2), &larger);
        assert_eq!(taken, HistogramAppend::NewChunk(CounterResetHeader::Gauge));
        let mut next = HistogramAppender::with_header(CounterResetHeader::Gauge);
        next.append(TimestampMs::new(2), &larger);
        for (chunk, buckets) in [(chunk, half), (next, half + 1)] {
            let chunk = chunk.snapshot();
            let mut samples = ChunkIter::new(chunk.encoding, &chunk.data).unwrap();
            let (_, value) = samples.next().unwrap().unwrap();
            let read = Integer::from_value(value).unwrap();
            assert_eq!(read.positive_deltas.len(), buckets);
        }
    }

    #[test]
    fn a_union_has_the_buckets_of_both_in_order() {
        let spans = |of: &[(i32, u32)]| -> Vec<BucketSpan> {
            let span = |&(offset, length): &(i32, u32)| BucketSpan { offset, length };
            of.iter().map(span).collect()
        };
        let (a, b) = (spans(&[(-3, 2), (4, 1)]), spans(&[(-2, 1), (0, 0), (3, 3)]));
        assert_eq!(
            indices(&union(&a, &b)).collect::<Vec<_>>(),
            [-3, -2, 2, 3, 4]
        );
        assert_eq!(union(&a, &[]), a);
        assert_eq!(union(&[], &a), a);
    }
}
