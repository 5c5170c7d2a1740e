//! Integers, strings and checksums as the on-disk formats of the workspace spell them.

use crate::error::DecodeError;

/// A cursor over borrowed bytes. Every method either yields a value or an error that names the offset.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    what: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader over `bytes`; `what` names the thing in errors.
    #[inline]
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, bytes, at: 0 }
    }

    /// Bytes not read yet.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Whether everything was read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// Bytes read so far.
    #[inline]
    pub fn position(&self) -> usize {
        self.at
    }

    /// The bytes not read yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// An error at the present offset.
    #[cold]
    pub fn error(&self, reason: impl Into<String>) -> DecodeError {
        DecodeError::new(self.what, self.at as u64, reason)
    }

    /// The next `n` bytes.
    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        if n > self.remaining() {
            return Err(self.error(format!("{n} bytes wanted, {} left", self.remaining())));
        }
        let out = &self.bytes[self.at..self.at + n];
        self.at += n;
        Ok(out)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes, big endian.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Four bytes, big endian.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Eight bytes, big endian.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Four bytes, little endian.
    #[inline]
    pub fn u32_le(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes, little endian.
    #[inline]
    pub fn u64_le(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// An unsigned LEB128 varint of at most 64 bits.
    #[inline]
    pub fn uvarint(&mut self) -> Result<u64, DecodeError> {
        // Lengths take one byte, most symbols of an index two.
        match *self.rest() {
            [a, ..] if a < 0x80 => {
                self.at += 1;
                Ok(u64::from(a))
            }
            [a, b, ..] if b < 0x80 => {
                self.at += 2;
                Ok(u64::from(a & 0x7f) | u64::from(b) << 7)
            }
            _ => self.uvarint_long(),
        }
    }

    fn uvarint_long(&mut self) -> Result<u64, DecodeError> {
        // Times in nanoseconds take nine bytes: eight at once, then the ninth.
        if let Some(&[ref low @ .., ninth]) = self.rest().first_chunk::<9>()
            && let low = u64::from_le_bytes(*low)
            && low & 0x8080_8080_8080_8080 == 0x8080_8080_8080_8080
            && ninth < 0x80
        {
            self.at += 9;
            return Ok(join_sevens(low) | u64::from(ninth) << 56);
        }
        let mut value = 0u64;
        for (i, &b) in self.rest().iter().take(10).enumerate() {
            if i == 9 && b > 1 {
                return Err(self.error("varint overflows 64 bits"));
            }
            value |= u64::from(b & 0x7f) << (7 * i);
            if b < 0x80 {
                self.at += i + 1;
                return Ok(value);
            }
        }
        Err(self.error(if self.remaining() < 10 {
            "varint is cut off"
        } else {
            "varint overflows 64 bits"
        }))
    }

    /// A zig-zag varint of at most 64 bits.
    #[inline]
    pub fn svarint(&mut self) -> Result<i64, DecodeError> {
        let u = self.uvarint()?;
        Ok(((u >> 1) as i64) ^ -((u & 1) as i64))
    }

    /// An unsigned varint that must fit `usize` and stand for a length within the rest of the input.
    #[inline]
    pub fn length(&mut self) -> Result<usize, DecodeError> {
        let n = self.uvarint()?;
        match usize::try_from(n) {
            Ok(n) if n <= self.remaining() => Ok(n),
            _ => Err(self.error(format!(
                "length {n} exceeds the {} bytes left",
                self.remaining()
            ))),
        }
    }

    /// A varint length, then that many bytes.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let n = self.length()?;
        self.take(n)
    }

    /// A varint length, then that many bytes of UTF-8.
    #[inline]
    pub fn str(&mut self) -> Result<&'a str, DecodeError> {
        let at = self.clone();
        std::str::from_utf8(self.bytes()?)
            .map_err(|e| at.error(format!("string is not UTF-8: {e}")))
    }
}

/// The lower seven bits of eight bytes, without the gaps.
#[inline]
fn join_sevens(bytes: u64) -> u64 {
    let sevens = bytes & 0x7f7f_7f7f_7f7f_7f7f;
    let pairs = (sevens & 0x007f_007f_007f_007f) | (sevens & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = (pairs & 0x0000_3fff_0000_3fff) | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    (fours & 0x0fff_ffff) | (fours & 0x0fff_ffff_0000_0000) >> 4
}

/// Appends an unsigned LEB128 varint.
#[inline]
pub fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a zig-zag varint.
#[inline]
pub fn put_svarint(out: &mut Vec<u8>, value: i64) {
    put_uvarint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Bytes that [`put_uvarint`] writes for `value`.
#[inline]
pub fn uvarint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends a varint length and the bytes.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uvarint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// CRC-32C (Castagnoli) of `bytes`, as every Prometheus format has it.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// Continues a CRC-32C with more bytes.
#[inline]
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_come_back(u: u64, s: i64) {
            let mut out = Vec::new();
            put_uvarint(&mut out, u);
            prop_assert_eq!(out.len(), uvarint_len(u));
            put_svarint(&mut out, s);
            let mut r = Reader::new("test", &out);
            prop_assert_eq!(r.uvarint()?, u);
            prop_assert_eq!(r.svarint()?, s);
            prop_assert!(r.is_empty());
            for cut in 0..uvarint_len(u) {
                prop_assert!(Reader::new("test", &out[..cut]).uvarint().is_err());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let mut r = Reader::new("test", &bytes);
            while r.str().is_ok() && !r.is_empty() {}
            let mut r = Reader::new("test", &bytes);
            while r.uvarint().is_ok() {}
        }
    }

    #[test]
    fn a_length_beyond_the_input_is_an_error_and_allocates_nothing() {
        let mut bytes = Vec::new();
        put_uvarint(&mut bytes, u64::MAX);
        assert!(Reader::new("test", &bytes).bytes().is_err());
    }
}
