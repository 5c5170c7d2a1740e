//! Zipkin v2 as protobuf: `ListOfSpans { repeated Span = 1 }`. Source: `zipkin.proto` of the Zipkin project, Apache-2.0.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use lgtm_core::Result;
use lgtm_core::codec::protobuf::{bytes_tag, fixed64_tag, skip, varint_tag};
use lgtm_core::codec::{Allowance, Reader};
use lgtm_core::error::DecodeError;
use lgtm_core::otlp::submessages;

use super::span::{Endpoint, ZipkinSpan, ZipkinWriter};
use crate::trace::SpanKind;
use crate::wire::batch::PushBatch;
use crate::wire::options::PushOptions;
use crate::wire::otlp_writer::{MAX_PARTS, not_a_request};
use crate::wire::regroup::decode_with;

/// Decodes a list of spans, which is decompressed already.
///
/// # Errors
/// As [`decode_otlp`](crate::wire::decode_otlp).
pub fn decode_zipkin_protobuf(
    batch: &mut PushBatch,
    options: PushOptions,
    body: &[u8],
    allowance: &mut Allowance<'_>,
) -> Result<()> {
    decode_with(batch, options, allowance, |out, allowance| {
        out.clear();
        let mut writer = ZipkinWriter::default();
        for span in submessages("list of Zipkin spans", body, 1) {
            let broken = |e| not_a_request("Zipkin's protobuf", e);
            let span = read_span(span.map_err(broken)?).map_err(broken)?;
            writer.span(&span, out, allowance)?;
        }
        writer.finish(out, allowance)
    })
}

fn read_span(bytes: &[u8]) -> std::result::Result<ZipkinSpan<'_>, DecodeError> {
    let mut out = ZipkinSpan::default();
    let mut r = Reader::new("Zipkin span", bytes);
    while !r.is_empty() {
        if out.annotations.len().max(out.tags.len()) > MAX_PARTS {
            return Err(r.error(format!("more than {MAX_PARTS} annotations or tags")));
        }
        match r.uvarint()? {
            tag if tag == bytes_tag(1) => out.trace_id = padded(&mut r)?,
            tag if tag == bytes_tag(2) => out.parent_id = padded(&mut r)?,
            tag if tag == bytes_tag(3) => out.id = padded(&mut r)?,
            tag if tag == varint_tag(4) => {
                out.kind = match r.uvarint()? {
                    1 => Some(SpanKind::Client),
                    2 => Some(SpanKind::Server),
                    3 => Some(SpanKind::Producer),
                    4 => Some(SpanKind::Consumer),
                    _ => None,
                };
            }
            tag if tag == bytes_tag(5) => out.name = text(&mut r)?,
            tag if tag == fixed64_tag(6) => out.timestamp_us = r.u64_le()?,
            tag if tag == varint_tag(7) => out.duration_us = r.uvarint()?,
            tag if tag == bytes_tag(8) => out.local = endpoint(r.bytes()?)?,
            tag if tag == bytes_tag(9) => out.remote = endpoint(r.bytes()?)?,
            tag if tag == bytes_tag(10) => out.annotations.push(annotation(r.bytes()?)?),
            tag if tag == bytes_tag(11) => out.tags.push(tag_of(r.bytes()?)?),
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(out)
}

/// An id, zeros on the left of a short one.
fn padded<const N: usize>(r: &mut Reader<'_>) -> std::result::Result<[u8; N], DecodeError> {
    let bytes = r.bytes()?;
    let Some(from) = N.checked_sub(bytes.len()) else {
        return Err(r.error(format!(
            "an id of {} bytes, at most {N} are possible",
            bytes.len()
        )));
    };
    let mut id = [0; N];
    id[from..].copy_from_slice(bytes);
    Ok(id)
}

fn text<'a>(r: &mut Reader<'a>) -> std::result::Result<Cow<'a, str>, DecodeError> {
    Ok(String::from_utf8_lossy(r.bytes()?))
}

fn endpoint(bytes: &[u8]) -> std::result::Result<Endpoint<'_>, DecodeError> {
    let mut out = Endpoint::default();
    let mut r = Reader::new("Zipkin endpoint", bytes);
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == bytes_tag(1) => out.service_name = text(&mut r)?,
            tag if tag == bytes_tag(2) => {
                if let Ok(bytes) = <[u8; 4]>::try_from(r.bytes()?)
                    && out.address.is_empty()
                {
                    out.address = Ipv4Addr::from(bytes).to_string().into();
                }
            }
            tag if tag == bytes_tag(3) => {
                if let Ok(bytes) = <[u8; 16]>::try_from(r.bytes()?) {
                    out.address = Ipv6Addr::from(bytes).to_string().into();
                }
            }
            tag if tag == varint_tag(4) => out.port = u16::try_from(r.uvarint()?).unwrap_or(0),
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(out)
}

fn annotation(bytes: &[u8]) -> std::result::Result<(u64, Cow<'_, str>), DecodeError> {
    let mut out = (0, Cow::default());
    let mut r = Reader::new("Zipkin annotation", bytes);
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == fixed64_tag(1) => out.0 = r.u64_le()?,
            tag if tag == bytes_tag(2) => out.1 = text(&mut r)?,
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(out)
}

fn tag_of(bytes: &[u8]) -> std::result::Result<(Cow<'_, str>, Cow<'_, str>), DecodeError> {
    let mut out = (Cow::default(), Cow::default());
    let mut r = Reader::new("Zipkin tag", bytes);
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == bytes_tag(1) => out.0 = text(&mut r)?,
            tag if tag == bytes_tag(2) => out.1 = text(&mut r)?,
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(out)
}
