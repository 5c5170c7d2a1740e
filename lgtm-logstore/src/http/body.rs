//! Bodies of requests, read as far as there is room, and what is said of those that are not.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use lgtm_core::Error;
use lgtm_core::codec::SizeBound;
use lgtm_core::http::{self, BodyError};
use lgtm_core::limits::{Inflight, InflightBound, Ticket};

use super::error::ApiError;
use super::query_api::QueryApi;
use super::settings::ApiSettings;
use crate::components::DistributorSettings;

/// Bytes of a push, compressed and decompressed.
pub(super) fn size_bound(settings: &DistributorSettings) -> SizeBound {
    SizeBound {
        max_bytes: settings.max_recv_msg_size.as_usize(),
        hint: "(max_recv_msg_size)",
    }
}

/// What bodies of all other requests hold. Queries have their own turns, so that only bytes are bounded here.
pub(super) fn queries(settings: &ApiSettings) -> Arc<Inflight> {
    let requests = InflightBound { max: 0, hint: "" };
    let bytes = InflightBound {
        max: settings.max_inflight_query_bodies_bytes.as_u64(),
        hint: "(server.max_inflight_query_bodies_bytes)",
    };
    Arc::new(Inflight::new(requests, bytes))
}

/// What answers hold that are not sent yet.
pub(super) fn answers(settings: &ApiSettings) -> Arc<Inflight> {
    let requests = InflightBound { max: 0, hint: "" };
    let bytes = InflightBound {
        max: settings.max_inflight_answer_bytes.as_u64(),
        hint: "by answers that their clients have not read yet (server.max_inflight_answer_bytes)",
    };
    Arc::new(Inflight::new(requests, bytes))
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

/// Reads the body of any other request before its handler runs, with bounds of our own.
pub(super) async fn bounded(
    State(api): State<Arc<QueryApi>>,
    request: Request,
    next: Next,
) -> Response {
    let max = api.settings.max_query_body_size.as_u64();
    let answer = http::with_body(&api.bodies, max, request, next).await;
    answer.unwrap_or_else(|e| refused(e).into_response())
}

/// Counts a large answer that is held whole, until its client has read it.
pub(super) async fn held(
    State(api): State<Arc<QueryApi>>,
    request: Request,
    next: Next,
) -> Response {
    let answer = http::hold_large(&api.answers, next.run(request).await);
    answer.unwrap_or_else(|e| ApiError::from(e).into_response())
}

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
