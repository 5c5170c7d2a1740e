//! `/loki/api/v1/delete`: what is to be deleted; `/loki/api/v1/cache/generation_numbers`: since when answers may be other ones for it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use lgtm_core::ErrorKind;
use lgtm_core::exec::move_if_heavy;
use lgtm_core::go::json::push_quoted;
use lgtm_core::go::{format_plain, parse_duration_ns, parse_rfc3339_ms};
use lgtm_core::http::UrlQuery;
use lgtm_core::model::{TenantId, TimestampMs};

use super::error::ApiError;
use super::json::{plain_json, push_list};
use super::params::Params;
use super::query_api::QueryApi;
use crate::components::{DeleteRequests, KnownDelete};
use crate::limits::DeletionMode;
use crate::logql::parse;

/// Digits of a time in seconds.
const TIME_DIGITS: usize = 10;

/// Who asks, and of what.
struct Call {
    deletes: Arc<DeleteRequests>,
    tenant: TenantId,
    params: Params,
}

/// All parameters stand in the URL.
fn call(api: &QueryApi, query: Option<&str>, headers: &HeaderMap) -> Result<Call, ApiError> {
    let Some(deletes) = &api.deletes else {
        return Err(ApiError::no_such_page());
    };
    let tenant = api.tenant(headers)?;
    if api.limits.for_tenant(&tenant).deletion_mode == DeletionMode::Disabled {
        let text = "deletion is not available for this tenant";
        return Err(ApiError::new(StatusCode::FORBIDDEN, text));
    }
    Ok(Call {
        deletes: Arc::clone(deletes),
        tenant,
        params: Params::read(query, &HeaderMap::new(), &axum::body::Bytes::new())?,
    })
}

/// `POST` and `PUT`
pub(super) async fn add(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
) -> Response {
    let add = async {
        let c = call(&api, query.as_deref(), &headers)?;
        let text = c.params.query();
        if text.is_empty() {
            return Err(ApiError::bad_request("query not set"));
        }
        move_if_heavy(text).await;
        let parsed = parse(text).map_err(|_| ApiError::bad_request("invalid query expression"))?;
        if !matches!(parsed, crate::logql::Expr::Log(_)) {
            return Err(ApiError::bad_request("invalid query expression"));
        }
        let Some(start) = c.params.get("start") else {
            return Err(ApiError::bad_request("start time not set"));
        };
        let start_ms = time("start", start)?;
        let now_ms = api.clock.now_ms();
        let end_ms = match c.params.get("end") {
            Some(end) => time("end", end)?,
            // Loki's times are whole seconds here.
            None => now_ms.floor(1000),
        };
        if end_ms > now_ms {
            return Err(ApiError::bad_request(
                "deletes in the future are not allowed",
            ));
        }
        if start_ms > end_ms {
            return Err(ApiError::bad_request(
                "start time can't be greater than end time",
            ));
        }
        if let Some(interval) = c.params.get("max_interval") {
            check_interval(interval)?;
        }
        let added = c.deletes.add(&c.tenant, text, start_ms, end_ms).await;
        added.map_err(ApiError::from)
    };
    match add.await {
        Ok(id) => (StatusCode::NO_CONTENT, [("x-delete-request-id", id)]).into_response(),
        Err(e) => e.into_line(),
    }
}

/// `GET`
pub(super) async fn list(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
) -> Response {
    let list = async {
        let c = call(&api, query.as_deref(), &headers)?;
        if !c.deletes.is_listed() {
            c.deletes.sync().await?;
        }
        let mut all = c.deletes.list(&c.tenant);
        if let (Some(start), Some(end)) = (c.params.get("start"), c.params.get("end")) {
            let (start_ms, end_ms) = (time("start", start)?, time("end", end)?);
            all.retain(|r| r.request.start_ms <= end_ms && start_ms <= r.request.end_ms);
        }
        Ok::<_, ApiError>(all)
    };
    match list.await {
        Ok(all) => {
            let mut out = String::new();
            push_list(&mut out, &all, push_request);
            out.push('\n');
            plain_json(out)
        }
        Err(e) => e.into_line(),
    }
}

/// `DELETE`
pub(super) async fn cancel(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
) -> Response {
    let cancel = async {
        let c = call(&api, query.as_deref(), &headers)?;
        let id = c.params.get("request_id").unwrap_or_default();
        let force = c.params.get("force") == Some("true");
        match c.deletes.cancel(&c.tenant, id, force).await {
            Err(e) if e.kind() == ErrorKind::NotFound => Err(ApiError::new(
                StatusCode::NOT_FOUND,
                "could not find delete request with given id",
            )),
            done => done.map_err(ApiError::from),
        }
    };
    match cancel.await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(e) => e.into_line(),
    }
}

/// `GET`: a text that answers which are kept elsewhere depend on.
pub(super) async fn generation(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
) -> Response {
    let read = async {
        let c = call(&api, query.as_deref(), &headers)?;
        if !c.deletes.is_listed() {
            c.deletes.sync().await?;
        }
        Ok::<_, ApiError>(c.deletes.generation(&c.tenant))
    };
    match read.await {
        Ok(since) => {
            let number = since.map(|t| t.to_string()).unwrap_or_default();
            plain_json(format!("\"{number}\"\n"))
        }
        Err(e) => e.into_line(),
    }
}

/// `POST`
pub(super) async fn increase_generation(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
) -> Response {
    let increase = async {
        let c = call(&api, query.as_deref(), &headers)?;
        if !c.deletes.is_listed() {
            c.deletes.sync().await?;
        }
        let done = c.deletes.increase_generation(&c.tenant).await;
        done.map_err(ApiError::from)
    };
    match increase.await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(e) => e.into_line(),
    }
}

fn push_request(out: &mut String, known: &KnownDelete) {
    let request = &known.request;
    let status = match (known.processed_ms, known.percent) {
        (Some(_), _) => "processed".to_owned(),
        (None, 0) => "received".to_owned(),
        (None, n) => format!("{n}% Complete"),
    };
    out.push_str("{\"request_id\":");
    push_quoted(out, &known.id);
    let (start, end) = (seconds(request.start_ms), seconds(request.end_ms));
    out.push_str(&format!(
        ",\"start_time\":{start},\"end_time\":{end},\"query\":"
    ));
    push_quoted(out, &request.query);
    let created = seconds(request.created_ms);
    out.push_str(&format!(
        ",\"status\":\"{status}\",\"created_at\":{created},\"user_id\":\"\"}}"
    ));
}

/// As Loki prints times of milliseconds.
fn seconds(t_ms: TimestampMs) -> String {
    format_plain(t_ms.get() as f64 / 1000.0)
}

/// Ten digits, or RFC 3339.
fn time(name: &str, text: &str) -> Result<TimestampMs, ApiError> {
    let is_number = text.len() == TIME_DIGITS && text.bytes().all(|b| b.is_ascii_digit());
    if is_number && let Ok(seconds) = text.parse::<i64>() {
        return Ok(TimestampMs::new(seconds * 1000));
    }
    parse_rfc3339_ms(text).ok_or_else(|| {
        ApiError::bad_request(format!(
            "invalid {name} time: require unix seconds or RFC3339 format"
        ))
    })
}

/// Requests are not cut into intervals here; the parameter is checked for who relies on that.
fn check_interval(text: &str) -> Result<(), ApiError> {
    match parse_duration_ns(text) {
        Ok(ns) if ns >= 1_000_000_000 => Ok(()),
        _ => Err(ApiError::bad_request(
            "invalid max_interval: it must be a duration of at least 1s",
        )),
    }
}
