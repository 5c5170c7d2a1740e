//! Loading chunks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use lgtm_core::cache::{Cache, CacheExt, CacheStats};
use lgtm_core::clock::Clock;
use lgtm_core::codec::DecodeFail;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::TimestampMs;
use lgtm_core::storage::{BackendKind, Bucket};
use lgtm_core::{DecodeError, Error, ErrorKind, Result};
use parking_lot::Mutex;

use super::chunk_wish::ChunkWish;
use super::open_files::{RETRY_AFTER_MS, is_of_the_object};
use super::ranged_chunk;
use crate::chunk::{Chunk, ChunkCodec, ChunkKey, ChunkLimits, KeyForm, read_object};
use crate::entry::SymbolList;
use crate::schema::SchemaPeriods;

/// Chunks whose faults are remembered; beyond it none are until their times have passed.
const MAX_FAULTS: usize = 10_000;

/// Bytes of an object, and of its symbols, that are checked where they came, in less time than another thread needs to wake up.
const CHECKED_AT_ONCE: usize = 64 << 10;

/// State of decompressions that is kept for the next ones: making it anew costs as much as a small chunk.
#[derive(Debug, Default)]
pub(super) struct CodecPool(Mutex<Vec<ChunkCodec>>);

/// Idle states that are kept.
const MAX_IDLE_CODECS: usize = 16;

impl CodecPool {
    /// Runs `job` with one that has the default bounds.
    pub(super) fn with<T>(&self, job: impl FnOnce(&mut ChunkCodec) -> T) -> T {
        let kept = self.0.lock().pop();
        let mut codec = kept.unwrap_or_default();
        codec.limits = ChunkLimits::default();
        let done = job(&mut codec);
        let mut idle = self.0.lock();
        if idle.len() < MAX_IDLE_CODECS {
            idle.push(codec);
        }
        done
    }
}

/// A chunk in memory, checked: the whole of it, or what a query wants.
#[derive(Debug, Clone)]
pub(super) struct LoadedChunk {
    pub(super) chunk: Chunk,
    pub(super) symbols: Arc<SymbolList>,
    /// Bytes of its object that were read.
    pub(super) size_bytes: u64,
    /// Nanoseconds until the object was there.
    pub(super) load_ns: u64,
    /// The object is not what its key says, though the chunk in it can be read.
    pub(super) fault: Option<String>,
}

/// What was loaded so far.
#[derive(Debug, Default)]
pub(super) struct ChunkCounts {
    loaded: AtomicU64,
    in_part: AtomicU64,
    bytes: AtomicU64,
    damaged: AtomicU64,
}

impl ChunkCounts {
    pub(super) fn loaded(&self) -> u64 {
        self.loaded.load(Ordering::Relaxed)
    }

    /// Of those that were loaded, how many not whole.
    pub(super) fn in_part(&self) -> u64 {
        self.in_part.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Counts a chunk or a part of it that cannot be read.
    pub(super) fn add_damaged(&self) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
    }
}

/// Where chunks come from.
#[derive(Debug)]
pub(super) struct ChunkSource {
    bucket: Bucket,
    periods: SchemaPeriods,
    clock: Arc<dyn Clock>,
    /// Objects of chunks that were loaded lately, if any are kept.
    cache: Option<Arc<dyn Cache>>,
    /// Chunks that cannot be read, why, and until when they are left out.
    faults: Mutex<HashMap<ChunkKey, (String, TimestampMs)>>,
    pub(super) codecs: Arc<CodecPool>,
    pub(super) counts: ChunkCounts,
}

/// The name of a chunk's object in a bucket: on a local disk as Loki's store for file systems spells it.
pub(crate) fn object_name(bucket: &Bucket, periods: &SchemaPeriods, key: &ChunkKey) -> String {
    let form = KeyForm::of(periods.at(key.from_ms).schema);
    match bucket.kind() {
        BackendKind::File => key.file_name(form),
        _ => key.object_name(form),
    }
}

impl ChunkSource {
    pub(super) fn new(
        bucket: Bucket,
        periods: SchemaPeriods,
        clock: Arc<dyn Clock>,
        cache: Option<Arc<dyn Cache>>,
    ) -> Self {
        Self {
            bucket,
            periods,
            clock,
            cache,
            faults: Mutex::default(),
            codecs: Arc::default(),
            counts: ChunkCounts::default(),
        }
    }

    /// As [`ChunkSource::load`] for a chunk of about `size_bytes`, of which only what `wish` wants is read where that is little.
    ///
    /// # Errors
    /// As [`ChunkSource::load`].
    pub(super) async fn load_for(
        &self,
        key: &ChunkKey,
        wish: &ChunkWish,
        size_bytes: u64,
        executor: &Executor,
    ) -> Result<Result<LoadedChunk, String>> {
        if let Some(fault) = self.known_fault(key) {
            return Ok(Err(fault));
        }
        let kept = self.kept(key).await;
        if kept.is_none()
            && size_bytes >= ranged_chunk::MIN_OBJECT_BYTES
            && wish.is_of_few()
            && let Some(loaded) = self.load_ranges(key, wish, executor).await
        {
            return Ok(Ok(loaded));
        }
        self.load_whole(key, kept, executor).await
    }

    /// What is wanted of a chunk by ranges; `None` where only the whole object can tell, or tell what is wrong with it.
    async fn load_ranges(
        &self,
        key: &ChunkKey,
        wish: &ChunkWish,
        executor: &Executor,
    ) -> Option<LoadedChunk> {
        let began = self.clock.monotonic();
        let name = self.name(key);
        let with = (&self.codecs, executor);
        let read = ranged_chunk::load(&self.bucket, &name, key, wish, with).await;
        let read = match read {
            Ok(read) => read?,
            Err(error) => {
                tracing::debug!(chunk = name, %error, "a chunk is read whole, as ranges of it cannot be read");
                return None;
            }
        };
        let took = self.clock.monotonic().saturating_sub(began);
        self.counts.loaded.fetch_add(1, Ordering::Relaxed);
        self.counts.in_part.fetch_add(1, Ordering::Relaxed);
        self.counts
            .bytes
            .fetch_add(read.size_bytes, Ordering::Relaxed);
        Some(LoadedChunk {
            chunk: read.chunk,
            symbols: read.symbols,
            size_bytes: read.size_bytes,
            load_ns: u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
            fault: None,
        })
    }

    /// Loads a chunk, and once more when what came is damaged; `executor` checks it. `Err(warning)` inside `Ok` for one that cannot be read:
    /// it is left out for a while.
    ///
    /// # Errors
    /// Those that say nothing of the chunk: a store that does not answer, a bound.
    pub(super) async fn load(
        &self,
        key: &ChunkKey,
        executor: &Executor,
    ) -> Result<Result<LoadedChunk, String>> {
        if let Some(fault) = self.known_fault(key) {
            return Ok(Err(fault));
        }
        let kept = self.kept(key).await;
        self.load_whole(key, kept, executor).await
    }

    /// The object, if it is kept.
    async fn kept(&self, key: &ChunkKey) -> Option<Bytes> {
        self.cache.as_ref()?.get(&self.plain_name(key)).await
    }

    async fn load_whole(
        &self,
        key: &ChunkKey,
        kept: Option<Bytes>,
        executor: &Executor,
    ) -> Result<Result<LoadedChunk, String>> {
        let mut outcome = self.try_load(key, kept, executor, true).await;
        // Gone is gone; what is damaged may have been so on its way, or where it was kept.
        if outcome
            .as_ref()
            .is_err_and(|e| e.kind() == ErrorKind::Corrupt)
        {
            outcome = self.try_load(key, None, executor, false).await;
        }
        match outcome {
            Ok(mut loaded) => {
                if let Some(fault) = &mut loaded.fault {
                    self.counts.add_damaged();
                    *fault = format!(
                        "chunk {} is damaged, what can be read of it is served: {fault}",
                        self.plain_name(key)
                    );
                    tracing::error!("{fault}");
                }
                Ok(Ok(loaded))
            }
            Err(e) if is_of_the_object(&e) => Ok(Err(self.set_aside(key, &e))),
            Err(e) => Err(e),
        }
    }

    fn name(&self, key: &ChunkKey) -> String {
        object_name(&self.bucket, &self.periods, key)
    }

    /// The key as text, for messages: on a local disk too.
    pub(super) fn plain_name(&self, key: &ChunkKey) -> String {
        key.object_name(KeyForm::of(self.periods.at(key.from_ms).schema))
    }

    fn known_fault(&self, key: &ChunkKey) -> Option<String> {
        let mut faults = self.faults.lock();
        let (text, retry_at_ms) = faults.get(key)?;
        if self.clock.now_ms() < *retry_at_ms {
            return Some(text.clone());
        }
        faults.remove(key);
        None
    }

    fn set_aside(&self, key: &ChunkKey, e: &Error) -> String {
        self.counts.add_damaged();
        let name = self.plain_name(key);
        let text = format!(
            "chunk {name} cannot be read, its entries from {} to {} are missing: {e}",
            key.from_ms, key.through_ms
        );
        tracing::error!(chunk = name, error = %e, "chunk set aside: it cannot be read; the others serve, and answers that lack it say so");
        let now_ms = self.clock.now_ms();
        let mut faults = self.faults.lock();
        if faults.len() >= MAX_FAULTS {
            faults.retain(|_, (_, until)| now_ms < *until);
        }
        if faults.len() < MAX_FAULTS {
            let until = now_ms.saturating_add(RETRY_AFTER_MS);
            faults.insert(key.clone(), (text.clone(), until));
        }
        text
    }

    async fn fetch(&self, name: &str) -> Result<Bytes> {
        let object = self.bucket.get(name).await?;
        self.counts.loaded.fetch_add(1, Ordering::Relaxed);
        let size = object.len() as u64;
        self.counts.bytes.fetch_add(size, Ordering::Relaxed);
        Ok(object)
    }

    /// Counts of what keeps loaded chunks, if any are kept.
    pub(super) fn cache_stats(&self) -> Option<CacheStats> {
        self.cache.as_ref().map(|cache| cache.stats())
    }

    /// `is_strict`: a checksum that does not fit is an error; else the blocks, each of which has its own, tell what can be read.
    async fn try_load(
        &self,
        key: &ChunkKey,
        kept: Option<Bytes>,
        executor: &Executor,
        is_strict: bool,
    ) -> Result<LoadedChunk> {
        let name = self.name(key);
        let began = self.clock.monotonic();
        let cache_key = self.plain_name(key);
        let is_kept = kept.is_some();
        let object = match kept {
            Some(object) => object,
            None => self.fetch(&name).await?,
        };
        let took = self.clock.monotonic().saturating_sub(began);
        let size = object.len() as u64;
        let to_keep = object.clone();
        let key = key.clone();
        let at_once = match object.len() <= CHECKED_AT_ONCE {
            true => self.codecs.with(|codec| {
                codec.limits.max_symbols_bytes = CHECKED_AT_ONCE;
                checked(&key, object.clone(), is_strict, codec).ok()
            }),
            false => None,
        };
        let (chunk, symbols, fault) = match at_once {
            Some(checked) => checked,
            None => {
                let codecs = Arc::clone(&self.codecs);
                let job = move |_: &CancelToken| {
                    let checked = codecs.with(|codec| checked(&key, object, is_strict, codec));
                    checked.map_err(|e| match e {
                        DecodeFail::Broken(e) => Error::corrupt(name, e),
                        DecodeFail::Refused(e) => Error::corrupt(name, too_large(&e)),
                    })
                };
                executor.run(job, &CancelToken::new()).await?
            }
        };
        if let Some(cache) = &self.cache
            && !is_kept
            && fault.is_none()
        {
            cache.set(&cache_key, to_keep, None).await;
        }
        Ok(LoadedChunk {
            chunk,
            symbols,
            size_bytes: size,
            load_ns: u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
            fault,
        })
    }
}

/// Nobody's query is at fault when a chunk unpacks to more than any writer makes.
pub(super) fn too_large(e: &Error) -> DecodeError {
    DecodeError::new("chunk", 0, e.to_string())
}

type CheckedChunk = (Chunk, Arc<SymbolList>, Option<String>);

fn checked(
    key: &ChunkKey,
    object: Bytes,
    is_strict: bool,
    codec: &mut ChunkCodec,
) -> Result<CheckedChunk, DecodeFail> {
    let mut fault = None;
    match key.check_object(&object) {
        Err(e) if is_strict => return Err(e.into()),
        Err(e) => fault = Some(e.to_string()),
        Ok(()) => {}
    }
    let (meta, chunk) = read_object(&object, &mut codec.decompressor)?;
    meta.check(key)?;
    let symbols = chunk.symbols(codec)?;
    Ok((chunk, symbols, fault))
}
