//! Attributes and their values, borrowed.

use lgtm_core::codec::Reader;
use lgtm_core::codec::protobuf::{bytes_tag, double, fixed64_tag, skip, varint_tag};
use lgtm_core::error::DecodeError;

/// One attribute of a resource, scope, span, event or link. Keys may occur twice; the order is the sender's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attribute<'a> {
    /// Its key; empty when the sender gives none.
    pub key: &'a [u8],
    /// Its value.
    pub value: Value<'a>,
}

/// A value of any shape, as OTLP's `AnyValue` has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// None is set.
    Empty,
    /// Text, which is UTF-8 only where nobody cut it.
    Text(&'a [u8]),
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Double(f64),
    /// An `ArrayValue`, as its bytes; [`Values`] walks it.
    List(&'a [u8]),
    /// A `KeyValueList`, as its bytes; [`Attribute::in_map`] walks it.
    Map(&'a [u8]),
    /// Bytes.
    Bytes(&'a [u8]),
}

impl<'a> Attribute<'a> {
    /// Reads a `KeyValue`.
    ///
    /// # Errors
    /// For bytes that are none.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("attribute", bytes);
        let mut out = Self {
            key: &[],
            value: Value::Empty,
        };
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => out.key = r.bytes()?,
                tag if tag == bytes_tag(2) => out.value = Value::decode(r.bytes()?)?,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(out)
    }

    /// The entries of a [`Value::Map`], in order.
    pub fn in_map(map: &'a [u8]) -> impl Iterator<Item = Result<Self, DecodeError>> + use<'a> {
        lgtm_core::otlp::submessages("map", map, 1).map(|entry| Self::decode(entry?))
    }
}

impl<'a> Value<'a> {
    /// Reads an `AnyValue`. Of several alternatives the last counts, as in protobuf.
    ///
    /// # Errors
    /// For bytes that are none.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("attribute value", bytes);
        let mut out = Value::Empty;
        while !r.is_empty() {
            out = match r.uvarint()? {
                tag if tag == bytes_tag(1) => Value::Text(r.bytes()?),
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

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&'a [u8]> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The elements of a [`Value::List`], in order. An error is the last item.
#[derive(Debug, Clone)]
pub struct Values<'a> {
    rest: Reader<'a>,
    failed: bool,
}

impl<'a> Values<'a> {
    /// Walks an `ArrayValue`.
    pub fn new(list: &'a [u8]) -> Self {
        Self {
            rest: Reader::new("list", list),
            failed: false,
        }
    }

    fn step(&mut self) -> Result<Option<Value<'a>>, DecodeError> {
        while !self.rest.is_empty() {
            match self.rest.uvarint()? {
                tag if tag == bytes_tag(1) => return Value::decode(self.rest.bytes()?).map(Some),
                tag => skip(&mut self.rest, tag)?,
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Result<Value<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.step().transpose();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}
