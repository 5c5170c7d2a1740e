//! gRPC's framing over HTTP/2: one message in, one or several out, a status in the trailers.
//!
//! ```text
//! POST /package.Service/Method    content-type: application/grpc
//! body: (compressed? u8, length u32 big endian, message)…
//! trailers: grpc-status, grpc-message (percent-encoded), grpc-status-details-bin (google.rpc.Status, base64)
//! ```
//!
//! Source: gRPC's `PROTOCOL-HTTP2.md`. Messages are the signals' own; their codecs are written by hand.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use flate2::write::GzEncoder;
use futures::stream::{BoxStream, Stream, StreamExt};
use hyper::body::Frame;

use super::body_reader::BodyError;
use crate::codec::ContentEncoding;
use crate::error::{Error, ErrorKind, first_chars};
use crate::exec::{CancelToken, Executor};
use crate::otlp::{OtlpSpelling, RpcStatus};

const CONTENT_TYPE: &str = "application/grpc";
/// Bytes before a message.
const PREFIX_BYTES: usize = 5;
/// Smaller messages are sent as they are.
const MIN_COMPRESSED_BYTES: usize = 1024;
/// What is compressed where it stands.
const INLINE_BYTES: usize = 16 << 10;
/// Characters of a status' text: clients take some kilobytes of trailers.
const MAX_MESSAGE_CHARS: usize = 1500;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// How a call ended. The numbers are gRPC's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum GrpcCode {
    /// Well.
    Ok = 0,
    /// The caller went away.
    Cancelled = 1,
    /// Nobody knows how.
    Unknown = 2,
    /// The caller sent something wrong.
    InvalidArgument = 3,
    /// Its time passed.
    DeadlineExceeded = 4,
    /// What it asks for does not exist.
    NotFound = 5,
    /// What it makes is there already.
    AlreadyExists = 6,
    /// It may not.
    PermissionDenied = 7,
    /// Too much, or too fast.
    ResourceExhausted = 8,
    /// Not as things stand.
    FailedPrecondition = 9,
    /// Somebody else was first.
    Aborted = 10,
    /// Beyond the end.
    OutOfRange = 11,
    /// There is no such method, or no such encoding.
    Unimplemented = 12,
    /// A fault of this program.
    Internal = 13,
    /// Not now.
    Unavailable = 14,
    /// What was stored is damaged.
    DataLoss = 15,
    /// The caller does not say who it is.
    Unauthenticated = 16,
}

/// What a caller is told at the end of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcStatus {
    /// The code.
    pub code: GrpcCode,
    /// What is wrong; empty when nothing is.
    pub message: String,
    /// When to call again.
    pub retry_after: Option<Duration>,
}

impl GrpcStatus {
    /// A status without a time.
    pub fn new(code: GrpcCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// That all went well.
    pub fn ok() -> Self {
        Self::new(GrpcCode::Ok, "")
    }

    /// What the sender of a push is told, by the status that it would have over HTTP. Senders drop what is refused unless the code says that it may pass
    /// later; too much is such a case only if it says when.
    pub fn of_push(
        status: StatusCode,
        message: impl Into<String>,
        retry_after: Option<Duration>,
    ) -> Self {
        let code = match status.as_u16() {
            401 => GrpcCode::Unauthenticated,
            403 => GrpcCode::PermissionDenied,
            404 => GrpcCode::NotFound,
            409 => GrpcCode::Aborted,
            429 => GrpcCode::ResourceExhausted,
            499 => GrpcCode::Cancelled,
            408 | 500.. => GrpcCode::Unavailable,
            _ => GrpcCode::InvalidArgument,
        };
        Self {
            code,
            message: message.into(),
            retry_after: retry_after.filter(|_| code == GrpcCode::ResourceExhausted),
        }
    }

    /// What a body that could not be read means.
    pub fn of_body(e: BodyError) -> Self {
        match e {
            BodyError::TooLarge { .. } => Self::new(GrpcCode::ResourceExhausted, e.to_string()),
            BodyError::NoRoom(e) => e.into(),
            BodyError::TooSlow(why) => Self::new(GrpcCode::Unavailable, why),
            broken @ BodyError::BrokenOff(_) => Self::new(GrpcCode::Cancelled, broken.to_string()),
        }
    }

    /// The headers in which it is told.
    pub(crate) fn trailers(&self) -> HeaderMap {
        let mut out = HeaderMap::new();
        out.insert(GRPC_STATUS, HeaderValue::from(u16::from(self.code as u8)));
        if !self.message.is_empty() {
            let message = percent_encoded(first_chars(&self.message, MAX_MESSAGE_CHARS));
            if let Ok(message) = HeaderValue::try_from(message) {
                out.insert(GRPC_MESSAGE, message);
            }
        }
        if self.retry_after.is_some() {
            let status = RpcStatus {
                code: self.code as u8,
                message: first_chars(&self.message, MAX_MESSAGE_CHARS),
                retry_after: self.retry_after,
            };
            let details = STANDARD_NO_PAD.encode(status.encode(OtlpSpelling::Protobuf));
            if let Ok(details) = HeaderValue::try_from(details) {
                out.insert(GRPC_DETAILS, details);
            }
        }
        out
    }
}

impl From<Error> for GrpcStatus {
    fn from(e: Error) -> Self {
        let code = match e.kind() {
            ErrorKind::InvalidInput | ErrorKind::LimitExceeded => GrpcCode::InvalidArgument,
            ErrorKind::NotFound => GrpcCode::NotFound,
            ErrorKind::RateLimited => GrpcCode::ResourceExhausted,
            ErrorKind::Conflict => GrpcCode::Aborted,
            ErrorKind::Unavailable => GrpcCode::Unavailable,
            ErrorKind::Timeout => GrpcCode::DeadlineExceeded,
            ErrorKind::Cancelled => GrpcCode::Cancelled,
            ErrorKind::Corrupt => GrpcCode::DataLoss,
            _ => GrpcCode::Internal,
        };
        Self {
            code,
            message: e.to_string(),
            retry_after: e.retry_after(),
        }
    }
}

/// A call that ends before it has answered: headers and trailers in one.
impl IntoResponse for GrpcStatus {
    fn into_response(self) -> Response {
        let mut response = ([(header::CONTENT_TYPE, CONTENT_TYPE)], ()).into_response();
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response.headers_mut().extend(self.trailers());
        response
    }
}

/// The message of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcMessage {
    /// How it is compressed.
    pub encoding: ContentEncoding,
    /// The message, as it came.
    pub bytes: Bytes,
}

impl GrpcMessage {
    /// The one message of a call's body.
    ///
    /// # Errors
    /// `Unimplemented` for a compression that is not known, `Internal` for a body that is no such message, as gRPC has it.
    pub fn of(headers: &HeaderMap, body: &Bytes) -> Result<Self, GrpcStatus> {
        let broken = |why: &str| GrpcStatus::new(GrpcCode::Internal, why);
        let Some((prefix, message)) = body.split_first_chunk::<PREFIX_BYTES>() else {
            return Err(broken("the call has no message"));
        };
        let [flag, length @ ..] = *prefix;
        if u32::from_be_bytes(length) as usize != message.len() {
            return Err(broken("the call's message is not as long as it says"));
        }
        let encoding = match flag {
            0 => ContentEncoding::Identity,
            1 => {
                let name = headers.get(GRPC_ENCODING).and_then(|v| v.to_str().ok());
                let name = name.unwrap_or("identity");
                ContentEncoding::from_header(name).ok_or_else(|| {
                    let text =
                        format!("grpc: Decompressor is not installed for grpc-encoding {name:?}");
                    GrpcStatus::new(GrpcCode::Unimplemented, text)
                })?
            }
            _ => return Err(broken("the call's message has an unknown flag")),
        };
        Ok(Self {
            encoding,
            bytes: body.slice(PREFIX_BYTES..),
        })
    }
}

/// The answer to a request that is no call: 415 without gRPC's content type, 505 on HTTP/1.1, which may lose trailers. `None` for a call.
pub fn grpc_refusal(version: Version, headers: &HeaderMap) -> Option<Response> {
    let content_type = headers.get(header::CONTENT_TYPE);
    let is_grpc = content_type.is_some_and(|t| {
        let rest = t.as_bytes().strip_prefix(CONTENT_TYPE.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || matches!(rest[0], b'+' | b';'))
    });
    if !is_grpc {
        let text = "this is a gRPC method, content type application/grpc is wanted\n";
        return Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response());
    }
    if version != Version::HTTP_2 {
        let text = "gRPC needs HTTP/2\n";
        return Some((StatusCode::HTTP_VERSION_NOT_SUPPORTED, text).into_response());
    }
    None
}

/// How long a caller waits: `grpc-timeout`, at most eight digits and a unit. `None` for one that does not say.
pub fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

/// The answer of a call that has one.
pub fn grpc_unary(message: impl Into<Bytes>) -> Response {
    let message = framed(0, &message.into());
    let stream = futures::stream::iter([Ok(message)]).boxed();
    answer(stream, None)
}

/// The answer of a call that has several. They are compressed on `executor`, if the caller takes gzip.
pub fn grpc_stream(
    request: &HeaderMap,
    messages: impl Stream<Item = Result<Bytes, GrpcStatus>> + Send + 'static,
    executor: Executor,
) -> Response {
    let accepted = request.get_all(GRPC_ACCEPT_ENCODING).iter();
    let mut accepted = accepted.filter_map(|v| v.to_str().ok());
    let takes_gzip = accepted.any(|all| all.split(',').any(|name| name.trim() == "gzip"));
    if !takes_gzip {
        return answer(messages.map(|m| Ok(framed(0, &m?))).boxed(), None);
    }
    let messages = messages.then(move |message| {
        let executor = executor.clone();
        async move { compressed(message?, &executor).await }
    });
    answer(messages.boxed(), Some(HeaderValue::from_static("gzip")))
}

fn answer(
    messages: BoxStream<'static, Result<Bytes, GrpcStatus>>,
    encoding: Option<HeaderValue>,
) -> Response {
    let body = Body::new(GrpcBody {
        messages: Some(messages),
    });
    let mut response = ([(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response();
    if let Some(encoding) = encoding {
        response.headers_mut().insert(GRPC_ENCODING, encoding);
    }
    response
}

/// A message with its prefix.
fn framed(flag: u8, message: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(PREFIX_BYTES + message.len());
    out.push(flag);
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(message);
    out.into()
}

async fn compressed(message: Bytes, executor: &Executor) -> Result<Bytes, GrpcStatus> {
    if message.len() < MIN_COMPRESSED_BYTES {
        return Ok(framed(0, &message));
    }
    let gzip = |message: &[u8]| {
        let mut out = GzEncoder::new(Vec::new(), flate2::Compression::new(1));
        std::io::Write::write_all(&mut out, message)
            .and_then(|()| out.finish())
            .map(|out| framed(1, &out))
            .map_err(|e| Error::Internal(format!("compression of an answer: {e}")))
    };
    if message.len() <= INLINE_BYTES {
        return Ok(gzip(&message)?);
    }
    let job = move |_: &CancelToken| gzip(&message);
    Ok(executor.run(job, &CancelToken::new()).await?)
}

/// Messages with their prefixes, then the trailers.
struct GrpcBody {
    /// None once the trailers are sent.
    messages: Option<BoxStream<'static, Result<Bytes, GrpcStatus>>>,
}

impl HttpBody for GrpcBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(messages) = &mut self.messages else {
            return Poll::Ready(None);
        };
        let status = match std::task::ready!(messages.poll_next_unpin(cx)) {
            Some(Ok(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
            Some(Err(status)) => status,
            None => GrpcStatus::ok(),
        };
        self.messages = None;
        Poll::Ready(Some(Ok(Frame::trailers(status.trailers()))))
    }

    fn is_end_stream(&self) -> bool {
        self.messages.is_none()
    }
}

/// A text as a header's value: what is not printable ASCII, and the percent sign, in hexadecimal.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if (b' '..=b'~').contains(&b) && b != b'%' {
            out.push(b as char);
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// The text of a header's value, as [`percent_encoded`] writes it; a percent sign that begins nothing is one.
#[cfg(feature = "rpc")]
pub(crate) fn percent_decoded(value: &[u8]) -> String {
    let digit = |b: &u8| char::from(*b).to_digit(16).map(|d| d as u8);
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&b, behind)) = rest.split_first() {
        let byte = match behind {
            [high, low, ..] if b == b'%' => digit(high).zip(digit(low)),
            _ => None,
        };
        match byte {
            Some((high, low)) => {
                out.push(high << 4 | low);
                rest = &behind[2..];
            }
            None => {
                out.push(b);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_long_as_it_says() {
        let mut headers = HeaderMap::new();
        let whole = framed(0, b"abc");
        let message = GrpcMessage::of(&headers, &whole).unwrap();
        assert_eq!(
            (message.encoding, &message.bytes[..]),
            (ContentEncoding::Identity, &b"abc"[..])
        );
        for n in 0..whole.len() {
            let cut = whole.slice(..n);
            let status = GrpcMessage::of(&headers, &cut).unwrap_err();
            assert_eq!(status.code, GrpcCode::Internal, "{n}");
        }
        let two = Bytes::from([&whole[..], &whole[..]].concat());
        assert!(GrpcMessage::of(&headers, &two).is_err());
        headers.insert(GRPC_ENCODING, HeaderValue::from_static("gzip"));
        let packed = GrpcMessage::of(&headers, &framed(1, b"x")).unwrap();
        assert_eq!(packed.encoding, ContentEncoding::Gzip);
        headers.insert(GRPC_ENCODING, HeaderValue::from_static("br"));
        let status = GrpcMessage::of(&headers, &framed(1, b"x")).unwrap_err();
        assert_eq!(status.code, GrpcCode::Unimplemented);
    }

    #[test]
    fn a_status_is_told_in_headers_that_any_client_takes() {
        let status = GrpcStatus {
            retry_after: Some(Duration::from_secs(5)),
            ..GrpcStatus::new(GrpcCode::ResourceExhausted, "100% zu viel\nfür dich")
        };
        let trailers = status.trailers();
        assert_eq!(trailers["grpc-status"], "8");
        assert_eq!(trailers["grpc-message"], "100%25 zu viel%0Af%C3%BCr dich");
        let details = STANDARD_NO_PAD
            .decode(&trailers["grpc-status-details-bin"])
            .unwrap();
        assert!(details.windows(9).any(|w| w == b"RetryInfo"));
        let long = GrpcStatus::new(GrpcCode::Internal, "ü".repeat(10_000));
        assert!(long.trailers()["grpc-message"].len() <= 6 * MAX_MESSAGE_CHARS);
        assert_eq!(GrpcStatus::ok().trailers().len(), 1);
    }

    #[test]
    fn timeouts_have_eight_digits_and_a_unit() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_TIMEOUT, HeaderValue::try_from(text).unwrap());
            grpc_timeout(&headers)
        };
        assert_eq!(read("1S"), Some(Duration::from_secs(1)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(
            read("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        for bad in ["", "S", "1", "1x", "-1S", "123456789S", "1.5S", "1ü"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn messages_come_with_their_prefix_and_the_status_behind_them() {
        let executor = Executor::inline(tokio::runtime::Handle::current());
        let mut headers = HeaderMap::new();
        let accepted = HeaderValue::from_static("identity, gzip");
        headers.insert(GRPC_ACCEPT_ENCODING, accepted);
        let large = Bytes::from(vec![b'x'; 100_000]);
        let end = GrpcStatus::new(GrpcCode::Internal, "broke off");
        let messages = [Ok(Bytes::from_static(b"ab")), Ok(large.clone()), Err(end)];
        let stream = futures::stream::iter(messages);
        let mut body = grpc_stream(&headers, stream, executor).into_body();
        let mut frames = Vec::new();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
        {
            frames.push(frame.unwrap());
        }
        assert_eq!(frames.len(), 3);
        let data: Vec<_> = frames.iter().filter_map(|f| f.data_ref()).collect();
        assert_eq!(data[0][..], b"\0\0\0\0\x02ab"[..]);
        assert_eq!(data[1][0], 1);
        let mut plain = Vec::new();
        let mut gzip = flate2::read::GzDecoder::new(&data[1][PREFIX_BYTES..]);
        std::io::Read::read_to_end(&mut gzip, &mut plain).unwrap();
        assert_eq!(plain, large);
        assert_eq!(frames[2].trailers_ref().unwrap()["grpc-status"], "13");
    }
}
