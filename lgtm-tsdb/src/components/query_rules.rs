//! What a query may ask for before anything is read.

use lgtm_core::model::{TimeRange, TimestampMs};

use crate::limits::Limits;
use crate::promql::QueryError;

fn exceeded(what: &str, actual: String, limit: String, setting: &str) -> QueryError {
    QueryError::Execution(format!(
        "{what} exceeds the limit (actual: {actual}, limit: {limit}). To adjust the related per-tenant limit, configure {setting}"
    ))
}

/// Checks the length of a query's text.
///
/// # Errors
/// `Execution` naming the limit.
pub(crate) fn check_text(limits: &Limits, text: &str) -> Result<(), QueryError> {
    let (size, limit) = (text.len() as u64, limits.max_query_expression_size_bytes);
    if limit > 0 && size > limit {
        return Err(exceeded(
            "the size of the query in bytes",
            size.to_string(),
            limit.to_string(),
            "max_query_expression_size_bytes",
        ));
    }
    Ok(())
}

/// Checks the time between start and end.
///
/// # Errors
/// `Execution` naming the limit.
pub(super) fn check_length(
    limits: &Limits,
    start_ms: TimestampMs,
    end_ms: TimestampMs,
) -> Result<(), QueryError> {
    let limit = limits.max_total_query_length;
    let length_ms = end_ms.since(start_ms).max(0).unsigned_abs();
    if !limit.is_zero() && u128::from(length_ms) > limit.as_millis() {
        return Err(exceeded(
            "the total query time range",
            format!("{}s", length_ms as f64 / 1000.0),
            format!("{}s", limit.as_secs_f64()),
            "max_total_query_length",
        ));
    }
    Ok(())
}

/// No step may be earlier.
pub(super) fn earliest_ms(limits: &Limits, now_ms: TimestampMs) -> TimestampMs {
    match i64::try_from(limits.max_query_lookback.as_millis()) {
        Ok(lookback_ms) if lookback_ms > 0 => now_ms.saturating_sub(lookback_ms),
        _ => TimestampMs::MIN,
    }
}

/// The times of `range` whose series and labels may be looked at: no earlier than the lookback allows, and no longer than
/// `max_labels_query_length` before their end, which is now for a range that has none. `None` when nothing is left.
pub(super) fn labels_range(
    limits: &Limits,
    now_ms: TimestampMs,
    range: TimeRange,
) -> Option<TimeRange> {
    let mut min_ms = range.min_ms.max(earliest_ms(limits, now_ms));
    let length_ms = i64::try_from(limits.max_labels_query_length.as_millis());
    if let Ok(length_ms) = length_ms
        && length_ms > 0
    {
        let is_open = range.max_ms == TimeRange::ALL.max_ms;
        let end_ms = if is_open { now_ms } else { range.max_ms };
        min_ms = min_ms.max(end_ms.saturating_sub(length_ms));
    }
    (min_ms < range.max_ms).then_some(TimeRange {
        min_ms,
        max_ms: range.max_ms,
    })
}

/// The times of `range` whose samples may be read, no earlier than the lookback allows; `None` when nothing is left.
///
/// # Errors
/// `Execution` when it is longer than a query may be.
pub(crate) fn read_range(
    limits: &Limits,
    now_ms: TimestampMs,
    range: TimeRange,
) -> Result<Option<TimeRange>, QueryError> {
    check_length(limits, range.min_ms, range.max_ms.saturating_sub(1))?;
    let min_ms = range.min_ms.max(earliest_ms(limits, now_ms));
    Ok((min_ms < range.max_ms).then_some(TimeRange { min_ms, ..range }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_limit_names_itself_and_the_bound() {
        let limits = Limits {
            max_query_expression_size_bytes: 5,
            max_total_query_length: Duration::from_secs(60),
            max_query_lookback: Duration::from_secs(10),
            ..Limits::default()
        };
        assert!(check_text(&limits, "12345").is_ok());
        let said = check_text(&limits, "123456").unwrap_err().to_string();
        for part in ["actual: 6, limit: 5", "max_query_expression_size_bytes"] {
            assert!(said.contains(part), "{said}");
        }
        let [start, end] = [0, 60_000].map(TimestampMs::new);
        assert!(check_length(&limits, start, end).is_ok());
        let said = check_length(&limits, start, end + 1)
            .unwrap_err()
            .to_string();
        for part in ["actual: 60.001s, limit: 60s", "max_total_query_length"] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(earliest_ms(&limits, TimestampMs::new(25_000)), 15_000);
        let none = Limits::default();
        assert_eq!(earliest_ms(&none, TimestampMs::new(25_000)), i64::MIN);
        assert!(check_length(&none, TimestampMs::MIN, TimestampMs::MAX).is_ok());
        assert!(check_text(&none, "123456").is_ok());
    }

    #[test]
    fn labels_are_looked_for_where_the_limits_allow() {
        let range = |min_ms: i64, max_ms: i64| TimeRange::new(min_ms, max_ms);
        let none = Limits::default();
        assert_eq!(
            labels_range(&none, TimestampMs::EPOCH, TimeRange::ALL),
            Some(TimeRange::ALL)
        );
        let lookback = Limits {
            max_query_lookback: Duration::from_secs(10),
            ..Limits::default()
        };
        let clipped = |asked| labels_range(&lookback, TimestampMs::new(25_000), asked);
        assert_eq!(clipped(range(0, 20_000)), Some(range(15_000, 20_000)));
        assert_eq!(clipped(range(16_000, 20_000)), Some(range(16_000, 20_000)));
        assert_eq!(clipped(range(0, 15_000)), None);
        let length = Limits {
            max_labels_query_length: Duration::from_secs(5),
            ..lookback
        };
        let clipped = |asked| labels_range(&length, TimestampMs::new(25_000), asked);
        assert_eq!(clipped(range(0, 24_000)), Some(range(19_000, 24_000)));
        assert_eq!(clipped(TimeRange::ALL), Some(range(20_000, i64::MAX)));
    }
}
