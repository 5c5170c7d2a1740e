//! `meta.json`: what a block is (docs/format/block.md).

use lgtm_core::go::json::{self, is_default};
use lgtm_core::model::TimestampNs;
use lgtm_core::{DecodeError, Result};
use serde::{Deserialize, Serialize};

use crate::block::time;
use crate::block_id::BlockId;
use crate::trace::DedicatedColumns;

/// The content of `meta.json`, and of `meta.compacted.json`. Members that are not known are left out when it is written again; Tempo does so too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockMeta {
    /// The format of the data: `vParquet3`, `vParquet4`, `vParquet5`, or one that a later version knows.
    pub format: String,
    /// The block's id, also the name of its folder.
    #[serde(rename = "blockID")]
    pub block_id: BlockId,
    /// The tenant, also the name of the folder above.
    #[serde(rename = "tenantID")]
    pub tenant_id: String,
    /// A whole second that no span starts before.
    #[serde(rename = "startTime", with = "time")]
    pub start: TimestampNs,
    /// A whole second that no span ends after. Queries choose blocks by both, so that they must be true.
    #[serde(rename = "endTime", with = "time")]
    pub end: TimestampNs,
    /// Traces in the block.
    #[serde(rename = "totalObjects", default)]
    pub trace_count: u64,
    /// Bytes of `data.parquet`, exactly: readers look for its end there.
    #[serde(rename = "size", default)]
    pub size_bytes: u64,
    /// 0 for blocks cut from a head, else one more than the highest input.
    #[serde(rename = "compactionLevel", default)]
    pub compaction_level: u32,
    /// Of formats before Parquet; 0.
    #[serde(rename = "indexPageSize", default)]
    pub index_page_size: u32,
    /// Row groups of the data. A block with 0 is never searched by Tempo.
    #[serde(rename = "totalRecords", default)]
    pub row_group_count: u32,
    /// Bloom filters; 0 stands for 10.
    #[serde(rename = "bloomShards", default)]
    pub bloom_shards: u32,
    /// Bytes of the footer of `data.parquet`, as it says itself eight bytes before its end.
    #[serde(rename = "footerSize", default)]
    pub footer_size_bytes: u32,
    /// Attributes that have columns of their own in the data.
    #[serde(
        rename = "dedicatedColumns",
        default,
        skip_serializing_if = "DedicatedColumns::is_empty"
    )]
    pub dedicated_columns: DedicatedColumns,
    /// 1 when each span is in one block only, 0 when replicas of it are in others. Tempo's metrics queries want 1.
    #[serde(
        rename = "replicationFactor",
        default,
        skip_serializing_if = "is_default"
    )]
    pub replication_factor: u32,
}

/// A block that is superseded or too old, and will be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactedBlockMeta {
    /// What it is.
    #[serde(flatten)]
    pub meta: BlockMeta,
    /// Since when.
    #[serde(rename = "compactedTime", with = "time")]
    pub compacted: TimestampNs,
}

impl BlockMeta {
    /// Reads `meta.json` or `meta.compacted.json`.
    ///
    /// # Errors
    /// For what is no such JSON; the message names the member.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let meta: Self = json::decode("trace block meta", bytes)?;
        meta.check()
            .map_err(|reason| DecodeError::new("trace block meta", 0, reason))?;
        Ok(meta)
    }

    /// Names what cannot be.
    fn check(&self) -> Result<(), String> {
        let Self {
            size_bytes: size,
            footer_size_bytes: footer,
            ..
        } = self;
        if self.format.is_empty() {
            return Err("format is empty".into());
        }
        if self.tenant_id.is_empty() {
            return Err("tenantID is empty".into());
        }
        if u64::from(*footer) > *size {
            return Err(format!("footerSize {footer} is above size {size}"));
        }
        if self.start > self.end {
            return Err("startTime lies behind endTime".into());
        }
        Ok(())
    }

    /// Writes it, byte for byte as Tempo does.
    ///
    /// # Errors
    /// `Internal` if JSON cannot be made of it, which does not happen.
    pub fn encode(&self) -> Result<Vec<u8>> {
        json::encode_compact(self)
    }

    /// Whether a span may lie in the block that touches the range from `from` to `to`, both inclusive.
    pub fn overlaps(&self, from: TimestampNs, to: TimestampNs) -> bool {
        self.start <= to && from <= self.end
    }
}

/// The range of a block with spans from `start` to `end`, in whole seconds, as its meta has it.
pub fn block_range(start: TimestampNs, end: TimestampNs) -> (TimestampNs, TimestampNs) {
    const SECOND: i64 = 1_000_000_000;
    let down = |t: i64| t - t.rem_euclid(SECOND);
    let up = down(end.get().saturating_add(SECOND - 1));
    (
        TimestampNs::new(down(start.get().max(i64::MIN + SECOND))),
        TimestampNs::new(up),
    )
}
