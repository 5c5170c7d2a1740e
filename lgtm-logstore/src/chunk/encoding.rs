//! How the blocks of a chunk are compressed, and the names and numbers of that.

use std::fmt;
use std::str::FromStr;

use lgtm_core::Error;
use lgtm_core::codec::{Compression, Lz4BlockSize};
use serde::{Deserialize, Serialize};

/// How the blocks of a chunk are compressed. Its text is the name of `chunk_encoding` in settings, read in any letter case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum ChunkEncoding {
    /// Not at all.
    None,
    /// Gzip.
    Gzip,
    /// LZ4 frames with blocks of 64 KiB.
    Lz4KiB64,
    /// Snappy's framing format.
    Snappy,
    /// LZ4 frames with blocks of 256 KiB.
    Lz4KiB256,
    /// LZ4 frames with blocks of 1 MiB.
    Lz4MiB1,
    /// LZ4 frames with blocks of 4 MiB.
    Lz4MiB4,
    /// Raw deflate.
    Flate,
    /// Zstandard.
    Zstd,
}

impl ChunkEncoding {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::Gzip,
        Self::Lz4KiB64,
        Self::Snappy,
        Self::Lz4KiB256,
        Self::Lz4MiB1,
        Self::Lz4MiB4,
        Self::Flate,
        Self::Zstd,
    ];

    /// The encoding with this number in a chunk's header; `None` for 2 (reserved) and what is not known.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|e| e.byte() == byte)
    }

    /// Its number in a chunk's header.
    pub fn byte(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Lz4KiB64 => 3,
            Self::Snappy => 4,
            Self::Lz4KiB256 => 5,
            Self::Lz4MiB1 => 6,
            Self::Lz4MiB4 => 7,
            Self::Flate => 8,
            Self::Zstd => 9,
        }
    }

    /// Its name in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Lz4KiB64 => "lz4-64k",
            Self::Snappy => "snappy",
            Self::Lz4KiB256 => "lz4-256k",
            Self::Lz4MiB1 => "lz4-1M",
            Self::Lz4MiB4 => "lz4",
            Self::Flate => "flate",
            Self::Zstd => "zstd",
        }
    }

    /// What compresses its blocks.
    pub fn compression(self) -> Compression {
        match self {
            Self::None => Compression::None,
            Self::Gzip => Compression::Gzip,
            Self::Lz4KiB64 => Compression::Lz4(Lz4BlockSize::KiB64),
            Self::Snappy => Compression::SnappyFramed,
            Self::Lz4KiB256 => Compression::Lz4(Lz4BlockSize::KiB256),
            Self::Lz4MiB1 => Compression::Lz4(Lz4BlockSize::MiB1),
            Self::Lz4MiB4 => Compression::Lz4(Lz4BlockSize::MiB4),
            Self::Flate => Compression::Deflate,
            Self::Zstd => Compression::Zstd,
        }
    }
}

impl fmt::Display for ChunkEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ChunkEncoding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut all = Self::ALL.into_iter();
        all.find(|e| e.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::as_str).join(", ");
                Error::InvalidInput(format!("chunk encoding {text:?}, must be one of {names}"))
            })
    }
}

impl From<ChunkEncoding> for String {
    fn from(encoding: ChunkEncoding) -> Self {
        encoding.as_str().to_owned()
    }
}

impl TryFrom<String> for ChunkEncoding {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_come_back() {
        for encoding in ChunkEncoding::ALL {
            assert_eq!(ChunkEncoding::from_byte(encoding.byte()), Some(encoding));
            let upper = encoding.as_str().to_uppercase();
            assert_eq!(upper.parse::<ChunkEncoding>().unwrap(), encoding);
        }
        assert_eq!(ChunkEncoding::from_byte(2), None);
        let error = "brotli".parse::<ChunkEncoding>().unwrap_err();
        assert!(error.to_string().contains("lz4-64k"), "{error}");
    }
}
