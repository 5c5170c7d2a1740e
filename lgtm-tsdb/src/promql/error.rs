//! Why a query does not parse.

use std::fmt;

use super::ast::Span;

/// Why a query does not parse, and where.
///
/// It reads `2:9: parse error: unexpected identifier "x"`: line and column from 1, columns in bytes, as Prometheus counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The bytes at fault.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// Line and column of `span`, once the query is known; none in an empty query.
    place: Option<(usize, usize)>,
}

impl ParseError {
    pub(super) fn new(span: Span, message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
            place: None,
        }
    }

    /// With line and column in `query`.
    pub(super) fn located(mut self, query: &str) -> Self {
        self.place = line_and_column(query, self.span.start);
        self
    }
}

/// Line and column, both from 1, of a byte in a query; columns count bytes. `None` in an empty query or past its end.
pub fn line_and_column(query: &str, at: usize) -> Option<(usize, usize)> {
    if query.is_empty() {
        return None;
    }
    let before = query.as_bytes().get(..at)?;
    let line_start = before
        .iter()
        .rposition(|&b| b == b'\n')
        .map_or(0, |n| n + 1);
    let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
    Some((line, at - line_start + 1))
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "{line}:{column}")?,
            None => f.write_str("unknown position")?,
        }
        write!(f, ": parse error: {}", self.message)
    }
}

impl std::error::Error for ParseError {}
