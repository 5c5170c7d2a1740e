//! What makes a native histogram well formed.
//!
//! The rules are those of the Prometheus TSDB (`model/histogram`, `Validate`); the ids are Mimir's. A histogram that passes can be
//! packed, read back, iterated and summed without an index leaving its range.

use super::histogram::{
    BucketSpan, FloatHistogram, Histogram, MAX_HISTOGRAM_BUCKETS, MAX_HISTOGRAM_SPANS,
};

/// Coarsest and finest exponential schema.
const EXPONENTIAL_SCHEMAS: std::ops::RangeInclusive<i32> = -4..=8;

/// A rule that a histogram breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramFault {
    /// Stable id of the rule, e.g. `native-histogram-count-mismatch`.
    pub id: &'static str,
    /// What is wrong, naming the value and the bound.
    pub message: String,
}

fn fault<T>(id: &'static str, message: String) -> Result<T, HistogramFault> {
    Err(HistogramFault { id, message })
}

/// What both kinds have in common.
struct Shape<'a> {
    schema: i32,
    zero_threshold: f64,
    zero_count_is_zero: bool,
    positive: (&'a [BucketSpan], usize),
    negative: (&'a [BucketSpan], usize),
    custom_values: &'a [f64],
}

impl Shape<'_> {
    /// What can be said without looking at any bucket.
    fn check_size(&self) -> Result<(), HistogramFault> {
        for (what, bounded, max, id) in [
            (
                "positive spans",
                self.positive.0.len(),
                MAX_HISTOGRAM_SPANS,
                "native-histogram-too-many-spans",
            ),
            (
                "negative spans",
                self.negative.0.len(),
                MAX_HISTOGRAM_SPANS,
                "native-histogram-too-many-spans",
            ),
            (
                "positive buckets",
                self.positive.1,
                MAX_HISTOGRAM_BUCKETS,
                "native-histogram-too-many-buckets",
            ),
            (
                "negative buckets",
                self.negative.1,
                MAX_HISTOGRAM_BUCKETS,
                "native-histogram-too-many-buckets",
            ),
            (
                "custom bounds",
                self.custom_values.len(),
                MAX_HISTOGRAM_BUCKETS,
                "native-histogram-too-many-buckets",
            ),
        ] {
            if bounded > max {
                return fault(id, format!("it has {bounded} {what}, the bound is {max}"));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), HistogramFault> {
        self.check_size()?;
        if self.schema == super::histogram::CUSTOM_BUCKETS_SCHEMA {
            self.check_custom()?;
        } else if !EXPONENTIAL_SCHEMAS.contains(&self.schema) {
            return fault(
                "invalid-native-histogram-schema",
                format!("schema {} is neither between -4 and 8 nor -53", self.schema),
            );
        } else if !self.custom_values.is_empty() {
            return fault(
                "native-histogram-custom-buckets-mismatch",
                format!(
                    "schema {} has {} custom bounds, only schema -53 may have any",
                    self.schema,
                    self.custom_values.len()
                ),
            );
        }
        check_spans("positive", self.positive.0, self.positive.1)?;
        check_spans("negative", self.negative.0, self.negative.1)
    }

    fn check_custom(&self) -> Result<(), HistogramFault> {
        let id = "native-histogram-custom-buckets-invalid";
        if !self.zero_count_is_zero || self.zero_threshold != 0.0 {
            return fault(id, "custom buckets with a zero bucket".into());
        }
        if !self.negative.0.is_empty() || self.negative.1 > 0 {
            return fault(id, "custom buckets with negative buckets".into());
        }
        for (i, bound) in self.custom_values.iter().enumerate() {
            if bound.is_nan() || i > 0 && *bound <= self.custom_values[i - 1] {
                return fault(
                    id,
                    format!("custom bound {i} ({bound}) is not above the one before"),
                );
            }
        }
        if self.custom_values.last() == Some(&f64::INFINITY) {
            return fault(
                "native-histogram-custom-buckets-infinite",
                "the last custom bound is +Inf, which is implied".into(),
            );
        }
        let reach: i64 = (self.positive.0.iter())
            .map(|s| i64::from(s.offset) + i64::from(s.length))
            .sum();
        let most = self.custom_values.len() as i64 + 1;
        if reach > most || self.positive.0.first().is_some_and(|s| s.offset < 0) {
            return fault(
                "native-histogram-custom-buckets-mismatch",
                format!(
                    "{} custom bounds make {most} buckets, the spans reach from {} to {reach}",
                    self.custom_values.len(),
                    self.positive.0.first().map_or(0, |s| s.offset)
                ),
            );
        }
        Ok(())
    }
}

fn check_spans(side: &str, spans: &[BucketSpan], buckets: usize) -> Result<(), HistogramFault> {
    let (mut index, mut total) = (0i64, 0u64);
    for (i, span) in spans.iter().enumerate() {
        if i > 0 && span.offset < 0 {
            return fault(
                "native-histogram-span-negative-offset",
                format!("{side} span {i} has the negative offset {}", span.offset),
            );
        }
        total += u64::from(span.length);
        index += i64::from(span.offset) + i64::from(span.length);
        if i32::try_from(index).is_err() {
            return fault(
                "native-histogram-spans-buckets-mismatch",
                format!("{side} span {i} ends at bucket {index}, beyond 32 bits"),
            );
        }
    }
    if total != buckets as u64 {
        return fault(
            "native-histogram-spans-buckets-mismatch",
            format!("{side} spans have {total} buckets, {buckets} are given"),
        );
    }
    Ok(())
}

/// The sum of buckets given as deltas.
fn sum_deltas(side: &str, deltas: &[i64]) -> Result<u128, HistogramFault> {
    let (mut count, mut sum) = (0i64, 0u128);
    for (i, delta) in deltas.iter().enumerate() {
        count = count.saturating_add(*delta);
        let Ok(n) = u64::try_from(count) else {
            return fault(
                "native-histogram-negative-bucket-count",
                format!("{side} bucket {i} has the count {count}"),
            );
        };
        sum += u128::from(n);
    }
    Ok(sum)
}

fn check_counts(side: &str, counts: &[f64]) -> Result<(), HistogramFault> {
    match counts.iter().position(|n| *n < 0.0) {
        Some(i) => fault(
            "native-histogram-negative-bucket-count",
            format!("{side} bucket {i} has the count {}", counts[i]),
        ),
        None => Ok(()),
    }
}

impl Histogram {
    fn checked_shape(&self) -> Shape<'_> {
        Shape {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count_is_zero: self.zero_count == 0,
            positive: (&self.positive_spans, self.positive_deltas.len()),
            negative: (&self.negative_spans, self.negative_deltas.len()),
            custom_values: &self.custom_values,
        }
    }

    /// Checks that it is not larger than readers allow. Costs nothing.
    ///
    /// # Errors
    /// `native-histogram-too-many-spans` or `native-histogram-too-many-buckets`.
    pub fn check_size(&self) -> Result<(), HistogramFault> {
        self.checked_shape().check_size()
    }

    /// Checks size, schema, spans, bucket counts and that they add up.
    ///
    /// # Errors
    /// The first rule that is broken. Costs one pass over the buckets.
    pub fn validate(&self) -> Result<(), HistogramFault> {
        self.checked_shape().check()?;
        if self.is_stale() {
            return Ok(());
        }
        let buckets = u128::from(self.zero_count)
            + sum_deltas("positive", &self.positive_deltas)?
            + sum_deltas("negative", &self.negative_deltas)?;
        let count = u128::from(self.count);
        // Observations of NaN are in the count and in no bucket; they make the sum NaN.
        let (broken, id) = if self.sum.is_nan() {
            (buckets > count, "native-histogram-count-not-big-enough")
        } else {
            (buckets != count, "native-histogram-count-mismatch")
        };
        if broken {
            return fault(
                id,
                format!("{buckets} observations are in the buckets, the count is {count}"),
            );
        }
        Ok(())
    }
}

impl FloatHistogram {
    fn checked_shape(&self) -> Shape<'_> {
        Shape {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count_is_zero: self.zero_count == 0.0,
            positive: (&self.positive_spans, self.positive_counts.len()),
            negative: (&self.negative_spans, self.negative_counts.len()),
            custom_values: &self.custom_values,
        }
    }

    /// As [`Histogram::check_size`].
    ///
    /// # Errors
    /// As there.
    pub fn check_size(&self) -> Result<(), HistogramFault> {
        self.checked_shape().check_size()
    }

    /// Checks size, schema, spans and bucket counts. Whether they add up is not checked: rounding would make false alarms.
    ///
    /// # Errors
    /// The first rule that is broken. Costs one pass over the buckets.
    pub fn validate(&self) -> Result<(), HistogramFault> {
        self.checked_shape().check()?;
        check_counts("positive", &self.positive_counts)?;
        check_counts("negative", &self.negative_counts)?;
        check_counts("zero", &[self.zero_count])?;
        check_counts("count of the", &[self.count])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(offset: i32, length: u32) -> BucketSpan {
        BucketSpan { offset, length }
    }

    fn good() -> Histogram {
        Histogram {
            count: 8,
            sum: 3.5,
            zero_count: 1,
            zero_threshold: 1e-128,
            positive_spans: vec![span(-2, 2), span(3, 1)],
            positive_deltas: vec![2, 1, -2],
            negative_spans: vec![span(0, 1)],
            negative_deltas: vec![1],
            ..Histogram::default()
        }
    }

    #[test]
    fn each_broken_rule_has_its_id() {
        type Break = fn(&mut Histogram);
        assert_eq!(good().validate(), Ok(()));
        assert_eq!(good().to_float().validate(), Ok(()));
        let cases: [(Break, &str); 10] = [
            (|h| h.count = 9, "native-histogram-count-mismatch"),
            (
                |h| (h.count, h.sum) = (7, f64::NAN),
                "native-histogram-count-not-big-enough",
            ),
            (
                |h| h.positive_deltas[2] = -4,
                "native-histogram-negative-bucket-count",
            ),
            (
                |h| h.positive_spans[1].offset = -1,
                "native-histogram-span-negative-offset",
            ),
            (
                |h| h.positive_spans[1].length = u32::MAX,
                "native-histogram-spans-buckets-mismatch",
            ),
            (
                |h| h.positive_spans[1].offset = i32::MAX,
                "native-histogram-spans-buckets-mismatch",
            ),
            (|h| h.schema = 9, "invalid-native-histogram-schema"),
            (
                |h| h.custom_values = vec![1.0],
                "native-histogram-custom-buckets-mismatch",
            ),
            (
                |h| h.schema = -53,
                "native-histogram-custom-buckets-invalid",
            ),
            (
                |h| h.positive_deltas = vec![i64::MAX, 1, i64::MIN],
                "native-histogram-negative-bucket-count",
            ),
        ];
        for (breaks, id) in cases {
            let mut h = good();
            breaks(&mut h);
            assert_eq!(h.validate().map_err(|f| f.id), Err(id));
        }
    }

    #[test]
    fn custom_buckets_need_rising_bounds_and_no_more_buckets_than_those_make() {
        let custom = |bounds: &[f64], spans: &[BucketSpan], deltas: &[i64]| Histogram {
            schema: -53,
            count: 3,
            positive_spans: spans.to_vec(),
            positive_deltas: deltas.to_vec(),
            custom_values: bounds.to_vec(),
            ..Histogram::default()
        };
        let id = |h: Histogram| h.validate().map_err(|f| f.id);
        assert_eq!(id(custom(&[1.0, 2.0], &[span(0, 3)], &[1, 0, 0])), Ok(()));
        let mismatch = Err("native-histogram-custom-buckets-mismatch");
        assert_eq!(id(custom(&[1.0], &[span(0, 3)], &[1, 0, 0])), mismatch);
        assert_eq!(
            id(custom(&[1.0, 2.0], &[span(-1, 3)], &[1, 0, 0])),
            mismatch
        );
        let invalid = Err("native-histogram-custom-buckets-invalid");
        for bounds in [[2.0, 2.0], [2.0, 1.0], [1.0, f64::NAN]] {
            assert_eq!(id(custom(&bounds, &[span(0, 3)], &[1, 0, 0])), invalid);
        }
        let infinite = Err("native-histogram-custom-buckets-infinite");
        assert_eq!(
            id(custom(&[1.0, f64::INFINITY], &[span(0, 3)], &[1, 0, 0])),
            infinite
        );
        let mut negative = good().to_float();
        negative.negative_counts[0] = -1.0;
        assert!(negative.validate().is_err());
    }

    #[test]
    fn what_readers_would_not_allocate_for_is_refused_and_the_largest_is_not() {
        let of = |spans: usize, buckets: usize| {
            let mut h = Histogram {
                positive_spans: vec![span(0, 0); spans],
                positive_deltas: vec![0; buckets],
                ..Histogram::default()
            };
            h.positive_spans[0].length = buckets as u32;
            h
        };
        let (spans, buckets) = (MAX_HISTOGRAM_SPANS, MAX_HISTOGRAM_BUCKETS);
        assert_eq!(of(spans, buckets).validate(), Ok(()));
        for (h, id) in [
            (of(spans + 1, buckets), "native-histogram-too-many-spans"),
            (of(spans, buckets + 1), "native-histogram-too-many-buckets"),
        ] {
            let fault = h.validate().unwrap_err();
            assert_eq!(fault.id, id);
            assert_eq!(h.to_float().validate().map_err(|f| f.id), Err(id));
            assert_eq!(h.check_size().as_ref(), Err(&fault));
            let mirrored = Histogram {
                negative_spans: h.positive_spans,
                negative_deltas: h.positive_deltas,
                ..Histogram::default()
            };
            assert_eq!(mirrored.validate().map_err(|f| f.id), Err(id));
        }
        let bounds = Histogram {
            schema: -53,
            custom_values: (0..=buckets).map(|b| b as f64).collect(),
            ..Histogram::default()
        };
        let fault = bounds.validate().unwrap_err();
        assert_eq!(fault.id, "native-histogram-too-many-buckets");
        assert!(
            fault.message.contains("262145 custom bounds"),
            "{}",
            fault.message
        );
    }
}
