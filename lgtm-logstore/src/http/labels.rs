//! Streams and the names and values of their labels.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use lgtm_core::exec::move_to_pool;
use lgtm_core::http::UrlQuery;
use lgtm_core::model::{Labels, Listed, Matcher, TextSet, TimeRangeNs};

use super::error::ApiError;
use super::json::{json, push_list, push_strings, success};
use super::params::Params;
use super::query::{Call, call};
use super::query_api::QueryApi;
use super::selector::{SelectorRule, optional_selector, selector};
use crate::logql::{QueryError, push_labels};
use crate::select::SelectRequest;

/// What is written in a tenth of a millisecond.
const SMALL_BYTES: usize = 64 << 10;

/// Of names and values both ends of the range are inside.
fn with_end(range: TimeRangeNs) -> TimeRangeNs {
    TimeRangeNs::new(range.min_ns, range.max_ns.saturating_add(1))
}

/// How names and values are answered: in the usual envelope, or in the older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Envelope {
    Usual,
    Older,
}

async fn request(c: &Call) -> Result<SelectRequest, ApiError> {
    let range = with_end(c.params.ordered_range(c.now_ns)?);
    let query = c.params.get("query");
    let matchers = optional_selector(query, SelectorRule::Selective).await?;
    Ok(SelectRequest::new(matchers, range))
}

/// `data` is left out when it is empty, as by Loki.
async fn names(list: Listed<TextSet>, envelope: Envelope) -> Response {
    if list.items.text_bytes() >= SMALL_BYTES {
        move_to_pool().await;
    }
    let mut out = match envelope {
        Envelope::Usual => success(&list.warnings),
        Envelope::Older => String::from("{"),
    };
    if !list.items.is_empty() {
        out.push_str(match envelope {
            Envelope::Usual => ",\"data\":",
            Envelope::Older => "\"values\":",
        });
        push_strings(&mut out, list.items.iter());
    }
    out.push('}');
    json(out)
}

async fn label_names_in(
    api: &QueryApi,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &Bytes,
    envelope: Envelope,
) -> Result<Response, ApiError> {
    let c = call(api, query, headers, body)?;
    let request = request(&c).await?;
    let list = api.queries.label_names(&c.tenant, &request).await?;
    Ok(names(list, envelope).await)
}

async fn label_values_in(
    api: &QueryApi,
    name: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &Bytes,
    envelope: Envelope,
) -> Result<Response, ApiError> {
    let c = call(api, query, headers, body)?;
    let request = request(&c).await?;
    let list = api.queries.label_values(&c.tenant, name, &request).await?;
    Ok(names(list, envelope).await)
}

/// `/labels`, `/label`
pub(super) async fn label_names(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    label_names_in(&api, query.as_deref(), &headers, &body, Envelope::Usual).await
}

/// `/label/{name}/values`
pub(super) async fn label_values(
    State(api): State<Arc<QueryApi>>,
    Path(name): Path<String>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let query = query.as_deref();
    label_values_in(&api, &name, query, &headers, &body, Envelope::Usual).await
}

/// `/api/prom/label`
pub(super) async fn older_label_names(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    label_names_in(&api, query.as_deref(), &headers, &body, Envelope::Older).await
}

/// `/api/prom/label/{name}/values`
pub(super) async fn older_label_values(
    State(api): State<Arc<QueryApi>>,
    Path(name): Path<String>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let query = query.as_deref();
    label_values_in(&api, &name, query, &headers, &body, Envelope::Older).await
}

/// The selectors of `match[]` and `match`: none, or `{}` alone, is all streams.
async fn selectors(params: &Params) -> Result<Vec<Vec<Matcher>>, ApiError> {
    let texts: Vec<&str> = params.all("match[]").chain(params.all("match")).collect();
    let mut all = Vec::new();
    for text in &texts {
        let matchers = selector(text, SelectorRule::Any).await?;
        if matchers.is_empty() && texts.len() > 1 {
            return Err(ApiError::bad_request(
                "match {} not allowed with other matchers",
            ));
        }
        all.push(matchers);
    }
    if all.is_empty() {
        all.push(Vec::new());
    }
    Ok(all)
}

/// Selectors that one call may have: each is looked up by itself.
const MAX_SELECTORS: usize = 100;

/// `/series`
pub(super) async fn series(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    let range = c.params.ordered_range(c.now_ns)?;
    let selectors = selectors(&c.params).await?;
    if selectors.len() > MAX_SELECTORS {
        return Err(ApiError::from(QueryError::Limit(format!(
            "{} selectors in one call, the limit is {MAX_SELECTORS}",
            selectors.len()
        ))));
    }
    let mut all: Listed<Vec<Labels>> = Listed::default();
    for matchers in selectors {
        let request = SelectRequest::new(matchers, range);
        let list = api.queries.series(&c.tenant, &request).await?;
        all.merge(list, |all, part| all.extend(part));
    }
    let bytes: usize = all.items.iter().map(Labels::size_bytes).sum();
    if bytes >= SMALL_BYTES {
        move_to_pool().await;
    }
    all.items.sort();
    all.items.dedup();
    let mut out = success(&all.warnings);
    out.push_str(",\"data\":");
    push_list(&mut out, &all.items, push_labels);
    out.push('}');
    Ok(json(out))
}
