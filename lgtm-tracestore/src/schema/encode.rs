//! Values and levels as pages have them: the opposite of `hybrid` and `delta`.
//!
//! Sources: "RLE / Bit-Packing Hybrid" and "Delta Encoding" in Parquet's Encodings.md.

use lgtm_core::codec::{put_svarint, put_uvarint};

/// Values that are worth a run of their own.
const RUN: usize = 8;
/// Values of a block of differences, and of each of its parts.
const BLOCK: usize = 128;
const MINIBLOCK: usize = 32;

/// Numbers that are packed eight at a time.
pub(crate) trait Packed: Copy + PartialEq + Into<u32> {
    /// Appends numbers of `width` bits from the least significant bit of each byte on, the last eight filled up with zeros.
    fn put_eights(values: &[Self], width: u8, out: &mut Vec<u8>);
}

/// Levels and other numbers of at most eight bits, as bytes: eight of them are brought together in a register.
impl Packed for u8 {
    fn put_eights(values: &[Self], width: u8, out: &mut Vec<u8>) {
        const BYTES: u64 = 0x00ff_00ff_00ff_00ff;
        const PAIRS: u64 = 0x0000_ffff_0000_ffff;
        const FOURS: u64 = 0xffff_ffff;
        let bits = u32::from(width.min(8));
        let mut put = |eight: [u8; 8]| {
            let all = u64::from_le_bytes(eight);
            let pairs = all & BYTES | (all >> 8 & BYTES) << bits;
            let fours = pairs & PAIRS | (pairs >> 16 & PAIRS) << (2 * bits);
            let packed = fours & FOURS | (fours >> 32) << (4 * bits);
            out.extend_from_slice(&packed.to_le_bytes()[..bits as usize]);
        };
        let (eights, rest) = values.as_chunks();
        eights.iter().for_each(|eight| put(*eight));
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            put(last);
        }
    }
}

impl Packed for u32 {
    fn put_eights(values: &[Self], width: u8, out: &mut Vec<u8>) {
        let width = u32::from(width);
        let (mut waiting, mut bits) = (0u64, 0u32);
        for value in values {
            waiting |= u64::from(*value) << bits;
            bits += width;
            if bits >= 32 {
                out.extend_from_slice(&(waiting as u32).to_le_bytes());
                waiting >>= 32;
                bits -= 32;
            }
        }
        // Eight numbers end with a byte.
        let padding = values.len().next_multiple_of(8) - values.len();
        let end = out.len() + (bits + padding as u32 * width).div_ceil(8) as usize;
        out.extend_from_slice(&waiting.to_le_bytes());
        out.resize(end, 0);
    }
}

/// Appends numbers of at most `width` bits as runs and packed groups of eight.
pub(crate) fn put_hybrid<T: Packed>(values: &[T], width: u8, out: &mut Vec<u8>) {
    let (mut packed, mut at) = (0, 0);
    while at < values.len() {
        let value = values[at];
        let same = values[at..].iter().take_while(|v| **v == value).count();
        // A group that has begun is filled up first.
        let missing = (at - packed).next_multiple_of(RUN) - (at - packed);
        if same < RUN + missing {
            at += same;
            continue;
        }
        put_groups(&values[packed..at + missing], width, out);
        let run = same - missing;
        put_uvarint(out, (run as u64) << 1);
        let bytes = value.into().to_le_bytes();
        out.extend_from_slice(&bytes[..usize::from(width).div_ceil(8)]);
        at += same;
        packed = at;
    }
    put_groups(&values[packed..], width, out);
}

/// Appends packed groups; the last one is filled up with zeros.
fn put_groups<T: Packed>(values: &[T], width: u8, out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    let groups = values.len().div_ceil(8);
    put_uvarint(out, (groups as u64) << 1 | 1);
    out.reserve(groups * usize::from(width));
    T::put_eights(values, width, out);
}

/// Appends integers of `width` bits from the least significant bit of each byte on; what is left of the last byte is zero.
fn put_packed(values: impl Iterator<Item = u64>, width: u8, out: &mut Vec<u8>) {
    let width = u32::from(width);
    let (mut waiting, mut bits) = (0u128, 0u32);
    for value in values {
        waiting |= u128::from(value) << bits;
        bits += width;
        if bits >= 64 {
            out.extend_from_slice(&(waiting as u64).to_le_bytes());
            waiting >>= 64;
            bits -= 64;
        }
    }
    let rest = waiting.to_le_bytes();
    out.extend_from_slice(&rest[..bits.div_ceil(8) as usize]);
}

/// Integers of a column of differences.
pub(crate) trait Delta: Copy + Into<i64> {
    /// The difference to another, as wide as the type is.
    fn minus(self, other: Self) -> i64;
    /// Bits that differences can have above the least one.
    const MASK: u64;
}

impl Delta for i64 {
    fn minus(self, other: Self) -> i64 {
        self.wrapping_sub(other)
    }
    const MASK: u64 = u64::MAX;
}

impl Delta for i32 {
    fn minus(self, other: Self) -> i64 {
        self.wrapping_sub(other).into()
    }
    const MASK: u64 = u32::MAX as u64;
}

/// Appends integers as differences (`DELTA_BINARY_PACKED`).
pub(crate) fn put_deltas<T: Delta>(values: &[T], out: &mut Vec<u8>) {
    put_uvarint(out, BLOCK as u64);
    put_uvarint(out, (BLOCK / MINIBLOCK) as u64);
    put_uvarint(out, values.len() as u64);
    put_svarint(out, values.first().map_or(0, |v| (*v).into()));
    let mut deltas = [0i64; BLOCK];
    let mut before = values.first().copied();
    for block in values.get(1..).unwrap_or_default().chunks(BLOCK) {
        for (delta, value) in deltas.iter_mut().zip(block) {
            *delta = before.map_or(0, |before| value.minus(before));
            before = Some(*value);
        }
        let deltas = &deltas[..block.len()];
        let least = deltas.iter().copied().min().unwrap_or(0);
        put_svarint(out, least);
        let above = |delta: &i64| delta.wrapping_sub(least) as u64 & T::MASK;
        let widths = out.len();
        out.extend_from_slice(&[0; BLOCK / MINIBLOCK]);
        for (n, part) in deltas.chunks(MINIBLOCK).enumerate() {
            let all = part.iter().map(above).fold(0, |a, b| a | b);
            let width = (64 - all.leading_zeros()) as u8;
            out[widths + n] = width;
            let padding = MINIBLOCK - part.len();
            let padded = part
                .iter()
                .map(above)
                .chain(std::iter::repeat_n(0, padding));
            put_packed(padded, width, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::delta::decode_deltas;
    use crate::schema::hybrid::{decode_indices, decode_levels, width_of};
    use lgtm_core::codec::Reader;
    use proptest::prelude::*;

    fn runs() -> impl Strategy<Value = Vec<u8>> {
        let run = (0u8..6, 1usize..30).prop_map(|(value, len)| vec![value; len]);
        prop::collection::vec(run, 0..20).prop_map(|runs| runs.concat())
    }

    /// Runs and others.
    fn numbers() -> impl Strategy<Value = Vec<u32>> {
        let run = (0u32..70_000, prop_oneof![1usize..2, 1usize..30]);
        let run = run.prop_map(|(value, len)| vec![value; len]);
        prop::collection::vec(run, 0..60).prop_map(|runs| runs.concat())
    }

    proptest! {
        #[test]
        fn levels_and_indices_come_back(levels in runs(), numbers in numbers(), part in any::<(prop::sample::Index, prop::sample::Index)>()) {
            let mut bytes = Vec::new();
            put_hybrid(&levels, width_of(5), &mut bytes);
            let mut again = Vec::new();
            decode_levels(&bytes, 5, levels.len(), &mut again).unwrap();
            prop_assert_eq!(again, levels);
            let mut bytes = vec![17];
            put_hybrid(&numbers, 17, &mut bytes);
            let mut again = Vec::new();
            decode_indices(&bytes, 70_000, 0..numbers.len(), &mut again).unwrap();
            prop_assert_eq!(&again, &numbers);
            let ends = [part.0.index(numbers.len() + 1), part.1.index(numbers.len() + 1)];
            let part = ends[0].min(ends[1])..ends[0].max(ends[1]);
            again.truncate(2);
            decode_indices(&bytes, 70_000, part.clone(), &mut again).unwrap();
            prop_assert_eq!(&again[numbers.len().min(2)..], &numbers[part]);
        }

        #[test]
        fn bytes_are_packed_as_wider_numbers_are(values in prop::collection::vec(any::<u8>(), 0..100), width in 1u8..=8) {
            let values: Vec<u8> = values.iter().map(|v| v >> (8 - width)).collect();
            let wide: Vec<u32> = values.iter().map(|v| u32::from(*v)).collect();
            let (mut of_bytes, mut of_wide) = (vec![7], vec![7]);
            put_hybrid(&values, width, &mut of_bytes);
            put_hybrid(&wide, width, &mut of_wide);
            prop_assert_eq!(of_bytes, of_wide);
        }

        #[test]
        fn differences_come_back(steps in prop::collection::vec(prop_oneof![Just(0i64), -9i64..9, any::<i64>()], 0..400), part in any::<prop::sample::Index>()) {
            let mut last = 0i64;
            let wide: Vec<i64> = steps.iter().map(|step| { last = last.wrapping_add(*step); last }).collect();
            let mut bytes = Vec::new();
            put_deltas(&wide, &mut bytes);
            let mut again: Vec<i64> = Vec::new();
            decode_deltas(&mut Reader::new("test", &bytes), wide.len(), wide.len(), &mut again).unwrap();
            prop_assert_eq!(&again, &wide);
            let wanted = part.index(wide.len() + 1);
            again.clear();
            decode_deltas(&mut Reader::new("test", &bytes), wide.len(), wanted, &mut again).unwrap();
            prop_assert_eq!(&again, &wide[..wanted]);
            let narrow: Vec<i32> = wide.iter().map(|v| *v as i32).collect();
            let mut bytes = Vec::new();
            put_deltas(&narrow, &mut bytes);
            let mut again: Vec<i32> = Vec::new();
            decode_deltas(&mut Reader::new("test", &bytes), narrow.len(), narrow.len(), &mut again).unwrap();
            prop_assert_eq!(again, narrow);
        }
    }
}
