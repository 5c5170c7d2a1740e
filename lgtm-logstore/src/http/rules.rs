//! Rules and alerts. No component of this version evaluates any, so that there are none to read; the API to change them is not there.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::error::ApiError;
use super::json::plain_json;
use super::query_api::QueryApi;

fn absent(what: &str) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, format!("{what}\n"))
}

/// `/rules`
pub(super) async fn all(
    State(api): State<Arc<QueryApi>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    api.tenant(&headers)?;
    Err(absent("no rule groups found"))
}

/// `/rules/{namespace}`
pub(super) async fn of_namespace(
    State(api): State<Arc<QueryApi>>,
    Path(_namespace): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    all(State(api), headers).await
}

/// `/rules/{namespace}/{group}`
pub(super) async fn of_group(
    State(api): State<Arc<QueryApi>>,
    Path((_namespace, _group)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    api.tenant(&headers)?;
    Err(absent("group does not exist"))
}

/// `/prometheus/api/v1/rules`
pub(super) async fn evaluated(
    State(api): State<Arc<QueryApi>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    api.tenant(&headers)?;
    Ok(listed("groups"))
}

/// `/prometheus/api/v1/alerts`
pub(super) async fn alerts(
    State(api): State<Arc<QueryApi>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    api.tenant(&headers)?;
    Ok(listed("alerts"))
}

fn listed(what: &str) -> Response {
    plain_json(format!(
        "{{\"status\":\"success\",\"data\":{{\"{what}\":[]}},\"errorType\":\"\",\"error\":\"\"}}"
    ))
}
