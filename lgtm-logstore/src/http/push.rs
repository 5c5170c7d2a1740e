//! Loki's push, as protobuf and as JSON, see `docs/format/push.md`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lgtm_core::codec::{Allowance, ContentEncoding, SizeBound, snappy};
use lgtm_core::go::quote;
use lgtm_core::http::DecodeEffort;
use lgtm_core::model::TenantId;
use lgtm_core::{Error, Result};

use super::body::{read_body, size_bound};
use super::error::ApiError;
use super::push_api::PushApi;
use super::tenant::tenant;
use crate::limits::PushReport;
use crate::wire::{PushBatch, PushOptions, decode_json, decode_legacy_json, decode_protobuf};

/// Bytes, decompressed, that are decoded in about a millisecond: several times what senders put into a request by default.
const AT_ONCE_BYTES: usize = 512 << 10;
/// The same of JSON.
const JSON_AT_ONCE_BYTES: usize = 128 << 10;

/// The header of a push that brings what was missed, and names which part of it.
const BACKFILL_SHARD: &str = "x-loki-backfill-shard";
/// Loki's bound.
const MAX_BACKFILL_SHARD_BYTES: usize = 128;

/// How a push is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Protobuf,
    Json,
    LegacyJson,
}

/// `POST /loki/api/v1/push`
pub(super) async fn push(State(api): State<Arc<PushApi>>, request: Request) -> Response {
    answer(&api, request, Form::Json).await
}

/// `POST /api/prom/push`, whose JSON is older.
pub(super) async fn legacy_push(State(api): State<Arc<PushApi>>, request: Request) -> Response {
    answer(&api, request, Form::LegacyJson).await
}

async fn answer(api: &PushApi, request: Request, json: Form) -> Response {
    let taken = async {
        let tenant = tenant(request.headers(), api.settings.multitenancy_enabled)?;
        let report = take(api, &tenant, request, json).await?;
        Ok(report.refusal(tenant.as_str()))
    };
    match taken.await {
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Ok(Some(refusal)) => told(refusal.into()),
        Err(e) => told(e),
    }
}

fn told(e: ApiError) -> Response {
    if e.message.ends_with('\n') {
        e.into_response()
    } else {
        e.into_line()
    }
}

async fn take(
    api: &PushApi,
    tenant: &TenantId,
    request: Request,
    json: Form,
) -> std::result::Result<PushReport, ApiError> {
    let form = form(request.headers(), json)?;
    let encoding = encoding(request.headers())?;
    let backfill = backfill_shard(request.headers())?;
    let bound = size_bound(api.distributor.settings());
    let (ticket, _, body) = read_body(api.distributor.inflight(), request, bound.max_bytes).await?;
    let limits = api.distributor.limits(tenant);
    let effort = effort(form, encoding, &body, bound)?;
    let decode = move |batch: &mut PushBatch, allowance: &mut Allowance<'_>| {
        let options = PushOptions {
            backfill_shard: backfill.as_deref(),
            ..limits.push_options()
        };
        let fill = |out: &mut Vec<u8>, allowance: &mut Allowance<'_>| match form {
            Form::Protobuf => unpacked(encoding, &body, bound, out, allowance),
            Form::Json | Form::LegacyJson => encoding.decompress(&body, bound, out, allowance),
        };
        match form {
            Form::Protobuf => decode_protobuf(batch, &options, allowance, fill),
            Form::Json => decode_json(batch, &options, allowance, fill),
            Form::LegacyJson => decode_legacy_json(batch, &options, allowance, fill),
        }
    };
    api.decode_and_push(tenant, ticket, effort, decode).await
}

/// The body of a protobuf push: always one Snappy block, which other compressions may wrap.
fn unpacked(
    encoding: ContentEncoding,
    body: &[u8],
    bound: SizeBound,
    out: &mut Vec<u8>,
    allowance: &mut Allowance<'_>,
) -> Result<()> {
    let mut inner = Vec::new();
    let block = match encoding {
        ContentEncoding::Identity => body,
        _ => {
            encoding.decompress(body, bound, &mut inner, allowance)?;
            &inner
        }
    };
    let claimed = snappy::decompressed_len(block, bound).map_err(corrupt)?;
    out.clear();
    allowance.reserve(out, claimed)?;
    snappy::decompress(block, bound, out).map_err(corrupt)
}

/// In the words of Go's library, which senders' operators know.
fn corrupt(e: Error) -> Error {
    match e {
        Error::InvalidInput(_) => Error::InvalidInput("snappy: corrupt input".into()),
        other => other,
    }
}

fn effort(
    form: Form,
    encoding: ContentEncoding,
    body: &[u8],
    bound: SizeBound,
) -> std::result::Result<DecodeEffort, ApiError> {
    let is_small = match (form, encoding) {
        (Form::Protobuf, ContentEncoding::Identity) => {
            let claimed = snappy::decompressed_len(body, bound);
            claimed.map_err(|e| ApiError::of_payload(corrupt(e)))? <= AT_ONCE_BYTES
        }
        (Form::Protobuf, _) => body.len() <= AT_ONCE_BYTES / 8,
        (_, ContentEncoding::Identity) => body.len() <= JSON_AT_ONCE_BYTES,
        // Text becomes some ten times what it was; what becomes more goes to the pool while it is decoded.
        _ => body.len() <= JSON_AT_ONCE_BYTES / 8,
    };
    Ok(if is_small {
        DecodeEffort::Small
    } else {
        DecodeEffort::Large
    })
}

fn form(headers: &HeaderMap, json: Form) -> std::result::Result<Form, ApiError> {
    let none = || ApiError::bad_request("mime: no media type");
    let content_type = headers.get(header::CONTENT_TYPE).ok_or_else(none)?;
    let content_type = content_type.to_str().map_err(|_| none())?;
    let media = content_type.split(';').next().unwrap_or_default().trim();
    if media.is_empty() {
        return Err(none());
    }
    let is_json = media.eq_ignore_ascii_case("application/json");
    Ok(if is_json { json } else { Form::Protobuf })
}

/// The part of what was missed that a push says it is.
pub(super) fn backfill_shard(headers: &HeaderMap) -> std::result::Result<Option<String>, ApiError> {
    let Some(value) = headers.get(BACKFILL_SHARD).filter(|v| !v.is_empty()) else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(shard) if shard.len() <= MAX_BACKFILL_SHARD_BYTES => Ok(Some(shard.to_owned())),
        _ => Err(ApiError::bad_request(format!(
            "{BACKFILL_SHARD} is not at most {MAX_BACKFILL_SHARD_BYTES} ASCII characters"
        ))),
    }
}

/// What wraps the body. Snappy is what protobuf always is, and says nothing.
fn encoding(headers: &HeaderMap) -> std::result::Result<ContentEncoding, ApiError> {
    let value = headers.get(header::CONTENT_ENCODING);
    let value = value.and_then(|v| v.to_str().ok()).unwrap_or("");
    match value {
        "snappy" => Ok(ContentEncoding::Identity),
        other => ContentEncoding::from_header(other).ok_or_else(|| {
            ApiError::bad_request(format!("Content-Encoding {} not supported", quote(other)))
        }),
    }
}
