//! Parquet's hybrid of run lengths and bit-packed groups: levels, numbers of dictionary entries, booleans.
//!
//! Source: "RLE / Bit-Packing Hybrid" in Parquet's Encodings.md.

use std::ops::Range;

use lgtm_core::codec::Reader;
use lgtm_core::error::DecodeError;

use crate::schema::unpack::{unpack_indices, unpack_levels};

/// Something that runs and groups of small integers are appended to.
trait Target: Copy {
    fn of(value: u32) -> Self;
    fn unpack(width: u8, bytes: &[u8], out: &mut [Self]);
    fn highest(values: &[Self]) -> u32;
}

impl Target for u8 {
    fn of(value: u32) -> Self {
        value as Self
    }

    fn unpack(width: u8, bytes: &[u8], out: &mut [Self]) {
        unpack_levels(width, bytes, out);
    }

    fn highest(values: &[Self]) -> u32 {
        values.iter().fold(0, |a, b| a.max(*b)).into()
    }
}

impl Target for u32 {
    fn of(value: u32) -> Self {
        value
    }

    fn unpack(width: u8, bytes: &[u8], out: &mut [Self]) {
        unpack_indices(width, bytes, out);
    }

    fn highest(values: &[Self]) -> u32 {
        values.iter().fold(0, |a, b| a.max(*b))
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
    let too_high = |highest: u32| {
        let reason = format!("a level is {highest}, the column's are at most {max}");
        DecodeError::new("page levels", 0, reason)
    };
    let width = width_of(max);
    let r = Reader::new("page levels", bytes);
    decode(r, width, 0..count, (max.into(), too_high), out)
}

/// Appends some numbers of entries of a dictionary of `entries`: a byte with their width comes first.
///
/// # Errors
/// When the bytes end before, or there is no such entry.
pub(crate) fn decode_indices(
    bytes: &[u8],
    entries: usize,
    wanted: Range<usize>,
    out: &mut Vec<u32>,
) -> Result<(), DecodeError> {
    let mut r = Reader::new("dictionary indices", bytes);
    if wanted.is_empty() {
        return Ok(());
    }
    let width = r.u8()?;
    if width > 32 {
        return Err(r.error(format!("a width of {width} bits, at most 32 are possible")));
    }
    let too_high = |highest: u32| {
        let reason = format!("entry {highest} of a dictionary of {entries}");
        DecodeError::new("dictionary indices", 0, reason)
    };
    let Some(last) = entries.checked_sub(1) else {
        return Err(too_high(0));
    };
    let last = u32::try_from(last).unwrap_or(u32::MAX);
    decode(r, width, wanted, (last, too_high), out)
}

/// Appends some values, none of which may be above the `highest`. Those before them are passed over.
fn decode<T: Target>(
    mut r: Reader<'_>,
    width: u8,
    wanted: Range<usize>,
    (highest, too_high): (u32, impl Fn(u32) -> DecodeError),
    out: &mut Vec<T>,
) -> Result<(), DecodeError> {
    // Groups whose bits hold no more need not be looked at. Runs do: theirs are whole bytes.
    let may_be_higher = u64::from(highest) + 1 < 1 << width;
    let (mut skip, mut left) = (wanted.start, wanted.end);
    while left > 0 {
        if width == 0 && r.is_empty() {
            // Levels of no bits need no bytes.
            out.resize(out.len() + left - skip, T::of(0));
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
            let value = u32::from_le_bytes(value);
            if value > highest {
                return Err(too_high(value));
            }
            let skipped = skip.min(length);
            out.resize(out.len() + length - skipped, T::of(value));
            skip -= skipped;
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
            // Whole groups are passed over by their bytes, what is left by the values.
            let skipped = skip.min(length);
            let groups = skipped / 8;
            let from = out.len();
            out.resize(from + length - groups * 8, T::of(0));
            T::unpack(
                width,
                &bytes[groups * usize::from(width)..],
                &mut out[from..],
            );
            out.drain(from..from + skipped % 8);
            skip -= skipped;
            if may_be_higher {
                let most = T::highest(&out[from..]);
                if most > highest {
                    return Err(too_high(most));
                }
            }
            left -= length;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_the_highest_is_refused_in_runs_and_groups() {
        let levels = |bytes: &[u8], max: u8| {
            let mut out = Vec::new();
            decode_levels(bytes, max, 8, &mut out).map(|()| out)
        };
        // Two bits each: 0 to 3, twice.
        let group = [3, 0b1110_0100, 0b1110_0100];
        assert_eq!(levels(&group, 3).unwrap(), [0, 1, 2, 3, 0, 1, 2, 3]);
        assert!(levels(&group, 2).is_err());
        // Runs have whole bytes, whatever their bits are.
        assert_eq!(levels(&[16, 3], 3).unwrap(), [3; 8]);
        assert!(levels(&[16, 4], 3).is_err());
        assert!(levels(&[16, 3], 2).is_err());
        let indices = |bytes: &[u8], entries: usize| {
            let mut out = Vec::new();
            decode_indices(bytes, entries, 0..8, &mut out).map(|()| out)
        };
        let of = |bytes: &[u8]| [&[2], bytes].concat();
        assert!(indices(&of(&group), 4).is_ok());
        assert!(indices(&of(&group), 3).is_err());
        assert!(indices(&of(&[16, 4]), 4).is_err());
        assert!(indices(&of(&[16, 0]), 0).is_err());
    }
}
