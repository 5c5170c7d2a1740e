//! A Zipkin span, and what it is in OTLP.

use std::borrow::Cow;

use lgtm_core::Result;
use lgtm_core::codec::Allowance;
use lgtm_core::codec::protobuf::{put_bytes_field, put_message};

use crate::trace::SpanKind;
use crate::wire::otlp_writer::{
    FieldTags, OtlpWriter, put_fixed64, put_int_attribute, put_text_attribute, put_times,
};

/// A span as both spellings have it.
#[derive(Debug, Clone, Default)]
pub(super) struct ZipkinSpan<'a> {
    /// Zeros when there is none.
    pub(super) trace_id: [u8; 16],
    pub(super) id: [u8; 8],
    pub(super) parent_id: [u8; 8],
    pub(super) kind: Option<SpanKind>,
    pub(super) name: Cow<'a, str>,
    pub(super) timestamp_us: u64,
    pub(super) duration_us: u64,
    pub(super) local: Endpoint<'a>,
    pub(super) remote: Endpoint<'a>,
    pub(super) annotations: Vec<(u64, Cow<'a, str>)>,
    pub(super) tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// Who a span belongs to, or talks to.
#[derive(Debug, Clone, Default)]
pub(super) struct Endpoint<'a> {
    pub(super) service_name: Cow<'a, str>,
    /// The address as text, IPv6 where there is one of each.
    pub(super) address: Cow<'a, str>,
    pub(super) port: u16,
}

/// Writes Zipkin's spans as an OTLP request.
#[derive(Debug, Default)]
pub(super) struct ZipkinWriter {
    writer: OtlpWriter,
    resource: Vec<u8>,
    scope: Vec<u8>,
}

impl ZipkinWriter {
    pub(super) fn span(
        &mut self,
        span: &ZipkinSpan<'_>,
        out: &mut Vec<u8>,
        allowance: &mut Allowance<'_>,
    ) -> Result<()> {
        let mut fields = FieldTags::default();
        let mut is_field = Vec::with_capacity(span.tags.len());
        for (key, text) in &span.tags {
            // The kind of Zipkin's own counts.
            is_field.push(fields.note(key, text));
        }
        fields.kind = span.kind.or(fields.kind);
        self.resource.clear();
        if !span.local.service_name.is_empty() {
            let name = span.local.service_name.as_bytes();
            put_text_attribute(&mut self.resource, 1, "service.name", name);
        }
        self.scope.clear();
        fields.put_scope(&mut self.scope);
        let write = |out: &mut Vec<u8>| {
            put_bytes_field(out, 1, &span.trace_id);
            put_bytes_field(out, 2, &span.id);
            if span.parent_id != [0; 8] {
                put_bytes_field(out, 4, &span.parent_id);
            }
            put_bytes_field(out, 5, span.name.as_bytes());
            put_times(out, span.timestamp_us, span.duration_us);
            let attributes = span
                .tags
                .iter()
                .zip(&is_field)
                .filter(|(_, is_field)| !**is_field);
            for ((key, text), _) in attributes {
                put_text_attribute(out, 9, key, text.as_bytes());
            }
            span.local.put(out, "net.host.ip", "net.host.port");
            if !span.remote.service_name.is_empty() {
                let name = span.remote.service_name.as_bytes();
                put_text_attribute(out, 9, "peer.service", name);
            }
            span.remote.put(out, "net.peer.ip", "net.peer.port");
            for (timestamp_us, value) in &span.annotations {
                put_message(out, 11, |out| {
                    put_fixed64(out, 1, timestamp_us.saturating_mul(1000));
                    put_bytes_field(out, 2, value.as_bytes());
                });
            }
            fields.put_fields(out);
        };
        (self.writer).span(&self.resource, &self.scope, out, allowance, write)
    }

    pub(super) fn finish(self, out: &mut Vec<u8>, allowance: &mut Allowance<'_>) -> Result<()> {
        self.writer.finish(out, allowance)
    }
}

impl Endpoint<'_> {
    fn put(&self, out: &mut Vec<u8>, address: &str, port: &str) {
        if !self.address.is_empty() {
            put_text_attribute(out, 9, address, self.address.as_bytes());
        }
        if self.port != 0 {
            put_int_attribute(out, 9, port, self.port.into());
        }
    }
}
