//! Series and the names and values of their labels.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use lgtm_core::exec::{Executor, move_if_heavy, move_to_pool};
use lgtm_core::go::json::push_quoted;
use lgtm_core::http::UrlQuery;
use lgtm_core::model::{Labels, TextSet, TimeRange, TimestampMs};

use super::answer_text::printed_list;
use super::error::ApiError;
use super::json::push_labels;
use super::query::{Call, call, end_of_list, json};
use super::query_api::QueryApi;
use crate::bucket::merge_labels;
use crate::select::{FetchBounds, Listed, SelectRequest, TruncatedList};

/// The selects of a call: one per `match[]`, or one that takes everything.
async fn selects(api: &QueryApi, c: &Call, limit: usize) -> Result<Vec<SelectRequest>, ApiError> {
    for text in c.params.all("match[]") {
        move_if_heavy(text).await;
    }
    let range = TimeRange::inclusive(
        c.params.time("start")?.unwrap_or(TimestampMs::MIN),
        c.params.time("end")?.unwrap_or(TimeRange::ALL.last_ms()),
    );
    let mut selectors = c.params.selectors(&api.parser)?;
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    let request = |matchers| Ok(SelectRequest::new(matchers, range)?.limit(limit));
    selectors.into_iter().map(request).collect()
}

/// Joins the lists of several selectors and writes them as JSON, in the compute pool when they are large.
struct Lists<T> {
    all: Listed<T>,
    bytes: u64,
    bounds: FetchBounds,
    limit: usize,
}

impl<T: Default + TruncatedList> Lists<T> {
    fn new(api: &QueryApi, c: &Call, limit: usize) -> Self {
        Self {
            all: Listed::default(),
            bytes: 0,
            bounds: FetchBounds::of(&api.limits.for_tenant(&c.tenant)),
            limit,
        }
    }

    /// Adds the list of one selector; those of all of them together are bounded.
    async fn add(
        &mut self,
        list: Listed<T>,
        bytes: u64,
        join: impl FnOnce(&mut T, T),
    ) -> Result<(), ApiError> {
        self.bytes += bytes;
        self.bounds.check_list(self.bytes)?;
        if self.bytes >= SMALL_BYTES {
            move_to_pool().await;
        }
        self.all.merge(list, join);
        Ok(())
    }

    /// The answer: `len` tells how many there are, `push` prints the one of a number.
    fn answer(
        self,
        executor: Executor,
        len: impl FnOnce(&T) -> usize,
        push: impl Fn(&mut String, &T, usize) + Send + 'static,
    ) -> Response
    where
        T: Send + 'static,
    {
        let is_large = self.bytes >= SMALL_BYTES;
        let all = self.all.cut(self.limit);
        let (len, tail, items) = (len(&all.items), end_of_list(&all), all.items);
        let push = move |out: &mut String, i: usize| push(out, &items, i);
        json(printed_list(len, is_large, tail, executor, push))
    }
}

/// What is written in a tenth of a millisecond.
const SMALL_BYTES: u64 = 64 << 10;

/// `/series`
pub(super) async fn series(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    if c.params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let limit = c.params.limit()?;
    let mut lists: Lists<Vec<Labels>> = Lists::new(&api, &c, limit);
    for request in selects(&api, &c, limit).await? {
        let list = api.queries.series(&c.tenant, &request).await?;
        let bytes = list.items.iter().map(|l| l.size_bytes() as u64).sum();
        let join = |all: &mut Vec<Labels>, part| {
            *all = merge_labels(std::mem::take(all), part);
        };
        lists.add(list, bytes, join).await?;
    }
    let push = |out: &mut String, all: &Vec<Labels>, i: usize| push_labels(out, &all[i]);
    Ok(lists.answer(api.executor(&headers), Vec::len, push))
}

fn push_text(out: &mut String, all: &TextSet, i: usize) {
    push_quoted(out, all.get(i).unwrap_or_default());
}

/// `/labels`
pub(super) async fn label_names(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    let limit = c.params.limit()?;
    let mut lists: Lists<TextSet> = Lists::new(&api, &c, limit);
    for request in selects(&api, &c, limit).await? {
        let list = api.queries.label_names(&c.tenant, &request).await?;
        let bytes = list.items.text_bytes() as u64;
        lists.add(list, bytes, TextSet::unite).await?;
    }
    Ok(lists.answer(api.executor(&headers), TextSet::len, push_text))
}

/// `/label/{name}/values`
pub(super) async fn label_values(
    State(api): State<Arc<QueryApi>>,
    Path(name): Path<String>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    let limit = c.params.limit()?;
    let name = unescaped_name(&name);
    if name.is_empty() {
        return Err(ApiError::bad_data("invalid label name: \"\""));
    }
    let mut lists: Lists<TextSet> = Lists::new(&api, &c, limit);
    for request in selects(&api, &c, limit).await? {
        let list = api.queries.label_values(&c.tenant, &name, &request).await?;
        let bytes = list.items.text_bytes() as u64;
        lists.add(list, bytes, TextSet::unite).await?;
    }
    Ok(lists.answer(api.executor(&headers), TextSet::len, push_text))
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
}
