//! Traces as protobuf: fields in the order of their numbers, what is empty or zero left out, as generated code writes them.

use lgtm_core::codec::protobuf::{
    fixed64_tag, put_bytes_field, put_message, put_varint_field, varint_tag,
};
use lgtm_core::codec::put_uvarint;

use crate::trace::{Attribute, Event, Link, ResourceSpans, ScopeSpans, Span, Trace, Value};

impl Trace<'_> {
    /// Appends `Trace { repeated ResourceSpans = 1 }`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for resource in &self.resources {
            put_message(out, 1, |out| resource.encode(out));
        }
    }
}

impl ResourceSpans<'_> {
    /// Appends the fields of a `ResourceSpans`. The resource is always there.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_message(out, 1, |out| self.encode_resource(out));
        for scope in &self.scopes {
            put_message(out, 2, |out| scope.encode(out));
        }
    }

    /// Appends the fields of the `Resource`.
    pub fn encode_resource(&self, out: &mut Vec<u8>) {
        put_attributes(out, 1, &self.attributes);
        put_number(out, 2, self.dropped_attributes_count);
    }
}

impl ScopeSpans<'_> {
    /// Appends the fields of a `ScopeSpans`. The scope is always there.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_message(out, 1, |out| self.encode_scope(out));
        for span in &self.spans {
            put_message(out, 2, |out| span.encode(out));
        }
    }

    /// Appends the fields of the `InstrumentationScope`.
    pub fn encode_scope(&self, out: &mut Vec<u8>) {
        put_text(out, 1, self.name);
        put_text(out, 2, self.version);
        put_attributes(out, 3, &self.attributes);
        put_number(out, 4, self.dropped_attributes_count);
    }
}

impl Span<'_> {
    /// Appends the fields of a `Span`. The status is always there, as Tempo's answers have it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_text(out, 1, self.trace_id);
        put_text(out, 2, self.span_id);
        put_text(out, 3, self.trace_state);
        put_text(out, 4, self.parent_span_id);
        put_text(out, 5, self.name);
        put_enum(out, 6, self.kind);
        put_fixed64(out, 7, self.start_ns);
        put_fixed64(out, 8, self.end_ns);
        put_attributes(out, 9, &self.attributes);
        put_number(out, 10, self.dropped_attributes_count);
        for event in &self.events {
            put_message(out, 11, |out| event.encode(out));
        }
        put_number(out, 12, self.dropped_events_count);
        for link in &self.links {
            put_message(out, 13, |out| link.encode(out));
        }
        put_number(out, 14, self.dropped_links_count);
        put_message(out, 15, |out| {
            put_text(out, 2, self.status_message);
            put_enum(out, 3, self.status_code);
        });
    }
}

impl Event<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_fixed64(out, 1, self.time_ns);
        put_text(out, 2, self.name);
        put_attributes(out, 3, &self.attributes);
        put_number(out, 4, self.dropped_attributes_count);
    }
}

impl Link<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_text(out, 1, self.trace_id);
        put_text(out, 2, self.span_id);
        put_text(out, 3, self.trace_state);
        put_attributes(out, 4, &self.attributes);
        put_number(out, 5, self.dropped_attributes_count);
    }
}

impl Attribute<'_> {
    /// Appends the fields of a `KeyValue`. The value is always there, empty when none is set.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_text(out, 1, self.key);
        put_message(out, 2, |out| self.value.encode(out));
    }
}

impl Value<'_> {
    /// Appends the fields of an `AnyValue`. What is set stands there, zero and empty too.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Value::Empty => {}
            Value::Text(text) => put_bytes_field(out, 1, text),
            Value::Bool(v) => put_varint_field(out, 2, v.into()),
            Value::Int(v) => put_varint_field(out, 3, v as u64),
            Value::Double(v) => {
                put_uvarint(out, fixed64_tag(4));
                out.extend_from_slice(&v.to_bits().to_le_bytes());
            }
            Value::List(list) => put_bytes_field(out, 5, list),
            Value::Map(map) => put_bytes_field(out, 6, map),
            Value::Bytes(bytes) => put_bytes_field(out, 7, bytes),
        }
    }
}

fn put_attributes(out: &mut Vec<u8>, field: u64, attributes: &[Attribute<'_>]) {
    for attribute in attributes {
        put_message(out, field, |out| attribute.encode(out));
    }
}

fn put_text(out: &mut Vec<u8>, field: u64, text: &[u8]) {
    if !text.is_empty() {
        put_bytes_field(out, field, text);
    }
}

fn put_number(out: &mut Vec<u8>, field: u64, number: u32) {
    if number != 0 {
        put_varint_field(out, field, number.into());
    }
}

fn put_enum(out: &mut Vec<u8>, field: u64, number: i32) {
    if number != 0 {
        put_uvarint(out, varint_tag(field));
        // Negative numbers are sign-extended to 64 bits on the wire.
        put_uvarint(out, i64::from(number) as u64);
    }
}

fn put_fixed64(out: &mut Vec<u8>, field: u64, number: u64) {
    if number != 0 {
        put_uvarint(out, fixed64_tag(field));
        out.extend_from_slice(&number.to_le_bytes());
    }
}
