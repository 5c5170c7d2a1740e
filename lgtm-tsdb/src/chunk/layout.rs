//! Where the buckets of a histogram chunk are: written once, at its front.

use lgtm_core::DecodeError;
use lgtm_core::model::{BucketSpan, MAX_HISTOGRAM_BUCKETS, MAX_HISTOGRAM_SPANS};

use super::bits::{BitReader, BitWriter};

/// Largest `bound * 1000` that is written as an integer.
const MAX_SCALED_BOUND: f64 = 33_554_430.0;

/// Schema, zero threshold and spans that all samples of a chunk share.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) positive_spans: Vec<BucketSpan>,
    pub(super) negative_spans: Vec<BucketSpan>,
    pub(super) custom_values: Vec<f64>,
}

impl Layout {
    pub(super) fn write(&self, w: &mut BitWriter) {
        write_zero_threshold(w, self.zero_threshold);
        w.vbi(i64::from(self.schema));
        for spans in [&self.positive_spans, &self.negative_spans] {
            w.vbu(spans.len() as u64);
            for s in spans {
                w.vbu(u64::from(s.length));
                w.vbi(i64::from(s.offset));
            }
        }
        if self.schema == -53 {
            w.vbu(self.custom_values.len() as u64);
            self.custom_values.iter().for_each(|b| write_bound(w, *b));
        }
    }

    pub(super) fn read(r: &mut BitReader<'_>) -> Result<Self, DecodeError> {
        let zero_threshold = match r.read(8)? {
            0 => 0.0,
            255 => f64::from_bits(r.read(64)?),
            e => 0.5 * 2f64.powi(e as i32 - 243),
        };
        let schema = r.vbi()?;
        let schema = match schema {
            -53 | -9..=52 => schema as i32,
            s => return Err(r.error(format!("unknown histogram schema {s}"))),
        };
        let (positive_spans, negative_spans) = (read_spans(r)?, read_spans(r)?);
        let mut custom_values = Vec::new();
        if schema == -53 {
            let n = r.vbu()?;
            if n > r.remaining() as u64 {
                return Err(r.error(format!("{n} custom bounds in {} bits", r.remaining())));
            }
            for _ in 0..n {
                custom_values.push(match r.vbu()? {
                    0 => f64::from_bits(r.read(64)?),
                    x => (x - 1) as f64 / 1000.0,
                });
            }
        }
        Ok(Self {
            schema,
            zero_threshold,
            positive_spans,
            negative_spans,
            custom_values,
        })
    }
}

fn write_zero_threshold(w: &mut BitWriter, value: f64) {
    if value == 0.0 {
        return w.write(0, 8);
    }
    // A power of two has no mantissa bits; 0.5 * 2^e has the biased exponent e + 1022.
    let bits = value.to_bits();
    let e = (bits >> 52) as i64 - 1022;
    if bits & ((1 << 52) - 1) == 0 && value > 0.0 && (-242..=11).contains(&e) {
        return w.write((e + 243) as u64, 8);
    }
    w.write(255, 8);
    w.write(bits, 64);
}

fn write_bound(w: &mut BitWriter, bound: f64) {
    let scaled = bound * 1000.0;
    if (0.0..=MAX_SCALED_BOUND).contains(&scaled) && scaled.round() / 1000.0 == bound {
        return w.vbu(scaled.round() as u64 + 1);
    }
    w.write(0, 1);
    w.write(bound.to_bits(), 64);
}

fn read_spans(r: &mut BitReader<'_>) -> Result<Vec<BucketSpan>, DecodeError> {
    let n = r.vbu()?;
    // What a chunk claims is held against the bounds that writers keep before anything is allocated. A span takes two bits at least.
    if n > MAX_HISTOGRAM_SPANS as u64 || n > r.remaining() as u64 / 2 {
        return Err(r.error(format!("{n} spans in {} bits", r.remaining())));
    }
    let mut spans = Vec::with_capacity(n as usize);
    let mut buckets = 0u64;
    for _ in 0..n {
        let (length, offset) = (r.vbu()?, r.vbi()?);
        buckets = buckets.saturating_add(length);
        // Every sample writes a bit at least for each bucket.
        if buckets > MAX_HISTOGRAM_BUCKETS as u64 || buckets > r.remaining() as u64 + 64 {
            return Err(r.error(format!("{buckets} buckets in {} bits", r.remaining())));
        }
        let offset = i32::try_from(offset)
            .map_err(|_| r.error(format!("span offset {offset} is out of range")))?;
        spans.push(BucketSpan {
            offset,
            length: length as u32,
        });
    }
    Ok(spans)
}

/// Whether a reader would take these spans.
pub(super) fn is_readable(spans: &[BucketSpan]) -> bool {
    spans.len() <= MAX_HISTOGRAM_SPANS && bucket_count(spans) <= MAX_HISTOGRAM_BUCKETS
}

/// Number of buckets in spans.
pub(super) fn bucket_count(spans: &[BucketSpan]) -> usize {
    spans.iter().map(|s| s.length as usize).sum()
}

/// Absolute indices of the buckets in spans.
pub(super) fn indices(spans: &[BucketSpan]) -> impl Iterator<Item = i64> {
    let mut next = 0i64;
    spans.iter().flat_map(move |s| {
        let start = next + i64::from(s.offset);
        next = start + i64::from(s.length);
        start..next
    })
}

/// Spans that hold exactly these ascending indices, neighbours in one span.
pub(super) fn spans_of(indices: impl Iterator<Item = i64>) -> Vec<BucketSpan> {
    let mut spans: Vec<BucketSpan> = Vec::new();
    let mut next = 0i64;
    for i in indices {
        match spans.last_mut() {
            Some(s) if i == next => s.length += 1,
            _ => spans.push(BucketSpan {
                offset: (i - next) as i32,
                length: 1,
            }),
        }
        next = i + 1;
    }
    spans
}

/// Counts moved from the buckets of `from` to those of `to`, which holds them all; new buckets are empty.
pub(super) fn widen<C: Copy + Default>(
    counts: &[C],
    from: &[BucketSpan],
    to: &[BucketSpan],
) -> Vec<C> {
    let mut old = indices(from).zip(counts.iter().copied()).peekable();
    indices(to)
        .map(|i| {
            old.next_if(|(j, _)| *j == i)
                .map_or_else(C::default, |(_, c)| c)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_indices_are_two_ways_to_say_the_same() {
        let spans = [
            BucketSpan {
                offset: -2,
                length: 2,
            },
            BucketSpan {
                offset: 0,
                length: 0,
            },
            BucketSpan {
                offset: 3,
                length: 1,
            },
        ];
        let all: Vec<_> = indices(&spans).collect();
        assert_eq!(all, [-2, -1, 3]);
        let merged = spans_of([-2, -1, 3].into_iter());
        assert_eq!(
            merged,
            [
                BucketSpan {
                    offset: -2,
                    length: 2
                },
                BucketSpan {
                    offset: 3,
                    length: 1
                }
            ]
        );
        assert_eq!(
            widen(&[5, 6, 7], &spans, &spans_of([-2, -1, 0, 3].into_iter())),
            [5, 6, 0, 7]
        );
    }
}
