//! Per-tenant limits of the metrics store.
//!
//! Names and structural defaults are Mimir's. Rates, series and exemplars are unlimited per tenant by default and bounded by
//! the instance's memory settings instead. Zero means "no limit" where a limit does not say otherwise.

use std::time::Duration;

use lgtm_core::model::{Labels, METRIC_NAME};
use serde::{Deserialize, Serialize};

use crate::wire::{
    DecodeRules, LabelBounds, LabelFault, OtlpOptions, TranslationStrategy, shortened,
};

/// What one tenant may do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Samples a second that a tenant may send. 0 (default): unlimited, the instance's memory is the bound.
    pub ingestion_rate: f64,
    /// Samples that may come at once; never less than one request of a sender (Prometheus sends 2,000 by default).
    pub ingestion_burst_size: u64,
    /// Ingesters of a ring that take a tenant's series, so that one tenant reaches some of them only; at least as many as take each series.
    /// 0 (default): all.
    pub ingestion_tenant_shard_size: u64,
    /// Active series of a tenant. 0 (default): unlimited, the instance's memory is the bound.
    pub max_global_series_per_user: u64,
    /// Active series of one metric name. 0 (default): unlimited.
    pub max_global_series_per_metric: u64,
    /// Exemplars kept per tenant. 0: none. The default holds an hour of one exemplar a second for a small service.
    pub max_global_exemplars_per_user: u64,
    /// Metric names with metadata per tenant. 0: unlimited.
    pub max_global_metadata_per_user: u64,
    /// Memory of a tenant's metadata, in bytes; what would exceed it is not kept. The default has room for 300,000 metric names with
    /// texts of usual length, or 60,000 with the longest. 0: unlimited.
    pub max_metadata_bytes_per_user: u64,
    /// Bytes of a label name. Mimir's default.
    pub max_label_name_length: usize,
    /// Bytes of a label value. Mimir's default.
    pub max_label_value_length: usize,
    /// Labels of a series, the metric name included. Mimir's default.
    pub max_label_names_per_series: usize,
    /// Bytes of a help text, unit or metric name in metadata: a longer help is cut, metadata with a longer name or unit is refused, as in
    /// Mimir. Mimir's default. 0: any.
    pub max_metadata_length: usize,
    /// Buckets of one native histogram. 0 (default): unlimited.
    pub max_native_histogram_buckets: usize,
    /// How far a sample may lie in the future. Mimir's default: clocks of senders are off by minutes, not more.
    #[serde(with = "lgtm_core::units::duration")]
    pub creation_grace_period: Duration,
    /// How far a sample may lie in the past. 0 (default): as far as the head takes it.
    #[serde(with = "lgtm_core::units::duration")]
    pub past_grace_period: Duration,
    /// How long after newer samples an older one is still taken. 0 (default): not at all.
    #[serde(with = "lgtm_core::units::duration")]
    pub out_of_order_time_window: Duration,
    /// Whether native histograms are taken.
    pub native_histograms_ingestion_enabled: bool,
    /// Whether a float or histogram whose sender says since when it counts begins with a zero at that time, when the series has
    /// nothing newer. Off (default): start times are not looked at.
    pub created_timestamp_zero_ingestion_enabled: bool,
    /// Whether samples keep the start (created) timestamps that remote write 2.0 and OTLP send with them, as in Prometheus with its
    /// feature `st-storage`: blocks of such series are read by Prometheus 3.11 (floats) and 3.14 (histograms) and later only, not by
    /// Mimir, Thanos or Cortex. Such series go into chunks of the experimental encodings 4 (read by Prometheus 3.11 and later)
    /// and 5 and 6 (3.14 and later): every other reader of the blocks, Mimir, Thanos, Cortex and older Prometheus, fails on them. Off
    /// (default), as there: starts are dropped and blocks are read by all. May be switched at any time; what is stored stays as it is.
    pub st_storage_enabled: bool,
    /// How OTLP names are translated: `UnderscoreEscapingWithSuffixes`, `UnderscoreEscapingWithoutSuffixes`, `NoUTF8EscapingWithSuffixes` or
    /// `NoTranslation`. Prometheus' default.
    pub otel_translation_strategy: TranslationStrategy,
    /// OTLP resource attributes that become labels of every series. None (default): they are in `target_info` only.
    pub promote_otel_resource_attributes: Vec<String>,
    /// Whether name, version, schema URL and attributes of an OTLP scope become labels. Off (default), as in Prometheus.
    pub otel_promote_scope_metadata: bool,
    /// Whether `target_info` has `service.name`, `service.namespace` and `service.instance.id` beside `job` and `instance`.
    pub otel_keep_identifying_resource_attributes: bool,
    /// Whether OTLP histograms with explicit bounds become native histograms with custom buckets. Off (default): classic ones.
    pub otel_convert_histograms_to_nhcb: bool,
    /// Whether OTLP points of delta temporality are stored as they come; otherwise they are refused. Off, as in Prometheus.
    pub otel_native_delta_ingestion: bool,
    /// How old a block folder without `meta.json` must be to be deleted. Mimir's default, far beyond the longest upload. 0: never.
    #[serde(with = "lgtm_core::units::duration")]
    pub compactor_partial_block_deletion_delay: Duration,
    /// How long samples are kept: a block whose newest sample may be older is deleted. 0 (default): for ever.
    #[serde(with = "lgtm_core::units::duration")]
    pub compactor_blocks_retention_period: Duration,
    /// Shards that compaction splits the series of a tenant into, each with blocks of its own: for tenants of tens of millions of series,
    /// whose blocks would grow beyond 64 GiB of index, or take too long to be compacted by one process. 0 (default): none.
    pub compactor_split_and_merge_shards: u32,
    /// Jobs that the blocks of one range are split by, which several compactors can share. Mimir's default: 1.
    pub compactor_split_groups: u32,
    /// Series that one query may touch. 0: unlimited.
    pub max_fetched_series_per_query: u64,
    /// Chunks that one query may read. Mimir's default.
    pub max_fetched_chunks_per_query: u64,
    /// Chunk bytes that one query may read. 0: unlimited.
    pub max_fetched_chunk_bytes_per_query: u64,
    /// Bytes of the names and values of labels that one query, or one call for series, labels or values, may select. Room for a million
    /// series of some 250 bytes; beyond it a dashboard is of no use. 0: unlimited.
    pub max_label_query_bytes: u64,
    /// Bytes that the values of one query may take; of a query that the frontend cuts, those of each part. 0 (default): what
    /// `metrics.querier.max_memory` says.
    pub max_estimated_memory_consumption_per_query: u64,
    /// Bytes of a query's text. 0 (default): only the parser's bound.
    pub max_query_expression_size_bytes: u64,
    /// Time between start and end of a range query. 0 (default): unlimited.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_total_query_length: Duration,
    /// Time between start and end of a call for series, label names or label values; the start is moved up without a word. 0
    /// (default): unlimited.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_labels_query_length: Duration,
    /// How far back the steps of a query may lie, and the times of series, labels and remote reads that are asked for; earlier ones
    /// are left out without a word. What a step looks back at from there is read. 0 (default): unlimited.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_query_lookback: Duration,
    /// Whether the tenant may ask (`/api/v1/cardinality/...`) how many series its labels have. Off, as in Mimir: an answer costs a walk over the whole head.
    pub cardinality_analysis_enabled: bool,
    /// Entries that an answer about cardinality may list; a request may ask for fewer. Mimir's default.
    pub cardinality_analysis_max_results: usize,
    /// Label names that one request for the cardinality of their values may name. Mimir's default.
    pub label_values_max_cardinality_label_names_per_request: usize,
    /// Bytes of the names and values in a list of active series, which is streamed; a longer one is refused. Mimir's default.
    pub active_series_results_max_size_bytes: u64,
    /// Parts of one query that run at a time. Mimir's default.
    pub max_query_parallelism: usize,
    /// Answers to steps younger than this are not kept in the results cache, since samples may still come. Mimir's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_cache_freshness: Duration,
    /// How long an answer stays in the results cache that can change no more. Mimir's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub results_cache_ttl: Duration,
    /// How long one stays that late samples may still change. Mimir's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub results_cache_ttl_for_out_of_order_time_window: Duration,
    /// How long an error stays, where `metrics.query_frontend.cache_errors` is on; 0: not at all. Mimir's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub results_cache_ttl_for_errors: Duration,
    /// Shards that an aggregation is cut into where sharding is on. Mimir's default; 0 and 1: none.
    pub query_sharding_total_shards: u32,
    /// Sharded parts that one query may become over all its splits; shards are made fewer to keep it. Mimir's default.
    pub query_sharding_max_sharded_queries: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ingestion_rate: 0.0,
            ingestion_burst_size: 200_000,
            ingestion_tenant_shard_size: 0,
            max_global_series_per_user: 0,
            max_global_series_per_metric: 0,
            max_global_exemplars_per_user: 100_000,
            max_global_metadata_per_user: 0,
            max_metadata_bytes_per_user: 64 << 20,
            max_label_name_length: 1024,
            max_label_value_length: 2048,
            max_label_names_per_series: 30,
            max_metadata_length: 1024,
            max_native_histogram_buckets: 0,
            creation_grace_period: Duration::from_secs(600),
            past_grace_period: Duration::ZERO,
            out_of_order_time_window: Duration::ZERO,
            native_histograms_ingestion_enabled: true,
            created_timestamp_zero_ingestion_enabled: false,
            st_storage_enabled: false,
            otel_translation_strategy: TranslationStrategy::default(),
            promote_otel_resource_attributes: Vec::new(),
            otel_promote_scope_metadata: false,
            otel_keep_identifying_resource_attributes: false,
            otel_convert_histograms_to_nhcb: false,
            otel_native_delta_ingestion: false,
            compactor_partial_block_deletion_delay: Duration::from_secs(24 * 3600),
            compactor_blocks_retention_period: Duration::ZERO,
            compactor_split_and_merge_shards: 0,
            compactor_split_groups: 1,
            max_fetched_series_per_query: 0,
            max_fetched_chunks_per_query: 2_000_000,
            max_fetched_chunk_bytes_per_query: 0,
            max_label_query_bytes: 256 << 20,
            max_estimated_memory_consumption_per_query: 0,
            max_query_expression_size_bytes: 0,
            max_total_query_length: Duration::ZERO,
            max_labels_query_length: Duration::ZERO,
            max_query_lookback: Duration::ZERO,
            cardinality_analysis_enabled: false,
            cardinality_analysis_max_results: 500,
            label_values_max_cardinality_label_names_per_request: 100,
            active_series_results_max_size_bytes: 400 << 20,
            max_query_parallelism: 14,
            max_cache_freshness: Duration::from_secs(600),
            results_cache_ttl: Duration::from_secs(7 * 86_400),
            results_cache_ttl_for_out_of_order_time_window: Duration::from_secs(600),
            results_cache_ttl_for_errors: Duration::from_secs(300),
            query_sharding_total_shards: 16,
            query_sharding_max_sharded_queries: 128,
        }
    }
}

impl Limits {
    /// How OTLP is read for the tenant.
    pub fn otlp(&self) -> OtlpOptions {
        OtlpOptions {
            translation: self.otel_translation_strategy,
            promote_resource_attributes: self.promote_otel_resource_attributes.clone(),
            promote_scope_metadata: self.otel_promote_scope_metadata,
            keep_identifying_resource_attributes: self.otel_keep_identifying_resource_attributes,
            convert_histograms_to_nhcb: self.otel_convert_histograms_to_nhcb,
            allow_delta_temporality: self.otel_native_delta_ingestion,
        }
    }

    /// Checks the labels of a new series.
    ///
    /// # Errors
    /// The first rule that the labels break.
    pub fn check_labels(&self, labels: &Labels) -> Result<(), LabelFault> {
        let fault = |id, message| Err(LabelFault { id, message });
        let Some(metric) = labels.get(METRIC_NAME) else {
            return fault(
                "missing-metric-name",
                format!(
                    "received series has no metric name, series: '{}'",
                    shortened(labels.iter())
                ),
            );
        };
        if metric.is_empty() {
            return fault(
                "metric-name-invalid",
                format!(
                    "received a series with an empty metric name, series: '{}'",
                    shortened(labels.iter())
                ),
            );
        }
        self.label_bounds().check(labels.iter())
    }

    /// How large a label set may be.
    pub fn label_bounds(&self) -> LabelBounds {
        LabelBounds {
            max_names: self.max_label_names_per_series,
            max_name_bytes: self.max_label_name_length,
            max_value_bytes: self.max_label_value_length,
        }
    }

    /// What decoders refuse for the tenant.
    pub fn decode_rules(&self) -> DecodeRules {
        DecodeRules {
            labels: self.label_bounds(),
            max_metadata_length: self.max_metadata_length,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_names_the_value_and_the_bound() {
        let limits = Limits {
            max_label_names_per_series: 3,
            max_label_name_length: 8,
            max_label_value_length: 5,
            ..Limits::default()
        };
        let check = |pairs: &[(&str, &str)]| {
            limits
                .check_labels(&Labels::from_pairs(pairs.iter().copied()).unwrap())
                .map_err(|f| f.id)
        };
        assert_eq!(check(&[("__name__", "up"), ("a", "b")]), Ok(()));
        assert_eq!(check(&[("a", "b")]), Err("missing-metric-name"));
        assert_eq!(
            check(&[("__name__", "up"), ("a", "1"), ("b", "1"), ("c", "1")]),
            Err("max-label-names-per-series")
        );
        assert_eq!(
            check(&[("__name__", "up"), ("a23456789", "1")]),
            Err("label-name-too-long")
        );
        let fault = limits
            .check_labels(&Labels::from_pairs([("__name__", "up"), ("a", "123456")]).unwrap())
            .unwrap_err();
        assert_eq!(fault.id, "label-value-too-long");
        assert!(
            fault.message.contains("of 6 exceeds the limit of 5"),
            "{}",
            fault.message
        );
    }
}
