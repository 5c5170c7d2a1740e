//! A number that only grows.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::telemetry::snapshot::{MetricKind, Sample};

/// A count of events or bytes since the process started.
///
/// Whole numbers only, so that adding is one atomic instruction; a counter of fractions (CPU seconds) is given by a callback.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl super::family::Metric for Counter {
    const KIND: MetricKind = MetricKind::Counter;

    fn snapshot(&self, name: &str, labels: &[(String, String)], out: &mut Vec<Sample>) {
        out.push(Sample::new(name, labels, self.get() as f64));
    }
}
