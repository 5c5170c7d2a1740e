//! From kinds of errors to status codes and texts: the one place.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lgtm_core::{Error, ErrorKind};

use crate::limits::PushRefusal;
use crate::logql::QueryError;

/// Seconds after which to come back where nobody knows better.
const RETRY_AFTER_S: u64 = 6;

/// An error as the API tells it: a status and a text.
#[derive(Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) message: String,
    pub(super) retry_after_s: Option<u64>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            retry_after_s: None,
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// What nobody is here to answer, in the words of Go's server.
    pub(super) fn no_such_page() -> Self {
        Self::new(StatusCode::NOT_FOUND, "404 page not found\n")
    }

    /// The error where limits are limits on bytes, as with pushes: 413.
    pub(super) fn of_payload(e: Error) -> Self {
        let too_large = e.kind() == ErrorKind::LimitExceeded;
        let mut out = Self::from(e);
        if too_large {
            out.status = StatusCode::PAYLOAD_TOO_LARGE;
            const BEGIN: &str = "request body too large: ";
            if !out.message.starts_with(BEGIN) {
                out.message.insert_str(0, BEGIN);
            }
        }
        out
    }

    /// The error as the write path tells it: a line ends the text.
    pub(super) fn into_line(mut self) -> Response {
        self.message.push('\n');
        self.into_response()
    }

    pub(super) fn retry_header(&self) -> Option<(header::HeaderName, HeaderValue)> {
        let seconds = self.retry_after_s?;
        Some((header::RETRY_AFTER, HeaderValue::from(seconds)))
    }
}

impl From<PushRefusal> for ApiError {
    fn from(refusal: PushRefusal) -> Self {
        let status = StatusCode::from_u16(refusal.status);
        let may_succeed = matches!(refusal.status, 429 | 503);
        let seconds = refusal.retry_after.map(|d| d.as_secs().max(1));
        Self {
            status: status.unwrap_or(StatusCode::BAD_REQUEST),
            message: refusal.message,
            retry_after_s: may_succeed.then(|| seconds.unwrap_or(RETRY_AFTER_S)),
        }
    }
}

impl From<Error> for ApiError {
    fn from(e: Error) -> Self {
        let code = match e.kind() {
            ErrorKind::InvalidInput | ErrorKind::LimitExceeded => 400,
            ErrorKind::NotFound => 404,
            ErrorKind::RateLimited => 429,
            ErrorKind::Conflict => 409,
            ErrorKind::Unavailable => 503,
            ErrorKind::Timeout => 504,
            ErrorKind::Cancelled => 499,
            _ => 500,
        };
        let retry_after_s = match e.kind() {
            ErrorKind::RateLimited => Some(
                e.retry_after()
                    .map_or(RETRY_AFTER_S, |d| d.as_secs().max(1)),
            ),
            ErrorKind::Unavailable => Some(RETRY_AFTER_S),
            _ => None,
        };
        let message = match e.kind() {
            ErrorKind::Cancelled => "the request was cancelled by the client".to_owned(),
            _ => e.to_string(),
        };
        Self {
            status: StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            message,
            retry_after_s,
        }
    }
}

impl From<QueryError> for ApiError {
    fn from(e: QueryError) -> Self {
        if let QueryError::Source(e) = e {
            return e.into();
        }
        let status = match e.kind() {
            ErrorKind::InvalidInput | ErrorKind::LimitExceeded => StatusCode::BAD_REQUEST,
            ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, e.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let retry = self.retry_header();
        let headers = [
            (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        let mut response = (self.status, headers, self.message).into_response();
        response.headers_mut().extend(retry);
        response
    }
}
