//! Which layer keeps what it has loaded in which cache.

use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::config::Config;

/// Caches of the metrics store, each by its name in `caches`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MetricsCaches {
    /// Answers of range queries, and errors. Empty: memory of the process, as much as query_frontend.results_cache_size.
    pub(crate) results: String,
    /// Pages of chunks of blocks, for a day. Empty: memory of the process, as much as store_gateway.page_cache_size.
    pub(crate) chunks: String,
    /// Pages of indexes of blocks: postings, series, symbols; for a week. Empty: memory of the process, as much as store_gateway.page_cache_size.
    pub(crate) index: String,
    /// Which series of a block pass a selector, for a week. Empty: memory of the process, as much as store_gateway.postings_cache_size.
    pub(crate) postings: String,
    /// What each block says of itself (meta.json), for a day. Empty: it is read whenever a block is opened.
    pub(crate) metadata: String,
}

/// Caches of the log store, each by its name in `caches`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogsCaches {
    /// Answers of queries, and ranges without an entry. Empty: memory of the process, as much as query_frontend.results_cache_size.
    pub(crate) results: String,
    /// Chunks as they are in the bucket. Empty: memory of the process, as much as index_gateway.chunk_cache_size.
    pub(crate) chunks: String,
    /// Index files as they are in the bucket, for a day. Empty: those that are open in the process, as many as index_gateway.index_memory holds.
    pub(crate) index: String,
}

/// Caches of the trace store, each by its name in `caches`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TracesCaches {
    /// Answers of queries. Empty: memory of the process, as much as query_frontend.results_cache_size.
    pub(crate) results: String,
    /// Shards of bloom filters. Empty: they stay in memory with their block.
    pub(crate) blooms: String,
    /// Footers of blocks. Empty: they stay in memory with their block.
    pub(crate) footers: String,
    /// Pages of columns, which are large. Empty: they are read anew.
    pub(crate) pages: String,
}

impl Config {
    /// Checks the caches, and that layers name those that there are.
    ///
    /// # Errors
    /// `InvalidInput`, naming the setting.
    pub(super) fn validate_caches(&self) -> Result<()> {
        lgtm_core::cache::Caches::validate(&self.caches)?;
        let (metrics, logs, traces) =
            (&self.metrics.caches, &self.logs.caches, &self.traces.caches);
        for (setting, name) in [
            ("metrics.caches.results", &metrics.results),
            ("metrics.caches.chunks", &metrics.chunks),
            ("metrics.caches.index", &metrics.index),
            ("metrics.caches.postings", &metrics.postings),
            ("metrics.caches.metadata", &metrics.metadata),
            ("logs.caches.results", &logs.results),
            ("logs.caches.chunks", &logs.chunks),
            ("logs.caches.index", &logs.index),
            ("traces.caches.results", &traces.results),
            ("traces.caches.blooms", &traces.blooms),
            ("traces.caches.footers", &traces.footers),
            ("traces.caches.pages", &traces.pages),
        ] {
            if !name.is_empty() && !self.caches.contains_key(name) {
                return Err(Error::InvalidInput(format!(
                    "{setting}: there is no cache called {name:?} in caches"
                )));
            }
        }
        Ok(())
    }
}
