//! What a query says, without running it: `/format_query`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use lgtm_core::exec::move_to_pool;
use lgtm_core::go::json::{push_quoted, quoted};
use lgtm_core::http::UrlQuery;

use super::error::ApiError;
use super::json::{json, success};
use super::query::call;
use super::query_api::QueryApi;
use crate::logql::parse_with;

/// `/format_query`
pub(super) async fn format_query(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    move_to_pool().await;
    let expr = match parse_with(c.params.query(), &api.parser) {
        Ok(expr) => expr,
        Err(e) => {
            let why = quoted(&e.to_string());
            let body = format!("{{\"status\":\"invalid-query\",\"error\":{why}}}");
            return Ok((StatusCode::BAD_REQUEST, json(body)).into_response());
        }
    };
    let mut out = success(&[]);
    out.push_str(",\"data\":");
    push_quoted(&mut out, &expr.pretty());
    out.push('}');
    Ok(json(out))
}
