//! Searches: `/api/search`, by TraceQL and by the tags of older clients.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use lgtm_core::exec::{CancelToken, move_if_heavy};
use lgtm_core::http::UrlQuery;

use super::error::ApiError;
use super::form::AnswerForm;
use super::legacy::{TagSearch, duration_ms};
use super::params::SearchTimes;
use super::query_api::{Call, QueryApi};
use super::search_answer::{SearchAnswer, SetsTold};
use crate::components::SearchRequest;
use crate::traceql::{MAX_QUERY_BYTES, Query, SearchSettings, parse};

/// Spans that are printed where they stand; more take milliseconds.
const INLINE_SPANS: usize = 500;

/// A search as it was asked for, over HTTP or as a stream.
#[derive(Debug, Clone, Default)]
pub(super) struct SearchAsked {
    pub(super) q: Option<String>,
    pub(super) tags: Option<TagSearch>,
    pub(super) times: SearchTimes,
    pub(super) limit: Option<usize>,
    pub(super) spans_per_set: Option<usize>,
}

/// `/api/search`
pub(super) async fn search(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = api.call(query.as_deref(), &headers, &body)?;
    let asked = SearchAsked::of(&c).await?;
    let (request, sets) = asked.request(&api, &c).await?;
    let answered = api.queries.search(&c.tenant, &request, None).await?;
    let answer = SearchAnswer {
        sets,
        pads_trace_ids: c.bounds.pads_trace_ids,
    };
    let form = AnswerForm::plain(&headers);
    let warnings = answered.end.warnings.clone();
    let print = move || match form {
        AnswerForm::Protobuf => answer.protobuf(&answered),
        AnswerForm::Json | AnswerForm::Llm => answer.json(&answered).into_bytes(),
    };
    let spans = request
        .settings
        .limit
        .saturating_mul(request.settings.spans_per_set);
    let body = if spans <= INLINE_SPANS {
        print()
    } else {
        let job = move |_: &CancelToken| Ok::<_, lgtm_core::Error>(print());
        let executor = api.guard.executor(&headers);
        executor.run(job, &CancelToken::new()).await?
    };
    Ok(form.answer(body, &warnings))
}

impl SearchAsked {
    async fn of(c: &Call) -> Result<Self, ApiError> {
        let params = &c.params;
        let limit = params.count("limit")?;
        if limit == Some(0) {
            return Err(ApiError::bad_request(
                "invalid limit: must be a positive number",
            ));
        }
        let q = params.get("q").map(str::to_owned);
        let tags = params.get("tags");
        if q.is_some() && tags.is_some() {
            return Err(ApiError::bad_request(
                "invalid request: can't specify tags and q in the same query",
            ));
        }
        // It is looked at, and that is all.
        if let Some(text) = params.get("query") {
            parse_search(text).await?;
        }
        let tags = match q {
            Some(_) => None,
            None => Some(TagSearch {
                tags: tags.map(str::to_owned),
                min_ms: duration_ms(params, "minDuration")?,
                max_ms: duration_ms(params, "maxDuration")?,
            }),
        };
        Ok(Self {
            q,
            tags,
            times: params.search_times()?,
            limit,
            spans_per_set: params.count("spss")?,
        })
    }

    /// What is asked of whoever answers, and what of the sets is told.
    pub(super) async fn request(
        &self,
        api: &QueryApi,
        c: &Call,
    ) -> Result<(SearchRequest, SetsTold), ApiError> {
        let settings = &api.settings.queries;
        let limit = self.limit.unwrap_or(settings.default_result_limit);
        let max = settings.max_result_limit;
        if limit > max {
            return Err(ApiError::bad_request(format!(
                "limit {limit} exceeds max limit {max}"
            )));
        }
        let spans = match self.spans_per_set {
            None | Some(0) => settings.default_spans_per_span_set,
            Some(spans) => spans,
        };
        let max = settings.max_spans_per_span_set;
        if spans > max {
            return Err(ApiError::bad_request(format!(
                "spans per span set exceeds {max}. received {spans}"
            )));
        }
        let range = api.rules(&c.bounds, c.now_ns).search(self.times)?;
        let (query, sets) = match (&self.q, &self.tags) {
            (Some(text), _) => (parse_search(text).await?, SetsTold::All),
            (None, tags) => {
                let none = TagSearch::default();
                let text = tags
                    .as_ref()
                    .unwrap_or(&none)
                    .query(&api.limits_of(&c.tenant))?;
                (parse_search(&text).await?, SetsTold::None)
            }
        };
        let request = SearchRequest {
            query: Arc::new(query),
            settings: SearchSettings {
                limit,
                spans_per_set: spans,
                range: Some(range),
                max_bytes: settings.max_search_answer_bytes.as_usize(),
            },
        };
        Ok((request, sets))
    }
}

/// Reads the query of a search.
async fn parse_search(text: &str) -> Result<Query, ApiError> {
    move_if_heavy(text).await;
    parse(text).map_err(|e| {
        let is_too_long = text.len() > MAX_QUERY_BYTES;
        ApiError::bad_request(if is_too_long {
            e.to_string()
        } else {
            format!("invalid TraceQL query: {e}")
        })
    })
}
