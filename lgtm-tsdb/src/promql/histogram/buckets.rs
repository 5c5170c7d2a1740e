//! The buckets of a histogram one by one.

use lgtm_core::model::{BucketSpan, FloatHistogram};

use super::bounds;

/// A bucket with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bucket {
    pub(crate) lower: f64,
    pub(crate) upper: f64,
    pub(crate) count: f64,
}

/// Index and count of each bucket that the spans name, in the order of the spans. Ends where counts run out.
pub(super) fn indexed<'a>(
    spans: &'a [BucketSpan],
    counts: &'a [f64],
) -> impl Iterator<Item = (i32, f64)> + Clone + 'a {
    let mut next = 0i32;
    let indexes = spans.iter().flat_map(move |s| {
        let begin = next.saturating_add(s.offset);
        next = begin.saturating_add_unsigned(s.length);
        begin..next
    });
    indexes.zip(counts.iter().copied())
}

/// Spans and counts for buckets in ascending order of index.
pub(super) fn packed(buckets: impl IntoIterator<Item = (i32, f64)>) -> (Vec<BucketSpan>, Vec<f64>) {
    let mut spans: Vec<BucketSpan> = Vec::new();
    let mut counts = Vec::new();
    let mut next = 0i32;
    for (index, count) in buckets {
        match spans.last_mut() {
            Some(last) if index == next => last.length += 1,
            _ => spans.push(BucketSpan {
                offset: index.saturating_sub(next),
                length: 1,
            }),
        }
        counts.push(count);
        next = index.saturating_add(1);
    }
    (spans, counts)
}

/// Positive buckets from the zero bucket upwards.
pub(super) fn positive(h: &FloatHistogram) -> impl DoubleEndedIterator<Item = Bucket> {
    let all: Vec<_> = indexed(&h.positive_spans, &h.positive_counts).collect();
    all.into_iter().map(|(index, count)| Bucket {
        lower: bounds::upper(h, index.saturating_sub(1)),
        upper: bounds::upper(h, index),
        count,
    })
}

/// Negative buckets from the zero bucket downwards.
pub(super) fn negative(h: &FloatHistogram) -> impl DoubleEndedIterator<Item = Bucket> {
    let all: Vec<_> = indexed(&h.negative_spans, &h.negative_counts).collect();
    all.into_iter().map(|(index, count)| Bucket {
        lower: -bounds::upper(h, index),
        upper: -bounds::upper(h, index.saturating_sub(1)),
        count,
    })
}

/// All buckets from the lowest to the highest. A bucket that reaches into the zero bucket is cut where that begins.
pub(crate) fn all_buckets(h: &FloatHistogram) -> Vec<Bucket> {
    let zero = h.zero_threshold;
    let mut out: Vec<Bucket> = negative(h)
        .rev()
        .map(|mut b| {
            if b.upper < 0.0 && b.upper > -zero {
                b.upper = -zero;
            }
            b
        })
        .collect();
    if h.zero_count > 0.0 {
        out.push(Bucket {
            lower: -zero,
            upper: zero,
            count: h.zero_count,
        });
    }
    out.extend(positive(h).map(|mut b| {
        if b.lower > 0.0 && b.lower < zero {
            b.lower = zero;
        }
        b
    }));
    out
}
