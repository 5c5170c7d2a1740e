//! Remote write.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lgtm_core::Error;

use super::api::Api;
use super::error::ApiError;
use super::tenant::tenant;
use crate::wire::{WriteBatch, decode_v1, decompress};

/// Decoded requests that are kept for the next ones; each keeps about the memory of the largest request it held.
const KEPT_BATCHES: usize = 8;
/// A batch that has grown beyond this is not kept.
const KEPT_BYTES: usize = 8 << 20;

/// `POST /api/v1/push` and `/api/v1/write`.
pub(super) async fn push(State(api): State<Arc<Api>>, headers: HeaderMap, body: Bytes) -> Response {
    match take(&api, &headers, &body).await {
        Ok(None) => StatusCode::OK.into_response(),
        Ok(Some(fault)) => ApiError::bad_data(fault).into_plain(),
        Err(e) => e.into_plain(),
    }
}

/// Stores a request; gives the first fault if something of it was left out.
async fn take(api: &Api, headers: &HeaderMap, body: &Bytes) -> Result<Option<String>, ApiError> {
    let tenant = tenant(headers, api.settings.multitenancy_enabled)?;
    check_protocol(headers)?;
    let mut batch = api.batches.lock().pop().unwrap_or_default();
    let max = usize::try_from(api.settings.max_recv_msg_size.as_u64()).unwrap_or(usize::MAX);
    let decoded = decode_v1(&mut batch, |out| {
        decompress(body, max, out).map_err(PushError)
    });
    let outcome = match decoded {
        Ok(()) => api
            .distributor
            .push(&tenant, &batch)
            .await
            .map_err(ApiError::of_push),
        Err(PushError(e)) => Err(ApiError::of_push(e)),
    };
    keep(api, batch);
    Ok(outcome?.fault().map(str::to_owned))
}

struct PushError(Error);

impl From<lgtm_core::DecodeError> for PushError {
    fn from(e: lgtm_core::DecodeError) -> Self {
        Self(Error::InvalidInput(format!("request does not decode: {e}")))
    }
}

fn keep(api: &Api, batch: WriteBatch) {
    let mut kept = api.batches.lock();
    if kept.len() < KEPT_BATCHES && batch.heap_bytes() <= KEPT_BYTES {
        kept.push(batch);
    }
}

/// Which protocol a request says that it speaks. No content type means remote write 1.0.
fn check_protocol(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
    };
    let encoding = text(header::CONTENT_ENCODING);
    if !encoding.is_empty() && encoding != "snappy" {
        return Err(ApiError::unsupported(format!(
            "content encoding {encoding:?} is not snappy"
        )));
    }
    let content_type = text(header::CONTENT_TYPE);
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().unwrap_or("");
    if !media.is_empty() && media != "application/x-protobuf" {
        return Err(ApiError::unsupported(format!(
            "content type {content_type:?} is not application/x-protobuf"
        )));
    }
    match parts.find_map(|p| p.strip_prefix("proto=")) {
        None | Some("prometheus.WriteRequest") => Ok(()),
        Some(other) => Err(ApiError::unsupported(format!(
            "message type {other:?} is not known"
        ))),
    }
}
