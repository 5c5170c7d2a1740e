//! Per-tenant limits of the trace store.
//!
//! Groups, names and structural defaults are those of Tempo's overrides. Rates and live traces are unlimited per tenant by default and bounded by
//! the instance's memory settings instead. Zero means "no limit" everywhere.

use std::time::Duration;

use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::trace::DedicatedColumns;
use crate::wire::PushOptions;

/// What one tenant may do.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// What it may send.
    pub ingestion: IngestionLimits,
    /// What it may ask for.
    pub read: ReadLimits,
    /// How its blocks are joined, and how long they are kept.
    pub compaction: CompactionLimits,
    /// What holds for sending and asking.
    pub global: GlobalLimits,
    /// How its blocks are written.
    pub storage: StorageLimits,
}

/// What a tenant may send.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestionLimits {
    /// Bytes of requests, as protobuf, that a tenant may send a second. 0 (default): unlimited, the instance's memory is the bound. Tempo has 30MB.
    pub rate_limit_bytes: ByteSize,
    /// Bytes that may come at once, where there is a rate. Tempo's default. A request that is larger is never taken.
    pub burst_size_bytes: ByteSize,
    /// Traces of a tenant in memory. 0 (default): unlimited, the head's memory is the bound. Tempo has 10,000.
    pub max_traces_per_user: u64,
    /// Bytes of a key or a text of an attribute; longer ones are cut between characters, in lists and maps too. Tempo's default; 0: any.
    pub max_attribute_bytes: ByteSize,
    /// Whether a sender that is refused for its rate is told when to send again. On (default), as in Tempo: without it clients drop the spans.
    pub retry_info_enabled: bool,
    /// Ingesters that a tenant's traces go to. 0 (default): all.
    pub tenant_shard_size: u32,
}

/// What a tenant may ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadLimits {
    /// Bytes of an answer with names or values of attributes; more are left out. Tempo's default.
    pub max_bytes_per_tag_values_query: ByteSize,
    /// Blocks that such an answer looks into. 0 (default): all.
    pub max_blocks_per_tag_values_query: u64,
    /// Time between start and end of a search. Tempo's default; 0: unlimited.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_search_duration: Duration,
    /// Time between start and end of a metrics query. Tempo's default; 0: unlimited.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_metrics_duration: Duration,
    /// Whether answers to searches print trace ids with 32 digits. Off (default), as in Tempo: without leading zeros.
    pub left_pad_trace_ids: bool,
    /// Whether hints that change how a query is run are followed. Off (default), as in Tempo.
    pub unsafe_query_hints: bool,
}

/// How a tenant's blocks are joined, and how long they are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompactionLimits {
    /// Age at which blocks are deleted. Tempo's default; 0: never.
    #[serde(with = "lgtm_core::units::duration")]
    pub block_retention: Duration,
    /// Length of the windows of time whose blocks are joined. Tempo's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub compaction_window: Duration,
    /// Whether neither compaction nor retention touches the tenant's blocks. Off (default).
    pub compaction_disabled: bool,
}

/// What holds for sending and asking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GlobalLimits {
    /// Bytes of a trace, as protobuf: spans beyond it are refused, and left out of answers. Tempo's default; 0: unlimited.
    pub max_bytes_per_trace: ByteSize,
}

/// How a tenant's blocks are written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageLimits {
    /// Attributes that get a column of their own, so that looking for them reads little else: at most 10 texts of resources and of spans in vParquet4.
    /// Tempo's list.
    pub parquet_dedicated_columns: DedicatedColumns,
}

impl Default for IngestionLimits {
    fn default() -> Self {
        Self {
            rate_limit_bytes: ByteSize::bytes(0),
            burst_size_bytes: ByteSize::bytes(30_000_000),
            max_traces_per_user: 0,
            max_attribute_bytes: ByteSize::bytes(2048),
            retry_info_enabled: true,
            tenant_shard_size: 0,
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            max_bytes_per_tag_values_query: ByteSize::bytes(1_000_000),
            max_blocks_per_tag_values_query: 0,
            max_search_duration: 168 * HOUR,
            max_metrics_duration: 24 * HOUR,
            left_pad_trace_ids: false,
            unsafe_query_hints: false,
        }
    }
}

impl Default for CompactionLimits {
    fn default() -> Self {
        Self {
            block_retention: 336 * HOUR,
            compaction_window: HOUR,
            compaction_disabled: false,
        }
    }
}

impl Default for GlobalLimits {
    fn default() -> Self {
        Self {
            max_bytes_per_trace: ByteSize::bytes(5_000_000),
        }
    }
}

impl Default for StorageLimits {
    fn default() -> Self {
        Self {
            parquet_dedicated_columns: DedicatedColumns::standard(),
        }
    }
}

impl Limits {
    /// Names every fault.
    ///
    /// # Errors
    /// `InvalidInput` listing the settings and the bounds they break.
    pub fn validate(&self) -> Result<()> {
        const LONGEST_WINDOW: Duration = Duration::from_secs(366 * 24 * 3600);
        let mut faults = Vec::new();
        let window = self.compaction.compaction_window;
        if window < Duration::from_secs(1) || window > LONGEST_WINDOW {
            faults.push(format!(
                "compaction.compaction_window {window:?} is not between 1s and 366 days"
            ));
        }
        let attribute = self.ingestion.max_attribute_bytes.as_u64();
        if (1..4).contains(&attribute) {
            faults.push(format!(
                "ingestion.max_attribute_bytes {attribute} has no room for a character, which takes up to 4 bytes"
            ));
        }
        if self.ingestion.rate_limit_bytes.as_u64() > 0
            && self.ingestion.burst_size_bytes.as_u64() == 0
        {
            faults.push("ingestion.burst_size_bytes is 0, so that nothing passes the rate".into());
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Error::InvalidInput(faults.join("; ")))
        }
    }

    /// How the tenant's requests are read.
    pub fn push_options(&self) -> PushOptions {
        PushOptions {
            max_attribute_bytes: self.ingestion.max_attribute_bytes.as_usize(),
        }
    }

    /// Most bytes of a trace; `usize::MAX` for any.
    pub fn max_trace_bytes(&self) -> usize {
        match self.global.max_bytes_per_trace.as_usize() {
            0 => usize::MAX,
            max => max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_faults_are_all_named() {
        Limits::default().validate().unwrap();
        let mut bad = Limits::default();
        bad.compaction.compaction_window = Duration::ZERO;
        bad.ingestion.max_attribute_bytes = ByteSize::bytes(3);
        bad.ingestion.rate_limit_bytes = ByteSize::bytes(1);
        bad.ingestion.burst_size_bytes = ByteSize::bytes(0);
        let text = bad.validate().unwrap_err().to_string();
        for name in [
            "compaction_window 0ns",
            "max_attribute_bytes 3",
            "burst_size_bytes is 0",
        ] {
            assert!(text.contains(name), "{text}");
        }
        assert_eq!(Limits::default().push_options(), PushOptions::default());
    }

    #[test]
    fn overrides_are_written_in_groups_as_tempos_are() {
        let json = r#"{"ingestion":{"rate_limit_bytes":15000000},"global":{"max_bytes_per_trace":0},
            "compaction":{"block_retention":"48h"},"storage":{"parquet_dedicated_columns":[{"n":"a"}]}}"#;
        let limits: Limits = serde_json::from_str(json).unwrap();
        assert_eq!(limits.ingestion.rate_limit_bytes.as_u64(), 15_000_000);
        assert_eq!(limits.compaction.block_retention, 48 * HOUR);
        assert_eq!(limits.max_trace_bytes(), usize::MAX);
        assert_eq!(limits.storage.parquet_dedicated_columns.as_slice().len(), 1);
        assert_eq!(limits.read, ReadLimits::default());
        let again = serde_json::to_string(&limits).unwrap();
        assert_eq!(serde_json::from_str::<Limits>(&again).unwrap(), limits);
        let unknown = r#"{"ingestion":{"rate":1}}"#;
        assert!(serde_json::from_str::<Limits>(unknown).is_err());
    }
}
