//! The versions of the chunk format.

use lgtm_core::{Error, Result};

/// A version of the chunk format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChunkFormat {
    /// Always gzip.
    V1,
    /// The encoding stands in the header.
    V2,
    /// The block table tells uncompressed sizes.
    V3,
    /// Entries may bear structured metadata.
    V4,
}

impl ChunkFormat {
    /// The format with this number.
    ///
    /// # Errors
    /// `InvalidInput` for one that is not known.
    pub fn new(version: u8) -> Result<Self> {
        Ok(match version {
            1 => Self::V1,
            2 => Self::V2,
            3 => Self::V3,
            4 => Self::V4,
            _ => {
                let message = format!("chunk version {version}, known are 1 to 4");
                return Err(Error::InvalidInput(message));
            }
        })
    }

    /// Its number.
    pub fn version(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
            Self::V3 => 3,
            Self::V4 => 4,
        }
    }

    /// Whether entries may bear structured metadata.
    pub fn has_metadata(self) -> bool {
        self == Self::V4
    }

    /// Bytes of a chunk's header.
    pub fn header_len(self) -> usize {
        match self {
            Self::V1 => 5,
            Self::V2 | Self::V3 | Self::V4 => 6,
        }
    }

    /// Bytes of the offsets at a chunk's end.
    pub fn trailer_len(self) -> usize {
        match self {
            Self::V1 | Self::V2 | Self::V3 => 8,
            Self::V4 => 32,
        }
    }

    /// Whether the block table tells uncompressed sizes.
    pub(super) fn has_uncompressed_sizes(self) -> bool {
        self >= Self::V3
    }
}
