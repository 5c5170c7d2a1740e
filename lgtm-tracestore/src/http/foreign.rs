//! Senders that speak no OTLP: Zipkin (`/api/v1/spans`, `/api/v2/spans`) and Jaeger's Thrift (`/api/traces`). Answered 202 without a body.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use lgtm_core::Result;
use lgtm_core::codec::{Allowance, ContentEncoding};
use lgtm_core::http::{DecodeEffort, header_text, tenant};

use super::body::{read_body, size_bound};
use super::error::ApiError;
use super::push_api::PushApi;
use crate::wire::{
    PushBatch, PushOptions, ZipkinVersion, decode_jaeger_thrift, decode_zipkin_json,
    decode_zipkin_protobuf,
};

/// Bytes that are decoded in about a millisecond.
const AT_ONCE_BYTES: usize = 64 << 10;

/// How spans are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    ZipkinJson(ZipkinVersion),
    ZipkinProtobuf,
    JaegerThrift,
}

type Answer = std::result::Result<StatusCode, ApiError>;

/// `POST /api/v1/spans`
pub(super) async fn zipkin_v1(State(api): State<Arc<PushApi>>, request: Request) -> Answer {
    let form = match media_type(request.headers()) {
        "application/json" | "" => Form::ZipkinJson(ZipkinVersion::V1),
        other => return Err(unsupported(other)),
    };
    take(&api, request, form).await
}

/// `POST /api/v2/spans`
pub(super) async fn zipkin_v2(State(api): State<Arc<PushApi>>, request: Request) -> Answer {
    let form = match media_type(request.headers()) {
        "application/json" | "" => Form::ZipkinJson(ZipkinVersion::V2),
        "application/x-protobuf" => Form::ZipkinProtobuf,
        other => return Err(unsupported(other)),
    };
    take(&api, request, form).await
}

/// `POST /api/traces`
pub(super) async fn jaeger(State(api): State<Arc<PushApi>>, request: Request) -> Answer {
    match media_type(request.headers()) {
        "application/x-thrift" | "application/vnd.apache.thrift.binary" => {}
        other => return Err(unsupported(other)),
    }
    take(&api, request, Form::JaegerThrift).await
}

fn media_type(headers: &HeaderMap) -> &str {
    let content_type = header_text(headers, header::CONTENT_TYPE);
    content_type.split(';').next().unwrap_or_default().trim()
}

fn unsupported(media_type: &str) -> ApiError {
    ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("unsupported content type: {media_type}"),
    )
}

async fn take(api: &PushApi, request: Request, form: Form) -> Answer {
    let tenant = tenant(request.headers(), api.settings.multitenancy_enabled)?;
    let bound = size_bound(api.distributor.settings());
    let (ticket, headers, bytes) =
        read_body(api.distributor.inflight(), request, bound.max_bytes).await?;
    let encoding = header_text(&headers, header::CONTENT_ENCODING);
    let encoding = ContentEncoding::from_header(encoding).ok_or_else(|| {
        let text = format!("unsupported Content-Encoding: {encoding}");
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
    })?;
    let options = api.distributor.limits(&tenant).push_options();
    let effort = if bytes.len() <= AT_ONCE_BYTES {
        DecodeEffort::Small
    } else {
        DecodeEffort::Large
    };
    let decode = move |batch: &mut PushBatch, allowance: &mut Allowance<'_>| {
        let mut unpacked = Vec::new();
        let plain = if encoding == ContentEncoding::Identity {
            &bytes[..]
        } else {
            encoding.decompress(&bytes, bound, &mut unpacked, allowance)?;
            &unpacked[..]
        };
        decode(form, plain, batch, options, allowance)
    };
    // These senders have no ear for a partial success; what was refused is counted.
    let _ = api.decode_and_push(&tenant, ticket, effort, decode).await?;
    Ok(StatusCode::ACCEPTED)
}

fn decode(
    form: Form,
    body: &[u8],
    batch: &mut PushBatch,
    options: PushOptions,
    allowance: &mut Allowance<'_>,
) -> Result<()> {
    match form {
        Form::ZipkinJson(version) => decode_zipkin_json(batch, options, version, body, allowance),
        Form::ZipkinProtobuf => decode_zipkin_protobuf(batch, options, body, allowance),
        Form::JaegerThrift => decode_jaeger_thrift(batch, options, body, allowance),
    }
}
