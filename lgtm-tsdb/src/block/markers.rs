//! Marks beside blocks: small JSON objects that say what is to happen to a block or a tenant (docs/format/block.md).
//!
//! Mimir and Cortex look for them under `markers/` only; every mark is written there first and then into the block's folder.

use lgtm_core::go::json::{self, is_default};
use lgtm_core::{DecodeError, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::block_id::BlockId;

/// The block is to be deleted some hours after `deletion_time_s`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeletionMark {
    /// The block.
    pub id: BlockId,
    /// Version of the mark: 1.
    pub version: u32,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "is_default")]
    pub details: String,
    /// When the mark was made, seconds since the epoch.
    #[serde(rename = "deletion_time")]
    pub deletion_time_s: i64,
    /// Members not known here.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// The block is not to be compacted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoCompactMark {
    /// The block.
    pub id: BlockId,
    /// Version of the mark: 1.
    pub version: u32,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "is_default")]
    pub details: String,
    /// When the mark was made, seconds since the epoch.
    #[serde(rename = "no_compact_time")]
    pub no_compact_time_s: i64,
    /// Why, for programs: `manual`, `index-size-exceeding`, `block-index-out-of-order-chunk`, `critical`, ...
    pub reason: String,
    /// Members not known here.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// All blocks of the tenant are to be deleted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TenantDeletionMark {
    /// When the deletion was asked for, seconds since the epoch.
    #[serde(rename = "deletion_time")]
    pub deletion_time_s: i64,
    /// When the last block was gone, seconds since the epoch; 0 while it is not.
    #[serde(default, rename = "finished_time", skip_serializing_if = "is_default")]
    pub finished_time_s: i64,
    /// Members not known here.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl DeletionMark {
    /// Name of the mark in the block's folder; under `markers/` it is `<block>-deletion-mark.json`.
    pub const FILE_NAME: &str = "deletion-mark.json";

    /// A mark made at `deletion_time_s`.
    pub fn new(id: BlockId, deletion_time_s: i64, details: impl Into<String>) -> Self {
        Self {
            id,
            version: 1,
            details: details.into(),
            deletion_time_s,
            unknown: Map::new(),
        }
    }

    /// Reads a mark and checks its version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mark: Self = json::decode(Self::FILE_NAME, bytes)?;
        check_version(Self::FILE_NAME, mark.version)?;
        Ok(mark)
    }

    /// The mark as JSON.
    ///
    /// # Errors
    /// `Internal` only.
    pub fn encode(&self) -> Result<Vec<u8>> {
        json::encode_compact(self)
    }
}

impl NoCompactMark {
    /// Name of the mark in the block's folder; under `markers/` it is `<block>-no-compact-mark.json`.
    pub const FILE_NAME: &str = "no-compact-mark.json";

    /// A mark made at `no_compact_time_s`.
    pub fn new(id: BlockId, no_compact_time_s: i64, reason: impl Into<String>) -> Self {
        Self {
            id,
            version: 1,
            details: String::new(),
            no_compact_time_s,
            reason: reason.into(),
            unknown: Map::new(),
        }
    }

    /// Reads a mark and checks its version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mark: Self = json::decode(Self::FILE_NAME, bytes)?;
        check_version(Self::FILE_NAME, mark.version)?;
        Ok(mark)
    }

    /// The mark as JSON.
    ///
    /// # Errors
    /// `Internal` only.
    pub fn encode(&self) -> Result<Vec<u8>> {
        json::encode_compact(self)
    }
}

impl TenantDeletionMark {
    /// Name of the mark under the tenant's `markers/`.
    pub const FILE_NAME: &str = "tenant-deletion-mark.json";

    /// A mark made at `deletion_time_s`.
    pub fn new(deletion_time_s: i64) -> Self {
        Self {
            deletion_time_s,
            finished_time_s: 0,
            unknown: Map::new(),
        }
    }

    /// Reads a mark.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        json::decode(Self::FILE_NAME, bytes)
    }

    /// The mark as JSON.
    ///
    /// # Errors
    /// `Internal` only.
    pub fn encode(&self) -> Result<Vec<u8>> {
        json::encode_compact(self)
    }
}

fn check_version(what: &'static str, version: u32) -> Result<(), DecodeError> {
    match version {
        1 => Ok(()),
        _ => Err(DecodeError::new(
            what,
            0,
            format!("version {version} instead of 1"),
        )),
    }
}
