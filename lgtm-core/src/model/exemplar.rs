//! Exemplars.

use super::{Labels, TimestampMs};

/// One observed value with labels that lead elsewhere, most often to a trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// Labels of the exemplar, e.g. `trace_id`; not those of its series.
    pub labels: Labels,
    /// The observed value.
    pub value: f64,
    /// When it was observed.
    pub t_ms: TimestampMs,
}
