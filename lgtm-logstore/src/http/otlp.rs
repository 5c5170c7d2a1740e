//! OTLP over HTTP: `POST /otlp/v1/logs`, protobuf or JSON, see `docs/format/push.md`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lgtm_core::Result;
use lgtm_core::codec::protobuf::put_bytes_field;
use lgtm_core::codec::{Allowance, ContentEncoding, SizeBound};
use lgtm_core::http::DecodeEffort;
use lgtm_core::model::TenantId;
use lgtm_core::otlp::json_to_protobuf;

use super::body::{read_body, size_bound};
use super::error::ApiError;
use super::push::backfill_shard;
use super::push_api::PushApi;
use super::tenant::tenant;
use crate::limits::PushReport;
use crate::wire::{OTLP_REQUEST, PushBatch, PushOptions, decode_otlp};

/// Bytes of plain protobuf that are decoded in about a millisecond; of other bodies, a quarter.
const AT_ONCE_BYTES: usize = 256 << 10;

/// The two spellings of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Protobuf,
    Json,
}

impl Spelling {
    /// Compared to the letter, as in Loki.
    fn of(headers: &HeaderMap) -> std::result::Result<Self, ApiError> {
        match text(headers, header::CONTENT_TYPE) {
            "application/x-protobuf" => Ok(Self::Protobuf),
            "application/json" => Ok(Self::Json),
            other => Err(ApiError::bad_request(format!(
                "content type: {other} is not supported"
            ))),
        }
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    let value = headers.get(name).and_then(|v| v.to_str().ok());
    value.unwrap_or("")
}

/// `POST /otlp/v1/logs`
pub(super) async fn push(State(api): State<Arc<PushApi>>, request: Request) -> Response {
    let taken = async {
        let tenant = tenant(request.headers(), api.settings.multitenancy_enabled)?;
        let report = take(&api, &tenant, request).await?;
        Ok(report.refusal(tenant.as_str()))
    };
    match taken.await {
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Ok(Some(refusal)) => failure(refusal.into()),
        Err(e) => failure(e),
    }
}

async fn take(
    api: &PushApi,
    tenant: &TenantId,
    request: Request,
) -> std::result::Result<PushReport, ApiError> {
    let spelling = Spelling::of(request.headers())?;
    let encoding = text(request.headers(), header::CONTENT_ENCODING);
    let encoding = ContentEncoding::from_header(encoding).ok_or_else(|| {
        ApiError::bad_request(format!(
            "\"{encoding}\" is not a supported content encoding"
        ))
    })?;
    let backfill = backfill_shard(request.headers())?;
    let bound = size_bound(api.distributor.settings());
    let (ticket, _, body) = read_body(api.distributor.inflight(), request, bound.max_bytes).await?;
    let limits = api.distributor.limits(tenant);
    let is_plain = (spelling, encoding) == (Spelling::Protobuf, ContentEncoding::Identity);
    let at_once = AT_ONCE_BYTES / if is_plain { 1 } else { 4 };
    let effort = if body.len() <= at_once {
        DecodeEffort::Small
    } else {
        DecodeEffort::Large
    };
    let now_ns = api.clock.now_ms().to_ns();
    let decode = move |batch: &mut PushBatch, allowance: &mut Allowance<'_>| {
        let fill = |out: &mut Vec<u8>, allowance: &mut Allowance<'_>| {
            to_protobuf(spelling, encoding, &body, bound, out, allowance)
        };
        let options = PushOptions {
            backfill_shard: backfill.as_deref(),
            ..limits.push_options()
        };
        decode_otlp(batch, &options, now_ns, allowance, fill)
    };
    api.decode_and_push(tenant, ticket, effort, decode).await
}

/// Writes the body as plain protobuf into `out`.
fn to_protobuf(
    spelling: Spelling,
    encoding: ContentEncoding,
    body: &[u8],
    bound: SizeBound,
    out: &mut Vec<u8>,
    allowance: &mut Allowance<'_>,
) -> Result<()> {
    match spelling {
        Spelling::Protobuf => encoding.decompress(body, bound, out, allowance),
        Spelling::Json if encoding == ContentEncoding::Identity => {
            json_to_protobuf(&OTLP_REQUEST, body, bound, out, allowance)
        }
        Spelling::Json => {
            let mut json = Vec::new();
            encoding.decompress(body, bound, &mut json, allowance)?;
            json_to_protobuf(&OTLP_REQUEST, &json, bound, out, allowance)
        }
    }
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
