//! Parameters of the query API. Times are nanoseconds.

use axum::body::Bytes;
use axum::http::HeaderMap;
use lgtm_core::go::{parse_duration_ns, quote};
use lgtm_core::http::{self, parse_integer, parse_time_ns};
use lgtm_core::model::{TimeRangeNs, TimestampNs};

use super::error::ApiError;
use crate::logql::{Direction, QueryRange};

const SECOND: i64 = 1_000_000_000;
/// How far back a range begins whose start nobody says.
const SINCE: i64 = 3600 * SECOND;

/// Names and values, in order; a name may stand several times.
#[derive(Debug, Default)]
pub(super) struct Params(http::Params);

impl Params {
    /// Those of the URL, then those of a form body.
    pub(super) fn read(
        query: Option<&str>,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Self, ApiError> {
        Ok(Self(http::Params::read(query, headers, body)?))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)
    }

    /// All values of a name that are not empty, in order.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.all(name).filter(|v| !v.is_empty())
    }

    /// The text of the query; an absent one is one that does not parse.
    pub(super) fn query(&self) -> &str {
        self.get("query").unwrap_or_default()
    }

    pub(super) fn time(&self, name: &str) -> Result<Option<TimestampNs>, ApiError> {
        self.get(name).map(|text| time(name, text)).transpose()
    }

    /// A duration.
    pub(super) fn duration(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name).map(duration).transpose()
    }

    /// A whole number above 0.
    pub(super) fn count(&self, name: &str) -> Result<Option<usize>, ApiError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        match parse_integer("Atoi", text) {
            Err(why) => Err(ApiError::bad_request(why)),
            Ok(n) => match usize::try_from(n) {
                Ok(n) if n > 0 => Ok(Some(n)),
                _ => Err(ApiError::bad_request("limit must be a positive value")),
            },
        }
    }

    /// The range that `start`, `end` and `since` make; without them the last hour.
    pub(super) fn range(&self, now: TimestampNs) -> Result<TimeRangeNs, ApiError> {
        let since = self.get("since").map(|text| {
            let ns = parse_duration_ns(text).map_err(|e| {
                ApiError::bad_request(format!("could not parse 'since' parameter: {e}"))
            })?;
            Ok::<_, ApiError>(i64::try_from(ns).unwrap_or(i64::MAX))
        });
        let since = since.transpose()?.unwrap_or(SINCE);
        let end = self.time("end")?.unwrap_or(now);
        let start = self.time("start")?;
        let start = start.unwrap_or_else(|| end.min(now).saturating_sub(since));
        Ok(TimeRangeNs {
            min_ns: start,
            max_ns: end,
        })
    }

    /// The same, when it may not end before it begins.
    pub(super) fn ordered_range(&self, now: TimestampNs) -> Result<TimeRangeNs, ApiError> {
        let range = self.range(now)?;
        match range.max_ns < range.min_ns {
            true => Err(ApiError::bad_request(
                "end timestamp must not be before or equal to start time",
            )),
            false => Ok(range),
        }
    }

    /// The range of a query, with its steps and how much of it is wanted.
    pub(super) fn query_range(&self, now: TimestampNs) -> Result<QueryRange, ApiError> {
        let range = self.range(now)?;
        let mut out = QueryRange::new(range.min_ns, range.max_ns);
        if let Some(step) = self.duration("step")? {
            out.step_ms = step / 1_000_000;
        }
        if let Some(interval) = self.duration("interval")? {
            out.interval_ns = interval;
        }
        if let Some(limit) = self.count("limit")? {
            out.limit = limit;
        }
        out.direction = self.direction()?;
        Ok(out)
    }

    pub(super) fn direction(&self) -> Result<Direction, ApiError> {
        match self.get("direction") {
            None => Ok(Direction::Backward),
            Some(d) if d.eq_ignore_ascii_case("backward") => Ok(Direction::Backward),
            Some(d) if d.eq_ignore_ascii_case("forward") => Ok(Direction::Forward),
            Some(other) => Err(ApiError::bad_request(format!(
                "invalid direction '{other}'"
            ))),
        }
    }
}

/// Seconds, nanoseconds, fractions of seconds, or RFC 3339.
pub(super) fn time(name: &str, text: &str) -> Result<TimestampNs, ApiError> {
    parse_time_ns(text).map_err(|fault| {
        ApiError::bad_request(format!("could not parse '{name}' parameter: {fault}"))
    })
}

/// Seconds with a fraction, or Prometheus' text.
fn duration(text: &str) -> Result<i64, ApiError> {
    let bad = |more: &str| {
        let text = quote(text);
        ApiError::bad_request(format!("cannot parse {text} to a valid duration{more}"))
    };
    if let Ok(seconds) = text.parse::<f64>() {
        let ns = seconds * SECOND as f64;
        return if ns.is_finite() && ns.abs() < 9.2e18 {
            Ok(ns as i64)
        } else {
            Err(bad(". It overflows int64"))
        };
    }
    let ns = parse_duration_ns(text).map_err(|_| bad(""))?;
    i64::try_from(ns).map_err(|_| bad(". It overflows int64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::read(Some(query), &HeaderMap::new(), &Bytes::new()).unwrap()
    }

    #[test]
    fn times_are_read_in_all_spellings() {
        for (text, ns) in [
            ("1714557600", 1_714_557_600 * SECOND),
            ("1714557600000000000", 1_714_557_600 * SECOND),
            ("1714557600.5", 1_714_557_600 * SECOND + 500_000_000),
            ("17145576001", 17_145_576_001),
            (
                "2026-08-20T10:00:00.123Z",
                1_787_220_000 * SECOND + 123_000_000,
            ),
            ("2026-08-20T10:00:00%2B02:00", 1_787_212_800 * SECOND),
        ] {
            let t = params(&format!("t={text}")).time("t").unwrap();
            assert_eq!(t, Some(TimestampNs::new(ns)), "{text}");
        }
        assert_eq!(params("t=").time("t").unwrap(), None);
        for (text, why) in [
            (
                "x",
                "could not parse 't' parameter: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                "1e3",
                "could not parse 't' parameter: strconv.ParseInt: parsing \"1e3\": invalid syntax",
            ),
            (
                "99999999999999999999",
                "could not parse 't' parameter: strconv.ParseInt: parsing \"99999999999999999999\": value out of range",
            ),
        ] {
            let error = params(&format!("t={text}")).time("t").unwrap_err();
            assert_eq!(error.message, why);
        }
    }

    #[test]
    fn steps_are_seconds_or_texts_of_prometheus() {
        for (text, ns) in [
            ("250ms", 250_000_000),
            ("10.000000", 10 * SECOND),
            ("30s", 30 * SECOND),
            ("1m30s", 90 * SECOND),
            ("1d", 86_400 * SECOND),
        ] {
            let step = params(&format!("step={text}")).duration("step").unwrap();
            assert_eq!(step, Some(ns), "{text}");
        }
        for text in ["1.5s", "NaN", "inf", "x", "1e30"] {
            let step = params(&format!("step={text}")).duration("step");
            assert_eq!(step.unwrap_err().status.as_u16(), 400, "{text}");
        }
    }

    #[test]
    fn a_range_begins_an_hour_before_its_end_unless_it_is_said() {
        let now = 1_000_000 * SECOND;
        for (query, start, end) in [
            ("", now - SINCE, now),
            ("since=5m", now - 300 * SECOND, now),
            ("end=900000", 900_000 * SECOND - SINCE, 900_000 * SECOND),
            ("end=1100000", now - SINCE, 1_100_000 * SECOND),
            ("start=5&end=7&since=1h", 5 * SECOND, 7 * SECOND),
        ] {
            let range = params(query).range(TimestampNs::new(now)).unwrap();
            assert_eq!(
                (range.min_ns.get(), range.max_ns.get()),
                (start, end),
                "{query}"
            );
        }
        assert!(
            params("start=7&end=5")
                .ordered_range(TimestampNs::new(now))
                .is_err()
        );
        for (limit, why) in [
            ("0", "limit must be a positive value"),
            ("-5", "limit must be a positive value"),
            ("1e3", "strconv.Atoi: parsing \"1e3\": invalid syntax"),
        ] {
            let error = params(&format!("limit={limit}")).query_range(TimestampNs::new(now));
            assert_eq!(error.unwrap_err().message, why);
        }
        let backward = params("direction=BACKWARD").direction().unwrap();
        assert_eq!(backward, Direction::Backward);
        assert!(params("direction=up").direction().is_err());
    }
}
