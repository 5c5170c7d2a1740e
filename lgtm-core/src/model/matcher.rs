//! Label matchers: `=`, `!=`, `=~`, `!~`.
//!
//! Regular expressions are those of [`re2`](crate::re2), anchored at both ends; `.` matches newlines too, as in Prometheus. Patterns that
//! are only literals, alternations of literals, prefixes or `.*` never reach the regex engine.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::re2::{Anchoring, Dot, Re2};

/// Bytes of a pattern that an error message repeats.
const SHOWN_BYTES: usize = 200;

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
    pattern: Option<Arc<Re2>>,
}

impl Matcher {
    /// A matcher of any kind.
    ///
    /// Regular expressions are RE2's; what RE2 refuses is refused.
    ///
    /// # Errors
    /// `InvalidInput` when the regular expression does not parse, is longer than 1 MiB, nests deeper than 100, or compiles to more
    /// than 32 MiB.
    pub fn new(op: MatchOp, name: &str, value: &str) -> Result<Self> {
        let pattern = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => {
                let pattern = Re2::new(value, Anchoring::Whole, Dot::Any).map_err(|reason| {
                    let shown = value.floor_char_boundary(SHOWN_BYTES);
                    let cut = if shown < value.len() { "..." } else { "" };
                    Error::InvalidInput(format!(
                        "matcher {name}: invalid regular expression {:?}{cut}: {reason}",
                        &value[..shown]
                    ))
                })?;
                Some(Arc::new(pattern))
            }
        };
        Ok(Self {
            name: name.to_owned(),
            op,
            value: value.to_owned(),
            pattern,
        })
    }

    /// `name="value"`.
    pub fn equal(name: &str, value: &str) -> Self {
        Self {
            name: name.to_owned(),
            op: MatchOp::Equal,
            value: value.to_owned(),
            pattern: None,
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

    /// The same test of another label.
    #[must_use]
    pub fn renamed(&self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self.clone()
        }
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
        let hit = match &self.pattern {
            None => self.value == value,
            Some(pattern) => pattern.is_match(value),
        };
        hit == matches!(self.op, MatchOp::Equal | MatchOp::Regex)
    }

    /// Whether a series without the label passes.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// The values that pass, sorted, if they are finitely many and known without scanning. Only for `=` and `=~`.
    pub fn literal_values(&self) -> Option<Vec<String>> {
        match (self.op, &self.pattern) {
            (MatchOp::Equal, _) => Some(vec![self.value.clone()]),
            (MatchOp::Regex, Some(pattern)) => pattern.literals().map(<[_]>::to_vec),
            _ => None,
        }
    }

    /// A prefix that every passing value has; empty if nothing is known. Only for `=` and `=~`.
    pub fn literal_prefix(&self) -> &str {
        match (self.op, &self.pattern) {
            (MatchOp::Equal, _) => &self.value,
            (MatchOp::Regex, Some(pattern)) => pattern.prefix(),
            _ => "",
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

#[cfg(test)]
mod tests;
