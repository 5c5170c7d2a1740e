//! Heads, log, and what is flushed.

use std::sync::Arc;

use lgtm_core::telemetry::{Collection, Registry};
use lgtm_core::wal::Refusal;

use super::value::n;
use crate::components::Ingester;

/// What the log is told apart by from those of other signals.
const SIGNAL: &str = "metrics";
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
        self.wal_stats().tell(SIGNAL, e);
        Refusal::tell(self.write_refusal().as_ref(), SIGNAL, e);
    }

    fn replay_metrics(&self, e: &mut Collection) {
        if let Some(at) = self.replay_progress() {
            at.tell(SIGNAL, e);
        }
        if let Some(report) = self.replay_report() {
            e.gauge(
                "lgtm_wal_replayed_samples",
                "Samples read back at start.",
                &[],
                report.samples as f64,
            );
            report.log.tell(SIGNAL, report.lost_chunks, e);
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
