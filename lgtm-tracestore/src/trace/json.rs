//! JSON of a trace as Tempo's API prints it: protobuf's JSON mapping, identifiers in base64, 64-bit integers as text, enums by name, what is zero
//! or empty left out, no spaces. Bytes that are no UTF-8 are shown as U+FFFD. In OTLP's own JSON identifiers are hexadecimal and enums numbers.
//!
//! ```text
//! {"resourceSpans":[{"resource":{"attributes":[...]},"scopeSpans":[{"scope":{"name":"lib"},"spans":[{"traceId":"AAE=",...}]}]}]}
//! ```

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lgtm_core::go::json::push_quoted;
use lgtm_core::go::push_json_float;

use crate::trace::{
    Attribute, Event, Link, ResourceSpans, ScopeSpans, Span, SpanKind, StatusCode, Value, Values,
};

/// How deep lists and maps are printed that lie in each other; what lies deeper is an empty value. Far more than what is taken from senders.
const MAX_DEPTH: usize = 100;

/// What identifiers and enums are printed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Identifiers in base64, enums by name.
    Tempo,
    /// Identifiers in hexadecimal, enums by number.
    Otlp,
}

/// The members of an object that is being printed.
pub(super) struct Members<'o> {
    pub(super) out: &'o mut String,
    is_first: bool,
}

impl<'o> Members<'o> {
    /// Opens an object.
    pub(super) fn open(out: &'o mut String) -> Self {
        out.push('{');
        Self {
            out,
            is_first: true,
        }
    }

    /// Begins a member, whose name needs no escape.
    pub(super) fn name(&mut self, name: &str) -> &mut String {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(',');
        }
        self.out.push('"');
        self.out.push_str(name);
        self.out.push_str("\":");
        self.out
    }

    pub(super) fn text(&mut self, name: &str, text: &[u8]) {
        if !text.is_empty() {
            push_text(self.name(name), text);
        }
    }

    fn id(&mut self, name: &str, bytes: &[u8], spelling: Spelling) {
        if bytes.is_empty() {
            return;
        }
        let out = self.name(name);
        match spelling {
            Spelling::Tempo => push_base64(out, bytes),
            Spelling::Otlp => {
                out.push('"');
                for b in bytes {
                    let _ = write!(out, "{b:02x}");
                }
                out.push('"');
            }
        }
    }

    /// A 64-bit number, which is text.
    pub(super) fn long(&mut self, name: &str, number: u64) {
        if number != 0 {
            let _ = write!(self.name(name), "\"{number}\"");
        }
    }

    fn count(&mut self, name: &str, number: u32) {
        if number != 0 {
            let _ = write!(self.name(name), "{number}");
        }
    }

    /// An enum: its name, or its number where that has none.
    pub(super) fn named(&mut self, name: &str, number: i32, known: Option<&str>) {
        if number == 0 {
            return;
        }
        let out = self.name(name);
        let _ = match known {
            Some(known) => write!(out, "\"{known}\""),
            None => write!(out, "{number}"),
        };
    }

    pub(super) fn list<T>(&mut self, name: &str, items: &[T], print: impl Fn(&T, &mut String)) {
        if items.is_empty() {
            return;
        }
        let out = self.name(name);
        out.push('[');
        for (n, item) in items.iter().enumerate() {
            if n > 0 {
                out.push(',');
            }
            print(item, out);
        }
        out.push(']');
    }

    fn attributes(&mut self, attributes: &[Attribute<'_>]) {
        self.list("attributes", attributes, |a, out| a.push_json(out, 0));
    }

    pub(super) fn close(self) {
        self.out.push('}');
    }
}

/// Appends a JSON string of bytes that may be no UTF-8.
pub(super) fn push_text(out: &mut String, text: &[u8]) {
    push_quoted(out, &String::from_utf8_lossy(text));
}

pub(super) fn push_base64(out: &mut String, bytes: &[u8]) {
    out.push('"');
    STANDARD.encode_string(bytes, out);
    out.push('"');
}

/// A float, which is text where JSON has no number for it.
pub(super) fn push_double(out: &mut String, v: f64) {
    if v.is_finite() {
        push_json_float(out, v);
    } else if v.is_nan() {
        out.push_str("\"NaN\"");
    } else {
        out.push_str(if v > 0.0 {
            "\"Infinity\""
        } else {
            "\"-Infinity\""
        });
    }
}

impl ResourceSpans<'_> {
    /// Appends the `Resource`.
    pub(super) fn push_resource_json(&self, out: &mut String) {
        let mut members = Members::open(out);
        members.attributes(&self.attributes);
        members.count("droppedAttributesCount", self.dropped_attributes_count);
        members.close();
    }
}

impl ScopeSpans<'_> {
    /// Appends the `InstrumentationScope`.
    pub(super) fn push_scope_json(&self, out: &mut String) {
        let mut members = Members::open(out);
        members.text("name", self.name);
        members.text("version", self.version);
        members.attributes(&self.attributes);
        members.count("droppedAttributesCount", self.dropped_attributes_count);
        members.close();
    }
}

impl Span<'_> {
    /// Appends the `Span`. It always has a status, as in Tempo's answers.
    pub(super) fn push_json(&self, out: &mut String, spelling: Spelling) {
        let mut members = Members::open(out);
        members.id("traceId", self.trace_id, spelling);
        members.id("spanId", self.span_id, spelling);
        members.text("traceState", self.trace_state);
        members.id("parentSpanId", self.parent_span_id, spelling);
        members.text("name", self.name);
        let is_named = spelling == Spelling::Tempo;
        let kind = SpanKind::of_number(self.kind).filter(|_| is_named);
        let kind = kind.map(SpanKind::as_str);
        members.named("kind", self.kind, kind);
        members.long("startTimeUnixNano", self.start_ns);
        members.long("endTimeUnixNano", self.end_ns);
        members.attributes(&self.attributes);
        members.count("droppedAttributesCount", self.dropped_attributes_count);
        members.list("events", &self.events, Event::push_json);
        members.count("droppedEventsCount", self.dropped_events_count);
        members.list("links", &self.links, |l, out| l.push_json(out, spelling));
        members.count("droppedLinksCount", self.dropped_links_count);
        let mut status = Members::open(members.name("status"));
        status.text("message", self.status_message);
        let code = StatusCode::of_number(self.status_code).filter(|_| is_named);
        let code = code.map(StatusCode::as_str);
        status.named("code", self.status_code, code);
        status.close();
        members.close();
    }
}

impl Event<'_> {
    fn push_json(&self, out: &mut String) {
        let mut members = Members::open(out);
        members.long("timeUnixNano", self.time_ns);
        members.text("name", self.name);
        members.attributes(&self.attributes);
        members.count("droppedAttributesCount", self.dropped_attributes_count);
        members.close();
    }
}

impl Link<'_> {
    fn push_json(&self, out: &mut String, spelling: Spelling) {
        let mut members = Members::open(out);
        members.id("traceId", self.trace_id, spelling);
        members.id("spanId", self.span_id, spelling);
        members.text("traceState", self.trace_state);
        members.attributes(&self.attributes);
        members.count("droppedAttributesCount", self.dropped_attributes_count);
        members.close();
    }
}

impl Attribute<'_> {
    fn push_json(&self, out: &mut String, depth: usize) {
        let mut members = Members::open(out);
        members.text("key", self.key);
        self.value.push_json_at(members.name("value"), depth);
        members.close();
    }
}

impl Value<'_> {
    /// Appends the `AnyValue`: `{"intValue":"3"}`, `{}` for none. What is set is there, zero and empty too. Of a list that is damaged the part
    /// before the damage is printed.
    pub fn push_json(&self, out: &mut String) {
        self.push_json_at(out, 0);
    }

    fn push_json_at(&self, out: &mut String, depth: usize) {
        let mut members = Members::open(out);
        match *self {
            Self::Empty => {}
            Self::Text(text) => push_text(members.name("stringValue"), text),
            Self::Bool(v) => {
                let text = if v { "true" } else { "false" };
                members.name("boolValue").push_str(text);
            }
            Self::Int(v) => {
                let _ = write!(members.name("intValue"), "\"{v}\"");
            }
            Self::Double(v) => push_double(members.name("doubleValue"), v),
            Self::Bytes(bytes) => push_base64(members.name("bytesValue"), bytes),
            Self::List(list) if depth < MAX_DEPTH => {
                let values = Values::new(list).map_while(Result::ok);
                push_values(members.name("arrayValue"), values, |value, out| {
                    value.push_json_at(out, depth + 1);
                });
            }
            Self::Map(map) if depth < MAX_DEPTH => {
                let entries = Attribute::in_map(map).map_while(Result::ok);
                push_values(members.name("kvlistValue"), entries, |entry, out| {
                    entry.push_json(out, depth + 1);
                });
            }
            Self::List(_) | Self::Map(_) => {}
        }
        members.close();
    }
}

/// `{"values":[...]}`, without the list when it is empty.
fn push_values<T>(
    out: &mut String,
    items: impl Iterator<Item = T>,
    print: impl Fn(T, &mut String),
) {
    out.push('{');
    let mut before = "\"values\":[";
    let mut end = "";
    for item in items {
        out.push_str(before);
        print(item, out);
        (before, end) = (",", "]");
    }
    out.push_str(end);
    out.push('}');
}
