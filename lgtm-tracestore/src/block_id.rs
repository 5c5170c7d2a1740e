//! Block identity: a UUID, which names the block's folder.

use std::fmt;
use std::str::FromStr;

use lgtm_core::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of a block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct BlockId([u8; 16]);

/// Where the dashes stand.
const DASHES: [usize; 4] = [8, 13, 18, 23];

impl BlockId {
    /// Characters of a block id.
    pub const LEN: usize = 36;

    /// An id of 122 of these random bits: a UUID of version 4.
    pub const fn random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }

    /// The id of these bytes, whatever its version.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for BlockId {
    type Err = Error;

    /// Takes lower-case digits with dashes only, since folders bear exactly that name.
    ///
    /// # Errors
    /// `InvalidInput` for anything else.
    fn from_str(text: &str) -> Result<Self> {
        let fail = || Error::InvalidInput(format!("{text:?} is not a block ID"));
        if text.len() != Self::LEN {
            return Err(fail());
        }
        let mut value = 0u128;
        for (n, byte) in text.bytes().enumerate() {
            match byte {
                b'-' if DASHES.contains(&n) => {}
                b'0'..=b'9' | b'a'..=b'f' if !DASHES.contains(&n) => {
                    let digit = char::from(byte).to_digit(16).ok_or_else(fail)?;
                    value = value << 4 | u128::from(digit);
                }
                _ => return Err(fail()),
            }
        }
        Ok(Self(value.to_be_bytes()))
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, byte) in self.0.iter().enumerate() {
            let dash = if matches!(n, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockId({self})")
    }
}

impl Serialize for BlockId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BlockId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_read_as_they_print(bytes in any::<[u8; 16]>(), other in ".{0,40}") {
            let id = BlockId::from_bytes(bytes);
            let text = id.to_string();
            prop_assert_eq!(text.len(), BlockId::LEN);
            prop_assert_eq!(text.parse::<BlockId>().unwrap(), id);
            let digits = text.replace('-', "");
            prop_assert_eq!(u128::from_str_radix(&digits, 16).unwrap(), u128::from_be_bytes(bytes));
            if let Ok(id) = other.parse::<BlockId>() {
                prop_assert_eq!(id.to_string(), other);
            }
        }
    }

    #[test]
    fn only_the_name_of_a_folder_is_an_id() {
        let id = "175a6b4d-fa41-44e1-8f6f-6bcd1c923c1c";
        assert_eq!(id.parse::<BlockId>().unwrap().to_string(), id);
        let upper = id.to_uppercase();
        let braces = format!("{{{}}}", &id[2..]);
        let dash = id.replacen('a', "-", 1);
        for bad in ["", &id[1..], &upper, &braces, &dash, &id.replace('-', "0")] {
            assert!(bad.parse::<BlockId>().is_err(), "{bad}");
        }
        let random = BlockId::random([0xff; 16]).to_string();
        assert_eq!(random, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
