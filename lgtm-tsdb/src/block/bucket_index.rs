//! `bucket-index.json.gz`: the blocks and marks of one tenant in one object, so that nobody lists the bucket (docs/format/block.md).

use std::collections::BTreeMap;
use std::io::{Read, Write};

use flate2::read::MultiGzDecoder;
use flate2::{Compression, GzBuilder};
use lgtm_core::go::json::{self, is_default, null_as_default};
use lgtm_core::model::TimestampMs;
use lgtm_core::{DecodeError, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::block::meta::BlockMeta;
use crate::block_id::BlockId;

const WHAT: &str = "bucket index";
/// The name in the gzip header.
const JSON_NAME: &str = "bucket-index.json";
/// Segments named `000001` and on without a gap.
const SEGMENTS_CONSECUTIVE: &str = "1b6d";

/// The bucket index of one tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BucketIndex {
    /// 2 for Mimir, 1 for Cortex.
    pub version: u32,
    /// All complete blocks, those marked for deletion too, in no particular order.
    #[serde(default, deserialize_with = "null_as_default")]
    pub blocks: Vec<BucketIndexBlock>,
    /// The marks.
    #[serde(default, deserialize_with = "null_as_default")]
    pub block_deletion_marks: Vec<BucketIndexDeletionMark>,
    /// Blocks that are not in `blocks` since their `meta.json` cannot be read, so that answers can say what they may lack. Ours only, others pass
    /// it over.
    #[serde(
        default,
        rename = "lgtm_unreadable_blocks",
        skip_serializing_if = "is_default",
        deserialize_with = "null_as_default"
    )]
    pub unreadable_blocks: Vec<UnreadableBlock>,
    /// When this was written, seconds since the epoch. Mimir refuses queries when it is older than an hour.
    #[serde(rename = "updated_at")]
    pub updated_at_s: i64,
    /// Members not known here.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// One block in a bucket index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BucketIndexBlock {
    /// The block.
    #[serde(rename = "block_id")]
    pub id: BlockId,
    /// Start of its time range, milliseconds, inclusive.
    #[serde(rename = "min_time")]
    pub min_ms: TimestampMs,
    /// End of its time range, milliseconds, exclusive.
    #[serde(rename = "max_time")]
    pub max_ms: TimestampMs,
    /// `1b6d` when the segments are numbered without a gap, else empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub segments_format: String,
    /// Number of segments; 0 is unknown.
    #[serde(default, rename = "segments_num", skip_serializing_if = "is_default")]
    pub segment_count: u64,
    /// Largest series entry; Cortex only, 0 is unknown.
    #[serde(
        default,
        rename = "series_max_size",
        skip_serializing_if = "is_default"
    )]
    pub series_max_size_bytes: i64,
    /// Largest chunk; Cortex only, 0 is unknown.
    #[serde(default, rename = "chunk_max_size", skip_serializing_if = "is_default")]
    pub chunk_max_size_bytes: i64,
    /// When `meta.json` was uploaded, seconds since the epoch.
    #[serde(rename = "uploaded_at")]
    pub uploaded_at_s: i64,
    /// `i_of_n` of a split block; Mimir only.
    #[serde(default, skip_serializing_if = "is_default")]
    pub compactor_shard_id: String,
    /// What wrote the block; Mimir only.
    #[serde(default, skip_serializing_if = "is_default")]
    pub source: String,
    /// Compaction level; Mimir only.
    #[serde(default, skip_serializing_if = "is_default")]
    pub compaction_level: u32,
    /// Whether all samples came out of order; Mimir only.
    #[serde(default, skip_serializing_if = "is_default")]
    pub out_of_order: bool,
    /// External labels; Mimir only.
    #[serde(
        default,
        skip_serializing_if = "is_default",
        deserialize_with = "null_as_default"
    )]
    pub labels: BTreeMap<String, String>,
    /// Members not known here.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// A block whose `meta.json` cannot be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnreadableBlock {
    /// The block.
    #[serde(rename = "block_id")]
    pub id: BlockId,
    /// Why, for people.
    pub reason: String,
}

/// One deletion mark in a bucket index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BucketIndexDeletionMark {
    /// The block.
    #[serde(rename = "block_id")]
    pub id: BlockId,
    /// When the mark was made, seconds since the epoch.
    #[serde(rename = "deletion_time")]
    pub deletion_time_s: i64,
    /// Members not known here.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl BucketIndexBlock {
    /// The entry of a block as Mimir writes it.
    pub fn from_meta(meta: &BlockMeta, uploaded_at_s: i64) -> Self {
        let mut entry = Self {
            id: meta.ulid,
            min_ms: meta.min_ms,
            max_ms: meta.max_ms,
            segments_format: String::new(),
            segment_count: 0,
            series_max_size_bytes: 0,
            chunk_max_size_bytes: 0,
            uploaded_at_s,
            compactor_shard_id: String::new(),
            source: String::new(),
            compaction_level: meta.compaction.level,
            out_of_order: meta.is_out_of_order(),
            labels: BTreeMap::new(),
            unknown: Map::new(),
        };
        if let Some(thanos) = &meta.thanos {
            let mut numbers = (1..).zip(&thanos.segment_files);
            if numbers.all(|(n, name)| *name == format!("{n:06}")) {
                entry.segment_count = thanos.segment_files.len() as u64;
            }
            if entry.segment_count > 0 {
                SEGMENTS_CONSECUTIVE.clone_into(&mut entry.segments_format);
            }
            meta.shard_id().clone_into(&mut entry.compactor_shard_id);
            entry.source.clone_from(&thanos.source);
            entry.labels.clone_from(&thanos.labels);
        }
        entry
    }
}

impl BucketIndex {
    /// Name of the object in the tenant's folder.
    pub const FILE_NAME: &str = "bucket-index.json.gz";
    /// The version that Mimir writes and demands.
    pub const VERSION: u32 = 2;

    /// Reads the compressed object.
    ///
    /// # Errors
    /// `Corrupt`; `LimitExceeded` when it decompresses to more than `max_json_bytes`.
    pub fn decode(place: &str, gzip: &[u8], max_json_bytes: u64) -> Result<Self> {
        let mut json = Vec::new();
        let mut decoder = MultiGzDecoder::new(gzip).take(max_json_bytes.saturating_add(1));
        decoder.read_to_end(&mut json).map_err(|e| {
            let error = DecodeError::new(WHAT, json.len() as u64, e.to_string());
            Error::corrupt(place, error)
        })?;
        if json.len() as u64 > max_json_bytes {
            return Err(Error::LimitExceeded(format!(
                "{place}: bucket index exceeds max_json_bytes = {max_json_bytes}"
            )));
        }
        Self::decode_json(&json).map_err(|e| Error::corrupt(place, e))
    }

    /// Reads the JSON inside.
    pub fn decode_json(bytes: &[u8]) -> Result<Self, DecodeError> {
        let index: Self = json::decode(WHAT, bytes)?;
        match index.version {
            1 | 2 => Ok(index),
            other => {
                let reason = format!("version {other} instead of 1 or 2");
                Err(DecodeError::new(WHAT, 0, reason))
            }
        }
    }

    /// The compressed object.
    ///
    /// # Errors
    /// `Internal` only.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let json = json::encode_compact(self)?;
        let mut gzip = GzBuilder::new()
            .filename(JSON_NAME)
            .write(Vec::new(), Compression::default());
        let written = gzip.write_all(&json).and_then(|()| gzip.finish());
        written.map_err(|e| Error::Internal(format!("cannot compress the bucket index: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decompresses_to_more_than_the_bound_is_refused() {
        let index = BucketIndex {
            version: 2,
            blocks: Vec::new(),
            block_deletion_marks: Vec::new(),
            unreadable_blocks: Vec::new(),
            updated_at_s: 1,
            unknown: Map::from_iter([("x".to_owned(), "y".repeat(1 << 20).into())]),
        };
        let gzip = index.encode().unwrap();
        assert!(gzip.len() < 1 << 14);
        assert_eq!(BucketIndex::decode("b", &gzip, 2 << 20).unwrap(), index);
        let error = BucketIndex::decode("b", &gzip, 1000).unwrap_err();
        assert!(error.to_string().contains("max_json_bytes = 1000"));
        for cut in 0..gzip.len() {
            assert!(
                BucketIndex::decode("b", &gzip[..cut], 2 << 20).is_err(),
                "{cut}"
            );
        }
    }
}
