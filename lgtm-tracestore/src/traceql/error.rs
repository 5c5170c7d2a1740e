//! Why a query is refused.

use std::fmt;

/// Why a query is refused, in the words of Tempo where they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryError {
    /// What is wrong.
    pub message: String,
    /// Line and column, both from 1, of what does not parse. None: it parses, but breaks a rule.
    pub place: Option<(usize, usize)>,
}

impl QueryError {
    /// A query that breaks a rule.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            place: None,
        }
    }

    /// A query that does not parse.
    pub(crate) fn at(place: (usize, usize), message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            place: Some(place),
        }
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "parse error at line {line}, col {column}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for QueryError {}

impl From<QueryError> for lgtm_core::Error {
    fn from(error: QueryError) -> Self {
        Self::InvalidInput(error.to_string())
    }
}
