//! What labels and fields logs have, found by looking at some of them: `detected_labels`, `detected_fields` and the values of a field.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;

use hashbrown::{HashMap, HashSet};
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::{Labels, Listed, TenantId, TimestampNs};

use super::clients::Queries;
use crate::logql::{
    Answer, AnswerStream, FieldProbe, LineForm, ParseError, Query, QueryError, QueryValue,
    StreamLabels, ValueKind, json_paths, short_bytes,
};
use crate::select::{Select, SelectRequest};

/// Labels that are shown whatever their values.
const ALWAYS_SHOWN: [&str; 4] = ["cluster", "instance", "namespace", "pod"];
/// Lines between two looks at the cancel token.
const LINES_AT_ONCE: usize = 64;

/// A label of streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectedLabel {
    /// Its name.
    pub label: String,
    /// Different values that it has.
    pub cardinality: u64,
}

/// The labels of the streams that match, those with the most values first. Those whose values are all numbers or UUIDs are left out, since
/// nobody picks streams by them; `cluster`, `namespace`, `instance`, `pod` and switches of 0 and 1 stay.
///
/// # Errors
/// As [`Select::series`].
pub async fn detected_labels(
    holders: &dyn Select,
    tenant: &TenantId,
    request: &SelectRequest,
) -> lgtm_core::Result<Listed<Vec<DetectedLabel>>> {
    let series = holders.series(tenant, request).await?;
    Ok(series.map(|series| {
        let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (name, value) in series.iter().flat_map(|labels| labels.iter()) {
            values.entry(name).or_default().insert(value);
        }
        values.retain(|name, values| ALWAYS_SHOWN.contains(name) || !are_ids(values));
        let label = |(name, values): (&str, BTreeSet<&str>)| DetectedLabel {
            label: name.to_owned(),
            cardinality: values.len() as u64,
        };
        let mut labels: Vec<DetectedLabel> = values.into_iter().map(label).collect();
        labels.sort_by_key(|l| std::cmp::Reverse(l.cardinality));
        labels
    }))
}

/// Whether values only tell things apart.
fn are_ids(values: &BTreeSet<&str>) -> bool {
    if values.iter().all(|v| matches!(*v, "0" | "1")) {
        return false;
    }
    let is_id = |v: &&str| ValueKind::of(v).is_number() || is_uuid(v);
    values.iter().all(is_id)
}

/// Whether a text is a UUID: 32 hexadecimal digits, with or without hyphens, braces or `urn:uuid:` around.
fn is_uuid(text: &str) -> bool {
    let plain = text.strip_prefix("urn:uuid:").unwrap_or(text);
    let inner = plain.strip_prefix('{').and_then(|t| t.strip_suffix('}'));
    let plain = inner.unwrap_or(plain).as_bytes();
    let is_digit = |b: &u8| b.is_ascii_hexdigit();
    match plain.len() {
        32 => plain.iter().all(is_digit),
        36 => plain.iter().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => is_digit(b),
        }),
        _ => false,
    }
}

/// Of which lines the fields are wanted.
#[derive(Debug, Clone)]
pub struct DetectedFieldsRequest {
    /// A log query, whose limit is the number of lines that are looked at.
    pub query: Query,
    /// Fields, or values of a field, that are wanted; more than 0.
    pub limit: usize,
}

/// How lines that have a field are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldParser {
    /// By `json`.
    Json,
    /// By `logfmt`.
    Logfmt,
}

impl FieldParser {
    /// As queries spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Logfmt => "logfmt",
        }
    }
}

/// A field of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectedField {
    /// The label that parsers make of it.
    pub label: String,
    /// What its values are, by the last line that was read.
    pub kind: ValueKind,
    /// Different values in the lines that were read.
    pub cardinality: u64,
    /// How the lines are read that have it, in the order in which they came; none: it stands in structured metadata only.
    pub parsers: Vec<FieldParser>,
    /// Where it stands in JSON lines; empty where it is in none.
    pub json_path: Vec<String>,
}

/// The fields of the newest lines of a log query, by name: their structured metadata, what the query's own parsers make, and what each line
/// has as JSON or, if it is none, as logfmt.
///
/// The lines are read on the compute pool. Memory: the answer of the query, and 8 bytes for each value of each field.
///
/// # Errors
/// `Parse` for a metric query; those of the query.
pub async fn detected_fields(
    queries: &dyn Queries,
    executor: &Executor,
    tenant: &TenantId,
    request: &DetectedFieldsRequest,
) -> Result<Listed<Vec<DetectedField>>, QueryError> {
    let (lines, warnings) = lines_of(queries, tenant, request).await?;
    let limit = request.limit;
    let job = move |cancel: &CancelToken| lines.fields(limit, cancel);
    let in_line = executor.in_line(tenant.as_str());
    let fields = in_line.run(job, &CancelToken::new()).await?;
    let mut listed = Listed::whole(fields);
    listed.warn(warnings);
    Ok(listed)
}

/// The values that a field has in the newest lines of a log query, in order. Sizes are written anew (`3.9MB`), so that queries can have them.
///
/// # Errors
/// As [`detected_fields`].
pub async fn detected_field_values(
    queries: &dyn Queries,
    executor: &Executor,
    tenant: &TenantId,
    field: &str,
    request: &DetectedFieldsRequest,
) -> Result<Listed<Vec<String>>, QueryError> {
    let (lines, warnings) = lines_of(queries, tenant, request).await?;
    let (field, limit) = (field.to_owned(), request.limit);
    let job = move |cancel: &CancelToken| lines.values(&field, limit, cancel);
    let in_line = executor.in_line(tenant.as_str());
    let values = in_line.run(job, &CancelToken::new()).await?;
    let mut listed = Listed::whole(values);
    listed.warn(warnings);
    Ok(listed)
}

/// Asks for the lines; what the answer lacks beside them.
async fn lines_of(
    queries: &dyn Queries,
    tenant: &TenantId,
    request: &DetectedFieldsRequest,
) -> Result<(Lines, Vec<String>), QueryError> {
    if !request.query.is_log() {
        let fault = ParseError::new("only log selector is supported");
        return Err(QueryError::Parse(fault));
    }
    let mut answer = queries.query(tenant, &request.query).await?;
    let warnings = std::mem::take(&mut answer.warnings);
    Ok((Lines { answer }, warnings))
}

/// The lines of an answer, which counts their memory.
#[derive(Debug)]
struct Lines {
    answer: Answer,
}

/// A line that is looked at.
struct Line<'a> {
    /// The labels of its stream.
    stream: &'a StreamLabels,
    answer: &'a AnswerStream,
    line: &'a [u8],
}

impl Line<'_> {
    /// What the query's own parsers made of it.
    fn parsed(&self) -> impl Iterator<Item = (&str, &str)> {
        let parsed = self.answer.parsed.iter();
        parsed.filter(|(name, _)| !name.starts_with("__error"))
    }
}

impl Lines {
    /// Shows the lines stream by stream, the newest of each first, until `visit` has enough.
    fn each(
        &self,
        cancel: &CancelToken,
        mut visit: impl FnMut(Line<'_>) -> bool,
    ) -> Result<(), QueryError> {
        let QueryValue::Streams(streams) = &self.answer.value else {
            return Ok(());
        };
        let lines = streams
            .iter()
            .flat_map(|s| s.entries.iter().map(move |e| (s, e)));
        let mut lines: Vec<_> = lines.collect();
        let newest = |t_ns: TimestampNs| std::cmp::Reverse(t_ns);
        lines.sort_by(|(a, e), (b, f)| {
            let order = a.stream.cmp(&b.stream);
            order.then_with(|| newest(e.t_ns).cmp(&newest(f.t_ns)))
        });
        let mut stream = StreamLabels::new(&Labels::empty());
        for (n, (answer, entry)) in lines.into_iter().enumerate() {
            if n % LINES_AT_ONCE == 0 {
                cancel.check("detected fields")?;
            }
            if *stream.labels() != answer.stream {
                stream = StreamLabels::new(&answer.stream);
            }
            let line = Line {
                stream: &stream,
                answer,
                line: &entry.line,
            };
            if !visit(line) {
                break;
            }
        }
        Ok(())
    }

    fn fields(&self, limit: usize, cancel: &CancelToken) -> Result<Vec<DetectedField>, QueryError> {
        let mut found = FoundFields {
            limit,
            fields: HashMap::new(),
        };
        let mut probe = FieldProbe::new();
        self.each(cancel, |line| {
            for (name, value) in line.answer.metadata.iter() {
                found.add(name, value, None);
            }
            let parser = match probe.read(line.stream, line.line) {
                LineForm::Json => FieldParser::Json,
                LineForm::Logfmt => FieldParser::Logfmt,
            };
            let mut wants_paths = false;
            for (name, value) in line.parsed().chain(probe.fields(line.stream)) {
                if let Some(field) = found.add(name, value, Some(parser)) {
                    wants_paths |= field.detected.json_path.is_empty();
                }
            }
            if wants_paths && parser == FieldParser::Json {
                for (name, path) in json_paths(line.stream, line.line) {
                    if let Some(field) = found.fields.get_mut(&*name) {
                        field.detected.json_path = path;
                    }
                }
            }
            true
        })?;
        let fields = found
            .fields
            .into_iter()
            .map(|(label, field)| DetectedField {
                label,
                cardinality: field.values.len() as u64,
                ..field.detected
            });
        let mut fields: Vec<DetectedField> = fields.collect();
        fields.sort_by(|a, b| a.label.cmp(&b.label));
        Ok(fields)
    }

    fn values(
        &self,
        field: &str,
        limit: usize,
        cancel: &CancelToken,
    ) -> Result<Vec<String>, QueryError> {
        let mut values: BTreeSet<String> = BTreeSet::new();
        let mut probe = FieldProbe::new();
        self.each(cancel, |line| {
            values.extend(line.answer.metadata.get(field).map(str::to_owned));
            probe.read(line.stream, line.line);
            let parsed = line.parsed().chain(probe.fields(line.stream));
            let parsed = parsed.filter(|(name, _)| *name == field);
            values.extend(parsed.map(|(_, value)| as_queried(value)));
            values.len() < limit
        })?;
        Ok(values.into_iter().take(limit).collect())
    }
}

/// A value as a query may have it: sizes with a unit in the form that label filters take.
fn as_queried(value: &str) -> String {
    let has_unit = value.ends_with(|c: char| c.is_ascii_alphabetic());
    match short_bytes(value) {
        Some(short) if has_unit && ValueKind::of(value) == ValueKind::Bytes => short,
        _ => value.to_owned(),
    }
}

struct FoundField {
    detected: DetectedField,
    /// Hashes of its values.
    values: HashSet<u64>,
}

struct FoundFields {
    limit: usize,
    fields: HashMap<String, FoundField>,
}

impl FoundFields {
    /// Notes a value. `None` if the field is beyond the limit.
    fn add(
        &mut self,
        name: &str,
        value: &str,
        parser: Option<FieldParser>,
    ) -> Option<&mut FoundField> {
        if !self.fields.contains_key(name) {
            if self.fields.len() >= self.limit {
                return None;
            }
            let detected = DetectedField {
                label: String::new(),
                kind: ValueKind::Text,
                cardinality: 0,
                parsers: Vec::new(),
                json_path: Vec::new(),
            };
            let values = HashSet::new();
            self.fields
                .insert(name.to_owned(), FoundField { detected, values });
        }
        let field = self.fields.get_mut(name)?;
        field.detected.kind = ValueKind::of(value);
        let hash = field.values.hasher().hash_one(value);
        field.values.insert(hash);
        if let Some(parser) = parser
            && !field.detected.parsers.contains(&parser)
        {
            field.detected.parsers.push(parser);
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_only_tell_things_apart_are_known() {
        let ids = |values: &[&str]| are_ids(&values.iter().copied().collect());
        assert!(ids(&["1", "2.5", "-3e4"]));
        assert!(ids(&["2a1c0a4e-9d1e-4b8e-8d6c-0f2f0b1c2d3e", "7"]));
        assert!(ids(&["{2a1c0a4e9d1e4b8e8d6c0f2f0b1c2d3e}"]));
        assert!(!ids(&["0", "1"]) && !ids(&["1"]) && ids(&["0", "1", "2"]));
        assert!(!ids(&["1", "prod"]) && !ids(&["2a1c0a4e-9d1e-4b8e-8d6c-0f2f0b1c2d3"]));
    }

    #[test]
    fn sizes_are_written_anew() {
        for (value, wanted) in [
            ("10 KB", "10kB"),
            ("1.5kib", "1.5kB"),
            ("3MiB", "3.1MB"),
            (".5MB", "500kB"),
            ("2G", "2.0GB"),
            ("7b", "7B"),
            ("999.6kb", "1000kB"),
            ("1024", "1024"),
            ("1,024", "1,024"),
            ("-5KB", "-5KB"),
            ("10XB", "10XB"),
            ("10m", "10m"),
        ] {
            assert_eq!(as_queried(value), wanted, "{value}");
        }
    }
}
