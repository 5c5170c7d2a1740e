//! Rules and alerts. No component of this version evaluates any, so that the lists are empty; parameters are checked all the same.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use lgtm_core::http::UrlQuery;

use super::error::ApiError;
use super::query::{call, success};
use super::query_api::QueryApi;

fn invalid(name: &str, why: String) -> ApiError {
    ApiError::bad_data(format!("invalid parameter \"{name}\": {why}"))
}

/// `/rules`
pub(super) async fn rules(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &Bytes::new())?;
    let p = &c.params;
    match p.get("type").map(str::to_lowercase).as_deref() {
        None | Some("alert" | "record") => {}
        Some(other) => return Err(invalid("type", format!("not supported value {other:?}"))),
    }
    // The spellings of Go's booleans.
    const BOOLEANS: [&str; 12] = [
        "1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False",
    ];
    if let Some(text) = p.get("exclude_alerts").filter(|t| !BOOLEANS.contains(t)) {
        let why = format!("{text:?} is neither true nor false");
        return Err(invalid("exclude_alerts", why));
    }
    p.selectors(&api.parser)?;
    let limit = p.get("group_limit");
    if limit.is_some_and(|l| !l.parse::<i64>().is_ok_and(|n| n > 0)) {
        let why = "group_limit needs to be a valid number and greater than 0";
        return Err(invalid("group_limit", why.into()));
    }
    match (p.get("group_next_token"), limit) {
        (Some(_), None) => Err(invalid(
            "group_limit",
            "group_limit needs to be present in order to paginate over the groups".into(),
        )),
        (Some(token), Some(_)) => Err(invalid(
            "group_next_token",
            format!("there is no rule group with token {token:?}; were rule groups changed?"),
        )),
        (None, _) => Ok(success("{\"groups\":[]}")),
    }
}

/// `/alerts`
pub(super) async fn alerts(
    State(api): State<Arc<QueryApi>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    call(&api, None, &headers, &Bytes::new())?;
    Ok(success("{\"alerts\":[]}"))
}
