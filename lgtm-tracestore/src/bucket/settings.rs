//! How blocks are written, listed and read.

use std::time::Duration;

use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::bloom::BloomOptions;
use crate::schema::{BlockVersion, BlockWriterSettings};

/// How blocks are written, listed and read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BucketSettings {
    /// The format that blocks are written in: `vParquet4` (default: every Tempo of the last years reads it) or `vParquet5`.
    pub version: String,
    /// Estimated bytes at which a row group ends: about a byte a value. What is written of a row group is kept in memory until it ends. Smaller than
    /// Tempo's 100 MB: a search reads the row groups that it cannot rule out.
    pub row_group_size: ByteSize,
    /// Bytes of a page before compression, about. What a query for one trace reads of a column is a page. Tempo's default.
    pub page_size: ByteSize,
    /// Of how many ids that a block has not its bloom filter may say that it has them. Tempo's default.
    pub bloom_filter_false_positive: f64,
    /// Bytes of one shard of the bloom filter. Tempo's default.
    pub bloom_filter_shard_size: ByteSize,
    /// How often the list of a tenant's blocks is read again. Blocks of this process are on its list at once.
    #[serde(with = "lgtm_core::units::duration")]
    pub blocklist_poll: Duration,
    /// Bytes that a trace may take when it is read out of a block, and the columns of a row group that a query looks at. What is larger is not read.
    /// Bounds what a damaged or hostile block makes of few bytes.
    pub max_trace_memory: ByteSize,
    /// Row groups that a query reads ahead: their columns are fetched and decoded while those before them are evaluated. Each takes memory for the
    /// columns that the query needs.
    pub row_groups_ahead: usize,
    /// How far outside the range of a query blocks may lie that have other parts of its traces: a trace that spreads wider is looked at in parts. Default 1h,
    /// twice the time in which a block fills; more costs the bloom filters of more blocks a query.
    #[serde(with = "lgtm_core::units::duration")]
    pub trace_parts_window: Duration,
    /// Most bytes of the side file of a block, in percent of the block's data. It says which names and values a block has and where they surely are not;
    /// Tempo does not look at it. 0: none is written, and none is read.
    pub side_file_max_percent: f64,
    /// Bytes of side files that are kept in memory.
    pub side_file_cache: ByteSize,
    /// Bytes of decoded columns that are kept in memory for the next query over the same row groups; what was not used for longest goes first. Default 64 MiB: what
    /// a dashboard asks again and again of about a million spans. 0: every query decodes anew.
    pub column_cache: ByteSize,
}

impl Default for BucketSettings {
    fn default() -> Self {
        let bloom = BloomOptions::default();
        Self {
            version: BlockVersion::V4.as_str().to_owned(),
            row_group_size: ByteSize::bytes(20_000_000),
            page_size: ByteSize::kib(256),
            bloom_filter_false_positive: bloom.false_positive_rate,
            bloom_filter_shard_size: ByteSize::bytes(u64::from(bloom.shard_size_bytes)),
            blocklist_poll: Duration::from_secs(300),
            max_trace_memory: ByteSize::mib(256),
            row_groups_ahead: 4,
            trace_parts_window: Duration::from_secs(3600),
            side_file_max_percent: 4.0,
            side_file_cache: ByteSize::mib(64),
            column_cache: ByteSize::mib(64),
        }
    }
}

impl BucketSettings {
    /// Names every fault.
    ///
    /// # Errors
    /// `InvalidInput` listing the settings and the bounds they break.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        match BlockVersion::of_name(&self.version) {
            Ok(BlockVersion::V3) => {
                faults.push("version vParquet3 is only read".to_owned());
            }
            Ok(_) => {}
            Err(e) => faults.push(format!("version: {e}")),
        }
        let rate = self.bloom_filter_false_positive;
        if !(rate > 0.0 && rate < 1.0) {
            faults.push(format!(
                "bloom_filter_false_positive {rate} is not between 0 and 1"
            ));
        }
        for (name, size, least, most) in [
            ("row_group_size", self.row_group_size, 1 << 10, 1 << 30),
            ("page_size", self.page_size, 1 << 10, 64 << 20),
            (
                "bloom_filter_shard_size",
                self.bloom_filter_shard_size,
                16,
                16 << 20,
            ),
            ("max_trace_memory", self.max_trace_memory, 1 << 20, 1 << 40),
        ] {
            if !(least..=most).contains(&size.as_u64()) {
                faults.push(format!("{name} {size} is not between {least} and {most}"));
            }
        }
        let percent = self.side_file_max_percent;
        if !(0.0..=100.0).contains(&percent) {
            faults.push(format!(
                "side_file_max_percent {percent} is not between 0 and 100"
            ));
        }
        if !(1..=256).contains(&self.row_groups_ahead) {
            let n = self.row_groups_ahead;
            faults.push(format!("row_groups_ahead {n} is not between 1 and 256"));
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Error::InvalidInput(faults.join("; ")))
        }
    }

    pub(super) fn writer(&self) -> Result<BlockWriterSettings> {
        Ok(BlockWriterSettings {
            version: BlockVersion::of_name(&self.version)?,
            row_group_bytes: self.row_group_size.as_usize(),
            page_bytes: self.page_size.as_usize(),
            ..BlockWriterSettings::default()
        })
    }

    pub(super) fn bloom(&self) -> BloomOptions {
        BloomOptions {
            false_positive_rate: self.bloom_filter_false_positive,
            shard_size_bytes: u32::try_from(self.bloom_filter_shard_size.as_u64())
                .unwrap_or(u32::MAX),
        }
    }
}
