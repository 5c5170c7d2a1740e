//! What a tenant may do, as far as clients ask: `/drilldown-limits` and `/config/tenant/v1/limits`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use lgtm_core::Error;
use lgtm_core::model::TenantId;
use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::json::plain_json;
use super::query_api::QueryApi;
use super::status::LOKI_VERSION;
use crate::limits::query_limits;

/// The limits that are told.
const TOLD: [&str; 16] = [
    "discover_log_levels",
    "discover_service_name",
    "log_level_fields",
    "max_entries_limit_per_query",
    "max_line_size_truncate",
    "max_query_bytes_read",
    "max_query_length",
    "max_query_lookback",
    "max_query_range",
    "max_query_series",
    "otlp_config",
    "query_timeout",
    "retention_period",
    "retention_stream",
    "volume_enabled",
    "volume_max_series",
];

/// The limits of a tenant by their names in Loki, in order.
fn told(api: &QueryApi, tenant: &TenantId) -> Result<Map<String, Value>, ApiError> {
    let limits = serde_json::to_value(&*query_limits(&api.limits, tenant));
    let mut limits = limits.map_err(|e| Error::Internal(format!("limits as JSON: {e}")))?;
    let mut out = Map::new();
    for name in TOLD {
        let mut value = limits[name].take();
        // Nothing has a unit in Loki too.
        if value == "0" {
            let unit = if name.ends_with("bytes_read") {
                "B"
            } else {
                "s"
            };
            value = json!(format!("0{unit}"));
        }
        out.insert(name.to_owned(), value);
    }
    // What this version does not do.
    for name in ["metric_aggregation_enabled", "pattern_persistence_enabled"] {
        out.insert(name.to_owned(), json!(false));
    }
    Ok(out)
}

/// `/drilldown-limits`
pub(super) async fn drilldown(
    State(api): State<Arc<QueryApi>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let tenant = api.tenants(&headers)?;
    let body = json!({
        "limits": told(&api, &tenant)?,
        "pattern_ingester_enabled": true,
        "version": LOKI_VERSION,
    });
    Ok(plain_json(body.to_string()))
}

/// `/config/tenant/v1/limits`: a line of YAML each, whose values are JSON, which YAML contains.
pub(super) async fn of_tenant(
    State(api): State<Arc<QueryApi>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let tenant = api.tenants(&headers)?;
    let lines = told(&api, &tenant)?;
    let lines = lines
        .iter()
        .map(|(name, value)| format!("{name}: {value}\n"));
    let content_type = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((content_type, lines.collect::<String>()).into_response())
}
