//! What a sender of OTLP is answered: `google.rpc.Status` for errors and a partial success, in the spelling of the request.
//!
//! ```text
//! Status    { code = 1, message = 2, details = 3 repeated Any { type_url = 1, value = 2 } }
//! RetryInfo { retry_delay = 1 Duration { seconds = 1, nanos = 2 } }
//! ```
//!
//! Source: `google/rpc/status.proto` and `error_details.proto` (Apache-2.0), the OTLP specification.

use std::time::Duration;

use crate::codec::protobuf::{put_bytes_field, put_message, put_varint_field};
use crate::go::json::quoted;

/// How a request was spelled, and so its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpSpelling {
    /// Protobuf.
    Protobuf,
    /// JSON.
    Json,
}

/// The type that a detail of a status says it has.
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// A `google.rpc.Status`: what a gRPC error carries, and the body of an HTTP one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RpcStatus<'m> {
    /// The gRPC code.
    pub code: u8,
    /// What is wrong.
    pub message: &'m str,
    /// When to send again. Without it a sender drops what was refused for a rate.
    pub retry_after: Option<Duration>,
}

/// What of a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialSuccess<'m> {
    /// The name of the count in JSON, which is the signal's: `rejectedSpans`.
    pub count_name: &'static str,
    /// Items that were refused.
    pub rejected: u64,
    /// Why.
    pub message: &'m str,
}

impl OtlpSpelling {
    /// The spelling that a `Content-Type` names.
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        match content_type.split(';').next().unwrap_or("").trim() {
            "application/x-protobuf" => Some(Self::Protobuf),
            "application/json" => Some(Self::Json),
            _ => None,
        }
    }

    /// Its `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

impl RpcStatus<'_> {
    /// The message.
    pub fn encode(&self, spelling: OtlpSpelling) -> Vec<u8> {
        match spelling {
            OtlpSpelling::Protobuf => self.encode_protobuf(),
            OtlpSpelling::Json => self.encode_json().into_bytes(),
        }
    }

    fn encode_protobuf(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint_field(&mut out, 1, self.code.into());
        put_bytes_field(&mut out, 2, self.message.as_bytes());
        if let Some(delay) = self.retry_after {
            put_message(&mut out, 3, |out| {
                put_bytes_field(out, 1, RETRY_INFO.as_bytes());
                put_message(out, 2, |out| {
                    put_message(out, 1, |out| put_duration(out, delay))
                });
            });
        }
        out
    }

    fn encode_json(&self) -> String {
        let details = self.retry_after.map(|delay| {
            let fraction = match delay.subsec_nanos() {
                0 => String::new(),
                ns => format!(".{}", format!("{ns:09}").trim_end_matches('0')),
            };
            let seconds = delay.as_secs();
            format!(",\"details\":[{{\"@type\":\"{RETRY_INFO}\",\"retryDelay\":\"{seconds}{fraction}s\"}}]")
        });
        format!(
            "{{\"code\":{},\"message\":{}{}}}",
            self.code,
            quoted(self.message),
            details.unwrap_or_default()
        )
    }
}

fn put_duration(out: &mut Vec<u8>, duration: Duration) {
    for (field, number) in [(1, duration.as_secs()), (2, duration.subsec_nanos().into())] {
        if number != 0 {
            put_varint_field(out, field, number);
        }
    }
}

impl PartialSuccess<'_> {
    /// The answer of a request that was taken in part; `ExportTraceServiceResponse` and the like.
    pub fn encode(&self, spelling: OtlpSpelling) -> Vec<u8> {
        match spelling {
            OtlpSpelling::Protobuf => {
                let mut out = Vec::new();
                put_message(&mut out, 1, |out| {
                    put_varint_field(out, 1, self.rejected);
                    put_bytes_field(out, 2, self.message.as_bytes());
                });
                out
            }
            OtlpSpelling::Json => format!(
                "{{\"partialSuccess\":{{\"{}\":\"{}\",\"errorMessage\":{}}}}}",
                self.count_name,
                self.rejected,
                quoted(self.message)
            )
            .into_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_when_to_send_again_in_both_spellings() {
        let mut status = RpcStatus {
            code: 8,
            message: "too \"much\"",
            retry_after: Some(Duration::from_millis(5250)),
        };
        let json =
            |status: &RpcStatus<'_>| String::from_utf8(status.encode(OtlpSpelling::Json)).unwrap();
        assert_eq!(
            json(&status),
            r#"{"code":8,"message":"too \"much\"","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"5.25s"}]}"#
        );
        let bytes = status.encode(OtlpSpelling::Protobuf);
        // The detail, from the back: nanoseconds as varint behind seconds, in a duration, in a retry info, in an `Any`.
        let detail = [0x12, 9, 0x0a, 7, 0x08, 5, 0x10, 0x80, 0xe5, 0x9a, 0x77];
        assert!(bytes.ends_with(&detail), "{bytes:x?}");
        let at = bytes.len() - detail.len() - RETRY_INFO.len();
        assert_eq!(&bytes[at..][..RETRY_INFO.len()], RETRY_INFO.as_bytes());
        status.retry_after = Some(Duration::from_secs(5));
        assert!(json(&status).ends_with("\"retryDelay\":\"5s\"}]}"));
        status.retry_after = None;
        assert_eq!(json(&status), r#"{"code":8,"message":"too \"much\""}"#);
        assert_eq!(
            status.encode(OtlpSpelling::Protobuf),
            [&[0x08, 8, 0x12, 10][..], b"too \"much\""].concat()
        );
    }

    #[test]
    fn a_partial_success_counts_what_was_refused() {
        let partial = PartialSuccess {
            count_name: "rejectedSpans",
            rejected: 3,
            message: "late",
        };
        assert_eq!(
            partial.encode(OtlpSpelling::Json),
            br#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"late"}}"#
        );
        let bytes = partial.encode(OtlpSpelling::Protobuf);
        assert_eq!(bytes, b"\x0a\x08\x08\x03\x12\x04late");
    }

    #[test]
    fn spellings_are_named_by_content_types() {
        for spelling in [OtlpSpelling::Protobuf, OtlpSpelling::Json] {
            let with = format!(" {} ; charset=utf-8", spelling.content_type());
            assert_eq!(OtlpSpelling::of_content_type(&with), Some(spelling));
        }
        assert_eq!(OtlpSpelling::of_content_type("text/plain"), None);
    }
}
