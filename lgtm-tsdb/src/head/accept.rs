//! The rules of taking a sample. They are Prometheus' (`docs/format/head.md`, section "accepting a sample").

use lgtm_core::model::TimestampMs;

/// Why a sample was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RejectReason {
    /// Older than what the head still takes.
    OutOfBounds,
    /// Older than the series' newest sample.
    OutOfOrder,
    /// Older than the out-of-order window.
    TooOld,
    /// The series has another value at that time.
    DuplicateTimestamp,
    /// Beyond the creation grace period.
    TooFarInFuture,
    /// Beyond the past grace period.
    TooFarInPast,
    /// The tenant has as many series as it may have.
    MaxSeriesPerUser,
    /// The metric has as many series as it may have.
    MaxSeriesPerMetric,
    /// The process has as many series as its memory allows.
    MaxSeries,
    /// The tenant holds its share of the series that the process may have.
    MaxSeriesShare,
}

impl RejectReason {
    /// The reason's name in metrics and errors, e.g. `sample-out-of-order`.
    pub(super) fn id(self) -> &'static str {
        match self {
            Self::OutOfBounds => "sample-timestamp-too-old",
            Self::OutOfOrder => "sample-out-of-order",
            Self::TooOld => "sample-timestamp-too-old",
            Self::DuplicateTimestamp => "sample-duplicate-timestamp",
            Self::TooFarInFuture => "too-far-in-future",
            Self::TooFarInPast => "too-far-in-past",
            Self::MaxSeriesPerUser => "max-series-per-user",
            Self::MaxSeriesPerMetric => "max-series-per-metric",
            Self::MaxSeries => "ingester-max-series",
            Self::MaxSeriesShare => "ingester-max-series-per-tenant-share",
        }
    }

    /// Prometheus' words for the reason.
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::OutOfBounds => "out of bounds",
            Self::OutOfOrder => "out of order sample",
            Self::TooOld => "too old sample",
            Self::DuplicateTimestamp => "duplicate sample for timestamp",
            Self::TooFarInFuture => "timestamp is too far in the future",
            Self::TooFarInPast => "timestamp is too far in the past",
            Self::MaxSeriesPerUser => "per-user series limit exceeded",
            Self::MaxSeriesPerMetric => "per-metric series limit exceeded",
            Self::MaxSeries => {
                "the process holds as many series as it may (metrics.ingester.head.max_series)"
            }
            Self::MaxSeriesShare => {
                "the tenant holds its share of the series of the process (metrics.ingester.head.max_series_per_tenant_share of what other tenants leave of metrics.ingester.head.max_series)"
            }
        }
    }
}

/// What became of a sample that was not rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// Stored behind the series' newest.
    InOrder,
    /// Stored among the out-of-order samples.
    OutOfOrder,
    /// The very sample is there already; nothing was stored.
    Known,
}

/// What decides whether a sample is taken, fixed for one batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct AppendRules {
    /// In-order samples before this are out of bounds.
    pub(super) min_valid_ms: TimestampMs,
    /// Samples after this are too far in the future.
    pub(super) max_valid_ms: TimestampMs,
    /// Samples before this are too far in the past.
    pub(super) min_accepted_ms: TimestampMs,
    /// Oldest out-of-order sample; `None` when the window is off.
    pub(super) ooo_min_ms: Option<TimestampMs>,
    /// Chunks never cross multiples of this.
    pub(super) block_range_ms: i64,
    /// Seconds on the host's clock when the batch began.
    pub(super) now_s: u32,
}

impl AppendRules {
    /// Rules under which every sample finds a place: for replay, where each was accepted once.
    pub(super) fn replay(block_range_ms: i64) -> Self {
        Self {
            min_valid_ms: TimestampMs::MIN,
            max_valid_ms: TimestampMs::MAX,
            min_accepted_ms: TimestampMs::MIN,
            ooo_min_ms: Some(TimestampMs::MIN),
            block_range_ms,
            now_s: 0,
        }
    }

    /// The same rules for a later piece of the batch: what its own samples have moved on does not count, what a flush has meanwhile does.
    pub(super) fn with_min_valid(self, min_valid_ms: TimestampMs) -> Self {
        Self {
            min_valid_ms: self.min_valid_ms.max(min_valid_ms),
            ..self
        }
    }

    /// Why a series that does not exist yet would not take a sample at `t_ms`.
    pub(super) fn refuse_new(&self, t_ms: TimestampMs) -> Option<RejectReason> {
        if t_ms > self.max_valid_ms {
            return Some(RejectReason::TooFarInFuture);
        }
        if t_ms < self.min_accepted_ms {
            return Some(RejectReason::TooFarInPast);
        }
        match self.ooo_min_ms {
            _ if t_ms >= self.min_valid_ms => None,
            Some(min) if t_ms >= min => None,
            Some(_) => Some(RejectReason::TooOld),
            None => Some(RejectReason::OutOfBounds),
        }
    }
}
