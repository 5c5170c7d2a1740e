//! One trace by its id.
//!
//! ```text
//! request = { id = 1; range = 2 { start_ns = 1; end_ns = 2 }; max_bytes = 3 }
//! answer  = { bytes = 1 } any number of them, pieces of one message `Trace`; { is_cut = 2; end = 3 } last
//! ```

use bytes::Bytes;
use lgtm_core::codec::protobuf::{put_bytes_field, put_varint_field};
use lgtm_core::rpc::RpcMessage;
use lgtm_core::rpc::messages::{MESSAGE_BYTES, walk};
use lgtm_core::{Error, Result};

use super::end_message;
use super::recent_message::{put_range, range, trace_id};
use crate::components::{FoundTrace, TraceRequest};
use crate::select::{SelectEnd, TraceRange};

pub(super) fn put_request(out: &mut Vec<u8>, request: &TraceRequest) {
    put_bytes_field(out, 1, request.id.as_bytes());
    if let Some(TraceRange { start_ns, end_ns }) = request.range {
        put_range(out, 2, (start_ns, end_ns));
    }
    put_varint_field(out, 3, request.max_bytes as u64);
}

/// A request.
///
/// # Errors
/// `InvalidInput` for bytes that are none.
pub(super) fn request(message: &[u8]) -> Result<TraceRequest> {
    let (mut id, mut of_range, mut max_bytes) = (None, None, 0);
    walk("request", message, |number, field| {
        match number {
            1 => id = Some(trace_id(field)?),
            2 => {
                let (start_ns, end_ns) = range(field)?;
                of_range = Some(TraceRange { start_ns, end_ns });
            }
            3 => max_bytes = field.number()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(TraceRequest {
        id: id.ok_or_else(|| Error::InvalidInput("no trace is asked for".into()))?,
        range: of_range,
        max_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX),
    })
}

/// The messages of an answer, one by one.
pub(super) fn messages(found: FoundTrace) -> impl Iterator<Item = RpcMessage> + Send {
    let FoundTrace { bytes, is_cut, end } = found;
    let (mut at, mut is_done) = (0, false);
    std::iter::from_fn(move || {
        if is_done {
            return None;
        }
        Some(RpcMessage::of(|out| {
            if at < bytes.len() {
                let to = bytes.len().min(at + MESSAGE_BYTES);
                put_bytes_field(out, 1, &bytes[at..to]);
                at = to;
            } else {
                is_done = true;
                put_varint_field(out, 2, u64::from(is_cut));
                end_message::put_end(out, 3, &end);
            }
        }))
    })
}

/// Adds a message of an answer; the end, if it has one.
///
/// # Errors
/// `InvalidInput` for bytes that are none.
pub(super) fn take(found: &mut FoundTrace, message: &Bytes) -> Result<Option<SelectEnd>> {
    let mut end = None;
    walk("found", message, |number, field| {
        match number {
            1 => found.bytes.extend_from_slice(field.bytes()?),
            2 => found.is_cut = field.flag()?,
            3 => end = Some(end_message::end(field)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(end)
}
