//! Bodies of requests, read as far as there is room, and what is said of those that are not.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use lgtm_core::Error;
use lgtm_core::codec::SizeBound;
use lgtm_core::http::{self, BodyError, Refusals, RouteBounds};
use lgtm_core::limits::{Inflight, Ticket};

use super::error::ApiError;
use super::settings::ApiSettings;
use crate::components::DistributorSettings;

/// Bytes of a push, compressed and decompressed.
pub(super) fn size_bound(settings: &DistributorSettings) -> SizeBound {
    SizeBound {
        max_bytes: settings.max_recv_msg_size.as_usize(),
        hint: "(max_recv_msg_size)",
    }
}

/// Reads the body of a push.
pub(super) async fn read_body(
    inflight: &Arc<Inflight>,
    request: Request,
    max_bytes: usize,
) -> Result<(Ticket, HeaderMap, Bytes), ApiError> {
    let read = http::read_body(inflight, request, max_bytes as u64).await;
    read.map_err(|e| match e {
        BodyError::TooLarge { bytes, max } => ApiError::of_payload(Error::LimitExceeded(format!(
            "it has at least {bytes} bytes, the limit is {max} (max_recv_msg_size)"
        ))),
        BodyError::NoRoom(e) => e.into(),
        // A sender drops what is refused with 4xx; what came too slowly today may come in time tomorrow.
        BodyError::TooSlow(why) => Error::Unavailable(why).into(),
        broken => ApiError::bad_request(broken.to_string()),
    })
}

/// How much requests that store nothing and their answers may be.
pub(super) fn bounds(settings: &ApiSettings) -> RouteBounds {
    RouteBounds {
        max_body: settings.max_query_body_size,
        max_bodies: settings.max_inflight_query_bodies_bytes,
        max_answers: settings.max_inflight_answer_bytes,
        multitenancy_enabled: settings.multitenancy_enabled,
    }
}

/// What is said of requests that are refused before their handlers run.
pub(super) const REFUSALS: Refusals = Refusals {
    body: |e| refused(e).into_response(),
    error: |e| ApiError::from(e).into_response(),
};

fn refused(e: BodyError) -> ApiError {
    let mut out = ApiError::bad_request(e.to_string());
    match e {
        BodyError::TooLarge { .. } => {
            out.status = StatusCode::PAYLOAD_TOO_LARGE;
            out.message += " (server.max_query_body_size)";
        }
        BodyError::NoRoom(e) => return e.into(),
        BodyError::TooSlow(_) => out.status = StatusCode::REQUEST_TIMEOUT,
        _ => {}
    }
    out
}
