//! Walking a message field by field, and writing what several messages have.

use crate::codec::protobuf::{
    fixed64_tag, put_bytes_field, put_message, put_varint_field, skip, wire_type,
};
use crate::codec::{Reader, put_uvarint};
use crate::model::{TimestampMs, TimestampNs};
use crate::{DecodeError, Error, Result};

/// The value of a field.
#[derive(Debug, Clone, Copy)]
pub enum Field<'a> {
    /// A varint.
    Number(u64),
    /// Eight bytes.
    Double(f64),
    /// Bytes behind their length.
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    /// A varint.
    ///
    /// # Errors
    /// `InvalidInput` for a field of another type, as of all of these.
    pub fn number(self) -> Result<u64> {
        match self {
            Self::Number(n) => Ok(n),
            _ => Err(unexpected("a number")),
        }
    }

    /// A time in milliseconds.
    ///
    /// # Errors
    /// As [`Field::number`].
    pub fn time(self) -> Result<TimestampMs> {
        self.number().map(|n| TimestampMs::new(n as i64))
    }

    /// A time in nanoseconds.
    ///
    /// # Errors
    /// As [`Field::number`].
    pub fn time_ns(self) -> Result<TimestampNs> {
        self.number().map(|n| TimestampNs::new(n as i64))
    }

    /// Whether a number is not 0.
    ///
    /// # Errors
    /// As [`Field::number`].
    pub fn flag(self) -> Result<bool> {
        self.number().map(|n| n != 0)
    }

    /// A double.
    ///
    /// # Errors
    /// As [`Field::number`].
    pub fn double(self) -> Result<f64> {
        match self {
            Self::Double(x) => Ok(x),
            _ => Err(unexpected("a double")),
        }
    }

    /// Bytes, or a message.
    ///
    /// # Errors
    /// As [`Field::number`].
    pub fn bytes(self) -> Result<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(unexpected("bytes")),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// As [`Field::number`]; for bytes that are no UTF-8.
    pub fn text(self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| unexpected("a text"))
    }

    /// A text of its own.
    ///
    /// # Errors
    /// As [`Field::text`].
    pub fn string(self) -> Result<String> {
        self.text().map(str::to_owned)
    }
}

fn unexpected(wanted: &str) -> Error {
    Error::InvalidInput(format!("a field of a message is not {wanted}"))
}

/// A message that is none.
pub fn broken(e: DecodeError) -> Error {
    Error::InvalidInput(format!("the message does not decode: {e}"))
}

/// Hands the fields of a message to `take`, by number; those that have no such type are skipped.
///
/// # Errors
/// `InvalidInput` for bytes that are no message; those of `take`.
pub fn walk<'a>(
    what: &'static str,
    message: &'a [u8],
    mut take: impl FnMut(u64, Field<'a>) -> Result<()>,
) -> Result<()> {
    let mut r = Reader::new(what, message);
    while let Some((number, field)) = next_field(&mut r).map_err(broken)? {
        take(number, field)?;
    }
    Ok(())
}

fn next_field<'a>(r: &mut Reader<'a>) -> Result<Option<(u64, Field<'a>)>, DecodeError> {
    while !r.is_empty() {
        let tag = r.uvarint()?;
        let field = match tag & 7 {
            wire_type::VARINT => Field::Number(r.uvarint()?),
            wire_type::FIXED64 => Field::Double(f64::from_bits(r.u64_le()?)),
            wire_type::BYTES => Field::Bytes(r.bytes()?),
            _ => {
                skip(r, tag)?;
                continue;
            }
        };
        return Ok(Some((tag >> 3, field)));
    }
    Ok(None)
}

/// A text field.
pub fn put_text(out: &mut Vec<u8>, number: u64, text: &str) {
    put_bytes_field(out, number, text.as_bytes());
}

/// A time in milliseconds, as a field.
pub fn put_time(out: &mut Vec<u8>, number: u64, time: TimestampMs) {
    put_varint_field(out, number, time.get() as u64);
}

/// A time in nanoseconds, as a field.
pub fn put_time_ns(out: &mut Vec<u8>, number: u64, time: TimestampNs) {
    put_varint_field(out, number, time.get() as u64);
}

/// A double field.
pub fn put_double(out: &mut Vec<u8>, number: u64, value: f64) {
    put_uvarint(out, fixed64_tag(number));
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

/// Texts with counts, each `{ text = 1, count = 2 }`.
pub fn put_counts<'a>(
    out: &mut Vec<u8>,
    number: u64,
    counts: impl IntoIterator<Item = (&'a str, u64)>,
) {
    for (text, count) in counts {
        put_message(out, number, |out| {
            put_text(out, 1, text);
            put_varint_field(out, 2, count);
        });
    }
}

/// One of the texts that [`put_counts`] writes.
///
/// # Errors
/// `InvalidInput` for bytes that are none.
pub fn count(field: Field<'_>) -> Result<(String, u64)> {
    let mut out = (String::new(), 0);
    walk("count", field.bytes()?, |number, field| {
        match number {
            1 => out.0 = field.string()?,
            2 => out.1 = field.number()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}
