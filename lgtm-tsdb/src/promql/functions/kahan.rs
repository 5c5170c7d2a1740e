//! Sums that carry their rounding error.

/// Adds `x` to a sum and its error (Kahan's summation as Neumaier improved it). The total is sum plus error.
#[inline]
pub(crate) fn kahan_add(x: f64, sum: f64, error: f64) -> (f64, f64) {
    let total = sum + x;
    if total.is_infinite() {
        return (total, 0.0);
    }
    let lost = if sum.abs() >= x.abs() {
        (sum - total) + x
    } else {
        (x - total) + sum
    };
    (total, error + lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_survive_large_ones() {
        let (mut sum, mut error) = (0.0, 0.0);
        for x in [1.0, 1e100, 1.0, -1e100] {
            (sum, error) = kahan_add(x, sum, error);
        }
        assert_eq!(sum + error, 2.0);
    }
}
