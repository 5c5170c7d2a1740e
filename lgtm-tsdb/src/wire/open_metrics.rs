//! OpenMetrics text: samples of files, as backfilling programs write them and `promtool tsdb dump-openmetrics` does.
//! Source: <https://prometheus.io/docs/specs/om/open_metrics_spec/>, and for quoted names
//! <https://prometheus.io/docs/guides/utf8/>.

use std::fmt::Write;

use lgtm_core::DecodeError;
use lgtm_core::go::push_float;
use lgtm_core::model::{Labels, METRIC_NAME, Sample, TimestampMs};

const WHAT: &str = "OpenMetrics line";
/// The last line of a text.
pub const OPEN_METRICS_END: &str = "# EOF\n";

/// A line of a text.
#[derive(Debug, Clone, PartialEq)]
pub enum OpenMetricsLine {
    /// Labels with the metric's name, and what was seen when.
    Sample(Labels, Sample),
    /// The end of the text: a file without it was cut off.
    End,
    /// A type, a help or a unit, a comment, or nothing.
    Other,
}

impl OpenMetricsLine {
    /// Reads a line, without its line feed. Exemplars are passed over; times are seconds, and become whole milliseconds.
    ///
    /// # Errors
    /// The place and what is wrong there: a sample without a time, too, since samples of files must say when they were taken.
    pub fn parse(line: &str) -> Result<Self, DecodeError> {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line == "# EOF" {
            return Ok(Self::End);
        }
        if line.starts_with('#') || line.trim().is_empty() {
            return Ok(Self::Other);
        }
        let mut text = Text { line, at: 0 };
        let mut pairs: Vec<(String, String)> = Vec::new();
        let name = text.take_while(|c| !matches!(c, '{' | ' ' | '\t'));
        if !name.is_empty() {
            pairs.push((METRIC_NAME.into(), name.to_owned()));
        }
        if text.take('{') {
            text.labels(&mut pairs)?;
        }
        let value = text.number("a value")?;
        let seconds = match text.rest().trim_start() {
            "" => return Err(text.error("there is no time behind the value")),
            rest if rest.starts_with('#') => {
                return Err(text.error("there is an exemplar and no time behind the value"));
            }
            _ => text.number("a time in seconds")?,
        };
        let behind = text.rest().trim_start();
        if !behind.is_empty() && !behind.starts_with('#') {
            return Err(text.error("there is something behind the time that is no exemplar"));
        }
        let ms = (seconds * 1000.0).round();
        if ms.is_nan() || ms.abs() >= 9.2e18 {
            return Err(text.error(&format!("time {seconds} is out of bounds")));
        }
        let labels = Labels::from_pairs(pairs).map_err(|e| text.error(&e.to_string()))?;
        if labels.metric_name().is_none() {
            return Err(text.error("the metric has no name"));
        }
        let t_ms = TimestampMs::new(ms as i64);
        Ok(Self::Sample(labels, Sample { t_ms, value }))
    }
}

/// A line that is being read.
struct Text<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Text<'a> {
    fn rest(&self) -> &'a str {
        &self.line[self.at..]
    }

    fn error(&self, reason: &str) -> DecodeError {
        DecodeError::new(WHAT, self.at as u64, reason)
    }

    fn take(&mut self, wanted: char) -> bool {
        let is_there = self.rest().starts_with(wanted);
        if is_there {
            self.at += wanted.len_utf8();
        }
        is_there
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn skip_spaces(&mut self) {
        self.take_while(|c| c == ' ' || c == '\t');
    }

    /// Labels up to the closing brace. A quoted text that no `=` follows is the metric's name.
    fn labels(&mut self, pairs: &mut Vec<(String, String)>) -> Result<(), DecodeError> {
        loop {
            self.skip_spaces();
            if self.take('}') {
                return Ok(());
            }
            let is_quoted = self.rest().starts_with('"');
            let name = match is_quoted {
                true => self.quoted()?,
                false => self
                    .take_while(|c| !matches!(c, '=' | ',' | '}' | ' ' | '"'))
                    .to_owned(),
            };
            self.skip_spaces();
            if self.take('=') {
                self.skip_spaces();
                let value = self.quoted()?;
                pairs.push((name, value));
            } else if is_quoted {
                pairs.push((METRIC_NAME.into(), name));
            } else {
                return Err(self.error(&format!("label {name:?} has no value")));
            }
            self.skip_spaces();
            if !self.take(',') && !self.rest().starts_with('}') {
                return Err(self.error("neither ',' nor '}' stands behind a label"));
            }
        }
    }

    fn quoted(&mut self) -> Result<String, DecodeError> {
        if !self.take('"') {
            return Err(self.error("a text must begin with a quote"));
        }
        let mut out = String::new();
        loop {
            out.push_str(self.take_while(|c| c != '"' && c != '\\'));
            if self.take('"') {
                return Ok(out);
            }
            if !self.take('\\') {
                return Err(self.error("a text has no closing quote"));
            }
            match self.rest().chars().next() {
                Some('n') => out.push('\n'),
                Some(c @ ('"' | '\\')) => out.push(c),
                _ => return Err(self.error("an escape is none of \\n, \\\" and \\\\")),
            }
            self.at += 1;
        }
    }

    fn number(&mut self, what: &str) -> Result<f64, DecodeError> {
        self.skip_spaces();
        let word = self.take_while(|c| c != ' ' && c != '\t');
        let value = word.parse().ok();
        value.ok_or_else(|| self.error(&format!("{word:?} is not {what}")))
    }
}

/// Appends a sample as a line of its own. A name that is more than letters, digits, `_` and `:` is quoted.
pub fn push_open_metrics(out: &mut String, labels: &Labels, sample: Sample) {
    let name = labels.metric_name().unwrap_or_default();
    let is_plain = |name: &str, colon: bool| {
        let mut bytes = name.bytes();
        let begins = bytes.next().is_some_and(|b| !b.is_ascii_digit());
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || colon && b == b':';
        begins && name.bytes().all(fits)
    };
    let is_plain_name = is_plain(name, true);
    if is_plain_name {
        out.push_str(name);
    }
    let mut between = '{';
    if !is_plain_name && !name.is_empty() {
        out.push(between);
        push_text(out, name);
        between = ',';
    }
    for (name, value) in labels.iter().filter(|l| l.0 != METRIC_NAME) {
        out.push(between);
        between = ',';
        match is_plain(name, false) {
            true => out.push_str(name),
            false => push_text(out, name),
        }
        out.push('=');
        push_text(out, value);
    }
    if between == ',' {
        out.push('}');
    }
    out.push(' ');
    push_float(out, sample.value);
    let (ms, sign) = (sample.t_ms.get(), if sample.t_ms < 0 { "-" } else { "" });
    let _ = write!(out, " {sign}{}", ms.unsigned_abs() / 1000);
    if ms % 1000 != 0 {
        let _ = write!(out, ".{:03}", ms.unsigned_abs() % 1000);
    }
    out.push('\n');
}

fn push_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '"' | '\\' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(line: &str) -> (String, i64, f64) {
        match OpenMetricsLine::parse(line) {
            Ok(OpenMetricsLine::Sample(labels, s)) => (labels.to_string(), s.t_ms.get(), s.value),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn lines_of_files_are_read() {
        assert_eq!(
            sample("up 1 1700000000.5"),
            ("{__name__=\"up\"}".into(), 1_700_000_000_500, 1.0)
        );
        let (labels, t_ms, value) = sample(
            "http_requests_total{code=\"200\", path=\"/a\\\"b\\\\\\n\",} +Inf -1 # {trace_id=\"x\"} 1 2\r",
        );
        assert_eq!((t_ms, value), (-1000, f64::INFINITY));
        assert!(labels.contains("path=\"/a\\\"b\\\\\\n\""), "{labels}");
        assert_eq!(
            sample("{\"a.b\",\"c d\"=\"e\"} 1e3 0").0,
            "{__name__=\"a.b\", c d=\"e\"}"
        );
        assert!(sample("x NaN 1").2.is_nan());
        for line in ["# TYPE up gauge", "# HELP up Is it?", "", "  ", "#"] {
            assert_eq!(OpenMetricsLine::parse(line), Ok(OpenMetricsLine::Other));
        }
        assert_eq!(OpenMetricsLine::parse("# EOF"), Ok(OpenMetricsLine::End));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (line, why) in [
            ("up 1", "no time"),
            ("up 1 # {} 1", "no time"),
            ("up x 1", "\"x\" is not a value"),
            ("up 1 tomorrow", "is not a time"),
            ("up 1 1e300", "out of bounds"),
            ("up 1 NaN", "out of bounds"),
            ("up 1 1 1", "no exemplar"),
            ("up{a=\"b\" 1 1", "neither ','"),
            ("up{a=b} 1 1", "begin with a quote"),
            ("up{a} 1 1", "has no value"),
            ("up{a=\"b 1 1", "no closing quote"),
            ("up{a=\"\\t\"} 1 1", "escape"),
            ("up{a=\"1\",a=\"2\"} 1 1", "duplicate"),
            ("{a=\"1\"} 1 1", "no name"),
            ("up{\"x\"} 1 1", "duplicate"),
        ] {
            let error = OpenMetricsLine::parse(line).expect_err(line).to_string();
            assert!(error.contains(why), "{line}: {error}");
        }
    }

    proptest! {
        #[test]
        fn written_samples_come_back(
            name in "[a-z_:][a-z0-9_:]{0,5}|[ -~é\n]{1,6}",
            labels in proptest::collection::btree_map("[a-z_]{1,4}|[ -~é\n]{1,5}", "[ -~é\n]{1,5}", 0..4),
            t_ms in -4_000_000_000_000i64..4_000_000_000_000,
            value in any::<f64>(),
        ) {
            let mut pairs: Vec<(String, String)> = labels.into_iter().collect();
            pairs.retain(|(n, _)| n != METRIC_NAME);
            pairs.push((METRIC_NAME.into(), name));
            let labels = Labels::from_pairs(pairs).unwrap();
            let mut line = String::new();
            let written = Sample { t_ms: TimestampMs::new(t_ms), value };
            push_open_metrics(&mut line, &labels, written);
            let read = OpenMetricsLine::parse(line.trim_end_matches('\n'));
            let Ok(OpenMetricsLine::Sample(read_labels, read)) = read else {
                panic!("{line}: {read:?}");
            };
            prop_assert_eq!(read_labels, labels);
            prop_assert_eq!(read.t_ms, written.t_ms);
            prop_assert!(read.value == value || value.is_nan() && read.value.is_nan());
        }

        #[test]
        fn any_line_is_read_or_refused(line in "[{}\",=\\\\a1 #.é]{0,30}|.{0,40}") {
            let _ = OpenMetricsLine::parse(&line);
        }
    }
}
