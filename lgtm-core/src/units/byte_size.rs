//! A number of bytes as people write it.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::error::{Error, Result};

/// The units, largest first within each base. Binary ones are tried first when printing: memory comes in them.
const BINARY: [(&str, u64); 5] = [
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];
const DECIMAL: [(&str, u64); 5] = [
    ("PB", 1_000_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
];

/// Bytes. Read from `"64MiB"`, `"1GB"`, `"1.5 GiB"`, `"512"` or a plain number; `KB MB GB TB PB` count in thousands, `KiB`… in 1024s.
///
/// (Loki's settings mean 1024s by both; write `KiB` when you carry one over.) It prints in the largest unit that divides it, so that it reads back as the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(u64);

impl ByteSize {
    /// `bytes` bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// `n` times 1024 bytes; saturates.
    pub const fn kib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 10))
    }

    /// `n` times 1024² bytes; saturates.
    pub const fn mib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 20))
    }

    /// `n` times 1024³ bytes; saturates.
    pub const fn gib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 30))
    }

    /// The number of bytes.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The number of bytes, or all that can be addressed if that is less.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = BINARY
            .iter()
            .chain(&DECIMAL)
            .find(|(_, size)| self.0 > 0 && self.0.is_multiple_of(*size));
        match unit {
            Some((name, size)) => write!(f, "{}{name}", self.0 / size),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for ByteSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::InvalidInput(format!(
                "byte size {text:?} {why}, expected a number with a unit such as 64MiB or 1GB"
            ))
        };
        let trimmed = text.trim();
        let end = trimmed
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(trimmed.len());
        let (number, unit) = (&trimmed[..end], trimmed[end..].trim());
        let size = unit_size(unit).ok_or_else(|| wrong("has an unknown unit"))?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: u64 = whole.parse().map_err(|_| wrong("has no valid number"))?;
        let part = fraction_of(fraction, size).ok_or_else(|| wrong("has no valid fraction"))?;
        let bytes = whole.checked_mul(size).and_then(|b| b.checked_add(part));
        bytes.map(Self).ok_or_else(|| wrong("exceeds 64 bits"))
    }
}

fn unit_size(unit: &str) -> Option<u64> {
    if unit.is_empty() || unit.eq_ignore_ascii_case("b") {
        return Some(1);
    }
    // `64M` is no unit: which of the two bases it means would be a guess.
    BINARY
        .iter()
        .chain(&DECIMAL)
        .find(|(name, _)| unit.eq_ignore_ascii_case(name))
        .map(|(_, size)| *size)
}

/// The bytes of `0.<digits>` times `size`, rounded down. Nine digits are plenty.
fn fraction_of(digits: &str, size: u64) -> Option<u64> {
    if digits.is_empty() {
        return Some(0);
    }
    if digits.len() > 9 {
        return None;
    }
    let value: u128 = digits.parse().ok()?;
    let scale = 10u128.pow(digits.len() as u32);
    u64::try_from(value * u128::from(size) / scale).ok()
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a byte size such as 64MiB, or a number of bytes")
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> std::result::Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> std::result::Result<ByteSize, E> {
                u64::try_from(bytes).map(ByteSize).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("64MiB", 64 << 20),
            ("1GB", 1_000_000_000),
            (" 1.5 GiB ", 3 << 29),
            ("256kb", 256_000),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap().as_u64(), bytes, "{text}");
        }
        for bad in [
            "",
            "MiB",
            "-1",
            "1XB",
            "64M",
            "1.2.3GB",
            "99999999PiB",
            "1.0000000000GB",
            "1e3",
        ] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_print_in_a_unit_that_divides_them() {
        assert_eq!(ByteSize::mib(64).to_string(), "64MiB");
        assert_eq!(ByteSize::bytes(1_000_000_000).to_string(), "1GB");
        assert_eq!(ByteSize::bytes(1025).to_string(), "1025");
        assert_eq!(ByteSize::bytes(0).to_string(), "0");
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(bytes: u64, unit in 0..60u32) {
            for size in [ByteSize(bytes), ByteSize(bytes >> unit << unit)] {
                let json = serde_json::to_string(&size).unwrap();
                prop_assert_eq!(serde_json::from_str::<ByteSize>(&json).unwrap(), size);
            }
            prop_assert_eq!(serde_json::from_str::<ByteSize>(&bytes.to_string()).unwrap(), ByteSize(bytes));
        }

        #[test]
        fn any_text_is_a_size_or_an_error(text: String) {
            let _ = text.parse::<ByteSize>();
        }
    }
}
