//! From kinds of errors to status codes and texts: the one place.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lgtm_core::http::{BodyError, GrpcCode, GrpcStatus, Refusals, TenantError};
use lgtm_core::{Error, ErrorKind};

/// When to come back where nobody knows better.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// An error as the API tells it: a status and a plain text.
#[derive(Debug, Clone)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) message: String,
    pub(super) retry_after: Option<Duration>,
}

/// What the guard of the routes says.
pub(super) const REFUSALS: Refusals = Refusals {
    body: |e| ApiError::of_body(e).into_response(),
    error: |e| ApiError::from(e).into_response(),
};

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            retry_after: None,
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// The error where limits are limits on bytes, as with pushes: 413.
    pub(super) fn of_payload(e: Error) -> Self {
        let is_too_large = e.kind() == ErrorKind::LimitExceeded;
        let mut out = Self::from(e);
        if is_too_large {
            out.status = StatusCode::PAYLOAD_TOO_LARGE;
        }
        out
    }

    fn of_body(e: BodyError) -> Self {
        let mut out = Self::bad_request(e.to_string());
        match e {
            BodyError::TooLarge { .. } => {
                out.status = StatusCode::PAYLOAD_TOO_LARGE;
                out.message += " (server.max_query_body_size)";
            }
            BodyError::NoRoom(e) => return e.into(),
            BodyError::TooSlow(_) => out.status = StatusCode::REQUEST_TIMEOUT,
            _ => {}
        }
        out
    }
}

impl From<Error> for ApiError {
    fn from(e: Error) -> Self {
        let code = match e.kind() {
            ErrorKind::InvalidInput => 400,
            ErrorKind::NotFound => 404,
            ErrorKind::LimitExceeded => 422,
            ErrorKind::RateLimited => 429,
            ErrorKind::Conflict => 409,
            ErrorKind::Unavailable => 503,
            ErrorKind::Timeout => 504,
            ErrorKind::Cancelled => 499,
            _ => 500,
        };
        let retry_after = match e.kind() {
            ErrorKind::RateLimited => e.retry_after(),
            ErrorKind::Unavailable => Some(e.retry_after().unwrap_or(RETRY_AFTER)),
            _ => None,
        };
        Self {
            status: StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            message: e.to_string(),
            retry_after,
        }
    }
}

impl From<TenantError> for ApiError {
    fn from(e: TenantError) -> Self {
        match e {
            TenantError::Invalid(e) => Self::bad_request(e.to_string()),
            missing => Self::new(StatusCode::UNAUTHORIZED, missing.to_string()),
        }
    }
}

/// As calls over gRPC are told.
impl From<ApiError> for GrpcStatus {
    fn from(e: ApiError) -> Self {
        let code = match e.status.as_u16() {
            400 | 413 | 422 => GrpcCode::InvalidArgument,
            401 => GrpcCode::Unauthenticated,
            404 => GrpcCode::NotFound,
            429 => GrpcCode::ResourceExhausted,
            499 => GrpcCode::Cancelled,
            500.. => GrpcCode::Internal,
            _ => GrpcCode::Unknown,
        };
        Self {
            code,
            message: e.message,
            retry_after: e
                .retry_after
                .filter(|_| code == GrpcCode::ResourceExhausted),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        let mut response = (self.status, headers, self.message).into_response();
        if let Some(delay) = self.retry_after {
            let seconds = HeaderValue::from(delay.as_secs().max(1));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}
