//! What recent lines have in common: `/patterns`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use lgtm_core::exec::{move_if_heavy, move_to_pool};
use lgtm_core::go::json::push_quoted;
use lgtm_core::http::UrlQuery;

use super::error::ApiError;
use super::json::{json, push_list, success};
use super::query::call;
use super::query_api::QueryApi;
use crate::components::clients::PatternsRequest;
use crate::logql::{Expr, QueryError, QueryRange, parse_with};

/// Lines are counted in steps no smaller.
const MIN_STEP_NS: i64 = 10_000_000_000;

/// `/patterns`. Of a log query the selector counts; a metric query has no patterns.
pub(super) async fn patterns(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    let range = c.params.ordered_range(c.now_ns)?;
    let usual = QueryRange::new(range.min_ns, range.max_ns).step_ms;
    let step = c.params.duration("step")?;
    let step = step.unwrap_or_else(|| usual.saturating_mul(1_000_000));
    if step <= 0 {
        return Err(ApiError::bad_request(
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    let text = c.params.query();
    move_if_heavy(text).await;
    let expr = parse_with(text, &api.parser).map_err(QueryError::from)?;
    let Expr::Log(log) = expr else {
        return Ok(json(success(&[]) + ",\"data\":[]}"));
    };
    let request = PatternsRequest {
        matchers: log.matchers,
        range,
        step_ns: step.max(MIN_STEP_NS),
        by_stream: false,
    };
    let found = api.queries.patterns(&c.tenant, &request).await?;
    move_to_pool().await;
    let mut out = success(&found.warnings);
    out.push_str(",\"data\":");
    push_list(&mut out, &found.items, |out, pattern| {
        out.push_str("{\"pattern\":");
        push_quoted(out, &pattern.pattern);
        out.push_str(",\"level\":");
        push_quoted(out, &pattern.level);
        out.push_str(",\"samples\":");
        push_list(out, &pattern.counts, |out, (t_ns, lines)| {
            let seconds = t_ns.to_seconds();
            out.push_str(&format!("[{seconds},{lines}]"));
        });
        out.push('}');
    });
    out.push('}');
    Ok(json(out))
}
