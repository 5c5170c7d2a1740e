//! Attributes: `KeyValue { key = 1, value = 2 }` with values of any shape, as the text that a label holds.

use std::fmt::Write;

use crate::codec::protobuf::{bytes_tag, double, fixed64_tag, skip, varint_tag};
use crate::codec::{Allowance, DecodeFail, Reader};
use crate::error::DecodeError;
use crate::go::json::push_quoted;
use crate::go::push_json_float;

/// How deep lists and maps may lie in each other. Senders use one or two levels.
const MAX_DEPTH: usize = 16;

/// One attribute, its value not looked into yet.
#[derive(Debug, Clone, Copy)]
pub struct Attribute<'a> {
    /// Its key; empty when the request gives none.
    pub key: &'a str,
    value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// Reads a `KeyValue`.
    ///
    /// # Errors
    /// For bytes that are none.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
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

    /// A value that stands alone, an `AnyValue`; it has no key.
    pub fn of_value(value: &'a [u8]) -> Self {
        Self { key: "", value }
    }

    /// The value.
    ///
    /// # Errors
    /// For bytes that are none.
    pub fn value(&self) -> Result<Value<'a>, DecodeError> {
        decode(self.value)
    }

    /// Bytes of the value as it stands in the request.
    #[inline]
    pub fn value_len(&self) -> usize {
        self.value.len()
    }

    /// Appends the value as text: text as it is, numbers in decimal, lists and maps as JSON, bytes in base64.
    ///
    /// # Errors
    /// For a value that does not decode or nests more than 16 deep; what `allowance` refuses.
    pub fn push_text(
        &self,
        out: &mut String,
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        let value = decode(self.value)?;
        allowance.reserve_text(out, value.max_text_bytes(self.value.len()))?;
        match value {
            Value::Text(text) => out.push_str(text),
            Value::Bytes(bytes) => push_base64(bytes, out),
            other => other.push_json(out, 0, allowance)?,
        }
        Ok(())
    }
}

/// A value of any shape, as `AnyValue` has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// None is set.
    Empty,
    /// Text.
    Text(&'a str),
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Double(f64),
    /// An `ArrayValue`, not looked into yet.
    List(&'a [u8]),
    /// A `KeyValueList`, not looked into yet.
    Map(&'a [u8]),
    /// Bytes.
    Bytes(&'a [u8]),
}

fn decode(bytes: &[u8]) -> Result<Value<'_>, DecodeError> {
    let mut r = Reader::new("attribute value", bytes);
    let mut out = Value::Empty;
    while !r.is_empty() {
        out = match r.uvarint()? {
            tag if tag == bytes_tag(1) => Value::Text(r.str()?),
            tag if tag == varint_tag(2) => Value::Bool(r.uvarint()? != 0),
            tag if tag == varint_tag(3) => Value::Int(r.uvarint()? as i64),
            tag if tag == fixed64_tag(4) => Value::Double(double(&mut r)?),
            tag if tag == bytes_tag(5) => Value::List(r.bytes()?),
            tag if tag == bytes_tag(6) => Value::Map(r.bytes()?),
            tag if tag == bytes_tag(7) => Value::Bytes(r.bytes()?),
            tag => {
                skip(&mut r, tag)?;
                continue;
            }
        };
    }
    Ok(out)
}

impl Value<'_> {
    /// Most bytes that the text of a value takes which takes `encoded` bytes in the request. What grows most is a control character,
    /// which JSON spells with six; an empty entry of a map goes from two bytes to eight.
    fn max_text_bytes(&self, encoded: usize) -> usize {
        match self {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len().div_ceil(3) * 4,
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
            Value::Empty if depth == 0 => {}
            Value::Empty => out.push_str("null"),
            Value::Text(text) => push_quoted(out, text),
            Value::Bytes(bytes) => {
                out.push('"');
                push_base64(bytes, out);
                out.push('"');
            }
            Value::Bool(v) => out.push_str(if *v { "true" } else { "false" }),
            Value::Int(v) => drop(write!(out, "{v}")),
            Value::Double(v) => push_json_float(out, *v),
            Value::List(bytes) => {
                out.push('[');
                let mut r = Reader::new("list", bytes);
                let mut first = true;
                while !r.is_empty() {
                    match r.uvarint()? {
                        tag if tag == bytes_tag(1) => {
                            if !std::mem::take(&mut first) {
                                out.push(',');
                            }
                            decode(r.bytes()?)?.push_json(out, depth + 1, allowance)?;
                        }
                        tag => skip(&mut r, tag)?,
                    }
                }
                out.push(']');
            }
            Value::Map(bytes) => push_map(bytes, out, depth, allowance)?,
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
        decode(entry.value)?.push_json(out, depth + 1, allowance)?;
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
            if i <= group.len() {
                out.push(char::from(DIGITS[(bits >> (18 - 6 * i) & 63) as usize]))
            } else {
                out.push('=')
            }
        }
    }
}
