//! Queries, series and labels.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use lgtm_core::model::{Labels, TenantId, TimeRange};

use super::api::Api;
use super::error::ApiError;
use super::json::{
    push_float, push_labels, push_quoted, push_stats, push_time, query_data, strings,
};
use super::params::Params;
use super::tenant::tenant;
use crate::promql::{Answer, InstantQuery, QueryOptions, RangeQuery};
use crate::select::{QueryBudget, SelectRequest};

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
    api: &Api,
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
        tenant: tenant(headers, api.settings.multitenancy_enabled)?,
        params: Params::read(query, headers, body)?,
    })
}

/// A successful answer around `data`.
pub(super) fn success(data: &str) -> Response {
    let body = format!("{{\"status\":\"success\",\"data\":{data}}}");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

pub(super) fn budget(api: &Api, tenant: &TenantId) -> Arc<QueryBudget> {
    let l = api.limits.for_tenant(tenant);
    let series = l.max_fetched_series_per_query;
    Arc::new(QueryBudget::new(
        series,
        l.max_fetched_chunks_per_query,
        l.max_fetched_chunk_bytes_per_query,
    ))
}

fn options(api: &Api, c: &Call) -> Result<QueryOptions, ApiError> {
    let timeout = c.params.duration("timeout")?;
    Ok(QueryOptions {
        lookback_ms: c.params.duration("lookback_delta")?.filter(|ms| *ms > 0),
        timeout: timeout
            .and_then(|ms| u64::try_from(ms).ok())
            .map(Duration::from_millis),
        budget: budget(api, &c.tenant),
        no_cache: c.no_store,
    })
}

/// `/query`
pub(super) async fn instant(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    let limit = c.params.limit()?;
    let request = InstantQuery {
        t_ms: c.params.time("time")?.unwrap_or_else(|| api.clock.now_ms()),
        options: options(&api, &c)?,
        query: c.params.query()?,
    };
    let answer = api.frontend.instant(&c.tenant, &request).await?;
    Ok(answered(&answer, limit, c.params.get("stats")))
}

/// `/query_range`
pub(super) async fn range(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
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
    if end_ms.saturating_sub(start_ms) / step_ms > MAX_STEPS {
        return Err(ApiError::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    let request = RangeQuery {
        start_ms,
        end_ms,
        step_ms,
        options: options(&api, &c)?,
        query: p.query()?,
    };
    let answer = api.frontend.range(&c.tenant, &request).await?;
    Ok(answered(&answer, limit, p.get("stats")))
}

/// The answer to a query, with what was noticed and, if asked for, what it cost.
fn answered(answer: &Answer, limit: usize, stats: Option<&str>) -> Response {
    let (mut data, cut) = query_data(&answer.value, limit);
    if let Some(stats) = stats {
        data.pop();
        data.push_str(",\"stats\":");
        push_stats(&mut data, &answer.stats, stats == "all");
        data.push('}');
    }
    let mut warnings = answer.warnings.clone();
    if cut {
        warnings.push("results truncated due to limit".into());
    }
    let mut body = format!("{{\"status\":\"success\",\"data\":{data}");
    for (key, list) in [("warnings", &warnings), ("infos", &answer.infos)] {
        if !list.is_empty() {
            body.push_str(&format!(",\"{key}\":{}", strings(list)));
        }
    }
    body.push('}');
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The selects of a metadata call: one per `match[]`, or one that takes everything.
fn selects(api: &Api, c: &Call) -> Result<Vec<SelectRequest>, ApiError> {
    let range = TimeRange::inclusive(
        c.params.time("start")?.unwrap_or(i64::MIN),
        c.params.time("end")?.unwrap_or(i64::MAX - 1),
    );
    let mut selectors = c.params.selectors()?;
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    let budget = budget(api, &c.tenant);
    selectors
        .into_iter()
        .map(|matchers| Ok(SelectRequest::new(matchers, range, Arc::clone(&budget))?))
        .collect()
}

/// `/series`
pub(super) async fn series(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    if c.params.selectors()?.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let limit = c.params.limit()?;
    let mut all: BTreeSet<Labels> = BTreeSet::new();
    for request in selects(&api, &c)? {
        all.extend(api.source.series(&c.tenant, &request).await?);
    }
    let mut out = String::from("[");
    for (i, labels) in all.iter().take(most(limit)).enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_labels(&mut out, labels);
    }
    out.push(']');
    Ok(success(&out))
}

fn most(limit: usize) -> usize {
    if limit == 0 { usize::MAX } else { limit }
}

/// `/labels`
pub(super) async fn label_names(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    let limit = c.params.limit()?;
    let mut all = BTreeSet::new();
    for request in selects(&api, &c)? {
        all.extend(api.source.label_names(&c.tenant, &request).await?);
    }
    Ok(success(&strings(all.iter().take(most(limit)))))
}

/// `/label/{name}/values`
pub(super) async fn label_values(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &Bytes::new())?;
    let limit = c.params.limit()?;
    let name = unescaped_name(&name);
    if name.is_empty() {
        return Err(ApiError::bad_data("invalid label name: \"\""));
    }
    let mut all = BTreeSet::new();
    for request in selects(&api, &c)? {
        all.extend(api.source.label_values(&c.tenant, &name, &request).await?);
    }
    Ok(success(&strings(all.iter().take(most(limit)))))
}

/// A name in the spelling `U__my_2e_metric`, in which `_2e_` stands for the character of that number and `__` for one `_`.
fn unescaped_name(name: &str) -> String {
    let Some(mut rest) = name.strip_prefix("U__") else {
        return name.to_owned();
    };
    let mut out = String::new();
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let code = rest.split_once('_').and_then(|(hex, after)| {
            Some((char::from_u32(u32::from_str_radix(hex, 16).ok()?)?, after))
        });
        match code {
            Some((c, after)) => {
                out.push(c);
                rest = after;
            }
            // Not in that spelling after all.
            None => return name.to_owned(),
        }
    }
    out.push_str(rest);
    out
}

/// `/query_exemplars`
pub(super) async fn exemplars(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    let range = TimeRange::inclusive(
        c.params.time("start")?.unwrap_or(i64::MIN),
        c.params.time("end")?.unwrap_or(i64::MAX - 1),
    );
    let text = c.params.required("query")?;
    let matchers = match crate::promql::parse(text) {
        Ok(expr) => expr
            .selectors()
            .into_iter()
            .map(|s| s.matchers.clone())
            .collect::<Vec<_>>(),
        Err(e) => {
            return Err(ApiError::bad_data(format!(
                "invalid parameter \"query\": {e}"
            )));
        }
    };
    let mut out = String::from("[");
    for (i, (labels, exemplars)) in api
        .ingester
        .exemplars(&c.tenant, &matchers, range)
        .iter()
        .enumerate()
    {
        out.push_str(if i > 0 {
            ",{\"seriesLabels\":"
        } else {
            "{\"seriesLabels\":"
        });
        push_labels(&mut out, labels);
        out.push_str(",\"exemplars\":[");
        for (j, e) in exemplars.iter().enumerate() {
            out.push_str(if j > 0 {
                ",{\"labels\":"
            } else {
                "{\"labels\":"
            });
            push_labels(&mut out, &e.labels);
            out.push_str(",\"value\":\"");
            push_float(&mut out, e.value);
            out.push_str("\",\"timestamp\":");
            push_time(&mut out, e.t_ms);
            out.push('}');
        }
        out.push_str("]}");
    }
    out.push(']');
    Ok(success(&out))
}

/// `/metadata`
pub(super) async fn metadata(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &Bytes::new())?;
    let limit = c.params.limit()?;
    let per_metric = c
        .params
        .get("limit_per_metric")
        .and_then(|v| v.parse().ok())
        .unwrap_or(0);
    let mut out = String::from("{");
    let all = api.ingester.metadata(&c.tenant, c.params.get("metric"));
    for (i, (name, entries)) in all
        .iter()
        .filter(|(_, e)| !e.is_empty())
        .take(most(limit))
        .enumerate()
    {
        if i > 0 {
            out.push(',');
        }
        push_quoted(&mut out, name);
        out.push_str(":[");
        for (j, m) in entries.iter().take(most(per_metric)).enumerate() {
            out.push_str(if j > 0 { ",{\"type\":" } else { "{\"type\":" });
            push_quoted(&mut out, m.metric_type.as_str());
            out.push_str(",\"help\":");
            push_quoted(&mut out, &m.help);
            out.push_str(",\"unit\":");
            push_quoted(&mut out, &m.unit);
            out.push('}');
        }
        out.push(']');
    }
    out.push('}');
    Ok(success(&out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_resolved() {
        assert_eq!(unescaped_name("U__my_2e_metric__x"), "my.metric_x");
        assert_eq!(unescaped_name("job"), "job");
        assert_eq!(unescaped_name("U__a_zz"), "U__a_zz");
    }
}
