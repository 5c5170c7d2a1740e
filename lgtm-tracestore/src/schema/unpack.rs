//! Integers of a fixed number of bits, packed from the least significant bit of each byte on, eight at a time.
//!
//! One function for each width, so that shifts and offsets are constants; eight values of `W` bits are `W` bytes.

/// Fills a slice with values out of packed bytes.
type Unpack<T> = fn(&[u8], &mut [T]);

/// Unpacks as many values of `width` bits as `out` holds. `bytes` has at least `out.len() * width` bits, rounded up to bytes.
pub(crate) fn unpack_levels(width: u8, bytes: &[u8], out: &mut [u8]) {
    const BY_WIDTH: [Unpack<u8>; 9] = [
        unpack_u8::<0>,
        unpack_u8::<1>,
        unpack_u8::<2>,
        unpack_u8::<3>,
        unpack_u8::<4>,
        unpack_u8::<5>,
        unpack_u8::<6>,
        unpack_u8::<7>,
        unpack_u8::<8>,
    ];
    BY_WIDTH[usize::from(width.min(8))](bytes, out);
}

/// As [`unpack_levels`], up to 32 bits.
pub(crate) fn unpack_indices(width: u8, bytes: &[u8], out: &mut [u32]) {
    const BY_WIDTH: [Unpack<u32>; 33] = [
        unpack_u32::<0>,
        unpack_u32::<1>,
        unpack_u32::<2>,
        unpack_u32::<3>,
        unpack_u32::<4>,
        unpack_u32::<5>,
        unpack_u32::<6>,
        unpack_u32::<7>,
        unpack_u32::<8>,
        unpack_u32::<9>,
        unpack_u32::<10>,
        unpack_u32::<11>,
        unpack_u32::<12>,
        unpack_u32::<13>,
        unpack_u32::<14>,
        unpack_u32::<15>,
        unpack_u32::<16>,
        unpack_u32::<17>,
        unpack_u32::<18>,
        unpack_u32::<19>,
        unpack_u32::<20>,
        unpack_u32::<21>,
        unpack_u32::<22>,
        unpack_u32::<23>,
        unpack_u32::<24>,
        unpack_u32::<25>,
        unpack_u32::<26>,
        unpack_u32::<27>,
        unpack_u32::<28>,
        unpack_u32::<29>,
        unpack_u32::<30>,
        unpack_u32::<31>,
        unpack_u32::<32>,
    ];
    BY_WIDTH[usize::from(width.min(32))](bytes, out);
}

/// As [`unpack_levels`], up to 64 bits.
pub(crate) fn unpack_deltas(width: u8, bytes: &[u8], out: &mut [u64]) {
    const BY_WIDTH: [Unpack<u64>; 65] = [
        unpack_u64::<0>,
        unpack_u64::<1>,
        unpack_u64::<2>,
        unpack_u64::<3>,
        unpack_u64::<4>,
        unpack_u64::<5>,
        unpack_u64::<6>,
        unpack_u64::<7>,
        unpack_u64::<8>,
        unpack_u64::<9>,
        unpack_u64::<10>,
        unpack_u64::<11>,
        unpack_u64::<12>,
        unpack_u64::<13>,
        unpack_u64::<14>,
        unpack_u64::<15>,
        unpack_u64::<16>,
        unpack_u64::<17>,
        unpack_u64::<18>,
        unpack_u64::<19>,
        unpack_u64::<20>,
        unpack_u64::<21>,
        unpack_u64::<22>,
        unpack_u64::<23>,
        unpack_u64::<24>,
        unpack_u64::<25>,
        unpack_u64::<26>,
        unpack_u64::<27>,
        unpack_u64::<28>,
        unpack_u64::<29>,
        unpack_u64::<30>,
        unpack_u64::<31>,
        unpack_u64::<32>,
        unpack_u64::<33>,
        unpack_u64::<34>,
        unpack_u64::<35>,
        unpack_u64::<36>,
        unpack_u64::<37>,
        unpack_u64::<38>,
        unpack_u64::<39>,
        unpack_u64::<40>,
        unpack_u64::<41>,
        unpack_u64::<42>,
        unpack_u64::<43>,
        unpack_u64::<44>,
        unpack_u64::<45>,
        unpack_u64::<46>,
        unpack_u64::<47>,
        unpack_u64::<48>,
        unpack_u64::<49>,
        unpack_u64::<50>,
        unpack_u64::<51>,
        unpack_u64::<52>,
        unpack_u64::<53>,
        unpack_u64::<54>,
        unpack_u64::<55>,
        unpack_u64::<56>,
        unpack_u64::<57>,
        unpack_u64::<58>,
        unpack_u64::<59>,
        unpack_u64::<60>,
        unpack_u64::<61>,
        unpack_u64::<62>,
        unpack_u64::<63>,
        unpack_u64::<64>,
    ];
    BY_WIDTH[usize::from(width.min(64))](bytes, out);
}

/// The `n`th group of eight values, with zeros behind it where the bytes end.
#[inline]
fn group<const PADDED: usize>(bytes: &[u8], at: usize) -> [u8; PADDED] {
    let mut out = [0; PADDED];
    let rest = bytes.get(at..).unwrap_or_default();
    let len = rest.len().min(PADDED);
    out[..len].copy_from_slice(&rest[..len]);
    out
}

#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

fn unpack_u8<const W: usize>(bytes: &[u8], out: &mut [u8]) {
    if W == 0 {
        return out.fill(0);
    }
    let mask = ((1u16 << W) - 1) as u8;
    let (groups, rest) = out.as_chunks_mut::<8>();
    let mut at = 0;
    for out in groups {
        let word = match bytes.get(at..at + 8) {
            Some(whole) => word(whole, 0),
            None => word(&group::<8>(bytes, at), 0),
        };
        for (i, out) in out.iter_mut().enumerate() {
            *out = (word >> (i * W)) as u8 & mask;
        }
        at += W;
    }
    if !rest.is_empty() {
        let word = word(&group::<8>(bytes, at), 0);
        for (i, out) in rest.iter_mut().enumerate() {
            *out = (word >> (i * W)) as u8 & mask;
        }
    }
}

#[inline]
fn eight_u32<const W: usize>(bytes: &[u8], out: &mut [u32]) {
    let mask = ((1u64 << W) - 1) as u32;
    for (i, out) in out.iter_mut().enumerate() {
        let bit = i * W;
        *out = (word(bytes, bit / 8) >> (bit % 8)) as u32 & mask;
    }
}

fn unpack_u32<const W: usize>(bytes: &[u8], out: &mut [u32]) {
    if W == 0 {
        return out.fill(0);
    }
    let (groups, rest) = out.as_chunks_mut::<8>();
    let mut at = 0;
    for out in groups {
        match bytes.get(at..at + W + 8) {
            Some(whole) => eight_u32::<W>(whole, out),
            None => eight_u32::<W>(&group::<40>(bytes, at), out),
        }
        at += W;
    }
    if !rest.is_empty() {
        eight_u32::<W>(&group::<40>(bytes, at), rest);
    }
}

#[inline]
fn eight_u64<const W: usize>(bytes: &[u8], out: &mut [u64]) {
    let mask = if W == 64 {
        u64::MAX
    } else {
        (1u64 << (W % 64)) - 1
    };
    for (i, out) in out.iter_mut().enumerate() {
        let bit = i * W;
        let (at, shift) = (bit / 8, bit % 8);
        let low = word(bytes, at) >> shift;
        // Only values of more than 57 bits can reach into a ninth byte.
        let high = if W > 57 && shift > 0 {
            u64::from(bytes[at + 8]) << (64 - shift)
        } else {
            0
        };
        *out = (low | high) & mask;
    }
}

fn unpack_u64<const W: usize>(bytes: &[u8], out: &mut [u64]) {
    if W == 0 {
        return out.fill(0);
    }
    let (groups, rest) = out.as_chunks_mut::<8>();
    let mut at = 0;
    for out in groups {
        match bytes.get(at..at + W + 9) {
            Some(whole) => eight_u64::<W>(whole, out),
            None => eight_u64::<W>(&group::<80>(bytes, at), out),
        }
        at += W;
    }
    if !rest.is_empty() {
        eight_u64::<W>(&group::<80>(bytes, at), rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pack(values: &[u64], width: u8) -> Vec<u8> {
        let mut out = vec![0; (values.len() * usize::from(width)).div_ceil(8)];
        for (n, value) in values.iter().enumerate() {
            for bit in 0..usize::from(width) {
                let at = n * usize::from(width) + bit;
                out[at / 8] |= ((value >> bit & 1) as u8) << (at % 8);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn packed_integers_of_every_width_come_back(width in 0u8..=64, raw in prop::collection::vec(any::<u64>(), 0..200)) {
            let mask = |width: u8| if width == 64 { u64::MAX } else { (1 << width) - 1 };
            let values: Vec<_> = raw.iter().map(|v| v & mask(width)).collect();
            let packed = pack(&values, width);
            let mut wide = vec![7; values.len()];
            unpack_deltas(width, &packed, &mut wide);
            prop_assert_eq!(&wide, &values);
            if width <= 32 {
                let mut out = vec![7; values.len()];
                unpack_indices(width, &packed, &mut out);
                prop_assert!(out.iter().zip(&values).all(|(a, b)| u64::from(*a) == *b));
            }
            if width <= 8 {
                let mut out = vec![7; values.len()];
                unpack_levels(width, &packed, &mut out);
                prop_assert!(out.iter().zip(&values).all(|(a, b)| u64::from(*a) == *b));
            }
        }
    }
}
