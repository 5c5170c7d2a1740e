//! Pages of files in a cache, so that small reads that come again cost no request.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use crate::cache::{Cache, CacheStats};
use crate::error::Result;
use crate::storage::read_at::{ReadAt, ReadPlan, union_len};

/// Reads that use most of more pages than these go to the file and are not kept, unless [`PageCache::large_reads`] says so: a query over everything
/// would push out what others come back for.
const MAX_DENSE_PAGES: u64 = 8;

/// Keeps pages of immutable files in a [`Cache`], by the file's place and the number of the page.
///
/// Pages that miss are read whole, neighbours together; two who miss the same page at once both read it.
#[derive(Debug, Clone)]
pub struct PageCache {
    cache: Arc<dyn Cache>,
    page_bytes: u64,
    edition: u64,
    ttl: Option<Duration>,
    max_dense_pages: u64,
}

impl PageCache {
    /// Pages of `page_bytes` (16 KB is Mimir's size for chunks; at least 1) in `cache`.
    pub fn new(cache: Arc<dyn Cache>, page_bytes: u64) -> Self {
        Self {
            cache,
            page_bytes: page_bytes.max(1),
            edition: 0,
            ttl: None,
            max_dense_pages: MAX_DENSE_PAGES,
        }
    }

    /// Keeps each page for `ttl`. Default: until there is no room.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Keeps what large reads use too: for a cache that has room for all that is asked for.
    #[must_use]
    pub fn large_reads(mut self) -> Self {
        self.max_dense_pages = u64::MAX;
        self
    }

    /// The same cache, in which no page of another edition is found: after a page turned out damaged, the next edition reads anew.
    #[must_use]
    pub fn edition(&self, edition: u64) -> Self {
        Self {
            edition,
            ..self.clone()
        }
    }

    /// Counts of the cache.
    pub fn stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// `file`, read through the cache. Its place must name it for ever, as that of a block's file does.
    pub fn over(&self, file: Arc<dyn ReadAt>) -> Arc<dyn ReadAt> {
        Arc::new(PagedFile {
            file,
            pages: self.clone(),
        })
    }
}

#[derive(Debug)]
struct PagedFile {
    file: Arc<dyn ReadAt>,
    pages: PageCache,
}

impl PagedFile {
    fn page_range(&self, page: u64) -> Range<u64> {
        let size = self.pages.page_bytes;
        page * size..((page + 1) * size).min(self.file.size())
    }

    /// The numbers of all pages that `wishes` touch, ascending.
    fn pages_of(&self, wishes: &[Range<u64>]) -> Vec<u64> {
        let size = self.pages.page_bytes;
        let mut pages: Vec<u64> = Vec::new();
        for wish in wishes {
            let first = pages.last().map_or(0, |last| last + 1);
            pages.extend((wish.start / size).max(first)..wish.end.div_ceil(size));
        }
        pages
    }

    /// The bytes of `pages`, which ascend, out of the cache or the file.
    async fn load(&self, pages: &[u64], plan: &ReadPlan) -> Result<Vec<Bytes>> {
        let (place, edition) = (self.file.place(), self.pages.edition);
        let key = |page: &u64| match edition {
            0 => format!("{place}:{page}"),
            _ => format!("{place}@{edition}:{page}"),
        };
        let keys: Vec<String> = pages.iter().map(key).collect();
        let names: Vec<&str> = keys.iter().map(String::as_str).collect();
        let mut found = self.pages.cache.get_many(&names).await;
        found.resize(names.len(), None);
        let mut missing = Vec::new();
        for (i, page) in found.iter_mut().enumerate() {
            let range = self.page_range(pages[i]);
            // Somebody else's bytes under this key are as good as none.
            page.take_if(|p| p.len() as u64 != range.end - range.start);
            if page.is_none() {
                missing.push((i, range));
            }
        }
        let wishes: Vec<_> = missing.iter().map(|(_, range)| range.clone()).collect();
        let read = self.file.read_many(&wishes, plan).await?;
        for ((i, _), page) in missing.into_iter().zip(read) {
            let (key, ttl) = (&keys[i], self.pages.ttl);
            self.pages.cache.set(key, page.clone(), ttl).await;
            found[i] = Some(page);
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// The bytes of `wish`, of which all pages are among `bytes`.
    fn cut(&self, wish: &Range<u64>, pages: &[u64], bytes: &[Bytes]) -> Bytes {
        let size = self.pages.page_bytes;
        let Ok(first) = pages.binary_search(&(wish.start / size)) else {
            return Bytes::new();
        };
        let (from, len) = (
            (wish.start % size) as usize,
            (wish.end - wish.start) as usize,
        );
        if from + len <= bytes[first].len() {
            return bytes[first].slice(from..from + len);
        }
        let mut joined = BytesMut::with_capacity(len);
        joined.extend_from_slice(&bytes[first][from..]);
        for page in &bytes[first + 1..] {
            let part = page.len().min(len - joined.len());
            joined.extend_from_slice(&page[..part]);
        }
        joined.freeze()
    }
}

#[async_trait]
impl ReadAt for PagedFile {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let plan = ReadPlan::default();
        let read = self.read_many(std::slice::from_ref(&range), &plan).await?;
        Ok(read.into_iter().next().unwrap_or_default())
    }

    async fn read_many(&self, wishes: &[Range<u64>], plan: &ReadPlan) -> Result<Vec<Bytes>> {
        let size = self.file.size();
        let is_wrong = |w: &Range<u64>| w.start > w.end || w.end > size;
        let pages = if wishes.iter().any(is_wrong) {
            Vec::new()
        } else {
            self.pages_of(wishes)
        };
        let count = pages.len() as u64;
        let is_dense = 2 * union_len(wishes) > count * self.pages.page_bytes;
        if count == 0 || (count > self.pages.max_dense_pages && is_dense) {
            return self.file.read_many(wishes, plan).await;
        }
        let bytes = self.load(&pages, plan).await?;
        let is_sparse = 4 * union_len(wishes) < count * self.pages.page_bytes;
        let cut = |wish| {
            let part = self.cut(wish, &pages, &bytes);
            if is_sparse {
                // Few bytes of many pages must not keep all of those in memory.
                Bytes::copy_from_slice(&part)
            } else {
                part
            }
        };
        Ok(wishes.iter().map(cut).collect())
    }

    fn size(&self) -> u64 {
        self.file.size()
    }

    fn place(&self) -> &str {
        self.file.place()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::cache::{MemoryCache, MemoryCacheSettings};
    use crate::clock::ManualClock;
    use crate::storage::MemoryFile;

    /// Counts what is read of a file.
    #[derive(Debug)]
    struct Counted(MemoryFile, AtomicU64);

    #[async_trait]
    impl ReadAt for Counted {
        async fn read(&self, range: Range<u64>) -> Result<Bytes> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.read(range).await
        }

        fn size(&self) -> u64 {
            self.0.size()
        }

        fn place(&self) -> &str {
            self.0.place()
        }
    }

    fn counted(bytes: Vec<u8>, page_bytes: u64) -> (Arc<Counted>, Arc<dyn ReadAt>) {
        let settings = MemoryCacheSettings::default();
        let clock = Arc::new(ManualClock::default());
        let cache = MemoryCache::new("pages", &settings, clock).unwrap();
        let file = Arc::new(Counted(MemoryFile::new("f", bytes), AtomicU64::new(0)));
        let paged = PageCache::new(Arc::new(cache), page_bytes).over(file.clone());
        (file, paged)
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(future)
    }

    proptest! {
        #[test]
        fn pages_read_as_the_file_does(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            page_bytes in 1u64..40,
            batches in proptest::collection::vec(
                proptest::collection::vec((0u64..210, 0u64..60), 1..12), 1..8),
            max_gap_bytes in 0u64..100,
        ) {
            let (file, paged) = counted(bytes, page_bytes);
            let plan = ReadPlan { max_gap_bytes, ..ReadPlan::default() };
            for mut batch in batches {
                batch.sort_unstable();
                let batch: Vec<_> = batch.into_iter().map(|(s, n)| s..s + n).collect();
                let wanted = block_on(file.0.read_many(&batch, &plan));
                let read = block_on(paged.read_many(&batch, &plan));
                match wanted {
                    Ok(wanted) => prop_assert_eq!(read.unwrap(), wanted),
                    Err(_) => prop_assert!(read.is_err()),
                }
            }
        }
    }

    #[test]
    fn what_was_read_is_not_read_again_and_large_reads_are_not_kept() {
        let (file, paged) = counted((0..200).collect(), 10);
        let reads = |range| {
            let before = file.1.load(Ordering::Relaxed);
            block_on(paged.read(range)).unwrap();
            file.1.load(Ordering::Relaxed) - before
        };
        assert_eq!(reads(0..200), 1);
        assert_eq!(reads(3..8), 1, "the large read was not kept");
        assert_eq!(reads(2..10), 0);
        assert_eq!(reads(2..33), 1);
        assert_eq!(reads(5..40), 0);
        assert_eq!(reads(195..200), 1, "the last page is short");
        assert_eq!(reads(190..200), 0);
    }

    #[test]
    fn large_reads_are_kept_where_that_is_wanted() {
        let settings = MemoryCacheSettings::default();
        let clock = Arc::new(ManualClock::default());
        let cache = MemoryCache::new("pages", &settings, clock.clone()).unwrap();
        let bytes: Vec<u8> = (0..200).collect();
        let file = Arc::new(Counted(MemoryFile::new("f", bytes), AtomicU64::new(0)));
        let pages = PageCache::new(Arc::new(cache), 10);
        let paged = pages
            .large_reads()
            .ttl(Duration::from_secs(9))
            .over(file.clone());
        let reads = || {
            let before = file.1.load(Ordering::Relaxed);
            block_on(paged.read(0..200)).unwrap();
            file.1.load(Ordering::Relaxed) - before
        };
        assert_eq!((reads(), reads()), (1, 0));
        clock.advance(Duration::from_secs(9));
        assert_eq!(reads(), 1, "its time was over");
    }
}
