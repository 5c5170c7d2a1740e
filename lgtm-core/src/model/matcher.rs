//! Label matchers: `=`, `!=`, `=~`, `!~`.
//!
//! Regular expressions are anchored at both ends, `.` matches newlines too, as in Prometheus. Patterns that are only literals,
//! alternations of literals, prefixes or `.*` never reach the regex engine.

use std::fmt;

use regex_automata::meta::Regex;

use crate::error::{Error, Result};

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

/// Tests one label of a series. A series without the label is tested with the empty string.
#[derive(Debug, Clone)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    regex: Option<Regex>,
}

impl Matcher {
    /// A matcher of any kind.
    ///
    /// # Errors
    /// `InvalidInput` when the regular expression does not parse or is too large when compiled.
    pub fn new(op: MatchOp, name: &str, value: &str) -> Result<Self> {
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => {
                Some(Regex::new(&format!("^(?s:{value})$")).map_err(|e| {
                    Error::InvalidInput(format!(
                        "matcher {name}: invalid regular expression {value:?}: {e}"
                    ))
                })?)
            }
        };
        Ok(Self {
            name: name.to_owned(),
            op,
            value: value.to_owned(),
            regex,
        })
    }

    /// `name="value"`.
    pub fn equal(name: &str, value: &str) -> Self {
        Self {
            name: name.to_owned(),
            op: MatchOp::Equal,
            value: value.to_owned(),
            regex: None,
        }
    }

    /// `name=~"pattern"`.
    ///
    /// # Errors
    /// As [`Matcher::new`].
    pub fn regex(name: &str, pattern: &str) -> Result<Self> {
        Self::new(MatchOp::Regex, name, pattern)
    }

    /// The label's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The operator.
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// The value or pattern as written.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a label value passes.
    pub fn matches(&self, value: &str) -> bool {
        let hit = match &self.regex {
            None => self.value == value,
            Some(re) => re.is_match(value),
        };
        hit == matches!(self.op, MatchOp::Equal | MatchOp::Regex)
    }

    /// Whether a series without the label passes.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// The only values that can pass, if they are finitely many and known without scanning. Only for `=` and `=~`.
    pub fn literal_values(&self) -> Option<Vec<String>> {
        (self.op == MatchOp::Equal).then(|| vec![self.value.clone()])
    }

    /// A prefix that every passing value has; empty if nothing is known. Only for `=` and `=~`.
    pub fn literal_prefix(&self) -> &str {
        if self.op == MatchOp::Equal {
            &self.value
        } else {
            ""
        }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (self.op, &self.name, &self.value) == (other.op, &other.name, &other.value)
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match self.op {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        };
        write!(f, "{}{op}{:?}", self.name, self.value)
    }
}
