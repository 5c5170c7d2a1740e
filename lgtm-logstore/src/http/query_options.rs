//! What headers of a request say of how a query is to be run.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use lgtm_core::go::parse_duration_ns;
use lgtm_core::units::ByteSize;
use serde::Deserialize;

use super::error::ApiError;
use super::params::time;
use super::settings::ApiSettings;
use crate::limits::RequestLimits;
use crate::logql::{LabelEncoding, ParserSettings, Query, QueryOptions, QueryRange};

const TAGS: &str = "x-query-tags";
const ENCODING_FLAGS: &str = "x-loki-response-encoding-flags";
const LIMITS: &str = "x-loki-query-limits";
const LIMITS_CONTEXT: &str = "x-loki-query-limits-context";
/// The tag by which Logs Drilldown is known: it shows a part of the series rather than none.
const DRILLDOWN: (&str, &str) = ("source", "grafana-lokiexplore-app");
/// In the tags of queries for samples of lines, which need few of them.
const SAMPLE: &str = "datasample";

/// What a request's headers say.
pub(super) struct Asked {
    pub(super) options: QueryOptions,
    pub(super) encoding: LabelEncoding,
}

impl Asked {
    pub(super) fn of(
        headers: &HeaderMap,
        settings: &ApiSettings,
        parser: &ParserSettings,
    ) -> Result<Self, ApiError> {
        let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
        let tags = tags(text(TAGS).unwrap_or_default());
        let limit = |name| text(name).filter(|_| settings.per_request_limits_enabled);
        let limits = limit(LIMITS).map(request_limits).transpose()?;
        let part_of = limit(LIMITS_CONTEXT).map(|text| whole_query(text, parser));
        let options = QueryOptions {
            no_cache: no_cache(headers),
            cuts_series: is_drilldown(&tags),
            one_piece_at_a_time: tags.contains(SAMPLE),
            limits: limits.map(Arc::new),
            part_of: part_of.transpose()?.map(Arc::new),
            ..QueryOptions::default()
        };
        if !tags.is_empty() {
            tracing::debug!(tags, "a query with tags");
        }
        let flags = text(ENCODING_FLAGS).unwrap_or_default();
        let is_categorized = flags.split(',').any(|f| f.trim() == "categorize-labels");
        let encoding = if is_categorized {
            LabelEncoding::Categorized
        } else {
            LabelEncoding::Merged
        };
        Ok(Self { options, encoding })
    }
}

/// Whether the caller wants no answer of a cache.
pub(super) fn no_cache(headers: &HeaderMap) -> bool {
    let directives = headers.get_all(header::CACHE_CONTROL).iter();
    let mut directives = directives
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','));
    directives.any(|d| d.trim().eq_ignore_ascii_case("no-cache"))
}

/// Tags as they may be logged: each run of other bytes becomes one `_`.
fn tags(text: &str) -> String {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "=.@, -".contains(c);
    let mut out = String::new();
    let mut is_run = false;
    for c in text.chars() {
        match (is_fine(c), is_run) {
            (true, _) => out.push(c),
            (false, false) => out.push('_'),
            (false, true) => {}
        }
        is_run = !is_fine(c);
    }
    out
}

fn is_drilldown(tags: &str) -> bool {
    tags.split(',').any(|tag| {
        let (key, value) = tag.split_once('=').unwrap_or_default();
        key.trim().eq_ignore_ascii_case(DRILLDOWN.0)
            && value.trim().eq_ignore_ascii_case(DRILLDOWN.1)
    })
}

/// `X-Loki-Query-Limits`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct LimitsHeader {
    max_query_length: Option<String>,
    max_query_interval: Option<String>,
    max_query_lookback: Option<String>,
    max_query_time: Option<String>,
    max_entries_limit_per_query: Option<u64>,
    required_labels: Vec<String>,
    minimum_labels_number: Option<u64>,
    max_query_bytes_read: Option<String>,
}

fn request_limits(text: &str) -> Result<RequestLimits, ApiError> {
    let bad = |what: &str| ApiError::bad_request(format!("{LIMITS}: {what}"));
    let read: LimitsHeader = serde_json::from_str(text).map_err(|e| bad(&e.to_string()))?;
    let duration = |text: &Option<String>| {
        let ns = text.as_deref().map(parse_duration_ns).transpose();
        Ok::<_, ApiError>(ns.map_err(|e| bad(&e))?.map(Duration::from_nanos))
    };
    let bytes = read.max_query_bytes_read.as_deref();
    let bytes = bytes.map(ByteSize::from_str).transpose();
    Ok(RequestLimits {
        max_query_length: duration(&read.max_query_length)?,
        max_query_range: duration(&read.max_query_interval)?,
        max_query_lookback: duration(&read.max_query_lookback)?,
        query_timeout: duration(&read.max_query_time)?,
        max_entries_limit_per_query: read.max_entries_limit_per_query,
        max_query_bytes_read: bytes.map_err(|e| bad(&e.to_string()))?,
        required_labels: read.required_labels,
        minimum_labels_number: read.minimum_labels_number,
    })
}

/// `X-Loki-Query-Limits-Context`. Times are RFC 3339, as Go's library writes them, or numbers, as pages do.
#[derive(Debug, Deserialize)]
struct LimitsContext {
    expr: String,
    from: serde_json::Value,
    to: serde_json::Value,
}

/// The query that a request is a part of.
fn whole_query(text: &str, parser: &ParserSettings) -> Result<Query, ApiError> {
    let bad = |what: &str| ApiError::bad_request(format!("{LIMITS_CONTEXT}: {what}"));
    let read: LimitsContext = serde_json::from_str(text).map_err(|e| bad(&e.to_string()))?;
    let time = |name: &str, value: &serde_json::Value| match value {
        serde_json::Value::String(text) => time(name, text),
        serde_json::Value::Number(number) => time(name, &number.to_string()),
        other => Err(bad(&format!("{name} is {other}"))),
    };
    let range = QueryRange::new(time("from", &read.from)?, time("to", &read.to)?);
    Query::range(&read.expr, range, parser).map_err(|e| bad(&e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logql::QueryTime;

    fn asked(headers: &[(&'static str, &str)], enabled: bool) -> Result<Asked, ApiError> {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.insert(*name, value.parse().unwrap());
        }
        let settings = ApiSettings {
            per_request_limits_enabled: enabled,
            ..ApiSettings::default()
        };
        Asked::of(&all, &settings, &ParserSettings::default())
    }

    #[test]
    fn headers_say_how_a_query_is_run() {
        let plain = asked(&[], true).unwrap();
        assert!(!plain.options.no_cache && !plain.options.cuts_series);
        assert_eq!(plain.encoding, LabelEncoding::Merged);
        let drilldown = [
            (TAGS, "a=b,SOURCE=Grafana-LokiExplore-App"),
            ("cache-control", "No-Cache"),
            (ENCODING_FLAGS, "categorize-labels"),
        ];
        let drilldown = asked(&drilldown, true).unwrap();
        assert!(drilldown.options.no_cache && drilldown.options.cuts_series);
        assert_eq!(drilldown.encoding, LabelEncoding::Categorized);
        let sample = asked(&[(TAGS, "Source=datasample")], true).unwrap();
        assert!(sample.options.one_piece_at_a_time && !sample.options.cuts_series);
        assert_eq!(tags("a={b}\u{e4},c"), "a=_b_,c");
    }

    #[test]
    fn the_query_that_one_is_a_part_of_is_read_where_that_is_on() {
        let header =
            r#"{"expr":"{app=\"a\"}","from":"2024-05-01T12:00:00Z","to":1714568400000000000}"#;
        let whole = asked(&[(LIMITS_CONTEXT, header)], true).unwrap();
        let whole = whole.options.part_of.unwrap();
        assert_eq!(whole.text(), r#"{app="a"}"#);
        let range = QueryRange::new(1_714_564_800_000_000_000, 1_714_568_400_000_000_000);
        assert_eq!(whole.time(), QueryTime::Range(range));
        let off = asked(&[(LIMITS_CONTEXT, header)], false).unwrap();
        assert!(off.options.part_of.is_none());
        for bad in [
            "{",
            r#"{"expr":"{app=\"a\"}"}"#,
            r#"{"expr":"{","from":1,"to":2}"#,
            r#"{"expr":"{app=\"a\"}","from":{},"to":2}"#,
            r#"{"expr":"{app=\"a\"}","from":2,"to":1}"#,
        ] {
            assert!(asked(&[(LIMITS_CONTEXT, bad)], true).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_of_a_request_are_read_where_that_is_on() {
        let header = r#"{"maxQueryLength":"1h","maxQueryInterval":"5m","maxQueryTime":"30s","maxEntriesLimitPerQuery":7,"requiredLabels":["app"],"minimumLabelsNumber":2,"maxQueryBytesRead":"1GB","tsdbShardingStrategy":"bounded"}"#;
        let limits = asked(&[(LIMITS, header)], true).unwrap().options.limits;
        let limits = limits.unwrap();
        assert_eq!(limits.max_query_length, Some(Duration::from_secs(3600)));
        assert_eq!(limits.max_query_range, Some(Duration::from_secs(300)));
        assert_eq!(limits.query_timeout, Some(Duration::from_secs(30)));
        assert_eq!(limits.max_entries_limit_per_query, Some(7));
        assert_eq!(limits.required_labels, ["app"]);
        assert!(limits.max_query_bytes_read.is_some());
        let off = asked(&[(LIMITS, header)], false).unwrap();
        assert!(off.options.limits.is_none());
        for bad in [
            "{",
            r#"{"maxQueryLength":"x"}"#,
            r#"{"maxQueryBytesRead":"x"}"#,
        ] {
            assert!(asked(&[(LIMITS, bad)], true).is_err(), "{bad}");
        }
    }
}
