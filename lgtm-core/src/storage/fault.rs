//! What an error of a back end means: its kind, whether it may pass, and its words for our callers.
//!
//! Every rule of the guard judges errors by these functions and by nothing else.

use std::error::Error as StdError;
use std::io;
use std::ops::Range;
use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// Failures that the guard itself adds, carried as the source of an [`object_store::Error::Generic`].
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Fault {
    #[error("no answer after {after:?}")]
    TimedOut { after: Duration },
    #[error("object store is not asked for now, since it refused us: {cause}")]
    CircuitOpen { cause: String },
    #[error("{max} requests wait already (max_waiting)")]
    QueueFull { max: usize },
    #[error("object path {path:?} {why}")]
    BadPath { path: String, why: String },
    #[error("body ended at byte {at} of {len}")]
    CutShort { at: u64, len: u64 },
    #[error("range {range:?} goes past the end at byte {end}")]
    PastEnd { range: Range<u64>, end: u64 },
}

impl From<Fault> for object_store::Error {
    fn from(fault: Fault) -> Self {
        Self::Generic {
            store: "lgtm",
            source: Box::new(fault),
        }
    }
}

/// The error and all its causes, outermost first.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |e: &&'a (dyn StdError + 'static)| {
        (*e).source()
    })
}

fn io_kind(error: &object_store::Error) -> Option<io::ErrorKind> {
    chain(error).find_map(|e| e.downcast_ref::<io::Error>().map(io::Error::kind))
}

/// Whether the back end refused our keys.
pub(super) fn is_denied(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    match error {
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => true,
        E::Generic { .. } => io_kind(error) == Some(io::ErrorKind::PermissionDenied),
        _ => false,
    }
}

/// Whether the same request may succeed if it is sent again soon.
pub(super) fn may_pass(error: &object_store::Error) -> bool {
    kind_of(error).is_retryable() && !matches!(fault_in(error), Some(Fault::CircuitOpen { .. }))
}

pub(super) fn fault_in(error: &object_store::Error) -> Option<&Fault> {
    chain(error).find_map(|e| e.downcast_ref::<Fault>())
}

/// The kind of a back end's error.
pub(super) fn kind_of(error: &object_store::Error) -> ErrorKind {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => ErrorKind::NotFound,
        E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. } => {
            ErrorKind::Conflict
        }
        E::InvalidPath { .. } | E::NotSupported { .. } | E::NotImplemented { .. } => {
            ErrorKind::InvalidInput
        }
        E::UnknownConfigurationKey { .. } => ErrorKind::InvalidInput,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => ErrorKind::Internal,
        E::Generic { .. } => generic_kind(error),
        _ => ErrorKind::Internal,
    }
}

fn generic_kind(error: &object_store::Error) -> ErrorKind {
    if let Some(fault) = fault_in(error) {
        return match fault {
            Fault::TimedOut { .. } => ErrorKind::Timeout,
            Fault::CircuitOpen { .. } | Fault::CutShort { .. } => ErrorKind::Unavailable,
            Fault::QueueFull { .. } => ErrorKind::RateLimited,
            Fault::BadPath { .. } | Fault::PastEnd { .. } => ErrorKind::InvalidInput,
        };
    }
    if let Some(kind) = transport_kind(error) {
        return kind;
    }
    if let Some(kind) = io_kind(error) {
        return kind_of_io(kind);
    }
    kind_of_text(&error.to_string())
}

fn kind_of_io(kind: io::ErrorKind) -> ErrorKind {
    use io::ErrorKind as K;
    match kind {
        // On a disk a folder, or a name below an object, is no object.
        K::NotFound | K::NotADirectory | K::IsADirectory => ErrorKind::NotFound,
        K::TimedOut => ErrorKind::Timeout,
        K::ConnectionRefused
        | K::ConnectionReset
        | K::ConnectionAborted
        | K::NotConnected
        | K::BrokenPipe
        | K::Interrupted
        | K::UnexpectedEof
        | K::WouldBlock
        | K::HostUnreachable
        | K::NetworkUnreachable
        | K::NetworkDown
        | K::ResourceBusy
        // A full disk empties again; the caller must know that this is not its fault.
        | K::StorageFull
        | K::QuotaExceeded => ErrorKind::Unavailable,
        K::InvalidInput | K::InvalidFilename => ErrorKind::InvalidInput,
        _ => ErrorKind::Internal,
    }
}

#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
fn transport_kind(error: &object_store::Error) -> Option<ErrorKind> {
    use object_store::client::{HttpError, HttpErrorKind as K};
    let kind = chain(error).find_map(|e| e.downcast_ref::<HttpError>().map(HttpError::kind))?;
    Some(match kind {
        K::Timeout => ErrorKind::Timeout,
        K::Connect | K::Request | K::Interrupted => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    })
}

#[cfg(not(any(feature = "s3", feature = "gcs", feature = "azure")))]
fn transport_kind(_: &object_store::Error) -> Option<ErrorKind> {
    None
}

/// How `object_store` begins to complain about a range.
const RANGE_WORDS: [&str; 4] = [
    "Wanted range starting at",
    "Range started at",
    "is larger than system memory limit",
    "Requested range was invalid",
];

/// The type that carries an HTTP status is private to `object_store` (0.14), so the status is read from its message; the test
/// `http_statuses_are_read_from_the_words_of_object_store` holds the words fast.
fn kind_of_text(text: &str) -> ErrorKind {
    let status = text
        .split_once("status code: ")
        .and_then(|(_, rest)| rest.get(..3)?.parse::<u16>().ok());
    match status {
        Some(429) => ErrorKind::RateLimited,
        Some(408) => ErrorKind::Timeout,
        // S3 says 503 both when it throttles and when it is down; `SlowDown` tells.
        Some(503) if text.contains("SlowDown") => ErrorKind::RateLimited,
        Some(500..=599) => ErrorKind::Unavailable,
        Some(416) => ErrorKind::InvalidInput,
        Some(400..=499) => ErrorKind::Internal,
        _ if text.contains("<Code>SlowDown</Code>") => ErrorKind::RateLimited,
        _ if text.contains("<Code>InternalError</Code>") => ErrorKind::Unavailable,
        // The words of two more private errors, about ranges that the object does not have.
        _ if RANGE_WORDS.iter().any(|words| text.contains(words)) => ErrorKind::InvalidInput,
        _ => ErrorKind::Internal,
    }
}

/// The error for our callers, by the one table that judges errors of object stores. `place` is the object with its bucket's prefix,
/// `operation` what was tried (`"get"`).
///
/// Kinds: `NotFound`; `Conflict` (exists already, precondition); `InvalidInput` (a path or a range that cannot be); `RateLimited` (429,
/// `SlowDown`, too many wait already); `Timeout` (our deadline); `Unavailable` (5xx, a broken connection, an open circuit: it may
/// pass); `Internal` for all that will be refused again, such as our keys.
pub fn store_error(operation: &str, place: &str, error: &object_store::Error) -> Error {
    let message = || format!("{operation} {place}: {error}");
    match kind_of(error) {
        ErrorKind::NotFound => Error::NotFound(format!("object {place}")),
        ErrorKind::Conflict => Error::Conflict(message()),
        ErrorKind::InvalidInput => Error::InvalidInput(message()),
        ErrorKind::RateLimited => Error::RateLimited {
            message: message(),
            retry_after: None,
        },
        ErrorKind::Timeout => match fault_in(error) {
            Some(Fault::TimedOut { after }) => Error::Timeout {
                what: format!("{operation} {place}"),
                after: *after,
            },
            _ => Error::Unavailable(message()),
        },
        ErrorKind::Unavailable => Error::Unavailable(message()),
        _ => Error::Internal(message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(source: impl Into<Box<dyn StdError + Send + Sync>>) -> object_store::Error {
        object_store::Error::Generic {
            store: "test",
            source: source.into(),
        }
    }

    #[test]
    fn http_statuses_are_read_from_the_words_of_object_store() {
        let said = |what: &str| {
            generic(format!(
                "Error performing PUT http://h/b/k in 3ms - Server returned non-2xx status code: {what}"
            ))
        };
        for (what, kind) in [
            ("429 Too Many Requests: ", ErrorKind::RateLimited),
            (
                "503 Service Unavailable: <Code>SlowDown</Code>",
                ErrorKind::RateLimited,
            ),
            ("503 Service Unavailable: ", ErrorKind::Unavailable),
            ("500 Internal Server Error: ", ErrorKind::Unavailable),
            ("416 Range Not Satisfiable: ", ErrorKind::InvalidInput),
            ("400 Bad Request: ", ErrorKind::Internal),
        ] {
            assert_eq!(kind_of(&said(what)), kind, "{what}");
        }
    }

    #[test]
    fn io_errors_keep_their_meaning_under_layers() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);
        let error = |kind| generic(Outer(io::Error::from(kind)));
        assert!(may_pass(&error(io::ErrorKind::ConnectionReset)));
        assert!(!may_pass(&error(io::ErrorKind::PermissionDenied)));
        assert!(is_denied(&error(io::ErrorKind::PermissionDenied)));
        assert_eq!(
            kind_of(&error(io::ErrorKind::StorageFull)),
            ErrorKind::Unavailable
        );
        assert_eq!(
            kind_of(&error(io::ErrorKind::NotADirectory)),
            ErrorKind::NotFound
        );
    }

    #[test]
    fn a_time_out_names_the_object_and_the_deadline() {
        let after = Duration::from_secs(30);
        let error = store_error("get", "logs/t/x", &Fault::TimedOut { after }.into());
        assert_eq!(error.to_string(), "get logs/t/x timed out after 30s");
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
}
