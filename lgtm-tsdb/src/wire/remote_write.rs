//! Remote write 1.0: `WriteRequest { timeseries = 1, metadata = 3 }`, see `docs/format/remote_write.md`.
//!
//! The labels of a series are not looked into: their bytes are noted as one range. Only where a sender writes them in several
//! places of the series are they copied together.

use lgtm_core::codec::protobuf::{bytes_tag, double, fixed64_tag, skip, varint_tag};
use lgtm_core::codec::{Allowance, DecodeFail, Reader};
use lgtm_core::model::{
    BucketSpan, CounterResetHint, Exemplar, FloatHistogram, Histogram, LabelBuilder, MetricType,
    Sample, TimestampMs,
};
use lgtm_core::{DecodeError, Result};

use super::batch::{
    HistogramSample, HistogramValue, LabelPlace, MAX_EXEMPLAR_CHARS, SeriesEntry, WriteBatch,
};
use super::decode_rules::DecodeRules;
use super::metadata::MetadataView;

/// Decodes a decompressed request, which is handed over through `fill` (it writes the body into the buffer given). What it becomes is
/// taken from `allowance`.
///
/// # Errors
/// `InvalidInput` when the protobuf itself is broken: then nothing of the request can be trusted. Those of `allowance` and `fill`. The
/// batch is empty then.
pub fn decode_v1(
    batch: &mut WriteBatch,
    rules: &DecodeRules,
    allowance: &mut Allowance<'_>,
    fill: impl FnOnce(&mut Vec<u8>, &mut Allowance<'_>) -> Result<()>,
) -> Result<()> {
    batch.clear();
    let mut body = std::mem::take(&mut batch.body);
    let decoded =
        fill(&mut body, allowance).and_then(|()| Ok(decode(batch, &body, rules, allowance)?));
    batch.body = body;
    if decoded.is_err() {
        batch.clear();
    }
    decoded
}

fn decode(
    batch: &mut WriteBatch,
    body: &[u8],
    rules: &DecodeRules,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    let mut r = Reader::new("write request", body);
    if u32::try_from(body.len()).is_err() {
        return Err(r.error("request exceeds 4 GiB").into());
    }
    const SERIES: u64 = bytes_tag(1);
    const METADATA: u64 = bytes_tag(3);
    while !r.is_empty() {
        match r.uvarint()? {
            SERIES => {
                let bytes = r.bytes()?;
                series(batch, bytes, r.position() - bytes.len(), allowance)?;
            }
            METADATA => {
                let view = metadata(r.bytes()?)?;
                batch.take_metadata(view, rules.max_metadata_length, allowance)?;
            }
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(())
}

/// `offset` is where the series begins in the body.
fn series(
    batch: &mut WriteBatch,
    bytes: &[u8],
    offset: usize,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    const LABEL: u64 = bytes_tag(1);
    const SAMPLE: u64 = bytes_tag(2);
    const EXEMPLAR: u64 = bytes_tag(3);
    const HISTOGRAM: u64 = bytes_tag(4);
    let mut r = Reader::new("series", bytes);
    let starts = (
        batch.samples.len() as u32,
        batch.histograms.len() as u32,
        batch.exemplars.len() as u32,
    );
    let (mut from, mut to) = (0, 0);
    let mut scattered: Option<u32> = None;
    while !r.is_empty() {
        let at = r.position();
        match r.uvarint()? {
            LABEL => {
                r.bytes()?;
                if from == to {
                    (from, to) = (at, r.position());
                } else if to == at && scattered.is_none() {
                    to = r.position();
                } else {
                    let start = *scattered.get_or_insert(batch.arena.len() as u32);
                    allowance.reserve(&mut batch.arena, bytes.len())?;
                    if start as usize == batch.arena.len() {
                        batch.arena.extend_from_slice(&bytes[from..to]);
                    }
                    batch.arena.extend_from_slice(&bytes[at..r.position()]);
                }
            }
            SAMPLE => {
                let s = sample(r.bytes()?)?;
                allowance.push(&mut batch.samples, s)?;
            }
            EXEMPLAR => match exemplar(r.bytes()?)? {
                Some(e) => {
                    allowance.take(e.labels.size_bytes())?;
                    allowance.push(&mut batch.exemplars, e)?;
                }
                None => batch.long_exemplars += 1,
            },
            HISTOGRAM => {
                // Field 17 is of 2.0 only: here it is one of the unknown ones.
                let h = histogram(r.bytes()?, allowance)?;
                let h = HistogramSample {
                    start_ms: TimestampMs::EPOCH,
                    ..h
                };
                allowance.push(&mut batch.histograms, h)?;
            }
            tag => skip(&mut r, tag)?,
        }
    }
    let labels = match scattered {
        Some(start) => LabelPlace::Arena(start..batch.arena.len() as u32),
        None => LabelPlace::Body((offset + from) as u32..(offset + to) as u32),
    };
    let entry = SeriesEntry {
        labels,
        samples: starts.0..batch.samples.len() as u32,
        histograms: starts.1..batch.histograms.len() as u32,
        exemplars: starts.2..batch.exemplars.len() as u32,
    };
    Ok(allowance.push(&mut batch.series, entry)?)
}

#[inline]
fn sample(bytes: &[u8]) -> Result<Sample, DecodeError> {
    const VALUE: u64 = fixed64_tag(1);
    const TIME: u64 = varint_tag(2);
    let mut r = Reader::new("sample", bytes);
    let (mut value, mut t_ms) = (0.0, 0);
    while !r.is_empty() {
        match r.uvarint()? {
            VALUE => value = double(&mut r)?,
            TIME => t_ms = r.uvarint()? as i64,
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(Sample {
        t_ms: TimestampMs::new(t_ms),
        value,
    })
}

/// `None` for one whose labels are too long.
pub(super) fn exemplar(bytes: &[u8]) -> Result<Option<Exemplar>, DecodeError> {
    const LABEL: u64 = bytes_tag(1);
    const VALUE: u64 = fixed64_tag(2);
    const TIME: u64 = varint_tag(3);
    let mut r = Reader::new("exemplar", bytes);
    let (mut labels, mut value, mut t_ms) = (LabelBuilder::default(), 0.0, 0);
    let mut chars = 0;
    while !r.is_empty() {
        match r.uvarint()? {
            LABEL => {
                let mut label = Reader::new("label", r.bytes()?);
                let (mut name, mut text) = ("", "");
                while !label.is_empty() {
                    match label.uvarint()? {
                        tag if tag == bytes_tag(1) => name = label.str()?,
                        tag if tag == bytes_tag(2) => text = label.str()?,
                        tag => skip(&mut label, tag)?,
                    }
                }
                chars += name.chars().count() + text.chars().count();
                if chars > 0 && chars <= MAX_EXEMPLAR_CHARS {
                    labels.set(name, text);
                }
            }
            VALUE => value = double(&mut r)?,
            TIME => t_ms = r.uvarint()? as i64,
            tag => skip(&mut r, tag)?,
        }
    }
    if chars > MAX_EXEMPLAR_CHARS {
        return Ok(None);
    }
    let labels = labels.build().map_err(|e| r.error(e.to_string()))?;
    Ok(Some(Exemplar {
        labels,
        value,
        t_ms: TimestampMs::new(t_ms),
    }))
}

pub(super) fn metadata(bytes: &[u8]) -> Result<MetadataView<'_>, DecodeError> {
    let mut r = Reader::new("metadata", bytes);
    let mut out = MetadataView::default();
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == varint_tag(1) => out.metric_type = MetricType::from_wire(r.uvarint()?),
            tag if tag == bytes_tag(2) => out.name = r.str()?,
            tag if tag == bytes_tag(4) => out.help = r.str()?,
            tag if tag == bytes_tag(5) => out.unit = r.str()?,
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(out)
}

/// Everything that a histogram message may hold, before it is known which kind it is.
#[derive(Debug, Default)]
struct Parts {
    float: bool,
    count: (u64, f64),
    zero_count: (u64, f64),
    sum: f64,
    schema: i32,
    zero_threshold: f64,
    spans: [Vec<BucketSpan>; 2],
    deltas: [Vec<i64>; 2],
    counts: [Vec<f64>; 2],
    hint: CounterResetHint,
    t_ms: TimestampMs,
    start_ms: TimestampMs,
    custom_values: Vec<f64>,
}

pub(super) fn histogram(
    bytes: &[u8],
    allowance: &mut Allowance<'_>,
) -> Result<HistogramSample, DecodeFail> {
    allowance.take(size_of::<Histogram>())?;
    let mut r = Reader::new("histogram", bytes);
    let mut p = Parts::default();
    while !r.is_empty() {
        let tag = r.uvarint()?;
        match (tag >> 3, tag & 7) {
            (1, 0) => p.count.0 = r.uvarint()?,
            (2, 1) => (p.count.1, p.float) = (double(&mut r)?, true),
            (3, 1) => p.sum = double(&mut r)?,
            (4, 0) => {
                let schema = r.svarint()?;
                p.schema = i32::try_from(schema)
                    .map_err(|_| r.error(format!("schema {schema} is out of range")))?;
            }
            (5, 1) => p.zero_threshold = double(&mut r)?,
            (6, 0) => p.zero_count.0 = r.uvarint()?,
            (7, 1) => p.zero_count.1 = double(&mut r)?,
            (8, 2) => allowance.push(&mut p.spans[1], span(r.bytes()?)?)?,
            (9, 2) => packed_sint(r.bytes()?, &mut p.deltas[1], allowance)?,
            (9, 0) => allowance.push(&mut p.deltas[1], r.svarint()?)?,
            (10, 2) => packed_double(r.bytes()?, &mut p.counts[1], allowance)?,
            (10, 1) => allowance.push(&mut p.counts[1], double(&mut r)?)?,
            (11, 2) => allowance.push(&mut p.spans[0], span(r.bytes()?)?)?,
            (12, 2) => packed_sint(r.bytes()?, &mut p.deltas[0], allowance)?,
            (12, 0) => allowance.push(&mut p.deltas[0], r.svarint()?)?,
            (13, 2) => packed_double(r.bytes()?, &mut p.counts[0], allowance)?,
            (13, 1) => allowance.push(&mut p.counts[0], double(&mut r)?)?,
            (14, 0) => {
                p.hint = match r.uvarint()? {
                    1 => CounterResetHint::Reset,
                    2 => CounterResetHint::NotReset,
                    3 => CounterResetHint::Gauge,
                    _ => CounterResetHint::Unknown,
                }
            }
            (15, 0) => p.t_ms = TimestampMs::new(r.uvarint()? as i64),
            (16, 2) => packed_double(r.bytes()?, &mut p.custom_values, allowance)?,
            (16, 1) => allowance.push(&mut p.custom_values, double(&mut r)?)?,
            (17, 0) => p.start_ms = TimestampMs::new(r.uvarint()? as i64),
            _ => skip(&mut r, tag)?,
        }
    }
    Ok(p.into_sample())
}

impl Parts {
    fn into_sample(self) -> HistogramSample {
        let [positive_spans, negative_spans] = self.spans;
        let [positive_deltas, negative_deltas] = self.deltas;
        let [positive_counts, negative_counts] = self.counts;
        let (hint, schema, sum) = (self.hint, self.schema, self.sum);
        let (zero_threshold, custom_values) = (self.zero_threshold, self.custom_values);
        let value = if self.float {
            HistogramValue::Float(Box::new(FloatHistogram {
                hint,
                schema,
                zero_threshold,
                zero_count: self.zero_count.1,
                count: self.count.1,
                sum,
                positive_spans,
                negative_spans,
                positive_counts,
                negative_counts,
                custom_values,
            }))
        } else {
            HistogramValue::Int(Box::new(Histogram {
                hint,
                schema,
                zero_threshold,
                zero_count: self.zero_count.0,
                count: self.count.0,
                sum,
                positive_spans,
                negative_spans,
                positive_deltas,
                negative_deltas,
                custom_values,
            }))
        };
        HistogramSample {
            t_ms: self.t_ms,
            start_ms: self.start_ms,
            value,
        }
    }
}

fn span(bytes: &[u8]) -> Result<BucketSpan, DecodeError> {
    let mut r = Reader::new("bucket span", bytes);
    let mut span = BucketSpan::default();
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == varint_tag(1) => {
                let offset = r.svarint()?;
                span.offset = i32::try_from(offset)
                    .map_err(|_| r.error(format!("offset {offset} is out of range")))?;
            }
            tag if tag == varint_tag(2) => {
                let length = r.uvarint()?;
                span.length = u32::try_from(length)
                    .map_err(|_| r.error(format!("length {length} is out of range")))?;
            }
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(span)
}

fn packed_sint(
    bytes: &[u8],
    out: &mut Vec<i64>,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    let mut r = Reader::new("bucket deltas", bytes);
    while !r.is_empty() {
        allowance.push(out, r.svarint()?)?;
    }
    Ok(())
}

fn packed_double(
    bytes: &[u8],
    out: &mut Vec<f64>,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    let mut r = Reader::new("packed doubles", bytes);
    allowance.reserve(out, bytes.len() / 8)?;
    while !r.is_empty() {
        allowance.push(out, double(&mut r)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lgtm_core::codec::{put_bytes, put_uvarint};
    use proptest::prelude::*;

    fn field(out: &mut Vec<u8>, tag: u64, body: &[u8]) {
        put_uvarint(out, tag);
        put_bytes(out, body);
    }

    fn label(name: &str, value: &str) -> Vec<u8> {
        let mut l = Vec::new();
        field(&mut l, bytes_tag(1), name.as_bytes());
        field(&mut l, bytes_tag(2), value.as_bytes());
        l
    }

    fn sample_bytes(t_ms: i64, value: f64) -> Vec<u8> {
        let mut s = vec![fixed64_tag(1) as u8];
        s.extend_from_slice(&value.to_bits().to_le_bytes());
        put_uvarint(&mut s, varint_tag(2));
        put_uvarint(&mut s, t_ms as u64);
        s
    }

    fn decoded(body: &[u8]) -> Result<WriteBatch> {
        let mut batch = WriteBatch::default();
        decoded_into(&mut batch, body, 1 << 30)?;
        Ok(batch)
    }

    fn decoded_into(batch: &mut WriteBatch, body: &[u8], max_bytes: usize) -> Result<usize> {
        let mut grow = |_| Ok(());
        let mut allowance = Allowance::new(max_bytes, &mut grow);
        let rules = DecodeRules {
            max_metadata_length: 10,
            ..DecodeRules::default()
        };
        decode_v1(batch, &rules, &mut allowance, |out, allowance| {
            allowance.reserve(out, body.len())?;
            out.extend_from_slice(body);
            Ok(())
        })?;
        Ok(allowance.spent())
    }

    fn pairs(view: &super::super::SeriesView<'_>) -> Vec<(String, String)> {
        view.labels
            .iter()
            .map(|p| p.map(|(n, v)| (n.to_owned(), v.to_owned())).unwrap())
            .collect()
    }

    proptest! {
        #[test]
        fn requests_come_back(series in proptest::collection::vec((proptest::collection::vec(("[a-z]{1,5}", "\\PC{0,9}"), 0..5), proptest::collection::vec((any::<i64>(), any::<u64>()), 0..4)), 0..9), scatter: bool) {
            let mut body = Vec::new();
            for (labels, samples) in &series {
                let mut one = Vec::new();
                let mut samples = samples.iter();
                for (n, v) in labels {
                    field(&mut one, bytes_tag(1), &label(n, v));
                    if scatter && let Some((t, v)) = samples.next() {
                        field(&mut one, bytes_tag(2), &sample_bytes(*t, f64::from_bits(*v)));
                    }
                }
                for (t, v) in samples {
                    field(&mut one, bytes_tag(2), &sample_bytes(*t, f64::from_bits(*v)));
                }
                field(&mut body, bytes_tag(1), &one);
            }
            let batch = decoded(&body)?;
            prop_assert_eq!(batch.series_count(), series.len());
            for (view, (labels, samples)) in batch.series().zip(&series) {
                prop_assert_eq!(&pairs(&view), labels);
                let got: Vec<_> = view.samples.iter().map(|s| (s.t_ms.get(), s.value.to_bits())).collect();
                prop_assert_eq!(&got, samples);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(body: Vec<u8>) {
            if let Ok(batch) = decoded(&body) {
                for view in batch.series() {
                    let _ = view.labels.iter().count();
                }
            }
        }
    }

    #[test]
    fn a_broken_request_leaves_an_empty_batch() {
        let mut body = Vec::new();
        field(
            &mut body,
            bytes_tag(1),
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
        );
        let mut batch = WriteBatch::default();
        let error = decoded_into(&mut batch, &body, 1 << 30);
        assert!(
            error.unwrap_err().to_string().contains("exceeds"),
            "a length bomb"
        );
        assert_eq!(batch.series_count(), 0);
    }

    /// What expands most: entries of two bytes, buckets of one byte, metadata and exemplars.
    #[test]
    fn what_a_request_becomes_is_counted_before_it_is_made() {
        let series = |inner: &[u8]| {
            let mut body = Vec::new();
            field(&mut body, bytes_tag(1), inner);
            body
        };
        let many = |number: u64, message: &[u8], n: usize| {
            let mut inner = Vec::new();
            (0..n).for_each(|_| field(&mut inner, bytes_tag(number), message));
            inner
        };
        let histogram = |number: u64, n: usize| {
            let mut h = Vec::new();
            field(&mut h, bytes_tag(number), &vec![0; n]);
            let mut inner = Vec::new();
            field(&mut inner, bytes_tag(4), &h);
            series(&inner)
        };
        let trace = label("trace_id", "0123456789abcdef");
        let mut exemplar = Vec::new();
        field(&mut exemplar, bytes_tag(1), &trace);
        let mut meta = Vec::new();
        field(&mut meta, bytes_tag(2), b"name");
        for (what, body) in [
            ("empty series", many(1, &[], 20_000)),
            ("empty samples", series(&many(2, &[], 20_000))),
            ("exemplars", series(&many(3, &exemplar, 3000))),
            ("empty histograms", series(&many(4, &[], 5000))),
            ("deltas", histogram(12, 100_000)),
            ("counts", histogram(13, 80_000)),
            ("bounds", histogram(16, 80_000)),
            ("metadata", many(3, &meta, 20_000)),
        ] {
            let mut batch = WriteBatch::default();
            let spent = decoded_into(&mut batch, &body, 1 << 30).unwrap();
            let held = batch.heap_bytes();
            assert!(
                held <= spent,
                "{what}: {held} bytes are held, {spent} were asked for"
            );
            assert!(spent < 2 * held + (1 << 16), "{what}: {spent} for {held}");
            let bound = held / 2;
            let mut batch = WriteBatch::default();
            let error = decoded_into(&mut batch, &body, bound).unwrap_err();
            assert_eq!(error.kind(), lgtm_core::ErrorKind::LimitExceeded, "{what}");
            assert!(batch.heap_bytes() <= bound, "{what}");
        }
    }

    #[test]
    fn long_exemplars_are_counted_and_long_metadata_is_cut() {
        let mut exemplar = Vec::new();
        (0..3).for_each(|_| field(&mut exemplar, bytes_tag(1), &label("a", &"x".repeat(50))));
        let mut one = Vec::new();
        field(&mut one, bytes_tag(1), &label("a", "b"));
        field(&mut one, bytes_tag(2), &sample_bytes(1, 1.0));
        field(&mut one, bytes_tag(3), &exemplar);
        let mut body = Vec::new();
        field(&mut body, bytes_tag(1), &one);
        for name in ["short", "much_too_long"] {
            let mut meta = Vec::new();
            field(&mut meta, bytes_tag(2), name.as_bytes());
            field(&mut meta, bytes_tag(4), "twelve bytes".as_bytes());
            field(&mut body, bytes_tag(3), &meta);
        }
        let batch = decoded(&body).unwrap();
        assert_eq!(
            (batch.exemplar_count(), batch.long_exemplar_count()),
            (0, 1)
        );
        assert_eq!((batch.sample_count(), batch.metadata().len()), (1, 1));
        assert_eq!(batch.metadata()[0].metadata.help, "twelve byt");
        assert_eq!(batch.malformed()[0].id, "metric-name-too-long");
    }
}
