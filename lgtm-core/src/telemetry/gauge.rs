//! A number that goes up and down.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::telemetry::snapshot::{MetricKind, Sample};

/// A level: queue length, memory in use, a time.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the level.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds `delta`, which may be negative.
    pub fn add(&self, delta: f64) {
        add_f64(&self.0, delta);
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1.0);
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.add(-1.0);
    }

    /// The level now.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// Adds to a float kept as bits; lock-free, spins only while others win the race.
pub(super) fn add_f64(bits: &AtomicU64, delta: f64) {
    let mut now = bits.load(Ordering::Relaxed);
    loop {
        let next = (f64::from_bits(now) + delta).to_bits();
        match bits.compare_exchange_weak(now, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return,
            Err(seen) => now = seen,
        }
    }
}

impl super::family::Metric for Gauge {
    const KIND: MetricKind = MetricKind::Gauge;

    fn snapshot(&self, name: &str, labels: &[(String, String)], out: &mut Vec<Sample>) {
        out.push(Sample::new(name, labels, self.get()));
    }
}
