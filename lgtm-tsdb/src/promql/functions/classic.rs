//! Quantiles and fractions of classic histograms, whose buckets are series of their own and count cumulatively.

use std::cmp::Ordering;

/// A bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ClassicBucket {
    pub(crate) upper: f64,
    /// Observations in this bucket and all below.
    pub(crate) count: f64,
}

/// What had to be raised so that counts ascend: lowest and highest bucket, largest drop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Raised {
    pub(crate) min_bucket: f64,
    pub(crate) max_bucket: f64,
    pub(crate) max_diff: f64,
}

/// Differences below this part of the counts are noise.
const TOLERANCE: f64 = 1e-12;

/// The `q`-quantile, interpolated linearly. `buckets` ascend by bound and there is one at least; equal bounds are joined in place.
pub(crate) fn bucket_quantile(q: f64, buckets: &mut Vec<ClassicBucket>) -> (f64, Option<Raised>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if buckets.last().is_none_or(|b| b.upper != f64::INFINITY) {
        return (f64::NAN, None);
    }
    join_equal_bounds(buckets);
    let raised = make_ascending(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if last == 0 || observations == 0.0 {
        return (f64::NAN, raised);
    }
    let mut rank = q * observations;
    // Infinite counts make the rank of 0 no number, which no count reaches.
    let at = buckets[..last].partition_point(|b| {
        !matches!(
            b.count.partial_cmp(&rank),
            Some(Ordering::Greater | Ordering::Equal)
        )
    });
    if at == last {
        return (buckets[last - 1].upper, raised);
    }
    let mut begin = 0.0;
    let ClassicBucket { upper, mut count } = buckets[at];
    if at == 0 {
        if upper <= 0.0 {
            return (upper, raised);
        }
    } else {
        begin = buckets[at - 1].upper;
        count -= buckets[at - 1].count;
        rank -= buckets[at - 1].count;
    }
    (begin + (upper - begin) * (rank / count), raised)
}

/// The fraction of observations in `lower..upper`. `buckets` as for [`bucket_quantile`].
pub(crate) fn bucket_fraction(lower: f64, upper: f64, buckets: &mut Vec<ClassicBucket>) -> f64 {
    if buckets.last().is_none_or(|b| b.upper != f64::INFINITY) {
        return f64::NAN;
    }
    join_equal_bounds(buckets);
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let below = |v: f64| rank(buckets, v).map_or(count, |r| if r > count { count } else { r });
    (below(upper) - below(lower)) / count
}

fn rank(buckets: &[ClassicBucket], v: f64) -> Option<f64> {
    let mut rank = 0.0;
    // Only positive bounds: observations are taken to begin at 0.
    let mut begin = if buckets[0].upper <= 0.0 {
        f64::NEG_INFINITY
    } else {
        0.0
    };
    for b in buckets {
        if begin >= v {
            return Some(rank);
        }
        if b.upper > v {
            return Some(if begin == f64::NEG_INFINITY {
                b.count
            } else {
                rank + (b.count - rank) * (v - begin) / (b.upper - begin)
            });
        }
        rank = b.count;
        begin = b.upper;
    }
    None
}

fn join_equal_bounds(buckets: &mut Vec<ClassicBucket>) {
    buckets.dedup_by(|b, kept| {
        let equal = b.upper == kept.upper;
        if equal {
            kept.count += b.count;
        }
        equal
    });
}

/// Levels small differences and raises what falls below an earlier count.
fn make_ascending(buckets: &mut [ClassicBucket]) -> Option<Raised> {
    let mut raised: Option<Raised> = None;
    let mut before = buckets[0].count;
    for b in &mut buckets[1..] {
        if b.count == before {
            continue;
        }
        if nearly_equal(before, b.count) {
            b.count = before;
            continue;
        }
        if b.count < before {
            let diff = before - b.count;
            b.count = before;
            let r = raised.get_or_insert(Raised {
                min_bucket: b.upper,
                max_bucket: b.upper,
                max_diff: diff,
            });
            r.min_bucket = r.min_bucket.min(b.upper);
            r.max_bucket = r.max_bucket.max(b.upper);
            r.max_diff = r.max_diff.max(diff);
            continue;
        }
        before = b.count;
    }
    raised
}

fn nearly_equal(a: f64, b: f64) -> bool {
    if a.is_nan() || b.is_nan() || a.is_infinite() || b.is_infinite() {
        return a == b;
    }
    let (sum, diff) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < TOLERANCE * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < TOLERANCE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(list: &[(f64, f64)]) -> Vec<ClassicBucket> {
        list.iter()
            .map(|(upper, count)| ClassicBucket {
                upper: *upper,
                count: *count,
            })
            .collect()
    }

    #[test]
    fn quantiles_are_interpolated() {
        let inf = f64::INFINITY;
        let b = || buckets(&[(1.0, 10.0), (2.0, 20.0), (inf, 20.0)]);
        assert_eq!(bucket_quantile(0.75, &mut b()).0, 1.5);
        assert_eq!(bucket_quantile(0.25, &mut b()).0, 0.5);
        assert_eq!(bucket_fraction(0.0, 1.5, &mut b()), 0.75);
        assert!(bucket_quantile(0.5, &mut buckets(&[(1.0, 1.0)])).0.is_nan());
    }

    #[test]
    fn counts_that_are_no_numbers_are_ranked_as_prometheus_does() {
        let inf = f64::INFINITY;
        let of = |q, list: &[(f64, f64)]| bucket_quantile(q, &mut buckets(list)).0;
        // Values of Prometheus 2.42.
        for q in [0.0, 0.5, 1.0] {
            assert_eq!(of(q, &[(1.0, 5.0), (2.0, 6.0), (inf, inf)]), 2.0);
            assert_eq!(of(q, &[(-1.0, 5.0), (2.0, 6.0), (inf, inf)]), 2.0);
            assert_eq!(of(q, &[(1.0, 5.0), (2.0, 6.0), (inf, f64::NAN)]), 2.0);
            assert_eq!(of(q, &[(1.0, 5.0), (2.0, f64::NAN), (inf, 7.0)]), 2.0);
        }
        let both = [(1.0, 5.0), (2.0, inf), (inf, inf)];
        assert_eq!(of(0.0, &both), 2.0);
        assert!(of(0.5, &both).is_nan() && of(1.0, &both).is_nan());
    }

    #[test]
    fn falling_counts_are_raised_and_told() {
        let inf = f64::INFINITY;
        let mut b = buckets(&[(1.0, 10.0), (2.0, 8.0), (3.0, 7.0), (inf, 20.0)]);
        let raised = bucket_quantile(0.9, &mut b).1.unwrap();
        assert_eq!(
            (raised.min_bucket, raised.max_bucket, raised.max_diff),
            (2.0, 3.0, 3.0)
        );
    }
}
