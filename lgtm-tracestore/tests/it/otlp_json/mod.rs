//! OTLP traces in JSON, as the reference sets have them, turned into protobuf.

use base64::Engine;
use lgtm_core::codec::Allowance;
use lgtm_core::codec::protobuf::{fixed64_tag, put_bytes_field, put_message, put_varint_field};
use lgtm_core::codec::put_uvarint;
use lgtm_tracestore::select::{BatchFiller, SpanBatch, WantedColumns};
use lgtm_tracestore::trace::{Trace, TraceId};
use serde_json::Value;

/// A `TracesData`.
pub(crate) fn protobuf(json: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for resource in list(&json["resourceSpans"]) {
        put_message(&mut out, 1, |out| {
            put_message(out, 1, |out| attributes(out, 1, &resource["resource"]));
            for scope in list(&resource["scopeSpans"]) {
                put_message(out, 2, |out| {
                    put_message(out, 1, |out| {
                        text(out, 1, &scope["scope"]["name"]);
                        text(out, 2, &scope["scope"]["version"]);
                        attributes(out, 3, &scope["scope"]);
                    });
                    for item in list(&scope["spans"]) {
                        put_message(out, 2, |out| span(out, item));
                    }
                });
            }
        });
    }
    out
}

fn span(out: &mut Vec<u8>, json: &Value) {
    id(out, 1, &json["traceId"]);
    id(out, 2, &json["spanId"]);
    text(out, 3, &json["traceState"]);
    id(out, 4, &json["parentSpanId"]);
    text(out, 5, &json["name"]);
    number(out, 6, &json["kind"]);
    time(out, 7, &json["startTimeUnixNano"]);
    time(out, 8, &json["endTimeUnixNano"]);
    attributes(out, 9, json);
    for event in list(&json["events"]) {
        put_message(out, 11, |out| {
            time(out, 1, &event["timeUnixNano"]);
            text(out, 2, &event["name"]);
            attributes(out, 3, event);
        });
    }
    for link in list(&json["links"]) {
        put_message(out, 13, |out| {
            id(out, 1, &link["traceId"]);
            id(out, 2, &link["spanId"]);
            text(out, 3, &link["traceState"]);
            attributes(out, 4, link);
        });
    }
    put_message(out, 15, |out| {
        text(out, 2, &json["status"]["message"]);
        number(out, 3, &json["status"]["code"]);
    });
}

fn attributes(out: &mut Vec<u8>, field: u64, json: &Value) {
    for attribute in list(&json["attributes"]) {
        put_message(out, field, |out| {
            text(out, 1, &attribute["key"]);
            if attribute.get("value").is_some() {
                put_message(out, 2, |out| any(out, &attribute["value"]));
            }
        });
    }
}

fn any(out: &mut Vec<u8>, json: &Value) {
    let Some((kind, value)) = json.as_object().and_then(|o| o.iter().next()) else {
        return;
    };
    match kind.as_str() {
        "stringValue" => put_bytes_field(out, 1, value.as_str().unwrap().as_bytes()),
        "boolValue" => put_varint_field(out, 2, value.as_bool().unwrap().into()),
        "intValue" => {
            put_uvarint(out, 3 << 3);
            put_uvarint(out, whole(value) as u64);
        }
        "doubleValue" => {
            put_uvarint(out, fixed64_tag(4));
            out.extend(value.as_f64().unwrap().to_bits().to_le_bytes());
        }
        "arrayValue" => put_message(out, 5, |out| {
            for item in list(&value["values"]) {
                put_message(out, 1, |out| any(out, item));
            }
        }),
        "kvlistValue" => put_message(out, 6, |out| {
            let mut inner = serde_json::Map::new();
            inner.insert("attributes".into(), value["values"].clone());
            attributes(out, 1, &Value::Object(inner));
        }),
        "bytesValue" => {
            let engine = base64::engine::general_purpose::STANDARD;
            put_bytes_field(out, 7, &engine.decode(value.as_str().unwrap()).unwrap());
        }
        other => panic!("a value of kind {other}"),
    }
}

fn list(json: &Value) -> &[Value] {
    json.as_array().map_or(&[], Vec::as_slice)
}

fn text(out: &mut Vec<u8>, field: u64, json: &Value) {
    if let Some(text) = json.as_str() {
        put_bytes_field(out, field, text.as_bytes());
    }
}

fn id(out: &mut Vec<u8>, field: u64, json: &Value) {
    if let Some(digits) = json.as_str().filter(|d| !d.is_empty()) {
        put_bytes_field(out, field, &super::shared::unhex(digits));
    }
}

fn whole(json: &Value) -> i64 {
    match json {
        Value::String(digits) => digits.parse().unwrap(),
        json => json.as_i64().unwrap(),
    }
}

fn number(out: &mut Vec<u8>, field: u64, json: &Value) {
    if !json.is_null() {
        put_varint_field(out, field, whole(json) as u64);
    }
}

fn time(out: &mut Vec<u8>, field: u64, json: &Value) {
    let ns: u64 = match json {
        Value::Null => return,
        Value::String(digits) => digits.parse().unwrap(),
        json => json.as_u64().unwrap(),
    };
    put_uvarint(out, fixed64_tag(field));
    out.extend(ns.to_le_bytes());
}

/// Traces in memory.
#[derive(Debug, Default)]
pub(crate) struct Stored(Vec<(TraceId, Trace<'static>)>);

impl Stored {
    /// Of these, which stay for as long as the test runs.
    pub(crate) fn of(traces: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let traces = traces.into_iter().map(|bytes| {
            let bytes: &'static [u8] = bytes.leak();
            let mut grow = |_| Ok(());
            let mut allowance = Allowance::new(usize::MAX, &mut grow);
            let mut trace = Trace::decode(bytes, &mut allowance).unwrap();
            trace.rebatch();
            let id = trace.spans().next().map(|(_, _, span)| span.trace_id);
            (TraceId::from_short(id.unwrap()).unwrap(), trace)
        });
        Self(traces.collect())
    }

    /// The traces.
    pub(crate) fn traces(&self) -> &[(TraceId, Trace<'static>)] {
        &self.0
    }

    /// All spans in batches of so many traces.
    pub(crate) fn batches(&self, wanted: &WantedColumns, traces: usize) -> Vec<SpanBatch> {
        let mut out = Vec::new();
        let (mut filler, mut count, mut row) = (BatchFiller::new(wanted.clone()), 0, 0);
        for (id, trace) in &self.0 {
            if count == traces {
                out.push(std::mem::replace(&mut filler, BatchFiller::new(wanted.clone())).finish());
                count = 0;
            }
            filler.push(*id, trace, row).unwrap();
            row += trace.span_count() as u64;
            count += 1;
        }
        out.push(filler.finish());
        out
    }
}
