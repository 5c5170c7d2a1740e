//! Moves finished chunks of the heads into the bucket.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use lgtm_core::Result;
use lgtm_core::clock::Clock;
use lgtm_core::exec::in_place;
use parking_lot::Mutex;

use crate::bucket::{BucketWriter, PackedChunk};
use crate::head::{Heads, LeavingChunk, LeavingQueue};

/// What a flush has moved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlushReport {
    /// Chunks put into the store.
    pub chunks: u64,
    /// Bytes of these, as they are stored.
    pub bytes: u64,
    /// Index files written, by their paths.
    pub index_files: Vec<String>,
}

/// Counts of flushes.
#[derive(Debug, Default)]
pub struct FlushCounts {
    /// Chunks put into the store, by why they were finished.
    pub chunks: Mutex<BTreeMap<&'static str, u64>>,
    /// Bytes of these, as they are stored.
    pub bytes: AtomicU64,
    /// Entries of these.
    pub entries: AtomicU64,
    /// Index files written.
    pub index_files: AtomicU64,
    /// Flushes that failed.
    pub failures: AtomicU64,
    /// Wall-clock time of the last success, milliseconds.
    pub last_success_ms: AtomicU64,
}

/// When the index of what was put is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IndexWhen {
    /// At once.
    Now,
    /// When the first chunk has waited for so long, or so many wait.
    Due { after: Duration, chunks: usize },
}

/// Chunks that the store has and no index file names yet.
#[derive(Debug, Default)]
struct Unindexed {
    chunks: Vec<LeavingChunk>,
    /// When the first of them was put, on the clock that never goes back.
    since: Option<Duration>,
}

/// Bytes of chunks that are loaded and packed at once: of small ones many, as each job has its price.
const PORTION_BYTES: usize = 256 << 10;

/// A chunk with its number in the flush, packed, unless it cannot be read.
type Packed = (usize, Result<Option<PackedChunk>>);
/// The number of a chunk, and bytes and entries that were put.
type Put = (Option<usize>, Result<Option<(u64, u64)>>);

/// Moves finished chunks of the heads into the bucket: first chunks, then the index that names them, then the heads let go of them.
///
/// Each verb may be dropped at any await: what is not in the store by then stays in the heads, and goes with the next flush.
#[derive(Debug)]
pub(super) struct ChunkFlusher {
    writer: BucketWriter,
    clock: Arc<dyn Clock>,
    concurrency: usize,
    /// One flush at a time.
    unindexed: tokio::sync::Mutex<Unindexed>,
    pub(super) counts: FlushCounts,
}

impl ChunkFlusher {
    pub(super) fn new(writer: BucketWriter, clock: Arc<dyn Clock>, concurrency: usize) -> Self {
        Self {
            writer,
            clock,
            concurrency,
            unindexed: tokio::sync::Mutex::default(),
            counts: FlushCounts::default(),
        }
    }

    /// Puts all finished chunks into the bucket, and writes their index `when` it is to be.
    ///
    /// # Errors
    /// The first one; all else is moved all the same.
    pub(super) async fn flush(&self, heads: &Arc<Heads>, when: IndexWhen) -> Result<FlushReport> {
        let mut unindexed = self.unindexed.lock().await;
        let mut report = FlushReport::default();
        let put = self.put_chunks(heads, &mut unindexed, &mut report).await;
        let is_due = match when {
            IndexWhen::Now => true,
            IndexWhen::Due { after, chunks } => {
                let waited = |since| self.clock.monotonic().saturating_sub(since) >= after;
                unindexed.chunks.len() >= chunks || unindexed.since.is_some_and(waited)
            }
        };
        let indexed = if is_due && !unindexed.chunks.is_empty() {
            self.write_index(heads, &mut unindexed, &mut report).await
        } else {
            Ok(())
        };
        let done = put.and(indexed);
        match &done {
            Ok(()) => {
                let now_ms = u64::try_from(self.clock.now_ms().get()).unwrap_or(0);
                self.counts.last_success_ms.store(now_ms, Ordering::Relaxed);
            }
            Err(_) => self.failed(),
        }
        done.map(|()| report)
    }

    /// Counts a flush that failed.
    pub(super) fn failed(&self) {
        self.counts.failures.fetch_add(1, Ordering::Relaxed);
    }

    async fn put_chunks(
        &self,
        heads: &Arc<Heads>,
        unindexed: &mut Unindexed,
        report: &mut FlushReport,
    ) -> Result<()> {
        let mut leaving = heads.begin_flush().await?;
        let queue = Arc::new(LeavingQueue::new(&leaving));
        let workers = (0..self.concurrency).map(|_| {
            let put = |packed| self.put_next(heads, &queue, packed);
            Box::pin(futures::stream::unfold(Some(VecDeque::new()), put))
        });
        let mut puts = futures::stream::select_all(workers);
        let mut failed = None;
        while let Some((number, put)) = puts.next().await {
            match put {
                Ok(size) => {
                    let Some(number) = number else { continue };
                    let chunk = leaving.put(number);
                    if let Some((bytes, entries)) = size {
                        report.chunks += 1;
                        report.bytes += bytes;
                        self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
                        self.counts.entries.fetch_add(entries, Ordering::Relaxed);
                        *self.counts.chunks.lock().entry(chunk.reason()).or_default() += 1;
                    }
                    unindexed.chunks.push(chunk);
                    let now = self.clock.monotonic();
                    unindexed.since.get_or_insert(now);
                }
                Err(e) => {
                    failed.get_or_insert(e);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Puts one chunk of those that were packed, or of the next ones in the queue. Gives its number and, unless it cannot be read for good, its bytes
    /// and entries; `None` when there is none left. Without `packed` it is over.
    async fn put_next(
        &self,
        heads: &Arc<Heads>,
        queue: &Arc<LeavingQueue>,
        packed: Option<VecDeque<Packed>>,
    ) -> Option<(Put, Option<VecDeque<Packed>>)> {
        let mut packed = packed?;
        if packed.is_empty() {
            let packer = self.writer.packer();
            let pack = move |chunk, beside| packer.pack(chunk, beside);
            match heads.load_some(queue, PORTION_BYTES, pack).await {
                Ok(some) => packed.extend(some),
                // The pool is gone.
                Err(e) => return Some(((None, Err(e)), None)),
            }
        }
        let (number, chunk) = packed.pop_front()?;
        let put = async {
            let Some(chunk) = chunk? else {
                return Ok(None);
            };
            let size = (chunk.size_bytes(), chunk.entry_count());
            self.writer.put_packed(chunk).await?;
            Ok(Some(size))
        };
        Some(((Some(number), put.await), Some(packed)))
    }

    async fn write_index(
        &self,
        heads: &Arc<Heads>,
        unindexed: &mut Unindexed,
        report: &mut FlushReport,
    ) -> Result<()> {
        let written = self.writer.write_index().await?;
        let files = written.files.len() as u64;
        self.counts.index_files.fetch_add(files, Ordering::Relaxed);
        report.index_files.extend(written.files);
        let Unindexed { chunks, .. } = std::mem::take(unindexed);
        // No await between: chunks that nobody remembers would stay for good.
        in_place(|| heads.give(chunks));
        heads.checkpoint().await?;
        Ok(())
    }
}
