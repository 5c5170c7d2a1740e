//! Queries in the older form of `/api/prom/query`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use lgtm_core::exec::{move_if_heavy, move_to_pool};
use lgtm_core::go::json::push_quoted;
use lgtm_core::go::{format_rfc3339, quote};
use lgtm_core::http::UrlQuery;
use lgtm_core::model::TimestampNs;

use super::error::ApiError;
use super::json::{json, push_list};
use super::query::call;
use super::query_api::QueryApi;
use super::query_options::Asked;
use crate::logql::{Query, QueryValue};

/// `/api/prom/query`: lines of a range, the newest first unless it is said; `regexp` filters them once more.
pub(super) async fn query(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    let asked = Asked::of(&headers, &api.settings, &api.parser)?;
    let range = c.params.query_range(c.now_ns)?;
    let mut text = c.params.query().to_owned();
    if let Some(pattern) = c.params.get("regexp") {
        text.push_str(&format!(" |~ {}", quote(pattern)));
    }
    move_if_heavy(&text).await;
    let query = Query::range(&text, range, &api.parser)?.with_options(asked.options);
    if !query.is_log() {
        return Err(ApiError::bad_request(
            "legacy endpoints only support streams result type",
        ));
    }
    let answer = api.queries.query(&c.tenant, &query).await?;
    let QueryValue::Streams(streams) = &answer.value else {
        return Err(ApiError::bad_request(
            "legacy endpoints only support streams result type",
        ));
    };
    // Thousands of lines at most: the tenant's limit on entries.
    move_to_pool().await;
    let mut out = String::from("{\"streams\":");
    push_list(&mut out, streams, |out, stream| {
        out.push_str("{\"labels\":");
        push_quoted(out, &stream.labels().to_string());
        out.push_str(",\"entries\":");
        push_list(out, &stream.entries, |out, entry| {
            out.push_str(&format!(
                "{{\"ts\":\"{}\",\"line\":",
                rfc3339_nano(entry.t_ns)
            ));
            push_quoted(out, &String::from_utf8_lossy(&entry.line));
            out.push('}');
        });
        out.push('}');
    });
    out.push_str(",\"stats\":");
    out.push_str(&answer.stats.to_json());
    out.push('}');
    Ok(json(out))
}

/// RFC 3339 with as many decimals as there are.
fn rfc3339_nano(t_ns: TimestampNs) -> String {
    let mut out = format_rfc3339(t_ns);
    let ns = t_ns.get().rem_euclid(1_000_000_000);
    if ns > 0 {
        out.pop();
        let digits = format!(".{ns:09}");
        out.push_str(digits.trim_end_matches('0'));
        out.push('Z');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_decimals_that_they_need() {
        for (t_ns, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_500_000_000, "1970-01-01T00:00:01.5Z"),
            (1, "1970-01-01T00:00:00.000000001Z"),
        ] {
            assert_eq!(rfc3339_nano(TimestampNs::new(t_ns)), text);
        }
    }
}
