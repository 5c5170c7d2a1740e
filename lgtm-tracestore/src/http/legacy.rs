//! Searches by tags, as clients made them before there was TraceQL: `tags=service.name=shop http.status_code=500`.

use std::sync::Arc;

use lgtm_core::go::{quote, unquote};

use super::error::ApiError;
use super::params::Params;
use crate::limits::Limits;
use crate::trace::ColumnKind;
use crate::traceql::parse_literal_ns;

/// Attributes beside those with a column of the tenant's own whose values match by a part.
const PARTIAL_KEYS: [&str; 11] = [
    "cluster",
    "namespace",
    "pod",
    "container",
    "k8s.cluster.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.container.name",
    "http.method",
    "http.url",
    "service.name",
];

/// A search by tags and by the length of traces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TagSearch {
    /// In logfmt.
    pub(super) tags: Option<String>,
    /// 0: any.
    pub(super) min_ms: u64,
    /// 0: any.
    pub(super) max_ms: u64,
}

/// A duration in whole milliseconds.
pub(super) fn duration_ms(params: &Params, name: &str) -> Result<u64, ApiError> {
    let Some(text) = params.get(name) else {
        return Ok(0);
    };
    let ns = parse_literal_ns(text).ok_or_else(|| {
        ApiError::bad_request(format!(
            "invalid {name}: time: invalid duration {}",
            quote(text)
        ))
    })?;
    Ok(u64::try_from(ns).unwrap_or(0) / 1_000_000)
}

impl TagSearch {
    /// The same in TraceQL: one span has all tags. A trace is as long as asked for from its first start to its last end.
    pub(super) fn query(&self, limits: &[Arc<Limits>]) -> Result<String, ApiError> {
        if self.min_ms > 0 && self.max_ms > 0 && self.min_ms > self.max_ms {
            return Err(ApiError::bad_request(
                "invalid maxDuration: must be greater than minDuration",
            ));
        }
        let pairs = logfmt(self.tags.as_deref().unwrap_or_default())
            .map_err(|why| ApiError::bad_request(format!("invalid tags: {why}")))?;
        let is_partial = |key: &str| {
            PARTIAL_KEYS.contains(&key)
                || limits.iter().any(|limits| {
                    let columns = &limits.storage.parquet_dedicated_columns;
                    let mut columns = columns.as_slice().iter();
                    columns.any(|c| c.name == key && c.kind == ColumnKind::String)
                })
        };
        let mut tests: Vec<String> = Vec::new();
        for (key, value) in &pairs {
            tests.push(test_of(key, value, is_partial(key)));
        }
        for (ms, sign) in [(self.min_ms, ">="), (self.max_ms, "<=")] {
            if ms > 0 {
                tests.push(format!("traceDuration {sign} {ms}ms"));
            }
        }
        Ok(format!("{{ {} }}", tests.join(" && ")))
    }
}

/// The test of one tag.
fn test_of(key: &str, value: &str, is_partial: bool) -> String {
    let field = match key {
        "name" => Some("name"),
        "root.name" => Some("trace:rootName"),
        "root.service.name" => Some("trace:rootService"),
        "status.code" => {
            return match value {
                "error" | "ok" | "unset" => format!("status = {value}"),
                _ => "false".to_owned(),
            };
        }
        _ => None,
    };
    if let Some(field) = field {
        return part_of(field, value);
    }
    let name = quote(key);
    if key == "http.status_code" && value.parse::<i64>().is_ok() {
        return format!("span.{name} = {value}");
    }
    if is_partial {
        return format!(
            "({} || {})",
            part_of(&format!("span.{name}"), value),
            part_of(&format!("resource.{name}"), value)
        );
    }
    let mut values = vec![quote(value)];
    // What the sender meant as a number or a truth is found too.
    if value.parse::<i64>().is_ok() || matches!(value, "true" | "false") {
        values.push(value.to_owned());
    }
    let tests = values
        .iter()
        .flat_map(|value| ["span", "resource"].map(|scope| format!("{scope}.{name} = {value}")));
    format!("({})", tests.collect::<Vec<_>>().join(" || "))
}

/// That a text contains another.
fn part_of(field: &str, value: &str) -> String {
    let mut pattern = String::from(".*");
    for c in value.chars() {
        if c.is_ascii_punctuation() {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push_str(".*");
    format!("{field} =~ {}", quote(&pattern))
}

/// Keys and values in logfmt. A key alone has the empty value.
fn logfmt(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut out: Vec<(String, String)> = Vec::new();
    let mut rest = text.trim_start();
    let fault = |rest: &str, what: &str| {
        let place = text.len() - rest.len() + 1;
        format!("logfmt syntax error at pos {place} on line 1: {what}")
    };
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '=' | '"'));
        let (key, tail) = rest.split_at(end.unwrap_or(rest.len()));
        if key.is_empty() {
            let c = rest.chars().next().unwrap_or_default();
            return Err(fault(rest, &format!("unexpected '{c}'")));
        }
        let (value, tail) = match tail.strip_prefix('=') {
            None if tail.starts_with('"') => return Err(fault(tail, "unexpected '\"'")),
            None => (String::new(), tail),
            Some(tail) if tail.starts_with('"') => {
                let end =
                    quoted_end(tail).ok_or_else(|| fault(tail, "unterminated quoted value"))?;
                let (value, tail) = tail.split_at(end);
                let value = String::from_utf8_lossy(&unquote(value)).into_owned();
                (value, tail)
            }
            Some(tail) => {
                let end = tail.find(char::is_whitespace).unwrap_or(tail.len());
                let (value, tail) = tail.split_at(end);
                if let Some(at) = value.find(['=', '"']) {
                    let c = &value[at..=at];
                    return Err(fault(&tail[..0], &format!("unexpected '{c}'")));
                }
                (value.to_owned(), tail)
            }
        };
        if !tail.is_empty() && !tail.starts_with(char::is_whitespace) {
            return Err(fault(tail, "unexpected text behind a quoted value"));
        }
        if out.iter().any(|(known, _)| known == key) {
            return Err(format!("duplicate keys found: {key}"));
        }
        out.push((key.to_owned(), value));
        rest = tail.trim_start();
    }
    Ok(out)
}

/// Where a quoted text ends, behind its second quote.
fn quoted_end(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traceql::parse;

    fn query(tags: &str, min_ms: u64, max_ms: u64) -> Result<String, String> {
        let search = TagSearch {
            tags: Some(tags.to_owned()),
            min_ms,
            max_ms,
        };
        search.query(&[Arc::default()]).map_err(|e| e.message)
    }

    #[test]
    fn tags_are_told_in_traceql() {
        for (tags, min, max, text) in [
            ("", 0, 0, "{  }"),
            ("  ", 10, 0, "{ traceDuration >= 10ms }"),
            (
                "name=a.b",
                0,
                2000,
                r#"{ name =~ ".*a\\.b.*" && traceDuration <= 2000ms }"#,
            ),
            ("x", 0, 0, r#"{ (span."x" = "" || resource."x" = "") }"#),
            (
                "pages=3",
                0,
                0,
                r#"{ (span."pages" = "3" || resource."pages" = "3" || span."pages" = 3 || resource."pages" = 3) }"#,
            ),
            ("status.code=error", 0, 0, "{ status = error }"),
            ("status.code=5", 0, 0, "{ false }"),
            (
                "http.status_code=503",
                0,
                0,
                r#"{ span."http.status_code" = 503 }"#,
            ),
            (
                r#"a="x \"y\"" b=z"#,
                0,
                0,
                r#"{ (span."a" = "x \"y\"" || resource."a" = "x \"y\"") && (span."b" = "z" || resource."b" = "z") }"#,
            ),
        ] {
            let found = query(tags, min, max).unwrap();
            assert_eq!(found, text);
            parse(&found).unwrap_or_else(|e| panic!("{found}: {e}"));
        }
        let part = query("service.name=shop", 0, 0).unwrap();
        assert!(
            part.contains(r#"resource."service.name" =~ ".*shop.*""#),
            "{part}"
        );
    }

    #[test]
    fn what_is_no_logfmt_is_refused() {
        for tags in [
            "=x", "\"a\"", "a=b=c", "a=\"b", "a=b\"c", "a=1 a=2", "a=\"b\"c",
        ] {
            let why = query(tags, 0, 0).unwrap_err();
            assert!(why.starts_with("invalid tags: "), "{tags}: {why}");
        }
        assert!(
            query("", 3, 2)
                .unwrap_err()
                .starts_with("invalid maxDuration")
        );
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_tags_never_panic_and_make_queries(tags in "\\PC{0,40}") {
            if let Ok(text) = query(&tags, 1, 0) {
                parse(&text).unwrap_or_else(|e| panic!("{tags:?} {text}: {e}"));
            }
        }
    }
}
