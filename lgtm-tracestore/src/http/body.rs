//! Bodies of pushes, read as far as there is room, and what is said of those that are not.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::HeaderMap;
use lgtm_core::Error;
use lgtm_core::codec::SizeBound;
use lgtm_core::http::{self, BodyError};
use lgtm_core::limits::{Inflight, Ticket};

use super::error::ApiError;
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
            "received a request of at least {bytes} bytes, the limit is {max} (max_recv_msg_size)"
        ))),
        BodyError::NoRoom(e) => e.into(),
        // A sender drops what is refused with 4xx; what came too slowly today may come in time tomorrow.
        BodyError::TooSlow(why) => Error::Unavailable(why).into(),
        broken => ApiError::bad_request(broken.to_string()),
    })
}
