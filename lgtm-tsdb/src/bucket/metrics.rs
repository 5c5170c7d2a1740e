//! What is told of blocks in the object store. Names follow Mimir's where the meaning is the same.

use std::sync::Arc;

use lgtm_core::cache::CacheStats;
use lgtm_core::telemetry::{Collection, Registry};

use super::blocks::BucketBlocks;

/// Blocks set aside that are named, each with a series of its own.
const MAX_NAMED: usize = 100;

impl BucketBlocks {
    pub(super) fn register_metrics(self: &Arc<Self>, registry: &Registry) {
        registry.collect_from(self, Self::metrics);
    }

    fn metrics(&self, e: &mut Collection) {
        let blocks = self.stats();
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
        for (name, stats) in [
            ("block-pages", self.page_cache_stats()),
            ("block-postings", self.postings_cache_stats()),
        ] {
            if let Some(stats) = stats {
                cache_metrics(e, name, &stats);
            }
        }
        for (tenant, block, _) in blocks.set_aside.iter().take(MAX_NAMED) {
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

fn cache_metrics(e: &mut Collection, name: &str, stats: &CacheStats) {
    let name = [("name", name)];
    for (metric, help, count) in [
        (
            "thanos_cache_requests_total",
            "Keys asked for.",
            stats.requests,
        ),
        ("thanos_cache_hits_total", "Keys found.", stats.hits),
        (
            "lgtm_cache_evicted_total",
            "Values dropped for others.",
            stats.evicted,
        ),
    ] {
        e.counter(metric, help, &name, count as f64);
    }
    e.gauge("lgtm_cache_bytes", "Bytes held.", &name, stats.bytes as f64);
}
