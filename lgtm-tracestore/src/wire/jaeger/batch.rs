//! A Jaeger batch: one process and its spans. Source: `jaeger.thrift` of the Jaeger project, Apache-2.0.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lgtm_core::Result;
use lgtm_core::codec::protobuf::{fixed64_tag, put_bytes_field, put_message, put_varint_field};
use lgtm_core::codec::{Allowance, DecodeFail, Reader, put_uvarint};
use lgtm_core::error::DecodeError;

use super::thrift::value_type::{BINARY, BOOL, DOUBLE, I32, I64, LIST, STRUCT};
use super::thrift::{binary, field, i32, i64, skip, structs};
use crate::wire::batch::PushBatch;
use crate::wire::options::PushOptions;
use crate::wire::otlp_writer::{
    FieldTags, MAX_PARTS, OtlpWriter, put_attribute, put_fixed64, put_text_attribute, put_times,
};
use crate::wire::regroup::decode_with;

/// Decodes a batch, which is decompressed already.
///
/// # Errors
/// As [`decode_otlp`](crate::wire::decode_otlp).
pub fn decode_jaeger_thrift(
    batch: &mut PushBatch,
    options: PushOptions,
    body: &[u8],
    allowance: &mut Allowance<'_>,
) -> Result<()> {
    decode_with(batch, options, allowance, |out, allowance| {
        out.clear();
        Ok(read_batch(body, out, allowance)?)
    })
}

type Decoded<T> = std::result::Result<T, DecodeError>;

fn read_batch(
    body: &[u8],
    out: &mut Vec<u8>,
    allowance: &mut Allowance<'_>,
) -> std::result::Result<(), DecodeFail> {
    const WHAT: &str = "Jaeger batch";
    // The process may stand behind the spans.
    let (mut process, mut spans) = (None, None);
    let mut r = Reader::new(WHAT, body);
    while let Some((kind, number)) = field(&mut r)? {
        match (number, kind) {
            (1, STRUCT) => {
                process = Some(r.clone());
                skip(&mut r, kind)?;
            }
            (2, LIST) => {
                spans = Some(r.clone());
                skip(&mut r, kind)?;
            }
            _ => skip(&mut r, kind)?,
        }
    }
    let mut resource = Vec::new();
    if let Some(mut r) = process {
        read_process(&mut r, &mut resource)?;
        allowance.take(resource.capacity())?;
    }
    let Some(mut r) = spans else {
        return Ok(());
    };
    let mut writer = OtlpWriter::default();
    let mut span = JaegerSpan::default();
    let mut scope = Vec::new();
    for _ in 0..structs(&mut r)? {
        span.read(&mut r)?;
        let (fields, is_field) = span.fields();
        scope.clear();
        fields.put_scope(&mut scope);
        let write = |out: &mut Vec<u8>| span.put(out, &fields, &is_field);
        writer.span(&resource, &scope, out, allowance, write)?;
    }
    Ok(writer.finish(out, allowance)?)
}

fn read_process(r: &mut Reader<'_>, resource: &mut Vec<u8>) -> Decoded<()> {
    while let Some((kind, number)) = field(r)? {
        match (number, kind) {
            (1, BINARY) => put_text_attribute(resource, 1, "service.name", binary(r)?),
            (2, LIST) => {
                for _ in 0..structs(r)? {
                    read_tag(r)?.put(resource, 1);
                }
            }
            _ => skip(r, kind)?,
        }
    }
    Ok(())
}

/// A span, with memory for the next.
#[derive(Debug, Default)]
struct JaegerSpan<'a> {
    trace_id: [u8; 16],
    id: u64,
    parent_id: u64,
    name: &'a [u8],
    start_us: i64,
    duration_us: i64,
    references: Vec<Reference>,
    tags: Vec<Tag<'a>>,
    logs: Vec<Log<'a>>,
}

#[derive(Debug, Clone, Copy)]
struct Reference {
    follows: bool,
    trace_id: [u8; 16],
    span_id: u64,
}

#[derive(Debug)]
struct Log<'a> {
    timestamp_us: i64,
    fields: Vec<Tag<'a>>,
}

#[derive(Debug, Clone, Copy)]
struct Tag<'a> {
    key: &'a [u8],
    value: TagValue<'a>,
}

#[derive(Debug, Clone, Copy)]
enum TagValue<'a> {
    Text(&'a [u8]),
    Double(f64),
    Bool(bool),
    Int(i64),
    Bytes(&'a [u8]),
}

/// Tags, logs and references that a span may still have.
struct Parts(usize);

impl Parts {
    fn take(&mut self, r: &Reader<'_>) -> Decoded<()> {
        let left = self.0.checked_sub(1);
        self.0 = left.ok_or_else(|| {
            r.error(format!(
                "more than {MAX_PARTS} tags, logs and references of a span"
            ))
        })?;
        Ok(())
    }
}

fn trace_id(high: i64, low: i64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&high.to_be_bytes());
    id[8..].copy_from_slice(&low.to_be_bytes());
    id
}

impl<'a> JaegerSpan<'a> {
    fn read(&mut self, r: &mut Reader<'a>) -> Decoded<()> {
        let (mut low, mut high) = (0, 0);
        let mut parts = Parts(MAX_PARTS);
        self.references.clear();
        self.tags.clear();
        self.logs.clear();
        (self.id, self.parent_id, self.name) = (0, 0, &[]);
        (self.start_us, self.duration_us) = (0, 0);
        while let Some((kind, number)) = field(r)? {
            match (number, kind) {
                (1, I64) => low = i64(r)?,
                (2, I64) => high = i64(r)?,
                (3, I64) => self.id = i64(r)? as u64,
                (4, I64) => self.parent_id = i64(r)? as u64,
                (5, BINARY) => self.name = binary(r)?,
                (6, LIST) => {
                    for _ in 0..structs(r)? {
                        parts.take(r)?;
                        self.references.push(read_reference(r)?);
                    }
                }
                (8, I64) => self.start_us = i64(r)?,
                (9, I64) => self.duration_us = i64(r)?,
                (10, LIST) => {
                    for _ in 0..structs(r)? {
                        parts.take(r)?;
                        self.tags.push(read_tag(r)?);
                    }
                }
                (11, LIST) => {
                    for _ in 0..structs(r)? {
                        parts.take(r)?;
                        self.logs.push(read_log(r, &mut parts)?);
                    }
                }
                _ => skip(r, kind)?,
            }
        }
        self.trace_id = trace_id(high, low);
        if self.parent_id == 0 {
            let of_trace = |f: &&Reference| f.trace_id == self.trace_id && !f.follows;
            self.parent_id = self
                .references
                .iter()
                .find(of_trace)
                .map_or(0, |f| f.span_id);
        }
        Ok(())
    }

    /// Tags that are fields in OTLP, and which these are.
    fn fields(&self) -> (FieldTags<'a>, Vec<bool>) {
        let mut fields = FieldTags::default();
        let note = |tag: &Tag<'a>| match (tag.key, tag.value) {
            (b"error", TagValue::Bool(failed)) => {
                if failed {
                    fields.fail();
                }
                true
            }
            (key, TagValue::Text(text)) => match (str::from_utf8(key), str::from_utf8(text)) {
                (Ok(key), Ok(text)) => fields.note(key, text),
                _ => false,
            },
            _ => false,
        };
        let is_field = self.tags.iter().map(note).collect();
        (fields, is_field)
    }

    fn put(&self, out: &mut Vec<u8>, fields: &FieldTags<'_>, is_field: &[bool]) {
        let parent = self.parent_id;
        put_bytes_field(out, 1, &self.trace_id);
        put_bytes_field(out, 2, &self.id.to_be_bytes());
        if parent != 0 {
            put_bytes_field(out, 4, &parent.to_be_bytes());
        }
        put_bytes_field(out, 5, self.name);
        let not_negative = |us: i64| u64::try_from(us).unwrap_or(0);
        put_times(
            out,
            not_negative(self.start_us),
            not_negative(self.duration_us),
        );
        for (tag, is_field) in self.tags.iter().zip(is_field) {
            if !is_field {
                tag.put(out, 9);
            }
        }
        for log in &self.logs {
            put_message(out, 11, |out| log.put(out));
        }
        for reference in &self.references {
            let is_parent = reference.trace_id == self.trace_id && reference.span_id == parent;
            if !is_parent {
                put_message(out, 13, |out| reference.put(out));
            }
        }
        fields.put_fields(out);
    }
}

impl Reference {
    fn put(&self, out: &mut Vec<u8>) {
        let kind: &[u8] = if self.follows {
            b"follows_from"
        } else {
            b"child_of"
        };
        put_bytes_field(out, 1, &self.trace_id);
        put_bytes_field(out, 2, &self.span_id.to_be_bytes());
        put_text_attribute(out, 4, "opentracing.ref_type", kind);
    }
}

impl Log<'_> {
    /// The field `event` is the event's name.
    fn put(&self, out: &mut Vec<u8>) {
        let timestamp_us = u64::try_from(self.timestamp_us).unwrap_or(0);
        put_fixed64(out, 1, timestamp_us.saturating_mul(1000));
        let mut has_name = false;
        for tag in &self.fields {
            match (tag.key, tag.value) {
                (b"event", TagValue::Text(name)) if !has_name => {
                    put_bytes_field(out, 2, name);
                    has_name = true;
                }
                _ => tag.put(out, 3),
            }
        }
    }
}

impl Tag<'_> {
    fn put(&self, out: &mut Vec<u8>, field: u64) {
        put_attribute(out, field, self.key, |out| match self.value {
            TagValue::Text(text) => put_bytes_field(out, 1, text),
            TagValue::Bool(v) => put_varint_field(out, 2, v.into()),
            TagValue::Int(v) => put_varint_field(out, 3, v as u64),
            TagValue::Double(v) => {
                put_uvarint(out, fixed64_tag(4));
                out.extend_from_slice(&v.to_bits().to_le_bytes());
            }
            // As text, which is what the collector makes of them.
            TagValue::Bytes(bytes) => put_bytes_field(out, 1, STANDARD.encode(bytes).as_bytes()),
        });
    }
}

fn read_reference(r: &mut Reader<'_>) -> Decoded<Reference> {
    let (mut low, mut high, mut span_id, mut follows) = (0, 0, 0, false);
    while let Some((kind, number)) = field(r)? {
        match (number, kind) {
            (1, I32) => follows = i32(r)? == 1,
            (2, I64) => low = i64(r)?,
            (3, I64) => high = i64(r)?,
            (4, I64) => span_id = i64(r)? as u64,
            _ => skip(r, kind)?,
        }
    }
    Ok(Reference {
        follows,
        trace_id: trace_id(high, low),
        span_id,
    })
}

fn read_log<'a>(r: &mut Reader<'a>, parts: &mut Parts) -> Decoded<Log<'a>> {
    let mut out = Log {
        timestamp_us: 0,
        fields: Vec::new(),
    };
    while let Some((kind, number)) = field(r)? {
        match (number, kind) {
            (1, I64) => out.timestamp_us = i64(r)?,
            (2, LIST) => {
                for _ in 0..structs(r)? {
                    parts.take(r)?;
                    out.fields.push(read_tag(r)?);
                }
            }
            _ => skip(r, kind)?,
        }
    }
    Ok(out)
}

/// A tag names the type of its value, and has a field for each.
fn read_tag<'a>(r: &mut Reader<'a>) -> Decoded<Tag<'a>> {
    let (mut key, mut kind_of_value): (&[u8], _) = (&[], 0);
    let (mut text, mut double, mut bool, mut int, mut bytes): (&[u8], _, _, _, &[u8]) =
        (&[], 0.0, false, 0, &[]);
    while let Some((kind, number)) = field(r)? {
        match (number, kind) {
            (1, BINARY) => key = binary(r)?,
            (2, I32) => kind_of_value = i32(r)?,
            (3, BINARY) => text = binary(r)?,
            (4, DOUBLE) => double = f64::from_bits(r.u64()?),
            (5, BOOL) => bool = r.u8()? != 0,
            (6, I64) => int = i64(r)?,
            (7, BINARY) => bytes = binary(r)?,
            _ => skip(r, kind)?,
        }
    }
    let value = match kind_of_value {
        0 => TagValue::Text(text),
        1 => TagValue::Double(double),
        2 => TagValue::Bool(bool),
        3 => TagValue::Int(int),
        4 => TagValue::Bytes(bytes),
        other => return Err(r.error(format!("a tag of type {other}"))),
    };
    Ok(Tag { key, value })
}
