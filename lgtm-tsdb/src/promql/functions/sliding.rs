//! Folds over sliding windows that look at each sample a constant number of times, however far windows overlap.
//!
//! A window is a queue: what came in since the last turn has one running fold, what was in before has a fold from each of its places
//! to its end. Taking the oldest out then costs nothing; when that part is used up, the folds of the other are built from its end.
//! No value is ever subtracted, so nothing is lost to cancellation.

use super::kahan::kahan_add;

/// What is folded.
pub(super) trait Fold: Copy {
    /// Of one value.
    fn of(value: f64) -> Self;
    /// Of two neighbours, the older first.
    fn join(self, newer: Self) -> Self;
}

/// A sum with its error.
#[derive(Debug, Clone, Copy)]
pub(super) struct SumFold(pub(super) f64, pub(super) f64);

impl Fold for SumFold {
    fn of(value: f64) -> Self {
        Self(value, 0.0)
    }

    fn join(self, newer: Self) -> Self {
        let (sum, error) = kahan_add(newer.0, self.0, self.1);
        Self(sum, error + newer.1)
    }
}

/// The greatest; NaN only if all are.
#[derive(Debug, Clone, Copy)]
pub(super) struct MaxFold(pub(super) f64);

impl Fold for MaxFold {
    fn of(value: f64) -> Self {
        Self(value)
    }

    fn join(self, newer: Self) -> Self {
        if newer.0 > self.0 || self.0.is_nan() {
            newer
        } else {
            self
        }
    }
}

/// The least; NaN only if all are.
#[derive(Debug, Clone, Copy)]
pub(super) struct MinFold(pub(super) f64);

impl Fold for MinFold {
    fn of(value: f64) -> Self {
        Self(value)
    }

    fn join(self, newer: Self) -> Self {
        if newer.0 < self.0 || self.0.is_nan() {
            newer
        } else {
            self
        }
    }
}

/// A window over a run of values whose bounds only move forward.
#[derive(Debug)]
pub(super) struct Sliding<F> {
    /// Folds of the older part, from each place to its end; the oldest last.
    older: Vec<F>,
    /// Place behind the older part.
    border: usize,
    /// Fold of what lies behind the border.
    newer: Option<F>,
    high: usize,
}

impl<F: Fold> Sliding<F> {
    pub(super) fn new() -> Self {
        Self {
            older: Vec::new(),
            border: 0,
            newer: None,
            high: 0,
        }
    }

    /// The fold of `values[low..high]`, which must not be empty; neither bound may be less than at the call before.
    pub(super) fn fold(&mut self, values: &[f64], low: usize, high: usize) -> F {
        for v in &values[self.high..high] {
            let v = F::of(*v);
            self.newer = Some(self.newer.map_or(v, |n| n.join(v)));
        }
        self.high = high;
        if low >= self.border {
            self.older.clear();
            let mut fold: Option<F> = None;
            for v in values[low..high].iter().rev() {
                let v = F::of(*v);
                let next = fold.map_or(v, |f| v.join(f));
                fold = Some(next);
                self.older.push(next);
            }
            (self.border, self.newer) = (high, None);
        }
        self.older.truncate(self.border - low);
        let oldest = self.older[self.older.len() - 1];
        self.newer.map_or(oldest, |n| oldest.join(n))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_sliding_fold_is_the_fold_of_the_window(
            values in proptest::collection::vec(-100i32..100, 1..60),
            moves in proptest::collection::vec((0usize..4, 0usize..4), 1..40),
        ) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let (mut sums, mut max, mut min) =
                (Sliding::<SumFold>::new(), Sliding::<MaxFold>::new(), Sliding::<MinFold>::new());
            let (mut low, mut high) = (0, 0);
            for (l, h) in moves {
                high = (high + h).min(values.len());
                low = (low + l).min(high);
                if low == high {
                    continue;
                }
                let window = &values[low..high];
                let sum = sums.fold(&values, low, high);
                prop_assert_eq!(sum.0 + sum.1, window.iter().sum::<f64>());
                prop_assert_eq!(max.fold(&values, low, high).0, window.iter().copied().fold(f64::MIN, f64::max));
                prop_assert_eq!(min.fold(&values, low, high).0, window.iter().copied().fold(f64::MAX, f64::min));
            }
        }
    }
}
