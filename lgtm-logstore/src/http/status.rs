//! What a host says of itself under the query API.

use axum::response::Response;

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
