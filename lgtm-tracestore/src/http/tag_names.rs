//! Names of attributes: `/api/search/tags` and `/api/v2/search/tags`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use lgtm_core::codec::protobuf::{put_bytes_field, put_message};
use lgtm_core::exec::{move_if_heavy, move_to_pool};
use lgtm_core::go::json::push_quoted;
use lgtm_core::http::UrlQuery;

use super::error::ApiError;
use super::form::AnswerForm;
use super::json::{Members, push_metadata_metrics};
use super::params::SearchTimes;
use super::protobuf::{put_metadata_metrics, put_text};
use super::query_api::{Call, QueryApi};
use crate::components::clients::Heard;
use crate::components::{Answered, TagNamesAnswer, TagNamesRequest};
use crate::traceql::{INTRINSIC_TAGS, TagNames, TagScope};

/// The scope of what every span has by nature.
const INTRINSIC: &str = "intrinsic";

/// Names that are sorted and printed where the call stands; more take longer than a thread of the runtime should be held.
const FEW_NAMES: usize = 500;

/// Which of the two calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TagsVersion {
    V1,
    V2,
}

/// Names as they were asked for, over HTTP or as a stream.
#[derive(Debug, Clone, Default)]
pub(super) struct NamesAsked {
    pub(super) scope: String,
    pub(super) q: Option<String>,
    pub(super) times: SearchTimes,
    pub(super) limit: usize,
}

/// Names by scope, in the order of answers.
pub(super) type NamedScopes = Vec<(&'static str, Vec<String>)>;

/// `/api/search/tags`
pub(super) async fn v1(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    answered(&api, TagsVersion::V1, query, &headers, &body).await
}

/// `/api/v2/search/tags`
pub(super) async fn v2(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    answered(&api, TagsVersion::V2, query, &headers, &body).await
}

async fn answered(
    api: &QueryApi,
    version: TagsVersion,
    query: Option<String>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, ApiError> {
    let c = api.call(query.as_deref(), headers, body)?;
    let asked = NamesAsked {
        scope: c.params.get("scope").unwrap_or_default().to_owned(),
        q: c.params.get("q").map(str::to_owned),
        times: c.params.tag_times()?,
        limit: c.params.lenient_count("limit"),
    };
    let answer = asked.ask(api, &c, version, None).await?;
    let form = AnswerForm::plain(headers);
    let body = match form {
        AnswerForm::Protobuf => protobuf(version, &answer),
        AnswerForm::Json | AnswerForm::Llm => json(version, &answer).into_bytes(),
    };
    Ok(form.answer(body, &answer.end.warnings))
}

impl NamesAsked {
    /// The names, intrinsics among them where they are told.
    pub(super) async fn ask(
        &self,
        api: &QueryApi,
        c: &Call,
        version: TagsVersion,
        listener: Heard<TagNamesAnswer>,
    ) -> Result<Answered<NamedScopes>, ApiError> {
        let bad = |e: crate::traceql::QueryError| ApiError::bad_request(e.to_string());
        let scope = TagScope::parse(&self.scope).map_err(bad)?;
        let range = api.rules(&c.bounds, c.now_ns).tags(self.times)?;
        let filter = self.q.as_deref().filter(|q| !q.trim().is_empty());
        let filter = filter.filter(|_| version == TagsVersion::V2);
        if let Some(text) = filter {
            move_if_heavy(text).await;
            TagNames::new(scope, Some(text), 0).map_err(bad)?;
        }
        let has_attributes = !matches!(scope, TagScope::Intrinsic | TagScope::Trace);
        let found = match range.filter(|_| has_attributes) {
            None => Answered::<TagNamesAnswer>::default(),
            Some(range) => {
                let request = TagNamesRequest {
                    scope,
                    filter: filter.map(str::to_owned),
                    range: Some(range),
                    limit: self.limit,
                };
                let asked = api.queries.tag_names(&c.tenant, &request, listener);
                asked.await?
            }
        };
        if found.value.values().map(BTreeSet::len).sum::<usize>() > FEW_NAMES {
            move_to_pool().await;
        }
        let tells_intrinsics =
            scope == TagScope::Intrinsic || scope == TagScope::All && version == TagsVersion::V2;
        Ok(found.map(|names| {
            let mut scopes = named(names);
            if tells_intrinsics {
                scopes.push((INTRINSIC, INTRINSIC_TAGS.map(str::to_owned).into()));
            }
            bounded(&mut scopes, c.bounds.max_tag_bytes);
            scopes
        }))
    }
}

/// Names as answers have them, without those of what every span has.
pub(super) fn named(names: TagNamesAnswer) -> NamedScopes {
    let names = names.into_iter().filter(|(_, names)| !names.is_empty());
    names
        .map(|(scope, names)| (scope.name(), names.into_iter().collect()))
        .collect()
}

/// Leaves out names beyond a number of bytes.
fn bounded(scopes: &mut NamedScopes, max_bytes: usize) {
    let mut left = max_bytes;
    for (_, names) in scopes.iter_mut() {
        names.retain(|name| match left.checked_sub(name.len()) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        });
    }
}

/// Names of all scopes, each once.
pub(super) fn flat(scopes: &NamedScopes) -> Vec<&str> {
    let mut names: Vec<&str> = scopes
        .iter()
        .flat_map(|(_, n)| n)
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn json(version: TagsVersion, answer: &Answered<NamedScopes>) -> String {
    let mut out = String::new();
    let mut members = Members::open(&mut out);
    match version {
        TagsVersion::V1 => members.list("tagNames", flat(&answer.value), push_quoted),
        TagsVersion::V2 => members.list("scopes", &answer.value, |out, (scope, names)| {
            let mut members = Members::open(out);
            members.text("name", scope);
            members.list("tags", names, |out, name| push_quoted(out, name));
            members.close();
        }),
    }
    push_metadata_metrics(members.name("metrics"), &answer.end);
    members.close();
    out
}

/// `SearchTagsResponse`, `SearchTagsV2Response`
fn protobuf(version: TagsVersion, answer: &Answered<NamedScopes>) -> Vec<u8> {
    let mut out = Vec::new();
    match version {
        TagsVersion::V1 => {
            let names = flat(&answer.value).into_iter();
            names.for_each(|name| put_bytes_field(&mut out, 1, name.as_bytes()));
        }
        TagsVersion::V2 => {
            for (scope, names) in &answer.value {
                put_message(&mut out, 1, |out| {
                    put_text(out, 1, scope);
                    for name in names {
                        put_bytes_field(out, 2, name.as_bytes());
                    }
                });
            }
        }
    }
    put_metadata_metrics(&mut out, 2, &answer.end);
    out
}
