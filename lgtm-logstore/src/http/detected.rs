//! Labels and fields that logs turn out to have: `/detected_labels`, `/detected_fields`, `/detected_field/{name}/values`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use lgtm_core::exec::move_if_heavy;
use lgtm_core::go::json::push_quoted;
use lgtm_core::http::UrlQuery;
use lgtm_core::model::{Listed, TimeRangeNs};

use super::error::ApiError;
use super::json::{json, push_list, push_strings};
use super::query::{Call, call};
use super::query_api::QueryApi;
use super::query_options::Asked;
use super::selector::{SelectorRule, optional_selector};
use crate::components::{
    DetectedFieldsRequest, detected_field_values, detected_fields, detected_labels,
};
use crate::logql::{Query, QueryRange};
use crate::select::SelectRequest;

/// Fields of an answer, and lines that are looked at, where a request does not say. Loki's numbers.
const LIMIT: usize = 1000;
const LINE_LIMIT: usize = 100;

/// `/detected_labels`
pub(super) async fn labels(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    let range = c.params.ordered_range(c.now_ns)?;
    let matchers = optional_selector(c.params.get("query"), SelectorRule::Selective).await?;
    let range = TimeRangeNs::new(range.min_ns, range.max_ns.saturating_add(1));
    let request = SelectRequest::new(matchers, range);
    let found = detected_labels(&*api.queries, &c.tenant, &request).await?;
    let mut out = String::from("{");
    if !found.items.is_empty() {
        out.push_str("\"detectedLabels\":");
        push_list(&mut out, &found.items, |out, label| {
            out.push_str("{\"label\":");
            push_quoted(out, &label.label);
            out.push_str(&format!(",\"cardinality\":{}}}", label.cardinality));
        });
    }
    out.push('}');
    Ok(json(out))
}

async fn request(
    api: &QueryApi,
    c: &Call,
    headers: &HeaderMap,
) -> Result<DetectedFieldsRequest, ApiError> {
    let range = c.params.ordered_range(c.now_ns)?;
    // Checked as everywhere, though nothing here has steps.
    c.params.duration("step")?;
    let limit = match c.params.count("limit")? {
        Some(limit) => limit,
        None => c.params.count("field_limit")?.unwrap_or(LIMIT),
    };
    let range = QueryRange {
        limit: c.params.count("line_limit")?.unwrap_or(LINE_LIMIT),
        ..QueryRange::new(range.min_ns, range.max_ns)
    };
    let text = c.params.query();
    move_if_heavy(text).await;
    let options = Asked::of(headers, &api.settings, &api.parser)?.options;
    let query = Query::range(text, range, &api.parser)?.with_options(options);
    Ok(DetectedFieldsRequest { query, limit })
}

/// `/detected_fields`
pub(super) async fn fields(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    let request = request(&api, &c, &headers).await?;
    let executor = api.executor(&headers);
    // Of several tenants Loki tells nothing either.
    let found = if c.tenant.is_joined() {
        Listed::default()
    } else {
        detected_fields(&*api.queries, &executor, &c.tenant, &request).await?
    };
    let mut out = String::from("{");
    if !found.items.is_empty() {
        out.push_str("\"fields\":");
        push_list(&mut out, &found.items, |out, field| {
            out.push_str("{\"label\":");
            push_quoted(out, &field.label);
            out.push_str(&format!(
                ",\"type\":\"{}\",\"cardinality\":{},\"parsers\":",
                field.kind.as_str(),
                field.cardinality
            ));
            if field.parsers.is_empty() {
                out.push_str("null")
            } else {
                push_strings(out, field.parsers.iter().map(|p| p.as_str()))
            }
            if !field.json_path.is_empty() {
                out.push_str(",\"jsonPath\":");
                push_strings(out, &field.json_path);
            }
            out.push('}');
        });
        out.push(',');
    }
    out.push_str(&format!("\"limit\":{}}}", request.limit));
    Ok(json(out))
}

/// `/detected_field/{name}/values`
pub(super) async fn values(
    State(api): State<Arc<QueryApi>>,
    Path(name): Path<String>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    let request = request(&api, &c, &headers).await?;
    let executor = api.executor(&headers);
    let found = if c.tenant.is_joined() {
        Listed::default()
    } else {
        detected_field_values(&*api.queries, &executor, &c.tenant, &name, &request).await?
    };
    let mut out = String::from("{");
    if !found.items.is_empty() {
        out.push_str("\"values\":");
        push_strings(&mut out, &found.items);
        out.push(',');
    }
    out.push_str(&format!("\"limit\":{}}}", request.limit));
    Ok(json(out))
}
