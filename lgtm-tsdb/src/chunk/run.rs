//! From a run of samples to finished chunks: for late samples, merged chunks and compaction.

use super::encoding::Encoding;
use super::float_histogram::FloatHistogramAppender;
use super::histogram::{HistogramAppend, HistogramAppender};
use super::iter::SampleValue;
use super::xor::XorAppender;

/// Samples of a chunk that is encoded anew (Prometheus' number).
const SAMPLES_PER_CHUNK: u16 = 120;

/// A finished chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedChunk {
    /// Time of the first sample.
    pub min_ms: i64,
    /// Time of the last sample.
    pub max_ms: i64,
    /// How `data` is to be read.
    pub encoding: Encoding,
    /// Samples in it.
    pub sample_count: u16,
    /// The chunk without length, encoding byte and checksum.
    pub data: Vec<u8>,
}

#[derive(Default)]
enum Open {
    #[default]
    None,
    Float(XorAppender),
    Histogram(HistogramAppender),
    FloatHistogram(FloatHistogramAppender),
}

impl Open {
    fn finish(self) -> Option<EncodedChunk> {
        match self {
            Self::None => None,
            Self::Float(a) => Some(a.snapshot()),
            Self::Histogram(a) => Some(a.snapshot()),
            Self::FloatHistogram(a) => Some(a.snapshot()),
        }
    }
}

/// Packs samples, which ascend in time, into chunks: cut at 120 samples, where the kind of value changes, and where a histogram
/// cannot follow the one before.
pub fn encode_run(samples: impl IntoIterator<Item = (i64, SampleValue)>) -> Vec<EncodedChunk> {
    let mut out = Vec::new();
    let mut open = Open::None;
    for (t_ms, value) in samples {
        open = match (std::mem::take(&mut open), &value) {
            (Open::Float(mut a), SampleValue::Float(v)) if a.sample_count() < SAMPLES_PER_CHUNK => {
                a.append(t_ms, *v);
                Open::Float(a)
            }
            (Open::Histogram(mut a), SampleValue::Histogram(h))
                if a.sample_count() < SAMPLES_PER_CHUNK =>
            {
                match a.append(t_ms, h) {
                    HistogramAppend::NewChunk(header) => {
                        out.push(a.snapshot());
                        let mut fresh = HistogramAppender::with_header(header);
                        fresh.append(t_ms, h);
                        Open::Histogram(fresh)
                    }
                    _ => Open::Histogram(a),
                }
            }
            (Open::FloatHistogram(mut a), SampleValue::FloatHistogram(h))
                if a.sample_count() < SAMPLES_PER_CHUNK =>
            {
                match a.append(t_ms, h) {
                    HistogramAppend::NewChunk(header) => {
                        out.push(a.snapshot());
                        let mut fresh = FloatHistogramAppender::with_header(header);
                        fresh.append(t_ms, h);
                        Open::FloatHistogram(fresh)
                    }
                    _ => Open::FloatHistogram(a),
                }
            }
            (full, value) => {
                out.extend(full.finish());
                begin(t_ms, value)
            }
        };
    }
    out.extend(open.finish());
    out
}

fn begin(t_ms: i64, value: &SampleValue) -> Open {
    match value {
        SampleValue::Float(v) => {
            let mut a = XorAppender::new();
            a.append(t_ms, *v);
            Open::Float(a)
        }
        SampleValue::Histogram(h) => {
            let mut a = HistogramAppender::new();
            a.append(t_ms, h);
            Open::Histogram(a)
        }
        SampleValue::FloatHistogram(h) => {
            let mut a = FloatHistogramAppender::new();
            a.append(t_ms, h);
            Open::FloatHistogram(a)
        }
    }
}
