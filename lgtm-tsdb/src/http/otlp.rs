//! OTLP over HTTP: `POST /otlp/v1/metrics`, protobuf or JSON, see `docs/format/otlp.md`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lgtm_core::Result;
use lgtm_core::codec::{Allowance, ContentEncoding, SizeBound};
use lgtm_core::http::DecodeEffort;
use lgtm_core::otlp::{OtlpSpelling, PartialSuccess, RpcStatus, json_to_protobuf};

use super::body::{read_body, size_bound};
use super::error::ApiError;
use super::push_api::PushApi;
use super::tenant::tenant;
use crate::components::PushOutcome;
use crate::wire::{OTLP_REQUEST, WriteBatch, decode_otlp};

/// Bytes of plain protobuf that are decoded in about a millisecond; of other bodies, a quarter.
const AT_ONCE_BYTES: usize = 256 << 10;

fn spelling(headers: &HeaderMap) -> std::result::Result<OtlpSpelling, ApiError> {
    let content_type = text(headers, header::CONTENT_TYPE);
    OtlpSpelling::of_content_type(content_type).ok_or_else(|| {
        ApiError::unsupported(format!(
            "content type {content_type:?} is neither application/x-protobuf nor application/json"
        ))
    })
}

fn answer(spelling: OtlpSpelling, status: StatusCode, body: Vec<u8>) -> Response {
    let content_type = [(header::CONTENT_TYPE, spelling.content_type())];
    (status, content_type, body).into_response()
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    let value = headers.get(name).and_then(|v| v.to_str().ok());
    value.unwrap_or("")
}

/// `POST /otlp/v1/metrics`
pub(super) async fn push(State(api): State<Arc<PushApi>>, request: Request) -> Response {
    let spelling = match spelling(request.headers()) {
        Ok(spelling) => spelling,
        Err(e) => return failure(OtlpSpelling::Protobuf, e),
    };
    match take(&api, request, spelling).await {
        Ok(outcome) => success(spelling, &outcome),
        Err(e) => failure(spelling, e),
    }
}

async fn take(
    api: &PushApi,
    request: Request,
    spelling: OtlpSpelling,
) -> std::result::Result<PushOutcome, ApiError> {
    let tenant = tenant(request.headers(), api.settings.multitenancy_enabled)?;
    let bound = size_bound(api.distributor.settings());
    let (ticket, headers, body) =
        read_body(api.distributor.inflight(), request, bound.max_bytes).await?;
    let encoding = text(&headers, header::CONTENT_ENCODING);
    let encoding = ContentEncoding::from_header(encoding).ok_or_else(|| {
        ApiError::unsupported(format!("content encoding {encoding:?} is not known"))
    })?;
    let limits = api.distributor.limits(&tenant);
    let (options, rules) = (limits.otlp(), limits.decode_rules());
    let is_plain = spelling == OtlpSpelling::Protobuf && encoding == ContentEncoding::Identity;
    let at_once = if is_plain {
        AT_ONCE_BYTES
    } else {
        AT_ONCE_BYTES / 4
    };
    let effort = if body.len() <= at_once {
        DecodeEffort::Small
    } else {
        DecodeEffort::Large
    };
    let decode = move |batch: &mut WriteBatch, allowance: &mut Allowance<'_>| {
        decode_otlp(batch, &options, &rules, allowance, |out, allowance| {
            fill(spelling, encoding, &body, bound, out, allowance)
        })
    };
    api.decode_and_push(&tenant, ticket, effort, decode).await
}

/// Brings the body into protobuf.
fn fill(
    spelling: OtlpSpelling,
    encoding: ContentEncoding,
    body: &[u8],
    bound: SizeBound,
    out: &mut Vec<u8>,
    allowance: &mut Allowance<'_>,
) -> Result<()> {
    match spelling {
        OtlpSpelling::Protobuf => encoding.decompress(body, bound, out, allowance),
        OtlpSpelling::Json if encoding == ContentEncoding::Identity => {
            json_to_protobuf(&OTLP_REQUEST, body, bound, out, allowance)
        }
        OtlpSpelling::Json => {
            let mut json = Vec::new();
            encoding.decompress(body, bound, &mut json, allowance)?;
            json_to_protobuf(&OTLP_REQUEST, &json, bound, out, allowance)
        }
    }
}

/// 200 when anything was taken, with what was not as a partial success; when nothing was, the sender must not take it for stored.
fn success(spelling: OtlpSpelling, outcome: &PushOutcome) -> Response {
    let rejected = outcome.report.rejected.total();
    let Some(fault) = ApiError::of_outcome(outcome) else {
        let body = match spelling {
            OtlpSpelling::Protobuf => Vec::new(),
            OtlpSpelling::Json => b"{}".to_vec(),
        };
        return answer(spelling, StatusCode::OK, body);
    };
    if outcome.report.samples + outcome.report.histograms == 0 || outcome.report.is_over_capacity {
        return failure(spelling, fault);
    }
    let partial = PartialSuccess {
        count_name: "rejectedDataPoints",
        rejected,
        message: &fault.message,
    };
    answer(spelling, StatusCode::OK, partial.encode(spelling))
}

/// `google.rpc.Status`. Clients send again on 429, 502, 503 and 504 only, so that a fault of ours is 503.
fn failure(spelling: OtlpSpelling, e: ApiError) -> Response {
    let status = match e.status {
        StatusCode::INTERNAL_SERVER_ERROR => StatusCode::SERVICE_UNAVAILABLE,
        other => other,
    };
    let code: u8 = match status.as_u16() {
        401 => 16,
        429 => 8,
        503 | 504 => 14,
        _ => 3,
    };
    let body = RpcStatus {
        code,
        message: &e.message,
        retry_after: None,
    };
    let mut response = answer(spelling, status, body.encode(spelling));
    if let Some(seconds) = e.retry_after_s {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
