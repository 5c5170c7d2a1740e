//! When a sample is, and since when it counts.

use lgtm_core::model::TimestampMs;

/// The times of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleTime {
    /// When, milliseconds.
    pub t_ms: TimestampMs,
    /// Since when it counts (its start or created timestamp), milliseconds; 0 when that is not known.
    pub start_ms: TimestampMs,
}

impl SampleTime {
    /// A sample of which is not known since when it counts.
    #[inline]
    pub const fn unstarted(t_ms: TimestampMs) -> Self {
        Self {
            t_ms,
            start_ms: TimestampMs::EPOCH,
        }
    }

    /// Whether it is known since when it counts.
    #[inline]
    pub const fn is_started(self) -> bool {
        self.start_ms.get() != 0
    }
}
