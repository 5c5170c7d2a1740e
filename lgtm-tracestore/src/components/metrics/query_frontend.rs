//! What the query-frontend tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lgtm_core::telemetry::{Collection, Registry};

use crate::components::QueryFrontend;

/// The value of a counter.
fn n(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}

impl QueryFrontend {
    pub(in crate::components) fn register_metrics(self: &Arc<Self>, registry: &Registry) {
        registry.collect_from(self, Self::frontend_metrics);
    }

    fn frontend_metrics(&self, e: &mut Collection) {
        let c = self.counts();
        for (op, counter) in [
            ("search", &c.searches),
            ("metrics", &c.metrics),
            ("metadata", &c.tags),
            ("traces", &c.traces),
        ] {
            e.counter(
                "tempo_query_frontend_queries_total",
                "Queries that came in.",
                &[("op", op)],
                n(counter),
            );
        }
        e.counter(
            "lgtm_traces_query_frontend_panics_total",
            "Queries that ended in a panic.",
            &[],
            n(&c.panicked),
        );
        let Some(frontend) = self.frontend() else {
            return;
        };
        let s = frontend.stats();
        for (name, help, counter) in [
            (
                "lgtm_traces_query_frontend_partitions_total",
                "Pieces that metrics queries were cut into in time.",
                &s.pieces,
            ),
            (
                "lgtm_traces_query_frontend_requests_total",
                "Queries and pieces that went to the querier.",
                &s.downstream,
            ),
            (
                "lgtm_traces_query_frontend_retries_total",
                "Queries and pieces that were sent again.",
                &s.retries,
            ),
        ] {
            e.counter(name, help, &[], n(counter));
        }
        e.gauge(
            "tempo_query_frontend_queue_length",
            "Queries and pieces that wait for a turn.",
            &[],
            frontend.waiting() as f64,
        );
        if let Some(cache) = frontend.results_cache_stats() {
            for (name, help, counter) in [
                (
                    "lgtm_traces_query_frontend_results_cache_requests_total",
                    "Pieces that were looked up in the results cache.",
                    &cache.requests,
                ),
                (
                    "lgtm_traces_query_frontend_results_cache_hits_total",
                    "Pieces of which it had at least a part.",
                    &cache.hits,
                ),
            ] {
                e.counter(name, help, &[], n(counter));
            }
        }
    }
}
