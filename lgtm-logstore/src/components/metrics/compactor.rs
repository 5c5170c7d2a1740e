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
            for (name, help, value) in [
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
                    "lgtm_logs_compactor_damaged_files_total",
                    "Index files that could not be read and were left alone.",
                    &counts.damaged,
                ),
            ] {
                e.counter(name, help, &[], read(value));
            }
        });
    }
}
