//! Pushes.

use std::sync::Arc;

use lgtm_core::telemetry::{Collection, Registry};

use super::value::n;
use crate::components::Distributor;

impl Distributor {
    pub(in crate::components) fn register_metrics(self: &Arc<Self>, registry: &Registry) {
        registry.collect_from(self, Self::metrics);
    }

    fn metrics(&self, e: &mut Collection) {
        let pushes = self.inflight();
        e.gauge(
            "cortex_distributor_inflight_push_requests",
            "Pushes under way.",
            &[],
            pushes.requests() as f64,
        );
        e.gauge(
            "cortex_distributor_inflight_push_requests_bytes",
            "Bytes of pushes under way, compressed and decompressed.",
            &[],
            pushes.bytes() as f64,
        );
        let c = self.counts();
        e.counter(
            "cortex_distributor_requests_in_total",
            "Push requests.",
            &[],
            n(&c.requests),
        );
        e.counter(
            "cortex_distributor_samples_in_total",
            "Samples that came in.",
            &[],
            n(&c.samples_in),
        );
        e.counter(
            "cortex_distributor_received_samples_total",
            "Samples stored or known already.",
            &[],
            n(&c.samples_stored),
        );
        e.counter(
            "cortex_distributor_received_exemplars_total",
            "Exemplars that came in.",
            &[],
            n(&c.exemplars_in),
        );
        for (name, help, discarded) in [
            (
                "cortex_discarded_samples_total",
                "Samples that were not stored.",
                &c.discarded,
            ),
            (
                "cortex_discarded_metadata_total",
                "Metadata that was not stored.",
                &c.discarded_metadata,
            ),
        ] {
            for ((tenant, reason), count) in discarded.lock().iter() {
                let labels = [("user", tenant.as_str()), ("reason", reason.as_ref())];
                e.counter(name, help, &labels, *count as f64);
            }
        }
    }
}
