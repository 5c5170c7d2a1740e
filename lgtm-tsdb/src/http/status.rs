//! What a host says of itself under the query API.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;

use super::api::Api;
use super::error::ApiError;
use super::json::push_quoted;
use super::params::Params;
use super::query::success;
use super::tenant::tenant;

/// `/status/buildinfo`. Grafana tells Mimir from Prometheus by `application` and `features`.
pub(super) async fn build_info() -> Response {
    success(concat!(
        "{\"version\":\"",
        env!("CARGO_PKG_VERSION"),
        "\",\"revision\":\"\",\"branch\":\"\",\"buildUser\":\"\",\"buildDate\":\"\",\"goVersion\":\"\",\"application\":\"lgtm\",",
        "\"features\":{\"ruler_config_api\":\"false\",\"alertmanager_config_api\":\"false\",\"query_sharding\":\"false\",\"federated_rules\":\"false\"}}"
    ))
}

/// `/status/tsdb`
pub(super) async fn tsdb(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let tenant = tenant(&headers, api.settings.multitenancy_enabled)?;
    let limit =
        match Params::read(query.as_deref(), &headers, &axum::body::Bytes::new())?.limit()? {
            0 => 10,
            n => n.min(10_000),
        };
    let s = api.ingester.head_stats(&tenant, limit);
    // An empty head's times are the ends of the number line, as in Prometheus.
    let (min, max) = (s.min_ms.unwrap_or(i64::MAX), s.max_ms.unwrap_or(i64::MIN));
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
