//! What a query says, without running it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;

use super::api::Api;
use super::error::ApiError;
use super::json::push_quoted;
use super::query::{call, success};
use crate::promql::{Expr, parse_with};

/// `/format_query`
pub(super) async fn format_query(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let expr = parsed(&api, query.as_deref(), &headers, &body)?;
    let mut out = String::new();
    push_quoted(&mut out, &expr.pretty());
    Ok(success(&out))
}

/// `/parse_query`
pub(super) async fn parse_query(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let expr = parsed(&api, query.as_deref(), &headers, &body)?;
    Ok(success(&expr.to_json().to_string()))
}

fn parsed(
    api: &Api,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Expr, ApiError> {
    let c = call(api, query, headers, body)?;
    // An empty query is one that does not parse, rather than a parameter that is missing.
    let text = c.params.get("query").unwrap_or_default();
    parse_with(text, api.parser())
        .map_err(|e| ApiError::bad_data(format!("invalid parameter \"query\": {e}")))
}
