//! What was joined.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lgtm_core::telemetry::Registry;

use crate::components::Compactor;

impl Compactor {
    pub(in crate::components) fn register_metrics(self: &Arc<Self>, registry: &Registry) {
        registry.collect_from(self, |compactor, e| {
            let counts = compactor.counts();
            let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed) as f64;
            for (status, rounds) in [
                ("success", &counts.rounds),
                ("failure", &counts.failed_rounds),
            ] {
                e.counter(
                    "lgtm_traces_compactor_rounds_total",
                    "Rounds of joining blocks.",
                    &[("status", status)],
                    read(rounds),
                );
            }
            e.gauge(
                "lgtm_traces_compactor_last_success_timestamp_seconds",
                "When the last round went through.",
                &[],
                counts.last_success_ms.load(Ordering::Relaxed) as f64 / 1000.0,
            );
            for (name, help, value) in [
                (
                    "tempodb_compaction_blocks_total",
                    "Blocks that were joined.",
                    &counts.blocks,
                ),
                (
                    "lgtm_traces_compactor_blocks_written_total",
                    "Blocks written in their place.",
                    &counts.blocks_written,
                ),
                (
                    "tempodb_compaction_objects_written_total",
                    "Traces of blocks written.",
                    &counts.traces_written,
                ),
                (
                    "tempodb_compaction_bytes_written_total",
                    "Bytes of data of blocks written.",
                    &counts.bytes_written,
                ),
                (
                    "lgtm_traces_compactor_left_out_spans_total",
                    "Spans that were left out since their trace would have been too large.",
                    &counts.left_out_spans,
                ),
                (
                    "tempodb_retention_marked_for_deletion_total",
                    "Blocks taken out of service since they are older than block_retention.",
                    &counts.blocks_retired,
                ),
                (
                    "tempodb_retention_deleted_total",
                    "Blocks deleted: superseded ones, and old ones.",
                    &counts.blocks_deleted,
                ),
                (
                    "lgtm_traces_compactor_redacted_traces_total",
                    "Traces taken out of blocks by redactions.",
                    &counts.traces_redacted,
                ),
                (
                    "lgtm_traces_compactor_redacted_blocks_total",
                    "Blocks that traces were taken out of.",
                    &counts.blocks_redacted,
                ),
                (
                    "lgtm_traces_compactor_abandoned_uploads_deleted_total",
                    "Folders of uploads that broke off deleted.",
                    &counts.uploads_deleted,
                ),
                (
                    "lgtm_traces_compactor_damaged_blocks_total",
                    "Blocks that could not be read and were left alone.",
                    &counts.damaged,
                ),
            ] {
                e.counter(name, help, &[], read(value));
            }
        });
    }
}
