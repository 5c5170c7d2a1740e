//! Quantiles and variance.

use lgtm_core::model::FloatHistogram;

use super::buckets::{Bucket, all_buckets};
use crate::promql::functions::kahan_add;

/// What observations of NaN, which are in no bucket, did to a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NanEffect {
    /// The quantile lies among them.
    Result,
    /// They rank above everything and push the quantile up.
    Skew,
}

/// The `q`-quantile. Interpolates exponentially between the bounds of exponential buckets, linearly elsewhere.
pub(crate) fn quantile(q: f64, h: &FloatHistogram) -> (f64, Option<NanEffect>) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if h.count == 0.0 || q.is_nan() {
        return (f64::NAN, None);
    }
    let buckets = all_buckets(h);
    // From the nearer end. NaNs count as above everything, so with them only counting up is right.
    let upwards = h.sum.is_nan() || q < 0.5;
    let rank = if upwards {
        q * h.count
    } else {
        (1.0 - q) * h.count
    };
    let mut order: Box<dyn Iterator<Item = &Bucket>> = if upwards {
        Box::new(buckets.iter())
    } else {
        Box::new(buckets.iter().rev())
    };
    let mut bucket = Bucket {
        lower: 0.0,
        upper: 0.0,
        count: 0.0,
    };
    let mut seen = 0.0;
    for b in order.by_ref() {
        bucket = *b;
        seen += b.count;
        if b.count != 0.0 && seen >= rank {
            break;
        }
    }
    let rest: f64 = order.map(|b| b.count).sum();
    if h.uses_custom_buckets() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return (bucket.upper, None);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return (bucket.lower, None);
        }
    } else {
        bucket = halved_zero_bucket(h, bucket);
    }
    if seen > h.count {
        seen = h.count;
    }
    if seen < rank {
        return if h.sum.is_nan() {
            (f64::NAN, Some(NanEffect::Result))
        } else {
            (bucket.upper, None)
        };
    }
    let inside = if upwards {
        rank - (seen - bucket.count)
    } else {
        seen - rank
    };
    let skewed = h.sum.is_nan() && seen + rest < h.count;
    let value = interpolated(h, &bucket, inside / bucket.count);
    (value, skewed.then_some(NanEffect::Skew))
}

/// The value at a fraction of a bucket's observations.
fn interpolated(h: &FloatHistogram, b: &Bucket, fraction: f64) -> f64 {
    if h.uses_custom_buckets() || (b.lower <= 0.0 && b.upper >= 0.0) {
        return b.lower + (b.upper - b.lower) * fraction;
    }
    let (lower, upper) = (b.lower.abs().log2(), b.upper.abs().log2());
    if b.lower > 0.0 {
        (lower + (upper - lower) * fraction).exp2()
    } else {
        -(upper + (lower - upper) * (1.0 - fraction)).exp2()
    }
}

/// A zero bucket of a histogram that has buckets on one side only reaches only to that side.
pub(super) fn halved_zero_bucket(h: &FloatHistogram, mut b: Bucket) -> Bucket {
    if b.lower < 0.0 && b.upper > 0.0 {
        let (negative, positive) = (!h.negative_counts.is_empty(), !h.positive_counts.is_empty());
        if positive && !negative {
            b.lower = 0.0;
        } else if negative && !positive {
            b.upper = 0.0;
        }
    }
    b
}

/// The variance, taking all observations of a bucket to lie at its middle: the geometric one for exponential buckets.
pub(crate) fn variance(h: &FloatHistogram) -> f64 {
    let mean = h.sum / h.count;
    let (mut sum, mut error) = (0.0, 0.0);
    for b in all_buckets(h).iter().filter(|b| b.count != 0.0) {
        let middle = if h.uses_custom_buckets() {
            (b.upper + b.lower) / 2.0
        } else if b.lower <= 0.0 && b.upper >= 0.0 {
            0.0
        } else {
            (b.upper * b.lower).sqrt().copysign(b.upper)
        };
        let delta = middle - mean;
        (sum, error) = kahan_add(b.count * delta * delta, sum, error);
    }
    (sum + error) / h.count
}
