//! What a query says, without running it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use lgtm_core::exec::move_to_pool;
use lgtm_core::go::json::push_quoted;
use lgtm_core::http::UrlQuery;

use super::error::ApiError;
use super::query::{call, success};
use super::query_api::QueryApi;
use crate::promql::{Expr, parse_with};

/// A query of the greatest length grows beyond this only by the indents of the greatest depth.
const MAX_PRETTY_BYTES: usize = 8 << 20;

/// `/format_query`
pub(super) async fn format_query(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    move_to_pool().await;
    let expr = parsed(&api, query.as_deref(), &headers, &body)?;
    let text = expr.pretty_within(MAX_PRETTY_BYTES).ok_or_else(|| {
        ApiError::bad_data(format!(
            "the query takes more than {MAX_PRETTY_BYTES} bytes when it is formatted"
        ))
    })?;
    let mut out = String::new();
    push_quoted(&mut out, &text);
    Ok(success(&out))
}

/// `/parse_query`
pub(super) async fn parse_query(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    move_to_pool().await;
    let expr = parsed(&api, query.as_deref(), &headers, &body)?;
    Ok(success(&expr.to_json().to_string()))
}

fn parsed(
    api: &QueryApi,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Expr, ApiError> {
    let c = call(api, query, headers, body)?;
    // An empty query is one that does not parse, rather than a parameter that is missing.
    let text = c.params.get("query").unwrap_or_default();
    parse_with(text, &api.parser)
        .map_err(|e| ApiError::bad_data(format!("invalid parameter \"query\": {e}")))
}
