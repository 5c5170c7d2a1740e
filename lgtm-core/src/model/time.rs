//! Points and ranges in time.

/// Milliseconds since the Unix epoch, as metrics count.
pub type TimestampMs = i64;

/// Nanoseconds since the Unix epoch, as logs and traces count.
pub type TimestampNs = i64;

/// A half-open range of milliseconds, `[min_ms, max_ms)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// First millisecond inside.
    pub min_ms: TimestampMs,
    /// First millisecond no longer inside.
    pub max_ms: TimestampMs,
}

impl From<std::ops::Range<TimestampMs>> for TimeRange {
    fn from(range: std::ops::Range<TimestampMs>) -> Self {
        Self::new(range.start, range.end)
    }
}

impl From<std::ops::RangeInclusive<TimestampMs>> for TimeRange {
    fn from(range: std::ops::RangeInclusive<TimestampMs>) -> Self {
        Self::inclusive(*range.start(), *range.end())
    }
}

impl TimeRange {
    /// All times but the very last millisecond.
    pub const ALL: Self = Self {
        min_ms: i64::MIN,
        max_ms: i64::MAX,
    };

    /// `[min_ms, max_ms)`.
    pub fn new(min_ms: TimestampMs, max_ms: TimestampMs) -> Self {
        Self { min_ms, max_ms }
    }

    /// The range that holds both ends, as query APIs and chunk metas give it. Saturates at the last millisecond.
    pub fn inclusive(first_ms: TimestampMs, last_ms: TimestampMs) -> Self {
        Self {
            min_ms: first_ms,
            max_ms: last_ms.saturating_add(1),
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
        min_ns: i64::MIN,
        max_ns: i64::MAX,
    };

    /// `[min_ns, max_ns)`.
    pub fn new(min_ns: TimestampNs, max_ns: TimestampNs) -> Self {
        Self { min_ns, max_ns }
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
