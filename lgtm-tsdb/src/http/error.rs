//! From kinds of errors to status codes and Prometheus' error types: the one place.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lgtm_core::go::json::quoted;
use lgtm_core::{Error, ErrorKind};

use super::peer_ids::{rejection, with_peer_id};
use crate::components::PushOutcome;
use crate::promql::QueryError;

/// An error as the query API tells it.
#[derive(Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) error_type: &'static str,
    pub(super) message: String,
    pub(super) retry_after_s: Option<u64>,
}

impl ApiError {
    pub(super) fn bad_data(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error_type: "bad_data",
            message: message.into(),
            retry_after_s: None,
        }
    }

    pub(super) fn unauthorized(message: &str) -> Self {
        let (status, error_type) = (StatusCode::UNAUTHORIZED, "unauthorized");
        Self {
            status,
            error_type,
            message: message.to_owned(),
            retry_after_s: None,
        }
    }

    pub(super) fn unsupported(message: String) -> Self {
        let (status, error_type) = (StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_data");
        Self {
            status,
            error_type,
            message,
            retry_after_s: None,
        }
    }

    /// The error as the write path tells it: the message alone. A sender tries again on 429 and 5xx and drops on other codes.
    pub(super) fn into_plain(self) -> Response {
        let mut response = (self.status, format!("{}\n", self.message)).into_response();
        if let Some(seconds) = self.retry_after_s {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    /// What a sender is told of a request that was not stored whole: `None` when it was. It is to try again when room may be found for
    /// the rest, and not when the rest breaks a rule.
    pub(super) fn of_outcome(outcome: &PushOutcome) -> Option<Self> {
        let message = rejection(outcome.fault()?);
        Some(if outcome.report.is_over_capacity {
            Self::from(Error::Unavailable(message))
        } else {
            Self::bad_data(message)
        })
    }

    /// The error where limits are limits on bytes, as with pushes: 413.
    pub(super) fn of_payload(e: Error) -> Self {
        let too_large = e.kind() == ErrorKind::LimitExceeded;
        let mut out = Self::from(e);
        if too_large {
            out.status = StatusCode::PAYLOAD_TOO_LARGE;
        }
        out
    }
}

impl From<Error> for ApiError {
    fn from(e: Error) -> Self {
        let (code, error_type) = match e.kind() {
            ErrorKind::InvalidInput => (400, "bad_data"),
            ErrorKind::NotFound => (404, "not_found"),
            ErrorKind::LimitExceeded => (422, "execution"),
            ErrorKind::RateLimited => (429, "too_many_requests"),
            ErrorKind::Conflict => (409, "conflict"),
            ErrorKind::Unavailable => (503, "unavailable"),
            ErrorKind::Timeout => (503, "timeout"),
            ErrorKind::Cancelled => (499, "canceled"),
            _ => (500, "internal"),
        };
        let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after_s = match e.kind() {
            ErrorKind::RateLimited => Some(e.retry_after().map_or(6, |d| d.as_secs().max(1))),
            ErrorKind::Unavailable => Some(6),
            _ => None,
        };
        Self {
            status,
            error_type,
            message: with_peer_id(e.to_string()),
            retry_after_s,
        }
    }
}

impl From<QueryError> for ApiError {
    fn from(e: QueryError) -> Self {
        match e {
            QueryError::Invalid(m) => Self::bad_data(format!("invalid parameter \"query\": {m}")),
            QueryError::Execution(message) => Self {
                status: StatusCode::UNPROCESSABLE_ENTITY,
                error_type: "execution",
                message: with_peer_id(message),
                retry_after_s: None,
            },
            QueryError::Source(e) => e.into(),
            e => Self {
                status: StatusCode::SERVICE_UNAVAILABLE,
                error_type: "timeout",
                message: e.to_string(),
                retry_after_s: None,
            },
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = format!(
            "{{\"status\":\"error\",\"errorType\":\"{}\",\"error\":{}}}",
            self.error_type,
            quoted(&self.message)
        );
        (
            self.status,
            [(header::CONTENT_TYPE, "application/json")],
            body,
        )
            .into_response()
    }
}
