//! Bit streams, most significant bit first, and the variable-length numbers in them.

use lgtm_core::DecodeError;

/// Collects bits. Public only in name: it stands in a sealed trait. Sixty-four wait in a register, so that most writes touch no memory.
#[derive(Debug, Clone, Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    /// Bits not in `bytes` yet, at the top.
    waiting: u64,
    waiting_len: u8,
}

impl BitWriter {
    /// Appends the low `n` bits of `bits`, `n` in 1..=64; higher bits must be zero.
    #[inline]
    pub(super) fn write(&mut self, bits: u64, n: u32) {
        let free = 64 - u32::from(self.waiting_len);
        if n < free {
            self.waiting |= bits << (free - n);
            self.waiting_len += n as u8;
            return;
        }
        let over = n - free;
        self.waiting |= bits >> over;
        self.spill();
        self.waiting = if over == 0 { 0 } else { bits << (64 - over) };
        self.waiting_len = over as u8;
    }

    fn spill(&mut self) {
        if self.bytes.capacity() - self.bytes.len() < 8 {
            // A head holds millions of these: small steps instead of doubling.
            self.bytes
                .reserve_exact(if self.bytes.len() < 128 { 32 } else { 64 });
        }
        self.bytes.extend_from_slice(&self.waiting.to_be_bytes());
    }

    /// Appends whole bytes at the present bit.
    pub(super) fn write_bytes(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.write(u64::from(*b), 8));
    }

    /// Bytes when the last one is filled up with zeros.
    pub(super) fn len_bytes(&self) -> usize {
        self.bytes.len() + usize::from(self.waiting_len.div_ceil(8))
    }

    /// Appends the stream to `out`, zero-padded to a whole byte.
    pub(super) fn copy_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
        out.extend_from_slice(
            &self.waiting.to_be_bytes()[..usize::from(self.waiting_len.div_ceil(8))],
        );
    }

    /// A writer that goes on behind the first `len_bits` of `data`.
    pub(super) fn resume(data: &[u8], len_bits: usize) -> Self {
        let whole = len_bits / 64 * 8;
        let mut w = Self {
            bytes: data[..whole].to_vec(),
            waiting: 0,
            waiting_len: 0,
        };
        let mut r = BitReader::new("chunk", data);
        r.skip(whole * 8);
        let rest = (len_bits - whole * 8) as u32;
        if rest > 0 {
            w.write(r.peek() >> (64 - rest), rest);
        }
        w
    }

    /// Heap bytes held.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Walks bits. Reading past the end is an error when the reader is asked to check, and zeros until then.
#[derive(Debug, Clone)]
pub(super) struct BitReader<'a> {
    what: &'static str,
    data: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(what: &'static str, data: &'a [u8]) -> Self {
        Self { what, data, at: 0 }
    }

    /// All the bytes.
    pub(super) fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Goes to bit `at`.
    pub(super) fn seek(&mut self, at: usize) {
        self.at = at;
    }

    /// Bits read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn skip(&mut self, bits: usize) {
        self.at += bits;
    }

    /// Bits left.
    pub(super) fn remaining(&self) -> usize {
        (self.data.len() * 8).saturating_sub(self.at)
    }

    /// The next bits at the top of a word; at least 57 of them are real, zeros past the end.
    #[inline]
    pub(super) fn peek(&self) -> u64 {
        let byte = self.at / 8;
        let word = match self.data.get(byte..byte + 8) {
            Some(eight) => u64::from_be_bytes([
                eight[0], eight[1], eight[2], eight[3], eight[4], eight[5], eight[6], eight[7],
            ]),
            None => self.peek_tail(byte),
        };
        word << (self.at % 8)
    }

    #[cold]
    fn peek_tail(&self, byte: usize) -> u64 {
        let mut eight = [0; 8];
        let rest = self.data.get(byte..).unwrap_or(&[]);
        eight[..rest.len()].copy_from_slice(rest);
        u64::from_be_bytes(eight)
    }

    /// The next `n` bits, `n` in 1..=64.
    #[inline]
    pub(super) fn read(&mut self, n: u32) -> Result<u64, DecodeError> {
        if self.remaining() < n as usize {
            return Err(self.error("bit stream is cut off"));
        }
        if n <= 56 {
            let bits = self.peek() >> (64 - n);
            self.at += n as usize;
            return Ok(bits);
        }
        let high = self.read(32)?;
        let low_len = n - 32;
        Ok(high << low_len | self.read(low_len)?)
    }

    /// Fails if more was read than there is.
    #[inline]
    pub(super) fn check(&self) -> Result<(), DecodeError> {
        if self.at > self.data.len() * 8 {
            return Err(self.error("bit stream is cut off"));
        }
        Ok(())
    }

    #[cold]
    pub(super) fn error(&self, reason: impl Into<String>) -> DecodeError {
        DecodeError::new(self.what, (self.at / 8) as u64, reason)
    }

    /// Varint bytes at the present bit.
    pub(super) fn uvarint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for i in 0..10 {
            let b = self.read(8)?;
            if i == 9 && b > 1 {
                break;
            }
            value |= (b & 0x7f) << (7 * i);
            if b < 0x80 {
                return Ok(value);
            }
        }
        Err(self.error("varint overflows 64 bits"))
    }

    /// Zig-zag varint bytes at the present bit.
    pub(super) fn svarint(&mut self) -> Result<i64, DecodeError> {
        let u = self.uvarint()?;
        Ok((u >> 1) as i64 ^ -((u & 1) as i64))
    }
}

/// Whether `x` is in the classes' range of `n` bits: -(2^(n-1) - 1) ..= 2^(n-1).
#[inline]
pub(super) fn fits(x: i64, n: u32) -> bool {
    -((1i64 << (n - 1)) - 1) <= x && x <= 1i64 << (n - 1)
}

/// The low `n` bits of `x`.
#[inline]
pub(super) fn low_bits(x: i64, n: u32) -> u64 {
    if n == 64 {
        x as u64
    } else {
        x as u64 & ((1 << n) - 1)
    }
}

/// The number whose low `n` bits are `bits`, in the range of [`fits`].
#[inline]
pub(super) fn signed(bits: u64, n: u32) -> i64 {
    if n < 64 && bits > 1 << (n - 1) {
        bits as i64 - (1i64 << n)
    } else {
        bits as i64
    }
}

/// (prefix, its length, payload bits) of the rows of `vbi` and `vbu` behind the first.
const ROWS: [(u64, u32, u32); 8] = [
    (0b10, 2, 3),
    (0b110, 3, 6),
    (0b1110, 4, 9),
    (0b1_1110, 5, 12),
    (0b11_1110, 6, 18),
    (0b111_1110, 7, 25),
    (0b1111_1110, 8, 56),
    (0b1111_1111, 8, 64),
];

impl BitWriter {
    /// A variable-bit signed number.
    pub(super) fn vbi(&mut self, x: i64) {
        if x == 0 {
            return self.write(0, 1);
        }
        let row = ROWS
            .iter()
            .find(|r| r.2 == 64 || fits(x, r.2))
            .unwrap_or(&ROWS[7]);
        self.write(row.0, row.1);
        self.write(low_bits(x, row.2), row.2);
    }

    /// A variable-bit unsigned number.
    pub(super) fn vbu(&mut self, x: u64) {
        if x == 0 {
            return self.write(0, 1);
        }
        let row = ROWS
            .iter()
            .find(|r| r.2 == 64 || x < 1 << r.2)
            .unwrap_or(&ROWS[7]);
        self.write(row.0, row.1);
        self.write(x, row.2);
    }
}

impl BitReader<'_> {
    fn row(&mut self) -> Result<Option<u32>, DecodeError> {
        let ones = self.peek().leading_ones().min(8);
        let (prefix, bits) = match ones {
            0 => (1, None),
            8 => (8, Some(64)),
            n => (n + 1, Some(ROWS[n as usize - 1].2)),
        };
        self.at += prefix as usize;
        self.check()?;
        Ok(bits)
    }

    /// A variable-bit signed number.
    pub(super) fn vbi(&mut self) -> Result<i64, DecodeError> {
        match self.row()? {
            None => Ok(0),
            Some(n) => Ok(signed(self.read(n)?, n)),
        }
    }

    /// A variable-bit unsigned number.
    pub(super) fn vbu(&mut self) -> Result<u64, DecodeError> {
        match self.row()? {
            None => Ok(0),
            Some(n) => self.read(n),
        }
    }
}

/// The state of one run of floats, each written against the one before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct XorState {
    pub(super) bits: u64,
    /// 0xFF: no window yet.
    pub(super) lead: u8,
    pub(super) trail: u8,
}

impl XorState {
    pub(super) fn starting_at(value: f64) -> Self {
        Self {
            bits: value.to_bits(),
            lead: 0xff,
            trail: 0,
        }
    }

    pub(super) fn value(&self) -> f64 {
        f64::from_bits(self.bits)
    }

    /// Writes the next float.
    #[inline]
    pub(super) fn write(&mut self, w: &mut BitWriter, value: f64) {
        let d = value.to_bits() ^ self.bits;
        self.bits = value.to_bits();
        if d == 0 {
            return w.write(0, 1);
        }
        let lead = (d.leading_zeros() as u8).min(31);
        let trail = d.trailing_zeros() as u8;
        if self.lead != 0xff && lead >= self.lead && trail >= self.trail {
            let n = 64 - u32::from(self.lead) - u32::from(self.trail);
            w.write(0b10, 2);
            return w.write(d >> self.trail, n);
        }
        (self.lead, self.trail) = (lead, trail);
        let n = 64 - u32::from(lead) - u32::from(trail);
        w.write(0b11 << 11 | u64::from(lead) << 6 | u64::from(n & 63), 13);
        w.write(d >> trail, n);
    }

    /// Reads the next float.
    #[inline]
    pub(super) fn read(&mut self, r: &mut BitReader<'_>) -> Result<(), DecodeError> {
        let head = r.peek();
        if head >> 63 == 0 {
            r.skip(1);
            return r.check();
        }
        if head >> 62 == 0b10 {
            if self.lead == 0xff {
                return Err(r.error("float refers to a window before there is one"));
            }
            r.skip(2);
        } else {
            let lead = (head >> 57 & 31) as u8;
            let n = match (head >> 51 & 63) as u8 {
                0 => 64,
                n => n,
            };
            if lead + n > 64 {
                return Err(r.error(format!(
                    "float window of {n} bits behind {lead} zeros exceeds 64 bits"
                )));
            }
            (self.lead, self.trail) = (lead, 64 - lead - n);
            r.skip(13);
        }
        let n = 64 - u32::from(self.lead) - u32::from(self.trail);
        self.bits ^= r.read(n)? << self.trail;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back_at_any_bit(signed_values: Vec<i64>, unsigned_values: Vec<u64>, floats: Vec<u64>, shift in 0u32..8) {
            let mut w = BitWriter::default();
            if shift > 0 { w.write(0, shift); }
            signed_values.iter().for_each(|v| w.vbi(*v));
            unsigned_values.iter().for_each(|v| w.vbu(*v));
            let mut state = XorState::starting_at(0.0);
            floats.iter().for_each(|v| state.write(&mut w, f64::from_bits(*v)));
            let mut bytes = Vec::new();
            w.copy_to(&mut bytes);
            prop_assert_eq!(bytes.len(), w.len_bytes());
            let mut r = BitReader::new("test", &bytes);
            r.skip(shift as usize);
            for v in &signed_values { prop_assert_eq!(r.vbi()?, *v); }
            for v in &unsigned_values { prop_assert_eq!(r.vbu()?, *v); }
            let mut state = XorState::starting_at(0.0);
            for v in &floats { state.read(&mut r)?; prop_assert_eq!(state.bits, *v); }
            let end = r.position();
            let mut resumed = BitWriter::resume(&bytes, end);
            resumed.write(1, 1);
            let mut again = Vec::new();
            resumed.copy_to(&mut again);
            let mut r = BitReader::new("test", &again);
            r.skip(end);
            prop_assert_eq!(r.read(1)?, 1);
        }

        #[test]
        fn arbitrary_bits_end_in_an_error(bytes: Vec<u8>) {
            let mut r = BitReader::new("test", &bytes);
            let mut state = XorState::starting_at(1.0);
            while r.vbi().is_ok() && r.vbu().is_ok() && state.read(&mut r).is_ok() && r.remaining() > 0 {}
        }
    }

    #[test]
    fn ranges_are_lopsided_the_unusual_way() {
        assert!(fits(8192, 14) && !fits(-8192, 14) && fits(-8191, 14));
        assert_eq!(signed(low_bits(8192, 14), 14), 8192);
        assert_eq!(signed(low_bits(-8191, 14), 14), -8191);
    }
}
