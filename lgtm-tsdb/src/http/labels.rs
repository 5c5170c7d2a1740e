//! Series and the names and values of their labels.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use lgtm_core::model::{Labels, TimeRange};

use super::api::Api;
use super::error::ApiError;
use super::json::{push_labels, strings};
use super::query::{Call, budget, call, success_with};
use crate::select::SelectRequest;

/// The selects of a call: one per `match[]`, or one that takes everything. None when the tenant may not look at any of the times.
fn selects(api: &Api, c: &Call) -> Result<Vec<SelectRequest>, ApiError> {
    let range = TimeRange::inclusive(
        c.params.time("start")?.unwrap_or(i64::MIN),
        c.params.time("end")?.unwrap_or(i64::MAX - 1),
    );
    let mut selectors = c.params.selectors(api.parser())?;
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    let Some(range) = api.frontend.labels_range(&c.tenant, range) else {
        return Ok(Vec::new());
    };
    let budget = budget(api, &c.tenant);
    selectors
        .into_iter()
        .map(|matchers| Ok(SelectRequest::new(matchers, range, Arc::clone(&budget))?))
        .collect()
}

/// The first `limit` of a sorted list (0: all of it), and whether that cut it short.
fn cut<T>(all: BTreeSet<T>, limit: usize) -> (impl Iterator<Item = T>, bool) {
    let most = if limit == 0 { usize::MAX } else { limit };
    let is_cut = all.len() > most;
    (all.into_iter().take(most), is_cut)
}

/// `/series`
pub(super) async fn series(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    if c.params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let limit = c.params.limit()?;
    let mut all: BTreeSet<Labels> = BTreeSet::new();
    for request in selects(&api, &c)? {
        all.extend(api.source.series(&c.tenant, &request).await?);
    }
    let (listed, is_cut) = cut(all, limit);
    let mut out = String::from("[");
    for (i, labels) in listed.enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_labels(&mut out, &labels);
    }
    out.push(']');
    Ok(success_with(&out, is_cut))
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
    let (listed, is_cut) = cut(all, limit);
    Ok(success_with(&strings(listed), is_cut))
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
    let (listed, is_cut) = cut(all, limit);
    Ok(success_with(&strings(listed), is_cut))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_resolved() {
        assert_eq!(unescaped_name("U__my_2e_metric__x"), "my.metric_x");
        assert_eq!(unescaped_name("job"), "job");
        assert_eq!(unescaped_name("U__a_zz"), "U__a_zz");
    }

    #[test]
    fn a_list_that_is_cut_says_so() {
        let list = |limit| {
            let (listed, is_cut) = cut(BTreeSet::from([1, 2, 3]), limit);
            (listed.count(), is_cut)
        };
        assert_eq!(
            (list(0), list(2), list(3)),
            ((3, false), (2, true), (3, false))
        );
    }
}
