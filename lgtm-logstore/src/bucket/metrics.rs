//! What is told of index files and chunks in the object store.

use std::sync::Arc;

use lgtm_core::telemetry::{Collection, Registry};

use super::bucket_chunks::BucketChunks;

/// Index files set aside that are named, each with a series of its own.
const MAX_NAMED: usize = 100;

impl BucketChunks {
    pub(super) fn register_metrics(self: &Arc<Self>, registry: &Registry) {
        registry.collect_from(self, Self::metrics);
    }

    fn cache_metrics(&self, e: &mut Collection) {
        let Some(cache) = self.chunk_cache_stats() else {
            return;
        };
        let name = [("name", "log-chunks")];
        for (metric, help, count) in [
            ("loki_cache_fetched_keys", "Keys asked for.", cache.requests),
            ("loki_cache_hits", "Keys found.", cache.hits),
            (
                "lgtm_cache_evicted_total",
                "Values dropped for others.",
                cache.evicted,
            ),
        ] {
            e.counter(metric, help, &name, count as f64);
        }
        e.gauge("lgtm_cache_bytes", "Bytes held.", &name, cache.bytes as f64);
    }

    fn metrics(&self, e: &mut Collection) {
        let stats = self.stats();
        let gauges = [
            (
                "lgtm_logs_index_files",
                "Index files known.",
                stats.index_files as f64,
            ),
            (
                "lgtm_logs_index_memory_bytes",
                "Memory of open index files.",
                stats.index_memory_bytes as f64,
            ),
            (
                "lgtm_logs_index_files_set_aside",
                "Damaged index files set aside.",
                stats.index_files_set_aside.len() as f64,
            ),
            (
                "lgtm_logs_index_is_listed",
                "1 if the last listing of index files succeeded.",
                f64::from(u8::from(stats.is_listed)),
            ),
            (
                "lgtm_logs_side_objects",
                "Side files known.",
                stats.side.objects as f64,
            ),
            (
                "lgtm_logs_side_memory_bytes",
                "Memory of side files.",
                stats.side.memory_bytes as f64,
            ),
        ];
        for (name, help, value) in gauges {
            e.gauge(name, help, &[], value);
        }
        let counters = [
            (
                "lgtm_logs_index_files_opened_total",
                "Readers of index files opened.",
                stats.index_files_opened,
            ),
            (
                "lgtm_logs_chunks_loaded_total",
                "Chunks loaded.",
                stats.chunks_loaded,
            ),
            (
                "lgtm_logs_chunks_loaded_in_part_total",
                "Chunks of which only symbols, block table and some blocks were loaded.",
                stats.chunks_loaded_in_part,
            ),
            (
                "lgtm_logs_chunk_bytes_loaded_total",
                "Bytes of chunks loaded.",
                stats.chunk_bytes_loaded,
            ),
            (
                "lgtm_logs_chunks_damaged_total",
                "Chunks, and blocks of them, found damaged or gone.",
                stats.chunks_damaged,
            ),
        ];
        let side = &stats.side;
        let counters = counters.into_iter().chain([
            (
                "lgtm_logs_side_chunks_asked_total",
                "Chunks that side files were asked for.",
                side.chunks_asked,
            ),
            (
                "lgtm_logs_side_chunks_known_total",
                "Chunks that side files knew.",
                side.chunks_known,
            ),
            (
                "lgtm_logs_side_chunks_skipped_total",
                "Chunks not read as they surely have nothing of interest.",
                side.chunks_skipped,
            ),
            (
                "lgtm_logs_side_chunks_counted_total",
                "Chunks not read as they were counted already.",
                side.chunks_counted,
            ),
            (
                "lgtm_logs_side_bytes_loaded_total",
                "Bytes of side files loaded.",
                side.bytes_loaded,
            ),
            (
                "lgtm_logs_side_failures_total",
                "Side files, and sections of them, found damaged or gone, and loads that failed.",
                side.failures,
            ),
            (
                "lgtm_logs_side_write_failures_total",
                "Side files that could not be made or written.",
                side.write_failures,
            ),
        ]);
        for (name, help, value) in counters {
            e.counter(name, help, &[], value as f64);
        }
        self.cache_metrics(e);
        for (path, _) in stats.index_files_set_aside.iter().take(MAX_NAMED) {
            e.gauge(
                "lgtm_logs_index_file_set_aside",
                "1 for a damaged index file.",
                &[("file", path.as_str())],
                1.0,
            );
        }
    }
}
