//! Pushes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lgtm_core::telemetry::{Collection, Registry};

use crate::components::Distributor;

impl Distributor {
    pub(in crate::components) fn register_metrics(self: &Arc<Self>, registry: &Registry) {
        registry.collect_from(self, Self::metrics);
    }

    fn metrics(&self, e: &mut Collection) {
        let pushes = self.inflight();
        e.gauge(
            "lgtm_logs_distributor_inflight_push_requests",
            "Pushes under way.",
            &[],
            pushes.requests() as f64,
        );
        e.gauge(
            "lgtm_logs_distributor_inflight_push_requests_bytes",
            "Bytes of pushes under way, compressed and decompressed.",
            &[],
            pushes.bytes() as f64,
        );
        let c = self.counts();
        e.counter(
            "lgtm_logs_distributor_push_requests_total",
            "Push requests.",
            &[],
            c.requests.load(Ordering::Relaxed) as f64,
        );
        for (tenant, received) in c.received.lock().iter() {
            let labels = [("tenant", tenant.as_str())];
            e.counter(
                "loki_distributor_bytes_received_total",
                "Bytes of lines and structured metadata that came in.",
                &labels,
                received.bytes as f64,
            );
            e.counter(
                "loki_distributor_lines_received_total",
                "Lines that came in.",
                &labels,
                received.entries as f64,
            );
        }
        for ((tenant, rule), refused) in c.discarded.lock().iter() {
            let labels = [("tenant", tenant.as_str()), ("reason", rule.id())];
            e.counter(
                "loki_discarded_samples_total",
                "Lines that were not stored.",
                &labels,
                refused.entries as f64,
            );
            e.counter(
                "loki_discarded_bytes_total",
                "Bytes of lines that were not stored.",
                &labels,
                refused.bytes as f64,
            );
        }
    }
}
