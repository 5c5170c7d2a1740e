//! How often values fell under which bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::telemetry::exposition::format_value;
use crate::telemetry::gauge::add_f64;
use crate::telemetry::snapshot::{MetricKind, Sample};

/// A classic histogram: a count per bucket, and the sum of all values.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds, inclusive, ascending, finite.
    bounds: Arc<[f64]>,
    /// One count per bound and one for what is above all of them; not cumulative.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Upper bounds in seconds for requests that take between 1 ms and two minutes.
    pub const LATENCY_SECONDS: [f64; 14] = [
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0,
    ];

    pub(super) fn new(bounds: Arc<[f64]>) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self {
            bounds,
            counts,
            sum: AtomicU64::new(0),
        }
    }

    /// Checks that bounds are finite and ascend.
    pub(super) fn check_bounds(name: &str, bounds: &[f64]) -> Result<()> {
        if let Some(bad) = bounds.iter().find(|b| !b.is_finite()) {
            return Err(Error::InvalidInput(format!(
                "histogram {name}: bucket bound {bad} is not finite; +Inf is added by itself"
            )));
        }
        if let Some(pair) = bounds.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(Error::InvalidInput(format!(
                "histogram {name}: bucket bound {} follows {}, bounds must ascend",
                pair[1], pair[0]
            )));
        }
        Ok(())
    }

    /// Counts one value. A search over the bounds and two atomic additions.
    pub fn observe(&self, value: f64) {
        // A NaN is in no bucket but the last, as in the client libraries.
        let bucket = self
            .bounds
            .partition_point(|&bound| bound < value || value.is_nan());
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        add_f64(&self.sum, value);
    }

    /// Counts a duration in seconds.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(duration.as_secs_f64());
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|c| c.load(Ordering::Relaxed)).sum()
    }

    /// The sum of the values counted.
    pub fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Ordering::Relaxed))
    }
}

impl super::family::Metric for Histogram {
    const KIND: MetricKind = MetricKind::Histogram;

    fn snapshot(&self, name: &str, labels: &[(String, String)], out: &mut Vec<Sample>) {
        let bucket_name = format!("{name}_bucket");
        let mut cumulative = 0u64;
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        for (bound, count) in bounds.zip(self.counts.iter()) {
            cumulative += count.load(Ordering::Relaxed);
            let mut sample = Sample::new(&bucket_name, labels, cumulative as f64);
            sample.labels.push(("le".into(), format_value(bound)));
            out.push(sample);
        }
        out.push(Sample::new(&format!("{name}_sum"), labels, self.sum()));
        // The count is what the buckets say, so that a scrape in the middle of an `observe` still adds up.
        let count = cumulative as f64;
        out.push(Sample::new(&format!("{name}_count"), labels, count));
    }
}
