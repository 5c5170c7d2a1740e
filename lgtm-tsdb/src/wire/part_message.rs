//! A part of a request on its way to an ingester in another process.
//!
//! ```text
//! part   = { series = 1, repeated; metadata = 2, repeated, as remote write 1.0 has it }
//! series = { labels = 1, samples = 2, starts = 3, histogram = 4, repeated; exemplar = 5, repeated }
//! samples: each the time as a zig-zag difference to that of the sample before it in the part, then the value, 8 bytes little endian
//! starts:  as many zig-zag times, 0 where not known; left out when none is known
//! ```
//!
//! Labels stand as in [`RawLabels`](super::RawLabels): they are copied there and back and not looked into, since a head finds a series by a hash of these
//! very bytes. A table of symbols would be smaller on the network and cost a look-up for each label at both ends; where the network is what is
//! short, messages are compressed. Samples are packed, for they are most of a request. Histograms and exemplars are spelled as in remote write
//! (a histogram's field 17 is its start, as in 2.0). Unknown fields are skipped, so that versions may differ by one.

use lgtm_core::codec::protobuf::{
    bytes_tag, fixed64_tag, put_bytes_field, put_message, put_varint_field, skip,
};
use lgtm_core::codec::{Allowance, DecodeFail, Reader, put_svarint, put_uvarint, uvarint_len};
use lgtm_core::model::{Exemplar, Sample, TimestampMs};
use lgtm_core::{DecodeError, Result};

use super::batch::{
    HistogramSample, HistogramValue, LabelPlace, MetadataEntry, SeriesEntry, SeriesView, WriteBatch,
};
use super::push_part::PartView;
use super::raw_labels::RawLabelsBuilder;
use super::remote_read::{put_float_histogram, put_histogram};
use super::remote_write::{exemplar, histogram, metadata};

const SERIES: u64 = 1;
const METADATA: u64 = 2;
const LABELS: u64 = 1;
const SAMPLES: u64 = 2;
const STARTS: u64 = 3;
const HISTOGRAM: u64 = 4;
const EXEMPLAR: u64 = 5;
/// Of a histogram, as remote write 2.0 has it.
const HISTOGRAM_START: u64 = 17;

/// Appends the message of a part. One pass; nothing is allocated but what `out` grows by, once if nothing but samples is in it.
pub fn encode_part(part: PartView<'_>, out: &mut Vec<u8>) {
    out.reserve(size_hint(part));
    let (mut last_ms, mut samples) = (0, Vec::new());
    for n in 0..part.series_count() {
        let series = part.series_at(n);
        samples.clear();
        put_samples(&mut samples, &series, &mut last_ms);
        let is_plain = series.histograms.is_empty()
            && series.exemplars.is_empty()
            && series.sample_starts.is_empty();
        if is_plain {
            put_plain_series(out, series.labels.as_bytes(), &samples);
        } else {
            put_message(out, SERIES, |out| put_series(out, &series, &samples));
        }
    }
    for n in 0..part.metadata_count() {
        let entry = part.metadata_at(n);
        put_message(out, METADATA, |out| put_metadata(out, entry));
    }
}

/// Bytes that a part takes at most, histograms, exemplars and metadata left out.
fn size_hint(part: PartView<'_>) -> usize {
    let series = (0..part.series_count()).map(|n| part.series_at(n));
    // A time takes six bytes where it is not that of the sample before.
    let sizes = series.map(|s| s.labels.as_bytes().len() + 16 + 14 * s.samples.len());
    sizes.sum()
}

#[inline]
fn put_samples(out: &mut Vec<u8>, series: &SeriesView<'_>, last_ms: &mut i64) {
    for s in series.samples {
        let t_ms = s.t_ms.get();
        put_svarint(out, t_ms.wrapping_sub(*last_ms));
        out.extend_from_slice(&s.value.to_bits().to_le_bytes());
        *last_ms = t_ms;
    }
}

/// A series of labels and samples, whose length is known before it is written.
#[inline]
fn put_plain_series(out: &mut Vec<u8>, labels: &[u8], samples: &[u8]) {
    let field = |bytes: &[u8]| 1 + uvarint_len(bytes.len() as u64) + bytes.len();
    let of_samples = if samples.is_empty() {
        0
    } else {
        field(samples)
    };
    put_uvarint(out, bytes_tag(SERIES));
    put_uvarint(out, (field(labels) + of_samples) as u64);
    put_bytes_field(out, LABELS, labels);
    if !samples.is_empty() {
        put_bytes_field(out, SAMPLES, samples);
    }
}

fn put_series(out: &mut Vec<u8>, series: &SeriesView<'_>, samples: &[u8]) {
    put_bytes_field(out, LABELS, series.labels.as_bytes());
    if !samples.is_empty() {
        put_bytes_field(out, SAMPLES, samples);
    }
    if series.sample_starts.iter().any(|s| s.get() != 0) {
        put_message(out, STARTS, |out| {
            let starts = series.sample_starts.iter();
            starts.for_each(|s| put_svarint(out, s.get()));
        });
    }
    for h in series.histograms {
        put_message(out, HISTOGRAM, |out| {
            match &h.value {
                HistogramValue::Int(value) => put_histogram(out, h.t_ms, value),
                HistogramValue::Float(value) => put_float_histogram(out, h.t_ms, value),
            }
            if h.start_ms.get() != 0 {
                put_varint_field(out, HISTOGRAM_START, h.start_ms.get() as u64);
            }
        });
    }
    for e in series.exemplars {
        put_message(out, EXEMPLAR, |out| put_exemplar(out, e));
    }
}

fn put_exemplar(out: &mut Vec<u8>, e: &Exemplar) {
    RawLabelsBuilder::encode(e.labels.iter(), out);
    put_uvarint(out, fixed64_tag(2));
    out.extend_from_slice(&e.value.to_bits().to_le_bytes());
    put_varint_field(out, 3, e.t_ms.get() as u64);
}

fn put_metadata(out: &mut Vec<u8>, entry: &MetadataEntry) {
    put_varint_field(out, 1, entry.metadata.metric_type as u64);
    put_bytes_field(out, 2, entry.name.as_bytes());
    put_bytes_field(out, 4, entry.metadata.help.as_bytes());
    put_bytes_field(out, 5, entry.metadata.unit.as_bytes());
}

/// Decodes the message of a part, replacing what `batch` held. What it becomes is taken from `allowance`. Labels and values are held against no
/// limit: the distributor has done that, and the head does it for series that it does not know.
///
/// # Errors
/// `InvalidInput` for bytes that are no such message; those of `allowance`. The batch is empty then.
pub fn decode_part(
    batch: &mut WriteBatch,
    message: &[u8],
    allowance: &mut Allowance<'_>,
) -> Result<()> {
    batch.clear();
    let mut body = std::mem::take(&mut batch.body);
    let copied = allowance.reserve(&mut body, message.len());
    let decoded = copied.and_then(|()| {
        body.extend_from_slice(message);
        Ok(decode(batch, &body, allowance)?)
    });
    batch.body = body;
    if decoded.is_err() {
        batch.clear();
    }
    decoded
}

fn decode(
    batch: &mut WriteBatch,
    body: &[u8],
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    let mut r = Reader::new("push", body);
    if u32::try_from(body.len()).is_err() {
        return Err(r.error("push exceeds 4 GiB").into());
    }
    let mut last_ms = 0;
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == bytes_tag(SERIES) => {
                let bytes = r.bytes()?;
                let offset = r.position() - bytes.len();
                take_series(batch, bytes, offset, &mut last_ms, allowance)?;
            }
            tag if tag == bytes_tag(METADATA) => {
                let view = metadata(r.bytes()?)?;
                batch.take_metadata(view, 0, allowance)?;
            }
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(())
}

/// `offset` is where the series begins in the body.
fn take_series(
    batch: &mut WriteBatch,
    bytes: &[u8],
    offset: usize,
    last_ms: &mut i64,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    let mut r = Reader::new("series", bytes);
    let first = batch.samples.len();
    let (histograms, exemplars) = (batch.histograms.len(), batch.exemplars.len());
    let (mut labels, mut starts): (_, &[u8]) = (offset..offset, &[]);
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == bytes_tag(LABELS) => {
                let raw = r.bytes()?;
                let end = offset + r.position();
                labels = end - raw.len()..end;
            }
            tag if tag == bytes_tag(SAMPLES) => {
                take_samples(batch, r.bytes()?, last_ms, allowance)?;
            }
            tag if tag == bytes_tag(STARTS) => starts = r.bytes()?,
            tag if tag == bytes_tag(HISTOGRAM) => {
                let h: HistogramSample = histogram(r.bytes()?, allowance)?;
                allowance.push(&mut batch.histograms, h)?;
            }
            tag if tag == bytes_tag(EXEMPLAR) => match exemplar(r.bytes()?)? {
                Some(e) => {
                    allowance.take(e.labels.size_bytes())?;
                    allowance.push(&mut batch.exemplars, e)?;
                }
                None => batch.long_exemplars += 1,
            },
            tag => skip(&mut r, tag)?,
        }
    }
    take_starts(batch, first, starts, allowance)?;
    let entry = SeriesEntry {
        labels: LabelPlace::Body(labels.start as u32..labels.end as u32),
        samples: first as u32..batch.samples.len() as u32,
        histograms: histograms as u32..batch.histograms.len() as u32,
        exemplars: exemplars as u32..batch.exemplars.len() as u32,
    };
    Ok(allowance.push(&mut batch.series, entry)?)
}

#[inline]
fn take_samples(
    batch: &mut WriteBatch,
    bytes: &[u8],
    last_ms: &mut i64,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    let mut r = Reader::new("samples", bytes);
    while !r.is_empty() {
        *last_ms = last_ms.wrapping_add(r.svarint()?);
        let sample = Sample {
            t_ms: TimestampMs::new(*last_ms),
            value: f64::from_bits(r.u64_le()?),
        };
        allowance.push(&mut batch.samples, sample)?;
    }
    Ok(())
}

/// The starts of the samples from `first` on. A batch has one for each sample, or none at all.
fn take_starts(
    batch: &mut WriteBatch,
    first: usize,
    bytes: &[u8],
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    if bytes.is_empty() && batch.sample_starts.is_empty() {
        return Ok(());
    }
    let wanted = batch.samples.len();
    let more = wanted - batch.sample_starts.len();
    allowance.reserve(&mut batch.sample_starts, more)?;
    batch.sample_starts.resize(wanted, TimestampMs::EPOCH);
    let mut r = Reader::new("starts", bytes);
    let starts = batch.sample_starts.iter_mut().skip(first);
    for start in starts {
        if r.is_empty() {
            break;
        }
        *start = TimestampMs::new(r.svarint()?);
    }
    if r.is_empty() {
        return Ok(());
    }
    let error: DecodeError = r.error("more starts than samples");
    Err(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lgtm_core::ErrorKind;
    use lgtm_core::model::{
        BucketSpan, CounterResetHint, FloatHistogram, Histogram, Labels, Metadata, MetricType,
    };
    use proptest::prelude::*;
    use std::sync::Arc;

    use crate::wire::PushPart;

    fn decoded(message: &[u8]) -> Result<WriteBatch> {
        let (mut batch, mut grow) = (WriteBatch::default(), |_| Ok(()));
        decode_part(&mut batch, message, &mut Allowance::new(0, &mut grow)).map(|()| batch)
    }

    fn encoded(part: PartView<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        encode_part(part, &mut out);
        out
    }

    /// What a part says, in words.
    fn told(part: PartView<'_>) -> Vec<String> {
        let series = (0..part.series_count()).map(|n| {
            let s = part.series_at(n);
            let samples: Vec<_> = (s.samples.iter().enumerate())
                .map(|(i, x)| {
                    let start = s.sample_starts.get(i).map_or(0, |s| s.get());
                    (x.t_ms, x.value.to_bits(), start)
                })
                .collect();
            let labels = s.labels.as_bytes();
            format!(
                "{labels:?} {samples:?} {:?} {:?}",
                s.histograms, s.exemplars
            )
        });
        let metadata = (0..part.metadata_count()).map(|n| format!("{:?}", part.metadata_at(n)));
        series.chain(metadata).collect()
    }

    fn all_kinds() -> WriteBatch {
        let mut batch = WriteBatch::default();
        let at = |t_ms, value| Sample {
            t_ms: TimestampMs::new(t_ms),
            value,
        };
        let stale = f64::from_bits(lgtm_core::model::STALE_NAN_BITS);
        let up = [("__name__", "up"), ("job", "ä")];
        batch.push_series(up.into_iter(), &[at(i64::MIN, 1.0), at(i64::MAX, stale)]);
        batch.push_exemplar(Exemplar {
            labels: Labels::from_pairs([("trace_id", "ab")]).unwrap(),
            value: -0.0,
            t_ms: TimestampMs::new(-5),
        });
        batch.push_series([("a", "b")].into_iter(), &[]);
        let starts = [TimestampMs::new(7), TimestampMs::EPOCH];
        batch.push_started_series(up.into_iter(), &[at(9, 2.0), at(10, f64::NAN)], &starts);
        batch.push_series(up.into_iter(), &[at(11, 3.0)]);
        let spans = vec![BucketSpan {
            offset: -3,
            length: 2,
        }];
        let int = Histogram {
            hint: CounterResetHint::Gauge,
            schema: -53,
            zero_count: 3,
            count: u64::MAX,
            sum: stale,
            positive_spans: spans.clone(),
            positive_deltas: vec![5, -9],
            negative_spans: spans.clone(),
            negative_deltas: vec![i64::MIN, i64::MAX],
            custom_values: vec![0.5, f64::INFINITY],
            ..Histogram::default()
        };
        batch.push_histogram(up.into_iter(), TimestampMs::new(12), int);
        let float = FloatHistogram {
            hint: CounterResetHint::Reset,
            count: 0.5,
            zero_threshold: 1e-9,
            negative_counts: vec![0.25, 0.25],
            negative_spans: spans,
            ..FloatHistogram::default()
        };
        let sample = HistogramSample {
            t_ms: TimestampMs::new(13),
            start_ms: TimestampMs::new(4),
            value: float.into(),
        };
        batch.push_histogram_sample(up.into_iter(), sample);
        for metric_type in [MetricType::Counter, MetricType::StateSet] {
            batch.push_metadata(MetadataEntry {
                name: "up".into(),
                metadata: Metadata {
                    metric_type,
                    help: "helps".into(),
                    unit: String::new(),
                },
            });
        }
        batch
    }

    #[test]
    fn a_part_arrives_as_it_was() {
        let batch = Arc::new(all_kinds().into());
        let whole = PushPart::whole(Arc::clone(&batch));
        for part in [
            whole.clone(),
            whole.only(vec![0, 2, 5, 7]),
            whole.only(vec![4]),
            whole.only(Vec::new()),
        ] {
            let back = decoded(&encoded(part.view())).unwrap();
            assert_eq!(told(PartView::from(&back)), told(part.view()));
        }
    }

    /// As version 1 wrote it; never rewritten. `LGTM_MAKE_GOLDEN=1` makes one that is missing.
    #[test]
    fn a_part_of_an_earlier_version_is_read() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/rpc-v1/part.bin");
        let batch = all_kinds();
        let written = encoded(PartView::from(&batch));
        if std::env::var_os("LGTM_MAKE_GOLDEN").is_some() && !std::fs::exists(path).unwrap() {
            std::fs::write(path, &written).unwrap();
        }
        let golden = std::fs::read(path).unwrap();
        let back = decoded(&golden).unwrap();
        assert_eq!(told(PartView::from(&back)), told(PartView::from(&batch)));
        assert!(written == golden, "a new version gets a folder of its own");
    }

    #[test]
    fn what_is_cut_off_or_claims_too_much_is_an_error() {
        let whole = encoded(PartView::from(&all_kinds()));
        let mut ends = 0;
        for n in 0..whole.len() {
            match decoded(&whole[..n]) {
                // The end of a series is the end of a smaller part.
                Ok(_) => ends += 1,
                Err(e) => assert_eq!(e.kind(), ErrorKind::InvalidInput),
            }
        }
        assert_eq!(
            ends, 8,
            "series and entries of metadata, and nothing at all"
        );
        let mut grow = |_| Ok(());
        let mut allowance = Allowance::new(10, &mut grow);
        let refused = decode_part(&mut WriteBatch::default(), &whole, &mut allowance);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::LimitExceeded);
        let mut odd = Vec::new();
        put_message(&mut odd, SERIES, |out| {
            put_bytes_field(out, STARTS, &[2, 2])
        });
        assert!(decoded(&odd).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decoded(&bytes);
            let mut in_series = Vec::new();
            put_message(&mut in_series, SERIES, |out| out.extend_from_slice(&bytes));
            let _ = decoded(&in_series);
        }

        #[test]
        fn samples_arrive_as_they_were(times: Vec<(i64, u64)>) {
            let mut batch = WriteBatch::default();
            for part in times.chunks(3) {
                let samples: Vec<_> = part.iter().map(|(t, v)| Sample { t_ms: TimestampMs::new(*t), value: f64::from_bits(*v) }).collect();
                batch.push_series([("a", "b")].into_iter(), &samples);
            }
            let back = decoded(&encoded(PartView::from(&batch)))?;
            prop_assert_eq!(told(PartView::from(&back)), told(PartView::from(&batch)));
        }
    }
}
