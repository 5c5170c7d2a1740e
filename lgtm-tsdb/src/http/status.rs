//! What a host says of itself under the query API.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use lgtm_core::go::json::push_quoted;
use lgtm_core::http::UrlQuery;
use lgtm_core::model::TimestampMs;

use super::error::ApiError;
use super::params::Params;
use super::query::success;
use super::query_api::QueryApi;

/// `/status/buildinfo`. Grafana tells Mimir from Prometheus by `application` and `features`.
pub(super) async fn build_info(State(api): State<Arc<QueryApi>>) -> Response {
    let is_sharded = api.queries.cuts_by_series();
    success(&format!(
        concat!(
            "{{\"version\":\"",
            env!("CARGO_PKG_VERSION"),
            "\",\"revision\":\"\",\"branch\":\"\",\"buildUser\":\"\",\"buildDate\":\"\",\"goVersion\":\"\",\"application\":\"lgtm\",",
            "\"features\":{{\"ruler_config_api\":\"false\",\"alertmanager_config_api\":\"false\",\"query_sharding\":\"{}\",\"federated_rules\":\"false\"}}}}"
        ),
        is_sharded
    ))
}

/// `/status/config`, `/status/flags`, `/status/runtimeinfo`: nothing, as in Mimir. What the operator set is no matter of a tenant;
/// it stands at the host's own `/config`.
pub(super) async fn nothing() -> Response {
    success("{}")
}

/// `/targets`: nothing is scraped here.
pub(super) async fn targets() -> Response {
    success("{\"activeTargets\":[],\"droppedTargets\":[],\"droppedTargetCounts\":{}}")
}

/// `/alertmanagers`: none is notified from here.
pub(super) async fn alertmanagers() -> Response {
    success("{\"activeAlertmanagers\":[],\"droppedAlertmanagers\":[]}")
}

/// Entries of each list.
fn list_length(params: &Params) -> Result<usize, ApiError> {
    match params.get("limit").map(str::parse::<i64>) {
        None => Ok(10),
        Some(Ok(n @ 1..=10_000)) => Ok(n as usize),
        Some(Ok(n)) if n > 10_000 => Err(ApiError::bad_data("limit must not exceed 10000")),
        Some(_) => Err(ApiError::bad_data("limit must be a positive number")),
    }
}

/// `/status/tsdb`
pub(super) async fn tsdb(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let tenant = api.tenant(&headers)?;
    let params = Params::read(query.as_deref(), &headers, &axum::body::Bytes::new())?;
    let limit = list_length(&params)?;
    let s = api.queries.head_stats(&tenant, limit).await?;
    // An empty head's times are the ends of the number line, as in Prometheus.
    let (min, max) = (
        s.min_ms.unwrap_or(TimestampMs::MAX),
        s.max_ms.unwrap_or(TimestampMs::MIN),
    );
    let mut out = format!(
        "{{\"headStats\":{{\"numSeries\":{},\"numLabelPairs\":{},\"chunkCount\":{},\"minTime\":{min},\"maxTime\":{max}}}",
        s.series, s.label_pairs, s.chunks
    );
    for (name, list) in [
        ("seriesCountByMetricName", &s.series_by_metric),
        ("labelValueCountByLabelName", &s.values_by_name),
        ("memoryInBytesByLabelName", &s.bytes_by_name),
        ("seriesCountByLabelValuePair", &s.series_by_pair),
    ] {
        out.push_str(&format!(",\"{name}\":["));
        for (i, (key, value)) in list.iter().enumerate() {
            out.push_str(if i > 0 { ",{\"name\":" } else { "{\"name\":" });
            push_quoted(&mut out, key);
            out.push_str(&format!(",\"value\":{value}}}"));
        }
        out.push(']');
    }
    out.push('}');
    Ok(success(&out))
}
