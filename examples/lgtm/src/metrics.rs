//! The host's own metrics, gathered when they are asked for. Names follow Mimir's where the meaning is the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lgtm_core::frontend::ResultsCacheStats;
use lgtm_core::http::Inflight;
use lgtm_core::telemetry::{Collection, Registry};
use lgtm_tsdb::bucket::BucketBlocks;
use lgtm_tsdb::components::{BlocksCleaner, Distributor, Ingester, QueryFrontend};

/// Where the values come from.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) ingester: Arc<Ingester>,
    pub(crate) distributor: Arc<Distributor>,
    pub(crate) blocks: Arc<BucketBlocks>,
    pub(crate) inflight: Arc<Inflight>,
    pub(crate) cleaner: Arc<BlocksCleaner>,
    pub(crate) frontend: Arc<QueryFrontend>,
}

fn n(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
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

impl Metrics {
    /// Has the registry ask for them at every scrape.
    pub(crate) fn register(self, registry: &Registry) {
        registry.collect(move |c| {
            let version = [("version", env!("CARGO_PKG_VERSION"))];
            c.gauge("lgtm_build_info", "Version of the program.", &version, 1.0);
            self.write_path(c);
            self.head(c);
            self.log(c);
            self.storage(c);
            self.queries(c);
            self.query_frontend(c);
        });
    }

    fn queries(&self, e: &mut Collection) {
        let c = self.frontend.engine().counts();
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
        let held = self.frontend.engine().memory().held_bytes();
        let help = "Memory that queries and their answers hold.";
        e.gauge("lgtm_query_memory_bytes", help, &[], held as f64);
    }

    fn query_frontend(&self, e: &mut Collection) {
        let c = self.frontend.counts();
        for (op, counter) in [("query", &c.instant), ("query_range", &c.range)] {
            let help = "Queries that came in.";
            e.counter(
                "cortex_query_frontend_queries_total",
                help,
                &[("op", op)],
                n(counter),
            );
        }
        let Some(frontend) = self.frontend.frontend() else {
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

    fn write_path(&self, e: &mut Collection) {
        let c = self.distributor.counts();
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
        e.gauge(
            "cortex_distributor_inflight_push_requests",
            "Pushes under way.",
            &[],
            self.inflight.requests() as f64,
        );
        e.gauge(
            "cortex_distributor_inflight_push_requests_bytes",
            "Bytes of pushes under way, compressed and decompressed.",
            &[],
            self.inflight.bytes() as f64,
        );
        for ((tenant, reason), count) in c.discarded.lock().iter() {
            let labels = [("user", tenant.as_str()), ("reason", *reason)];
            let help = "Samples that were not stored.";
            e.counter(
                "cortex_discarded_samples_total",
                help,
                &labels,
                *count as f64,
            );
        }
    }

    fn head(&self, e: &mut Collection) {
        let tenants = self.ingester.series_by_tenant();
        let total: u64 = tenants.iter().map(|t| t.in_memory).sum();
        e.gauge(
            "cortex_ingester_memory_users",
            "Tenants with a head.",
            &[],
            tenants.len() as f64,
        );
        e.gauge(
            "cortex_ingester_memory_series",
            "Series in memory.",
            &[],
            total as f64,
        );
        // With ten thousand tenants a series each would be more than it tells.
        for t in tenants.iter().take(100) {
            let labels = [("user", t.tenant.as_str())];
            e.gauge(
                "cortex_ingester_active_series",
                "Series that got a sample lately.",
                &labels,
                t.active as f64,
            );
        }
        let (index_bytes, exemplars) = self.ingester.index_bytes_and_exemplars();
        e.gauge(
            "lgtm_head_index_bytes",
            "Memory of symbols and postings in the heads.",
            &[],
            index_bytes as f64,
        );
        e.gauge(
            "cortex_ingester_tsdb_exemplar_exemplars_in_storage",
            "Exemplars held.",
            &[],
            exemplars as f64,
        );
        e.gauge(
            "lgtm_head_chunk_file_bytes",
            "Size of finished chunks on disk.",
            &[],
            self.ingester.chunk_file_bytes() as f64,
        );
        e.counter(
            "lgtm_head_damaged_chunks_total",
            "Finished chunks that could not be read from disk and were set aside.",
            &[],
            self.ingester.damaged_chunks() as f64,
        );
    }

    fn log(&self, e: &mut Collection) {
        let wal = self.ingester.wal_stats();
        e.counter(
            "lgtm_wal_written_bytes_total",
            "Bytes written to the log.",
            &[],
            wal.bytes_written as f64,
        );
        e.counter(
            "lgtm_wal_records_total",
            "Records appended to the log.",
            &[],
            wal.records as f64,
        );
        e.counter(
            "lgtm_wal_frames_total",
            "Groups of records written.",
            &[],
            wal.frames as f64,
        );
        e.counter(
            "lgtm_wal_syncs_total",
            "Syncs of the log.",
            &[],
            wal.syncs as f64,
        );
        e.gauge(
            "lgtm_wal_size_bytes",
            "Size of the log on disk.",
            &[],
            wal.size_bytes as f64,
        );
        e.gauge(
            "lgtm_wal_failing",
            "1 while the log cannot be written.",
            &[],
            f64::from(u8::from(wal.failing)),
        );
        let refusal = self.ingester.write_refusal();
        e.gauge(
            "lgtm_ingester_writes_refused_seconds",
            "Since how long no write is taken, for trouble with the log or lack of room in its buffer; 0 while writes are taken.",
            &[],
            refusal.map_or(0.0, |r| r.lasted.as_secs_f64()),
        );
        e.gauge(
            "lgtm_wal_poisoned",
            "1 after a failed sync.",
            &[],
            f64::from(u8::from(wal.poisoned)),
        );
        if let Some(at) = self.ingester.replay_progress() {
            e.gauge(
                "lgtm_wal_replay_done_bytes",
                "Bytes of the log read back at start.",
                &[],
                at.done_bytes as f64,
            );
            e.gauge(
                "lgtm_wal_replay_total_bytes",
                "Bytes of the log that were there at start.",
                &[],
                at.total_bytes as f64,
            );
        }
        if let Some(report) = self.ingester.replay_report() {
            e.gauge(
                "lgtm_wal_replayed_samples",
                "Samples read back at start.",
                &[],
                report.samples as f64,
            );
            e.gauge(
                "lgtm_wal_replay_damaged",
                "Damaged parts of the log set aside at start, and runs of segments that are missing.",
                &[],
                report.log.set_aside.len() as f64,
            );
            e.gauge(
                "lgtm_wal_replay_lost_chunks",
                "Chunks that a checkpoint names and the chunk files did not have at start.",
                &[],
                report.lost_chunks as f64,
            );
            e.gauge(
                "lgtm_wal_replay_torn_tail_bytes",
                "Bytes cut off the end of the log at start.",
                &[],
                report.log.torn_tail as f64,
            );
        }
    }

    fn storage(&self, e: &mut Collection) {
        let flushed = self.ingester.flush_counts();
        e.counter(
            "cortex_ingester_shipper_uploads_total",
            "Blocks uploaded.",
            &[],
            n(&flushed.blocks),
        );
        e.counter(
            "cortex_ingester_shipper_upload_failures_total",
            "Flushes that failed.",
            &[],
            n(&flushed.failures),
        );
        let last = n(&flushed.last_success_ms) / 1000.0;
        let help = "When a flush last succeeded, seconds since the epoch.";
        e.gauge(
            "cortex_ingester_shipper_last_successful_upload_timestamp_seconds",
            help,
            &[],
            last,
        );
        e.counter(
            "cortex_compactor_blocks_cleaned_total",
            "Partial blocks deleted.",
            &[],
            self.cleaner.deleted() as f64,
        );
        let blocks = self.blocks.stats();
        e.gauge(
            "cortex_bucket_store_blocks_loaded",
            "Blocks known.",
            &[],
            blocks.blocks as f64,
        );
        e.counter(
            "lgtm_bucket_blocks_opened_total",
            "Readers of blocks opened.",
            &[],
            blocks.opened as f64,
        );
        e.gauge(
            "lgtm_bucket_blocks_set_aside",
            "Damaged blocks set aside.",
            &[],
            blocks.set_aside.len() as f64,
        );
        if let Some(pages) = self.blocks.page_cache_stats() {
            let name = [("name", "block-pages")];
            for (metric, help, count) in [
                (
                    "thanos_cache_requests_total",
                    "Keys asked for.",
                    pages.requests,
                ),
                ("thanos_cache_hits_total", "Keys found.", pages.hits),
                (
                    "lgtm_cache_evicted_total",
                    "Values dropped for others.",
                    pages.evicted,
                ),
            ] {
                e.counter(metric, help, &name, count as f64);
            }
            e.gauge("lgtm_cache_bytes", "Bytes held.", &name, pages.bytes as f64);
        }
        for (tenant, block, _) in blocks.set_aside.iter().take(100) {
            let block = block.to_string();
            let labels = [("user", tenant.as_str()), ("block", block.as_str())];
            e.gauge(
                "lgtm_bucket_block_set_aside",
                "1 for a damaged block.",
                &labels,
                1.0,
            );
        }
    }
}
