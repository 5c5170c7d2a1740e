//! Caches of what was read of blocks, by Tempo's roles. Blocks never change, so nothing is ever taken out of them.

use std::sync::Arc;

use bytes::Bytes;
use lgtm_core::Result;
use lgtm_core::cache::{Cache, CacheExt};
use lgtm_core::storage::{PageCache, ReadAt};

/// Pages of columns are large; smaller parts of them would only make more keys.
const PAGE_BYTES: u64 = 64 << 10;

/// Caches that live longer than the process, or belong to several. By default there are none: filters and footers then stay in memory with their
/// block, and pages are read anew.
#[derive(Debug, Clone, Default)]
pub struct BlockCaches {
    /// Shards of bloom filters, some 100 KiB each.
    pub blooms: Option<Arc<dyn Cache>>,
    /// Footers, tens to hundreds of KiB each.
    pub footers: Option<Arc<dyn Cache>>,
    /// Pages of columns, in pieces of 64 KiB: large, but searches over the same blocks read no object then.
    pub pages: Option<Arc<dyn Cache>>,
}

impl BlockCaches {
    pub(super) fn over(&self, data: Arc<dyn ReadAt>) -> Arc<dyn ReadAt> {
        match &self.pages {
            Some(cache) => PageCache::new(Arc::clone(cache), PAGE_BYTES)
                .large_reads()
                .over(data),
            None => data,
        }
    }
}

/// What is under `key`, else what `load` gives; neither is used or kept that is not good.
pub(super) async fn kept<F: Future<Output = Result<Bytes>>>(
    cache: Option<&Arc<dyn Cache>>,
    key: &str,
    is_good: impl Fn(&[u8]) -> bool,
    load: impl FnOnce() -> F,
) -> Result<Bytes> {
    let Some(cache) = cache else {
        return load().await;
    };
    if let Some(found) = cache.get(key).await
        && is_good(&found)
    {
        return Ok(found);
    }
    let loaded = load().await?;
    if is_good(&loaded) {
        cache.set(key, loaded.clone(), None).await;
    }
    Ok(loaded)
}
