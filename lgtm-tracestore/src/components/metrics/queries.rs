//! Queries.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lgtm_core::telemetry::{Collection, Registry};

use crate::components::{Querier, QueryOp};

impl Querier {
    pub(in crate::components) fn register_metrics(self: &Arc<Self>, registry: &Registry) {
        registry.collect_from(self, Self::metrics);
    }

    fn metrics(&self, e: &mut Collection) {
        let c = self.counts();
        for (op, count) in QueryOp::ALL.iter().zip(&c.queries) {
            e.counter(
                "lgtm_traces_queries_total",
                "Queries begun, pieces of cut ones each.",
                &[("op", op.name())],
                count.load(Ordering::Relaxed) as f64,
            );
        }
        for (name, help, count) in [
            (
                "lgtm_traces_queries_failed_total",
                "Queries that ended with an error.",
                &c.failed,
            ),
            (
                "lgtm_traces_query_faults_total",
                "Queries that ran into a fault of this program.",
                &c.faults,
            ),
            (
                "lgtm_traces_query_spans_total",
                "Spans that queries looked at.",
                &c.spans,
            ),
            (
                "lgtm_traces_query_bytes_total",
                "Bytes that queries looked at.",
                &c.bytes,
            ),
        ] {
            e.counter(name, help, &[], count.load(Ordering::Relaxed) as f64);
        }
        let held = self.memory().held_bytes();
        let help = "Memory that queries hold.";
        e.gauge("lgtm_traces_query_memory_bytes", help, &[], held as f64);
    }
}
