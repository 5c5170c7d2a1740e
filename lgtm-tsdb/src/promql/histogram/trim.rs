//! Cutting a histogram at a value: the operators `</` and `>/`.

use lgtm_core::model::FloatHistogram;

use super::arithmetic::compact;
use super::buckets::{Bucket, negative, positive};
use super::fraction::exponential_share;

/// Which side stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// `</`
    Below,
    /// `>/`
    Above,
}

/// The part of `h` on one side of `at`. The bucket that `at` falls into is split by interpolation; where something was cut, count
/// and sum are estimated anew from the buckets.
pub(crate) fn trim(h: &FloatHistogram, at: f64, keep: Keep) -> FloatHistogram {
    let mut out = h.clone();
    let mut cut = Cut {
        at,
        keep,
        linear: h.uses_custom_buckets(),
        count: 0.0,
        sum: 0.0,
        changed: false,
    };
    let has_positive = cut.side(&mut out.positive_counts, positive(h), Sign::Positive);
    let has_negative = cut.side(&mut out.negative_counts, negative(h), Sign::Negative);
    if h.zero_count > 0.0 {
        let zero = Bucket {
            lower: if has_positive && !has_negative {
                0.0
            } else {
                -h.zero_threshold
            },
            upper: if has_negative && !has_positive {
                0.0
            } else {
                h.zero_threshold
            },
            count: h.zero_count,
        };
        let (left, middle) = cut.zero(&zero);
        cut.changed |= left != h.zero_count;
        out.zero_count = left;
        cut.count += left;
        cut.sum += middle * left;
    }
    if cut.changed {
        out.count = cut.count;
        out.sum = cut.sum;
        compact(&mut out);
    }
    out
}

#[derive(Clone, Copy, PartialEq)]
enum Sign {
    Positive,
    Negative,
}

struct Cut {
    at: f64,
    keep: Keep,
    linear: bool,
    count: f64,
    sum: f64,
    changed: bool,
}

impl Cut {
    /// Cuts one side; tells whether there was anything in it.
    fn side(
        &mut self,
        counts: &mut [f64],
        buckets: impl Iterator<Item = Bucket>,
        sign: Sign,
    ) -> bool {
        let mut any = false;
        for (count, b) in counts.iter_mut().zip(buckets) {
            if b.count == 0.0 {
                continue;
            }
            any = true;
            let (inside, outside) = match self.keep {
                Keep::Below => (b.upper <= self.at, b.lower >= self.at),
                Keep::Above => (b.lower >= self.at, b.upper <= self.at),
            };
            let (left, middle) = if inside {
                (b.count, self.middle(b.lower, b.upper, sign))
            } else if outside || self.at.is_nan() {
                (0.0, 0.0)
            } else {
                self.split(&b, sign)
            };
            self.changed |= left != b.count;
            *count = left;
            self.count += left;
            self.sum += middle * left;
        }
        any
    }

    /// What stays of a bucket that holds the cut, and the value that stands for it.
    fn split(&self, b: &Bucket, sign: Sign) -> (f64, f64) {
        if b.lower.is_infinite() || b.upper.is_infinite() {
            return self.split_infinite(b);
        }
        let share = if self.linear {
            (self.at - b.lower) / (b.upper - b.lower)
        } else {
            exponential_share(b, self.at)
        };
        let below = b.count * share;
        match self.keep {
            Keep::Below => (below, self.middle(b.lower, self.at, sign)),
            Keep::Above => (b.count - below, self.middle(self.at, b.upper, sign)),
        }
    }

    /// Nothing is known of how a bucket without end is filled: it stays or goes as a whole, except that the first of only
    /// positive bounds is taken to begin at 0.
    fn split_infinite(&self, b: &Bucket) -> (f64, f64) {
        let at = self.at;
        if b.lower == f64::NEG_INFINITY {
            let from_zero = b.upper.is_finite() && b.upper > 0.0;
            return match self.keep {
                Keep::Below if from_zero && at > 0.0 => (b.count * at / b.upper, at / 2.0),
                Keep::Below if b.upper <= 0.0 => (b.count, at),
                Keep::Above if from_zero && at >= 0.0 => {
                    (b.count * (1.0 - at / b.upper), (at + b.upper) / 2.0)
                }
                _ => (0.0, 0.0),
            };
        }
        match self.keep {
            Keep::Above if at >= b.lower => (b.count, at),
            _ => (0.0, 0.0),
        }
    }

    fn zero(&self, b: &Bucket) -> (f64, f64) {
        let whole = (b.count, (b.lower + b.upper) / 2.0);
        match self.keep {
            Keep::Below if self.at <= b.lower => (0.0, 0.0),
            Keep::Below if self.at >= b.upper => whole,
            Keep::Below => (
                b.count * (self.at - b.lower) / (b.upper - b.lower),
                (b.lower + self.at) / 2.0,
            ),
            Keep::Above if self.at <= b.lower => whole,
            Keep::Above if self.at >= b.upper => (0.0, 0.0),
            Keep::Above => (
                b.count * (b.upper - self.at) / (b.upper - b.lower),
                (self.at + b.upper) / 2.0,
            ),
        }
    }

    /// The value that stands for what lies between two bounds.
    fn middle(&self, lower: f64, upper: f64, sign: Sign) -> f64 {
        if lower.is_infinite() {
            return match upper {
                u if u.is_infinite() => 0.0,
                u if u > 0.0 => u / 2.0,
                u => u,
            };
        }
        if upper.is_infinite() {
            return lower;
        }
        if self.linear {
            return (lower + upper) / 2.0;
        }
        let middle = (lower * upper).abs().sqrt();
        match sign {
            Sign::Positive => middle,
            Sign::Negative => -middle,
        }
    }
}
