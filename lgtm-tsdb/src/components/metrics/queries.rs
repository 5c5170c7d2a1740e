//! Queries.

use std::sync::Arc;

use lgtm_core::frontend::ResultsCacheStats;
use lgtm_core::telemetry::{Collection, Registry};

use super::value::n;
use crate::components::{Querier, QueryFrontend};

impl Querier {
    pub(in crate::components) fn register_metrics(self: &Arc<Self>, registry: &Registry) {
        registry.collect_from(self, Self::engine_metrics);
    }

    fn engine_metrics(&self, e: &mut Collection) {
        let c = self.engine().counts();
        for (name, help, counter) in [
            ("lgtm_queries_total", "Queries begun.", &c.queries),
            (
                "lgtm_queries_failed_total",
                "Queries that ended with an error.",
                &c.failed,
            ),
            (
                "lgtm_query_panics_total",
                "Queries that ran into a fault of this program.",
                &c.panicked,
            ),
            (
                "lgtm_query_samples_total",
                "Samples that queries looked at.",
                &c.samples,
            ),
        ] {
            e.counter(name, help, &[], n(counter));
        }
        let held = self.engine().memory().held_bytes();
        let help = "Memory that queries and their answers hold.";
        e.gauge("lgtm_query_memory_bytes", help, &[], held as f64);
    }
}

impl QueryFrontend {
    pub(in crate::components) fn register_metrics(self: &Arc<Self>, registry: &Registry) {
        registry.collect_from(self, Self::frontend_metrics);
    }

    fn frontend_metrics(&self, e: &mut Collection) {
        let c = self.counts();
        for (op, counter) in [("query", &c.instant), ("query_range", &c.range)] {
            let help = "Queries that came in.";
            e.counter(
                "cortex_query_frontend_queries_total",
                help,
                &[("op", op)],
                n(counter),
            );
        }
        let Some(frontend) = self.frontend() else {
            return;
        };
        let s = frontend.stats();
        for (name, help, counter) in [
            (
                "cortex_frontend_split_queries_total",
                "Pieces that range queries were cut into in time.",
                &s.pieces,
            ),
            (
                "cortex_frontend_query_sharding_rewrites_attempted_total",
                "Pieces that were looked at for cutting them by series.",
                &s.shardings_tried,
            ),
            (
                "cortex_frontend_query_sharding_rewrites_succeeded_total",
                "Pieces that were cut by series.",
                &s.sharded,
            ),
            (
                "cortex_frontend_sharded_queries_total",
                "Parts that they were cut into.",
                &s.legs,
            ),
            (
                "lgtm_query_frontend_requests_total",
                "Parts of queries that went to the engine.",
                &s.downstream,
            ),
            (
                "lgtm_query_frontend_retries_total",
                "Parts of queries that were sent again.",
                &s.retries,
            ),
        ] {
            e.counter(name, help, &[], n(counter));
        }
        e.gauge(
            "cortex_query_frontend_queue_length",
            "Parts of queries that wait for a turn.",
            &[],
            frontend.waiting() as f64,
        );
        if let Some(s) = frontend.errors_cache_stats() {
            for (name, help, counter) in [
                (
                    "cortex_frontend_query_error_cache_requests_total",
                    "Queries whose error was looked up.",
                    &s.requests,
                ),
                (
                    "cortex_frontend_query_error_cache_hits_total",
                    "Queries whose error was known.",
                    &s.hits,
                ),
            ] {
                e.counter(name, help, &[], n(counter));
            }
        }
        if let Some(stats) = frontend.results_cache_stats() {
            results_cache(e, stats);
        }
    }
}

fn results_cache(e: &mut Collection, s: &ResultsCacheStats) {
    let ranges = [("request_type", "query_range")];
    for (name, help, counter) in [
        (
            "cortex_frontend_query_result_cache_requests_total",
            "Entries asked for.",
            &s.requests,
        ),
        (
            "cortex_frontend_query_result_cache_hits_total",
            "Entries found.",
            &s.hits,
        ),
        (
            "lgtm_query_result_cache_bad_entries_total",
            "Entries found that did not decode or had another key.",
            &s.bad,
        ),
    ] {
        e.counter(name, help, &ranges, n(counter));
    }
    for (reason, counter) in [
        ("too-new", &s.too_new),
        ("unaligned-time-range", &s.unaligned),
        ("has-modifiers", &s.has_modifiers),
    ] {
        let labels = [ranges[0], ("reason", reason)];
        let help = "Pieces of queries that could not be looked up.";
        e.counter(
            "cortex_frontend_query_result_cache_skipped_total",
            help,
            &labels,
            n(counter),
        );
    }
}
