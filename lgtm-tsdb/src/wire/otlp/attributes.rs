//! Attributes: `KeyValue { key = 1, value = 2 }` with values of any shape, as the text that a label holds.

use std::fmt::Write;

use lgtm_core::DecodeError;
use lgtm_core::codec::protobuf::{bytes_tag, double, fixed64_tag, skip, varint_tag};
use lgtm_core::codec::{Allowance, DecodeFail, Reader};
use lgtm_core::go::json::push_quoted;
use lgtm_core::go::push_json_float;

/// How deep lists and maps may lie in each other. Senders use one or two levels.
const MAX_DEPTH: usize = 16;

/// One attribute, its value not looked into yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attribute<'a> {
    pub(super) key: &'a str,
    value: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("attribute", bytes);
        let mut out = Self {
            key: "",
            value: &[],
        };
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => out.key = r.str()?,
                tag if tag == bytes_tag(2) => out.value = r.bytes()?,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(out)
    }

    /// Bytes of the value as it stands in the request.
    pub(super) fn value_len(&self) -> usize {
        self.value.len()
    }

    /// Appends the value as text: text as it is, numbers in decimal, lists and maps as JSON, bytes in base64.
    pub(super) fn push_text(
        &self,
        out: &mut String,
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        let value = any(self.value)?;
        allowance.reserve_text(out, value.max_text_bytes(self.value.len()))?;
        match value {
            Any::Text(text) => out.push_str(text),
            Any::Bytes(bytes) => push_base64(bytes, out),
            other => other.push_json(out, 0, allowance)?,
        }
        Ok(())
    }
}

/// A value of any shape.
enum Any<'a> {
    Empty,
    Text(&'a str),
    Bool(bool),
    Int(i64),
    Double(f64),
    List(&'a [u8]),
    Map(&'a [u8]),
    Bytes(&'a [u8]),
}

fn any(bytes: &[u8]) -> Result<Any<'_>, DecodeError> {
    let mut r = Reader::new("attribute value", bytes);
    let mut out = Any::Empty;
    while !r.is_empty() {
        out = match r.uvarint()? {
            tag if tag == bytes_tag(1) => Any::Text(r.str()?),
            tag if tag == varint_tag(2) => Any::Bool(r.uvarint()? != 0),
            tag if tag == varint_tag(3) => Any::Int(r.uvarint()? as i64),
            tag if tag == fixed64_tag(4) => Any::Double(double(&mut r)?),
            tag if tag == bytes_tag(5) => Any::List(r.bytes()?),
            tag if tag == bytes_tag(6) => Any::Map(r.bytes()?),
            tag if tag == bytes_tag(7) => Any::Bytes(r.bytes()?),
            tag => {
                skip(&mut r, tag)?;
                continue;
            }
        };
    }
    Ok(out)
}

impl Any<'_> {
    /// Most bytes that the text of a value takes which takes `encoded` bytes in the request. What grows most is a control character,
    /// which JSON spells with six; an empty entry of a map goes from two bytes to eight.
    fn max_text_bytes(&self, encoded: usize) -> usize {
        match self {
            Any::Text(text) => text.len(),
            Any::Bytes(bytes) => bytes.len().div_ceil(3) * 4,
            _ => encoded.saturating_mul(6).saturating_add(32),
        }
    }

    fn push_json(
        &self,
        out: &mut String,
        depth: usize,
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        if depth > MAX_DEPTH {
            let reason = format!("lists and maps lie more than {MAX_DEPTH} deep");
            return Err(DecodeError::new("attribute value", 0, reason).into());
        }
        match self {
            Any::Empty if depth == 0 => {}
            Any::Empty => out.push_str("null"),
            Any::Text(text) => push_quoted(out, text),
            Any::Bytes(bytes) => {
                out.push('"');
                push_base64(bytes, out);
                out.push('"');
            }
            Any::Bool(v) => out.push_str(if *v { "true" } else { "false" }),
            Any::Int(v) => drop(write!(out, "{v}")),
            Any::Double(v) => push_json_float(out, *v),
            Any::List(bytes) => {
                out.push('[');
                let mut r = Reader::new("list", bytes);
                let mut first = true;
                while !r.is_empty() {
                    match r.uvarint()? {
                        tag if tag == bytes_tag(1) => {
                            if !std::mem::take(&mut first) {
                                out.push(',');
                            }
                            any(r.bytes()?)?.push_json(out, depth + 1, allowance)?;
                        }
                        tag => skip(&mut r, tag)?,
                    }
                }
                out.push(']');
            }
            Any::Map(bytes) => push_map(bytes, out, depth, allowance)?,
        }
        Ok(())
    }
}

/// Keys in order, so that equal maps have equal text.
fn push_map(
    bytes: &[u8],
    out: &mut String,
    depth: usize,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    let mut entries = Vec::new();
    let mut r = Reader::new("map", bytes);
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == bytes_tag(1) => {
                allowance.push(&mut entries, Attribute::decode(r.bytes()?)?)?
            }
            tag => skip(&mut r, tag)?,
        }
    }
    entries.sort_by_key(|e| e.key);
    out.push('{');
    for (i, entry) in entries.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_quoted(out, entry.key);
        out.push(':');
        any(entry.value)?.push_json(out, depth + 1, allowance)?;
    }
    out.push('}');
    Ok(())
}

fn push_base64(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for i in 0..4 {
            match i <= group.len() {
                true => out.push(char::from(DIGITS[(bits >> (18 - 6 * i) & 63) as usize])),
                false => out.push('='),
            }
        }
    }
}
