//! Metrics: `/api/metrics/query_range` and `/api/metrics/query`. Their answers are always JSON.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use lgtm_core::exec::{CancelToken, move_if_heavy};
use lgtm_core::http::{UrlQuery, in_pieces};

use super::error::ApiError;
use super::form::AnswerForm;
use super::metrics_answer::{MetricsKind, MetricsText};
use super::params::MetricsTimes;
use super::query_api::{Call, QueryApi};
use crate::components::MetricsRequest;
use crate::traceql::{MAX_QUERY_BYTES, MetricsSettings, Query, QueryBody, parse};

/// Cells that are printed where they stand; more take milliseconds.
const INLINE_CELLS: usize = 5_000;

/// Metrics as they were asked for, over HTTP or as a stream.
#[derive(Debug, Clone)]
pub(super) struct MetricsAsked {
    pub(super) kind: MetricsKind,
    pub(super) q: String,
    pub(super) times: MetricsTimes,
    pub(super) exemplars: usize,
    pub(super) max_series: usize,
}

/// `/api/metrics/query_range`
pub(super) async fn range(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    answered(&api, MetricsKind::Range, query, &headers, &body).await
}

/// `/api/metrics/query`
pub(super) async fn instant(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    answered(&api, MetricsKind::Instant, query, &headers, &body).await
}

async fn answered(
    api: &QueryApi,
    kind: MetricsKind,
    query: Option<String>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, ApiError> {
    let c = api.call(query.as_deref(), headers, body)?;
    let params = &c.params;
    let asked = MetricsAsked {
        kind,
        q: params
            .get("q")
            .or(params.get("query"))
            .unwrap_or_default()
            .to_owned(),
        times: params.metrics_times()?,
        exemplars: params.lenient_count("exemplars"),
        max_series: params.lenient_count("maxSeries"),
    };
    let request = asked.request(api, &c).await?;
    let answer = api.queries.metrics(&c.tenant, &request, None).await?;
    let text = MetricsText::new(kind, answer);
    let executor = api.guard.executor(headers);
    let body = if text.cell_count() <= INLINE_CELLS {
        text.json()
    } else {
        let job = move |_: &CancelToken| Ok::<_, lgtm_core::Error>(text.json());
        executor.run(job, &CancelToken::new()).await?
    };
    let content_type = [(header::CONTENT_TYPE, AnswerForm::Json.content_type())];
    Ok((content_type, in_pieces(body.into_bytes(), executor)).into_response())
}

impl MetricsAsked {
    /// What is asked of whoever answers.
    pub(super) async fn request(
        &self,
        api: &QueryApi,
        c: &Call,
    ) -> Result<MetricsRequest, ApiError> {
        let query = self.parse().await?;
        let rules = api.rules(&c.bounds, c.now_ns);
        let grid = match self.kind {
            MetricsKind::Range => rules.intervals(self.times)?,
            MetricsKind::Instant => rules.instant(self.times)?,
        };
        let max_series = match (self.max_series, api.settings.queries.max_response_series) {
            (0, max) | (max, 0) => max,
            (asked, max) => asked.min(max),
        };
        Ok(MetricsRequest {
            query: Arc::new(query),
            settings: MetricsSettings {
                grid,
                exemplars: self.exemplars,
                max_series,
                max_bytes: api.settings.queries.max_metrics_bytes.as_usize(),
            },
        })
    }

    async fn parse(&self) -> Result<Query, ApiError> {
        let text = self.q.as_str();
        move_if_heavy(text).await;
        let query = parse(text).map_err(|e| {
            let is_bare = e.place.is_some() && self.kind == MetricsKind::Range;
            ApiError::bad_request(if is_bare || text.len() > MAX_QUERY_BYTES {
                e.to_string()
            } else {
                format!("compiling query: {e}")
            })
        })?;
        match query.body {
            QueryBody::Metrics(_) => Ok(query),
            QueryBody::Search(_) => Err(ApiError::bad_request(
                "compiling query: not a metrics query",
            )),
        }
    }
}
