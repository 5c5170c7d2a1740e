//! What a host says of itself under the query API, and calls that nobody is here to answer.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::error::ApiError;

/// The version of Tempo whose API this is: clients switch features on by it.
const TEMPO_VERSION: &str = "3.0.2";

/// `/api/echo`
pub(super) async fn echo() -> &'static str {
    "echo\n"
}

/// `/api/status/buildinfo`
pub(super) async fn build_info() -> Response {
    let body = format!(
        "{{\"version\":\"{TEMPO_VERSION}\",\"revision\":\"lgtm-{}\",\"branch\":\"\",\"buildUser\":\"\",\"buildDate\":\"\",\"goVersion\":\"\"}}",
        env!("CARGO_PKG_VERSION")
    );
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// `/api/overrides` and `/api/mcp`: as of a Tempo in which they are not switched on.
pub(super) async fn switched_off() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// `POST /api/v2/traces/diff`: an experiment of Tempo's whose answers have no settled form.
pub(super) async fn trace_diff() -> ApiError {
    ApiError::new(
        StatusCode::NOT_IMPLEMENTED,
        "the difference of two traces is not computed by this server",
    )
}
