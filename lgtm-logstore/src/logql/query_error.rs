//! What can go wrong with a query.

use lgtm_core::{Error, ErrorKind};

use super::error::ParseError;

/// Why a query has no answer. The messages are those of Loki where they are known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The query does not parse, or the arguments of a stage are wrong.
    #[error("{0}")]
    Parse(#[from] ParseError),
    /// What is asked for makes no sense: a step of zero, a log query at one time.
    #[error("{0}")]
    Invalid(String),
    /// A series of a metric query carries an error of its pipeline.
    #[error("{0}")]
    Pipeline(String),
    /// The query needs more than it may.
    #[error("{0}")]
    Limit(String),
    /// The query failed on the data that it met.
    #[error("{0}")]
    Execution(String),
    /// What is asked for is switched off.
    #[error("{0}")]
    Disabled(String),
    /// The query took longer than it may.
    #[error(
        "request timed out, decrease the duration of the request or add more label matchers (prefer exact match over regex match) to reduce the amount of data processed"
    )]
    TimedOut,
    /// Reading the data failed.
    #[error(transparent)]
    Source(#[from] Error),
}

impl QueryError {
    /// More series than an answer may have.
    pub(crate) fn too_many_series(max: usize) -> Self {
        Self::Limit(format!(
            "maximum number of series ({max}) reached for a single query; consider reducing query cardinality by adding more specific stream selectors, reducing the time range, or aggregating results with functions like sum(), count() or topk()"
        ))
    }

    /// More steps than a range query may have.
    pub(crate) fn too_many_steps() -> Self {
        Self::Limit("exceeded maximum resolution of 11,000 points per time series. Try increasing the value of the step parameter".into())
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Parse(_) | Self::Invalid(_) | Self::Pipeline(_) => ErrorKind::InvalidInput,
            Self::Limit(_) => ErrorKind::LimitExceeded,
            // The reference answers both with 500.
            Self::Execution(_) | Self::Disabled(_) => ErrorKind::Internal,
            Self::TimedOut => ErrorKind::Timeout,
            Self::Source(e) => e.kind(),
        }
    }
}

/// `Result` with [`QueryError`].
pub(crate) type Result<T, E = QueryError> = std::result::Result<T, E>;
