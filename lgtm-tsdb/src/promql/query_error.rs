//! What can go wrong with a query.

use lgtm_core::{Error, ErrorKind};

/// Why a query has no answer. The messages are those of Prometheus where it has one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The query does not parse, or its parts do not fit together.
    #[error("{0}")]
    Invalid(String),
    /// The query failed on the data that it met, or needs more than it may.
    #[error("{0}")]
    Execution(String),
    /// The query took longer than it may.
    #[error("query timed out in expression evaluation")]
    TimedOut,
    /// Reading the data failed.
    #[error(transparent)]
    Source(#[from] Error),
}

impl QueryError {
    pub(crate) fn execution(message: impl Into<String>) -> Self {
        Self::Execution(message.into())
    }

    /// What a caller can do about it. An execution error is a `LimitExceeded`: the request was understood and cannot be answered.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::InvalidInput,
            Self::Execution(_) => ErrorKind::LimitExceeded,
            Self::TimedOut => ErrorKind::Timeout,
            Self::Source(e) => e.kind(),
        }
    }
}

impl QueryError {
    /// What became an [`Error`] on its way through the frontend, again. Refusals of the store and of the engine are not told apart.
    pub(crate) fn of(e: Error) -> Self {
        match e {
            Error::InvalidInput(m) => Self::Invalid(m),
            Error::LimitExceeded(m) => Self::Execution(m),
            Error::Timeout { .. } => Self::TimedOut,
            e => Self::Source(e),
        }
    }
}

impl From<QueryError> for Error {
    fn from(e: QueryError) -> Self {
        match e {
            QueryError::Invalid(m) => Self::InvalidInput(m),
            QueryError::Execution(m) => Self::LimitExceeded(m),
            QueryError::TimedOut => Self::Timeout {
                what: "query".into(),
                after: std::time::Duration::ZERO,
            },
            QueryError::Source(e) => e,
        }
    }
}

/// `Result` with [`QueryError`].
pub(crate) type Result<T, E = QueryError> = std::result::Result<T, E>;
