//! One shard's file, asked without being decoded.

use lgtm_core::codec::Reader;
use lgtm_core::error::DecodeError;

use crate::bloom::bloom::Locations;
use crate::trace::TraceId;

/// Most bits that a key may set; Tempo's filters have 7.
const MAX_HASHES: u64 = 256;

/// The file of a shard, as it came.
#[derive(Debug, Clone, Copy)]
pub struct BloomShard<'a> {
    bits: u64,
    hashes: u64,
    words: &'a [u8],
}

impl<'a> BloomShard<'a> {
    /// Looks at the header. Nothing is copied.
    ///
    /// # Errors
    /// For a file that is cut off or longer than it says, and for numbers that no filter has.
    pub fn open(file: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("bloom filter", file);
        let (bits, hashes, length) = (r.u64()?, r.u64()?, r.u64()?);
        if bits == 0 || length != bits {
            return Err(r.error(format!("{bits} bits, of which {length} are written")));
        }
        if hashes == 0 || hashes > MAX_HASHES {
            return Err(r.error(format!("{hashes} hashes, 1 to {MAX_HASHES} are possible")));
        }
        let words = r.rest();
        if words.len() as u64 != bits.div_ceil(64).saturating_mul(8) {
            let have = file.len();
            return Err(r.error(format!("{bits} bits do not make a file of {have} bytes")));
        }
        Ok(Self {
            bits,
            hashes,
            words,
        })
    }

    /// Whether the shard may hold the id; `false` is certain.
    pub fn may_contain(&self, id: TraceId) -> bool {
        let locations = Locations::of_id(id);
        (0..self.hashes).all(|i| self.is_set(locations.at(i) % self.bits))
    }

    fn is_set(&self, bit: u64) -> bool {
        // Words are big endian, bits are counted from the least significant one.
        let byte = bit / 64 * 8 + 7 - bit % 64 / 8;
        let byte = self.words.get(byte as usize);
        byte.is_some_and(|b| b >> (bit % 8) & 1 == 1)
    }
}
