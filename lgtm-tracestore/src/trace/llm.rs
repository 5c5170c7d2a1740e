//! JSON of a trace for language models: `Accept: application/vnd.grafana.llm`.
//!
//! ```text
//! {"traceId":"0af7..","services":[{"serviceName":"api","resource":{"k8s.pod.name":"api-1"},"scopes":[{"name":"lib","version":"1",
//!   "spans":[{"spanId":"b7ad..","name":"GET /","kind":"SPAN_KIND_SERVER","startTimeUnixNano":"1","endTimeUnixNano":"3","durationMs":0.000002,
//!   "attributes":{"http.status_code":200},"status":{"code":"STATUS_CODE_ERROR"}}]}]}]}
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;

use lgtm_core::go::push_json_float;

use crate::trace::json::{Members, push_base64, push_double, push_text};
use crate::trace::{
    Attribute, Event, Link, ResourceSpans, ScopeSpans, Span, SpanKind, StatusCode, Trace, Value,
    Values,
};

/// How deep lists and maps are printed that lie in each other; what lies deeper is `null`.
const MAX_DEPTH: usize = 100;

impl Trace<'_> {
    pub(super) fn push_llm_id(&self, members: &mut Members<'_>) {
        if let Some((_, _, span)) = self.spans().next() {
            push_hex(members, "traceId", span.trace_id);
        }
    }
}

impl ResourceSpans<'_> {
    pub(super) fn push_llm(&self, members: &mut Members<'_>) {
        members.text("serviceName", self.service_name());
        push_flat(members, "resource", &self.attributes);
    }
}

impl ScopeSpans<'_> {
    pub(super) fn push_llm(&self, members: &mut Members<'_>) {
        members.text("name", self.name);
        members.text("version", self.version);
        push_flat(members, "attributes", &self.attributes);
    }
}

impl Span<'_> {
    pub(super) fn push_llm(&self, out: &mut String) {
        let mut members = Members::open(out);
        push_hex(&mut members, "spanId", self.span_id);
        members.text("name", self.name);
        push_hex(&mut members, "parentSpanId", self.parent_span_id);
        let kind = SpanKind::of_number(self.kind).map(SpanKind::as_str);
        members.named("kind", self.kind, kind);
        members.long("startTimeUnixNano", self.start_ns);
        members.long("endTimeUnixNano", self.end_ns);
        let duration_ns = self.end_ns.saturating_sub(self.start_ns);
        push_json_float(members.name("durationMs"), duration_ns as f64 / 1e6);
        push_flat(&mut members, "attributes", &self.attributes);
        members.list("events", &self.events, Event::push_llm);
        members.list("links", &self.links, Link::push_llm);
        if self.status_code != 0 || !self.status_message.is_empty() {
            let mut status = Members::open(members.name("status"));
            let code = StatusCode::of_number(self.status_code).map(StatusCode::as_str);
            status.named("code", self.status_code, code);
            status.text("message", self.status_message);
            status.close();
        }
        members.close();
    }
}

impl Event<'_> {
    fn push_llm(&self, out: &mut String) {
        let mut members = Members::open(out);
        members.text("name", self.name);
        members.long("timeUnixNano", self.time_ns);
        push_flat(&mut members, "attributes", &self.attributes);
        members.close();
    }
}

impl Link<'_> {
    fn push_llm(&self, out: &mut String) {
        let mut members = Members::open(out);
        push_hex(&mut members, "traceId", self.trace_id);
        push_hex(&mut members, "spanId", self.span_id);
        push_flat(&mut members, "attributes", &self.attributes);
        members.close();
    }
}

fn push_hex(members: &mut Members<'_>, name: &str, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let out = members.name(name);
    out.push('"');
    for b in bytes {
        let _ = write!(out, "{b:02x}");
    }
    out.push('"');
}

/// Attributes as members of one object, in the order of keys; of equal keys the last counts.
fn push_flat(members: &mut Members<'_>, name: &str, attributes: &[Attribute<'_>]) {
    if !attributes.is_empty() {
        push_object(members.name(name), attributes.iter().copied(), 0);
    }
}

fn push_object<'a>(
    out: &mut String,
    attributes: impl Iterator<Item = Attribute<'a>>,
    depth: usize,
) {
    let by_key: BTreeMap<_, _> = attributes.map(|a| (a.key, a.value)).collect();
    out.push('{');
    for (n, (key, value)) in by_key.into_iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        push_text(out, key);
        out.push(':');
        push_value(out, value, depth);
    }
    out.push('}');
}

fn push_value(out: &mut String, value: Value<'_>, depth: usize) {
    match value {
        Value::Text(text) => push_text(out, text),
        Value::Bool(v) => out.push_str(if v { "true" } else { "false" }),
        Value::Int(v) => drop(write!(out, "{v}")),
        Value::Double(v) => push_double(out, v),
        Value::Bytes(bytes) => push_base64(out, bytes),
        Value::List(list) if depth < MAX_DEPTH => {
            out.push('[');
            for (n, value) in Values::new(list).map_while(Result::ok).enumerate() {
                if n > 0 {
                    out.push(',');
                }
                push_value(out, value, depth + 1);
            }
            out.push(']');
        }
        Value::Map(map) if depth < MAX_DEPTH => {
            push_object(out, Attribute::in_map(map).map_while(Result::ok), depth + 1);
        }
        Value::Empty | Value::List(_) | Value::Map(_) => out.push_str("null"),
    }
}
