//! The logfmt parser: `level=info msg="all is well"`.

use super::json::ParseScratch;
use super::json_scan::push_unescaped;
use super::parse_target::{Offer, ParseTarget, spaced};
use crate::logql::ast::{FieldPath, LogfmtStage};

/// A logfmt stage that can be asked.
#[derive(Debug, Clone)]
pub(crate) struct Logfmt {
    strict: bool,
    keep_empty: bool,
    fields: Vec<FieldPath>,
}

impl Logfmt {
    /// # Errors
    /// For a key that no plain name is.
    pub(crate) fn new(stage: &LogfmtStage) -> Result<Self, String> {
        for field in &stage.fields {
            let bad = field
                .path
                .chars()
                .find(|c| *c != '_' && !c.is_alphanumeric());
            if bad.is_some() || field.path.is_empty() {
                let why = match bad {
                    Some(c) => format!("unexpected char {c}"),
                    None => "syntax error: unexpected $end, expecting KEY".to_owned(),
                };
                return Err(format!("cannot parse expression [{}]: {why}", field.path));
            }
        }
        Ok(Self {
            strict: stage.strict,
            keep_empty: stage.keep_empty,
            fields: stage.fields.clone(),
        })
    }

    /// Whether it makes labels of all pairs.
    pub(super) fn takes_all(&self) -> bool {
        self.fields.is_empty()
    }

    /// Makes labels of a line. False: the entry cannot pass.
    pub(super) fn parse(
        &self,
        line: &[u8],
        target: &mut ParseTarget<'_>,
        scratch: &mut ParseScratch,
    ) -> bool {
        if target.needed.is_none() {
            return true;
        }
        if self.fields.is_empty() {
            self.parse_all(line, target, scratch)
        } else {
            self.parse_fields(line, target, scratch)
        }
    }

    fn parse_all(
        &self,
        line: &[u8],
        target: &mut ParseTarget<'_>,
        scratch: &mut ParseScratch,
    ) -> bool {
        let mut pairs = LogfmtPairs { line, at: 0 };
        loop {
            let pair = match pairs.next() {
                Ok(Some(pair)) => pair,
                Ok(None) => return true,
                Err(_) if !self.strict => continue,
                Err(fault) => {
                    target.fail("LogfmtParserErr", fault.shown());
                    return true;
                }
            };
            if pair.value.is_empty() && !self.keep_empty {
                continue;
            }
            if !target.wants(spaced(pair.key, &mut scratch.name)) {
                continue;
            }
            scratch.text.clear();
            let value = match pair.has_escapes {
                true => match push_unescaped(&mut scratch.text, pair.value, ' ') {
                    Ok(()) => scratch.text.as_str(),
                    Err(_) if !self.strict => continue,
                    Err(_) => {
                        target.fail("LogfmtParserErr", LogfmtFault::Quoted(pairs.at).shown());
                        return true;
                    }
                },
                false => spaced(pair.value, &mut scratch.text),
            };
            match target.add(value) {
                Offer::Continue => {}
                Offer::Enough => return true,
                Offer::Refused => return false,
            }
        }
    }

    /// The fields asked for, of each the last in the line; those that are missing are empty.
    fn parse_fields(
        &self,
        line: &[u8],
        target: &mut ParseTarget<'_>,
        scratch: &mut ParseScratch,
    ) -> bool {
        let mut fault = None;
        for field in &self.fields {
            let mut found: Option<LogfmtPair<'_>> = None;
            let mut pairs = LogfmtPairs { line, at: 0 };
            loop {
                match pairs.next() {
                    Ok(Some(pair)) if pair.is_broken() => {
                        if self.strict {
                            fault = Some(LogfmtFault::Quoted(pairs.at));
                            break;
                        }
                    }
                    Ok(Some(pair)) if pair.key == field.path.as_bytes() => found = Some(pair),
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) if !self.strict => {}
                    Err(e) => {
                        fault = Some(e);
                        break;
                    }
                }
            }
            if found.is_none() && target.labels.is_taken(target.stream, &field.label) {
                continue;
            }
            if !target.wants(&field.label) {
                continue;
            }
            scratch.text.clear();
            if let Some(pair) = found
                && std::str::from_utf8(pair.value).is_ok()
                && push_unescaped(&mut scratch.text, pair.value, ' ').is_err()
            {
                scratch.text.clear();
            }
            if target.set(&scratch.text) == Offer::Refused {
                return false;
            }
        }
        if let Some(fault) = fault {
            target.fail("LogfmtParserErr", fault.shown());
        }
        true
    }
}

/// A key and its value as they stand in the line.
#[derive(Debug, Clone, Copy)]
struct LogfmtPair<'a> {
    key: &'a [u8],
    value: &'a [u8],
    has_escapes: bool,
}

impl LogfmtPair<'_> {
    /// Whether its value has an escape that JSON has not.
    fn is_broken(&self) -> bool {
        self.has_escapes && push_unescaped(&mut String::new(), self.value, ' ').is_err()
    }
}

#[derive(Debug, Clone, Copy)]
enum LogfmtFault {
    Quoted(usize),
    Unexpected(usize, u8),
    Unterminated(usize),
}

impl LogfmtFault {
    fn shown(self) -> String {
        match self {
            Self::Unexpected(at, b) => {
                format!(
                    "logfmt syntax error at pos {} : unexpected '{}'",
                    at + 1,
                    char::from(b)
                )
            }
            Self::Quoted(at) => {
                format!(
                    "logfmt syntax error at pos {} : invalid quoted value",
                    at + 1
                )
            }
            Self::Unterminated(at) => {
                format!(
                    "logfmt syntax error at pos {} : unterminated quoted value",
                    at + 1
                )
            }
        }
    }
}

struct LogfmtPairs<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> LogfmtPairs<'a> {
    /// The next pair; after a fault it goes on behind the next space.
    fn next(&mut self) -> Result<Option<LogfmtPair<'a>>, LogfmtFault> {
        let line = self.line;
        while line.get(self.at).is_some_and(|b| *b <= b' ') {
            self.at += 1;
        }
        if self.at >= line.len() {
            return Ok(None);
        }
        let start = self.at;
        let is_end_of_key = |b: &u8| *b <= b' ' || *b == b'=' || *b == b'"';
        let rest = &line[start..];
        let len = rest.iter().position(is_end_of_key).unwrap_or(rest.len());
        let key = &line[start..start + len];
        self.at = start + len;
        let mut pair = LogfmtPair {
            key,
            value: &[],
            has_escapes: false,
        };
        match line.get(self.at) {
            Some(b'=') if !key.is_empty() => self.at += 1,
            Some(b @ (b'=' | b'"')) => return Err(self.unexpected(self.at, *b)),
            _ => return Ok(Some(pair)),
        }
        match line.get(self.at) {
            Some(b'"') => {
                let (value, has_escapes) = self.quoted()?;
                pair.value = value;
                pair.has_escapes = has_escapes;
            }
            _ => {
                let start = self.at;
                let is_end = |b: &u8| *b <= b' ' || *b == b'=' || *b == b'"';
                let rest = &line[start..];
                let len = rest.iter().position(is_end).unwrap_or(rest.len());
                self.at = start + len;
                if let Some(b @ (b'=' | b'"')) = line.get(self.at) {
                    return Err(self.unexpected(self.at, *b));
                }
                pair.value = &line[start..start + len];
            }
        }
        Ok(Some(pair))
    }

    fn unexpected(&mut self, at: usize, b: u8) -> LogfmtFault {
        let rest = &self.line[at..];
        let skipped = rest.iter().position(|b| *b <= b' ');
        self.at = at + skipped.unwrap_or(rest.len());
        LogfmtFault::Unexpected(at, b)
    }

    fn quoted(&mut self) -> Result<(&'a [u8], bool), LogfmtFault> {
        let start = self.at + 1;
        let mut at = start;
        let mut has_escapes = false;
        while let Some(found) = self
            .line
            .get(at..)
            .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
        {
            at += found;
            if self.line[at] == b'"' {
                self.at = at + 1;
                return Ok((&self.line[start..at], has_escapes));
            }
            has_escapes = true;
            at += 2;
        }
        self.at = self.line.len();
        Err(LogfmtFault::Unterminated(self.line.len()))
    }
}
