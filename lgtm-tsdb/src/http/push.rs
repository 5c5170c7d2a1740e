//! Remote write.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lgtm_core::codec::{Allowance, snappy};
use lgtm_core::http::DecodeEffort;

use super::body::{read_body, size_bound};
use super::error::ApiError;
use super::push_api::PushApi;
use super::tenant::tenant;
use crate::components::PushOutcome;
use crate::wire::{WriteBatch, decode_v1, decode_v2};

/// Bytes, decompressed, that are decoded in about a millisecond: several times what senders put into a request by default.
const AT_ONCE_BYTES: usize = 512 << 10;

/// The protocols that senders speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    V1,
    V2,
}

/// Headers of every answer to a 2.0 request: without them its sender takes nothing for written.
const WRITTEN: [&str; 3] = [
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];

/// `POST /api/v1/push` and `/api/v1/write`.
pub(super) async fn push(State(api): State<Arc<PushApi>>, request: Request) -> Response {
    let protocol = match protocol(request.headers()) {
        Ok(protocol) => protocol,
        Err(e) => return e.into_plain(),
    };
    let taken = take(&api, request, protocol).await;
    let written = taken.as_ref().map_or([0; 3], |o| {
        [o.report.samples, o.report.histograms, o.report.exemplars]
    });
    let mut response = match taken {
        Ok(outcome) => ApiError::of_outcome(&outcome)
            .map_or_else(|| StatusCode::OK.into_response(), ApiError::into_plain),
        Err(e) => e.into_plain(),
    };
    if protocol == Protocol::V2 {
        for (name, count) in WRITTEN.into_iter().zip(written) {
            response
                .headers_mut()
                .insert(name, HeaderValue::from(count));
        }
    }
    response
}

async fn take(
    api: &PushApi,
    request: Request,
    protocol: Protocol,
) -> Result<PushOutcome, ApiError> {
    let tenant = tenant(request.headers(), api.settings.multitenancy_enabled)?;
    let bound = size_bound(api.distributor.settings());
    let (ticket, _, body) = read_body(api.distributor.inflight(), request, bound.max_bytes).await?;
    let claimed = snappy::decompressed_len(&body, bound).map_err(ApiError::of_payload)?;
    let rules = api.distributor.limits(&tenant).decode_rules();
    let effort = if claimed <= AT_ONCE_BYTES {
        DecodeEffort::Small
    } else {
        DecodeEffort::Large
    };
    let decode = move |batch: &mut WriteBatch, allowance: &mut Allowance<'_>| {
        let fill = |out: &mut Vec<u8>, allowance: &mut Allowance<'_>| {
            out.clear();
            allowance.reserve(out, claimed)?;
            snappy::decompress(&body, bound, out)
        };
        match protocol {
            Protocol::V1 => decode_v1(batch, &rules, allowance, fill),
            Protocol::V2 => decode_v2(batch, &rules, allowance, fill),
        }
    };
    api.decode_and_push(&tenant, ticket, effort, decode).await
}

/// Which protocol a request says that it speaks. No content type means remote write 1.0.
fn protocol(headers: &HeaderMap) -> Result<Protocol, ApiError> {
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
        None | Some("prometheus.WriteRequest") => Ok(Protocol::V1),
        Some("io.prometheus.write.v2.Request") => Ok(Protocol::V2),
        Some(other) => Err(ApiError::unsupported(format!(
            "message type {other:?} is not known"
        ))),
    }
}
