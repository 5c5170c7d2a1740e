//! Parameters of the query API: times, and how much is wanted. Times are nanoseconds.
//!
//! Searches and tags have one set of rules for times, metrics another; both are Tempo's. They hold for streamed answers too.

use axum::body::Bytes;
use axum::http::HeaderMap;
use lgtm_core::go::{parse_duration_ns, quote};
use lgtm_core::http::{self, parse_integer, parse_time_ns};

use super::error::ApiError;
use super::query_api::ReadBounds;
use super::settings::QueryRules;
use crate::select::TraceRange;
use crate::traceql::{IntervalGrid, format_ns};

const SECOND: u64 = 1_000_000_000;
/// How far back metrics begin where nobody says.
const METRICS_SINCE: u64 = 3600 * SECOND;

/// Names and values, in order; a name may stand several times.
#[derive(Debug, Default)]
pub(super) struct Params(http::Params);

/// The times of a search, as they were asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SearchTimes {
    pub(super) start_s: Option<u64>,
    pub(super) end_s: Option<u64>,
    pub(super) since_ns: Option<u64>,
}

/// The times of metrics, as they were asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MetricsTimes {
    pub(super) start_ns: Option<u64>,
    pub(super) end_ns: Option<u64>,
    pub(super) since_ns: Option<u64>,
    pub(super) step_ns: Option<u64>,
}

/// What times are held against.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeRules<'a> {
    pub(super) settings: &'a QueryRules,
    pub(super) bounds: &'a ReadBounds,
    pub(super) now_ns: u64,
}

impl Params {
    /// Those of the URL, then those of a form body.
    pub(super) fn read(
        query: Option<&str>,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Self, ApiError> {
        Ok(Self(http::Params::read(query, headers, body)?))
    }

    /// The first value that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)
    }

    /// A whole number; one that is none is as if it were not there.
    pub(super) fn lenient_count(&self, name: &str) -> usize {
        self.get(name).and_then(|v| v.parse().ok()).unwrap_or(0)
    }

    /// A whole number that is not below zero.
    pub(super) fn count(&self, name: &str) -> Result<Option<usize>, ApiError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let n = parse_integer("Atoi", text)
            .map_err(|why| ApiError::bad_request(format!("invalid {name}: {why}")))?;
        match usize::try_from(n) {
            Ok(n) => Ok(Some(n)),
            Err(_) => Err(ApiError::bad_request(format!(
                "invalid {name}: must be a positive number"
            ))),
        }
    }

    /// Whole seconds that fit 32 bits.
    fn seconds(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        match text.parse::<u32>() {
            Ok(s) => Ok(Some(s.into())),
            Err(_) => {
                let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                let why = if digits {
                    "value out of range"
                } else {
                    "invalid syntax"
                };
                Err(ApiError::bad_request(format!(
                    "invalid {name}: strconv.ParseUint: parsing {}: {why}",
                    quote(text)
                )))
            }
        }
    }

    fn time_ns(&self, name: &str) -> Result<Option<u64>, String> {
        let time = self.get(name).map(parse_time_ns).transpose();
        let time = time.map_err(|e| format!("could not parse '{name}' parameter: {e}"))?;
        Ok(time.map(|t| u64::try_from(t.get()).unwrap_or(0)))
    }

    fn since_ns(&self) -> Result<Option<u64>, String> {
        let since = self.get("since").map(parse_duration_ns).transpose();
        since.map_err(|e| format!("could not parse 'since' parameter: {e}"))
    }

    /// The times of a search.
    pub(super) fn search_times(&self) -> Result<SearchTimes, ApiError> {
        Ok(SearchTimes {
            start_s: self.seconds("start")?,
            end_s: self.seconds("end")?,
            since_ns: self.since_ns().map_err(date_range)?,
        })
    }

    /// The times of tags and values, which may be spelled in more ways.
    pub(super) fn tag_times(&self) -> Result<SearchTimes, ApiError> {
        let seconds = |ns: Option<u64>| ns.map(|ns| ns / SECOND);
        Ok(SearchTimes {
            start_s: seconds(self.time_ns("start").map_err(date_range)?),
            end_s: seconds(self.time_ns("end").map_err(date_range)?),
            since_ns: self.since_ns().map_err(date_range)?,
        })
    }

    /// The times of a trace by id: each may be missing.
    pub(super) fn trace_range(&self) -> Result<Option<TraceRange>, ApiError> {
        let (start, end) = (self.seconds("start")?, self.seconds("end")?);
        if start.is_none() && end.is_none() {
            return Ok(None);
        }
        let start = start.unwrap_or(0);
        if let Some(end) = end.filter(|end| *end <= start && *end > 0) {
            return Err(start_not_before_end(start, end));
        }
        Ok(Some(TraceRange {
            start_ns: start * SECOND,
            end_ns: end.filter(|s| *s > 0).map_or(u64::MAX, |s| s * SECOND),
        }))
    }

    /// The times of metrics.
    pub(super) fn metrics_times(&self) -> Result<MetricsTimes, ApiError> {
        let bad = |why: String| {
            ApiError::bad_request(format!("rpc error: code = Code(400) desc = {why}"))
        };
        Ok(MetricsTimes {
            start_ns: self.time_ns("start").map_err(bad)?,
            end_ns: self.time_ns("end").map_err(bad)?,
            since_ns: self.since_ns().map_err(bad)?,
            step_ns: self.get("step").map(step_ns).transpose()?,
        })
    }
}

fn date_range(why: String) -> ApiError {
    ApiError::bad_request(format!("error parsing date range: {why}"))
}

fn start_not_before_end(start: u64, end: u64) -> ApiError {
    ApiError::bad_request(format!(
        "http parameter start must be before end. received start={start} end={end}"
    ))
}

/// A duration as Go spells it, or seconds with a fraction.
fn step_ns(text: &str) -> Result<u64, ApiError> {
    let bad = || ApiError::bad_request(format!("cannot parse {} to a valid duration", quote(text)));
    let magnitude = text.strip_prefix('-').unwrap_or(text);
    let ns = match magnitude.parse::<f64>() {
        Ok(seconds) => {
            let ns = seconds * SECOND as f64;
            if !ns.is_finite() || ns >= i64::MAX as f64 {
                return Err(bad());
            }
            ns as u64
        }
        Err(_) => {
            let ns = crate::traceql::parse_literal_ns(magnitude).ok_or_else(bad)?;
            u64::try_from(ns).map_err(|_| bad())?
        }
    };
    if magnitude.len() < text.len() {
        let text = quote(text);
        let why = format!("cannot parse {text}: step must be positive");
        return Err(ApiError::bad_request(why));
    }
    Ok(ns)
}

impl TimeRules<'_> {
    /// The newest moment that is answered for.
    fn newest_ns(&self) -> u64 {
        let cutoff = self.settings.query_end_cutoff.as_nanos() as u64;
        self.now_ns.saturating_sub(cutoff)
    }

    fn default_start_ns(&self) -> u64 {
        let after = self.settings.query_backend_after.as_nanos() as u64;
        self.now_ns.saturating_sub(after)
    }

    /// The range of a search.
    pub(super) fn search(&self, times: SearchTimes) -> Result<TraceRange, ApiError> {
        if let (Some(start @ 1..), None | Some(0), None) =
            (times.start_s, times.end_s, times.since_ns)
        {
            return Err(start_not_before_end(start, 0));
        }
        match self.range(times)? {
            Ok(range) => Ok(range),
            Err((start, end)) => Err(start_not_before_end(start, end)),
        }
    }

    /// The range of tags or values; `None` for one that ends before it begins, in which there is nothing.
    pub(super) fn tags(&self, times: SearchTimes) -> Result<Option<TraceRange>, ApiError> {
        Ok(self.range(times)?.ok())
    }

    fn range(&self, times: SearchTimes) -> Result<Result<TraceRange, (u64, u64)>, ApiError> {
        let newest_ns = self.newest_ns();
        if let Some(since) = times.since_ns {
            return Ok(Ok(TraceRange {
                start_ns: newest_ns.saturating_sub(since),
                end_ns: newest_ns,
            }));
        }
        let (start, end) = match (times.start_s.unwrap_or(0), times.end_s.unwrap_or(0)) {
            (0, 0) => {
                return Ok(Ok(TraceRange {
                    start_ns: self.default_start_ns(),
                    end_ns: newest_ns,
                }));
            }
            (0, _) if times.start_s.is_none() => return Err(only_one()),
            (_, 0) if times.end_s.is_none() => return Err(only_one()),
            both => both,
        };
        if end <= start {
            return Ok(Err((start, end)));
        }
        let max = self.bounds.max_search;
        if !max.is_zero() && end - start > max.as_secs() {
            let max = format_ns(max.as_nanos() as i64);
            return Err(ApiError::bad_request(format!(
                "range specified by start and end exceeds {max}. received start={start} end={end}"
            )));
        }
        let mut range = TraceRange {
            start_ns: start.saturating_mul(SECOND),
            end_ns: end.saturating_mul(SECOND),
        };
        if !self.settings.query_end_cutoff.is_zero() && range.end_ns > newest_ns {
            range.end_ns = newest_ns;
            if range.start_ns > newest_ns {
                range.start_ns = self.default_start_ns();
            }
        }
        Ok(Ok(range))
    }

    /// The range of metrics.
    fn metrics(&self, times: MetricsTimes) -> Result<(u64, u64), ApiError> {
        let mut end = times.end_ns.unwrap_or(self.now_ns);
        let since = times.since_ns.unwrap_or(METRICS_SINCE);
        let start = times.start_ns;
        let start = start.unwrap_or_else(|| end.min(self.now_ns).saturating_sub(since));
        if end <= start {
            return Err(ApiError::bad_request("end must be greater than start"));
        }
        let max = self.bounds.max_metrics;
        if !max.is_zero() && u128::from(end - start) > max.as_nanos() {
            let max = format_ns(max.as_nanos() as i64);
            return Err(ApiError::bad_request(format!(
                "metrics query time range exceeds the maximum allowed duration of {max}"
            )));
        }
        if !self.settings.query_end_cutoff.is_zero() && end > self.newest_ns() {
            end = self.newest_ns();
            if end <= start {
                return Err(ApiError::bad_request(
                    "query window falls entirely within query_end_cutoff",
                ));
            }
        }
        Ok((start, end))
    }

    /// The interval of an instant query.
    pub(super) fn instant(&self, times: MetricsTimes) -> Result<IntervalGrid, ApiError> {
        let (start, end) = self.metrics(times)?;
        Ok(IntervalGrid::instant(start, end)?)
    }

    /// The intervals of a range query.
    pub(super) fn intervals(&self, times: MetricsTimes) -> Result<IntervalGrid, ApiError> {
        let (start, end) = self.metrics(times)?;
        let step = times
            .step_ns
            .unwrap_or_else(|| default_step_ns(end - start));
        let max = self.settings.max_intervals.max(1);
        if step == 0 || (end - start) / step > max {
            let least = (end - start).div_ceil(max);
            return Err(ApiError::bad_request(format!(
                "step of {} is too small, minimum step for given range is {}",
                format_ns(step as i64),
                format_ns(least as i64)
            )));
        }
        let mut grid = IntervalGrid::range(start, end, step)?;
        let newest = self.newest_ns();
        if !self.settings.query_end_cutoff.is_zero() && grid.until_ns() > newest {
            let until = newest / step * step;
            grid.len = (until.saturating_sub(grid.after_ns) / step) as usize;
        }
        Ok(grid)
    }
}

fn only_one() -> ApiError {
    date_range("only one of start and end provided: must provide both or neither".to_owned())
}

/// A step of which some 240 cover the range.
fn default_step_ns(range_ns: u64) -> u64 {
    const MS: u64 = 1_000_000;
    let step = range_ns / 240;
    if range_ns < 60 * SECOND {
        return (step / (50 * MS)).max(1) * 50 * MS;
    }
    let units = [3600, 300, 60, 15, 5, 1].map(|s| s * SECOND);
    let unit = units.into_iter().find(|unit| *unit <= step);
    unit.map_or(SECOND, |unit| step / unit * unit)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW_S: u64 = 1_750_000_000;

    fn params(query: &str) -> Params {
        Params::read(Some(query), &HeaderMap::new(), &Bytes::new()).unwrap()
    }

    fn with_rules<T>(cutoff_s: u64, check: impl FnOnce(TimeRules<'_>) -> T) -> T {
        let settings = QueryRules {
            query_end_cutoff: Duration::from_secs(cutoff_s),
            ..QueryRules::default()
        };
        let bounds = ReadBounds::default();
        check(TimeRules {
            settings: &settings,
            bounds: &bounds,
            now_ns: NOW_S * SECOND,
        })
    }

    fn search(query: &str, cutoff_s: u64) -> Result<(i64, i64), String> {
        with_rules(cutoff_s, |rules| {
            let times = params(query).search_times().map_err(|e| e.message)?;
            let range = rules.search(times).map_err(|e| e.message)?;
            let before = |ns: u64| (ns / SECOND) as i64 - NOW_S as i64;
            Ok((before(range.start_ns), before(range.end_ns)))
        })
    }

    #[test]
    fn searches_have_tempos_rules_for_times() {
        assert_eq!(search("", 0), Ok((-900, 0)));
        assert_eq!(search("", 30), Ok((-900, -30)));
        assert_eq!(search("start=0&end=0", 0), Ok((-900, 0)));
        assert_eq!(search("since=1h30m&start=5&end=6", 30), Ok((-5430, -30)));
        assert_eq!(search("since=2d", 0), Ok((-172_800, 0)));
        let near = format!("start={}&end={}", NOW_S - 100, NOW_S + 100);
        assert_eq!(search(&near, 0), Ok((-100, 100)));
        assert_eq!(search(&near, 30), Ok((-100, -30)));
        let ahead = format!("start={}&end={}", NOW_S + 50, NOW_S + 100);
        assert_eq!(search(&ahead, 30), Ok((-900, -30)));
        for (query, why) in [
            (
                "start=5",
                "http parameter start must be before end. received start=5 end=0",
            ),
            (
                "end=5",
                "error parsing date range: only one of start and end provided: must provide both or neither",
            ),
            (
                "start=7&end=5",
                "http parameter start must be before end. received start=7 end=5",
            ),
            (
                "start=7&end=7",
                "http parameter start must be before end. received start=7 end=7",
            ),
            (
                "start=1.5&end=7",
                "invalid start: strconv.ParseUint: parsing \"1.5\": invalid syntax",
            ),
            (
                "start=1&end=4294967296",
                "invalid end: strconv.ParseUint: parsing \"4294967296\": value out of range",
            ),
            (
                "start=1&end=604802",
                "range specified by start and end exceeds 168h0m0s. received start=1 end=604802",
            ),
        ] {
            assert_eq!(search(query, 0), Err(why.to_owned()), "{query}");
        }
        assert!(search("start=1&end=604801", 0).is_ok());
    }

    #[test]
    fn tags_take_times_in_all_spellings_and_empty_ranges() {
        let tags = |query: &str| {
            with_rules(0, |rules| {
                let times = params(query).tag_times().map_err(|e| e.message)?;
                rules.tags(times).map_err(|e| e.message)
            })
        };
        let range = TraceRange {
            start_ns: 1_750_000_000 * SECOND,
            end_ns: 1_750_000_060 * SECOND,
        };
        for query in [
            "start=1750000000&end=1750000060",
            "start=1750000000.9&end=1750000060900000000",
            "start=2025-06-15T15:06:40Z&end=2025-06-15T17:07:40%2B02:00",
        ] {
            assert_eq!(tags(query), Ok(Some(range)), "{query}");
        }
        assert_eq!(tags("start=9&end=9"), Ok(None));
        assert!(tags("start=9").unwrap_err().contains("only one of start"));
        assert!(tags("start=x&end=9").is_err());
    }

    fn metrics(query: &str, cutoff_s: u64) -> Result<IntervalGrid, String> {
        with_rules(cutoff_s, |rules| {
            let times = params(query).metrics_times().map_err(|e| e.message)?;
            rules.intervals(times).map_err(|e| e.message)
        })
    }

    #[test]
    fn metrics_have_tempos_rules_for_times() {
        // An hour without more, and the step before.
        let hour = metrics("", 0).unwrap();
        assert_eq!((hour.step_ns, hour.len), (15 * SECOND, 242));
        let ten = metrics("start=1749996000&end=1749999600&step=10m", 0).unwrap();
        assert_eq!((ten.len, ten.edge_ns(0)), (7, 1_749_996_000 * SECOND));
        let since = metrics("since=5m&step=60", 0).unwrap();
        assert_eq!(since.len, 7);
        let alone = metrics(&format!("end={}&step=1m", NOW_S + 600), 0).unwrap();
        assert!(alone.until_ns() >= (NOW_S + 600) * SECOND);
        assert_eq!(alone.len, 72);
        let cut = metrics("step=1m", 30).unwrap();
        assert!(cut.until_ns() <= (NOW_S - 30) * SECOND);
        for (query, cutoff, why) in [
            ("start=0&end=0", 0, "end must be greater than start"),
            ("start=9&end=9", 0, "end must be greater than start"),
            (
                "start=1&end=86402",
                0,
                "metrics query time range exceeds the maximum allowed duration of 24h0m0s",
            ),
            (
                "start=1&end=10002&step=1s",
                0,
                "step of 1s is too small, minimum step for given range is 1.0001s",
            ),
            (
                "start=1&end=9&step=0",
                0,
                "step of 0s is too small, minimum step for given range is 800µs",
            ),
            ("step=-1m", 0, "cannot parse \"-1m\": step must be positive"),
            ("step=x", 0, "cannot parse \"x\" to a valid duration"),
            (
                "step=1e300",
                0,
                "cannot parse \"1e300\" to a valid duration",
            ),
            (
                "start=x",
                0,
                "rpc error: code = Code(400) desc = could not parse 'start' parameter: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                "start=1749999990",
                30,
                "query window falls entirely within query_end_cutoff",
            ),
        ] {
            assert_eq!(metrics(query, cutoff), Err(why.to_owned()), "{query}");
        }
    }

    #[test]
    fn some_240_steps_cover_a_range() {
        for (range_s, step_ms) in [
            (1, 50),
            (30, 100),
            (59, 200),
            (60, 1_000),
            (240, 1_000),
            (3_600, 15_000),
            (7_200, 30_000),
            (6 * 3_600, 60_000),
            (24 * 3_600, 300_000),
            (240 * 3_600 * 2, 7_200_000),
        ] {
            let step = default_step_ns(range_s * SECOND);
            assert_eq!(step, step_ms * 1_000_000, "{range_s}");
        }
    }

    #[test]
    fn counts_are_numbers_or_refused_in_gos_words() {
        assert_eq!(params("limit=7").count("limit").unwrap(), Some(7));
        assert_eq!(params("limit=").count("limit").unwrap(), None);
        let bad = params("limit=1e3").count("limit").unwrap_err().message;
        assert_eq!(
            bad,
            "invalid limit: strconv.Atoi: parsing \"1e3\": invalid syntax"
        );
        assert!(params("limit=-1").count("limit").is_err());
        assert_eq!(params("exemplars=x").lenient_count("exemplars"), 0);
    }
}
