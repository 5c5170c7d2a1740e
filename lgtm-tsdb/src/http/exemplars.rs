//! Exemplars.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use lgtm_core::exec::{move_if_heavy, move_to_pool};
use lgtm_core::go::push_float;
use lgtm_core::http::UrlQuery;
use lgtm_core::model::{TimeRange, TimestampMs};

use super::error::ApiError;
use super::json::{push_labels, push_time};
use super::query::{Call, call, success};
use super::query_api::QueryApi;
use crate::head::{ExemplarBounds, ExemplarsRequest, SeriesExemplars};
use crate::promql::{QueryError, parse_with};

/// `/query_exemplars`
pub(super) async fn exemplars(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    let text = c.params.required("query")?;
    move_if_heavy(text).await;
    let request = request(&api, &c, text)?;
    let found = api.queries.exemplars(&c.tenant, &request).await?;
    let count = found.len() + found.iter().map(|(_, all)| all.len()).sum::<usize>();
    if count > FEW_EXEMPLARS {
        move_to_pool().await;
    }
    Ok(success(&listed(&found)))
}

/// So many series and exemplars are written in a fraction of a millisecond.
const FEW_EXEMPLARS: usize = 500;

fn request(api: &QueryApi, c: &Call, text: &str) -> Result<ExemplarsRequest, ApiError> {
    let start_ms = c.params.time("start")?.unwrap_or(TimestampMs::MIN);
    let end_ms = c.params.time("end")?.unwrap_or(TimeRange::ALL.last_ms());
    if end_ms < start_ms {
        return Err(ApiError::bad_data(
            "end timestamp must not be before start timestamp",
        ));
    }
    let expr = parse_with(text, &api.parser).map_err(|e| QueryError::Invalid(e.to_string()))?;
    let selectors = expr.selectors();
    api.parser.check_selectors(selectors.len())?;
    let limits = api.limits.for_tenant(&c.tenant);
    Ok(ExemplarsRequest {
        selectors: selectors.into_iter().map(|s| s.matchers.clone()).collect(),
        range: TimeRange::inclusive(start_ms, end_ms),
        bounds: ExemplarBounds {
            max_series: limits.max_fetched_series_per_query,
            max_bytes: api.settings.max_exemplars_bytes.as_u64(),
        },
    })
}

/// As JSON.
fn listed(found: &SeriesExemplars) -> String {
    let mut out = String::from("[");
    for (i, (labels, exemplars)) in found.iter().enumerate() {
        out.push_str(if i > 0 {
            ",{\"seriesLabels\":"
        } else {
            "{\"seriesLabels\":"
        });
        push_labels(&mut out, labels);
        out.push_str(",\"exemplars\":[");
        for (j, e) in exemplars.iter().enumerate() {
            out.push_str(if j > 0 {
                ",{\"labels\":"
            } else {
                "{\"labels\":"
            });
            push_labels(&mut out, &e.labels);
            out.push_str(",\"value\":\"");
            push_float(&mut out, e.value);
            out.push_str("\",\"timestamp\":");
            push_time(&mut out, e.t_ms);
            out.push('}');
        }
        out.push_str("]}");
    }
    out.push(']');
    out
}
