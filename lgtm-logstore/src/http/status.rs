//! What a host says of itself under the query API, and calls that nobody is here to answer.

use axum::response::Response;

use super::error::ApiError;
use super::json::plain_json;

/// The version of Loki whose API this is: clients switch features on by it.
pub(super) const LOKI_VERSION: &str = "3.6.0";

/// `/status/buildinfo`
pub(super) async fn build_info() -> Response {
    plain_json(format!(
        "{{\"version\":\"{LOKI_VERSION}\",\"revision\":\"lgtm-{}\",\"branch\":\"\",\"buildUser\":\"\",\"buildDate\":\"\",\"goVersion\":\"\"}}",
        env!("CARGO_PKG_VERSION")
    ))
}

/// `/delete`: as of a Loki that does not delete.
pub(super) async fn no_such_page() -> ApiError {
    ApiError::no_such_page()
}
