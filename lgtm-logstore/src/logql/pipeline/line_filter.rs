//! Line filters, compiled.

use lgtm_core::re2::{Anchoring, Dot, Re2};
use memchr::memmem::Finder;

use super::ip::IpRange;
use crate::logql::ast::{LineFilter, LineFilterOp, LineOperand};
use crate::logql::pattern::Pattern;

/// A line filter that can be asked.
#[derive(Debug)]
pub(crate) struct LineTest {
    negated: bool,
    tests: Vec<OneTest>,
    /// What finds the lines that may pass, where that is not the whole test.
    scout: Option<Box<Finder<'static>>>,
}

#[derive(Debug)]
enum OneTest {
    Contains(Box<Finder<'static>>),
    Regex(Box<Re2>),
    Pattern(Box<Pattern>),
    Ip(IpRange),
}

impl LineTest {
    /// # Errors
    /// For a regular expression, pattern or address that is none.
    pub(crate) fn new(filter: &LineFilter) -> Result<Self, String> {
        let one = |operand: &LineOperand| {
            Ok(match (operand, filter.op) {
                (LineOperand::Ip(range), LineFilterOp::Contains | LineFilterOp::NotContains) => {
                    OneTest::Ip(IpRange::parse(range)?)
                }
                (LineOperand::Ip(_), _) => return Err("ip: invalid operation".to_owned()),
                (LineOperand::Text(text), LineFilterOp::Contains | LineFilterOp::NotContains) => {
                    contains(text.as_bytes())
                }
                (LineOperand::Text(text), LineFilterOp::Matches | LineFilterOp::NotMatches) => {
                    let regex = Re2::new(text, Anchoring::Anywhere, Dot::NotNewline)
                        .map_err(|e| format!("error parsing regexp: {e}"))?;
                    OneTest::Regex(Box::new(regex))
                }
                (LineOperand::Text(text), LineFilterOp::Pattern | LineFilterOp::NotPattern) => {
                    OneTest::Pattern(Box::new(Pattern::filter(text)?))
                }
            })
        };
        let mut test = Self {
            negated: filter.op.is_negated(),
            tests: filter
                .operands
                .iter()
                .map(one)
                .collect::<Result<_, String>>()?,
            scout: None,
        };
        let needles = test.needles().into_iter();
        // Shorter ones stand in most lines.
        let longest = needles.filter(|n| n.len() >= 3).max_by_key(|n| n.len());
        test.scout = longest.map(|n| Box::new(Finder::new(n).into_owned()));
        Ok(test)
    }

    /// A filter that keeps lines which contain some bytes.
    pub(crate) fn containing(bytes: &[u8]) -> Self {
        Self {
            negated: false,
            tests: vec![contains(bytes)],
            scout: None,
        }
    }

    /// Texts that every line holds that passes, as far as they are known.
    pub(crate) fn needles(&self) -> Vec<&[u8]> {
        match &self.tests[..] {
            [test] if !self.negated => test.needles(),
            _ => Vec::new(),
        }
    }

    /// Lists of texts: every line that passes holds one of each list, as far as they are known.
    pub(crate) fn choices(&self) -> Vec<Vec<Vec<u8>>> {
        match &self.tests[..] {
            _ if self.negated => Vec::new(),
            [] => Vec::new(),
            [test] => test.choices(),
            tests => {
                // One of the operands must hold, each of which has a text or list of its own.
                let lists: Option<Vec<_>> = tests.iter().map(OneTest::best_list).collect();
                lists.map(|lists| lists.concat()).into_iter().collect()
            }
        }
    }

    /// Whether every line passes.
    pub(crate) fn passes_all(&self) -> bool {
        let is_empty = |t: &OneTest| matches!(t, OneTest::Contains(f) if f.needle().is_empty());
        !self.negated && self.tests.iter().any(is_empty)
    }

    /// What finds the lines, if that is all there is to it.
    pub(crate) fn finder(&self) -> Option<&Finder<'static>> {
        match (self.negated, &self.tests[..]) {
            (false, [OneTest::Contains(finder)]) if !finder.needle().is_empty() => Some(finder),
            _ => None,
        }
    }

    /// What finds the lines that may pass: all others do not.
    pub(crate) fn scout(&self) -> Option<&Finder<'static>> {
        self.finder().or(self.scout.as_deref())
    }

    /// Whether a line passes.
    pub(crate) fn passes(&self, line: &[u8]) -> bool {
        self.tests.iter().any(|t| t.holds(line)) != self.negated
    }
}

/// Whether a text that is found in a line stands in its bytes: what is no UTF-8 is looked at as the replacement character.
fn is_stored_as_found(text: &str) -> bool {
    !text.contains(char::REPLACEMENT_CHARACTER)
}

fn contains(bytes: &[u8]) -> OneTest {
    OneTest::Contains(Box::new(Finder::new(bytes).into_owned()))
}

impl OneTest {
    fn needles(&self) -> Vec<&[u8]> {
        let all: Vec<&[u8]> = match self {
            Self::Contains(finder) => vec![finder.needle()],
            Self::Pattern(pattern) => pattern.literals().collect(),
            Self::Regex(regex) => {
                let texts = regex.required().iter();
                let plain = texts.filter(|t| is_stored_as_found(t));
                plain.map(String::as_bytes).collect()
            }
            Self::Ip(_) => Vec::new(),
        };
        all.into_iter().filter(|n| !n.is_empty()).collect()
    }

    fn choices(&self) -> Vec<Vec<Vec<u8>>> {
        let Self::Regex(regex) = self else {
            return Vec::new();
        };
        let lists = regex.required_any().iter();
        let plain = lists.filter(|list| list.iter().all(|t| is_stored_as_found(t)));
        let bytes = |list: &Vec<String>| list.iter().map(|t| t.clone().into_bytes()).collect();
        plain.map(bytes).collect()
    }

    /// Texts one of which every line holds that passes: the longest.
    fn best_list(&self) -> Option<Vec<Vec<u8>>> {
        let single = self.needles().into_iter().max_by_key(|n| n.len());
        let single = single.map(|needle| vec![needle.to_vec()]);
        let shortest = |list: &Vec<Vec<u8>>| list.iter().map(Vec::len).min();
        single
            .into_iter()
            .chain(self.choices())
            .max_by_key(shortest)
    }

    fn holds(&self, line: &[u8]) -> bool {
        match self {
            Self::Contains(finder) => finder.find(line).is_some(),
            Self::Pattern(pattern) => pattern.is_match(line),
            Self::Ip(range) => range.is_in_line(line),
            Self::Regex(regex) => match std::str::from_utf8(line) {
                Ok(text) => regex.is_match(text),
                // What is no UTF-8 counts as the replacement character.
                Err(_) => regex.is_match(&String::from_utf8_lossy(line)),
            },
        }
    }
}
