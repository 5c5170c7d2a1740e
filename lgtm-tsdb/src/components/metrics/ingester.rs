//! Heads, log, and what is flushed.

use std::sync::Arc;

use lgtm_core::telemetry::{Collection, Registry};

use super::value::n;
use crate::components::Ingester;

/// Tenants whose active series are told: with ten thousand a series each would be more than it tells.
const MAX_TENANTS: usize = 100;

impl Ingester {
    pub(in crate::components) fn register_metrics(self: &Arc<Self>, registry: &Registry) {
        registry.collect_from(self, |ingester, e| {
            ingester.head_metrics(e);
            ingester.log_metrics(e);
            ingester.replay_metrics(e);
            ingester.flush_metrics(e);
        });
    }

    fn head_metrics(&self, e: &mut Collection) {
        let tenants = self.series_by_tenant();
        let total: u64 = tenants.iter().map(|t| t.in_memory).sum();
        e.gauge(
            "cortex_ingester_memory_users",
            "Tenants with a head.",
            &[],
            tenants.len() as f64,
        );
        e.gauge(
            "cortex_ingester_memory_series",
            "Series in memory.",
            &[],
            total as f64,
        );
        for t in tenants.iter().take(MAX_TENANTS) {
            let labels = [("user", t.tenant.as_str())];
            e.gauge(
                "cortex_ingester_active_series",
                "Series that got a sample lately.",
                &labels,
                t.active as f64,
            );
        }
        let (index_bytes, exemplars) = self.index_bytes_and_exemplars();
        e.gauge(
            "lgtm_head_index_bytes",
            "Memory of symbols and postings in the heads.",
            &[],
            index_bytes as f64,
        );
        e.gauge(
            "cortex_ingester_tsdb_exemplar_exemplars_in_storage",
            "Exemplars held.",
            &[],
            exemplars as f64,
        );
        e.gauge(
            "lgtm_head_chunk_file_bytes",
            "Size of finished chunks on disk.",
            &[],
            self.chunk_file_bytes() as f64,
        );
        e.counter(
            "lgtm_head_damaged_chunks_total",
            "Finished chunks that could not be read from disk and were set aside.",
            &[],
            self.damaged_chunks() as f64,
        );
    }

    fn log_metrics(&self, e: &mut Collection) {
        let wal = self.wal_stats();
        e.counter(
            "lgtm_wal_written_bytes_total",
            "Bytes written to the log.",
            &[],
            wal.bytes_written as f64,
        );
        e.counter(
            "lgtm_wal_records_total",
            "Records appended to the log.",
            &[],
            wal.records as f64,
        );
        e.counter(
            "lgtm_wal_frames_total",
            "Groups of records written.",
            &[],
            wal.frames as f64,
        );
        e.counter(
            "lgtm_wal_syncs_total",
            "Syncs of the log.",
            &[],
            wal.syncs as f64,
        );
        e.gauge(
            "lgtm_wal_size_bytes",
            "Size of the log on disk.",
            &[],
            wal.size_bytes as f64,
        );
        e.gauge(
            "lgtm_wal_failing",
            "1 while the log cannot be written.",
            &[],
            f64::from(u8::from(wal.failing)),
        );
        let refusal = self.write_refusal();
        e.gauge(
            "lgtm_ingester_writes_refused_seconds",
            "Since how long no write is taken, for trouble with the log or lack of room in its buffer; 0 while writes are taken.",
            &[],
            refusal.map_or(0.0, |r| r.lasted.as_secs_f64()),
        );
        e.gauge(
            "lgtm_wal_poisoned",
            "1 after a failed sync.",
            &[],
            f64::from(u8::from(wal.poisoned)),
        );
    }

    fn replay_metrics(&self, e: &mut Collection) {
        if let Some(at) = self.replay_progress() {
            e.gauge(
                "lgtm_wal_replay_done_bytes",
                "Bytes of the log read back at start.",
                &[],
                at.done_bytes as f64,
            );
            e.gauge(
                "lgtm_wal_replay_total_bytes",
                "Bytes of the log that were there at start.",
                &[],
                at.total_bytes as f64,
            );
        }
        if let Some(report) = self.replay_report() {
            e.gauge(
                "lgtm_wal_replayed_samples",
                "Samples read back at start.",
                &[],
                report.samples as f64,
            );
            e.gauge(
                "lgtm_wal_replay_damaged",
                "Damaged parts of the log set aside at start, and runs of segments that are missing.",
                &[],
                report.log.set_aside.len() as f64,
            );
            e.gauge(
                "lgtm_wal_replay_lost_chunks",
                "Chunks that a checkpoint names and the chunk files did not have at start.",
                &[],
                report.lost_chunks as f64,
            );
            e.gauge(
                "lgtm_wal_replay_torn_tail_bytes",
                "Bytes cut off the end of the log at start.",
                &[],
                report.log.torn_tail as f64,
            );
        }
    }

    fn flush_metrics(&self, e: &mut Collection) {
        let flushed = self.flush_counts();
        e.counter(
            "cortex_ingester_shipper_uploads_total",
            "Blocks uploaded.",
            &[],
            n(&flushed.blocks),
        );
        e.counter(
            "cortex_ingester_shipper_upload_failures_total",
            "Flushes that failed.",
            &[],
            n(&flushed.failures),
        );
        let last = n(&flushed.last_success_ms) / 1000.0;
        let help = "When a flush last succeeded, seconds since the epoch.";
        e.gauge(
            "cortex_ingester_shipper_last_successful_upload_timestamp_seconds",
            help,
            &[],
            last,
        );
    }
}
