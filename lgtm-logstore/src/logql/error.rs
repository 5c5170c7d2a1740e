//! Why a query does not parse.

use std::fmt;

/// Why a query does not parse, and where if one place is at fault, in the words of Loki.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong.
    pub message: String,
    /// Line and column, both from 1.
    pub place: Option<(usize, usize)>,
}

impl ParseError {
    /// The fault that prints so.
    pub(crate) fn read(text: &str) -> Self {
        let placed = || {
            let rest = text.strip_prefix("parse error at line ")?;
            let (line, rest) = rest.split_once(", col ")?;
            let (column, message) = rest.split_once(": ")?;
            Some(Self::at(
                (line.parse().ok()?, column.parse().ok()?),
                message,
            ))
        };
        let whole = || Self::new(text.strip_prefix("parse error : ").unwrap_or(text));
        placed().unwrap_or_else(whole)
    }

    /// A fault of the query as a whole.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            place: None,
        }
    }

    /// A selector that could select all streams.
    pub(crate) fn not_selective() -> Self {
        Self::new(
            "queries require at least one regexp or equality matcher that does not have an empty-compatible value. For instance, app=~\".*\" does not meet this requirement, but app=~\".+\" will",
        )
    }

    /// A fault at a place.
    pub(crate) fn at(place: (usize, usize), message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            place: Some(place),
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "parse error at line {line}, col {column}: ")?,
            None => f.write_str("parse error : ")?,
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ParseError {}
