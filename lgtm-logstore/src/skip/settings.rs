//! Settings of side files.

use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How side files are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SkipSettings {
    /// The most that is written beside chunks, in percent of their size; 0: nothing. Default 12: UUIDs and hexadecimal ids take 7 to 8 bits each of
    /// the 64 to 128 that they take in a chunk, and words little more than that. Small chunks get more, out of what the large ones leave.
    pub max_size_percent: u32,
    /// Bytes of decompressed lines that are told apart: what a search for a rare text decompresses for each place where it stands, and for each
    /// that only looks so. Default 1MiB, four blocks: smaller groups repeat the same words too often.
    pub group_size: ByteSize,
    /// Whether lines and bytes are counted by minute and level. On (default): it costs less than 1 % of a chunk of usual size, and answers
    /// counts and rates without reading the chunk.
    pub counts: bool,
}

impl Default for SkipSettings {
    fn default() -> Self {
        Self {
            max_size_percent: 12,
            group_size: ByteSize::mib(1),
            counts: true,
        }
    }
}

impl SkipSettings {
    /// What a small chunk may have beside it where others leave it: a chunk that nothing is known of costs a query a request, however small
    /// it is.
    pub(crate) const SMALL_ROOM: usize = 2 << 10;

    /// The bytes that may stand beside a chunk of so many, if each has its own share.
    pub fn share_of(&self, chunk_bytes: usize) -> usize {
        (chunk_bytes as u128 * u128::from(self.max_size_percent) / 100) as usize
    }

    /// Whether a chunk of so many bytes has too small a share for filters of its own.
    pub(crate) fn is_small(&self, chunk_bytes: usize) -> bool {
        self.share_of(chunk_bytes) < Self::SMALL_ROOM
    }

    /// What a group may take at most: chunks are compressed to less than half.
    pub(super) fn group_room(&self) -> usize {
        let most = self.group_size.as_u64() as usize;
        (self.share_of(most) / 2).max(Self::SMALL_ROOM)
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// `InvalidInput` for more than 100 percent, groups of no size.
    pub fn validate(&self) -> Result<()> {
        if self.max_size_percent > 100 {
            return Err(Error::InvalidInput(format!(
                "max_size_percent = {}, must be at most 100",
                self.max_size_percent
            )));
        }
        if self.group_size.as_u64() == 0 {
            return Err(Error::InvalidInput(
                "group_size is 0, must be more".to_owned(),
            ));
        }
        Ok(())
    }
}
