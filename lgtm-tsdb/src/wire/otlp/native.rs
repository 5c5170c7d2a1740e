//! Histograms of OTLP as native histograms.

use lgtm_core::model::{
    BucketSpan, CounterResetHint, Histogram, HistogramFault, MAX_HISTOGRAM_BUCKETS,
    MAX_HISTOGRAM_SPANS, STALE_NAN_BITS, stale_nan,
};

use super::points::{Buckets, ExponentialPoint, HistogramPoint};

/// Finest schema of a native histogram; finer scales are merged down to it.
const MAX_SCHEMA: i64 = 8;
/// Coarsest schema; coarser scales cannot be told.
const MIN_SCHEMA: i64 = -4;
/// The zero threshold of a histogram that names none, as in Prometheus' client libraries.
const DEFAULT_ZERO_THRESHOLD: f64 = 1e-128;
/// Empty buckets that are cheaper written than left out by a span of their own.
const MAX_GAP: i64 = 2;

/// Makes spans and deltas of one sign.
#[derive(Debug, Default)]
struct SpanWriter {
    spans: Vec<BucketSpan>,
    deltas: Vec<i64>,
    last_count: i64,
    /// Index after the last bucket written.
    next: i64,
}

/// Most bytes that [`SpanWriter`] holds at a time, of both signs, while its vectors grow.
pub(super) const MAX_SPAN_BYTES: usize =
    2 * 3 * (8 * MAX_HISTOGRAM_BUCKETS + size_of::<BucketSpan>() * MAX_HISTOGRAM_SPANS);

fn malformed(message: String) -> HistogramFault {
    let id = "malformed-series";
    HistogramFault { id, message }
}

impl SpanWriter {
    fn push(&mut self, index: i64, count: u64) -> Result<(), HistogramFault> {
        let count = i64::try_from(count)
            .map_err(|_| malformed(format!("bucket count {count} exceeds {}", i64::MAX)))?;
        if self.deltas.len() >= MAX_HISTOGRAM_BUCKETS {
            return Err(HistogramFault {
                id: "native-histogram-too-many-buckets",
                message: format!("it has more than {MAX_HISTOGRAM_BUCKETS} buckets"),
            });
        }
        if self.spans.len() >= MAX_HISTOGRAM_SPANS {
            return Err(HistogramFault {
                id: "native-histogram-too-many-spans",
                message: format!("its buckets are {MAX_HISTOGRAM_SPANS} runs and more"),
            });
        }
        let gap = index - self.next;
        match self.spans.last_mut() {
            Some(span) if gap <= MAX_GAP => {
                for _ in 0..gap {
                    self.deltas.push(-self.last_count);
                    self.last_count = 0;
                }
                span.length += gap as u32 + 1;
            }
            last => {
                let offset = if last.is_some() { gap } else { index };
                let offset = i32::try_from(offset)
                    .map_err(|_| malformed(format!("bucket index {index} exceeds 32 bits")))?;
                self.spans.push(BucketSpan { offset, length: 1 });
            }
        }
        self.deltas.push(count - self.last_count);
        self.last_count = count;
        self.next = index + 1;
        Ok(())
    }
}

/// The buckets of one sign, merged by `2^merge` and moved: bucket i of OTLP is `(base^i, base^(i+1)]`, ours `(base^(i-1), base^i]`.
fn exponential(buckets: &Buckets, merge: u32) -> Result<SpanWriter, HistogramFault> {
    let mut out = SpanWriter::default();
    let mut pending: Option<(i64, u64)> = None;
    if i32::try_from(buckets.offset).is_err() {
        let message = format!("bucket offset {} exceeds 32 bits", buckets.offset);
        return Err(malformed(message));
    }
    for (i, count) in buckets.counts.iter().enumerate().filter(|(_, n)| **n > 0) {
        let index = ((buckets.offset + i as i64) >> merge.min(63)) + 1;
        match &mut pending {
            Some((at, sum)) if *at == index => *sum = sum.saturating_add(*count),
            _ => {
                if let Some((at, sum)) = pending.replace((index, *count)) {
                    out.push(at, sum)?;
                }
            }
        }
    }
    if let Some((at, sum)) = pending {
        out.push(at, sum)?;
    }
    Ok(out)
}

impl ExponentialPoint {
    /// The point as a native histogram.
    ///
    /// # Errors
    /// A scale below -4; buckets that 32-bit indexes or 64-bit counts cannot hold, or more than may be stored.
    pub(super) fn to_native(&self, hint: CounterResetHint) -> Result<Histogram, HistogramFault> {
        if self.scale < MIN_SCHEMA {
            return Err(malformed(format!(
                "exponential histogram has scale {}, the coarsest that can be kept is {MIN_SCHEMA}",
                self.scale
            )));
        }
        let merge = u32::try_from((self.scale - MAX_SCHEMA).max(0)).unwrap_or(u32::MAX);
        let positive = exponential(&self.positive, merge)?;
        let negative = exponential(&self.negative, merge)?;
        let mut h = Histogram {
            hint,
            schema: self.scale.min(MAX_SCHEMA) as i32,
            zero_threshold: match self.zero_threshold {
                0.0 => DEFAULT_ZERO_THRESHOLD,
                given => given,
            },
            zero_count: self.zero_count,
            count: self.count,
            sum: self.sum.unwrap_or(0.0),
            positive_spans: positive.spans,
            positive_deltas: positive.deltas,
            negative_spans: negative.spans,
            negative_deltas: negative.deltas,
            custom_values: Vec::new(),
        };
        if self.head.is_stale() {
            (h.sum, h.count) = (stale_nan(), STALE_NAN_BITS);
        }
        Ok(h)
    }
}

impl HistogramPoint {
    /// The point as a native histogram with custom buckets.
    ///
    /// # Errors
    /// Bounds and counts that do not fit together; counts that 64 bits cannot hold; more buckets than may be stored.
    pub(super) fn to_custom_buckets(
        &self,
        hint: CounterResetHint,
    ) -> Result<Histogram, HistogramFault> {
        self.check().map_err(malformed)?;
        let mut buckets = SpanWriter::default();
        for (i, count) in self
            .bucket_counts
            .iter()
            .enumerate()
            .filter(|(_, n)| **n > 0)
        {
            buckets.push(i as i64, *count)?;
        }
        let mut bounds = self.bounds.clone();
        if bounds.last() == Some(&f64::INFINITY) {
            bounds.pop();
        }
        let mut h = Histogram {
            hint,
            schema: -53,
            count: self.count,
            sum: self.sum.unwrap_or(0.0),
            positive_spans: buckets.spans,
            positive_deltas: buckets.deltas,
            custom_values: bounds,
            ..Histogram::default()
        };
        if self.head.is_stale() {
            (h.sum, h.count) = (stale_nan(), STALE_NAN_BITS);
        }
        Ok(h)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(offset: i32, length: u32) -> BucketSpan {
        BucketSpan { offset, length }
    }

    fn point(scale: i64, offset: i64, counts: &[u64]) -> ExponentialPoint {
        ExponentialPoint {
            scale,
            count: counts.iter().sum(),
            positive: Buckets {
                offset,
                counts: counts.to_vec(),
            },
            ..ExponentialPoint::default()
        }
    }

    #[test]
    fn buckets_move_by_one_and_small_gaps_are_filled() {
        let h = point(3, 4, &[2, 0, 0, 1, 0, 0, 0, 5])
            .to_native(CounterResetHint::Unknown)
            .unwrap();
        assert_eq!(h.positive_spans, [span(5, 4), span(3, 1)]);
        assert_eq!(h.positive_deltas, [2, -2, 0, 1, 4]);
        assert_eq!(h.validate(), Ok(()));
    }

    #[test]
    fn fine_scales_are_merged_down_to_schema_eight() {
        let h = point(10, -3, &[1, 1, 1, 1, 1, 1])
            .to_native(CounterResetHint::Unknown)
            .unwrap();
        // Indexes -3..=2 by fours: -1 holds three, 0 holds three; moved by one.
        assert_eq!(
            (h.schema, h.positive_spans.as_slice()),
            (8, &[span(0, 2)][..])
        );
        assert_eq!(h.positive_deltas, [3, 0]);
        assert!(
            point(-5, 0, &[1])
                .to_native(CounterResetHint::Unknown)
                .is_err()
        );
        assert!(
            point(0, i64::MAX, &[1])
                .to_native(CounterResetHint::Unknown)
                .is_err()
        );
        let edge = point(0, i64::from(i32::MAX), &[0, 1]).to_native(CounterResetHint::Unknown);
        assert!(edge.is_err());
        assert_eq!(
            point(i64::from(i32::MAX), 0, &[1, 1])
                .to_native(CounterResetHint::Unknown)
                .unwrap()
                .positive_deltas,
            [2]
        );
    }

    #[test]
    fn explicit_bounds_become_custom_buckets() {
        let p = HistogramPoint {
            count: 6,
            sum: Some(9.0),
            bucket_counts: vec![1, 0, 5],
            bounds: vec![1.0, 2.0],
            ..HistogramPoint::default()
        };
        let h = p.to_custom_buckets(CounterResetHint::Unknown).unwrap();
        assert_eq!(
            (h.positive_spans.as_slice(), h.positive_deltas.as_slice()),
            (&[span(0, 3)][..], &[1, -1, 5][..])
        );
        assert_eq!(h.validate(), Ok(()));
    }

    #[test]
    fn more_buckets_than_may_be_stored_are_not_made() {
        let id = |p: ExponentialPoint| {
            let made = p.to_native(CounterResetHint::Unknown);
            made.map_err(|f| f.id).map(|h| h.validate())
        };
        let most = MAX_HISTOGRAM_BUCKETS;
        assert_eq!(id(point(0, 0, &vec![1; most])), Ok(Ok(())));
        let too_many = "native-histogram-too-many-buckets";
        assert_eq!(id(point(0, 0, &vec![1; most + 1])), Err(too_many));
        // Every fifth: each is a run of its own.
        let mut sparse = vec![0; 5 * (MAX_HISTOGRAM_SPANS + 1)];
        sparse.iter_mut().step_by(5).for_each(|n| *n = 1);
        let too_many = "native-histogram-too-many-spans";
        assert_eq!(id(point(0, 0, &sparse)), Err(too_many));
    }
}
