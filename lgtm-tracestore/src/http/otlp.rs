//! OTLP: `POST /v1/traces`, protobuf or JSON, and `TraceService/Export` over gRPC, see `docs/format/http.md`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use lgtm_core::codec::Allowance;
use lgtm_core::http::{
    GrpcMessage, GrpcStatus, OtlpBody, grpc_refusal, grpc_unary, header_text, otlp_answer,
    otlp_failure, tenant,
};
use lgtm_core::limits::Ticket;
use lgtm_core::model::TenantId;
use lgtm_core::otlp::{OtlpSpelling, PartialSuccess};

use super::body::{read_body, size_bound};
use super::error::ApiError;
use super::push_api::PushApi;
use crate::limits::PushReport;
use crate::wire::{OTLP_REQUEST, PushBatch, decode_otlp};

/// In the words of the collector's receiver.
const UNSUPPORTED: &str =
    "415 unsupported media type, supported: [application/json, application/x-protobuf]";

/// `POST /v1/traces`
pub(super) async fn push(State(api): State<Arc<PushApi>>, request: Request) -> Response {
    let content_type = header_text(request.headers(), header::CONTENT_TYPE);
    let Some(spelling) = OtlpSpelling::of_content_type(content_type) else {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return ApiError::new(status, UNSUPPORTED).into_response();
    };
    let taken = async {
        let tenant = tenant(request.headers(), api.settings.multitenancy_enabled)?;
        let bound = size_bound(api.distributor.settings());
        let (ticket, headers, bytes) =
            read_body(api.distributor.inflight(), request, bound.max_bytes).await?;
        let body = OtlpBody::of_http(spelling, &headers, bytes, bound).ok_or_else(|| {
            let encoding = header_text(&headers, header::CONTENT_ENCODING);
            let text = format!("unsupported Content-Encoding: {encoding}");
            ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
        })?;
        take(&api, &tenant, ticket, body).await
    };
    match taken.await {
        Ok(report) => otlp_answer(spelling, StatusCode::OK, told(spelling, &report)),
        Err(e) => otlp_failure(spelling, e.status, &e.message, e.retry_after),
    }
}

/// `opentelemetry.proto.collector.trace.v1.TraceService/Export`
pub(super) async fn export(State(api): State<Arc<PushApi>>, request: Request) -> Response {
    if let Some(refusal) = grpc_refusal(request.version(), request.headers()) {
        return refusal;
    }
    let refused = |e: ApiError| GrpcStatus::of_push(e.status, e.message, e.retry_after);
    let taken = async {
        let tenant = tenant(request.headers(), api.settings.multitenancy_enabled);
        let tenant = tenant.map_err(|e| refused(e.into()))?;
        let bound = size_bound(api.distributor.settings());
        let read = read_body(api.distributor.inflight(), request, bound.max_bytes).await;
        let (ticket, headers, bytes) = read.map_err(refused)?;
        let body = OtlpBody::of_call(GrpcMessage::of(&headers, &bytes)?, bound);
        take(&api, &tenant, ticket, body).await.map_err(refused)
    };
    match taken.await {
        Ok(report) if report.refused.is_empty() => grpc_unary(Vec::new()),
        Ok(report) => grpc_unary(told(OtlpSpelling::Protobuf, &report)),
        Err(status) => status.into_response(),
    }
}

async fn take(
    api: &PushApi,
    tenant: &TenantId,
    ticket: Ticket,
    body: OtlpBody,
) -> Result<PushReport, ApiError> {
    let options = api.distributor.limits(tenant).push_options();
    let effort = body.effort();
    let decode = move |batch: &mut PushBatch, allowance: &mut Allowance<'_>| {
        decode_otlp(batch, options, allowance, |out, allowance| {
            body.fill(&OTLP_REQUEST, out, allowance)
        })
    };
    api.decode_and_push(tenant, ticket, effort, decode).await
}

/// What the sender is told: all was taken, or all but what stands in a partial success, which it must not send again.
fn told(spelling: OtlpSpelling, report: &PushReport) -> Vec<u8> {
    match report.partial_success() {
        Some((rejected, message)) => PartialSuccess {
            count_name: "rejectedSpans",
            rejected,
            message: &message,
        }
        .encode(spelling),
        None => match spelling {
            OtlpSpelling::Protobuf => Vec::new(),
            OtlpSpelling::Json => b"{\"partialSuccess\":{}}".to_vec(),
        },
    }
}
