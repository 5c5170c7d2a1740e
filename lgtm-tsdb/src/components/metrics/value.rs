//! Values of metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// The value of a counter.
pub(super) fn n(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}
