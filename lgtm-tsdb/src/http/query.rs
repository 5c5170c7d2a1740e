//! Queries, and what all calls of the query API have in common.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use lgtm_core::exec::{Executor, move_if_heavy};
use lgtm_core::http::UrlQuery;
use lgtm_core::model::TenantId;

use super::answer_text::AnswerText;
use super::error::ApiError;
use super::json::strings;
use super::params::Params;
use super::query_api::QueryApi;
use crate::components::check_text;
use crate::promql::{Answer, Query, QueryOptions};
use crate::select::Listed;

/// Steps that one range query may have, in all of Prometheus' family.
const MAX_STEPS: i64 = 11_000;

/// What every call begins with.
pub(super) struct Call {
    pub(super) tenant: TenantId,
    pub(super) params: Params,
    /// Whether the caller wants neither a cached answer nor its own to be kept.
    pub(super) no_store: bool,
}

pub(super) fn call(
    api: &QueryApi,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Call, ApiError> {
    let directives = headers.get_all(header::CACHE_CONTROL).iter();
    let mut directives = directives
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','));
    Ok(Call {
        no_store: directives.any(|d| d.trim().eq_ignore_ascii_case("no-store")),
        tenant: api.tenant(headers)?,
        params: Params::read(query, headers, body)?,
    })
}

/// What is said of a list that a `limit` cut short.
pub(super) const TRUNCATED: &str = "results truncated due to limit";

/// A successful answer around `data`.
pub(super) fn success(data: &str) -> Response {
    json(format!("{{\"status\":\"success\",\"data\":{data}}}"))
}

/// An answer whose text is JSON.
pub(super) fn json(body: impl IntoResponse) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// What stands behind the list of an answer: what it lacks.
pub(super) fn end_of_list<T>(list: &Listed<T>) -> String {
    let cut = list.is_cut.then_some(TRUNCATED);
    let warnings = list.warnings.iter().map(String::as_str);
    let mut warnings = cut.into_iter().chain(warnings).peekable();
    match warnings.peek() {
        Some(_) => format!(",\"warnings\":{}}}", strings(warnings)),
        None => "}".into(),
    }
}

fn options(c: &Call) -> Result<QueryOptions, ApiError> {
    let timeout = c.params.duration("timeout")?;
    let lookback = c.params.duration("lookback_delta").map_err(|_| {
        let text = c.params.get("lookback_delta").unwrap_or_default();
        ApiError::bad_data(format!(
            "error parsing lookback delta duration: cannot parse {text:?} to a valid duration"
        ))
    })?;
    Ok(QueryOptions {
        lookback_ms: lookback.filter(|ms| *ms > 0),
        timeout: timeout
            .and_then(|ms| u64::try_from(ms).ok())
            .map(Duration::from_millis),
        no_cache: c.no_store,
        ..QueryOptions::default()
    })
}

/// The text of a query, once the tenant may ask one so long; one that takes long to parse is parsed in the pool. No text at all is one that
/// does not parse.
async fn text<'a>(api: &QueryApi, c: &'a Call) -> Result<&'a str, ApiError> {
    let text = c.params.get("query").unwrap_or_default();
    check_text(&api.limits.for_tenant(&c.tenant), text)?;
    move_if_heavy(text).await;
    Ok(text)
}

/// `/query`
pub(super) async fn instant(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    let limit = c.params.limit()?;
    let t_ms = c.params.time("time")?;
    let t_ms = t_ms.unwrap_or_else(|| api.clock.now_ms());
    let options = options(&c)?;
    let text = text(&api, &c).await?;
    let query = Query::instant(text, t_ms, &api.parser)?.options(options);
    let answer = api.queries.query(&c.tenant, &query).await?;
    Ok(answered(answer, limit, &c, api.executor(&headers)))
}

/// `/query_range`
pub(super) async fn range(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    let p = &c.params;
    let limit = p.limit()?;
    let missing = |name: &str, what: &str| {
        ApiError::bad_data(format!(
            "invalid parameter \"{name}\": cannot parse \"\" to a valid {what}"
        ))
    };
    let start_ms = p
        .time("start")?
        .ok_or_else(|| missing("start", "timestamp"))?;
    let end_ms = p.time("end")?.ok_or_else(|| missing("end", "timestamp"))?;
    if end_ms < start_ms {
        return Err(ApiError::bad_data(
            "invalid parameter \"end\": end timestamp must not be before start time",
        ));
    }
    let step_ms = p
        .duration("step")?
        .ok_or_else(|| missing("step", "duration"))?;
    if step_ms <= 0 {
        return Err(ApiError::bad_data(
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    if end_ms.since(start_ms) / step_ms > MAX_STEPS {
        return Err(ApiError::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    let options = options(&c)?;
    let text = text(&api, &c).await?;
    let query = Query::range(text, start_ms..=end_ms, step_ms, &api.parser)?.options(options);
    let answer = api.queries.query(&c.tenant, &query).await?;
    Ok(answered(answer, limit, &c, api.executor(&headers)))
}

/// The answer to a query, with what was noticed and, if asked for, what it cost.
fn answered(answer: Answer, limit: usize, c: &Call, executor: Executor) -> Response {
    let text = AnswerText::new(answer, limit, c.params.get("stats"));
    json(text.into_body(executor))
}
