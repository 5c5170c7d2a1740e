//! Average and variance of values that come one by one, and of two such runs together.

use crate::promql::functions::kahan_add;

/// A run of floats. The average is a plain sum divided at the end; once that would overflow it goes on with the mean itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moments {
    count: f64,
    /// Sum and its error; mean and its error once `incremental`.
    sum: f64,
    error: f64,
    incremental: bool,
    /// For the variance: mean and sum of squared distances to it (Welford).
    mean: f64,
    squares: f64,
}

impl Moments {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0.0
    }

    /// Takes a value in; `variance` tells whether [`Moments::variance`] will be asked for.
    #[inline]
    pub(super) fn add(&mut self, v: f64, variance: bool) {
        self.count += 1.0;
        if variance {
            if self.count == 1.0 && !v.is_finite() {
                self.squares = f64::NAN;
            }
            let delta = v - self.mean;
            self.mean += delta / self.count;
            if self.count > 1.0 {
                self.squares += delta * (v - self.mean);
            }
            return;
        }
        if self.count == 1.0 {
            self.sum = v;
            return;
        }
        if !self.incremental {
            let (sum, error) = kahan_add(v, self.sum, self.error);
            if !sum.is_infinite() {
                (self.sum, self.error) = (sum, error);
                return;
            }
            self.go_incremental(self.count - 1.0);
        }
        self.add_incremental(v);
    }

    fn go_incremental(&mut self, count: f64) {
        if !self.incremental {
            self.incremental = true;
            self.sum /= count;
            self.error /= count;
        }
    }

    fn add_incremental(&mut self, v: f64) {
        if self.sum.is_infinite() {
            // An infinite mean stays unless the other infinity or NaN comes.
            let same_side = v.is_infinite() && (v > 0.0) == (self.sum > 0.0);
            if same_side || v.is_finite() {
                return;
            }
        }
        let mean = self.sum + self.error;
        let step = v / self.count - mean / self.count;
        (self.sum, self.error) = kahan_add(step, self.sum, self.error);
    }

    pub(super) fn mean(&self) -> f64 {
        if self.incremental {
            self.sum + self.error
        } else {
            (self.sum + self.error) / self.count
        }
    }

    pub(super) fn variance(&self) -> f64 {
        self.squares / self.count
    }

    /// Takes another run in.
    pub(super) fn join(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        if self.is_empty() {
            *self = *other;
            return;
        }
        let total = self.count + other.count;
        let delta = other.mean - self.mean;
        self.squares += other.squares + delta * delta * self.count * other.count / total;
        self.mean += delta * other.count / total;
        let (sum, error) = kahan_add(other.sum, self.sum, self.error);
        if self.incremental || other.incremental || sum.is_infinite() {
            let (a, b) = (self.mean(), other.mean());
            self.incremental = true;
            self.sum = if a == b {
                a
            } else {
                a * (self.count / total) + b * (other.count / total)
            };
            self.error = 0.0;
        } else {
            (self.sum, self.error) = (sum, error + other.error);
        }
        self.count = total;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64], variance: bool) -> Moments {
        let mut m = Moments::default();
        values.iter().for_each(|v| m.add(*v, variance));
        m
    }

    proptest! {
        #[test]
        fn two_runs_together_are_one_run(
            a in proptest::collection::vec(-1e3f64..1e3, 1..20),
            b in proptest::collection::vec(-1e3f64..1e3, 1..20),
        ) {
            let all: Vec<f64> = a.iter().chain(&b).copied().collect();
            for variance in [false, true] {
                let mut joined = of(&a, variance);
                joined.join(&of(&b, variance));
                let (x, y) = if variance { (joined.variance(), of(&all, true).variance()) } else { (joined.mean(), of(&all, false).mean()) };
                prop_assert!((x - y).abs() <= 1e-9 * (1.0 + y.abs()), "{} {}", x, y);
            }
        }
    }

    #[test]
    fn a_mean_survives_an_overflowing_sum() {
        let m = of(&[f64::MAX, f64::MAX, f64::MAX], false);
        assert_eq!(m.mean(), f64::MAX);
        let mut joined = of(&[f64::MAX], false);
        joined.join(&of(&[f64::MAX], false));
        assert_eq!(joined.mean(), f64::MAX);
        assert_eq!(of(&[f64::INFINITY, 1.0], false).mean(), f64::INFINITY);
        assert!(
            of(&[f64::INFINITY, f64::NEG_INFINITY], false)
                .mean()
                .is_nan()
        );
    }
}
