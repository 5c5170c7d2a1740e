//! A set of hashes in few bits: a ribbon filter.
//!
//! Each key is an equation over 64 neighbouring rows of a table of bits; the table solves all of them at once. A key that is in the set is
//! always found, one that is not passes with a chance of 2^-columns. It takes some 8 % more than `columns` bits a key, also of small sets, where
//! Bloom filters take 44 % more and xor filters 23 % and, of small sets, more. Follows "Ribbon filter: practically smaller than Bloom and Xor"
//! (Dillinger, Walzer, 2021).

use crate::codec::{Reader, put_uvarint};
use crate::error::DecodeError;

const WHAT: &str = "ribbon filter";
/// Rows that an equation reaches over; rows are stored in blocks of as many.
const WIDTH: usize = 64;
/// Tables that are tried, each larger than the one before.
const MAX_TRIES: u64 = 24;
/// Most columns: with these one key in 256 that is not in the set passes.
pub const MAX_COLUMNS: usize = 8;

/// Spreads the bits of a number: splitmix64's last steps.
#[inline]
pub fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Rows of a table for so many keys.
pub fn rows_for(keys: usize) -> usize {
    if keys == 0 {
        return 0;
    }
    (keys + keys / 24 + WIDTH - 8)
        .next_multiple_of(WIDTH)
        .max(WIDTH)
}

/// An equation: its first row, which of the rows from there on it has, and its right side.
#[derive(Debug, Clone, Copy)]
struct Equation {
    start: usize,
    rows: u64,
    right: u8,
}

#[inline]
fn equation(key: u64, seed: u64, rows: usize) -> Equation {
    let h = mixed(key ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let starts = (rows - WIDTH + 1) as u128;
    let more = mixed(h ^ 0xa076_1d64_78bd_642f);
    Equation {
        start: ((u128::from(h) * starts) >> 64) as usize,
        rows: more | 1,
        right: (h ^ (more >> 48)) as u8,
    }
}

/// Writes the filter of `keys` with so many columns; keys that come twice do no harm.
pub fn encode(keys: &[u64], columns: usize, out: &mut Vec<u8>) {
    let columns = columns.clamp(1, MAX_COLUMNS);
    let mut rows = rows_for(keys.len());
    let mut seed = 0;
    let mut solved = solve(keys, seed, rows, columns);
    while solved.is_none() && seed < MAX_TRIES {
        seed += 1;
        rows += (rows / 32).next_multiple_of(WIDTH);
        solved = solve(keys, seed, rows, columns);
    }
    // So many tables all failing does not happen; without columns everything is in the set.
    let (columns, table) = match solved {
        Some(table) => (columns, table),
        None => (0, Vec::new()),
    };
    out.push(columns as u8);
    put_uvarint(out, seed);
    put_uvarint(out, (rows / WIDTH) as u64);
    for word in table {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

/// The table, block by block and in each column by column; `None` if the equations contradict each other.
fn solve(keys: &[u64], seed: u64, rows: usize, columns: usize) -> Option<Vec<u64>> {
    if rows == 0 {
        return Some(Vec::new());
    }
    let mut left = vec![0u64; rows];
    let mut right = vec![0u8; rows];
    let mask = u8::MAX >> (MAX_COLUMNS - columns);
    for key in keys {
        let Equation {
            start: mut at,
            rows: mut these,
            right: mut r,
        } = equation(*key, seed, rows);
        loop {
            if left[at] == 0 {
                (left[at], right[at]) = (these, r);
                break;
            }
            these ^= left[at];
            r ^= right[at];
            if these == 0 {
                if r & mask == 0 {
                    break;
                }
                return None;
            }
            let skipped = these.trailing_zeros();
            at += skipped as usize;
            these >>= skipped;
        }
    }
    Some(in_columns(&solutions(&left, &right), columns))
}

/// A byte of all columns for each row, from the last to the first: each the sum of those behind it that its equation has.
fn solutions(left: &[u64], right: &[u8]) -> Vec<u8> {
    let rows = left.len();
    let mut out = vec![0u8; rows + WIDTH];
    // The eight rows from the one that is looked at on: what was just written is slow to read.
    let mut near = 0u64;
    for row in (0..rows).rev() {
        near <<= 8;
        let these = left[row].to_le_bytes();
        let value = if left[row] == 0 {
            // Any value will do.
            mixed(row as u64) as u8
        } else {
            let mut sum = near & SPREAD[usize::from(these[0])];
            let behind = out[row + 8..row + WIDTH].chunks_exact(8);
            for (eight, bits) in behind.zip(&these[1..]) {
                let eight = eight.first_chunk().map_or(0, |e| u64::from_le_bytes(*e));
                sum ^= eight & SPREAD[usize::from(*bits)];
            }
            sum ^= sum >> 32;
            sum ^= sum >> 16;
            sum ^= sum >> 8;
            sum as u8 ^ right[row]
        };
        out[row] = value;
        near |= u64::from(value);
    }
    out.truncate(rows);
    out
}

/// Of each number of eight bits a byte of ones for each of its ones.
static SPREAD: [u64; 256] = {
    let mut out = [0u64; 256];
    let mut n = 0;
    while n < 256 {
        let mut bit = 0;
        while bit < 8 {
            if n >> bit & 1 == 1 {
                out[n] |= 0xff << (8 * bit);
            }
            bit += 1;
        }
        n += 1;
    }
    out
};

/// Rows of a byte each, turned into words of 64 rows, one after the other for each column.
fn in_columns(rows: &[u8], columns: usize) -> Vec<u64> {
    let mut out = Vec::with_capacity(rows.len() / WIDTH * columns);
    for block in rows.chunks_exact(WIDTH) {
        for column in 0..columns {
            let eights = block.chunks_exact(8).enumerate();
            out.push(eights.fold(0, |word, (n, eight)| {
                let eight = eight.first_chunk().map_or(0, |e| u64::from_le_bytes(*e));
                let bits = eight >> column & 0x0101_0101_0101_0101;
                // Gathers the lowest bits of eight bytes in the highest byte.
                word | bits.wrapping_mul(0x0102_0408_1020_4080) >> 56 << (8 * n)
            }));
        }
    }
    out
}

/// Where a filter stands in a section.
#[derive(Debug, Clone, Copy)]
pub struct RibbonPlace {
    columns: u8,
    seed: u64,
    rows: usize,
    /// First byte of its table, and how many there are.
    table: (u32, u32),
}

impl RibbonPlace {
    /// The filter in the section that it was read from.
    pub fn read(self, section: &[u8]) -> Ribbon<'_> {
        let (start, len) = (self.table.0 as usize, self.table.1 as usize);
        Ribbon {
            columns: usize::from(self.columns),
            seed: self.seed,
            rows: self.rows,
            table: section.get(start..start + len).unwrap_or(&[]),
        }
    }
}

/// A filter in its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Ribbon<'a> {
    columns: usize,
    seed: u64,
    rows: usize,
    table: &'a [u8],
}

impl<'a> Ribbon<'a> {
    /// Reads what [`encode`] writes.
    ///
    /// # Errors
    /// A number of columns that there is not, a table that is cut off.
    pub fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let columns = usize::from(r.u8()?);
        let seed = r.uvarint()?;
        let blocks = r.uvarint()?;
        if columns > MAX_COLUMNS {
            return Err(r.error(format!("{columns} columns in a {WHAT}")));
        }
        let len = blocks.checked_mul(8 * columns as u64);
        let Some(len) = len.filter(|len| *len <= r.remaining() as u64) else {
            return Err(r.error(format!("a table of {blocks} blocks is cut off")));
        };
        let table = r.take(len as usize)?;
        Ok(Self {
            columns,
            seed,
            // Without columns nothing bounds the number, and it is not looked at.
            rows: if columns == 0 {
                0
            } else {
                blocks as usize * WIDTH
            },
            table,
        })
    }

    /// Where it stands in a section, in which its table ends at `end`.
    pub fn place(&self, end: usize) -> RibbonPlace {
        let len = self.table.len() as u32;
        RibbonPlace {
            columns: self.columns as u8,
            seed: self.seed,
            rows: self.rows,
            table: ((end as u32).saturating_sub(len), len),
        }
    }

    /// Whether a key may be in the set.
    pub fn may_hold(&self, key: u64) -> bool {
        if self.columns == 0 {
            return true;
        }
        if self.rows == 0 {
            return false;
        }
        let e = equation(key, self.seed, self.rows);
        let (block, bit) = (e.start / WIDTH, e.start % WIDTH);
        let word = |block: usize, column: usize| {
            let at = (block * self.columns + column) * 8;
            let bytes = self.table.get(at..).and_then(<[u8]>::first_chunk::<8>);
            bytes.map_or(0, |b| u64::from_le_bytes(*b))
        };
        (0..self.columns).all(|column| {
            let mut these = word(block, column) >> bit;
            if bit > 0 {
                these |= word(block + 1, column) << (WIDTH - bit);
            }
            (these & e.rows).count_ones() & 1 == u32::from(e.right >> column & 1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(n: u64, salt: u64) -> Vec<u64> {
        (0..n).map(|k| mixed(k ^ salt << 40)).collect()
    }

    #[test]
    fn what_is_in_it_is_found_and_little_else() {
        for n in [0, 1, 2, 50, 64, 100, 1000, 20_000] {
            for columns in [1, 3, 6, 8] {
                let inside = keys(n, 1);
                let mut bytes = Vec::new();
                encode(&inside, columns, &mut bytes);
                let ribbon = Ribbon::decode(&mut Reader::new("test", &bytes)).unwrap();
                assert!(inside.iter().all(|k| ribbon.may_hold(*k)), "{n} {columns}");
                let passed = keys(20_000, 2)
                    .iter()
                    .filter(|k| ribbon.may_hold(**k))
                    .count();
                let wanted = if n == 0 {
                    0.0
                } else {
                    20_000.0 / f64::from(1u32 << columns)
                };
                let bound = wanted * 1.5 + 30.0;
                assert!((passed as f64) <= bound, "{n} {columns}: {passed} passed");
                let size = rows_for(n as usize) / 8 * columns;
                assert!(
                    bytes.len() <= size + size / 8 + 8 * columns + 8,
                    "{n} {columns}"
                );
            }
        }
    }

    #[test]
    fn keys_that_come_twice_do_no_harm() {
        let mut twice = keys(500, 3);
        twice.extend(keys(500, 3));
        let mut bytes = Vec::new();
        encode(&twice, 7, &mut bytes);
        let ribbon = Ribbon::decode(&mut Reader::new("test", &bytes)).unwrap();
        assert!(twice.iter().all(|k| ribbon.may_hold(*k)));
    }

    proptest::proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>, keys: Vec<u64>) {
            if let Ok(ribbon) = Ribbon::decode(&mut Reader::new("test", &bytes)) {
                for key in keys {
                    ribbon.may_hold(key);
                }
            }
        }
    }
}
