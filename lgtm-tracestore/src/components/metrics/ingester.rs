//! Heads, log, and what is flushed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lgtm_core::telemetry::{Collection, Registry};
use lgtm_core::wal::Refusal;

use crate::components::Ingester;

/// What the log is told apart by from those of other signals.
const SIGNAL: &str = "traces";
/// Tenants whose traces are told: with ten thousand a series each would be more than it tells.
const MAX_TENANTS: usize = 100;

impl Ingester {
    pub(in crate::components) fn register_metrics(self: &Arc<Self>, registry: &Registry) {
        registry.collect_from(self, |ingester, e| {
            ingester.head_metrics(e);
            ingester.log_metrics(e);
            ingester.flush_metrics(e);
        });
    }

    fn head_metrics(&self, e: &mut Collection) {
        let tenants = self.traces_by_tenant();
        for t in tenants.iter().take(MAX_TENANTS) {
            let labels = [("tenant", t.tenant.as_str())];
            e.gauge(
                "tempo_ingester_live_traces",
                "Traces in memory.",
                &labels,
                t.live_traces as f64,
            );
        }
        for (name, help, value) in [
            (
                "lgtm_traces_head_tenants",
                "Tenants with a head.",
                tenants.len() as u64,
            ),
            (
                "tempo_ingester_live_trace_bytes",
                "Memory of traces that are not packed yet.",
                self.live_bytes(),
            ),
            (
                "lgtm_traces_head_batches",
                "Batches of cut traces that the object store has not.",
                tenants.iter().map(|t| t.batches).sum(),
            ),
            (
                "lgtm_traces_head_batch_bytes",
                "Bytes of these before compression.",
                tenants.iter().map(|t| t.batch_bytes).sum(),
            ),
            (
                "lgtm_traces_head_table_bytes",
                "Memory of tables in the heads.",
                self.table_bytes(),
            ),
            (
                "lgtm_traces_head_batch_file_bytes",
                "Size of cut traces on disk.",
                self.batch_file_bytes(),
            ),
        ] {
            e.gauge(name, help, &[], value as f64);
        }
        e.counter(
            "lgtm_traces_head_damaged_batches_total",
            "Batches of cut traces that could not be read from disk and were set aside.",
            &[],
            self.damaged_batches() as f64,
        );
    }

    fn log_metrics(&self, e: &mut Collection) {
        self.wal_stats().tell(SIGNAL, e);
        Refusal::tell(self.write_refusal().as_ref(), SIGNAL, e);
        if let Some(at) = self.replay_progress() {
            at.tell(SIGNAL, e);
        }
        if let Some(report) = self.replay_report() {
            e.gauge(
                "lgtm_traces_replayed_spans",
                "Spans read back at start.",
                &[],
                report.spans as f64,
            );
            report.log.tell(SIGNAL, report.lost_batches, e);
        }
    }

    fn flush_metrics(&self, e: &mut Collection) {
        let flushed = self.flush_counts();
        for (name, help, count) in [
            (
                "tempo_ingester_blocks_flushed_total",
                "Blocks put into the object store.",
                &flushed.blocks,
            ),
            (
                "lgtm_traces_block_stored_traces_total",
                "Traces of blocks put into the object store.",
                &flushed.traces,
            ),
            (
                "lgtm_traces_block_stored_bytes_total",
                "Bytes of data of blocks put into the object store.",
                &flushed.bytes,
            ),
            (
                "tempo_ingester_failed_flushes_total",
                "Flushes that failed.",
                &flushed.failures,
            ),
        ] {
            e.counter(name, help, &[], count.load(Ordering::Relaxed) as f64);
        }
        e.gauge(
            "lgtm_traces_last_flush_success_timestamp_seconds",
            "When a flush last succeeded, seconds since the epoch.",
            &[],
            flushed.last_success_ms.load(Ordering::Relaxed) as f64 / 1000.0,
        );
    }
}
