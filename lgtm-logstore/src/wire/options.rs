//! How a tenant's pushes are read.

use super::level::LevelRules;
use super::otlp::OtlpRules;

/// Bytes that lines are cut to.
#[derive(Debug, Clone, Copy)]
pub struct LineCut<'a> {
    /// Most bytes of a line.
    pub max_bytes: usize,
    /// What stands at the end of a line that was cut.
    pub identifier: &'a str,
}

/// How a tenant's pushes are read; borrowed from its limits.
#[derive(Debug, Clone, Copy)]
pub struct PushOptions<'a> {
    /// Labels that `service_name` is taken from, the first that is there; none: it is not added.
    pub discover_service_name: &'a [String],
    /// How `detected_level` is found.
    pub levels: LevelRules<'a>,
    /// Whether lines are cut; otherwise long ones are refused later.
    pub truncate_lines: Option<LineCut<'a>>,
    /// Whether an entry with the time of the one before it, and another line, moves one nanosecond on.
    pub increment_duplicate_timestamps: bool,
    /// Which part of what was missed this is, for a push that brings old entries: labels of every stream tell.
    pub backfill_shard: Option<&'a str>,
    /// What becomes of OTLP attributes.
    pub otlp: &'a OtlpRules,
}
