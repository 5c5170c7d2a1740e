//! What a query may ask for before anything is read. Texts are Loki's.

use std::collections::BTreeSet;
use std::time::Duration;

use lgtm_core::Error;
use lgtm_core::model::{Matcher, TimeRangeNs, TimestampNs};
use lgtm_core::units::duration;

use crate::limits::Limits;
use crate::logql::{
    Expr, MetricExpr, Query, QueryError, QueryRange, QueryTime, VectorOp, each_range,
};

/// Checks what a query asks for, whenever that is.
///
/// # Errors
/// `Limit`, `Invalid`; `RateLimited` where nothing is answered at all.
pub(super) fn check_query(limits: &Limits, query: &Query) -> Result<(), QueryError> {
    if limits.tsdb_max_query_parallelism == 0 {
        return Err(QueryError::Source(Error::RateLimited {
            message: "querying is disabled, please contact your Loki operator".into(),
            retry_after: None,
        }));
    }
    if let QueryTime::Range(range) = query.time()
        && query.is_log()
    {
        check_entries(limits, range.limit as u64)?;
    }
    for (matchers, range_ns) in selectors(query) {
        check_matchers(limits, &matchers)?;
        check_interval(limits, range_ns)?;
    }
    Ok(())
}

/// Checks how many entries are asked for.
///
/// # Errors
/// `Limit`.
pub(crate) fn check_entries(limits: &Limits, wanted: u64) -> Result<(), QueryError> {
    let max = limits.max_entries_limit_per_query;
    if max > 0 && wanted > max {
        return Err(QueryError::Limit(format!(
            "max entries limit per query exceeded, limit > max_entries_limit_per_query ({wanted} > {max})"
        )));
    }
    Ok(())
}

/// Checks a stream selector.
///
/// # Errors
/// `Limit` for too many matchers, `Invalid` for too few.
pub(crate) fn check_matchers(limits: &Limits, matchers: &[Matcher]) -> Result<(), QueryError> {
    let (count, max) = (matchers.len() as u64, limits.max_streams_matchers_per_query);
    if max > 0 && count > max {
        return Err(QueryError::Limit(format!(
            "max streams matchers per query exceeded, matchers-count > limit ({count} > {max})"
        )));
    }
    let names: Vec<&str> = matchers.iter().map(Matcher::name).collect();
    let required = limits.required_labels.iter().map(String::as_str);
    let missing: Vec<&str> = required.filter(|l| !names.contains(l)).collect();
    if !missing.is_empty() {
        return Err(QueryError::Invalid(format!(
            "stream selector is missing required matchers [{}], labels present in the query were [{}]",
            missing.join(", "),
            names.join(", ")
        )));
    }
    let least = limits.minimum_labels_number;
    if count < least {
        return Err(QueryError::Invalid(format!(
            "stream selector has less label matchers than required: (present: [{}], number_present: {count}, required_number_label_matchers: {least})",
            names.join(", ")
        )));
    }
    Ok(())
}

fn check_interval(limits: &Limits, range_ns: i64) -> Result<(), QueryError> {
    let (range, max) = (
        Duration::from_nanos(range_ns.unsigned_abs()),
        limits.max_query_range,
    );
    if !max.is_zero() && range > max {
        return Err(QueryError::Limit(format!(
            "[interval] value exceeds limit: [{}] > [{}]",
            duration::format(range),
            duration::format(max)
        )));
    }
    Ok(())
}

/// Checks the time between start and end.
///
/// # Errors
/// `Limit`.
pub(super) fn check_length(limits: &Limits, range: TimeRangeNs) -> Result<(), QueryError> {
    let length_ns = range.max_ns.since(range.min_ns).max(0);
    let length = Duration::from_nanos(length_ns.unsigned_abs());
    let max = limits.max_query_length;
    if !max.is_zero() && length > max {
        return Err(QueryError::Limit(format!(
            "the query time range exceeds the limit (query length: {}, limit: {})",
            go_duration(length),
            duration::format(max)
        )));
    }
    Ok(())
}

/// What is earlier is not looked at.
pub(super) fn earliest_ns(limits: &Limits, now_ns: TimestampNs) -> TimestampNs {
    match i64::try_from(limits.max_query_lookback.as_nanos()) {
        Ok(lookback_ns) if lookback_ns > 0 => now_ns.saturating_sub(lookback_ns),
        _ => TimestampNs::MIN,
    }
}

/// The query without the times that its tenant may not look at; `None` when nothing is left.
pub(super) fn looked_back(limits: &Limits, now_ns: TimestampNs, query: Query) -> Option<Query> {
    let earliest = earliest_ns(limits, now_ns);
    match query.time() {
        QueryTime::Instant(t_ns) => (t_ns >= earliest).then_some(query),
        QueryTime::Range(range) if range.start_ns >= earliest => Some(query),
        QueryTime::Range(range) => {
            let start_ns = earliest;
            (range.end_ns >= start_ns).then(|| query.with_range(QueryRange { start_ns, ..range }))
        }
    }
}

/// The times of `range` whose streams and labels may be looked at; `None` when nothing is left.
///
/// # Errors
/// `LimitExceeded` when it is longer than a query may be.
pub(super) fn listed_range(
    limits: &Limits,
    now_ns: TimestampNs,
    range: TimeRangeNs,
) -> lgtm_core::Result<Option<TimeRangeNs>> {
    let min_ns = range.min_ns.max(earliest_ns(limits, now_ns));
    let range = TimeRangeNs::new(min_ns, range.max_ns);
    if range.is_empty() {
        return Ok(None);
    }
    check_length(limits, range)?;
    Ok(Some(range))
}

/// Checks what the index says that a query would read.
///
/// # Errors
/// `Limit`.
pub(super) fn check_bytes(limits: &Limits, bytes: u64) -> Result<(), QueryError> {
    let max = limits.max_query_bytes_read.as_u64();
    if max > 0 && bytes > max {
        return Err(QueryError::Limit(format!(
            "the query would read too many bytes (query: {}, limit: {}); consider adding more specific stream selectors or reduce the time range of the query",
            rounded_bytes(bytes),
            rounded_bytes(max)
        )));
    }
    Ok(())
}

/// The stream selectors of a query, each with the range of time that its steps look at, nanoseconds.
fn selectors(query: &Query) -> Vec<(Vec<Matcher>, i64)> {
    let mut out = Vec::new();
    match query.expr() {
        Expr::Log(log) => out.push((log.matchers.clone(), 0)),
        Expr::Metric(metric) => {
            each_range(metric, &mut |r| {
                out.push((r.log.matchers.clone(), r.range_ns));
            });
        }
    }
    out
}

/// What a query looks at: stream selectors and the times of their entries.
pub(super) fn reads(query: &Query) -> Vec<(Vec<Matcher>, TimeRangeNs)> {
    let (start_ns, end_ns) = match query.time() {
        QueryTime::Instant(t_ns) => (t_ns, t_ns),
        QueryTime::Range(r) => (r.start_ns, r.end_ns),
    };
    let mut out = Vec::new();
    match query.expr() {
        Expr::Log(log) => out.push((log.matchers.clone(), TimeRangeNs::new(start_ns, end_ns))),
        Expr::Metric(metric) => {
            each_range(metric, &mut |r| {
                let last = end_ns.saturating_sub(r.offset_ns);
                let first = start_ns
                    .saturating_sub(r.offset_ns)
                    .saturating_sub(r.range_ns);
                let range = TimeRangeNs::new(first.saturating_add(1), last.saturating_add(1));
                out.push((r.log.matchers.clone(), range));
            });
        }
    }
    out
}

/// The longest range of time that a step of a query looks at.
pub(super) fn longest_range(query: &Query) -> Duration {
    let ranges = selectors(query).into_iter().map(|s| s.1);
    Duration::from_nanos(ranges.max().unwrap_or(0).unsigned_abs())
}

/// Whether a query has `approx_topk`.
pub(super) fn approximates(query: &Query) -> bool {
    let mut names = BTreeSet::new();
    if let Expr::Metric(metric) = query.expr() {
        operators(metric, &mut names);
    }
    names.contains(VectorOp::ApproxTopK.as_str())
}

fn operators(expr: &MetricExpr, names: &mut BTreeSet<&'static str>) {
    match expr {
        MetricExpr::Aggregation(a) => {
            names.insert(a.op.as_str());
            operators(&a.expr, names);
        }
        MetricExpr::LabelReplace(l) => operators(&l.expr, names),
        MetricExpr::Binary(b) => {
            operators(&b.left, names);
            operators(&b.right, names);
        }
        _ => {}
    }
}

/// A duration in Go's words: `744h0m0s`.
fn go_duration(d: Duration) -> String {
    let (seconds, rest) = (d.as_secs(), d.subsec_nanos());
    let (h, m) = (seconds / 3600, seconds / 60 % 60);
    let s = f64::from(u32::try_from(seconds % 60).unwrap_or(0)) + f64::from(rest) / 1e9;
    match (h, m) {
        (0, 0) => format!("{s}s"),
        (0, m) => format!("{m}m{s}s"),
        (h, m) => format!("{h}h{m}m{s}s"),
    }
}

/// Bytes in powers of 1024, two digits at least: `1.0 MiB`, `49 MiB`.
fn rounded_bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let value = (value * 10.0 + 0.5).floor() / 10.0;
    if value < 10.0 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use lgtm_core::units::ByteSize;

    use super::*;
    use crate::logql::ParserSettings;

    const HOUR_NS: i64 = 3_600_000_000_000;

    fn query(text: &str) -> Query {
        let range = QueryRange::new(0, HOUR_NS);
        Query::range(text, range, &ParserSettings::default()).unwrap()
    }

    #[test]
    fn refusals_are_loki_s_word_by_word() {
        let limits = Limits {
            max_query_length: Duration::from_secs(721 * 3600),
            max_query_range: Duration::from_secs(1800),
            required_labels: vec!["app".into()],
            minimum_labels_number: 2,
            max_streams_matchers_per_query: 3,
            max_query_bytes_read: ByteSize::mib(1),
            ..Limits::default()
        };
        let said = |text: &str| check_query(&limits, &query(text)).unwrap_err().to_string();
        assert_eq!(
            said(r#"rate({app="a", env="b"}[5m]) / rate({pod="x", env="b"}[5m])"#),
            "stream selector is missing required matchers [app], labels present in the query were [pod, env]"
        );
        assert_eq!(
            said(r#"{app="a"}"#),
            "stream selector has less label matchers than required: (present: [app], number_present: 1, required_number_label_matchers: 2)"
        );
        assert_eq!(
            said(r#"{app="a", b="c", c="d", d="e"}"#),
            "max streams matchers per query exceeded, matchers-count > limit (4 > 3)"
        );
        assert_eq!(
            said(r#"sum(rate({app="a", b="c"}[1h]))"#),
            "[interval] value exceeds limit: [1h] > [30m]"
        );
        assert!(check_query(&limits, &query(r#"sum(rate({app="a", b="c"}[30m]))"#)).is_ok());
        let longer = TimeRangeNs::new(0, 744 * HOUR_NS + 500_000_000);
        assert_eq!(
            check_length(&limits, longer).unwrap_err().to_string(),
            "the query time range exceeds the limit (query length: 744h0m0.5s, limit: 30d1h)"
        );
        assert_eq!(
            check_bytes(&limits, 49 << 20).unwrap_err().to_string(),
            "the query would read too many bytes (query: 49 MiB, limit: 1.0 MiB); consider adding more specific stream selectors or reduce the time range of the query"
        );
        assert_eq!(
            check_entries(&limits, 10_000).unwrap_err().to_string(),
            "max entries limit per query exceeded, limit > max_entries_limit_per_query (10000 > 5000)"
        );
        let off = Limits {
            tsdb_max_query_parallelism: 0,
            ..Limits::default()
        };
        let said = check_query(&off, &query(r#"{app="a"}"#)).unwrap_err();
        assert_eq!(said.kind(), lgtm_core::ErrorKind::RateLimited);
        let none = Limits {
            max_query_length: Duration::ZERO,
            ..Limits::default()
        };
        assert!(check_length(&none, TimeRangeNs::ALL).is_ok());
        assert!(check_bytes(&none, u64::MAX).is_ok());
    }

    #[test]
    fn the_lookback_moves_the_start_and_refuses_nothing() {
        let limits = Limits {
            max_query_lookback: Duration::from_secs(1800),
            max_query_length: Duration::from_secs(1800),
            ..Limits::default()
        };
        let asked = |now_ns: i64| looked_back(&limits, now_ns.into(), query(r#"{a="b"}"#));
        let moved = asked(HOUR_NS).unwrap();
        let QueryTime::Range(range) = moved.time() else {
            unreachable!()
        };
        assert_eq!([range.start_ns, range.end_ns], [HOUR_NS / 2, HOUR_NS]);
        assert!(asked(2 * HOUR_NS).is_none());
        let whole = TimeRangeNs::new(0, HOUR_NS);
        let listed = |now_ns: i64| listed_range(&limits, now_ns.into(), whole).unwrap();
        assert_eq!(
            listed(HOUR_NS),
            Some(TimeRangeNs::new(HOUR_NS / 2, HOUR_NS))
        );
        assert_eq!(listed(2 * HOUR_NS), None);
        assert!(listed_range(&limits, TimestampNs::EPOCH, whole).is_err());
    }

    #[test]
    fn what_a_query_reads_is_moved_by_its_ranges_and_offsets() {
        let read = reads(&query(
            r#"rate({a="b"}[5m] offset 1m) + 1 > count_over_time({c="d"}[1h])"#,
        ));
        const MINUTE: i64 = 60_000_000_000;
        let ranges: Vec<_> = read.iter().map(|r| r.1).collect();
        assert_eq!(
            ranges,
            [
                TimeRangeNs::new(-6 * MINUTE + 1, 59 * MINUTE + 1),
                TimeRangeNs::new(-60 * MINUTE + 1, 60 * MINUTE + 1)
            ]
        );
        let longest = longest_range(&query(r#"rate({a="b"}[5m]) + rate({a="b"}[2h])"#));
        assert_eq!(longest, Duration::from_secs(7200));
        assert!(approximates(&query(
            r#"1 + approx_topk(3, rate({a="b"}[5m]))"#
        )));
        assert!(!approximates(&query(r#"topk(3, rate({a="b"}[5m]))"#)));
    }

    #[test]
    fn durations_and_sizes_are_go_s() {
        for (ms, wanted) in [
            (0, "0s"),
            (1500, "1.5s"),
            (61_000, "1m1s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(ms)), wanted);
        }
        for (bytes, wanted) in [
            (9, "9 B"),
            (512, "512 B"),
            (1536, "1.5 KiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(rounded_bytes(bytes), wanted);
        }
    }
}
