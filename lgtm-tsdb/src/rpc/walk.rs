//! Walking a message field by field, and writing what several messages have.

use lgtm_core::codec::protobuf::{
    fixed64_tag, put_bytes_field, put_message, put_varint_field, skip, wire_type,
};
use lgtm_core::codec::{Reader, put_uvarint};
use lgtm_core::model::{Exemplar, Labels, TimeRange, TimestampMs};
use lgtm_core::{DecodeError, Error, Result};

use crate::wire::{RawLabels, RawLabelsBuilder};

/// The value of a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field<'a> {
    Number(u64),
    Double(f64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    pub(super) fn number(self) -> Result<u64> {
        match self {
            Self::Number(n) => Ok(n),
            _ => Err(unexpected("a number")),
        }
    }

    pub(super) fn time(self) -> Result<TimestampMs> {
        self.number().map(|n| TimestampMs::new(n as i64))
    }

    pub(super) fn flag(self) -> Result<bool> {
        self.number().map(|n| n != 0)
    }

    pub(super) fn double(self) -> Result<f64> {
        match self {
            Self::Double(x) => Ok(x),
            _ => Err(unexpected("a double")),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(unexpected("bytes")),
        }
    }

    pub(super) fn text(self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| unexpected("a text"))
    }

    pub(super) fn string(self) -> Result<String> {
        self.text().map(str::to_owned)
    }

    pub(super) fn labels(self) -> Result<Labels> {
        let mut pairs = Vec::new();
        for pair in RawLabels::new(self.bytes()?).iter() {
            pairs.push(pair.map_err(broken)?);
        }
        Labels::from_sorted(pairs)
    }
}

fn unexpected(wanted: &str) -> Error {
    Error::InvalidInput(format!("a field of a message is not {wanted}"))
}

/// A message that is none.
pub(super) fn broken(e: DecodeError) -> Error {
    Error::InvalidInput(format!("the message does not decode: {e}"))
}

/// Hands the fields of a message to `take`, by number; those that have no such type are skipped.
///
/// # Errors
/// `InvalidInput` for bytes that are no message; those of `take`.
pub(super) fn walk<'a>(
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

pub(super) fn put_text(out: &mut Vec<u8>, number: u64, text: &str) {
    put_bytes_field(out, number, text.as_bytes());
}

pub(super) fn put_time(out: &mut Vec<u8>, number: u64, time: TimestampMs) {
    put_varint_field(out, number, time.get() as u64);
}

pub(super) fn put_double(out: &mut Vec<u8>, number: u64, value: f64) {
    put_uvarint(out, fixed64_tag(number));
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

/// A label set in the spelling of remote write.
pub(super) fn put_labels(out: &mut Vec<u8>, number: u64, labels: &Labels) {
    put_message(out, number, |out| {
        RawLabelsBuilder::encode(labels.iter(), out)
    });
}

/// Both ends, in two fields.
pub(super) fn put_range(out: &mut Vec<u8>, number: u64, range: TimeRange) {
    put_time(out, number, range.min_ms);
    put_time(out, number + 1, range.max_ms);
}

/// `{ labels = 1, value = 2, time = 3 }`.
pub(super) fn put_exemplar(out: &mut Vec<u8>, number: u64, e: &Exemplar) {
    put_message(out, number, |out| {
        put_labels(out, 1, &e.labels);
        put_double(out, 2, e.value);
        put_time(out, 3, e.t_ms);
    });
}

pub(super) fn exemplar(message: &[u8]) -> Result<Exemplar> {
    let mut out = Exemplar {
        labels: Labels::empty(),
        value: 0.0,
        t_ms: TimestampMs::EPOCH,
    };
    walk("exemplar", message, |number, field| {
        match number {
            1 => out.labels = field.labels()?,
            2 => out.value = field.double()?,
            3 => out.t_ms = field.time()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

/// Texts with counts, each `{ text = 1, count = 2 }`.
pub(super) fn put_counts<'a>(
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

pub(super) fn count(field: Field<'_>) -> Result<(String, u64)> {
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
