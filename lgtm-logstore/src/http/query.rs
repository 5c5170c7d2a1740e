//! Queries, and what all calls of the query API have in common.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use lgtm_core::exec::move_if_heavy;
use lgtm_core::http::UrlQuery;
use lgtm_core::model::{TenantId, TimestampNs};

use super::answer_text::AnswerText;
use super::error::ApiError;
use super::json::json;
use super::params::Params;
use super::query_api::QueryApi;
use super::query_options::Asked;
use crate::logql::Query;

/// What every call begins with.
pub(super) struct Call {
    /// Several, joined, where a query names them.
    pub(super) tenant: TenantId,
    pub(super) params: Params,
    pub(super) now_ns: TimestampNs,
}

pub(super) fn call(
    api: &QueryApi,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Call, ApiError> {
    Ok(Call {
        tenant: api.tenants(headers)?,
        params: Params::read(query, headers, body)?,
        now_ns: api.now_ns(),
    })
}

/// `/query`
pub(super) async fn instant(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    let asked = Asked::of(&headers, &api.settings, &api.parser)?;
    c.params.count("limit")?;
    c.params.direction()?;
    let t_ns = c.params.time("time")?.unwrap_or(c.now_ns);
    let text = c.params.query();
    move_if_heavy(text).await;
    let query = Query::instant(text, t_ns, &api.parser)?.with_options(asked.options.clone());
    answered(&api, &c, &headers, &query, &asked).await
}

/// `/query_range`
pub(super) async fn range(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    let asked = Asked::of(&headers, &api.settings, &api.parser)?;
    let range = c.params.query_range(c.now_ns)?;
    let text = c.params.query();
    move_if_heavy(text).await;
    let query = Query::range(text, range, &api.parser)?.with_options(asked.options.clone());
    answered(&api, &c, &headers, &query, &asked).await
}

async fn answered(
    api: &QueryApi,
    c: &Call,
    headers: &HeaderMap,
    query: &Query,
    asked: &Asked,
) -> Result<Response, ApiError> {
    let answer = api.queries.query(&c.tenant, query).await?;
    let text = AnswerText::new(answer, asked.encoding);
    Ok(json(text.into_body(api.executor(headers))))
}
