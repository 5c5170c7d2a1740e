//! From a run of samples to finished chunks: for late samples, merged chunks and compaction.

use lgtm_core::model::TimestampMs;

use super::chunk::Chunk;
use super::encoding::CounterResetHeader;
use super::float_histogram::FloatHistogramAppender;
use super::histogram::{Appender, HistogramAppend, HistogramAppender, Kind};
use super::iter::SampleValue;
use super::sample_time::SampleTime;
use super::xor::XorAppender;
use super::xor2::Xor2Appender;

/// Samples of a chunk that is encoded anew (Prometheus' number).
const SAMPLES_PER_CHUNK: u16 = 120;

/// The chunk of a run that takes samples.
#[derive(Default)]
enum Open {
    #[default]
    None,
    Float(XorAppender),
    StartedFloat(Xor2Appender),
    Histogram(HistogramAppender),
    FloatHistogram(FloatHistogramAppender),
}

impl Open {
    fn begin(at: SampleTime, value: &SampleValue) -> Self {
        const UNKNOWN: CounterResetHeader = CounterResetHeader::Unknown;
        match value {
            SampleValue::Float(v) if at.is_started() => {
                let mut a = Xor2Appender::new();
                a.append(at, *v);
                Self::StartedFloat(a)
            }
            SampleValue::Float(v) => {
                let mut a = XorAppender::new();
                a.append(at.t_ms, *v);
                Self::Float(a)
            }
            SampleValue::Histogram(h) => {
                Self::Histogram(HistogramAppender::beginning_with(UNKNOWN, at, h))
            }
            SampleValue::FloatHistogram(h) => {
                Self::FloatHistogram(FloatHistogramAppender::beginning_with(UNKNOWN, at, h))
            }
        }
    }

    fn finish(self) -> Option<Chunk> {
        match self {
            Self::None => None,
            Self::Float(a) => Some(a.snapshot()),
            Self::StartedFloat(a) => Some(a.snapshot()),
            Self::Histogram(a) => Some(a.snapshot()),
            Self::FloatHistogram(a) => Some(a.snapshot()),
        }
    }

    fn takes_more(&self, at: SampleTime) -> bool {
        let (count, keeps_starts) = match self {
            Self::None => return false,
            Self::Float(a) => (a.sample_count(), false),
            Self::StartedFloat(a) => (a.sample_count(), true),
            Self::Histogram(a) => (a.sample_count(), a.keeps_starts()),
            Self::FloatHistogram(a) => (a.sample_count(), a.keeps_starts()),
        };
        count < SAMPLES_PER_CHUNK && (keeps_starts || !at.is_started())
    }
}

/// Packs samples, which ascend in time, into chunks: cut at 120 samples, where the kind of value changes, and where a histogram
/// cannot follow the one before.
pub fn encode_run<T: Into<TimestampMs>>(
    samples: impl IntoIterator<Item = (T, SampleValue)>,
) -> Vec<Chunk> {
    let unstarted = |(t_ms, value): (T, _)| (SampleTime::unstarted(t_ms.into()), value);
    encode_started_run(samples.into_iter().map(unstarted))
}

/// Packs samples as [`encode_run`] does and keeps since when they count. A chunk without such a sample has the same bytes as
/// there; another begins with one, in one of the encodings 4 to 6.
pub fn encode_started_run(
    samples: impl IntoIterator<Item = (SampleTime, SampleValue)>,
) -> Vec<Chunk> {
    let mut out = Vec::new();
    let mut open = Open::None;
    for (at, value) in samples {
        if !open.takes_more(at) {
            out.extend(std::mem::take(&mut open).finish());
        }
        match (&mut open, &value) {
            (Open::Float(a), SampleValue::Float(v)) => a.append(at.t_ms, *v),
            (Open::StartedFloat(a), SampleValue::Float(v)) => a.append(at, *v),
            (Open::Histogram(a), SampleValue::Histogram(h)) => a.go_on(at, h, &mut out),
            (Open::FloatHistogram(a), SampleValue::FloatHistogram(h)) => a.go_on(at, h, &mut out),
            _ => {
                out.extend(std::mem::take(&mut open).finish());
                open = Open::begin(at, &value);
            }
        }
    }
    out.extend(open.finish());
    out
}

impl<K: Kind> Appender<K> {
    /// Appends a histogram; where it must begin another chunk, this one goes to `finished`.
    fn go_on(&mut self, at: SampleTime, h: &K::Histogram, finished: &mut Vec<Chunk>) {
        if let HistogramAppend::NewChunk(header) = self.append_started(at, h) {
            finished.push(self.snapshot());
            *self = Self::beginning_with(header, at, h);
        }
    }
}

#[cfg(test)]
mod tests {
    use lgtm_core::model::{BucketSpan, FloatHistogram, Histogram};
    use proptest::prelude::*;

    use super::*;
    use crate::chunk::iter;

    fn value() -> impl Strategy<Value = SampleValue> {
        let histogram = (0u8..4, 1u32..3).prop_map(|(more, length)| Histogram {
            schema: 1,
            count: 10 + u64::from(more),
            sum: f64::from(more),
            positive_spans: vec![BucketSpan { offset: 0, length }],
            positive_deltas: vec![5; length as usize],
            ..Histogram::default()
        });
        let stale = Just(Histogram {
            sum: lgtm_core::model::stale_nan(),
            ..Histogram::default()
        });
        prop_oneof![
            3 => (0u8..4).prop_map(|v| SampleValue::Float(f64::from(v))),
            2 => prop_oneof![4 => histogram, 1 => stale].prop_map(|h| SampleValue::Histogram(Box::new(h))),
            1 => (0u8..4).prop_map(|v| SampleValue::FloatHistogram(Box::new(FloatHistogram {
                count: f64::from(v),
                ..FloatHistogram::default()
            }))),
        ]
    }

    /// What a chunk keeps of a value, and can be compared: kind and count or bits.
    fn essence(v: &SampleValue) -> (u8, u64) {
        match v {
            SampleValue::Float(v) => (0, v.to_bits()),
            SampleValue::Histogram(h) if h.is_stale() => (1, 0),
            SampleValue::Histogram(h) => (1, h.count),
            SampleValue::FloatHistogram(h) => (2, h.count.to_bits()),
        }
    }

    proptest! {
        #[test]
        fn a_run_comes_back_with_the_starts_it_had(
            rows in proptest::collection::vec((prop_oneof![Just(0i64), Just(5), 1i64..900], value(), 1usize..40), 0..20),
        ) {
            let mut run = Vec::new();
            for (start_ms, value, times) in rows {
                for _ in 0..times {
                    let t_ms = run.len() as i64 * 1000;
                    run.push((SampleTime { t_ms: t_ms.into(), start_ms: start_ms.into() }, value.clone()));
                }
            }
            let mut read = Vec::new();
            for c in encode_started_run(run.clone()) {
                let mut samples = iter(c.encoding, &c.data)?;
                let before = read.len();
                while let Some(sample) = samples.next() {
                    let (t_ms, value) = sample?;
                    read.push((SampleTime { t_ms, start_ms: samples.start_ms() }, essence(&value)));
                }
                prop_assert_eq!(read.len() - before, usize::from(c.sample_count()));
                prop_assert!(c.sample_count() <= SAMPLES_PER_CHUNK);
                // What has no start costs no more than it did.
                prop_assert_eq!(c.encoding.keeps_starts(), read[before].0.is_started());
            }
            let want: Vec<_> = run.iter().map(|(at, v)| (*at, essence(v))).collect();
            prop_assert_eq!(read, want);
        }
    }
}
