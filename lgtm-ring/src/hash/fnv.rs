//! Fowler-Noll-Vo hashes, in the two orders of their two operations.

use crate::token::Token;

const OFFSET_32: u32 = 2_166_136_261;
const PRIME_32: u32 = 16_777_619;
const OFFSET_64: u64 = 14_695_981_039_346_656_037;
const PRIME_64: u64 = 1_099_511_628_211;

/// FNV-1, 32 bit: multiply, then xor. For data keys.
#[derive(Debug, Clone, Copy)]
pub struct Fnv1(u32);

impl Fnv1 {
    /// The hash of nothing.
    pub fn new() -> Self {
        Self(OFFSET_32)
    }

    /// Takes in more bytes; no separator is put before them.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.0 = self.0.wrapping_mul(PRIME_32) ^ u32::from(b);
        }
    }

    /// The hash so far.
    pub fn token(self) -> Token {
        Token(self.0)
    }
}

impl Default for Fnv1 {
    fn default() -> Self {
        Self::new()
    }
}

/// FNV-1a, 32 bit: xor, then multiply. For keys of control-plane work.
#[derive(Debug, Clone, Copy)]
pub struct Fnv1a(u32);

impl Fnv1a {
    /// The hash of nothing.
    pub fn new() -> Self {
        Self(OFFSET_32)
    }

    /// Takes in more bytes; no separator is put before them.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.0 = (self.0 ^ u32::from(b)).wrapping_mul(PRIME_32);
        }
    }

    /// The hash so far.
    pub fn token(self) -> Token {
        Token(self.0)
    }
}

impl Default for Fnv1a {
    fn default() -> Self {
        Self::new()
    }
}

/// FNV-1, 64 bit, as Tempo hashes a trace id where no ring is involved.
pub fn fnv1_64(bytes: &[u8]) -> u64 {
    let step = |hash: u64, &b: &u8| hash.wrapping_mul(PRIME_64) ^ u64::from(b);
    bytes.iter().fold(OFFSET_64, step)
}
