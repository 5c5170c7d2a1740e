//! What was joined.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lgtm_core::telemetry::Registry;

use crate::components::Compactor;

impl Compactor {
    pub(in crate::components) fn register_metrics(self: &Arc<Self>, registry: &Registry) {
        self.progress().register_metrics(registry, "logs");
        registry.collect_from(self, |compactor, e| {
            let counts = compactor.counts();
            let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed) as f64;
            for (status, rounds) in [
                ("success", &counts.rounds),
                ("failure", &counts.failed_rounds),
            ] {
                e.counter(
                    "loki_boltdb_shipper_compact_tables_operation_total",
                    "Rounds of joining index files.",
                    &[("status", status)],
                    read(rounds),
                );
            }
            e.gauge(
                "loki_boltdb_shipper_compact_tables_operation_last_successful_run_timestamp_seconds",
                "When the last round went through.",
                &[],
                counts.last_success_ms.load(Ordering::Relaxed) as f64 / 1000.0,
            );
            let now_s = compactor.now_s();
            let waiting = compactor.oldest_shared_s();
            e.gauge(
                "lgtm_logs_compactor_lag_seconds",
                "Age of the oldest index file of several tenants that waits to be joined.",
                &[],
                waiting.map_or(0.0, |s| now_s.saturating_sub(s).max(0) as f64),
            );
            e.gauge(
                "lgtm_logs_compactor_leaving_lists",
                "Lists of chunks that left the index and wait for their deletion.",
                &[],
                read(&counts.leaving_lists),
            );
            for (name, help, value) in [
                (
                    "lgtm_logs_compactor_chunks_expired_total",
                    "Chunks that left the index by retention.",
                    &counts.chunks_expired,
                ),
                (
                    "lgtm_logs_compactor_chunks_rewritten_total",
                    "Chunks written in the place of others.",
                    &counts.chunks_rewritten,
                ),
                (
                    "lgtm_logs_compactor_chunks_merged_total",
                    "Small chunks that others were made of.",
                    &counts.chunks_merged,
                ),
                (
                    "loki_compactor_delete_requests_processed_total",
                    "Delete requests that were done.",
                    &counts.delete_requests_processed,
                ),
                (
                    "lgtm_logs_compactor_chunks_deleted_total",
                    "Chunks deleted that no index file named any more.",
                    &counts.chunks_deleted,
                ),
                (
                    "lgtm_logs_compactor_tables_total",
                    "Tables whose index files were joined.",
                    &counts.tables,
                ),
                (
                    "lgtm_logs_compactor_files_written_total",
                    "Index files written.",
                    &counts.files_written,
                ),
                (
                    "lgtm_logs_compactor_bytes_written_total",
                    "Bytes of index files written.",
                    &counts.bytes_written,
                ),
                (
                    "lgtm_logs_compactor_files_deleted_total",
                    "Superseded index files deleted.",
                    &counts.files_deleted,
                ),
                (
                    "lgtm_logs_compactor_side_objects_written_total",
                    "Side objects made of several.",
                    &counts.side_objects_written,
                ),
                (
                    "lgtm_logs_compactor_side_objects_deleted_total",
                    "Side objects deleted, as they were joined or their day is gone.",
                    &counts.side_objects_deleted,
                ),
                (
                    "lgtm_logs_compactor_damaged_files_total",
                    "Index files that could not be read and were left alone, and side objects that were done without.",
                    &counts.damaged,
                ),
            ] {
                e.counter(name, help, &[], read(value));
            }
        });
    }
}
