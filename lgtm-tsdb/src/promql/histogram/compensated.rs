//! Sums and averages of many histograms with the rounding errors carried along (Kahan and Neumaier).

use lgtm_core::model::{BucketSpan, FloatHistogram};

use super::arithmetic::{
    IncompatibleBuckets, add, common_bounds, copy_to_schema, divide, merge_hints, multiply,
    raise_zero_bucket, rebounded, zero_bucket_up_to,
};
use super::buckets::{indexed, packed};
use crate::promql::functions::kahan_add;

/// A running sum.
#[derive(Debug, Clone)]
pub(crate) struct Sum {
    value: FloatHistogram,
    /// The errors of `value`, in the same layout.
    error: FloatHistogram,
    /// Custom bounds differed somewhere.
    pub(crate) bounds_reconciled: bool,
}

impl Sum {
    /// Begins with `first`.
    pub(crate) fn new(first: &FloatHistogram) -> Self {
        let mut error = first.clone();
        multiply(&mut error, 0.0);
        // 0 * NaN and 0 * infinity are NaN.
        for x in [&mut error.count, &mut error.sum, &mut error.zero_count] {
            *x = 0.0;
        }
        error.positive_counts.fill(0.0);
        error.negative_counts.fill(0.0);
        Self {
            value: first.clone(),
            error,
            bounds_reconciled: false,
        }
    }

    /// Adds one.
    pub(crate) fn add(&mut self, other: &FloatHistogram) -> Result<(), IncompatibleBuckets> {
        let (h, c) = (&mut self.value, &mut self.error);
        if h.uses_custom_buckets() != other.uses_custom_buckets() {
            return Err(IncompatibleBuckets);
        }
        merge_hints(h, other.hint);
        let aligned;
        let other = if same_layout(h, other) {
            other
        } else {
            aligned = align(h, c, other, &mut self.bounds_reconciled);
            &aligned
        };
        (h.zero_count, c.zero_count) = kahan_add(other.zero_count, h.zero_count, c.zero_count);
        (h.count, c.count) = kahan_add(other.count, h.count, c.count);
        (h.sum, c.sum) = kahan_add(other.sum, h.sum, c.sum);
        let side = |counts: &mut [f64], errors: &mut [f64], others: &[f64]| {
            for ((n, e), o) in counts.iter_mut().zip(errors).zip(others) {
                (*n, *e) = kahan_add(*o, *n, *e);
            }
        };
        side(
            &mut h.positive_counts,
            &mut c.positive_counts,
            &other.positive_counts,
        );
        side(
            &mut h.negative_counts,
            &mut c.negative_counts,
            &other.negative_counts,
        );
        Ok(())
    }

    /// Takes over another sum.
    pub(crate) fn join(&mut self, other: Self) -> Result<(), IncompatibleBuckets> {
        self.bounds_reconciled |= other.bounds_reconciled;
        self.add(&other.finish())
    }

    fn scale(&mut self, factor: f64) {
        multiply(&mut self.value, factor);
        multiply(&mut self.error, factor);
    }

    fn divided(mut self, n: f64) -> FloatHistogram {
        divide(&mut self.value, n);
        divide(&mut self.error, n);
        self.finish()
    }

    /// The sum.
    pub(crate) fn finish(mut self) -> FloatHistogram {
        let hint = self.value.hint;
        self.error.hint = hint;
        // Equal layouts: adding cannot fail.
        let _ = add(&mut self.value, &self.error);
        self.value.hint = hint;
        self.value
    }
}

/// A running average. It divides a plain sum at the end; once that would overflow it goes on with the mean itself.
#[derive(Debug, Clone)]
pub(crate) struct Average {
    sum: Sum,
    count: f64,
    incremental: bool,
}

impl Average {
    /// Begins with `first`.
    pub(crate) fn new(first: &FloatHistogram) -> Self {
        Self {
            sum: Sum::new(first),
            count: 1.0,
            incremental: false,
        }
    }

    /// Whether custom bounds differed somewhere.
    pub(crate) fn bounds_reconciled(&self) -> bool {
        self.sum.bounds_reconciled
    }

    /// Takes one in.
    pub(crate) fn add(&mut self, h: &FloatHistogram) -> Result<(), IncompatibleBuckets> {
        self.count += 1.0;
        if !self.incremental {
            let before =
                (reach(&self.sum.value) + reach(h) > f64::MAX / 4.0).then(|| self.sum.clone());
            self.sum.add(h)?;
            match before {
                Some(before) if reach(&self.sum.value).is_infinite() => {
                    self.sum = before;
                    self.sum.scale(1.0 / (self.count - 1.0));
                    self.incremental = true;
                }
                _ => return Ok(()),
            }
        }
        self.sum.scale((self.count - 1.0) / self.count);
        let mut part = h.clone();
        divide(&mut part, self.count);
        self.sum.add(&part)
    }

    /// Takes over another average.
    pub(crate) fn join(&mut self, other: Self) -> Result<(), IncompatibleBuckets> {
        let total = self.count + other.count;
        let near_overflow = reach(&self.sum.value) + reach(&other.sum.value) > f64::MAX / 4.0;
        if self.incremental || other.incremental || near_overflow {
            let (mine, theirs) = (self.count / total, other.count / total);
            let mut means = [self.clone().finish(), other.finish()];
            multiply(&mut means[0], mine);
            multiply(&mut means[1], theirs);
            let reconciled = self.sum.bounds_reconciled;
            self.sum = Sum::new(&means[0]);
            self.sum.bounds_reconciled = reconciled;
            self.sum.add(&means[1])?;
            self.incremental = true;
        } else {
            self.sum.join(other.sum)?;
        }
        self.count = total;
        Ok(())
    }

    /// The average.
    pub(crate) fn finish(self) -> FloatHistogram {
        if self.incremental {
            self.sum.finish()
        } else {
            self.sum.divided(self.count)
        }
    }
}

/// The largest absolute value in a histogram.
fn reach(h: &FloatHistogram) -> f64 {
    let scalars = [h.zero_count, h.count, h.sum];
    let all = scalars
        .iter()
        .chain(&h.positive_counts)
        .chain(&h.negative_counts);
    all.fold(0.0, |max: f64, x| max.max(x.abs()))
}

fn same_layout(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    a.schema == b.schema
        && a.zero_threshold == b.zero_threshold
        && a.custom_values == b.custom_values
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && a.positive_counts.len() == b.positive_counts.len()
        && a.negative_counts.len() == b.negative_counts.len()
}

/// Brings a sum, its errors and the next summand to one layout; returns the summand in it.
fn align(
    h: &mut FloatHistogram,
    c: &mut FloatHistogram,
    other: &FloatHistogram,
    reconciled: &mut bool,
) -> FloatHistogram {
    let mut o = other.clone();
    if h.uses_custom_buckets() {
        if h.custom_values != o.custom_values {
            *reconciled = true;
            let wanted = common_bounds(&h.custom_values, &o.custom_values);
            for x in [&mut *h, &mut *c, &mut o] {
                (x.positive_spans, x.positive_counts) = packed(rebounded(x, &wanted));
                x.custom_values.clone_from(&wanted);
            }
        }
    } else {
        while h.zero_threshold != o.zero_threshold {
            let wanted = h.zero_threshold.max(o.zero_threshold);
            if wanted.is_nan() {
                break;
            }
            let reached = zero_bucket_up_to(h, wanted)
                .1
                .max(zero_bucket_up_to(&o, wanted).1);
            for x in [&mut *h, &mut *c, &mut o] {
                raise_zero_bucket(x, reached);
            }
        }
        let schema = h.schema.min(o.schema);
        for x in [&mut *h, &mut *c, &mut o] {
            *x = copy_to_schema(x, schema);
        }
    }
    let positive = all_indexes(h, &o, |x| (&x.positive_spans, &x.positive_counts));
    let negative = all_indexes(h, &o, |x| (&x.negative_spans, &x.negative_counts));
    for x in [h, c, &mut o] {
        (x.positive_spans, x.positive_counts) =
            spread(&positive, &x.positive_spans, &x.positive_counts);
        (x.negative_spans, x.negative_counts) =
            spread(&negative, &x.negative_spans, &x.negative_counts);
    }
    o
}

type Side = for<'a> fn(&'a FloatHistogram) -> (&'a Vec<BucketSpan>, &'a Vec<f64>);

fn all_indexes(a: &FloatHistogram, b: &FloatHistogram, side: Side) -> Vec<i32> {
    let of = |h| {
        let (spans, counts) = side(h);
        indexed(spans, counts).map(|(i, _)| i).collect::<Vec<_>>()
    };
    let mut all = of(a);
    all.extend(of(b));
    all.sort_unstable();
    all.dedup();
    all
}

/// The same buckets with zeros at the indexes that are missing.
fn spread(indexes: &[i32], spans: &[BucketSpan], counts: &[f64]) -> (Vec<BucketSpan>, Vec<f64>) {
    let mut have = indexed(spans, counts).peekable();
    packed(indexes.iter().map(|i| {
        let count = have.next_if(|(j, _)| j == i).map_or(0.0, |(_, c)| c);
        (*i, count)
    }))
}
