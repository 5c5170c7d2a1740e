//! Ranges in time.

use crate::timestamp::{TimestampMs, TimestampNs};

/// A half-open range of milliseconds, `[min_ms, max_ms)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// First millisecond inside.
    pub min_ms: TimestampMs,
    /// First millisecond no longer inside.
    pub max_ms: TimestampMs,
}

impl<T: Into<TimestampMs>> From<std::ops::Range<T>> for TimeRange {
    fn from(range: std::ops::Range<T>) -> Self {
        Self::new(range.start, range.end)
    }
}

impl<T: Into<TimestampMs>> From<std::ops::RangeInclusive<T>> for TimeRange {
    fn from(range: std::ops::RangeInclusive<T>) -> Self {
        let (first_ms, last_ms) = range.into_inner();
        Self::inclusive(first_ms, last_ms)
    }
}

impl TimeRange {
    /// All times but the very last millisecond.
    pub const ALL: Self = Self {
        min_ms: TimestampMs::MIN,
        max_ms: TimestampMs::MAX,
    };

    /// `[min_ms, max_ms)`.
    pub fn new(min_ms: impl Into<TimestampMs>, max_ms: impl Into<TimestampMs>) -> Self {
        Self {
            min_ms: min_ms.into(),
            max_ms: max_ms.into(),
        }
    }

    /// The range that holds both ends, as query APIs and chunk metas give it. Saturates at the last millisecond.
    pub fn inclusive(first_ms: impl Into<TimestampMs>, last_ms: impl Into<TimestampMs>) -> Self {
        Self {
            min_ms: first_ms.into(),
            max_ms: last_ms.into().saturating_add(1),
        }
    }

    /// The last millisecond inside; meaningless when the range is empty.
    pub fn last_ms(&self) -> TimestampMs {
        self.max_ms.saturating_sub(1)
    }

    /// Whether nothing is inside.
    pub fn is_empty(&self) -> bool {
        self.min_ms >= self.max_ms
    }

    /// Whether `t_ms` is inside.
    pub fn contains(&self, t_ms: TimestampMs) -> bool {
        self.min_ms <= t_ms && t_ms < self.max_ms
    }

    /// Whether the two ranges share a millisecond.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.min_ms < other.max_ms
            && other.min_ms < self.max_ms
            && !self.is_empty()
            && !other.is_empty()
    }
}

/// A half-open range of nanoseconds, `[min_ns, max_ns)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeRangeNs {
    /// First nanosecond inside.
    pub min_ns: TimestampNs,
    /// First nanosecond no longer inside.
    pub max_ns: TimestampNs,
}

impl TimeRangeNs {
    /// All times but the very last nanosecond.
    pub const ALL: Self = Self {
        min_ns: TimestampNs::MIN,
        max_ns: TimestampNs::MAX,
    };

    /// `[min_ns, max_ns)`.
    pub fn new(min_ns: impl Into<TimestampNs>, max_ns: impl Into<TimestampNs>) -> Self {
        Self {
            min_ns: min_ns.into(),
            max_ns: max_ns.into(),
        }
    }

    /// Whether nothing is inside.
    pub fn is_empty(&self) -> bool {
        self.min_ns >= self.max_ns
    }

    /// Whether `t_ns` is inside.
    pub fn contains(&self, t_ns: TimestampNs) -> bool {
        self.min_ns <= t_ns && t_ns < self.max_ns
    }

    /// Whether the two ranges share a nanosecond.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.min_ns < other.max_ns
            && other.min_ns < self.max_ns
            && !self.is_empty()
            && !other.is_empty()
    }
}
