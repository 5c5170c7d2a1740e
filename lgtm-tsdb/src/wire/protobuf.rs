//! Protobuf's wire format, walked in place.

use lgtm_core::DecodeError;
use lgtm_core::codec::Reader;

/// How a field's value is laid out.
pub(super) mod wire_type {
    pub(in super::super) const VARINT: u64 = 0;
    pub(in super::super) const FIXED64: u64 = 1;
    pub(in super::super) const BYTES: u64 = 2;
    pub(in super::super) const FIXED32: u64 = 5;
}

/// The tag of a length-delimited field.
pub(super) const fn bytes_tag(field: u64) -> u64 {
    field << 3 | wire_type::BYTES
}

/// The tag of a varint field.
pub(super) const fn varint_tag(field: u64) -> u64 {
    field << 3 | wire_type::VARINT
}

/// The tag of a field of eight bytes.
pub(super) const fn fixed64_tag(field: u64) -> u64 {
    field << 3 | wire_type::FIXED64
}

/// Skips the value of a field that is not known. Groups, which could nest without bound and no sender uses, are refused.
pub(super) fn skip(r: &mut Reader<'_>, tag: u64) -> Result<(), DecodeError> {
    match tag & 7 {
        wire_type::VARINT => r.uvarint().map(drop),
        wire_type::FIXED64 => r.take(8).map(drop),
        wire_type::BYTES => r.bytes().map(drop),
        wire_type::FIXED32 => r.take(4).map(drop),
        other => Err(r.error(format!("field {} has wire type {other}", tag >> 3))),
    }
}

/// A double.
pub(super) fn double(r: &mut Reader<'_>) -> Result<f64, DecodeError> {
    Ok(f64::from_bits(r.u64_le()?))
}
