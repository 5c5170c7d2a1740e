//! The fields of a line when nobody says how to read it: those of its JSON object, else those of its logfmt pairs.

use hashbrown::HashMap;

use super::json::{ParseScratch, parse_json};
use super::json_scan::{JsonFault, JsonScanner, JsonValue, push_unescaped};
use super::labels::{EntryLabels, StreamLabels, push_sanitized};
use super::logfmt::Logfmt;
use super::parse_target::{Needed, ParseTarget, spaced};
use crate::logql::ast::LogfmtStage;

/// Objects in objects whose fields have a path.
const MAX_DEPTH: usize = 64;

/// How a line was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineForm {
    Json,
    Logfmt,
}

/// Reads lines one by one.
#[derive(Debug)]
pub(crate) struct FieldProbe {
    logfmt: Logfmt,
    labels: EntryLabels,
    parse: ParseScratch,
    name: String,
}

impl FieldProbe {
    pub(crate) fn new() -> Self {
        Self {
            logfmt: Logfmt::all(),
            labels: EntryLabels::default(),
            parse: ParseScratch::default(),
            name: String::new(),
        }
    }

    /// Reads a line of a stream. What it has stands in [`FieldProbe::fields`] until the next one.
    pub(crate) fn read(&mut self, stream: &StreamLabels, line: &[u8]) -> LineForm {
        self.labels.reset(stream);
        let mut target = ParseTarget {
            stream,
            labels: &mut self.labels,
            needed: &Needed::All,
            early: &[],
            found: 0,
            name: &mut self.name,
        };
        parse_json(line, &mut target, &mut self.parse);
        if !self.labels.has_error() {
            return LineForm::Json;
        }
        self.labels.reset(stream);
        let mut target = ParseTarget {
            stream,
            labels: &mut self.labels,
            needed: &Needed::All,
            early: &[],
            found: 0,
            name: &mut self.name,
        };
        self.logfmt.parse(line, &mut target, &mut self.parse);
        LineForm::Logfmt
    }

    /// Name and value of each field, under the names that `json` and `logfmt` give them.
    pub(crate) fn fields<'s>(
        &'s self,
        stream: &'s StreamLabels,
    ) -> impl Iterator<Item = (&'s str, &'s str)> {
        let all = self.labels.iter(stream);
        all.filter(|(_, _, source)| source.is_some())
            .map(|(name, value, _)| (name, value))
    }
}

/// Where in a JSON line each field stands, by the names that `json` gives them: the keys from the outermost object on.
pub(crate) fn json_paths(stream: &StreamLabels, line: &[u8]) -> HashMap<String, Vec<String>> {
    let mut walk = PathWalk {
        stream,
        prefix: String::new(),
        path: Vec::new(),
        found: HashMap::new(),
    };
    let mut scanner = JsonScanner::new(line);
    if scanner.enter(b'{') {
        // What stands before a fault counts.
        let _ = walk.object(&mut scanner);
    }
    walk.found
}

struct PathWalk<'a> {
    stream: &'a StreamLabels,
    prefix: String,
    path: Vec<String>,
    found: HashMap<String, Vec<String>>,
}

impl PathWalk<'_> {
    fn object(&mut self, scanner: &mut JsonScanner<'_>) -> Result<(), JsonFault> {
        let mut scratch = String::new();
        while let Some((key, has_escapes)) = scanner.key()? {
            let value = scanner.value()?;
            let raw = scanner.bytes(&key);
            let key = match has_escapes {
                true => {
                    scratch.clear();
                    push_unescaped(&mut scratch, raw, ' ')?;
                    scratch.clone()
                }
                false => spaced(raw, &mut scratch).to_owned(),
            };
            let outer = self.prefix.len();
            let has_name = push_sanitized(&mut self.prefix, &key, outer == 0);
            self.path.push(key);
            match value {
                JsonValue::Object(range) if self.path.len() <= MAX_DEPTH => {
                    let mut inner = scanner.inside(&range);
                    if has_name {
                        self.prefix.push('_');
                    }
                    if inner.enter(b'{') {
                        self.object(&mut inner)?;
                    }
                }
                JsonValue::Text { .. } | JsonValue::Plain(_) if has_name => {
                    let mut name = self.prefix.clone();
                    if self.stream.has(&name) {
                        name.push_str("_extracted");
                    }
                    let path = &self.path;
                    self.found.entry(name).or_insert_with(|| path.clone());
                }
                _ => {}
            }
            self.path.pop();
            self.prefix.truncate(outer);
        }
        Ok(())
    }
}

impl Logfmt {
    /// The stage without arguments.
    fn all() -> Self {
        Self::new(&LogfmtStage::default()).expect("a stage without fields has no bad field")
    }
}

#[cfg(test)]
mod tests {
    use lgtm_core::model::Labels;

    use super::*;

    #[test]
    fn a_line_is_read_as_what_it_is() {
        let labels = Labels::from_pairs([("app", "x")]).unwrap();
        let stream = StreamLabels::new(&labels);
        let mut probe = FieldProbe::new();
        let mut read = |line: &str| {
            let form = probe.read(&stream, line.as_bytes());
            let mut fields: Vec<String> = probe
                .fields(&stream)
                .map(|(n, v)| format!("{n}={v}"))
                .collect();
            fields.sort();
            (form, fields.join(" "))
        };
        use LineForm::{Json, Logfmt};
        let nested = r#"{"a":{"b c":1,"d":[2]},"app":"y","n":null}"#;
        assert_eq!(read(nested), (Json, "a_b_c=1 app_extracted=y".into()));
        assert_eq!(read("{broken a=1 b="), (Logfmt, "a=1".into()));
        assert_eq!(read(r#"{"a":1 b=2"#), (Logfmt, "b=2".into()));
        assert_eq!(read(""), (Logfmt, String::new()));
        let paths = json_paths(&stream, nested.as_bytes());
        assert_eq!(paths["a_b_c"], ["a", "b c"]);
        assert_eq!(paths["app_extracted"], ["app"]);
        assert_eq!(paths.len(), 2);
    }

    proptest::proptest! {
        #[test]
        fn any_line_has_fields_or_none(line: Vec<u8>, text in "[{}\\[\\]\",:a-c =\\\\]{0,40}") {
            let stream = StreamLabels::new(&Labels::empty());
            for line in [&line[..], text.as_bytes()] {
                FieldProbe::new().read(&stream, line);
                json_paths(&stream, line);
            }
        }
    }
}
