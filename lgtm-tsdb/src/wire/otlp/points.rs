//! The points of a metric, as they stand on the wire.

use lgtm_core::DecodeError;
use lgtm_core::codec::protobuf::{bytes_tag, double, fixed64_tag, skip, varint_tag};
use lgtm_core::codec::{Allowance, DecodeFail, Reader};
use lgtm_core::model::TimestampMs;

/// The flag of a point that says "nothing was recorded", which Prometheus calls stale.
const NO_RECORDED_VALUE: u64 = 1;

/// What all kinds of points have.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PointHead {
    pub(super) t_ns: u64,
    pub(super) start_ns: u64,
    flags: u64,
}

impl PointHead {
    pub(super) fn t_ms(&self) -> TimestampMs {
        ns_to_ms(self.t_ns)
    }

    pub(super) fn start_ms(&self) -> TimestampMs {
        ns_to_ms(self.start_ns)
    }

    pub(super) fn is_stale(&self) -> bool {
        self.flags & NO_RECORDED_VALUE != 0
    }
}

fn ns_to_ms(ns: u64) -> TimestampMs {
    TimestampMs::new((ns / 1_000_000) as i64)
}

/// A point of a gauge or a sum.
#[derive(Debug, Default)]
pub(super) struct NumberPoint {
    pub(super) head: PointHead,
    pub(super) value: f64,
}

/// A point of a histogram with explicit bounds.
#[derive(Debug, Default)]
pub(super) struct HistogramPoint {
    pub(super) head: PointHead,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) bucket_counts: Vec<u64>,
    pub(super) bounds: Vec<f64>,
}

/// A point of an exponential histogram.
#[derive(Debug, Default)]
pub(super) struct ExponentialPoint {
    pub(super) head: PointHead,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) scale: i64,
    pub(super) zero_count: u64,
    pub(super) zero_threshold: f64,
    pub(super) positive: Buckets,
    pub(super) negative: Buckets,
}

/// Buckets of one sign.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    pub(super) offset: i64,
    pub(super) counts: Vec<u64>,
}

/// A point of a summary.
#[derive(Debug, Default)]
pub(super) struct SummaryPoint {
    pub(super) head: PointHead,
    pub(super) count: u64,
    pub(super) sum: f64,
    /// Quantile and value.
    pub(super) quantiles: Vec<(f64, f64)>,
}

/// What stands in a point besides its numbers: both are walked by the caller.
#[derive(Debug, Default)]
pub(super) struct PointParts<'a> {
    pub(super) attributes: Vec<&'a [u8]>,
    pub(super) exemplars: Vec<&'a [u8]>,
}

impl PointParts<'_> {
    fn clear(&mut self) {
        self.attributes.clear();
        self.exemplars.clear();
    }
}

fn fixed64s(
    bytes: &[u8],
    out: &mut Vec<u64>,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    allowance.reserve(out, bytes.len() / 8)?;
    let mut r = Reader::new("numbers", bytes);
    while !r.is_empty() {
        out.push(r.u64_le()?);
    }
    Ok(())
}

fn doubles(
    bytes: &[u8],
    out: &mut Vec<f64>,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    allowance.reserve(out, bytes.len() / 8)?;
    let mut r = Reader::new("numbers", bytes);
    while !r.is_empty() {
        out.push(double(&mut r)?);
    }
    Ok(())
}

impl NumberPoint {
    pub(super) fn decode<'a>(
        &mut self,
        bytes: &'a [u8],
        parts: &mut PointParts<'a>,
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        *self = Self::default();
        parts.clear();
        let mut r = Reader::new("number data point", bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == fixed64_tag(2) => self.head.start_ns = r.u64_le()?,
                tag if tag == fixed64_tag(3) => self.head.t_ns = r.u64_le()?,
                tag if tag == fixed64_tag(4) => self.value = double(&mut r)?,
                tag if tag == bytes_tag(5) => allowance.push(&mut parts.exemplars, r.bytes()?)?,
                tag if tag == fixed64_tag(6) => self.value = r.u64_le()? as i64 as f64,
                tag if tag == bytes_tag(7) => allowance.push(&mut parts.attributes, r.bytes()?)?,
                tag if tag == varint_tag(8) => self.head.flags = r.uvarint()?,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(())
    }
}

impl HistogramPoint {
    pub(super) fn decode<'a>(
        &mut self,
        bytes: &'a [u8],
        parts: &mut PointParts<'a>,
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        (self.head, self.count, self.sum) = Default::default();
        self.bucket_counts.clear();
        self.bounds.clear();
        parts.clear();
        let mut r = Reader::new("histogram data point", bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == fixed64_tag(2) => self.head.start_ns = r.u64_le()?,
                tag if tag == fixed64_tag(3) => self.head.t_ns = r.u64_le()?,
                tag if tag == fixed64_tag(4) => self.count = r.u64_le()?,
                tag if tag == fixed64_tag(5) => self.sum = Some(double(&mut r)?),
                tag if tag == bytes_tag(6) => {
                    fixed64s(r.bytes()?, &mut self.bucket_counts, allowance)?;
                }
                tag if tag == fixed64_tag(6) => {
                    allowance.push(&mut self.bucket_counts, r.u64_le()?)?;
                }
                tag if tag == bytes_tag(7) => doubles(r.bytes()?, &mut self.bounds, allowance)?,
                tag if tag == fixed64_tag(7) => {
                    allowance.push(&mut self.bounds, double(&mut r)?)?
                }
                tag if tag == bytes_tag(8) => allowance.push(&mut parts.exemplars, r.bytes()?)?,
                tag if tag == bytes_tag(9) => allowance.push(&mut parts.attributes, r.bytes()?)?,
                tag if tag == varint_tag(10) => self.head.flags = r.uvarint()?,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(())
    }

    /// # Errors
    /// When bounds and counts do not fit together.
    pub(super) fn check(&self) -> Result<(), String> {
        let (bounds, counts) = (self.bounds.len(), self.bucket_counts.len());
        if counts != bounds + 1 && counts + bounds > 0 {
            return Err(format!(
                "{counts} bucket counts do not fit {bounds} explicit bounds"
            ));
        }
        let rises = |w: &[f64]| w[0] < w[1];
        if self.bounds.iter().any(|b| b.is_nan()) || !self.bounds.windows(2).all(rises) {
            return Err("explicit bounds do not rise".into());
        }
        Ok(())
    }
}

impl ExponentialPoint {
    pub(super) fn decode<'a>(
        &mut self,
        bytes: &'a [u8],
        parts: &mut PointParts<'a>,
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        // The memory of the buckets is kept from point to point.
        let (positive, negative) = (
            std::mem::take(&mut self.positive.counts),
            std::mem::take(&mut self.negative.counts),
        );
        *self = Self {
            positive: Buckets::in_memory_of(positive),
            negative: Buckets::in_memory_of(negative),
            ..Self::default()
        };
        parts.clear();
        let mut r = Reader::new("exponential histogram data point", bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => allowance.push(&mut parts.attributes, r.bytes()?)?,
                tag if tag == fixed64_tag(2) => self.head.start_ns = r.u64_le()?,
                tag if tag == fixed64_tag(3) => self.head.t_ns = r.u64_le()?,
                tag if tag == fixed64_tag(4) => self.count = r.u64_le()?,
                tag if tag == fixed64_tag(5) => self.sum = Some(double(&mut r)?),
                tag if tag == varint_tag(6) => self.scale = r.svarint()?,
                tag if tag == fixed64_tag(7) => self.zero_count = r.u64_le()?,
                tag if tag == bytes_tag(8) => self.positive.decode(r.bytes()?, allowance)?,
                tag if tag == bytes_tag(9) => self.negative.decode(r.bytes()?, allowance)?,
                tag if tag == varint_tag(10) => self.head.flags = r.uvarint()?,
                tag if tag == bytes_tag(11) => allowance.push(&mut parts.exemplars, r.bytes()?)?,
                tag if tag == fixed64_tag(14) => self.zero_threshold = double(&mut r)?,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(())
    }
}

impl Buckets {
    fn in_memory_of(mut counts: Vec<u64>) -> Self {
        counts.clear();
        Self { offset: 0, counts }
    }

    /// A message that comes again takes the place of the one before.
    fn decode(&mut self, bytes: &[u8], allowance: &mut Allowance<'_>) -> Result<(), DecodeFail> {
        self.offset = 0;
        self.counts.clear();
        let mut r = Reader::new("buckets", bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == varint_tag(1) => self.offset = r.svarint()?,
                tag if tag == bytes_tag(2) => {
                    let mut counts = Reader::new("bucket counts", r.bytes()?);
                    while !counts.is_empty() {
                        allowance.push(&mut self.counts, counts.uvarint()?)?;
                    }
                }
                tag if tag == varint_tag(2) => allowance.push(&mut self.counts, r.uvarint()?)?,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(())
    }
}

impl SummaryPoint {
    pub(super) fn decode<'a>(
        &mut self,
        bytes: &'a [u8],
        parts: &mut PointParts<'a>,
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        (self.head, self.count, self.sum) = Default::default();
        self.quantiles.clear();
        parts.clear();
        let mut r = Reader::new("summary data point", bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == fixed64_tag(2) => self.head.start_ns = r.u64_le()?,
                tag if tag == fixed64_tag(3) => self.head.t_ns = r.u64_le()?,
                tag if tag == fixed64_tag(4) => self.count = r.u64_le()?,
                tag if tag == fixed64_tag(5) => self.sum = double(&mut r)?,
                tag if tag == bytes_tag(6) => {
                    allowance.push(&mut self.quantiles, quantile(r.bytes()?)?)?;
                }
                tag if tag == bytes_tag(7) => allowance.push(&mut parts.attributes, r.bytes()?)?,
                tag if tag == varint_tag(8) => self.head.flags = r.uvarint()?,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(())
    }
}

fn quantile(bytes: &[u8]) -> Result<(f64, f64), DecodeError> {
    let mut out = (0.0, 0.0);
    let mut r = Reader::new("quantile", bytes);
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == fixed64_tag(1) => out.0 = double(&mut r)?,
            tag if tag == fixed64_tag(2) => out.1 = double(&mut r)?,
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(out)
}
