//! Parquet's hybrid of run lengths and bit-packed groups: levels, numbers of dictionary entries, booleans.
//!
//! Source: "RLE / Bit-Packing Hybrid" in Parquet's Encodings.md.

use lgtm_core::codec::Reader;
use lgtm_core::error::DecodeError;

use crate::schema::unpack::{unpack_indices, unpack_levels};

/// Something that runs and groups of small integers are appended to.
trait Target: Copy {
    fn of(value: u32) -> Self;
    fn unpack(width: u8, bytes: &[u8], out: &mut [Self]);
}

impl Target for u8 {
    fn of(value: u32) -> Self {
        value as Self
    }

    fn unpack(width: u8, bytes: &[u8], out: &mut [Self]) {
        unpack_levels(width, bytes, out);
    }
}

impl Target for u32 {
    fn of(value: u32) -> Self {
        value
    }

    fn unpack(width: u8, bytes: &[u8], out: &mut [Self]) {
        unpack_indices(width, bytes, out);
    }
}

/// Bits of levels up to `max`.
pub(crate) fn width_of(max: u8) -> u8 {
    (8 - max.leading_zeros()) as u8
}

/// Appends `count` levels of at most `max`, for which the caller has made sure that there is room in memory.
///
/// # Errors
/// When the bytes end before, or a level is above `max`.
pub(crate) fn decode_levels(
    bytes: &[u8],
    max: u8,
    count: usize,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let from = out.len();
    decode(Reader::new("page levels", bytes), width_of(max), count, out)?;
    match out[from..].iter().fold(0, |a, b| a.max(*b)) {
        highest if highest > max => Err(DecodeError::new(
            "page levels",
            0,
            format!("a level is {highest}, the column's are at most {max}"),
        )),
        _ => Ok(()),
    }
}

/// Appends `count` numbers of entries of a dictionary of `entries`: a byte with their width comes first.
///
/// # Errors
/// When the bytes end before, or there is no such entry.
pub(crate) fn decode_indices(
    bytes: &[u8],
    entries: usize,
    count: usize,
    out: &mut Vec<u32>,
) -> Result<(), DecodeError> {
    let mut r = Reader::new("dictionary indices", bytes);
    if count == 0 {
        return Ok(());
    }
    let width = r.u8()?;
    if width > 32 {
        return Err(r.error(format!("a width of {width} bits, at most 32 are possible")));
    }
    let from = out.len();
    decode(r, width, count, out)?;
    let highest = out[from..].iter().fold(0, |a, b| a.max(*b));
    if highest as usize >= entries {
        return Err(DecodeError::new(
            "dictionary indices",
            0,
            format!("entry {highest} of a dictionary of {entries}"),
        ));
    }
    Ok(())
}

fn decode<T: Target>(
    mut r: Reader<'_>,
    width: u8,
    count: usize,
    out: &mut Vec<T>,
) -> Result<(), DecodeError> {
    let mut left = count;
    while left > 0 {
        if width == 0 && r.is_empty() {
            // Levels of no bits need no bytes.
            out.resize(out.len() + left, T::of(0));
            return Ok(());
        }
        let header = r.uvarint()?;
        let length = header >> 1;
        if header & 1 == 0 {
            let mut value = [0; 4];
            let bytes = usize::from(width).div_ceil(8);
            value[..bytes].copy_from_slice(r.take(bytes)?);
            let length = length.min(left as u64) as usize;
            if length == 0 {
                return Err(r.error("a run of no values"));
            }
            out.resize(out.len() + length, T::of(u32::from_le_bytes(value)));
            left -= length;
        } else {
            // The last group may be cut where its values end.
            let length = length.saturating_mul(8).min(left as u64) as usize;
            if length == 0 {
                return Err(r.error("a group of no values"));
            }
            let whole = (header >> 1).saturating_mul(u64::from(width));
            let needed = (length * usize::from(width)).div_ceil(8);
            let available = whole.min(r.remaining() as u64) as usize;
            let bytes = r.take(available.max(needed))?;
            let from = out.len();
            out.resize(from + length, T::of(0));
            T::unpack(width, bytes, &mut out[from..]);
            left -= length;
        }
    }
    Ok(())
}
