//! Statistics of a run of floats.

use super::kahan::kahan_add;

/// The `q`-quantile; sorts `values`. NaNs rank lowest; between two values the result is weighted.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(|a, b| {
        b.is_nan()
            .cmp(&a.is_nan())
            .then_with(|| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal))
    });
    let rank = q * (values.len() - 1) as f64;
    let lower = rank.floor();
    let weight = rank - lower;
    let at = lower as usize;
    let above = (at + 1).min(values.len() - 1);
    values[at] * (1.0 - weight) + values[above] * weight
}

/// The variance of a run that is not empty.
pub(super) fn variance(values: &[f64]) -> f64 {
    let (mut mean, mut mean_error) = (0.0, 0.0);
    let (mut sum, mut sum_error) = (0.0, 0.0);
    for (n, v) in values.iter().enumerate() {
        let delta = v - (mean + mean_error);
        (mean, mean_error) = kahan_add(delta / (n + 1) as f64, mean, mean_error);
        (sum, sum_error) = kahan_add(delta * (v - (mean + mean_error)), sum, sum_error);
    }
    (sum + sum_error) / values.len() as f64
}

/// The average. Sums up and divides; once the sum would overflow it goes on with the mean itself.
pub(super) fn average(values: &[f64]) -> f64 {
    let (mut sum, mut error) = (values.first().copied().unwrap_or(f64::NAN), 0.0);
    for (n, v) in values.iter().enumerate().skip(1) {
        let (next, next_error) = kahan_add(*v, sum, error);
        if next.is_infinite() {
            return incremental_average(sum / n as f64, error / n as f64, n, &values[n..]);
        }
        (sum, error) = (next, next_error);
    }
    let count = values.len() as f64;
    sum / count + error / count
}

fn incremental_average(mut mean: f64, mut error: f64, before: usize, rest: &[f64]) -> f64 {
    for (n, v) in rest.iter().enumerate() {
        let count = (before + n + 1) as f64;
        let q = (count - 1.0) / count;
        (mean, error) = kahan_add(v / count, q * mean, q * error);
    }
    mean + error
}

/// Slope per second and value at `at_ms` of the line that fits best.
pub(super) fn regression(times: &[i64], values: &[f64], at_ms: i64) -> (f64, f64) {
    let first = values[0];
    if values.iter().all(|v| *v == first) {
        return if first.is_infinite() {
            (f64::NAN, f64::NAN)
        } else {
            (0.0, first)
        };
    }
    let mut sums = [(0.0, 0.0); 4];
    for (t, y) in times.iter().zip(values) {
        let x = (t - at_ms) as f64 / 1000.0;
        for ((sum, error), v) in sums.iter_mut().zip([x, *y, x * y, x * x]) {
            (*sum, *error) = kahan_add(v, *sum, *error);
        }
    }
    let [x, y, xy, xx] = sums.map(|(sum, error)| sum + error);
    let n = values.len() as f64;
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

/// Double exponential smoothing with factors inside (0, 1); at least two values.
pub(super) fn smooth(values: &[f64], smoothing: f64, trend: f64) -> f64 {
    let mut before = 0.0;
    let mut now = values[0];
    let mut slope = values[1] - values[0];
    for (n, v) in values.iter().enumerate().skip(1) {
        if n > 1 {
            slope = trend * (now - before) + (1.0 - trend) * slope;
        }
        (before, now) = (now, smoothing * v + (1.0 - smoothing) * (now + slope));
    }
    now
}

/// The median of the distances to the median; NaN if a value is.
pub(super) fn median_deviation(values: &mut [f64]) -> f64 {
    if values.iter().any(|v| v.is_nan()) {
        return f64::NAN;
    }
    let median = quantile(0.5, values);
    values.iter_mut().for_each(|v| *v = (*v - median).abs());
    quantile(0.5, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_survives_an_overflowing_sum() {
        let mean = average(&[f64::MAX, f64::MAX, f64::MAX]);
        assert!((mean / f64::MAX - 1.0).abs() < 1e-15, "{mean}");
        assert_eq!(average(&[1.0, 2.0, 6.0]), 3.0);
    }

    #[test]
    fn quantiles_are_weighted() {
        assert_eq!(quantile(0.5, &mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(quantile(0.25, &mut [0.0, 1.0]), 0.25);
        assert!(quantile(0.0, &mut [1.0, f64::NAN]).is_nan());
        assert_eq!(quantile(2.0, &mut [1.0]), f64::INFINITY);
        assert!(quantile(0.5, &mut []).is_nan());
    }

    #[test]
    fn a_line_is_found() {
        let (slope, at) = regression(&[0, 1000, 2000], &[1.0, 3.0, 5.0], 3000);
        assert_eq!((slope, at), (2.0, 7.0));
    }
}
