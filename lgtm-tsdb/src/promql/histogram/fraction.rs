//! The share of observations between two values.

use lgtm_core::model::FloatHistogram;

use super::buckets::{Bucket, all_buckets};
use super::quantile::halved_zero_bucket;

/// The fraction of observations in `lower..upper`, and whether some were left out because they are NaN.
pub(crate) fn fraction(lower: f64, upper: f64, h: &FloatHistogram) -> (f64, bool) {
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, false);
    }
    if lower >= upper {
        return (0.0, false);
    }
    let buckets = all_buckets(h);
    let in_buckets: f64 = buckets.iter().map(|b| b.count).sum();
    let counted = if h.sum.is_nan() { in_buckets } else { h.count };
    let below = |v: f64| rank(&buckets, h, v).map_or(counted, |r| r.min(counted));
    let share = (below(upper) - below(lower)) / h.count;
    (share, h.sum.is_nan() && in_buckets < h.count)
}

/// Observations below `v`; `None` when `v` is beyond all buckets.
fn rank(buckets: &[Bucket], h: &FloatHistogram, v: f64) -> Option<f64> {
    let mut rank = 0.0;
    for b in buckets {
        let is_zero = b.lower <= 0.0 && b.upper >= 0.0;
        let b = halved_zero_bucket(h, *b);
        if b.lower >= v {
            return Some(rank);
        }
        if b.upper > v {
            if !h.uses_custom_buckets() && !is_zero {
                return Some(rank + b.count * exponential_share(&b, v));
            }
            // Nothing is known of how an infinite bucket is filled.
            if b.lower == f64::NEG_INFINITY {
                return Some(b.count);
            }
            return Some(rank + b.count * (v - b.lower) / (b.upper - b.lower));
        }
        rank += b.count;
    }
    None
}

/// Which part of an exponential bucket lies below `v`.
pub(super) fn exponential_share(b: &Bucket, v: f64) -> f64 {
    let (lower, upper, at) = (b.lower.abs().log2(), b.upper.abs().log2(), v.abs().log2());
    if v > 0.0 {
        (at - lower) / (upper - lower)
    } else {
        1.0 - (at - upper) / (lower - upper)
    }
}
