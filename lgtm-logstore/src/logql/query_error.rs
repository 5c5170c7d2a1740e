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

    /// `approx_topk` is switched off.
    pub(crate) fn approximations_are_off() -> Self {
        Self::Disabled("approx_topk is not enabled. See -limits.shard_aggregations".into())
    }

    /// What has no answer at one time.
    pub(crate) fn log_query_at_one_time() -> Self {
        Self::Invalid("log queries are not supported as an instant query type, please change your query to a range query type".into())
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

impl QueryError {
    /// What became an [`Error`] on its way through the frontend, again.
    pub(crate) fn of(e: Error) -> Self {
        match e {
            Error::InvalidInput(m) if m.starts_with("parse error") => {
                Self::Parse(ParseError::read(&m))
            }
            Error::InvalidInput(m) if m.starts_with("pipeline error") => Self::Pipeline(m),
            Error::InvalidInput(m) => Self::Invalid(m),
            Error::LimitExceeded(m) => Self::Limit(m),
            Error::Timeout { .. } => Self::TimedOut,
            Error::Internal(m) => Self::Execution(m),
            e => Self::Source(e),
        }
    }
}

impl From<QueryError> for Error {
    fn from(e: QueryError) -> Self {
        match e {
            QueryError::Parse(e) => Self::InvalidInput(e.to_string()),
            QueryError::Invalid(m) | QueryError::Pipeline(m) => Self::InvalidInput(m),
            QueryError::Limit(m) => Self::LimitExceeded(m),
            QueryError::Execution(m) | QueryError::Disabled(m) => Self::Internal(m),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_through_the_frontend_as_they_were() {
        let text = |m: &str| m.to_owned();
        for error in [
            QueryError::Parse(ParseError::new("bad: worse")),
            QueryError::Parse(ParseError::at((3, 14), "unexpected a: b")),
            QueryError::Invalid(text("limit must be a positive value")),
            QueryError::Pipeline(text("pipeline error: 'JSONParserErr' for series: '{}'")),
            QueryError::Limit(text("too much")),
            QueryError::Execution(text("found duplicate series")),
            QueryError::TimedOut,
            QueryError::Source(Error::Unavailable(text("starting"))),
        ] {
            let (before, kind) = (format!("{error:?} {error}"), error.kind());
            let after = QueryError::of(Error::from(error));
            assert_eq!((format!("{after:?} {after}"), after.kind()), (before, kind));
        }
    }
}
