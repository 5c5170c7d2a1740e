//! How many series bear which label: Mimir's cardinality API. Its answers have no envelope and its errors are plain text.

use std::fmt::Write;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use lgtm_core::go::json::push_quoted;
use lgtm_core::go::push_float;
use lgtm_core::http::UrlQuery;
use lgtm_core::model::{Labels, Matcher, TenantId};

use super::error::ApiError;
use super::json::push_labels;
use super::params::Params;
use super::query::{Call, call};
use super::query_api::QueryApi;
use crate::head::{
    ActiveSeriesRequest, CardinalityRequest, CountMethod, LabelNamesCardinality,
    LabelValuesCardinality,
};
use crate::limits::Limits;
use crate::promql::parse_selector;
use crate::select::LabelBatches;

/// Entries that are listed when a request does not say.
const DEFAULT_LIMIT: usize = 20;

/// Why a request is not answered: told as text.
#[derive(Debug)]
pub(super) struct Refusal(ApiError);

impl<E: Into<ApiError>> From<E> for Refusal {
    fn from(e: E) -> Self {
        Self(e.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.0.into_plain()
    }
}

type Answer = Result<Response, Refusal>;

fn bad<T>(message: String) -> Result<T, Refusal> {
    Err(ApiError::bad_data(message).into())
}

/// What a request asks about, once the tenant may ask it.
struct CardinalityCall {
    tenant: TenantId,
    params: Params,
    limits: Arc<Limits>,
    matchers: Vec<Matcher>,
}

impl CardinalityCall {
    fn new(
        api: &QueryApi,
        query: Option<&str>,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Self, Refusal> {
        let Call { tenant, params, .. } = call(api, query, headers, body)?;
        let limits = api.limits.for_tenant(&tenant);
        if !limits.cardinality_analysis_enabled {
            return bad(format!(
                "cardinality analysis is disabled for the tenant: {tenant}"
            ));
        }
        let mut call = Self {
            tenant,
            params,
            limits,
            matchers: Vec::new(),
        };
        if let Some(text) = call.single("selector")? {
            let parsed = parse_selector(text, &api.parser);
            call.matchers = parsed.map_err(|e| ApiError::bad_data(e.to_string()))?;
        }
        Ok(call)
    }

    /// A parameter that may stand once.
    fn single(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let mut values = self.params.all(name);
        let first = values.next();
        if values.next().is_some() {
            return bad(format!("multiple '{name}' params are not allowed"));
        }
        Ok(first.filter(|v| !v.is_empty()))
    }

    fn limit(&self) -> Result<usize, Refusal> {
        let max = self.limits.cardinality_analysis_max_results;
        let Some(text) = self.single("limit")? else {
            return Ok(DEFAULT_LIMIT.min(max));
        };
        match text.parse::<i64>() {
            Err(_) => bad(format!("'limit' param {text:?} is not a number")),
            Ok(n) if n < 0 => bad("'limit' param cannot be less than '0'".into()),
            Ok(n) => match usize::try_from(n) {
                Ok(n) if n <= max => Ok(n),
                _ => bad(format!("'limit' param cannot be greater than '{max}'")),
            },
        }
    }

    fn count_method(&self) -> Result<CountMethod, Refusal> {
        match self.single("count_method")? {
            None | Some("inmemory") => Ok(CountMethod::InMemory),
            Some("active") => Ok(CountMethod::Active),
            Some(other) => bad(format!(
                "invalid 'count_method' param '{other}'. valid options are: [active,inmemory]"
            )),
        }
    }

    /// What is counted.
    fn request(&self) -> Result<CardinalityRequest, Refusal> {
        Ok(CardinalityRequest {
            limit: self.limit()?,
            method: self.count_method()?,
            matchers: self.matchers.clone(),
        })
    }

    fn label_names(&self) -> Result<Vec<String>, Refusal> {
        let names = self.params.all("label_names[]");
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        let max = self
            .limits
            .label_values_max_cardinality_label_names_per_request;
        if names.is_empty() {
            return bad("'label_names[]' param is required".into());
        }
        if names.iter().any(String::is_empty) {
            return bad("invalid 'label_names' param ''".into());
        }
        names.sort_unstable();
        names.dedup();
        if max > 0 && names.len() > max {
            return bad(format!(
                "the request names {} labels in 'label_names[]', the limit is {max} (label_values_max_cardinality_label_names_per_request)",
                names.len()
            ));
        }
        Ok(names)
    }

    fn needs_selector(&self) -> Result<(), Refusal> {
        match self.single("selector")? {
            Some(_) => Ok(()),
            None => bad("'selector' param is required".into()),
        }
    }
}

fn json(body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}

/// `/cardinality/label_names`
pub(super) async fn label_names(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let call = CardinalityCall::new(&api, query.as_deref(), &headers, &body)?;
    let (request, tenant) = (call.request()?, &call.tenant);
    let counts = api.queries.label_names_cardinality(tenant, &request);
    Ok(json(names_json(&counts.await?)))
}

fn names_json(c: &LabelNamesCardinality) -> String {
    let mut out = format!(
        "{{\"label_values_count_total\":{},\"label_names_count\":{},\"cardinality\":[",
        c.values_total, c.names_total
    );
    for (i, (name, values)) in c.names.iter().enumerate() {
        out.push_str(if i > 0 {
            ",{\"label_name\":"
        } else {
            "{\"label_name\":"
        });
        push_quoted(&mut out, name);
        let _ = write!(out, ",\"label_values_count\":{values}}}");
    }
    out.push_str("]}");
    out
}

/// `/cardinality/label_values`
pub(super) async fn label_values(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let call = CardinalityCall::new(&api, query.as_deref(), &headers, &body)?;
    let (names, request) = (call.label_names()?, call.request()?);
    let tenant = &call.tenant;
    let counts = api
        .queries
        .label_values_cardinality(tenant, &names, &request);
    Ok(json(values_json(&counts.await?)))
}

fn values_json(c: &LabelValuesCardinality) -> String {
    let mut out = format!("{{\"series_count_total\":{},\"labels\":[", c.series_total);
    for (i, label) in c.labels.iter().enumerate() {
        out.push_str(if i > 0 {
            ",{\"label_name\":"
        } else {
            "{\"label_name\":"
        });
        push_quoted(&mut out, &label.name);
        let _ = write!(
            out,
            ",\"label_values_count\":{},\"series_count\":{},\"cardinality\":[",
            label.values_total, label.series_total
        );
        for (j, (value, series)) in label.values.iter().enumerate() {
            out.push_str(if j > 0 {
                ",{\"label_value\":"
            } else {
                "{\"label_value\":"
            });
            push_quoted(&mut out, value);
            let _ = write!(out, ",\"series_count\":{series}}}");
        }
        out.push_str("]}");
    }
    out.push_str("]}");
    out
}

/// `/cardinality/active_series`. The list is streamed; what is too large is refused before it begins.
pub(super) async fn active_series(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let call = CardinalityCall::new(&api, query.as_deref(), &headers, &body)?;
    call.needs_selector()?;
    let request = ActiveSeriesRequest {
        matchers: call.matchers,
        max_label_bytes: call.limits.active_series_results_max_size_bytes,
    };
    let series = api.queries.active_series(&call.tenant, &request);
    let series = series.await.map_err(ApiError::of_payload)?;
    Ok(json(Body::from_stream(series_stream(series))))
}

/// What of a list is printed next.
enum ListPlace {
    Begin,
    /// Behind so many series.
    Behind(usize),
    End,
}

fn series_stream(
    series: Box<dyn LabelBatches>,
) -> impl futures::Stream<Item = lgtm_core::Result<Bytes>> {
    stream::try_unfold((series, ListPlace::Begin), async |(mut series, place)| {
        let (text, next) = match place {
            ListPlace::Begin => ("{\"data\":[".to_owned(), ListPlace::Behind(0)),
            ListPlace::Behind(n) => match series.next_batch().await? {
                Some(batch) => (
                    batch_json(&batch, n == 0),
                    ListPlace::Behind(n + batch.len()),
                ),
                None => ("]}".to_owned(), ListPlace::End),
            },
            ListPlace::End => return Ok(None),
        };
        Ok(Some((Bytes::from(text), (series, next))))
    })
}

fn batch_json(batch: &[Labels], is_first: bool) -> String {
    let mut out = String::with_capacity(batch.len() * 128);
    for (i, labels) in batch.iter().enumerate() {
        if i > 0 || !is_first {
            out.push(',');
        }
        push_labels(&mut out, labels);
    }
    out
}

/// `/cardinality/active_native_histogram_metrics`
pub(super) async fn active_native_histogram_metrics(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let call = CardinalityCall::new(&api, query.as_deref(), &headers, &body)?;
    call.needs_selector()?;
    let (tenant, matchers) = (&call.tenant, &call.matchers);
    let all = api.queries.active_histograms(tenant, matchers).await?;
    let mut out = String::from("{\"data\":[");
    for (i, h) in all.iter().enumerate() {
        out.push_str(if i > 0 {
            ",{\"metric\":"
        } else {
            "{\"metric\":"
        });
        push_quoted(&mut out, &h.metric);
        let _ = write!(
            out,
            ",\"series_count\":{},\"bucket_count\":{},\"avg_bucket_count\":",
            h.series, h.buckets
        );
        push_float(&mut out, h.buckets as f64 / h.series as f64);
        let _ = write!(
            out,
            ",\"min_bucket_count\":{},\"max_bucket_count\":{}}}",
            h.min_buckets, h.max_buckets
        );
    }
    out.push_str("]}");
    Ok(json(out))
}
