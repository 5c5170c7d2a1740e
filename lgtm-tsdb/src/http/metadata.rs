//! What senders say of their metrics.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use lgtm_core::go::json::push_quoted;
use lgtm_core::http::UrlQuery;

use super::error::ApiError;
use super::params::Params;
use super::query::{call, success};
use super::query_api::QueryApi;

/// How many names; a number below 0, or none, is all of them. Other than elsewhere 0 is none at all.
fn most(params: &Params, name: &str) -> Result<usize, ApiError> {
    match params.get(name).map(str::parse::<i64>) {
        None => Ok(usize::MAX),
        Some(Ok(n)) => Ok(usize::try_from(n).unwrap_or(usize::MAX)),
        Some(Err(_)) => Err(ApiError::bad_data(format!("{name} must be a number"))),
    }
}

/// `/metadata`
pub(super) async fn metadata(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &Bytes::new())?;
    let limit = most(&c.params, "limit")?;
    // Of one name, 0 is all entries.
    let per_metric = match most(&c.params, "limit_per_metric")? {
        0 => usize::MAX,
        n => n,
    };
    let mut out = String::from("{");
    let metric = c.params.get("metric");
    let all = api.queries.metadata(&c.tenant, metric).await?;
    let known = all.iter().filter(|(_, e)| !e.is_empty());
    for (i, (name, entries)) in known.take(limit).enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_quoted(&mut out, name);
        out.push_str(":[");
        for (j, m) in entries.iter().take(per_metric).enumerate() {
            out.push_str(if j > 0 { ",{\"type\":" } else { "{\"type\":" });
            push_quoted(&mut out, m.metric_type.as_str());
            out.push_str(",\"help\":");
            push_quoted(&mut out, &m.help);
            out.push_str(",\"unit\":");
            push_quoted(&mut out, &m.unit);
            out.push('}');
        }
        out.push(']');
    }
    out.push('}');
    Ok(success(&out))
}
