//! The body of an OTLP request, whichever signal's, over HTTP and over gRPC: how it is spelled, how it is compressed, and how it becomes protobuf.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::grpc::GrpcMessage;
use super::push_decode::DecodeEffort;
use crate::codec::{Allowance, ContentEncoding, SizeBound};
use crate::error::Result;
use crate::otlp::schema::Message;
use crate::otlp::{OtlpSpelling, RpcStatus, json_to_protobuf};

/// Bytes of plain protobuf that are decoded in about a millisecond; of other bodies, a quarter.
const AT_ONCE_BYTES: usize = 256 << 10;

/// The body of an OTLP request, as it came.
#[derive(Debug, Clone)]
pub struct OtlpBody {
    /// How it is spelled.
    pub spelling: OtlpSpelling,
    /// How it is compressed.
    pub encoding: ContentEncoding,
    /// Its bytes.
    pub bytes: Bytes,
    /// Most bytes of it, decompressed.
    pub bound: SizeBound,
}

impl OtlpBody {
    /// Of a request over HTTP, whose headers say how its body is compressed. `None` for a compression that is not known.
    pub fn of_http(
        spelling: OtlpSpelling,
        headers: &HeaderMap,
        bytes: Bytes,
        bound: SizeBound,
    ) -> Option<Self> {
        let encoding = header_text(headers, header::CONTENT_ENCODING);
        Some(Self {
            spelling,
            encoding: ContentEncoding::from_header(encoding)?,
            bytes,
            bound,
        })
    }

    /// Of a call: always protobuf.
    pub fn of_call(message: GrpcMessage, bound: SizeBound) -> Self {
        Self {
            spelling: OtlpSpelling::Protobuf,
            encoding: message.encoding,
            bytes: message.bytes,
            bound,
        }
    }

    /// How much work it is.
    pub fn effort(&self) -> DecodeEffort {
        let is_plain =
            (self.spelling, self.encoding) == (OtlpSpelling::Protobuf, ContentEncoding::Identity);
        let at_once = AT_ONCE_BYTES / if is_plain { 1 } else { 4 };
        if self.bytes.len() <= at_once {
            DecodeEffort::Small
        } else {
            DecodeEffort::Large
        }
    }

    /// Writes it as plain protobuf, replacing what was in `out`. `message` is what it is, for JSON. An empty body is an empty request in both spellings.
    ///
    /// # Errors
    /// `InvalidInput` for what is no such compression and no JSON, `LimitExceeded` beyond the bound, those of `allowance`.
    pub fn fill(
        &self,
        message: &'static Message,
        out: &mut Vec<u8>,
        allowance: &mut Allowance<'_>,
    ) -> Result<()> {
        let Self {
            encoding, bound, ..
        } = *self;
        match self.spelling {
            OtlpSpelling::Protobuf => encoding.decompress(&self.bytes, bound, out, allowance),
            OtlpSpelling::Json => {
                let mut unpacked = Vec::new();
                let json = if encoding == ContentEncoding::Identity {
                    &self.bytes[..]
                } else {
                    encoding.decompress(&self.bytes, bound, &mut unpacked, allowance)?;
                    &unpacked
                };
                if json.trim_ascii().is_empty() {
                    out.clear();
                    return Ok(());
                }
                json_to_protobuf(message, json, bound, out, allowance)
            }
        }
    }
}

/// What the headers of a request say of its body: a text, empty if they say nothing.
pub fn header_text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    let value = headers.get(name).and_then(|v| v.to_str().ok());
    value.unwrap_or("")
}

/// An answer in the spelling of the request.
pub fn otlp_answer(spelling: OtlpSpelling, status: StatusCode, body: Vec<u8>) -> Response {
    let content_type = [(header::CONTENT_TYPE, spelling.content_type())];
    (status, content_type, body).into_response()
}

/// An error in the spelling of the request: `google.rpc.Status`. Clients send again on 429, 502, 503 and 504 only, so that a fault of ours is 503.
pub fn otlp_failure(
    spelling: OtlpSpelling,
    status: StatusCode,
    message: &str,
    retry_after: Option<Duration>,
) -> Response {
    let status = match status {
        StatusCode::INTERNAL_SERVER_ERROR => StatusCode::SERVICE_UNAVAILABLE,
        other => other,
    };
    let code: u8 = match status.as_u16() {
        401 => 16,
        429 => 8,
        502..=504 => 14,
        _ => 3,
    };
    let body = RpcStatus {
        code,
        message,
        retry_after: retry_after.filter(|_| code == 8),
    };
    let mut response = otlp_answer(spelling, status, body.encode(spelling));
    if let Some(delay) = retry_after {
        let seconds = HeaderValue::from(delay.as_secs().max(1));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}
