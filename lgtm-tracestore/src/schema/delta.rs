//! `DELTA_BINARY_PACKED`: differences in blocks, each with its least difference and miniblocks of its own widths.
//!
//! Source: "Delta Encoding" in Parquet's Encodings.md.

use lgtm_core::codec::Reader;
use lgtm_core::error::DecodeError;

use crate::schema::unpack::unpack_deltas;

/// Most values of a miniblock: as many are unpacked at a time. Writers have 32 or 64.
const MAX_MINIBLOCK: usize = 1024;

/// Integers that a page's values are.
pub(crate) trait DeltaInt: Copy {
    /// The low bits.
    fn of(value: u64) -> Self;
}

impl DeltaInt for i64 {
    fn of(value: u64) -> Self {
        value as Self
    }
}

impl DeltaInt for i32 {
    fn of(value: u64) -> Self {
        value as Self
    }
}

impl DeltaInt for u32 {
    fn of(value: u64) -> Self {
        value as Self
    }
}

/// Appends the first `wanted` of `count` values, for which the caller has made sure that there is room in memory. What comes behind them is left.
///
/// # Errors
/// When there are not as many, or the bytes end before.
pub(crate) fn decode_deltas<T: DeltaInt>(
    r: &mut Reader<'_>,
    count: usize,
    wanted: usize,
    out: &mut Vec<T>,
) -> Result<(), DecodeError> {
    let block = r.uvarint()?;
    let miniblocks = r.uvarint()?;
    let total = r.uvarint()?;
    let first = r.svarint()?;
    if total != count as u64 {
        return Err(r.error(format!("{total} values, {count} are expected")));
    }
    if miniblocks == 0 || block % miniblocks != 0 || block / miniblocks % 8 != 0 {
        return Err(r.error(format!(
            "blocks of {block} values in {miniblocks} miniblocks"
        )));
    }
    let size = block / miniblocks;
    if size == 0 || size > MAX_MINIBLOCK as u64 {
        return Err(r.error(format!(
            "miniblocks of {size} values, at most {MAX_MINIBLOCK}"
        )));
    }
    let size = size as usize;
    if wanted.min(count) == 0 {
        return Ok(());
    }
    let mut last = first as u64;
    out.push(T::of(last));
    let mut left = wanted.min(count) - 1;
    let mut unpacked = [0u64; MAX_MINIBLOCK];
    while left > 0 {
        let least = r.svarint()? as u64;
        let widths = r.take(usize::try_from(miniblocks).unwrap_or(usize::MAX))?;
        for &width in widths {
            if left == 0 {
                break;
            }
            if width > 64 {
                return Err(r.error(format!("a width of {width} bits, at most 64 are possible")));
            }
            let n = left.min(size);
            let whole = size / 8 * usize::from(width);
            let needed = (n * usize::from(width)).div_ceil(8);
            // Some writers cut the last miniblock where its values end.
            let bytes = r.take(whole.min(r.remaining()).max(needed))?;
            let unpacked = &mut unpacked[..n];
            unpack_deltas(width, bytes, unpacked);
            out.extend(unpacked.iter().map(|difference| {
                last = last.wrapping_add(difference.wrapping_add(least));
                T::of(last)
            }));
            left -= n;
        }
    }
    Ok(())
}
