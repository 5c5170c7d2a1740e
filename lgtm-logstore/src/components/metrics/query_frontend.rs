//! What the query-frontend tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lgtm_core::frontend::ResultsCacheStats;
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
        for (op, counter) in [("query", &c.instant), ("query_range", &c.range)] {
            e.counter(
                "loki_query_frontend_queries_total",
                "Queries that came in.",
                &[("op", op)],
                n(counter),
            );
        }
        e.counter(
            "lgtm_logs_query_frontend_cut_answers_total",
            "Answers that were cut since they had too many series.",
            &[],
            n(&c.cut),
        );
        let Some(frontend) = self.frontend() else {
            return;
        };
        let s = frontend.stats();
        for (name, help, counter) in [
            (
                "lgtm_logs_query_frontend_partitions_total",
                "Pieces that queries were cut into in time.",
                &s.pieces,
            ),
            (
                "loki_query_frontend_sharding_parsed_queries_total",
                "Pieces that were looked at for cutting them by series.",
                &s.shardings_tried,
            ),
            (
                "lgtm_logs_query_frontend_sharded_total",
                "Pieces that were cut by series, or at one time by time.",
                &s.sharded,
            ),
            (
                "loki_query_frontend_shards_total",
                "Parts that they were cut into.",
                &s.legs,
            ),
            (
                "lgtm_logs_query_frontend_requests_total",
                "Parts of queries that went to the engine.",
                &s.downstream,
            ),
            (
                "lgtm_logs_query_frontend_retries_total",
                "Parts of queries that were sent again.",
                &s.retries,
            ),
        ] {
            e.counter(name, help, &[], n(counter));
        }
        e.gauge(
            "loki_query_frontend_queue_length",
            "Parts of queries that wait for a turn.",
            &[],
            frontend.waiting() as f64,
        );
        if let Some(s) = frontend.empty_ranges_stats() {
            for (name, help, counter) in [
                (
                    "loki_query_frontend_log_result_cache_hit_total",
                    "Pieces of log queries of which it was known that they are empty, or a part of them.",
                    &s.hits,
                ),
                (
                    "loki_query_frontend_log_result_cache_miss_total",
                    "Pieces of log queries of which nothing was known.",
                    &s.misses,
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
    for (name, help, counter) in [
        (
            "lgtm_logs_query_result_cache_requests_total",
            "Answers to metric queries asked for.",
            &s.requests,
        ),
        (
            "lgtm_logs_query_result_cache_hits_total",
            "Answers to metric queries found.",
            &s.hits,
        ),
        (
            "lgtm_logs_query_result_cache_bad_entries_total",
            "Entries found that did not decode or had another key.",
            &s.bad,
        ),
    ] {
        e.counter(name, help, &[], n(counter));
    }
    for (reason, counter) in [("too-new", &s.too_new), ("has-modifiers", &s.has_modifiers)] {
        e.counter(
            "lgtm_logs_query_result_cache_skipped_total",
            "Pieces of metric queries that could not be looked up.",
            &[("reason", reason)],
            n(counter),
        );
    }
}
