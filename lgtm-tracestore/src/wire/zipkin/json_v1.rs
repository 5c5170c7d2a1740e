//! Spans of Zipkin v1, whose annotations tell what they are.

use std::borrow::Cow;

use serde::Deserialize;

use super::json::{Bounded, EndpointJson, Text, endpoint, hex};
use super::span::{Endpoint, ZipkinSpan};
use crate::trace::SpanKind;

/// A span as it is sent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub(super) struct SpanJsonV1<'a> {
    #[serde(borrow)]
    trace_id: Text<'a>,
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    parent_id: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
    timestamp: Option<u64>,
    duration: Option<u64>,
    #[serde(borrow)]
    annotations: Option<Bounded<AnnotationV1Json<'a>>>,
    #[serde(borrow)]
    binary_annotations: Option<Bounded<TagJson<'a>>>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
#[serde(expecting = "an annotation")]
struct AnnotationV1Json<'a> {
    timestamp: Option<u64>,
    #[serde(borrow)]
    value: Text<'a>,
    #[serde(borrow)]
    endpoint: Option<EndpointJson<'a>>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct TagJson<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow)]
    value: Option<TagValue<'a>>,
    #[serde(borrow)]
    endpoint: Option<EndpointJson<'a>>,
}

/// What senders put there: text mostly.
#[derive(Deserialize)]
#[serde(untagged)]
enum TagValue<'a> {
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(#[serde(borrow)] Cow<'a, str>),
}

/// One side of a call, as the annotations of both ends tell it.
#[derive(Default)]
struct Side<'a> {
    begin_us: Option<u64>,
    end_us: Option<u64>,
    local: Endpoint<'a>,
}

impl<'a> Side<'a> {
    fn is_there(&self) -> bool {
        self.begin_us.or(self.end_us).is_some()
    }

    fn note(&mut self, timestamp_us: u64, is_begin: bool, local: Endpoint<'a>) {
        let place = if is_begin {
            &mut self.begin_us
        } else {
            &mut self.end_us
        };
        *place = Some(timestamp_us);
        if self.local.service_name.is_empty() {
            self.local = local;
        }
    }

    fn duration_us(&self) -> u64 {
        let times = self.begin_us.zip(self.end_us);
        times.map_or(0, |(begin, end)| end.saturating_sub(begin))
    }

    /// Makes a span this side's.
    fn put(self, kind: SpanKind, span: &mut ZipkinSpan<'a>) {
        span.kind = Some(kind);
        if span.timestamp_us == 0 {
            span.timestamp_us = self.begin_us.or(self.end_us).unwrap_or(0);
        }
        if span.duration_us == 0 {
            span.duration_us = self.duration_us();
        }
        span.local = self.local;
    }
}

impl<'a> SpanJsonV1<'a> {
    /// The spans that it is: one, or a client's and a server's.
    pub(super) fn read(self) -> Result<Vec<ZipkinSpan<'a>>, String> {
        let mut span = ZipkinSpan {
            trace_id: hex("traceId", self.trace_id, 32)?.to_be_bytes(),
            id: (hex("id", self.id, 16)? as u64).to_be_bytes(),
            parent_id: (hex("parentId", self.parent_id, 16)? as u64).to_be_bytes(),
            name: self.name.unwrap_or_default(),
            timestamp_us: self.timestamp.unwrap_or(0),
            duration_us: self.duration.unwrap_or(0),
            ..ZipkinSpan::default()
        };
        let (mut client, mut server) = (Side::default(), Side::default());
        let mut notes = Vec::new();
        for annotation in self.annotations.map(|a| a.0).unwrap_or_default() {
            let timestamp_us = annotation.timestamp.unwrap_or(0);
            let local = endpoint(annotation.endpoint);
            match annotation.value.as_deref().unwrap_or("") {
                at @ ("cs" | "cr") => client.note(timestamp_us, at == "cs", local),
                at @ ("sr" | "ss") => server.note(timestamp_us, at == "sr", local),
                at @ ("ms" | "mr") => {
                    let is_sent = at == "ms";
                    span.kind = Some(if is_sent {
                        SpanKind::Producer
                    } else {
                        SpanKind::Consumer
                    });
                    span.local = local;
                }
                _ => notes.push((local, timestamp_us, annotation.value.unwrap_or_default())),
            }
        }
        let mut tags = Vec::new();
        for tag in self.binary_annotations.map(|a| a.0).unwrap_or_default() {
            let key = tag.key.unwrap_or_default();
            let of = endpoint(tag.endpoint);
            let value = match tag.value {
                Some(TagValue::Bool(true)) if matches!(&*key, "sa" | "ca" | "ma") => {
                    span.remote = of;
                    continue;
                }
                Some(TagValue::Text(text)) => text,
                Some(TagValue::Bool(v)) => v.to_string().into(),
                Some(TagValue::Int(v)) => v.to_string().into(),
                Some(TagValue::Double(v)) => v.to_string().into(),
                None => Cow::default(),
            };
            tags.push((of, key, value));
        }
        let mut other = None;
        match (client.is_there(), server.is_there()) {
            (true, true) => {
                let mut answered = ZipkinSpan {
                    timestamp_us: 0,
                    duration_us: 0,
                    remote: Endpoint::default(),
                    ..span.clone()
                };
                server.put(SpanKind::Server, &mut answered);
                client.put(SpanKind::Client, &mut span);
                other = Some(answered);
            }
            (true, false) => client.put(SpanKind::Client, &mut span),
            (false, true) => server.put(SpanKind::Server, &mut span),
            (false, false) => {}
        }
        for (of, timestamp_us, value) in notes {
            side(&mut span, &mut other, of)
                .annotations
                .push((timestamp_us, value));
        }
        for (of, key, value) in tags {
            side(&mut span, &mut other, of).tags.push((key, value));
        }
        Ok(std::iter::once(span).chain(other).collect())
    }
}

/// The span that an endpoint is of; the first when that is not clear. A span that does not know its own yet takes this one.
fn side<'s, 'a>(
    span: &'s mut ZipkinSpan<'a>,
    other: &'s mut Option<ZipkinSpan<'a>>,
    of: Endpoint<'a>,
) -> &'s mut ZipkinSpan<'a> {
    if span.local.service_name.is_empty() {
        span.local = of;
        return span;
    }
    match other {
        Some(other) if other.local.service_name == of.service_name => other,
        _ => span,
    }
}
