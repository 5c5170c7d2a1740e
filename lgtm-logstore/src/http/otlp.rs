//! OTLP: `POST /otlp/v1/logs`, protobuf or JSON, and `LogsService/Export` over gRPC, see `docs/format/push.md`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lgtm_core::codec::Allowance;
use lgtm_core::codec::protobuf::put_bytes_field;
use lgtm_core::http::{GrpcMessage, GrpcStatus, OtlpBody, grpc_refusal, grpc_unary, header_text};
use lgtm_core::limits::Ticket;
use lgtm_core::model::TenantId;
use lgtm_core::otlp::OtlpSpelling;

use super::body::{read_body, size_bound};
use super::error::ApiError;
use super::push::backfill_shard;
use super::push_api::PushApi;
use super::tenant::tenant;
use crate::limits::PushReport;
use crate::wire::{OTLP_REQUEST, PushBatch, PushOptions, decode_otlp};

/// Compared to the letter, as in Loki.
fn spelling(headers: &HeaderMap) -> Result<OtlpSpelling, ApiError> {
    match header_text(headers, header::CONTENT_TYPE) {
        "application/x-protobuf" => Ok(OtlpSpelling::Protobuf),
        "application/json" => Ok(OtlpSpelling::Json),
        other => Err(ApiError::bad_request(format!(
            "content type: {other} is not supported"
        ))),
    }
}

/// `POST /otlp/v1/logs`
pub(super) async fn push(State(api): State<Arc<PushApi>>, request: Request) -> Response {
    let taken = async {
        let headers = request.headers();
        let tenant = tenant(headers, api.settings.multitenancy_enabled)?;
        let spelling = spelling(headers)?;
        let backfill = backfill_shard(headers)?;
        let bound = size_bound(api.distributor.settings());
        let headers = headers.clone();
        // A body whose compression nobody knows is not read.
        let unread = OtlpBody::of_http(spelling, &headers, Default::default(), bound);
        let unread = unread.ok_or_else(|| {
            let encoding = header_text(&headers, header::CONTENT_ENCODING);
            ApiError::bad_request(format!(
                "\"{encoding}\" is not a supported content encoding"
            ))
        })?;
        let (ticket, _, bytes) =
            read_body(api.distributor.inflight(), request, bound.max_bytes).await?;
        let body = OtlpBody { bytes, ..unread };
        let report = take(&api, &tenant, ticket, body, backfill).await?;
        Ok(report.refusal(tenant.as_str()))
    };
    match taken.await {
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Ok(Some(refusal)) => failure(refusal.into()),
        Err(e) => failure(e),
    }
}

/// `opentelemetry.proto.collector.logs.v1.LogsService/Export`
pub(super) async fn export(State(api): State<Arc<PushApi>>, request: Request) -> Response {
    if let Some(refusal) = grpc_refusal(request.version(), request.headers()) {
        return refusal;
    }
    let taken = async {
        let tenant = tenant(request.headers(), api.settings.multitenancy_enabled)?;
        let backfill = backfill_shard(request.headers())?;
        let bound = size_bound(api.distributor.settings());
        let (ticket, headers, bytes) =
            read_body(api.distributor.inflight(), request, bound.max_bytes).await?;
        let body = OtlpBody::of_call(GrpcMessage::of(&headers, &bytes)?, bound);
        let report = take(&api, &tenant, ticket, body, backfill).await?;
        match report.refusal(tenant.as_str()) {
            None => Ok(()),
            Some(refusal) => Err(GrpcStatus::from(ApiError::from(refusal))),
        }
    };
    match taken.await {
        Ok(()) => grpc_unary(Vec::new()),
        Err(status) => status.into_response(),
    }
}

impl From<ApiError> for GrpcStatus {
    fn from(e: ApiError) -> Self {
        let retry_after = e.retry_after_s.map(Duration::from_secs);
        Self::of_push(e.status, e.message.trim_end(), retry_after)
    }
}

async fn take(
    api: &PushApi,
    tenant: &TenantId,
    ticket: Ticket,
    body: OtlpBody,
    backfill: Option<String>,
) -> Result<PushReport, ApiError> {
    let limits = api.distributor.limits(tenant);
    let effort = body.effort();
    let now_ns = api.clock.now_ms().to_ns();
    let decode = move |batch: &mut PushBatch, allowance: &mut Allowance<'_>| {
        let options = PushOptions {
            backfill_shard: backfill.as_deref(),
            ..limits.push_options()
        };
        decode_otlp(batch, &options, now_ns, allowance, |out, allowance| {
            body.fill(&OTLP_REQUEST, out, allowance)
        })
    };
    api.decode_and_push(tenant, ticket, effort, decode).await
}

/// `google.rpc.Status` with its message alone, whatever the request was spelled in. Clients send again on 429, 502, 503 and 504 only, so that a
/// fault of ours is 503.
fn failure(e: ApiError) -> Response {
    let status = match e.status {
        StatusCode::INTERNAL_SERVER_ERROR => StatusCode::SERVICE_UNAVAILABLE,
        other => other,
    };
    let mut body = Vec::new();
    put_bytes_field(&mut body, 2, e.message.trim_end().as_bytes());
    let content_type = [(header::CONTENT_TYPE, "application/octet-stream")];
    let mut response = (status, content_type, body).into_response();
    response.headers_mut().extend(e.retry_header());
    response
}
