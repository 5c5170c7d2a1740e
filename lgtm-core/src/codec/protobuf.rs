//! Protobuf's wire format, walked in place.

use crate::codec::codec::{Reader, put_bytes, put_uvarint};
use crate::error::DecodeError;

/// How a field's value is laid out.
pub mod wire_type {
    /// `int32`, `uint64`, `bool`, an enum and the like.
    pub const VARINT: u64 = 0;
    /// Eight bytes, little endian.
    pub const FIXED64: u64 = 1;
    /// A length and as many bytes: text, a message, packed numbers.
    pub const BYTES: u64 = 2;
    /// Four bytes, little endian.
    pub const FIXED32: u64 = 5;
}

/// The tag of a length-delimited field.
pub const fn bytes_tag(field: u64) -> u64 {
    field << 3 | wire_type::BYTES
}

/// The tag of a varint field.
pub const fn varint_tag(field: u64) -> u64 {
    field << 3 | wire_type::VARINT
}

/// The tag of a field of eight bytes.
pub const fn fixed64_tag(field: u64) -> u64 {
    field << 3 | wire_type::FIXED64
}

/// Skips the value of a field that is not known.
///
/// # Errors
/// For a value that is cut off, the field number 0, and groups, which could nest without bound and no sender uses.
#[inline]
pub fn skip(r: &mut Reader<'_>, tag: u64) -> Result<(), DecodeError> {
    if tag >> 3 == 0 {
        return Err(r.error("field number 0"));
    }
    match tag & 7 {
        wire_type::VARINT => r.uvarint().map(drop),
        wire_type::FIXED64 => r.take(8).map(drop),
        wire_type::BYTES => r.bytes().map(drop),
        wire_type::FIXED32 => r.take(4).map(drop),
        other => Err(r.error(format!("field {} has wire type {other}", tag >> 3))),
    }
}

/// A double.
///
/// # Errors
/// When fewer than eight bytes are left.
#[inline]
pub fn double(r: &mut Reader<'_>) -> Result<f64, DecodeError> {
    Ok(f64::from_bits(r.u64_le()?))
}

/// Appends a length-delimited field.
#[inline]
pub fn put_bytes_field(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_uvarint(out, bytes_tag(field));
    put_bytes(out, bytes);
}

/// Appends a varint field.
#[inline]
pub fn put_varint_field(out: &mut Vec<u8>, field: u64, value: u64) {
    put_uvarint(out, varint_tag(field));
    put_uvarint(out, value);
}

/// Appends a message that `body` writes. Its length is known only then: one byte is kept free for it, and a body of 128 bytes and more
/// moves once.
#[inline]
pub fn put_message(out: &mut Vec<u8>, field: u64, body: impl FnOnce(&mut Vec<u8>)) {
    put_uvarint(out, bytes_tag(field));
    let at = out.len();
    out.push(0);
    body(out);
    let len = out.len() - at - 1;
    if len < 0x80 {
        out[at] = len as u8;
    } else {
        let mut prefix = [0; 10];
        let mut size = 0;
        let mut left = len;
        while left >= 0x80 {
            prefix[size] = left as u8 | 0x80;
            left >>= 7;
            size += 1;
        }
        prefix[size] = left as u8;
        out.splice(at..=at, prefix[..=size].iter().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_as_its_bytes_whatever_its_length() {
        for len in [0, 1, 127, 128, 16_383, 16_384, 70_000] {
            let body = vec![7; len];
            let (mut built, mut plain) = (vec![9], vec![9]);
            put_message(&mut built, 3, |out| out.extend_from_slice(&body));
            put_bytes_field(&mut plain, 3, &body);
            assert!(built == plain, "{len}");
        }
    }

    #[test]
    fn unknown_fields_are_skipped_and_what_is_none_is_refused() {
        let mut out = Vec::new();
        put_varint_field(&mut out, 1, 300);
        put_bytes_field(&mut out, 2, b"abc");
        put_uvarint(&mut out, fixed64_tag(3));
        out.extend_from_slice(&1.5f64.to_bits().to_le_bytes());
        put_uvarint(&mut out, 4 << 3 | wire_type::FIXED32);
        out.extend_from_slice(&[0; 4]);
        let mut r = Reader::new("test", &out);
        for _ in 0..4 {
            let tag = r.uvarint().unwrap();
            skip(&mut r, tag).unwrap();
        }
        assert!(r.is_empty());
        // Wire types 3, 4, 6 and 7, and the field number 0.
        for tag in [11, 12, 14, 15, 0, 2] {
            let mut r = Reader::new("test", &[0; 16]);
            assert!(skip(&mut r, tag).is_err(), "{tag}");
        }
    }
}
