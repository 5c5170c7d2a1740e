//! OTLP: `POST /otlp/v1/metrics`, protobuf or JSON, and `MetricsService/Export` over gRPC, see `docs/format/otlp.md`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lgtm_core::codec::Allowance;
use lgtm_core::http::{
    GrpcMessage, GrpcStatus, OtlpBody, grpc_refusal, grpc_unary, header_text, otlp_answer,
    otlp_failure,
};
use lgtm_core::limits::Ticket;
use lgtm_core::model::TenantId;
use lgtm_core::otlp::{OtlpSpelling, PartialSuccess};

use super::body::{read_body, size_bound};
use super::error::ApiError;
use super::push_api::PushApi;
use super::tenant::tenant;
use crate::components::PushOutcome;
use crate::wire::{OTLP_REQUEST, WriteBatch, decode_otlp};

fn spelling(headers: &HeaderMap) -> Result<OtlpSpelling, ApiError> {
    let content_type = header_text(headers, header::CONTENT_TYPE);
    OtlpSpelling::of_content_type(content_type).ok_or_else(|| {
        ApiError::unsupported(format!(
            "content type {content_type:?} is neither application/x-protobuf nor application/json"
        ))
    })
}

/// `POST /otlp/v1/metrics`
pub(super) async fn push(State(api): State<Arc<PushApi>>, request: Request) -> Response {
    let spelling = match spelling(request.headers()) {
        Ok(spelling) => spelling,
        Err(e) => return failure(OtlpSpelling::Protobuf, &e),
    };
    let taken = async {
        let tenant = tenant(request.headers(), api.settings.multitenancy_enabled)?;
        let bound = size_bound(api.distributor.settings());
        let (ticket, headers, bytes) =
            read_body(api.distributor.inflight(), request, bound.max_bytes).await?;
        let body = OtlpBody::of_http(spelling, &headers, bytes, bound).ok_or_else(|| {
            let encoding = header_text(&headers, header::CONTENT_ENCODING);
            ApiError::unsupported(format!("content encoding {encoding:?} is not known"))
        })?;
        told(spelling, &take(&api, &tenant, ticket, body).await?)
    };
    match taken.await {
        Ok(body) => otlp_answer(spelling, StatusCode::OK, body),
        Err(e) => failure(spelling, &e),
    }
}

/// `opentelemetry.proto.collector.metrics.v1.MetricsService/Export`
pub(super) async fn export(State(api): State<Arc<PushApi>>, request: Request) -> Response {
    if let Some(refusal) = grpc_refusal(request.version(), request.headers()) {
        return refusal;
    }
    let taken = async {
        let tenant = tenant(request.headers(), api.settings.multitenancy_enabled)?;
        let bound = size_bound(api.distributor.settings());
        let (ticket, headers, bytes) =
            read_body(api.distributor.inflight(), request, bound.max_bytes).await?;
        let body = OtlpBody::of_call(GrpcMessage::of(&headers, &bytes)?, bound);
        let outcome = take(&api, &tenant, ticket, body).await?;
        Ok::<_, GrpcStatus>(told(OtlpSpelling::Protobuf, &outcome)?)
    };
    match taken.await {
        Ok(answer) => grpc_unary(answer),
        Err(status) => status.into_response(),
    }
}

impl From<ApiError> for GrpcStatus {
    fn from(e: ApiError) -> Self {
        let retry_after = e.retry_after_s.map(Duration::from_secs);
        Self::of_push(e.status, e.message, retry_after)
    }
}

async fn take(
    api: &PushApi,
    tenant: &TenantId,
    ticket: Ticket,
    body: OtlpBody,
) -> Result<PushOutcome, ApiError> {
    let limits = api.distributor.limits(tenant);
    let (options, rules) = (limits.otlp(), limits.decode_rules());
    let effort = body.effort();
    let decode = move |batch: &mut WriteBatch, allowance: &mut Allowance<'_>| {
        decode_otlp(batch, &options, &rules, allowance, |out, allowance| {
            body.fill(&OTLP_REQUEST, out, allowance)
        })
    };
    api.decode_and_push(tenant, ticket, effort, decode).await
}

/// What the sender is told: all was taken when anything was, with what was not as a partial success; when nothing was, it must not take it for stored.
fn told(spelling: OtlpSpelling, outcome: &PushOutcome) -> Result<Vec<u8>, ApiError> {
    let Some(fault) = ApiError::of_outcome(outcome) else {
        return Ok(match spelling {
            OtlpSpelling::Protobuf => Vec::new(),
            OtlpSpelling::Json => b"{}".to_vec(),
        });
    };
    if outcome.report.samples + outcome.report.histograms == 0 || outcome.report.is_over_capacity {
        return Err(fault);
    }
    let partial = PartialSuccess {
        count_name: "rejectedDataPoints",
        rejected: outcome.report.rejected.total(),
        message: &fault.message,
    };
    Ok(partial.encode(spelling))
}

fn failure(spelling: OtlpSpelling, e: &ApiError) -> Response {
    let retry_after = e.retry_after_s.map(Duration::from_secs);
    otlp_failure(spelling, e.status, &e.message, retry_after)
}
