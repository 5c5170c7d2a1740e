//! Reading a chunk of any encoding.

use lgtm_core::DecodeError;
use lgtm_core::model::{FloatHistogram, Histogram, TimestampMs, is_stale_nan};

use super::bits::{BitReader, XorState};
use super::encoding::{CounterResetHeader, Encoding};
use super::layout::{Layout, bucket_count};
use super::start_time::StartTimes;
use super::xor::XorIter;
use super::xor2::Xor2Iter;

/// A value of a series.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    /// A float. Beware of `==`: a NaN differs from itself here.
    Float(f64),
    /// A native histogram with integer counts.
    Histogram(Box<Histogram>),
    /// A native histogram with float counts.
    FloatHistogram(Box<FloatHistogram>),
}

/// The samples of a chunk, in order. After an error it ends.
#[derive(Debug)]
pub struct ChunkIter<'a> {
    source: CodecIter<'a>,
    start_ms: TimestampMs,
    done: bool,
}

#[derive(Debug)]
enum CodecIter<'a> {
    Xor(XorIter<'a>),
    Xor2(Xor2Iter<'a>),
    Histogram(Box<HistogramIter<'a>>),
}

/// Reads a chunk without length, encoding byte and checksum.
///
/// # Errors
/// When not even its header is there.
pub fn iter(encoding: Encoding, data: &[u8]) -> Result<ChunkIter<'_>, DecodeError> {
    ChunkIter::new(encoding, data)
}

/// Number of samples that a chunk says it has.
///
/// # Errors
/// When the header is cut off.
pub fn sample_count(encoding: Encoding, data: &[u8]) -> Result<u16, DecodeError> {
    let [a, b, ..] = data else {
        return Err(DecodeError::new("chunk", 0, "sample count is cut off"));
    };
    let n = u16::from_be_bytes([*a, *b]);
    Ok(match encoding {
        Encoding::HistogramSt | Encoding::FloatHistogramSt => n & 0x3fff,
        _ => n,
    })
}

impl<'a> ChunkIter<'a> {
    pub(super) fn new(encoding: Encoding, data: &'a [u8]) -> Result<Self, DecodeError> {
        let source = match encoding {
            Encoding::Xor => CodecIter::Xor(XorIter::new(data)?),
            Encoding::Xor2 => CodecIter::Xor2(Xor2Iter::new(data)?),
            _ => CodecIter::Histogram(Box::new(HistogramIter::new(encoding, data)?)),
        };
        Ok(Self {
            source,
            start_ms: TimestampMs::EPOCH,
            done: false,
        })
    }

    /// The start timestamp of the sample that `next` gave last, milliseconds; 0 when it is not known.
    pub fn start_ms(&self) -> TimestampMs {
        self.start_ms
    }

    fn read(&mut self) -> Result<Option<(TimestampMs, SampleValue)>, DecodeError> {
        match &mut self.source {
            CodecIter::Xor(it) => Ok(it
                .next_sample()?
                .map(|s| (s.t_ms, SampleValue::Float(s.value)))),
            CodecIter::Xor2(it) => Ok(it.next_sample()?.map(|(s, start_ms)| {
                self.start_ms = start_ms;
                (s.t_ms, SampleValue::Float(s.value))
            })),
            CodecIter::Histogram(it) => {
                let sample = it.next_sample()?;
                self.start_ms = it.start_ms;
                Ok(sample)
            }
        }
    }
}

impl Iterator for ChunkIter<'_> {
    type Item = Result<(TimestampMs, SampleValue), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.read().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}

/// Reads the four encodings of histograms.
#[derive(Debug)]
struct HistogramIter<'a> {
    reader: BitReader<'a>,
    float: bool,
    header: CounterResetHeader,
    starts: Option<StartTimes>,
    start_ms: TimestampMs,
    layout: Layout,
    t_ms: TimestampMs,
    delta_ms: i64,
    sum: XorState,
    /// Count, zero count, positive and negative buckets: value and difference.
    integers: Vec<(i64, i64)>,
    /// The same as floats.
    floats: Vec<XorState>,
    read: u16,
    count: u16,
}

impl<'a> HistogramIter<'a> {
    fn new(encoding: Encoding, data: &'a [u8]) -> Result<Self, DecodeError> {
        let [a, b, third, ..] = data else {
            return Err(DecodeError::new("histogram chunk", 0, "header is cut off"));
        };
        let count = sample_count(encoding, data)?;
        let with_starts = matches!(encoding, Encoding::HistogramSt | Encoding::FloatHistogramSt);
        let (flags, starts) = if with_starts {
            (
                u16::from_be_bytes([*a, *b]) >> 14,
                Some(StartTimes::new(*third)),
            )
        } else {
            (u16::from(*third >> 6), None)
        };
        let mut reader = BitReader::new("histogram chunk", &data[3..]);
        let layout = if count > 0 {
            Layout::read(&mut reader)?
        } else {
            Layout::default()
        };
        Ok(Self {
            reader,
            float: matches!(
                encoding,
                Encoding::FloatHistogram | Encoding::FloatHistogramSt
            ),
            header: CounterResetHeader::from_bits(flags as u8),
            starts,
            start_ms: TimestampMs::EPOCH,
            layout,
            t_ms: TimestampMs::EPOCH,
            delta_ms: 0,
            sum: XorState::starting_at(0.0),
            integers: Vec::new(),
            floats: Vec::new(),
            read: 0,
            count,
        })
    }

    fn next_sample(&mut self) -> Result<Option<(TimestampMs, SampleValue)>, DecodeError> {
        if self.read >= self.count {
            return Ok(None);
        }
        let previous_ms = self.t_ms;
        let step = self.reader.vbi()?;
        if self.read == 0 {
            self.t_ms = TimestampMs::new(step);
        } else {
            self.delta_ms = self.delta_ms.wrapping_add(step);
            self.t_ms = self.t_ms.wrapping_add(self.delta_ms);
        }
        let value = if self.float {
            self.float_sample()?
        } else {
            self.integer_sample()?
        };
        if let Some(starts) = &mut self.starts {
            self.start_ms = starts.read(&mut self.reader, self.read, self.t_ms, previous_ms)?;
        }
        self.reader.check()?;
        self.read += 1;
        Ok(Some((self.t_ms, value)))
    }

    fn buckets(&self) -> (usize, usize) {
        (
            bucket_count(&self.layout.positive_spans),
            bucket_count(&self.layout.negative_spans),
        )
    }

    fn read_dod(&mut self, at: usize) -> Result<(), DecodeError> {
        let dod = self.reader.vbi()?;
        let (value, delta) = &mut self.integers[at];
        *delta = delta.wrapping_add(dod);
        *value = value.wrapping_add(*delta);
        Ok(())
    }

    fn integer_sample(&mut self) -> Result<SampleValue, DecodeError> {
        let (positive, negative) = self.buckets();
        if self.read == 0 {
            self.integers = vec![(0, 0); 2 + positive + negative];
            self.integers[0].0 = self.reader.vbu()? as i64;
            self.integers[1].0 = self.reader.vbu()? as i64;
            self.sum = XorState::starting_at(f64::from_bits(self.reader.read(64)?));
            if is_stale_nan(self.sum.value()) {
                return Ok(self.stale());
            }
            for bucket in &mut self.integers[2..] {
                bucket.0 = self.reader.vbi()?;
            }
        } else {
            self.read_dod(0)?;
            self.read_dod(1)?;
            self.sum.read(&mut self.reader)?;
            if is_stale_nan(self.sum.value()) {
                return Ok(self.stale());
            }
            for at in 2..self.integers.len() {
                self.read_dod(at)?;
            }
        }
        let deltas =
            |range: std::ops::Range<usize>| self.integers[range].iter().map(|b| b.0).collect();
        Ok(SampleValue::Histogram(Box::new(Histogram {
            hint: self.header.hint(self.read == 0),
            schema: self.layout.schema,
            zero_threshold: self.layout.zero_threshold,
            zero_count: self.integers[1].0 as u64,
            count: self.integers[0].0 as u64,
            sum: self.sum.value(),
            positive_spans: self.layout.positive_spans.clone(),
            negative_spans: self.layout.negative_spans.clone(),
            positive_deltas: deltas(2..2 + positive),
            negative_deltas: deltas(2 + positive..2 + positive + negative),
            custom_values: self.layout.custom_values.clone(),
        })))
    }

    fn float_sample(&mut self) -> Result<SampleValue, DecodeError> {
        let (positive, negative) = self.buckets();
        if self.read == 0 {
            self.floats = vec![XorState::starting_at(0.0); 3 + positive + negative];
        }
        for at in 0..self.floats.len() {
            // Count, zero count, sum; a stale sum has no buckets behind it.
            if at == 3 && is_stale_nan(self.floats[2].value()) {
                return Ok(self.stale());
            }
            if self.read == 0 {
                self.floats[at].bits = self.reader.read(64)?;
            } else {
                self.floats[at].read(&mut self.reader)?;
            }
        }
        if is_stale_nan(self.floats[2].value()) {
            return Ok(self.stale());
        }
        let counts = |range: std::ops::Range<usize>| {
            self.floats[range].iter().map(XorState::value).collect()
        };
        Ok(SampleValue::FloatHistogram(Box::new(FloatHistogram {
            hint: self.header.hint(self.read == 0),
            schema: self.layout.schema,
            zero_threshold: self.layout.zero_threshold,
            zero_count: self.floats[1].value(),
            count: self.floats[0].value(),
            sum: self.floats[2].value(),
            positive_spans: self.layout.positive_spans.clone(),
            negative_spans: self.layout.negative_spans.clone(),
            positive_counts: counts(3..3 + positive),
            negative_counts: counts(3 + positive..3 + positive + negative),
            custom_values: self.layout.custom_values.clone(),
        })))
    }

    /// A stale marker comes back as an empty histogram with its sum.
    fn stale(&self) -> SampleValue {
        if self.float {
            let sum = self.floats[2].value();
            return SampleValue::FloatHistogram(Box::new(FloatHistogram {
                sum,
                ..FloatHistogram::default()
            }));
        }
        SampleValue::Histogram(Box::new(Histogram {
            sum: self.sum.value(),
            ..Histogram::default()
        }))
    }
}
