//! Errors on their way: a status that any client of gRPC reads, and beside it all that the other side needs to have the same error again.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::codec::Reader;
use crate::codec::protobuf::{bytes_tag, put_bytes_field, put_varint_field, skip, varint_tag};
use crate::error::{DecodeError, Error, Result, first_chars};
use crate::http::{GrpcStatus, percent_decoded};

/// `{ kind = 1, text = 2, wait_us = 3, place = 4, offset = 5 }`, base64.
const ERROR: HeaderName = HeaderName::from_static("lgtm-error-bin");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// Characters of a text: all headers of an answer together have some kilobytes.
const MAX_CHARS: usize = 1500;

/// What stands where the damaged bytes of another process are told of.
const ELSEWHERE: &str = "data held elsewhere";

/// The variants, as they are numbered on the wire. Numbers are never used again.
mod kind {
    pub(super) const INVALID_INPUT: u64 = 1;
    pub(super) const NOT_FOUND: u64 = 2;
    pub(super) const LIMIT_EXCEEDED: u64 = 3;
    pub(super) const RATE_LIMITED: u64 = 4;
    pub(super) const CONFLICT: u64 = 5;
    pub(super) const UNAVAILABLE: u64 = 6;
    pub(super) const EXHAUSTED: u64 = 7;
    pub(super) const TIMEOUT: u64 = 8;
    pub(super) const CORRUPT: u64 = 9;
    pub(super) const CANCELLED: u64 = 10;
    pub(super) const INTERNAL: u64 = 11;
}

/// The parts of an error.
#[derive(Debug, Default)]
struct ErrorParts<'a> {
    kind: u64,
    text: &'a str,
    wait: Option<Duration>,
    place: &'a str,
    offset: u64,
}

/// The trailers that tell of an error.
pub(super) fn trailers_of(error: &Error) -> HeaderMap {
    let mut out = GrpcStatus::from(error.clone()).trailers();
    let told = STANDARD_NO_PAD.encode(encode(error));
    if let Ok(told) = HeaderValue::try_from(told) {
        out.insert(ERROR, told);
    }
    out
}

/// The trailers of an answer that is whole.
pub(super) fn trailers_of_success() -> HeaderMap {
    GrpcStatus::ok().trailers()
}

/// How an answer with these trailers, or headers, ended; `None` if they do not say.
pub(super) fn told_by(headers: &HeaderMap) -> Option<Result<()>> {
    let code = headers.get(STATUS)?.to_str().ok()?.parse::<u8>().ok()?;
    if code == 0 {
        return Some(Ok(()));
    }
    let told = headers.get(ERROR).and_then(|v| {
        let bytes = STANDARD_NO_PAD.decode(v.as_bytes()).ok()?;
        decode(&bytes).ok()?
    });
    Some(Err(told.unwrap_or_else(|| {
        let text = headers.get(MESSAGE).map(|m| percent_decoded(m.as_bytes()));
        of_code(code, text.unwrap_or_default())
    })))
}

/// The error of a status that says no more, as other implementations send it.
fn of_code(code: u8, text: String) -> Error {
    match code {
        1 => Error::Cancelled(text),
        3 | 9 | 11 => Error::InvalidInput(text),
        4 => Error::Timeout {
            what: text,
            after: Duration::ZERO,
        },
        5 => Error::NotFound(text),
        6 | 10 => Error::Conflict(text),
        8 => Error::RateLimited {
            message: text,
            retry_after: None,
        },
        14 => Error::Unavailable(text),
        _ => Error::Internal(format!("{text} (gRPC status {code})")),
    }
}

fn encode(error: &Error) -> Vec<u8> {
    let reason;
    let parts = |kind, text| ErrorParts {
        kind,
        text,
        ..ErrorParts::default()
    };
    let parts = match error {
        Error::InvalidInput(text) => parts(kind::INVALID_INPUT, text),
        Error::NotFound(text) => parts(kind::NOT_FOUND, text),
        Error::LimitExceeded(text) => parts(kind::LIMIT_EXCEEDED, text),
        Error::RateLimited {
            message,
            retry_after,
        } => ErrorParts {
            wait: *retry_after,
            ..parts(kind::RATE_LIMITED, message)
        },
        Error::Conflict(text) => parts(kind::CONFLICT, text),
        Error::Unavailable(text) => parts(kind::UNAVAILABLE, text),
        Error::Exhausted(text) => parts(kind::EXHAUSTED, text),
        Error::Timeout { what, after } => ErrorParts {
            wait: Some(*after),
            ..parts(kind::TIMEOUT, what)
        },
        Error::Corrupt { place, source } => {
            reason = format!("{}: {}", source.what, source.reason);
            ErrorParts {
                place,
                offset: source.offset,
                ..parts(kind::CORRUPT, &reason)
            }
        }
        Error::Cancelled(text) => parts(kind::CANCELLED, text),
        Error::Internal(text) => parts(kind::INTERNAL, text),
    };
    let mut out = Vec::new();
    put_varint_field(&mut out, 1, parts.kind);
    put_bytes_field(&mut out, 2, first_chars(parts.text, MAX_CHARS).as_bytes());
    if let Some(wait) = parts.wait {
        let us = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        put_varint_field(&mut out, 3, us);
    }
    put_bytes_field(&mut out, 4, first_chars(parts.place, MAX_CHARS).as_bytes());
    put_varint_field(&mut out, 5, parts.offset);
    out
}

/// `None` for a kind that this version does not know.
fn decode(bytes: &[u8]) -> Result<Option<Error>, DecodeError> {
    let mut r = Reader::new("error", bytes);
    let mut parts = ErrorParts::default();
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == varint_tag(1) => parts.kind = r.uvarint()?,
            tag if tag == bytes_tag(2) => parts.text = r.str()?,
            tag if tag == varint_tag(3) => parts.wait = Some(Duration::from_micros(r.uvarint()?)),
            tag if tag == bytes_tag(4) => parts.place = r.str()?,
            tag if tag == varint_tag(5) => parts.offset = r.uvarint()?,
            tag => skip(&mut r, tag)?,
        }
    }
    let text = parts.text.to_owned();
    Ok(Some(match parts.kind {
        kind::INVALID_INPUT => Error::InvalidInput(text),
        kind::NOT_FOUND => Error::NotFound(text),
        kind::LIMIT_EXCEEDED => Error::LimitExceeded(text),
        kind::RATE_LIMITED => Error::RateLimited {
            message: text,
            retry_after: parts.wait,
        },
        kind::CONFLICT => Error::Conflict(text),
        kind::UNAVAILABLE => Error::Unavailable(text),
        kind::EXHAUSTED => Error::Exhausted(text),
        kind::TIMEOUT => Error::Timeout {
            what: text,
            after: parts.wait.unwrap_or_default(),
        },
        kind::CORRUPT => {
            Error::corrupt(parts.place, DecodeError::new(ELSEWHERE, parts.offset, text))
        }
        kind::CANCELLED => Error::Cancelled(text),
        kind::INTERNAL => Error::Internal(text),
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all() -> Vec<Error> {
        let text = || "50 % zu viel\nfür dich".to_owned();
        vec![
            Error::InvalidInput(text()),
            Error::NotFound(text()),
            Error::LimitExceeded(text()),
            Error::RateLimited {
                message: text(),
                retry_after: Some(Duration::from_millis(1500)),
            },
            Error::RateLimited {
                message: text(),
                retry_after: None,
            },
            Error::Conflict(text()),
            Error::Unavailable(text()),
            Error::Exhausted(text()),
            Error::Timeout {
                what: text(),
                after: Duration::from_secs(3),
            },
            Error::Cancelled(text()),
            Error::Internal(text()),
        ]
    }

    #[test]
    fn errors_arrive_as_they_were() {
        for error in all() {
            let told = told_by(&trailers_of(&error)).unwrap().unwrap_err();
            assert_eq!(told.to_string(), error.to_string());
            assert_eq!(told.kind(), error.kind());
            assert_eq!(told.retry_after(), error.retry_after());
        }
        let damaged = Error::corrupt("a/b", DecodeError::new("index", 7, "bad"));
        let told = told_by(&trailers_of(&damaged)).unwrap().unwrap_err();
        assert_eq!(told.kind(), damaged.kind());
        let text = told.to_string();
        assert!(text.contains("a/b") && text.contains("byte 7") && text.contains("index: bad"));
        assert!(told_by(&trailers_of_success()).unwrap().is_ok());
        assert!(told_by(&HeaderMap::new()).is_none());
    }

    #[test]
    fn the_status_of_other_servers_is_understood() {
        for error in all() {
            let mut trailers = trailers_of(&error);
            trailers.remove(ERROR);
            let told = told_by(&trailers).unwrap().unwrap_err();
            assert!(
                told.to_string().contains("50 % zu viel\nfür dich"),
                "{told}"
            );
        }
        let long = Error::Internal("ü".repeat(100_000));
        let trailers = trailers_of(&long);
        let bytes: usize = trailers.values().map(HeaderValue::len).sum();
        assert!(bytes < 16 << 10, "{bytes}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
