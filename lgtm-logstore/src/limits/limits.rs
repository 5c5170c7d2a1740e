//! Per-tenant limits of the log store.
//!
//! Names and structural defaults are Loki's. Rates and streams are unlimited per tenant by default and bounded by the instance's memory
//! settings instead. Zero means "no limit" everywhere.

use std::time::Duration;

use lgtm_core::go::parse_rfc3339_ns;
use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::deletion_mode::DeletionMode;
use super::retention::StreamRetention;
use crate::wire::{LevelRules, LineCut, OtlpRules, PushOptions};

/// What one tenant may do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Megabytes (1024²) of lines and metadata a second that a tenant may send. 0 (default): unlimited, the instance's memory is the bound.
    pub ingestion_rate_mb: f64,
    /// Megabytes that may come at once, where there is a rate; never less than one push. Loki's default.
    pub ingestion_burst_size_mb: f64,
    /// Bytes a second that one stream may get. 0 (default): unlimited. Loki has 3MB, since one stream burdens one of its ingesters; here a stream
    /// costs what its bytes cost.
    pub per_stream_rate_limit: ByteSize,
    /// Bytes that one stream may get at once, where there is a rate. Loki's default.
    pub per_stream_rate_limit_burst: ByteSize,
    /// Streams of a tenant in memory, of all ingesters together. 0 (default): unlimited, `head.max_streams` is the bound.
    pub max_global_streams_per_user: u64,
    /// Ingesters that take a tenant's streams, where there are several. 0 (default): all of them.
    pub ingestion_tenant_shard_size: u64,
    /// Bytes of a line. Loki's default; 0: any that the log can take at once.
    pub max_line_size: ByteSize,
    /// Whether longer lines are cut instead of refused. Off (default), as in Loki.
    pub max_line_size_truncate: bool,
    /// What stands at the end of a line that was cut, within its size. Nothing by default.
    pub max_line_size_truncate_identifier: String,
    /// Labels of a stream; an added `service_name` is not counted. Loki's default.
    pub max_label_names_per_series: usize,
    /// Bytes of a label name. Loki's default.
    pub max_label_name_length: usize,
    /// Bytes of a label value. Loki's default.
    pub max_label_value_length: usize,
    /// Whether entries older than `reject_old_samples_max_age` are refused. Off (default; on in Loki): old data is welcome.
    pub reject_old_samples: bool,
    /// How old entries may be where that is asked. Loki's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub reject_old_samples_max_age: Duration,
    /// How far entries may lie in the future. Loki's default: clocks of senders are off by minutes, not more.
    #[serde(with = "lgtm_core::units::duration")]
    pub creation_grace_period: Duration,
    /// Whether entries that lie too far behind the newest of their stream go into a chunk of their own instead of being refused. Off
    /// (default), as they are refused by Loki: such chunks are small.
    pub accept_late_entries: bool,
    /// Whether structured metadata are taken. On (default), as in Loki.
    pub allow_structured_metadata: bool,
    /// Bytes of an entry's structured metadata. Loki's default; 0: any.
    pub max_structured_metadata_size: ByteSize,
    /// Pairs of an entry's structured metadata. Loki's default; 0: any.
    pub max_structured_metadata_entries_count: u32,
    /// Labels that `service_name` is taken from where a stream has none: the first that is there. Loki's list; empty: nothing is added.
    pub discover_service_name: ServiceNameSources,
    /// Whether each entry gets its level as structured metadata `detected_level`. On (default), as in Loki.
    pub discover_log_levels: bool,
    /// Names of labels, metadata and fields of lines that tell the level; the first ones count more. Loki's list.
    pub log_level_fields: Vec<String>,
    /// Objects of a JSON line that are searched for a level; 1 is the outermost only. Loki's default.
    pub log_level_from_json_max_depth: usize,
    /// Whether an entry with the time of the one before it in its push, and another line, moves a nanosecond on. Off (default), as in Loki.
    pub increment_duplicate_timestamp: bool,
    /// What becomes of OTLP attributes.
    pub otlp_config: OtlpRules,
    /// Labels that every stream must have. None (default).
    pub enforced_labels: Vec<String>,
    /// Time (RFC 3339) until which pushes are refused. None (default).
    pub block_ingestion_until: Option<String>,
    /// The HTTP status of pushes refused so. Loki's default; 200: they are dropped without an error.
    pub block_ingestion_status_code: u16,
    /// Time between start and end of a query. Loki's default; 0: unlimited.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_query_length: Duration,
    /// Longest range of a metric query, the time in brackets. 0 (default): unlimited.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_query_range: Duration,
    /// How far back queries see; their start is moved up without a word. 0 (default): unlimited.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_query_lookback: Duration,
    /// Series of a metric query's answer. Loki's default.
    pub max_query_series: u64,
    /// Lines that a query may ask for. Loki's default.
    pub max_entries_limit_per_query: u64,
    /// Matchers of a stream selector. Loki's default.
    pub max_streams_matchers_per_query: u64,
    /// Chunks that a query may read of one holder. Loki's default; 0: unlimited.
    pub max_chunks_per_query: u64,
    /// Bytes that a query may read, as the index estimates them. 0 (default): unlimited.
    pub max_query_bytes_read: ByteSize,
    /// Labels that each stream selector must name. None (default).
    pub required_labels: Vec<String>,
    /// Label matchers that each stream selector must have. 0 (default): any number.
    pub minimum_labels_number: u64,
    /// Parts of one query that run at a time. Loki's default with its TSDB index.
    pub tsdb_max_query_parallelism: usize,
    /// Length of the parts that queries are cut into. Loki's default; 0: they are not cut.
    #[serde(with = "lgtm_core::units::duration")]
    pub split_queries_by_interval: Duration,
    /// Answers to times younger than this are not kept in the results cache, since lines may still come. Loki's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_cache_freshness_per_query: Duration,
    /// How long a query may take. Loki's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub query_timeout: Duration,
    /// Queries that a tenant may follow at a time. Loki's default; 0: any number.
    pub max_concurrent_tail_requests: usize,
    /// What becomes of the tenant's delete requests: disabled, filter-only or filter-and-delete. Loki's default, the last one.
    pub deletion_mode: DeletionMode,
    /// How long entries are kept. 0 (default): for ever, as a Loki without retention does. What is older is in no answer from then on, to the hour (or
    /// a 24th of the period where that is less); its chunks leave the index with the next rounds of compaction, and the store after the compactor's
    /// `deletion_delay`.
    #[serde(with = "lgtm_core::units::duration")]
    pub retention_period: Duration,
    /// How long entries of some streams are kept, in the place of `retention_period`: a list of `selector`, `priority` (0) and `period` (0: for ever).
    /// Of several that match, the highest priority counts, then the one with the most matchers, then the shortest. None (default).
    pub retention_stream: Vec<StreamRetention>,
    /// Whether the volume of streams can be asked for. On (default), as in Loki.
    pub volume_enabled: bool,
    /// Entries of an answer about volumes. Loki's default.
    pub volume_max_series: usize,
}

/// Labels in the order in which they are looked at.
pub type ServiceNameSources = Vec<String>;

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|t| (*t).to_owned()).collect()
}

impl Default for Limits {
    fn default() -> Self {
        const HOUR: u64 = 3600;
        Self {
            ingestion_rate_mb: 0.0,
            ingestion_burst_size_mb: 6.0,
            per_stream_rate_limit: ByteSize::bytes(0),
            per_stream_rate_limit_burst: ByteSize::mib(15),
            max_global_streams_per_user: 0,
            ingestion_tenant_shard_size: 0,
            max_line_size: ByteSize::kib(256),
            max_line_size_truncate: false,
            max_line_size_truncate_identifier: String::new(),
            max_label_names_per_series: 15,
            max_label_name_length: 1024,
            max_label_value_length: 2048,
            reject_old_samples: false,
            reject_old_samples_max_age: Duration::from_secs(7 * 24 * HOUR),
            creation_grace_period: Duration::from_secs(600),
            accept_late_entries: false,
            allow_structured_metadata: true,
            max_structured_metadata_size: ByteSize::kib(64),
            max_structured_metadata_entries_count: 128,
            discover_service_name: texts(&[
                "service",
                "app",
                "application",
                "app_name",
                "name",
                "app_kubernetes_io_name",
                "container",
                "container_name",
                "k8s_container_name",
                "component",
                "workload",
                "job",
                "k8s_job_name",
            ]),
            discover_log_levels: true,
            log_level_fields: texts(&[
                "level",
                "LEVEL",
                "Level",
                "log.level",
                "severity",
                "SEVERITY",
                "Severity",
                "SeverityText",
                "lvl",
                "LVL",
                "Lvl",
                "severity_text",
                "Severity_Text",
                "SEVERITY_TEXT",
            ]),
            log_level_from_json_max_depth: 2,
            increment_duplicate_timestamp: false,
            otlp_config: OtlpRules::default(),
            enforced_labels: Vec::new(),
            block_ingestion_until: None,
            block_ingestion_status_code: 260,
            max_query_length: Duration::from_secs(721 * HOUR),
            max_query_range: Duration::ZERO,
            max_query_lookback: Duration::ZERO,
            max_query_series: 500,
            max_entries_limit_per_query: 5000,
            max_streams_matchers_per_query: 1000,
            max_chunks_per_query: 2_000_000,
            max_query_bytes_read: ByteSize::bytes(0),
            required_labels: Vec::new(),
            minimum_labels_number: 0,
            tsdb_max_query_parallelism: 128,
            split_queries_by_interval: Duration::from_secs(HOUR),
            max_cache_freshness_per_query: Duration::from_secs(600),
            query_timeout: Duration::from_secs(60),
            max_concurrent_tail_requests: 10,
            deletion_mode: DeletionMode::default(),
            retention_period: Duration::ZERO,
            retention_stream: Vec::new(),
            volume_enabled: true,
            volume_max_series: 1000,
        }
    }
}

impl Limits {
    /// Names every fault.
    ///
    /// # Errors
    /// `InvalidInput` listing the settings and the bounds they break.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        for (name, rate) in [
            ("ingestion_rate_mb", self.ingestion_rate_mb),
            ("ingestion_burst_size_mb", self.ingestion_burst_size_mb),
        ] {
            if !(rate >= 0.0 && rate.is_finite()) {
                faults.push(format!("{name} {rate} is not a number from 0 on"));
            }
        }
        let identifier = self.max_line_size_truncate_identifier.len();
        let line = self.max_line_size.as_usize();
        if self.max_line_size_truncate && line > 0 && identifier > line {
            faults.push(format!(
                "max_line_size_truncate_identifier has {identifier} bytes, max_line_size is {line}"
            ));
        }
        if let Some(until) = &self.block_ingestion_until
            && parse_rfc3339_ns(until).is_none()
        {
            faults.push(format!(
                "block_ingestion_until {until:?} is no RFC 3339 time"
            ));
        }
        let status = self.block_ingestion_status_code;
        if !(200..=599).contains(&status) {
            faults.push(format!(
                "block_ingestion_status_code {status} is not between 200 and 599"
            ));
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Error::InvalidInput(faults.join("; ")))
        }
    }

    /// How the tenant's pushes are read.
    pub fn push_options(&self) -> PushOptions<'_> {
        let max_bytes = self.max_line_size.as_usize();
        let cuts = self.max_line_size_truncate && max_bytes > 0;
        PushOptions {
            discover_service_name: &self.discover_service_name,
            levels: LevelRules {
                is_on: self.discover_log_levels,
                fields: &self.log_level_fields,
                json_max_depth: self.log_level_from_json_max_depth,
            },
            truncate_lines: cuts.then_some(LineCut {
                max_bytes,
                identifier: &self.max_line_size_truncate_identifier,
            }),
            increment_duplicate_timestamps: self.increment_duplicate_timestamp,
            backfill_shard: None,
            otlp: &self.otlp_config,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_faults_are_all_named() {
        Limits::default().validate().unwrap();
        let bad = Limits {
            ingestion_rate_mb: f64::NAN,
            max_line_size: ByteSize::bytes(3),
            max_line_size_truncate: true,
            max_line_size_truncate_identifier: "[cut]".into(),
            block_ingestion_until: Some("tomorrow".into()),
            block_ingestion_status_code: 7,
            ..Limits::default()
        };
        let text = bad.validate().unwrap_err().to_string();
        for name in [
            "ingestion_rate_mb NaN",
            "has 5 bytes, max_line_size is 3",
            "\"tomorrow\"",
            "status_code 7",
        ] {
            assert!(text.contains(name), "{text}");
        }
    }
}
