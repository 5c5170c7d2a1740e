//! Queries.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lgtm_core::telemetry::{Collection, Registry};

use crate::components::Querier;

impl Querier {
    pub(in crate::components) fn register_metrics(self: &Arc<Self>, registry: &Registry) {
        registry.collect_from(self, Self::engine_metrics);
    }

    fn engine_metrics(&self, e: &mut Collection) {
        let c = self.engine().counts();
        for (name, help, counter) in [
            ("lgtm_logs_queries_total", "Queries begun.", &c.queries),
            (
                "lgtm_logs_queries_failed_total",
                "Queries that ended with an error.",
                &c.failed,
            ),
            (
                "lgtm_logs_query_panics_total",
                "Queries that ran into a fault of this program.",
                &c.panicked,
            ),
            (
                "lgtm_logs_query_lines_total",
                "Lines that queries looked at.",
                &c.lines,
            ),
            (
                "lgtm_logs_query_bytes_total",
                "Bytes of lines that queries looked at.",
                &c.bytes,
            ),
        ] {
            e.counter(name, help, &[], counter.load(Ordering::Relaxed) as f64);
        }
        let held = self.engine().memory().held_bytes();
        let help = "Memory that queries and their answers hold.";
        e.gauge("lgtm_logs_query_memory_bytes", help, &[], held as f64);
    }
}
