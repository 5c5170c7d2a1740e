//! What a tenant has and may have: Mimir's `/api/v1/user_stats` and `/api/v1/user_limits`. Plain JSON, no envelope.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use lgtm_core::Error;

use super::error::ApiError;
use super::query_api::QueryApi;

/// `/api/v1/user_stats`
pub(super) async fn stats(
    State(api): State<Arc<QueryApi>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let tenant = api.tenant(&headers)?;
    let stats = api.queries.tenant_stats(&tenant).await?;
    let (series, rate) = (stats.series, stats.samples_per_s);
    Ok(json(format!(
        "{{\"ingestionRate\":{rate},\"numSeries\":{series},\"APIIngestionRate\":{rate},\"RuleIngestionRate\":0}}"
    )))
}

/// `/api/v1/user_limits`: all limits by their names in the settings, where Mimir lists a dozen of them.
pub(super) async fn limits(
    State(api): State<Arc<QueryApi>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let tenant = api.tenant(&headers)?;
    let limits = serde_json::to_string(&*api.limits.for_tenant(&tenant));
    Ok(json(limits.map_err(|e| {
        Error::Internal(format!("limits as JSON: {e}"))
    })?))
}

fn json(body: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
