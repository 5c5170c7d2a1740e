//! Zipkin's JSON: a list of spans.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use lgtm_core::codec::Allowance;
use lgtm_core::{Error, Result};
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::json_v1::SpanJsonV1;
use super::span::{Endpoint, ZipkinSpan, ZipkinWriter};
use crate::trace::SpanKind;
use crate::wire::batch::PushBatch;
use crate::wire::options::PushOptions;
use crate::wire::otlp_writer::{MAX_PARTS, not_a_request};
use crate::wire::regroup::decode_with;

/// Which of Zipkin's JSON formats is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZipkinVersion {
    /// Annotations tell what a span is: `/api/v1/spans`.
    V1,
    /// `/api/v2/spans`.
    V2,
}

/// Decodes `[{"traceId":"..","id":"..",..},..]`, which is decompressed already.
///
/// # Errors
/// As [`decode_otlp`](crate::wire::decode_otlp).
pub fn decode_zipkin_json(
    batch: &mut PushBatch,
    options: PushOptions,
    version: ZipkinVersion,
    json: &[u8],
    allowance: &mut Allowance<'_>,
) -> Result<()> {
    decode_with(batch, options, allowance, |out, allowance| {
        out.clear();
        if json.trim_ascii().is_empty() {
            return Ok(());
        }
        let mut spans = Spans {
            version,
            writer: ZipkinWriter::default(),
            out,
            allowance,
            refused: None,
        };
        let mut de = serde_json::Deserializer::from_slice(json);
        let done = (&mut de)
            .deserialize_seq(&mut spans)
            .and_then(|()| de.end());
        match (spans.refused.take(), done) {
            (Some(refused), _) => Err(refused),
            (None, Err(e)) => Err(not_a_request("Zipkin's JSON", e)),
            (None, Ok(())) => spans.writer.finish(spans.out, spans.allowance),
        }
    })
}

struct Spans<'o, 'g> {
    version: ZipkinVersion,
    writer: ZipkinWriter,
    out: &'o mut Vec<u8>,
    allowance: &'o mut Allowance<'g>,
    /// Why there was no room, which the reader of JSON cannot tell.
    refused: Option<Error>,
}

impl<'de> Visitor<'de> for &mut Spans<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of spans")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<(), A::Error> {
        while seq.next_element_seed(OneSpan(self))?.is_some() {}
        Ok(())
    }
}

struct OneSpan<'s, 'o, 'g>(&'s mut Spans<'o, 'g>);

impl<'de> DeserializeSeed<'de> for OneSpan<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<(), D::Error> {
        let spans = match self.0.version {
            ZipkinVersion::V1 => SpanJsonV1::deserialize(from)?.read(),
            ZipkinVersion::V2 => SpanJson::deserialize(from)?.read().map(|span| vec![span]),
        };
        let Spans {
            writer,
            out,
            allowance,
            refused,
            ..
        } = self.0;
        for span in spans.map_err(D::Error::custom)? {
            writer.span(&span, out, allowance).map_err(|e| {
                *refused = Some(e);
                D::Error::custom("request is too large")
            })?;
        }
        Ok(())
    }
}

/// A text that is borrowed where it needs no unescaping; `null` is the empty one.
pub(super) type Text<'a> = Option<Cow<'a, str>>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct SpanJson<'a> {
    #[serde(borrow)]
    trace_id: Text<'a>,
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    parent_id: Text<'a>,
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
    timestamp: Option<u64>,
    duration: Option<u64>,
    #[serde(borrow)]
    local_endpoint: Option<EndpointJson<'a>>,
    #[serde(borrow)]
    remote_endpoint: Option<EndpointJson<'a>>,
    #[serde(borrow)]
    annotations: Option<Bounded<AnnotationJson<'a>>>,
    #[serde(borrow)]
    tags: Option<Tags<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub(super) struct EndpointJson<'a> {
    #[serde(borrow)]
    service_name: Text<'a>,
    #[serde(borrow)]
    ipv4: Text<'a>,
    #[serde(borrow)]
    ipv6: Text<'a>,
    port: Option<u16>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct AnnotationJson<'a> {
    timestamp: Option<u64>,
    #[serde(borrow)]
    value: Text<'a>,
}

/// A list of which there is a bound.
pub(super) struct Bounded<T>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Bounded<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("annotations")
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> std::result::Result<Self::Value, A::Error> {
                let mut out = Vec::new();
                while let Some(one) = seq.next_element()? {
                    bounded::<_, A::Error>(&out)?;
                    out.push(one);
                }
                Ok(Bounded(out))
            }
        }
        from.deserialize_seq(Entries(PhantomData))
    }
}

/// Whether there may be one more.
fn bounded<T, E: serde::de::Error>(parts: &[T]) -> std::result::Result<(), E> {
    if parts.len() == MAX_PARTS {
        return Err(E::custom(format!(
            "a span has more than {MAX_PARTS} of them"
        )));
    }
    Ok(())
}

/// Tags in the order in which they came.
struct Tags<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Tags<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Tags<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tags")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Self::Value, A::Error> {
                let mut out = Vec::new();
                while let Some((key, text)) =
                    map.next_entry::<BorrowedText<'de>, BorrowedText<'de>>()?
                {
                    bounded::<_, A::Error>(&out)?;
                    out.push((key.0, text.0));
                }
                Ok(Tags(out))
            }
        }
        from.deserialize_map(Entries)
    }
}

/// `Cow` alone would copy.
#[derive(Deserialize)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> SpanJson<'a> {
    fn read(self) -> std::result::Result<ZipkinSpan<'a>, String> {
        Ok(ZipkinSpan {
            trace_id: hex("traceId", self.trace_id, 32)?.to_be_bytes(),
            id: (hex("id", self.id, 16)? as u64).to_be_bytes(),
            parent_id: (hex("parentId", self.parent_id, 16)? as u64).to_be_bytes(),
            kind: match self.kind.as_deref() {
                Some("CLIENT") => Some(SpanKind::Client),
                Some("SERVER") => Some(SpanKind::Server),
                Some("PRODUCER") => Some(SpanKind::Producer),
                Some("CONSUMER") => Some(SpanKind::Consumer),
                _ => None,
            },
            name: self.name.unwrap_or_default(),
            timestamp_us: self.timestamp.unwrap_or(0),
            duration_us: self.duration.unwrap_or(0),
            local: endpoint(self.local_endpoint),
            remote: endpoint(self.remote_endpoint),
            annotations: (self
                .annotations
                .map(|a| a.0)
                .unwrap_or_default()
                .into_iter())
            .map(|a| (a.timestamp.unwrap_or(0), a.value.unwrap_or_default()))
            .collect(),
            tags: self.tags.map(|t| t.0).unwrap_or_default(),
        })
    }
}

pub(super) fn endpoint(json: Option<EndpointJson<'_>>) -> Endpoint<'_> {
    let json = json.unwrap_or_default();
    Endpoint {
        service_name: json.service_name.unwrap_or_default(),
        address: json.ipv6.or(json.ipv4).unwrap_or_default(),
        port: json.port.unwrap_or(0),
    }
}

/// An id of at most so many digits; 0 for none.
pub(super) fn hex(name: &str, text: Text<'_>, digits: usize) -> std::result::Result<u128, String> {
    let text = text.unwrap_or_default();
    if text.is_empty() {
        return Ok(0);
    }
    let is_hex = text.len() <= digits && text.bytes().all(|b| b.is_ascii_hexdigit());
    let id = is_hex
        .then(|| u128::from_str_radix(&text, 16).ok())
        .flatten();
    id.ok_or_else(|| {
        let text = lgtm_core::error::first_chars(&text, 50);
        format!("{name}: {text:?} is not at most {digits} hexadecimal digits")
    })
}
