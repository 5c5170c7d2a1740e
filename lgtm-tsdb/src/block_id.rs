//! Block identity: a ULID, 48 bits of creation time and 80 random ones, written in Crockford's base 32.

use std::fmt;
use std::str::FromStr;

use lgtm_core::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The name of a block. Orders by creation time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct BlockId(u128);

impl BlockId {
    /// Characters of a block id.
    pub const LEN: usize = 26;

    /// An id for a block made at `time_ms` (milliseconds since the epoch; the lower 48 bits count) from 80 bits of `random`.
    pub fn new(time_ms: u64, random: [u8; 10]) -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&time_ms.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&random);
        Self::from_bytes(bytes)
    }

    /// The id of these 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// The 16 bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// When the block was made, milliseconds since the epoch.
    pub const fn time_ms(self) -> u64 {
        (self.0 >> 80) as u64
    }

    /// 32-bit FNV-1 of the bytes: Mimir's choice of split group and of the store-gateway that owns the block.
    pub fn hash32(self) -> u32 {
        self.to_bytes().iter().fold(2_166_136_261, |hash, &byte| {
            hash.wrapping_mul(16_777_619) ^ u32::from(byte)
        })
    }
}

impl FromStr for BlockId {
    type Err = Error;

    /// Takes the canonical form only (26 upper-case characters, at most 128 bits), since folders bear exactly that name.
    ///
    /// # Errors
    /// `InvalidInput` for anything else.
    fn from_str(text: &str) -> Result<Self> {
        let fail = || Error::InvalidInput(format!("{text:?} is not a block ID"));
        if text.len() != Self::LEN || text.as_bytes()[0] > b'7' {
            return Err(fail());
        }
        let mut value = 0;
        for byte in text.bytes() {
            let digit = ALPHABET.iter().position(|&c| c == byte).ok_or_else(fail)?;
            value = value << 5 | digit as u128;
        }
        Ok(Self(value))
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; Self::LEN];
        for (i, c) in text.iter_mut().rev().enumerate() {
            *c = ALPHABET[(self.0 >> (5 * i)) as usize & 31];
        }
        f.pad(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockId({self})")
    }
}

impl Serialize for BlockId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BlockId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_parts_come_back() {
        let id = BlockId::new(1_795_356_260_529, [0xab; 10]);
        assert_eq!(id.time_ms(), 1_795_356_260_529);
        assert_eq!(&id.to_bytes()[6..], [0xab; 10]);
        assert_eq!(BlockId::default().to_string(), "0".repeat(26));
    }

    #[test]
    fn only_the_canonical_form_is_an_id() {
        for bad in [
            "",
            "01M81S4Y5HSTNJNYGGEK41NWS",
            "01M81S4Y5HSTNJNYGGEK41NWSCC",
            "81M81S4Y5HSTNJNYGGEK41NWSC",
            "01m81s4y5hstnjnyggek41nwsc",
            "01M81S4Y5HSTNJNYGGEK41NWSU",
            "01M81S4Y5HSTNJNYGGEK41NWé",
        ] {
            assert!(bad.parse::<BlockId>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_id_comes_back(bytes: [u8; 16]) {
            let id = BlockId::from_bytes(bytes);
            prop_assert_eq!(id.to_string().parse::<BlockId>().unwrap(), id);
        }

        #[test]
        fn arbitrary_text_never_panics(text: String) {
            let _ = text.parse::<BlockId>();
        }
    }
}
