//! Errors and their kinds.
//!
//! Every crate of the workspace has one error enum whose `kind()` is an [`ErrorKind`]. HTTP and RPC status codes, and the
//! decision to retry, come from the kind and from nothing else.

use std::time::Duration;

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller sent something wrong (out-of-order samples too). Sending it again will not help.
    InvalidInput,
    /// The thing named does not exist.
    NotFound,
    /// A configured bound would be exceeded.
    LimitExceeded,
    /// Too much in too short a time; may succeed later.
    RateLimited,
    /// Somebody else changed the thing first; read again, then retry.
    Conflict,
    /// The component cannot serve now (starting, stopping, disk full, back end down); may succeed later.
    Unavailable,
    /// No answer within the deadline. A write that timed out may have happened.
    Timeout,
    /// Stored bytes are not what their format demands.
    Corrupt,
    /// The caller went away.
    Cancelled,
    /// A fault of this program.
    Internal,
}

impl ErrorKind {
    /// Whether the same request may succeed later. A write should be repeated only when it is idempotent.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::RateLimited | Self::Unavailable | Self::Timeout)
    }

    /// The kind's name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::NotFound => "not_found",
            Self::LimitExceeded => "limit_exceeded",
            Self::RateLimited => "rate_limited",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Corrupt => "corrupt",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }
}

/// Bytes that do not follow their format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}: {reason}")]
pub struct DecodeError {
    /// What was being decoded, e.g. `"index symbol table"`.
    pub what: &'static str,
    /// Byte offset, from the start of what the decoder was given.
    pub offset: u64,
    /// What is wrong with it, in words.
    pub reason: String,
}

impl DecodeError {
    /// A decode error for `what` at byte `offset`.
    pub fn new(what: &'static str, offset: u64, reason: impl Into<String>) -> Self {
        Self {
            what,
            offset,
            reason: reason.into(),
        }
    }
}

/// The error of `lgtm-core`.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller's value breaks a rule; the message names the value and the rule.
    #[error("{0}")]
    InvalidInput(String),
    /// The thing named does not exist.
    #[error("{0} not found")]
    NotFound(String),
    /// A configured bound would be exceeded; the message names the setting and the bound.
    #[error("{0}")]
    LimitExceeded(String),
    /// Too much in too short a time.
    #[error("{message}")]
    RateLimited {
        /// What was exceeded.
        message: String,
        /// When to try again, if known.
        retry_after: Option<Duration>,
    },
    /// Somebody else changed the thing first.
    #[error("{0}")]
    Conflict(String),
    /// The component cannot serve now.
    #[error("{0}")]
    Unavailable(String),
    /// What this component may use is used up now, by whomever; doing the same at once again would only use more.
    #[error("{0}")]
    Exhausted(String),
    /// No answer within the deadline.
    #[error("{what} timed out after {after:?}")]
    Timeout {
        /// The operation.
        what: String,
        /// The deadline that passed.
        after: Duration,
    },
    /// Stored bytes are damaged.
    #[error("{place}: {source}")]
    Corrupt {
        /// Where the bytes stand: object path, file, tenant and block.
        place: String,
        /// What is wrong with them.
        source: DecodeError,
    },
    /// The caller went away.
    #[error("{0} was cancelled")]
    Cancelled(String),
    /// A fault of this program or its machine.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// The error's kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidInput(_) => ErrorKind::InvalidInput,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::LimitExceeded(_) => ErrorKind::LimitExceeded,
            Self::RateLimited { .. } => ErrorKind::RateLimited,
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::Unavailable(_) | Self::Exhausted(_) => ErrorKind::Unavailable,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Cancelled(_) => ErrorKind::Cancelled,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }

    /// When to try again, if the refusing side said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Damaged bytes at `place` (object path, file name, tenant and block).
    pub fn corrupt(place: impl Into<String>, source: DecodeError) -> Self {
        Self::Corrupt {
            place: place.into(),
            source,
        }
    }
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
/// The first `n` characters of a text; costs a walk over those. For messages, which must not repeat all that was sent.
pub fn first_chars(text: &str, n: usize) -> &str {
    text.char_indices()
        .nth(n)
        .map_or(text, |(at, _)| &text[..at])
}
