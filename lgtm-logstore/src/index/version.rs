//! The versions of index files.

use lgtm_core::{Error, Result};

/// A version of the index format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IndexVersion {
    /// Chunks in one run.
    V2,
    /// Chunks in pages, which can be skipped by time.
    V3,
    /// Chunks tell when they were ingested.
    V4,
}

impl IndexVersion {
    /// The version with this number.
    ///
    /// # Errors
    /// `InvalidInput` for one that is not known.
    pub fn new(number: u8) -> Result<Self> {
        match number {
            2 => Ok(Self::V2),
            3 => Ok(Self::V3),
            4 => Ok(Self::V4),
            _ => {
                let message = format!("index version {number}, known are 2 to 4");
                Err(Error::InvalidInput(message))
            }
        }
    }

    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
            Self::V4 => 4,
        }
    }

    /// Whether chunks stand in pages.
    pub(super) fn has_pages(self) -> bool {
        self >= Self::V3
    }
}
