//! Heads, log, and what is flushed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lgtm_core::telemetry::{Collection, Registry};
use lgtm_core::wal::Refusal;

use crate::components::Ingester;

/// What the log is told apart by from those of other signals.
const SIGNAL: &str = "logs";
/// Tenants whose streams are told: with ten thousand a series each would be more than it tells.
const MAX_TENANTS: usize = 100;

impl Ingester {
    pub(in crate::components) fn register_metrics(self: &Arc<Self>, registry: &Registry) {
        registry.collect_from(self, |ingester, e| {
            ingester.head_metrics(e);
            ingester.log_metrics(e);
            ingester.flush_metrics(e);
            ingester.recent_metrics(e);
        });
    }

    fn head_metrics(&self, e: &mut Collection) {
        let tenants = self.streams_by_tenant();
        for t in tenants.iter().take(MAX_TENANTS) {
            let labels = [("tenant", t.tenant.as_str())];
            e.gauge(
                "loki_ingester_memory_streams",
                "Streams in memory.",
                &labels,
                t.in_memory as f64,
            );
        }
        for (name, help, value) in [
            (
                "lgtm_logs_head_tenants",
                "Tenants with a head.",
                tenants.len() as u64,
            ),
            (
                "lgtm_logs_head_open_chunk_bytes",
                "Memory of chunks in the making.",
                self.open_chunk_bytes(),
            ),
            (
                "lgtm_logs_head_index_bytes",
                "Memory of symbols and postings in the heads.",
                self.index_bytes(),
            ),
            (
                "lgtm_logs_head_chunk_file_bytes",
                "Size of finished chunks on disk.",
                self.chunk_file_bytes(),
            ),
        ] {
            e.gauge(name, help, &[], value as f64);
        }
        e.counter(
            "lgtm_logs_head_damaged_chunks_total",
            "Finished chunks that could not be read from disk and were set aside.",
            &[],
            self.damaged_chunks() as f64,
        );
    }

    fn recent_metrics(&self, e: &mut Collection) {
        let (patterns, followers) = (self.recent_patterns(), self.followers());
        for (name, help, value) in [
            (
                "lgtm_logs_pattern_memory_bytes",
                "Memory of patterns of recent lines.",
                patterns.memory_bytes(),
            ),
            (
                "lgtm_logs_followers",
                "Queries that are followed.",
                followers.count() as u64,
            ),
            (
                "lgtm_logs_follower_queued_bytes",
                "Entries that wait for those who follow.",
                followers.queued_bytes() as u64,
            ),
        ] {
            e.gauge(name, help, &[], value as f64);
        }
        for (name, help, value) in [
            (
                "lgtm_logs_pattern_streams_forgotten_total",
                "Streams whose patterns were forgotten for want of memory.",
                patterns.forgotten(),
            ),
            (
                "lgtm_logs_follower_dropped_entries_total",
                "Entries that were left out for those who follow too slowly.",
                followers.dropped(),
            ),
        ] {
            e.counter(name, help, &[], value as f64);
        }
    }

    fn log_metrics(&self, e: &mut Collection) {
        self.wal_stats().tell(SIGNAL, e);
        Refusal::tell(self.write_refusal().as_ref(), SIGNAL, e);
        if let Some(at) = self.replay_progress() {
            at.tell(SIGNAL, e);
        }
        if let Some(report) = self.replay_report() {
            e.gauge(
                "lgtm_logs_replayed_entries",
                "Entries read back at start.",
                &[],
                report.entries as f64,
            );
            report.log.tell(SIGNAL, report.lost_chunks, e);
        }
    }

    fn flush_metrics(&self, e: &mut Collection) {
        let flushed = self.flush_counts();
        for (reason, count) in flushed.chunks.lock().iter() {
            e.counter(
                "loki_ingester_chunks_flushed_total",
                "Chunks put into the object store, by why they were finished.",
                &[("reason", *reason)],
                *count as f64,
            );
        }
        for (name, help, count) in [
            (
                "loki_ingester_chunk_stored_bytes_total",
                "Bytes of chunks put into the object store.",
                &flushed.bytes,
            ),
            (
                "lgtm_logs_chunk_stored_entries_total",
                "Entries of chunks put into the object store.",
                &flushed.entries,
            ),
            (
                "lgtm_logs_index_files_written_total",
                "Index files written.",
                &flushed.index_files,
            ),
            (
                "loki_ingester_chunks_flush_failures_total",
                "Flushes that failed.",
                &flushed.failures,
            ),
        ] {
            e.counter(name, help, &[], count.load(Ordering::Relaxed) as f64);
        }
        e.gauge(
            "lgtm_logs_last_flush_success_timestamp_seconds",
            "When a flush last succeeded, seconds since the epoch.",
            &[],
            flushed.last_success_ms.load(Ordering::Relaxed) as f64 / 1000.0,
        );
    }
}
