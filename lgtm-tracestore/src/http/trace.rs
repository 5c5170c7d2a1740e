//! A trace by its id: `/api/traces/{id}` and `/api/v2/traces/{id}`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use lgtm_core::exec::{CancelToken, move_if_heavy};
use lgtm_core::http::UrlQuery;

use super::error::ApiError;
use super::form::AnswerForm;
use super::params::Params;
use super::query_api::QueryApi;
use super::trace_answer::{AskedTrace, MadeTrace, TraceVersion};
use crate::components::{FoundTrace, TraceRequest};
use crate::trace::TraceId;
use crate::traceql::{FilterDepth, TraceFilter};

/// Bytes of protobuf that are decoded and printed where they stand.
const INLINE_BYTES: usize = 16 << 10;

/// `/api/traces/{id}`
pub(super) async fn v1(
    State(api): State<Arc<QueryApi>>,
    Path(id): Path<String>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let asked = AskedTrace {
        version: TraceVersion::V1,
        form: AnswerForm::plain(&headers),
        max_bytes: 0,
        filter: None,
    };
    answered(&api, &id, query, &headers, &body, asked).await
}

/// `/api/v2/traces/{id}`
pub(super) async fn v2(
    State(api): State<Arc<QueryApi>>,
    Path(id): Path<String>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let params = Params::read(query.as_deref(), &headers, &body)?;
    let asked = AskedTrace {
        version: TraceVersion::V2,
        form: AnswerForm::of(&headers),
        max_bytes: 0,
        filter: filter(&params).await?,
    };
    answered(&api, &id, query, &headers, &body, asked).await
}

async fn answered(
    api: &QueryApi,
    id: &str,
    query: Option<String>,
    headers: &HeaderMap,
    body: &Bytes,
    mut asked: AskedTrace,
) -> Result<Response, ApiError> {
    let c = api.call(query.as_deref(), headers, body)?;
    let id = TraceId::from_hex(id)?;
    let range = c.params.trace_range()?;
    check_mode(&c.params)?;
    asked.max_bytes = c.bounds.max_trace_bytes;
    let request = TraceRequest {
        id,
        range,
        max_bytes: asked.max_bytes,
    };
    let found = api.queries.find_trace(&c.tenant, &request).await?;
    let warnings = found.end.warnings.clone();
    let form = asked.form;
    let max = asked.max_bytes;
    match made(api, headers, found, asked).await? {
        MadeTrace::Body(body) => Ok(form.answer(body, &warnings)),
        MadeTrace::Missing => Ok(StatusCode::NOT_FOUND.into_response()),
        MadeTrace::TooLarge => Err(ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("trace exceeds max size (max bytes: {max})"),
        )),
    }
}

/// Prints a trace, where it is large in the pool.
async fn made(
    api: &QueryApi,
    headers: &HeaderMap,
    found: FoundTrace,
    asked: AskedTrace,
) -> Result<MadeTrace, ApiError> {
    if found.bytes.len() <= INLINE_BYTES {
        return Ok(asked.make(&found)?);
    }
    let job = move |_: &CancelToken| asked.make(&found);
    let executor = api.guard.executor(headers);
    Ok(executor.run(job, &CancelToken::new()).await?)
}

/// Who is asked: all, whatever a client would have, as an answer is either whole or says that it is not.
fn check_mode(params: &Params) -> Result<(), ApiError> {
    match params.get("mode") {
        None | Some("all" | "ingesters" | "blocks" | "external") => Ok(()),
        Some(other) => Err(ApiError::bad_request(format!(
            "invalid value for mode {other}"
        ))),
    }
}

async fn filter(params: &Params) -> Result<Option<TraceFilter>, ApiError> {
    let Some(text) = params.get("q").filter(|q| !q.trim().is_empty()) else {
        return Ok(None);
    };
    let keeps = match params.get("keep_hierarchy") {
        None => false,
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => true,
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => false,
        Some(other) => {
            return Err(ApiError::bad_request(format!(
                "invalid value for keep_hierarchy: {other}"
            )));
        }
    };
    let ancestors = depth(params, "ancestor_depth", usize::MAX)?;
    let depth = FilterDepth {
        ancestors: if keeps { ancestors } else { 0 },
        descendants: depth(params, "match_depth", 0)?,
    };
    move_if_heavy(text).await;
    let filter = TraceFilter::new(text, depth);
    filter
        .map(Some)
        .map_err(|e| ApiError::bad_request(format!("invalid TraceQL filter: {e}")))
}

fn depth(params: &Params, name: &str, default: usize) -> Result<usize, ApiError> {
    match params.get(name).map(str::parse::<i64>) {
        None => Ok(default),
        Some(Ok(-1)) => Ok(usize::MAX),
        Some(Ok(depth @ 0..)) => Ok(usize::try_from(depth).unwrap_or(usize::MAX)),
        Some(_) => Err(ApiError::bad_request(format!(
            "invalid {name}: must be -1 or a number that is not negative"
        ))),
    }
}
