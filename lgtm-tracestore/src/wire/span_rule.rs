//! Rules for which spans are refused.

use serde::{Deserialize, Serialize};

/// A rule for which spans were refused. The names are those that Tempo counts discarded spans by, where it has the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SpanRule {
    /// A trace id that is not 16 bytes or all zero: the whole request is refused.
    InvalidTraceId,
    /// A span id that is not 8 bytes or all zero: the whole request is refused.
    InvalidSpanId,
    /// The tenant sends too many bytes a second.
    RateLimited,
    /// The tenant has as many live traces as it may have.
    LiveTracesExceeded,
    /// The trace has as many bytes as it may have.
    TraceTooLarge,
    /// The span is larger than what the log takes. Ours.
    SpanTooLarge,
}

impl SpanRule {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::InvalidTraceId,
        Self::InvalidSpanId,
        Self::RateLimited,
        Self::LiveTracesExceeded,
        Self::TraceTooLarge,
        Self::SpanTooLarge,
    ];

    /// The rule of that name.
    pub fn of_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.id() == id)
    }

    /// Its name in metrics, as in Tempo.
    pub const fn id(self) -> &'static str {
        match self {
            Self::InvalidTraceId => "invalid_trace_id",
            Self::InvalidSpanId => "invalid_span_id",
            Self::RateLimited => "rate_limited",
            Self::LiveTracesExceeded => "live_traces_exceeded",
            Self::TraceTooLarge => "trace_too_large",
            Self::SpanTooLarge => "span_too_large",
        }
    }
}

/// Spans that were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedSpans {
    /// Why.
    pub rule: SpanRule,
    /// How many.
    pub count: u64,
}
