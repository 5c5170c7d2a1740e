//! Values of attributes: `/api/search/tag/{name}/values` and `/api/v2/search/tag/{tag}/values`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
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
use super::tag_names::TagsVersion;
use super::tag_path::tag_of;
use crate::components::clients::Heard;
use crate::components::{Answered, TagValuesAnswer, TagValuesRequest};
use crate::traceql::{TagValue, TagValues, tag_field, unscoped_tag_fields};

/// Values that are sorted and printed where the call stands; more take longer than a thread of the runtime should be held.
const FEW_VALUES: usize = 500;

/// Values as they were asked for, over HTTP or as a stream.
#[derive(Debug, Clone, Default)]
pub(super) struct ValuesAsked {
    pub(super) tag: String,
    pub(super) q: Option<String>,
    pub(super) times: SearchTimes,
    pub(super) limit: usize,
}

/// `/api/search/tag/{name}/values`
pub(super) async fn v1(
    State(api): State<Arc<QueryApi>>,
    Path(behind): Path<String>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    answered(&api, TagsVersion::V1, &behind, query, &headers, &body).await
}

/// `/api/v2/search/tag/{tag}/values`
pub(super) async fn v2(
    State(api): State<Arc<QueryApi>>,
    Path(behind): Path<String>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    answered(&api, TagsVersion::V2, &behind, query, &headers, &body).await
}

async fn answered(
    api: &QueryApi,
    version: TagsVersion,
    behind: &str,
    query: Option<String>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, ApiError> {
    let c = api.call(query.as_deref(), headers, body)?;
    let asked = ValuesAsked {
        tag: tag_of(behind)?,
        q: c.params.get("q").map(str::to_owned),
        times: c.params.tag_times()?,
        limit: c.params.count("limit")?.unwrap_or(0),
    };
    let answer = asked.ask(api, &c, version, None).await?;
    let form = match version {
        TagsVersion::V1 => AnswerForm::plain(headers),
        TagsVersion::V2 => AnswerForm::of(headers),
    };
    let body = match form {
        AnswerForm::Protobuf => protobuf(version, &answer),
        AnswerForm::Json => json(version, &answer).into_bytes(),
        AnswerForm::Llm => llm(&answer.value).into_bytes(),
    };
    Ok(form.answer(body, &answer.end.warnings))
}

impl ValuesAsked {
    /// The values.
    pub(super) async fn ask(
        &self,
        api: &QueryApi,
        c: &Call,
        version: TagsVersion,
        listener: Heard<TagValuesAnswer>,
    ) -> Result<Answered<Vec<TagValue>>, ApiError> {
        let bad = |e: crate::traceql::QueryError| ApiError::bad_request(e.to_string());
        let (fields, filter) = match version {
            TagsVersion::V1 => (unscoped_tag_fields(&self.tag), None),
            TagsVersion::V2 => {
                let field = tag_field(&self.tag).map_err(bad)?;
                (vec![field], self.q.as_deref())
            }
        };
        let filter = filter.filter(|q| !q.trim().is_empty());
        if let Some(text) = filter {
            move_if_heavy(text).await;
            TagValues::new(Vec::new(), Some(text), 0).map_err(bad)?;
        }
        let range = api.rules(&c.bounds, c.now_ns).tags(self.times)?;
        let found = match range {
            None => Answered::<TagValuesAnswer>::default(),
            Some(range) => {
                let request = TagValuesRequest {
                    fields,
                    filter: filter.map(str::to_owned),
                    range: Some(range),
                    limit: self.limit,
                };
                let asked = api.queries.tag_values(&c.tenant, &request, listener);
                asked.await?
            }
        };
        if found.value.len() > FEW_VALUES {
            move_to_pool().await;
        }
        let mut left = c.bounds.max_tag_bytes;
        Ok(found.map(|values| {
            let values = values.into_iter().take_while(|value| {
                let rest = left.checked_sub(value.text.len());
                left = rest.unwrap_or(0);
                rest.is_some()
            });
            values.collect()
        }))
    }
}

/// Texts of all types, each once.
pub(super) fn texts(values: &[TagValue]) -> Vec<&str> {
    let mut texts: Vec<&str> = values.iter().map(|v| v.text.as_str()).collect();
    texts.sort_unstable();
    texts.dedup();
    texts
}

fn json(version: TagsVersion, answer: &Answered<Vec<TagValue>>) -> String {
    let mut out = String::new();
    let mut members = Members::open(&mut out);
    match version {
        TagsVersion::V1 => members.list("tagValues", texts(&answer.value), push_quoted),
        TagsVersion::V2 => members.list("tagValues", &answer.value, |out, value| {
            let mut members = Members::open(out);
            members.text("type", value.kind.name());
            members.text("value", &value.text);
            members.close();
        }),
    }
    push_metadata_metrics(members.name("metrics"), &answer.end);
    members.close();
    out
}

/// Values by type: `{"tagValues":{"string":["a"],"int":["1"]}}`.
fn llm(values: &[TagValue]) -> String {
    let mut by_kind: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for value in values {
        by_kind
            .entry(value.kind.name())
            .or_default()
            .push(&value.text);
    }
    let mut out = String::new();
    let mut members = Members::open(&mut out);
    let mut kinds = Members::open(members.name("tagValues"));
    for (kind, texts) in by_kind {
        kinds.list(kind, texts, push_quoted);
    }
    kinds.close();
    members.close();
    out
}

/// `SearchTagValuesResponse`, `SearchTagValuesV2Response`
fn protobuf(version: TagsVersion, answer: &Answered<Vec<TagValue>>) -> Vec<u8> {
    let mut out = Vec::new();
    match version {
        TagsVersion::V1 => {
            let texts = texts(&answer.value).into_iter();
            texts.for_each(|text| put_bytes_field(&mut out, 1, text.as_bytes()));
        }
        TagsVersion::V2 => answer
            .value
            .iter()
            .for_each(|value| put_value(&mut out, value)),
    }
    put_metadata_metrics(&mut out, 2, &answer.end);
    out
}

/// Field `tag_values` of `SearchTagValuesV2Response`.
pub(super) fn put_value(out: &mut Vec<u8>, value: &TagValue) {
    put_message(out, 1, |out| {
        put_text(out, 1, value.kind.name());
        put_text(out, 2, &value.text);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traceql::TagValueType;

    #[test]
    fn values_are_told_in_three_forms() {
        let value = |kind, text: &str| TagValue {
            kind,
            text: text.to_owned(),
        };
        let values = vec![
            value(TagValueType::Text, "a"),
            value(TagValueType::Text, "1"),
            value(TagValueType::Int, "1"),
        ];
        assert_eq!(
            llm(&values),
            r#"{"tagValues":{"int":["1"],"string":["a","1"]}}"#
        );
        let answer = Answered {
            value: values,
            ..Answered::default()
        };
        assert_eq!(
            json(TagsVersion::V1, &answer),
            r#"{"tagValues":["1","a"],"metrics":{}}"#
        );
        assert_eq!(
            json(TagsVersion::V2, &answer),
            r#"{"tagValues":[{"type":"string","value":"a"},{"type":"string","value":"1"},{"type":"int","value":"1"}],"metrics":{}}"#
        );
        let bytes = protobuf(TagsVersion::V1, &answer);
        assert_eq!(bytes, b"\x0a\x011\x0a\x01a\x12\x00");
    }
}
