//! What the head writes to the write-ahead log: see `docs/format/head_records.md`.
//!
//! Samples stand in columns. A value is written relative to its series' *base*, a value that an anchor record holds together with
//! the labels; most samples of real systems equal their base or differ by a small integer. Anchors are written twice, into
//! different frames of the log, so that the loss of any one frame never makes another one unreadable.

use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, put_bytes, put_svarint, put_uvarint};
use lgtm_core::model::{
    BucketSpan, CounterResetHint, Exemplar, FloatHistogram, Histogram, LabelBuilder, Labels,
    Metadata, MetricType, TimestampMs,
};
use lgtm_core::postings::SeriesId;

use super::columns::{IdColumn, Ids, ValueColumns, Values};
use crate::chunk::SampleTime;
use crate::wire::HistogramValue;

/// Record kinds, as the log stores them.
pub(super) mod kind {
    pub(in super::super) const ANCHORS: u8 = 1;
    pub(in super::super) const SAMPLES: u8 = 2;
    pub(in super::super) const HISTOGRAMS: u8 = 3;
    pub(in super::super) const EXEMPLARS: u8 = 4;
    pub(in super::super) const METADATA: u8 = 5;
    pub(in super::super) const SERIES_STATE: u8 = 6;
    pub(in super::super) const HEAD_STATE: u8 = 7;
    /// [`SAMPLES`] with since when they count; since version 2.
    pub(in super::super) const STARTED_SAMPLES: u8 = 8;
    /// [`HISTOGRAMS`] with since when they count; since version 2.
    pub(in super::super) const STARTED_HISTOGRAMS: u8 = 9;
    /// Chunks of series of a checkpoint that blocks have; since version 3.
    pub(in super::super) const MOVED_CHUNKS: u8 = 10;
}

/// Since when samples count. Written only when that is known of one.
#[derive(Debug, Default)]
struct StartColumn {
    bytes: Vec<u8>,
    count: u64,
    last_ms: TimestampMs,
}

impl StartColumn {
    /// The start of the sample behind `before` others; of those not told it is not known.
    fn push(&mut self, before: u64, start_ms: TimestampMs) {
        self.fill(before);
        self.put(start_ms);
    }

    fn fill(&mut self, count: u64) {
        while self.count < count {
            self.put(TimestampMs::EPOCH);
        }
    }

    fn put(&mut self, start_ms: TimestampMs) {
        put_svarint(&mut self.bytes, start_ms.wrapping_since(self.last_ms));
        self.last_ms = start_ms;
        self.count += 1;
    }

    /// Appends the starts of `count` samples to `out`, if there are any, and starts anew. Tells whether there were.
    fn encode(&mut self, count: u64, out: &mut Vec<u8>) -> bool {
        if self.count == 0 {
            return false;
        }
        self.fill(count);
        put_bytes(out, &self.bytes);
        self.bytes.clear();
        (self.count, self.last_ms) = (0, TimestampMs::EPOCH);
        true
    }
}

/// Reads a start column; without one nothing is known.
struct Starts<'a> {
    r: Option<Reader<'a>>,
    last_ms: TimestampMs,
}

impl<'a> Starts<'a> {
    fn new(r: &mut Reader<'a>, are_there: bool) -> Result<Self, DecodeError> {
        let bytes = if are_there {
            Some(Reader::new("sample starts", r.bytes()?))
        } else {
            None
        };
        Ok(Self {
            r: bytes,
            last_ms: TimestampMs::EPOCH,
        })
    }

    #[inline]
    fn next(&mut self) -> Result<TimestampMs, DecodeError> {
        if let Some(r) = &mut self.r {
            self.last_ms = self.last_ms.wrapping_add(r.svarint()?);
        }
        Ok(self.last_ms)
    }
}

/// Collects the samples of one request, column by column. Reused from request to request.
#[derive(Debug, Default)]
pub(super) struct SampleColumns {
    count: u64,
    ids: IdColumn,
    starts: StartColumn,
    times: Vec<u8>,
    last_t_ms: TimestampMs,
    values: ValueColumns,
    tags: u32,
}

impl SampleColumns {
    /// Whether nothing was pushed since the last [`SampleColumns::encode`].
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds one sample of a series.
    #[inline]
    pub(super) fn push(&mut self, anchor: Anchor, at: SampleTime, value: f64) {
        let Anchor { id, tag, base } = anchor;
        let t_ms = at.t_ms;
        if at.is_started() {
            self.starts.push(self.count, at.start_ms);
        }
        self.count += 1;
        self.tags = self.tags.wrapping_add(tag);
        self.ids.push(id);
        put_svarint(&mut self.times, t_ms.wrapping_since(self.last_t_ms));
        self.last_t_ms = t_ms;
        self.values.push(value, base);
    }

    /// Appends the record to `out` and starts anew. Gives its kind.
    pub(super) fn encode(&mut self, tenant: &str, out: &mut Vec<u8>) -> u8 {
        put_bytes(out, tenant.as_bytes());
        put_uvarint(out, self.count);
        out.extend_from_slice(&self.tags.to_le_bytes());
        self.tags = 0;
        self.ids.encode(out);
        let are_started = self.starts.encode(self.count, out);
        put_bytes(out, &self.times);
        self.values.encode(out);
        self.times.clear();
        (self.count, self.last_t_ms) = (0, TimestampMs::EPOCH);
        if are_started {
            kind::STARTED_SAMPLES
        } else {
            kind::SAMPLES
        }
    }
}

/// Reads a samples record of either kind behind its tenant. `anchor_of` gives what an id means, as far as the log has said it.
///
/// `Ok(false)`, with nothing given to `sink`, when the record means other series than `anchor_of` knows: then the anchors that it
/// was written with are missing. The tags of its series tell.
pub(super) fn decode_samples(
    kind: u8,
    r: &mut Reader<'_>,
    anchor_of: impl Fn(SeriesId) -> Option<Anchor>,
    mut sink: impl FnMut(SeriesId, SampleTime, f64),
) -> Result<bool, DecodeError> {
    let count = r.length()?;
    let wanted = r.u32_le()?;
    let ids = Ids::new(r)?;
    if !tags_match(ids.clone(), count, wanted, &anchor_of)? {
        return Ok(false);
    }
    let mut ids = ids;
    let mut starts = Starts::new(r, kind == kind::STARTED_SAMPLES)?;
    let mut times = Reader::new("sample times", r.bytes()?);
    let mut values = Values::new(r, count)?;
    let mut t_ms = TimestampMs::EPOCH;
    for _ in 0..count {
        let Some(anchor) = anchor_of(ids.next()?) else {
            return Ok(false);
        };
        t_ms = t_ms.wrapping_add(times.svarint()?);
        let start_ms = starts.next()?;
        let at = SampleTime { t_ms, start_ms };
        sink(anchor.id, at, values.next(anchor.base)?);
    }
    Ok(true)
}

/// Number of samples in a record, behind its tenant.
pub(super) fn sample_count(r: &mut Reader<'_>) -> Result<u64, DecodeError> {
    r.length().map(|n| n as u64)
}

fn tags_match(
    mut ids: Ids<'_>,
    count: usize,
    wanted: u32,
    anchor_of: &impl Fn(SeriesId) -> Option<Anchor>,
) -> Result<bool, DecodeError> {
    let mut tags = 0u32;
    for _ in 0..count {
        match anchor_of(ids.next()?) {
            Some(anchor) => tags = tags.wrapping_add(anchor.tag),
            None => return Ok(false),
        }
    }
    Ok(tags == wanted)
}

/// What an id stands for in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Anchor {
    /// The series.
    pub(super) id: SeriesId,
    /// Check of labels and base, see [`anchor_tag`].
    pub(super) tag: u32,
    /// What its values are written relative to.
    pub(super) base: f64,
}

/// A check of what an anchor says. Records carry the sum of the tags of their series, so that a record is never read with
/// anchors other than those it was written with, whatever the log has lost.
pub(super) fn anchor_tag(labels: &Labels, base: f64) -> u32 {
    let mixed = labels.stable_hash() ^ base.to_bits().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 32) as u32
}

/// Collects anchors: the labels and the base of series.
///
/// A series of a scrape shares most labels with the one before it: those are written as their place there, the others as they
/// are.
#[derive(Debug, Default)]
pub(super) struct Anchors {
    count: u64,
    ids: IdColumn,
    /// For each series the number of its labels, for each label its place in the series before plus one, or 0.
    places: Vec<u8>,
    /// Labels that the series before does not have.
    literals: Vec<u8>,
    bases: ValueColumns,
    previous: Vec<Vec<u8>>,
    current: Vec<Vec<u8>>,
}

impl Anchors {
    /// Whether nothing was pushed.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a series; `labels` are in canonical spelling.
    pub(super) fn push(&mut self, id: SeriesId, labels: &[u8], base: f64) {
        self.count += 1;
        self.ids.push(id);
        self.bases.push(base, 0.0);
        let mut n = 0;
        let mut rest = labels;
        while !rest.is_empty() {
            let (label, behind) = rest.split_at(label_len(rest));
            rest = behind;
            if self.current.len() <= n {
                self.current.push(Vec::new());
            }
            self.current[n].clear();
            self.current[n].extend_from_slice(label);
            n += 1;
        }
        self.current.truncate(n);
        put_uvarint(&mut self.places, n as u64);
        for label in &self.current {
            match self.previous.iter().position(|p| p == label) {
                Some(place) => put_uvarint(&mut self.places, place as u64 + 1),
                None => {
                    self.places.push(0);
                    self.literals.extend_from_slice(label);
                }
            }
        }
        std::mem::swap(&mut self.previous, &mut self.current);
    }

    /// Appends the record to `out` and starts anew.
    pub(super) fn encode(&mut self, tenant: &str, out: &mut Vec<u8>) {
        put_bytes(out, tenant.as_bytes());
        put_uvarint(out, self.count);
        self.ids.encode(out);
        self.bases.encode(out);
        put_bytes(out, &self.places);
        out.extend_from_slice(&self.literals);
        self.count = 0;
        self.places.clear();
        self.literals.clear();
        self.previous.clear();
    }
}

/// Bytes of the label that `labels`, in canonical spelling, begin with: tag, length, inside.
fn label_len(labels: &[u8]) -> usize {
    let mut r = Reader::new("labels", labels);
    match r.u8().and_then(|_| r.bytes()) {
        Ok(_) => r.position(),
        Err(_) => labels.len(),
    }
}

/// Reads an anchors record behind its tenant: id, labels in canonical spelling, base.
pub(super) fn decode_anchors(
    r: &mut Reader<'_>,
    mut sink: impl FnMut(SeriesId, &[u8], f64) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let count = r.length()?;
    let mut ids = Ids::new(r)?;
    let mut bases = Values::new(r, count)?;
    let mut places = Reader::new("label places", r.bytes()?);
    let mut literals = Reader::new("labels", r.take(r.remaining())?);
    let (mut previous, mut current): (Vec<&[u8]>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    let mut labels = Vec::new();
    for _ in 0..count {
        let id = ids.next()?;
        let base = bases.next(0.0)?;
        current.clear();
        labels.clear();
        for _ in 0..places.length()? {
            let label = match places.uvarint()? {
                0 => {
                    let all = literals.rest();
                    literals.take(label_len(all))?
                }
                place => usize::try_from(place - 1)
                    .ok()
                    .and_then(|p| previous.get(p).copied())
                    .ok_or_else(|| {
                        places.error(format!("label place {place} of {} labels", previous.len()))
                    })?,
            };
            current.push(label);
            labels.extend_from_slice(label);
        }
        sink(id, &labels, base)?;
        std::mem::swap(&mut previous, &mut current);
    }
    Ok(())
}

/// Collects the native histograms of one request.
#[derive(Debug, Default)]
pub(super) struct Histograms {
    count: u64,
    tags: u32,
    ids: IdColumn,
    starts: StartColumn,
    body: Vec<u8>,
}

impl Histograms {
    /// Whether nothing was pushed.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds one.
    pub(super) fn push(&mut self, anchor: Anchor, at: SampleTime, value: &HistogramValue) {
        if at.is_started() {
            self.starts.push(self.count, at.start_ms);
        }
        self.count += 1;
        self.tags = self.tags.wrapping_add(anchor.tag);
        self.ids.push(anchor.id);
        let out = &mut self.body;
        put_svarint(out, at.t_ms.get());
        match value {
            HistogramValue::Int(h) => {
                out.push(0);
                put_shape(out, h.hint, h.schema, [h.zero_threshold, h.sum]);
                put_uvarint(out, h.zero_count);
                put_uvarint(out, h.count);
                for (spans, deltas) in [
                    (&h.positive_spans, &h.positive_deltas),
                    (&h.negative_spans, &h.negative_deltas),
                ] {
                    put_spans(out, spans);
                    put_uvarint(out, deltas.len() as u64);
                    deltas.iter().for_each(|d| put_svarint(out, *d));
                }
                put_floats(out, &h.custom_values);
            }
            HistogramValue::Float(h) => {
                out.push(1);
                put_shape(out, h.hint, h.schema, [h.zero_threshold, h.sum]);
                out.extend_from_slice(&h.zero_count.to_bits().to_le_bytes());
                out.extend_from_slice(&h.count.to_bits().to_le_bytes());
                for (spans, counts) in [
                    (&h.positive_spans, &h.positive_counts),
                    (&h.negative_spans, &h.negative_counts),
                ] {
                    put_spans(out, spans);
                    put_floats(out, counts);
                }
                put_floats(out, &h.custom_values);
            }
        }
    }

    /// Appends the record to `out` and starts anew. Gives its kind.
    pub(super) fn encode(&mut self, tenant: &str, out: &mut Vec<u8>) -> u8 {
        put_bytes(out, tenant.as_bytes());
        put_uvarint(out, self.count);
        out.extend_from_slice(&self.tags.to_le_bytes());
        self.tags = 0;
        self.ids.encode(out);
        let are_started = self.starts.encode(self.count, out);
        out.extend_from_slice(&self.body);
        self.count = 0;
        self.body.clear();
        if are_started {
            kind::STARTED_HISTOGRAMS
        } else {
            kind::HISTOGRAMS
        }
    }
}

fn put_shape(out: &mut Vec<u8>, hint: CounterResetHint, schema: i32, floats: [f64; 2]) {
    out.push(match hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::Reset => 1,
        CounterResetHint::NotReset => 2,
        CounterResetHint::Gauge => 3,
    });
    put_svarint(out, i64::from(schema));
    for f in floats {
        out.extend_from_slice(&f.to_bits().to_le_bytes());
    }
}

fn put_spans(out: &mut Vec<u8>, spans: &[BucketSpan]) {
    put_uvarint(out, spans.len() as u64);
    for s in spans {
        put_svarint(out, i64::from(s.offset));
        put_uvarint(out, u64::from(s.length));
    }
}

fn put_floats(out: &mut Vec<u8>, floats: &[f64]) {
    put_uvarint(out, floats.len() as u64);
    for f in floats {
        out.extend_from_slice(&f.to_bits().to_le_bytes());
    }
}

fn f64_le(r: &mut Reader<'_>) -> Result<f64, DecodeError> {
    Ok(f64::from_bits(r.u64_le()?))
}

fn series_id(r: &mut Reader<'_>) -> Result<SeriesId, DecodeError> {
    let id = r.uvarint()?;
    SeriesId::try_from(id).map_err(|_| r.error(format!("series id {id} is out of range")))
}

/// Reads a histograms record behind its tenant, as [`decode_samples`] does.
pub(super) fn decode_histograms(
    kind: u8,
    r: &mut Reader<'_>,
    anchor_of: impl Fn(SeriesId) -> Option<Anchor>,
    mut sink: impl FnMut(SeriesId, SampleTime, HistogramValue),
) -> Result<bool, DecodeError> {
    let count = r.length()?;
    let wanted = r.u32_le()?;
    let mut ids = Ids::new(r)?;
    if !tags_match(ids.clone(), count, wanted, &anchor_of)? {
        return Ok(false);
    }
    let mut starts = Starts::new(r, kind == kind::STARTED_HISTOGRAMS)?;
    for _ in 0..count {
        let Some(Anchor { id, .. }) = anchor_of(ids.next()?) else {
            return Ok(false);
        };
        let at = SampleTime {
            t_ms: TimestampMs::new(r.svarint()?),
            start_ms: starts.next()?,
        };
        let float = match r.u8()? {
            0 => false,
            1 => true,
            k => return Err(r.error(format!("unknown histogram kind {k}"))),
        };
        let hint = match r.u8()? {
            0 => CounterResetHint::Unknown,
            1 => CounterResetHint::Reset,
            2 => CounterResetHint::NotReset,
            3 => CounterResetHint::Gauge,
            h => return Err(r.error(format!("unknown counter reset hint {h}"))),
        };
        let schema = r.svarint()?;
        let schema = i32::try_from(schema)
            .map_err(|_| r.error(format!("schema {schema} is out of range")))?;
        let (zero_threshold, sum) = (f64_le(r)?, f64_le(r)?);
        let value = if float {
            let (zero_count, count) = (f64_le(r)?, f64_le(r)?);
            let (positive_spans, positive_counts) = (spans(r)?, floats(r)?);
            let (negative_spans, negative_counts) = (spans(r)?, floats(r)?);
            let custom_values = floats(r)?;
            HistogramValue::Float(Box::new(FloatHistogram {
                hint,
                schema,
                zero_threshold,
                zero_count,
                count,
                sum,
                positive_spans,
                negative_spans,
                positive_counts,
                negative_counts,
                custom_values,
            }))
        } else {
            let (zero_count, count) = (r.uvarint()?, r.uvarint()?);
            let (positive_spans, positive_deltas) = (spans(r)?, deltas(r)?);
            let (negative_spans, negative_deltas) = (spans(r)?, deltas(r)?);
            let custom_values = floats(r)?;
            HistogramValue::Int(Box::new(Histogram {
                hint,
                schema,
                zero_threshold,
                zero_count,
                count,
                sum,
                positive_spans,
                negative_spans,
                positive_deltas,
                negative_deltas,
                custom_values,
            }))
        };
        sink(id, at, value);
    }
    Ok(true)
}

fn spans(r: &mut Reader<'_>) -> Result<Vec<BucketSpan>, DecodeError> {
    let n = r.length()?;
    let mut out = Vec::with_capacity(n.min(64));
    for _ in 0..n {
        let (offset, length) = (r.svarint()?, r.uvarint()?);
        let bad = |_| r.error(format!("bucket span ({offset}, {length}) is out of range"));
        out.push(BucketSpan {
            offset: i32::try_from(offset).map_err(bad)?,
            length: u32::try_from(length).map_err(bad)?,
        });
    }
    Ok(out)
}

fn deltas(r: &mut Reader<'_>) -> Result<Vec<i64>, DecodeError> {
    let n = r.length()?;
    (0..n).map(|_| r.svarint()).collect()
}

fn floats(r: &mut Reader<'_>) -> Result<Vec<f64>, DecodeError> {
    let n = r.length()?;
    if n > r.remaining() / 8 {
        return Err(r.error(format!(
            "{n} floats do not fit into {} bytes",
            r.remaining()
        )));
    }
    (0..n).map(|_| f64_le(r)).collect()
}

/// Writes one exemplar of a series.
pub(super) fn encode_exemplar(id: SeriesId, e: &Exemplar, out: &mut Vec<u8>) {
    put_uvarint(out, u64::from(id));
    put_svarint(out, e.t_ms.get());
    out.extend_from_slice(&e.value.to_bits().to_le_bytes());
    put_uvarint(out, e.labels.len() as u64);
    for (name, value) in e.labels.iter() {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

/// Reads exemplars up to the end of a record, behind its tenant.
pub(super) fn decode_exemplars(
    r: &mut Reader<'_>,
    mut sink: impl FnMut(SeriesId, Exemplar),
) -> Result<(), DecodeError> {
    while !r.is_empty() {
        let id = series_id(r)?;
        let (t_ms, value) = (r.svarint()?, f64_le(r)?);
        let mut labels = LabelBuilder::default();
        for _ in 0..r.length()? {
            let (name, value) = (r.str()?, r.str()?);
            labels.push(name, value);
        }
        let labels = labels.build().map_err(|e| r.error(e.to_string()))?;
        sink(
            id,
            Exemplar {
                labels,
                value,
                t_ms: TimestampMs::new(t_ms),
            },
        );
    }
    Ok(())
}

/// Writes the metadata of one metric.
pub(super) fn encode_metadata(name: &str, m: &Metadata, out: &mut Vec<u8>) {
    put_bytes(out, name.as_bytes());
    out.push(m.metric_type as u8);
    put_bytes(out, m.help.as_bytes());
    put_bytes(out, m.unit.as_bytes());
}

/// Reads metadata up to the end of a record, behind its tenant.
pub(super) fn decode_metadata(
    r: &mut Reader<'_>,
    mut sink: impl FnMut(&str, Metadata),
) -> Result<(), DecodeError> {
    while !r.is_empty() {
        let name = r.str()?;
        let metric_type = MetricType::from_wire(u64::from(r.u8()?));
        let (help, unit) = (r.str()?.to_owned(), r.str()?.to_owned());
        sink(
            name,
            Metadata {
                metric_type,
                help,
                unit,
            },
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::RawLabelsBuilder;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            (-1_000_000i64..1_000_000).prop_map(|i| i as f64),
            (-1_000_000_000i64..1_000_000_000, 0usize..5)
                .prop_map(|(i, k)| i as f64 / 10f64.powi(k as i32)),
            Just(0.0),
            Just(-0.0),
            Just(f64::INFINITY),
            Just(9e15),
            Just(f64::from_bits(0x7ff0_0000_0000_0002)),
        ]
    }

    proptest! {
        #[test]
        fn samples_come_back_to_the_bit(
            samples in proptest::collection::btree_map(any::<u32>(), (any::<i64>(), value(), value()), 0..50),
            starts in proptest::collection::vec(prop_oneof![4 => Just(0i64), 2 => Just(77), 1 => any::<i64>()], 50),
            with_starts: bool,
        ) {
            let anchor = |id: u32| samples.get(&id).map(|s| Anchor { id, tag: id ^ 7, base: s.2 });
            let start_of = |n: usize| if with_starts { starts[n] } else { 0 };
            let mut columns = SampleColumns::default();
            for (n, (id, (t_ms, v, _))) in samples.iter().enumerate() {
                let at = SampleTime { t_ms: TimestampMs::new(*t_ms), start_ms: TimestampMs::new(start_of(n)) };
                columns.push(anchor(*id).unwrap(), at, *v);
            }
            let mut out = Vec::new();
            let kind = columns.encode("team-a", &mut out);
            let any_started = (0..samples.len()).any(|n| start_of(n) != 0);
            prop_assert_eq!(kind, if any_started { kind::STARTED_SAMPLES } else { kind::SAMPLES });
            prop_assert!(columns.is_empty());
            let mut r = Reader::new("record", &out);
            prop_assert_eq!(r.str()?, "team-a");
            let mut want = samples.iter().enumerate();
            let read = decode_samples(kind, &mut r.clone(), anchor, |id, at, v| {
                let (n, (wid, (t_ms, wv, _))) = want.next().unwrap();
                let wanted = SampleTime { t_ms: TimestampMs::new(*t_ms), start_ms: TimestampMs::new(start_of(n)) };
                assert_eq!((id, at, v.to_bits()), (*wid, wanted, wv.to_bits()));
            })?;
            prop_assert!(read && want.next().is_none());
            // With one anchor missing, or another than the writer had, nothing is read.
            if let Some(first) = samples.keys().next() {
                let missing = |id: u32| anchor(id).filter(|_| id != *first);
                prop_assert!(!decode_samples(kind, &mut r.clone(), missing, |_, _, _| panic!())?);
                let other = |id: u32| anchor(id).map(|a| Anchor { tag: a.tag.wrapping_add(u32::from(id == *first)), ..a });
                prop_assert!(!decode_samples(kind, &mut r, other, |_, _, _| panic!())?);
            }
        }

        #[test]
        fn histograms_come_back(
            rows in proptest::collection::vec((any::<u32>(), any::<i64>(), prop_oneof![Just(0i64), any::<i64>()], any::<u64>(), any::<bool>()), 0..20),
        ) {
            let anchor = |id: u32| Some(Anchor { id, tag: id, base: 0.0 });
            let value = |count: u64, float: bool| if float { HistogramValue::from(FloatHistogram { count: count as f64, ..FloatHistogram::default() }) } else { HistogramValue::from(Histogram { count, ..Histogram::default() }) };
            let mut columns = Histograms::default();
            for (id, t_ms, start_ms, count, float) in rows.iter().copied() {
                columns.push(anchor(id).unwrap(), SampleTime { t_ms: t_ms.into(), start_ms: start_ms.into() }, &value(count, float));
            }
            let mut out = Vec::new();
            let kind = columns.encode("t", &mut out);
            let mut r = Reader::new("record", &out);
            r.str()?;
            let mut want = rows.iter().copied();
            let read = decode_histograms(kind, &mut r, anchor, |id, at, v| {
                let (wid, t_ms, start_ms, count, float) = want.next().unwrap();
                assert_eq!((id, at, v), (wid, SampleTime { t_ms: t_ms.into(), start_ms: start_ms.into() }, value(count, float)));
            })?;
            prop_assert!(read && want.next().is_none());
        }

        #[test]
        fn damaged_records_are_errors_not_panics(bytes: Vec<u8>) {
            let anchor = |id| Some(Anchor { id, tag: 0, base: 1.5 });
            for kind in [kind::SAMPLES, kind::STARTED_SAMPLES] {
                let _ = decode_samples(kind, &mut Reader::new("record", &bytes), anchor, |_, _, _| {});
            }
            for kind in [kind::HISTOGRAMS, kind::STARTED_HISTOGRAMS] {
                let _ = decode_histograms(kind, &mut Reader::new("record", &bytes), anchor, |_, _, _| {});
            }
            let _ = decode_anchors(&mut Reader::new("record", &bytes), |_, _, _| Ok(()));
            let _ = decode_exemplars(&mut Reader::new("record", &bytes), |_, _| {});
            let _ = decode_metadata(&mut Reader::new("record", &bytes), |_, _| {});
        }
    }

    proptest! {
        #[test]
        fn anchors_come_back(series in proptest::collection::vec((any::<u32>(), proptest::collection::vec(("[ab]", "[xy]{0,2}"), 0..5), value()), 0..20)) {
            let spelled = |labels: &[(String, String)]| {
                let mut out = Vec::new();
                RawLabelsBuilder::encode(labels.iter().map(|(n, v)| (n.as_str(), v.as_str())), &mut out);
                out
            };
            let mut anchors = Anchors::default();
            for (id, labels, base) in &series {
                anchors.push(*id, &spelled(labels), *base);
            }
            let mut out = Vec::new();
            anchors.encode("t", &mut out);
            let mut r = Reader::new("record", &out);
            r.str()?;
            let mut want = series.iter();
            decode_anchors(&mut r, |id, labels, base| {
                let (wid, wlabels, wbase) = want.next().unwrap();
                assert_eq!((id, labels, base.to_bits()), (*wid, spelled(wlabels).as_slice(), wbase.to_bits()));
                Ok(())
            })?;
            prop_assert!(want.next().is_none());
        }
    }
}
