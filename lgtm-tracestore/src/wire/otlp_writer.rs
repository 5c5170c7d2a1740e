//! Spans of other formats written as an OTLP request, which then goes the way of all others.

use std::fmt::Display;

use lgtm_core::codec::protobuf::{fixed64_tag, put_bytes_field, put_message, put_varint_field};
use lgtm_core::codec::{Allowance, put_uvarint};
use lgtm_core::{Error, Result};

use crate::trace::{SpanKind, StatusCode};

/// Most tags, annotations, logs with their fields, and references of a span of another format: they are held in memory while it is written, where
/// they take many times what they took in the request.
pub(super) const MAX_PARTS: usize = 1 << 16;

/// Writes spans one after the other; consecutive ones of the same resource and scope share a message.
#[derive(Debug, Default)]
pub(super) struct OtlpWriter {
    resource: Vec<u8>,
    scope: Vec<u8>,
    /// `ScopeSpans` of the open resource that are complete.
    scopes: Vec<u8>,
    /// Spans of the open scope.
    spans: Vec<u8>,
    has_spans: bool,
    counted: usize,
}

impl OtlpWriter {
    /// Adds a span of a resource and a scope, all three as the fields of their messages.
    pub(super) fn span(
        &mut self,
        resource: &[u8],
        scope: &[u8],
        out: &mut Vec<u8>,
        allowance: &mut Allowance<'_>,
        span: impl FnOnce(&mut Vec<u8>),
    ) -> Result<()> {
        if self.has_spans && self.resource != resource {
            self.end_resource(out, allowance)?;
        } else if self.has_spans && self.scope != scope {
            self.end_scope();
        }
        if !self.has_spans {
            self.resource.clear();
            self.resource.extend_from_slice(resource);
        }
        self.scope.clear();
        self.scope.extend_from_slice(scope);
        put_message(&mut self.spans, 2, span);
        self.has_spans = true;
        // What was written is counted as soon as it is known: a span takes little more than it took in the request.
        let held = self.spans.capacity() + self.scopes.capacity();
        if held > self.counted {
            allowance.take(held - self.counted)?;
            self.counted = held;
        }
        Ok(())
    }

    /// Writes what is still open.
    pub(super) fn finish(mut self, out: &mut Vec<u8>, allowance: &mut Allowance<'_>) -> Result<()> {
        if self.has_spans {
            self.end_resource(out, allowance)?;
        }
        Ok(())
    }

    fn end_scope(&mut self) {
        put_message(&mut self.scopes, 2, |out| {
            put_bytes_field(out, 1, &self.scope);
            out.extend_from_slice(&self.spans);
        });
        self.spans.clear();
    }

    fn end_resource(&mut self, out: &mut Vec<u8>, allowance: &mut Allowance<'_>) -> Result<()> {
        const FRAME_BYTES: usize = 32;
        self.end_scope();
        let len = self.resource.len() + self.scopes.len() + FRAME_BYTES;
        allowance.reserve(out, len)?;
        put_message(out, 1, |out| {
            put_bytes_field(out, 1, &self.resource);
            out.extend_from_slice(&self.scopes);
        });
        self.scopes.clear();
        self.has_spans = false;
        Ok(())
    }
}

/// An attribute with a text, as field `field`.
pub(super) fn put_text_attribute(out: &mut Vec<u8>, field: u64, key: &str, text: &[u8]) {
    put_attribute(out, field, key.as_bytes(), |out| {
        put_bytes_field(out, 1, text)
    });
}

/// An attribute with an integer.
pub(super) fn put_int_attribute(out: &mut Vec<u8>, field: u64, key: &str, value: i64) {
    put_attribute(out, field, key.as_bytes(), |out| {
        put_varint_field(out, 3, value as u64)
    });
}

/// An attribute with a value that `value` writes.
pub(super) fn put_attribute(
    out: &mut Vec<u8>,
    field: u64,
    key: &[u8],
    value: impl FnOnce(&mut Vec<u8>),
) {
    put_message(out, field, |out| {
        put_bytes_field(out, 1, key);
        put_message(out, 2, value);
    });
}

/// Eight bytes that are a number.
pub(super) fn put_fixed64(out: &mut Vec<u8>, field: u64, number: u64) {
    put_uvarint(out, fixed64_tag(field));
    out.extend_from_slice(&number.to_le_bytes());
}

/// Start and end, given in microseconds.
pub(super) fn put_times(out: &mut Vec<u8>, start_us: u64, duration_us: u64) {
    let start_ns = start_us.saturating_mul(1000);
    put_fixed64(out, 7, start_ns);
    put_fixed64(
        out,
        8,
        start_ns.saturating_add(duration_us.saturating_mul(1000)),
    );
}

/// What becomes of tags that other formats have where OTLP has fields.
#[derive(Debug, Default)]
pub(super) struct FieldTags<'a> {
    pub(super) kind: Option<SpanKind>,
    status: Option<StatusCode>,
    is_error: bool,
    message: Option<&'a str>,
    trace_state: Option<&'a str>,
    scope_name: Option<&'a str>,
    scope_version: Option<&'a str>,
}

impl<'a> FieldTags<'a> {
    /// Notes a tag with a text; tells whether it is such a tag, and no attribute.
    pub(super) fn note(&mut self, key: &str, text: &'a str) -> bool {
        match key {
            "span.kind" => {
                let kind = match text.to_ascii_lowercase().as_str() {
                    "client" => SpanKind::Client,
                    "server" => SpanKind::Server,
                    "producer" => SpanKind::Producer,
                    "consumer" => SpanKind::Consumer,
                    "internal" => SpanKind::Internal,
                    _ => return false,
                };
                self.kind = Some(kind);
            }
            "otel.status_code" => {
                self.status = match text {
                    "OK" => Some(StatusCode::Ok),
                    "ERROR" => Some(StatusCode::Error),
                    _ => None,
                };
            }
            "otel.status_description" => self.message = Some(text),
            // Zipkin's says what went wrong, or only that something did.
            "error" if text == "false" => {}
            "error" => {
                self.is_error = true;
                if !text.is_empty() && text != "true" && self.message.is_none() {
                    self.message = Some(text);
                }
            }
            "w3c.tracestate" => self.trace_state = Some(text),
            "otel.scope.name" | "otel.library.name" => self.scope_name = Some(text),
            "otel.scope.version" | "otel.library.version" => self.scope_version = Some(text),
            _ => return false,
        }
        true
    }

    /// Notes that the span failed.
    pub(super) fn fail(&mut self) {
        self.is_error = true;
    }

    /// The fields of the scope.
    pub(super) fn put_scope(&self, out: &mut Vec<u8>) {
        for (field, text) in [(1, self.scope_name), (2, self.scope_version)] {
            if let Some(text) = text {
                put_bytes_field(out, field, text.as_bytes());
            }
        }
    }

    /// Kind, trace state and status of the span.
    pub(super) fn put_fields(&self, out: &mut Vec<u8>) {
        if let Some(state) = self.trace_state {
            put_bytes_field(out, 3, state.as_bytes());
        }
        if let Some(kind) = self.kind {
            put_varint_field(out, 6, kind as u64);
        }
        let status = self.status.or(self.is_error.then_some(StatusCode::Error));
        put_message(out, 15, |out| {
            if let Some(message) = self.message {
                put_bytes_field(out, 2, message.as_bytes());
            }
            if let Some(status) = status {
                put_varint_field(out, 3, status as u64);
            }
        });
    }
}

/// That a request is not what it should be.
pub(super) fn not_a_request(what: &str, why: impl Display) -> Error {
    let why = why.to_string();
    let short = lgtm_core::error::first_chars(&why, 400);
    Error::InvalidInput(format!("request is not {what}: {short}"))
}
