//! Exemplars.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use lgtm_core::exec::CancelToken;
use lgtm_core::go::push_float;
use lgtm_core::http::UrlQuery;
use lgtm_core::model::TimeRange;

use super::api::Api;
use super::error::ApiError;
use super::json::{push_labels, push_time};
use super::query::{Call, call, success};
use crate::head::{ExemplarBounds, SeriesExemplars};
use crate::promql::QueryError;

/// `/query_exemplars`
pub(super) async fn exemplars(
    State(api): State<Arc<Api>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let executor = api.executor(&headers);
    let timeout = api.frontend.engine().settings().timeout;
    let cancel = CancelToken::new();
    let search = executor.run(
        move |cancel| {
            let c = call(&api, query.as_deref(), &headers, &body)?;
            Ok::<_, ApiError>(success(&listed(&found(&api, &c, cancel)?)))
        },
        &cancel,
    );
    match tokio::time::timeout(timeout, search).await {
        Ok(answer) => answer,
        Err(_) => Err(QueryError::TimedOut.into()),
    }
}

fn found(api: &Api, c: &Call, cancel: &CancelToken) -> Result<SeriesExemplars, ApiError> {
    let start_ms = c.params.time("start")?.unwrap_or(i64::MIN);
    let end_ms = c.params.time("end")?.unwrap_or(i64::MAX - 1);
    if end_ms < start_ms {
        return Err(ApiError::bad_data(
            "end timestamp must not be before start timestamp",
        ));
    }
    let range = TimeRange::inclusive(start_ms, end_ms);
    let expr = api.frontend.engine().parse(c.params.required("query")?)?;
    let selectors = expr.selectors();
    api.parser().check_selectors(selectors.len())?;
    let selectors: Vec<_> = selectors.into_iter().map(|s| s.matchers.clone()).collect();
    let limits = api.limits.for_tenant(&c.tenant);
    let bounds = ExemplarBounds {
        max_series: limits.max_fetched_series_per_query,
        max_bytes: api.settings.max_exemplars_bytes.as_u64(),
    };
    let found = api
        .ingester
        .exemplars(&c.tenant, &selectors, range, bounds, cancel);
    Ok(found?)
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
