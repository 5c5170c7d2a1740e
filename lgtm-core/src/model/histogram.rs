//! Native histograms as the TSDB stores them.
//!
//! [`Histogram`] counts with integers and keeps neighbouring buckets as deltas; [`FloatHistogram`] counts with floats and keeps
//! absolute counts. Arithmetic on them belongs to the query engine.

use super::sample::is_stale_nan;

/// The schema number of histograms with custom bucket bounds.
pub(super) const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// Buckets of one sign, and custom bounds, that a native histogram may have: some hundred times what real ones have. Writers refuse
/// more ([`Histogram::validate`]) and readers do not allocate for more, so that what was taken can be read.
pub const MAX_HISTOGRAM_BUCKETS: usize = 1 << 18;
/// Spans of one sign that a native histogram may have, as [`MAX_HISTOGRAM_BUCKETS`].
pub const MAX_HISTOGRAM_SPANS: usize = 1 << 16;

/// A run of consecutive buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct BucketSpan {
    /// First span: index of its first bucket. Later spans: buckets left out since the end of the span before.
    pub offset: i32,
    /// Number of buckets; 0 is legal.
    pub length: u32,
}

/// What is known of a counter reset between a histogram sample and the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CounterResetHint {
    /// Nothing is known: compare.
    #[default]
    Unknown,
    /// There was a reset.
    Reset,
    /// There was none.
    NotReset,
    /// A gauge histogram: counter resets mean nothing.
    Gauge,
}

/// A histogram with integer counts.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// Counter-reset hint.
    pub hint: CounterResetHint,
    /// Exponential schemas -4..=8, or -53 for custom bounds.
    pub schema: i32,
    /// Width of the zero bucket to either side.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// Observations in all.
    pub count: u64,
    /// Sum of the observations; the stale marker makes the sample stale.
    pub sum: f64,
    /// Where the positive buckets are.
    pub positive_spans: Vec<BucketSpan>,
    /// Where the negative buckets are.
    pub negative_spans: Vec<BucketSpan>,
    /// Positive buckets: the first absolute, then differences to the one before.
    pub positive_deltas: Vec<i64>,
    /// Negative buckets, likewise.
    pub negative_deltas: Vec<i64>,
    /// Upper bounds of the buckets when the schema is -53, without `+Inf`.
    pub custom_values: Vec<f64>,
}

/// A histogram with float counts.
#[derive(Debug, Clone, Default)]
pub struct FloatHistogram {
    /// Counter-reset hint.
    pub hint: CounterResetHint,
    /// Exponential schemas -4..=8, or -53 for custom bounds.
    pub schema: i32,
    /// Width of the zero bucket to either side.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// Observations in all.
    pub count: f64,
    /// Sum of the observations; the stale marker makes the sample stale.
    pub sum: f64,
    /// Where the positive buckets are.
    pub positive_spans: Vec<BucketSpan>,
    /// Where the negative buckets are.
    pub negative_spans: Vec<BucketSpan>,
    /// Absolute counts of the positive buckets.
    pub positive_counts: Vec<f64>,
    /// Absolute counts of the negative buckets.
    pub negative_counts: Vec<f64>,
    /// Upper bounds of the buckets when the schema is -53, without `+Inf`.
    pub custom_values: Vec<f64>,
}

impl Histogram {
    /// Whether the sample is a stale marker.
    pub fn is_stale(&self) -> bool {
        is_stale_nan(self.sum)
    }

    /// Whether bucket bounds are custom (schema -53).
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// The same histogram with float counts.
    pub fn to_float(&self) -> FloatHistogram {
        let absolute = |deltas: &[i64]| {
            let mut n = 0i64;
            deltas
                .iter()
                .map(|d| {
                    n = n.wrapping_add(*d);
                    n as f64
                })
                .collect()
        };
        FloatHistogram {
            hint: self.hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count as f64,
            count: self.count as f64,
            sum: self.sum,
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            positive_counts: absolute(&self.positive_deltas),
            negative_counts: absolute(&self.negative_deltas),
            custom_values: self.custom_values.clone(),
        }
    }
}

impl FloatHistogram {
    /// Whether the sample is a stale marker.
    pub fn is_stale(&self) -> bool {
        is_stale_nan(self.sum)
    }

    /// Whether bucket bounds are custom (schema -53).
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }
}

fn same_bits(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits())
}

impl PartialEq for Histogram {
    /// Equal in every field, floats by their bits (a stale sum equals itself). The hint counts too.
    fn eq(&self, o: &Self) -> bool {
        self.hint == o.hint
            && self.schema == o.schema
            && self.zero_threshold.to_bits() == o.zero_threshold.to_bits()
            && self.zero_count == o.zero_count
            && self.count == o.count
            && self.sum.to_bits() == o.sum.to_bits()
            && self.positive_spans == o.positive_spans
            && self.negative_spans == o.negative_spans
            && self.positive_deltas == o.positive_deltas
            && self.negative_deltas == o.negative_deltas
            && same_bits(&self.custom_values, &o.custom_values)
    }
}

impl PartialEq for FloatHistogram {
    /// Equal in every field, floats by their bits (a stale sum equals itself). The hint counts too.
    fn eq(&self, o: &Self) -> bool {
        self.hint == o.hint
            && self.schema == o.schema
            && self.zero_threshold.to_bits() == o.zero_threshold.to_bits()
            && self.zero_count.to_bits() == o.zero_count.to_bits()
            && self.count.to_bits() == o.count.to_bits()
            && self.sum.to_bits() == o.sum.to_bits()
            && self.positive_spans == o.positive_spans
            && self.negative_spans == o.negative_spans
            && same_bits(&self.positive_counts, &o.positive_counts)
            && same_bits(&self.negative_counts, &o.negative_counts)
            && same_bits(&self.custom_values, &o.custom_values)
    }
}
