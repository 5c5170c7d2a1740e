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
            "lgtm_traces_distributor_inflight_push_requests",
            "Pushes under way.",
            &[],
            pushes.requests() as f64,
        );
        e.gauge(
            "lgtm_traces_distributor_inflight_push_requests_bytes",
            "Bytes of pushes under way, compressed and decompressed.",
            &[],
            pushes.bytes() as f64,
        );
        let c = self.counts();
        for (name, help, count) in [
            (
                "lgtm_traces_distributor_push_requests_total",
                "Push requests.",
                &c.requests,
            ),
            (
                "lgtm_traces_distributor_traces_total",
                "Traces of push requests, each counted in each request.",
                &c.traces,
            ),
            (
                "tempo_distributor_attributes_truncated_total",
                "Keys and texts of attributes that were cut since they were too long.",
                &c.cut_texts,
            ),
        ] {
            e.counter(name, help, &[], count.load(Ordering::Relaxed) as f64);
        }
        for (tenant, received) in c.received.lock().iter() {
            let labels = [("tenant", tenant.as_str())];
            e.counter(
                "tempo_distributor_bytes_received_total",
                "Bytes of spans that came in, as protobuf.",
                &labels,
                received.bytes as f64,
            );
            e.counter(
                "tempo_distributor_spans_received_total",
                "Spans that came in.",
                &labels,
                received.spans as f64,
            );
        }
        for ((tenant, rule), spans) in c.discarded.lock().iter() {
            e.counter(
                "tempo_discarded_spans_total",
                "Spans that were not stored.",
                &[("tenant", tenant.as_str()), ("reason", rule.id())],
                *spans as f64,
            );
        }
    }
}
