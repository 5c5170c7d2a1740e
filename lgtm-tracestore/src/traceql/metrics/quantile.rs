//! Distributions by powers of two.

use super::super::number::Number;
use super::partial::Bucket;

/// The bucket of a value: the next power of two that is not below it. None for what is below 2, and for floats, which Tempo does not count either.
pub(super) fn bucket_of(value: Number) -> Option<Bucket> {
    let (v, is_duration) = match value {
        Number::Int(v) => (v, false),
        Number::Duration(v) => (v, true),
        Number::Float(_) => return None,
    };
    let v = u64::try_from(v).ok().filter(|v| *v >= 2)?;
    // Of 1 << 63 and below; more does not fit.
    let exponent = 64 - (v - 1).leading_zeros();
    Some(Bucket {
        exponent: exponent as u8,
        is_duration,
    })
}

impl Bucket {
    /// Its greatest value; durations in seconds.
    pub fn bound(self) -> f64 {
        let bound = 2f64.powi(self.exponent.into());
        if self.is_duration { bound / 1e9 } else { bound }
    }
}

/// The quantile of values of which only buckets are known, by bound, ascending; 0 when there are none.
///
/// Where the wanted value lies inside a bucket, values are taken to be spread evenly over its logarithms.
pub(super) fn quantile(q: f64, buckets: &[(f64, u64)]) -> f64 {
    let total: u64 = buckets.iter().map(|(_, count)| count).sum();
    if total == 0 {
        return 0.0;
    }
    let target = (q * total as f64).ceil().max(1.0) as u64;
    let (mut consumed, mut lower) = (0, None);
    for (bound, count) in buckets.iter().filter(|(_, count)| *count > 0) {
        if consumed + count == target {
            return *bound;
        }
        if consumed + count > target {
            let low = lower.unwrap_or(bound / 2.0_f64).log2();
            let fraction = (target - consumed) as f64 / *count as f64;
            return 2f64.powf(low + (bound.log2() - low) * fraction);
        }
        consumed += count;
        lower = Some(*bound);
    }
    lower.unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_powers_of_two() {
        let of = |v| bucket_of(Number::Int(v)).map(|b| b.bound());
        assert_eq!(of(0), None);
        assert_eq!(of(1), None);
        assert_eq!(of(2), Some(2.0));
        assert_eq!(of(3), Some(4.0));
        assert_eq!(of(4), Some(4.0));
        assert_eq!(of(-5), None);
        assert_eq!(of(i64::MAX), Some(2f64.powi(63)));
        let second = bucket_of(Number::Duration(1_000_000_000)).unwrap();
        assert_eq!(second.bound(), 1.073_741_824);
    }

    #[test]
    fn quantiles_lie_between_bounds() {
        assert_eq!(quantile(0.5, &[]), 0.0);
        assert_eq!(quantile(0.5, &[(2.0, 1), (4.0, 1)]), 2.0);
        assert_eq!(quantile(1.0, &[(2.0, 1), (4.0, 1)]), 4.0);
        // The first of two values in a bucket that begins at 4: half of the way, by logarithm.
        assert_eq!(quantile(0.5, &[(8.0, 2)]), 2f64.powf(2.5));
        assert_eq!(quantile(0.0, &[(8.0, 1)]), 8.0);
    }
}
