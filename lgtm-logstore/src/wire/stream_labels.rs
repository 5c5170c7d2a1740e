//! The labels of a stream: as a request spells them, and as the head knows them.
//!
//! Text is Prometheus' metric grammar, `{app="x", env="y"}`; see `docs/format/push.md`. The canonical form is each name and value behind its
//! length, in order of names; equal streams have equal bytes.

use std::borrow::Cow;
use std::fmt;

use lgtm_core::codec::{Reader, put_bytes};
use lgtm_core::error::first_chars;
use lgtm_core::go::{quote, quote_char, unquote};
use lgtm_core::model::Labels;
use lgtm_core::{Error, Result};
use smallvec::SmallVec;

/// The label that every stream has.
pub const SERVICE_NAME: &str = "service_name";
/// Its value when no label tells.
const UNKNOWN_SERVICE: &str = "unknown_service";
/// Labels of streams that the system itself writes: nothing is added to them.
const INTERNAL: [&str; 2] = ["__aggregated_metric__", "__pattern__"];
/// The label of streams that bring what was missed.
const BACKFILL: &str = "__backfill__";
const BACKFILL_SHARD: &str = "__backfill_shard__";
/// Labels that only the system gives.
const RESERVED: [&str; 2] = [BACKFILL, BACKFILL_SHARD];

/// The labels of a stream in canonical form, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLabels<'a>(&'a [u8]);

impl<'a> StreamLabels<'a> {
    /// Takes bytes that [`LabelPairs::encode`] wrote.
    #[inline]
    pub fn new(canonical: &'a [u8]) -> Self {
        Self(canonical)
    }

    /// The canonical bytes.
    #[inline]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Names and values in order. A name may stand twice: then the stream is refused when it is validated. Ends early at bytes that are not
    /// canonical.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone {
        let mut r = Reader::new("stream labels", self.0);
        std::iter::from_fn(move || {
            if r.is_empty() {
                None
            } else {
                Some((r.str().ok()?, r.str().ok()?))
            }
        })
    }

    /// As a label set of its own.
    ///
    /// # Errors
    /// `InvalidInput` when a name stands twice.
    pub fn to_labels(self) -> Result<Labels> {
        Labels::from_sorted(self.iter())
    }

    /// Whether the stream brings what was missed, so that its entries may be old.
    pub fn is_backfill(self) -> bool {
        self.iter().any(|(name, _)| name == BACKFILL)
    }

    /// Labels that the sender chose: without those that every stream gets.
    pub fn chosen(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.iter()
            .filter(|(name, _)| *name != SERVICE_NAME && !RESERVED.contains(name))
    }

    /// Whether the stream is one that the system itself writes.
    pub fn is_internal(self) -> bool {
        self.iter().any(|(name, _)| INTERNAL.contains(&name))
    }
}

/// `{a="b", c="d"}`, values quoted as in Go.
impl fmt::Display for StreamLabels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (n, (name, value)) in self.iter().enumerate() {
            let gap = if n > 0 { ", " } else { "" };
            write!(f, "{gap}{name}={}", quote(value))?;
        }
        f.write_str("}")
    }
}

/// Labels of a stream being put together. Usual streams need no allocation.
#[derive(Debug, Default)]
pub struct LabelPairs<'a>(SmallVec<[(Cow<'a, str>, Cow<'a, str>); 16]>);

/// Bytes that a label takes here.
pub(super) const PAIR_BYTES: usize = size_of::<(Cow<'_, str>, Cow<'_, str>)>();

impl<'a> LabelPairs<'a> {
    /// Adds a label as it is.
    pub fn push(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        self.0.push((name.into(), value.into()));
    }

    /// The value of the first label with a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| &**v)
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the text of a label set.
    ///
    /// # Errors
    /// `InvalidInput` with line and column, as Loki words it.
    pub fn parse(text: &'a str) -> Result<Self> {
        let mut parser = Parser { text, at: 0 };
        let pairs = parser.label_set();
        pairs.map_err(|Fault { at, reason }| {
            let before = &text[..at];
            let line = before.matches('\n').count() + 1;
            let column = before.rfind('\n').map_or(at, |newline| at - newline - 1) + 1;
            let reason = first_chars(&reason, 400);
            unparsable(&format!("{line}:{column}: parse error: {reason}"))
        })
    }

    /// Drops empty values and sorts by name; adds `service_name` when it is absent and `sources` is not empty: the first of these labels that
    /// the stream has, or else `unknown_service`; and what tells a backfill, where this is part of one.
    ///
    /// # Errors
    /// `InvalidInput` for labels that only the system may give.
    pub fn finish(&mut self, sources: &[String], backfill_shard: Option<&str>) -> Result<()> {
        self.0.retain(|(_, value)| !value.is_empty());
        if let Some((name, _)) = self.0.iter().find(|(n, _)| RESERVED.contains(&&**n)) {
            return Err(unparsable(&format!("label {name} is reserved")));
        }
        let is_internal = self.0.iter().any(|(n, _)| INTERNAL.contains(&&**n));
        if !sources.is_empty() && !is_internal && self.get(SERVICE_NAME).is_none() {
            let service = sources.iter().find_map(|name| self.get(name));
            let service =
                service.map_or(Cow::Borrowed(UNKNOWN_SERVICE), |s| Cow::Owned(s.to_owned()));
            self.0.push((Cow::Borrowed(SERVICE_NAME), service));
        }
        if let Some(shard) = backfill_shard {
            self.push(BACKFILL, "true");
            self.push(BACKFILL_SHARD, shard.to_owned());
        }
        if !self.0.is_sorted_by(|a, b| a.0 <= b.0) {
            self.0.sort_by(|a, b| a.0.cmp(&b.0));
        }
        Ok(())
    }

    /// Appends the canonical form of finished labels.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.0 {
            put_bytes(out, name.as_bytes());
            put_bytes(out, value.as_bytes());
        }
    }

    /// Bytes that [`LabelPairs::encode`] writes at most.
    pub(super) fn encoded_bytes(&self) -> usize {
        let lengths = self.0.iter().map(|(n, v)| n.len() + v.len() + 10);
        lengths.sum()
    }

    /// Checks names that did not come as text: by the same grammar, with the same words.
    ///
    /// # Errors
    /// As [`LabelPairs::parse`] of the text that these labels have.
    pub(super) fn check_names(&self) -> Result<()> {
        if self.0.iter().all(|(name, _)| is_label_name(name)) {
            return Ok(());
        }
        let mut sorted: Vec<_> = self.0.iter().collect();
        sorted.sort();
        let labels = sorted
            .iter()
            .map(|(name, v)| format!("{name}={}", quote(v)));
        let text = format!("{{{}}}", labels.collect::<Vec<_>>().join(", "));
        match LabelPairs::parse(&text) {
            Err(e) => Err(e),
            Ok(_) => Err(unparsable("a label name has characters of the grammar")),
        }
    }
}

fn unparsable(reason: &str) -> Error {
    Error::InvalidInput(format!("couldn't parse labels: {reason}"))
}

fn is_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let is_first = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    bytes.next().is_some_and(is_first) && bytes.all(|b| is_first(b) || b.is_ascii_digit())
}

struct Fault {
    at: usize,
    reason: String,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn fail<T>(&self, reason: impl Into<String>) -> Result<T, Fault> {
        let (at, reason) = (self.at, reason.into());
        Err(Fault { at, reason })
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.at += rest.len() - trimmed.len();
    }

    fn takes(&mut self, c: char) -> bool {
        let is_next = self.peek() == Some(c);
        if is_next {
            self.at += c.len_utf8();
        }
        is_next
    }

    fn name(&mut self) -> Option<&'a str> {
        let rest = &self.text[self.at..];
        let is_part = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        let len = rest.bytes().take_while(is_part).count();
        let name = &rest[..len];
        if !is_label_name(name) {
            return None;
        }
        self.at += len;
        Some(name)
    }

    fn label_set(&mut self) -> Result<LabelPairs<'a>, Fault> {
        let mut pairs = LabelPairs::default();
        self.skip_space();
        if let Some(metric) = self.name() {
            pairs.push("__name__", metric);
            self.skip_space();
        }
        if !self.takes('{') {
            return match self.peek() {
                None if !pairs.is_empty() => Ok(pairs),
                None => self.fail("unexpected end of input"),
                c => self.fail(format!("unexpected character: {}", quote_char(c))),
            };
        }
        loop {
            self.skip_space();
            if self.takes('}') {
                break;
            }
            let name = match self.name() {
                Some(name) => name,
                None => return self.unexpected(),
            };
            self.skip_space();
            if !self.takes('=') {
                return self.unexpected();
            }
            self.skip_space();
            let value = self.value()?;
            pairs.push(name, value);
            self.skip_space();
            if !self.takes(',') && self.peek() != Some('}') {
                return self.unexpected();
            }
        }
        self.skip_space();
        match self.peek() {
            None => Ok(pairs),
            c => self.fail(format!("unexpected character: {}", quote_char(c))),
        }
    }

    fn unexpected<T>(&self) -> Result<T, Fault> {
        match self.peek() {
            None => self.fail("unexpected end of input inside braces"),
            c => self.fail(format!(
                "unexpected character inside braces: {}",
                quote_char(c)
            )),
        }
    }

    /// A string in quotes of any kind.
    fn value(&mut self) -> Result<Cow<'a, str>, Fault> {
        let delimiter = match self.text.as_bytes().get(self.at) {
            Some(&d @ (b'"' | b'\'' | b'`')) => d,
            _ => return self.unexpected(),
        };
        let start = self.at;
        let bytes = &self.text.as_bytes()[start + 1..];
        let mut len = 0;
        let mut has_escape = false;
        loop {
            match bytes.get(len) {
                None | Some(b'\n') if delimiter != b'`' => {
                    return self.fail("unterminated quoted string");
                }
                None => return self.fail("unterminated raw string"),
                Some(b'\\') if delimiter != b'`' => {
                    has_escape = true;
                    len += escape_len(&bytes[len..]).map_or_else(
                        || {
                            self.at = start + 1 + len;
                            self.fail("unknown escape sequence")
                        },
                        Ok,
                    )?;
                }
                Some(b) if *b == delimiter => break,
                Some(_) => len += 1,
            }
        }
        self.at = start + len + 2;
        let token = &self.text[start..self.at];
        if !has_escape {
            return Ok(Cow::Borrowed(&token[1..=len]));
        }
        match String::from_utf8(unquote(token)) {
            Ok(value) => Ok(Cow::Owned(value)),
            Err(_) => self.fail("invalid UTF-8 in the value of a label"),
        }
    }
}

/// Bytes of an escape that begins here; `None` for one that Go does not have.
fn escape_len(bytes: &[u8]) -> Option<usize> {
    let digits = |from: usize, count: usize, radix: u32| {
        let digits = bytes.get(from..from + count)?;
        let is_digit = |b: &u8| (*b as char).is_digit(radix);
        digits.iter().all(is_digit).then_some(from + count)
    };
    match bytes.get(1)? {
        b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'\\' | b'"' | b'\'' => Some(2),
        b'0'..=b'7' => digits(1, 3, 8),
        b'x' => digits(2, 2, 16),
        b'u' => digits(2, 4, 16),
        b'U' => digits(2, 8, 16),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> Result<String> {
        let mut pairs = LabelPairs::parse(text)?;
        pairs.finish(&[], None)?;
        let mut out = Vec::new();
        pairs.encode(&mut out);
        Ok(StreamLabels::new(&out).to_string())
    }

    #[test]
    fn label_sets_read_as_in_loki() {
        for (text, wanted) in [
            ("{}", "{}"),
            (r#"{b="c",a="",}"#, r#"{b="c"}"#),
            ("{ a = 'x\"y' ,\n b=`\\d` }", r#"{a="x\"y", b="\\d"}"#),
            (r#"{a="\u00e9\x41\101\n"}"#, "{a=\"éAA\\n\"}"),
            (r#"up{a="b"}"#, r#"{__name__="up", a="b"}"#),
        ] {
            assert_eq!(canonical(text).unwrap(), wanted, "{text}");
        }
        for (text, reason) in [
            (
                "{bad-name=\"x\"}",
                "1:5: parse error: unexpected character inside braces: '-'",
            ),
            (
                "{näme=\"x\"}",
                "1:3: parse error: unexpected character inside braces: 'ä'",
            ),
            (
                "{1a=\"x\"}",
                "1:2: parse error: unexpected character inside braces: '1'",
            ),
            (
                "{a=\"x\"",
                "1:7: parse error: unexpected end of input inside braces",
            ),
            ("{a=\"x", "1:4: parse error: unterminated quoted string"),
            ("{a=\"\\q\"}", "1:5: parse error: unknown escape sequence"),
            (
                "{a=\"\\xff\"}",
                "1:10: parse error: invalid UTF-8 in the value of a label",
            ),
            ("", "1:1: parse error: unexpected end of input"),
            ("{a=\"b\"} x", "1:9: parse error: unexpected character: 'x'"),
        ] {
            let error = canonical(text).unwrap_err().to_string();
            assert_eq!(error, format!("couldn't parse labels: {reason}"), "{text}");
        }
    }

    #[test]
    fn the_service_is_the_first_label_of_the_list_that_the_stream_has() {
        let sources = ["app".to_owned(), "job".to_owned()];
        for (text, service) in [
            (r#"{job="j", app="a"}"#, Some("a")),
            (r#"{job="j", app=""}"#, Some("j")),
            (r#"{x="y"}"#, Some("unknown_service")),
            (r#"{service_name="s", app="a"}"#, Some("s")),
            (r#"{__pattern__="s", app="a"}"#, None),
        ] {
            let mut pairs = LabelPairs::parse(text).unwrap();
            pairs.finish(&sources, None).unwrap();
            assert_eq!(pairs.get(SERVICE_NAME), service, "{text}");
        }
        let mut reserved = LabelPairs::parse(r#"{__backfill__="x"}"#).unwrap();
        assert!(reserved.finish(&sources, None).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*|[{}=,a-c\"'`\\\\ \n]*") {
            if let Ok(printed) = canonical(&text) {
                prop_assert_eq!(canonical(&printed).unwrap(), printed);
            }
        }
    }
}
