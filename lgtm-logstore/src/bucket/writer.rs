//! Writing chunks, and the index files that name them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use lgtm_core::clock::Clock;
use lgtm_core::codec::Compressor;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::storage::Bucket;
use lgtm_core::{Error, Result};
use parking_lot::Mutex;

use super::bucket_chunks::BucketChunks;
use super::chunk_source::object_name;
use super::pending_index::{PendingTable, StreamKey};
use super::pending_side::PendingSide;
use super::settings::BucketWriterSettings;
use crate::chunk::{ChunkKey, ObjectMeta, StreamChunk, encode_object};
use crate::index::{ChunkMeta, IndexFileName, IndexVersion, pack};
use crate::skip::{ChunkSkip, MadeSkip, SkipSettings};

/// What [`BucketWriter::write_index`] wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WrittenIndex {
    /// Index files, by their paths.
    pub files: Vec<String>,
    /// Side files, by their paths in their own place.
    pub side_files: Vec<String>,
}

/// Moves finished chunks into the bucket.
///
/// ```text
/// put_chunk ... put_chunk      each chunk is an object; nobody finds it yet
/// write_index                  side files of these chunks, then a file per day that the chunks touch; queries of this process know it when this returns
/// (a new generation)           the head lets go of what was moved
/// ```
///
/// Until [`BucketWriter::write_index`] has returned, the head keeps the chunks and its log has their entries: a crash before loses nothing. It
/// doubles nothing that a query shows either: a chunk that is put again has the same key, and equal entries of two chunks come once.
#[derive(Debug)]
pub struct BucketWriter {
    bucket: Bucket,
    executor: Executor,
    clock: Arc<dyn Clock>,
    chunks: Arc<BucketChunks>,
    uploader: String,
    settings: BucketWriterSettings,
    /// Whether the readers of this process learn what was written.
    is_listed: bool,
    /// By day.
    pending: Mutex<BTreeMap<i64, PendingTable>>,
    side: Arc<PendingSide>,
    /// Kept from chunk to chunk, as many as there were at the same time.
    compressors: Arc<Mutex<Vec<Compressor>>>,
    /// One index is written at a time. The second of the file that was named last.
    writing: tokio::sync::Mutex<i64>,
}

/// A chunk as it goes into the store.
#[derive(Debug)]
pub struct PackedChunk {
    stream: StreamKey,
    key: ChunkKey,
    object: Vec<u8>,
    kb: u32,
    entries: u32,
    skip: Result<Option<ChunkSkip>>,
}

impl PackedChunk {
    /// Its name.
    pub fn key(&self) -> &ChunkKey {
        &self.key
    }

    /// Bytes of its object.
    pub fn size_bytes(&self) -> u64 {
        self.object.len() as u64
    }

    /// Number of entries, as indexes tell it.
    pub fn entry_count(&self) -> u64 {
        u64::from(self.entries)
    }
}

/// Makes objects of chunks, for a writer that [puts](BucketWriter::put_packed) them. For jobs of the compute pool.
#[derive(Debug, Clone)]
pub struct ChunkPacker {
    side: Option<Arc<PendingSide>>,
    settings: SkipSettings,
    compressors: Arc<Mutex<Vec<Compressor>>>,
}

impl ChunkPacker {
    /// Packs a chunk with what was [made beside it](crate::skip::SkipDraft); without, that is made here.
    ///
    /// # Errors
    /// `InvalidInput` for a chunk without entries, `LimitExceeded` for one of 4 GiB.
    pub fn pack(&self, chunk: StreamChunk, made: Option<MadeSkip>) -> Result<PackedChunk> {
        let StreamChunk {
            tenant,
            fingerprint,
            labels,
            chunk,
        } = chunk;
        if chunk.entry_count == 0 {
            return Err(Error::InvalidInput("a chunk without entries".into()));
        }
        let (min_ns, max_ns) = (chunk.min_ns, chunk.max_ns);
        let meta = ObjectMeta::new(tenant.as_str(), fingerprint, labels.clone(), min_ns, max_ns);
        let mut compressor = self.compressors.lock().pop().unwrap_or_default();
        let encoded = encode_object(&meta, &chunk.bytes, &mut compressor);
        self.compressors.lock().push(compressor);
        let (object, checksum) = encoded?;
        let key = meta.key(checksum);
        let side = self.side.as_ref();
        let skip = side.map_or(Ok(None), |side| {
            side.make(&key, &chunk.bytes, made, &self.settings)
        });
        Ok(PackedChunk {
            key,
            object,
            kb: ChunkMeta::kb_of(chunk.uncompressed_bytes),
            entries: u32::try_from(chunk.entry_count).unwrap_or(u32::MAX),
            skip,
            stream: StreamKey {
                tenant,
                fingerprint,
                labels,
            },
        })
    }
}

impl BucketWriter {
    /// Writes into `bucket` by the schema of `chunks`, which learns of every index file. `instance` names this process among others that write
    /// into the bucket.
    ///
    /// The names of index files bear the instance and the time of this call, so that a process that was started again never writes over the
    /// files of the one before.
    ///
    /// # Errors
    /// `InvalidInput` for an instance that is no part of a name, settings out of bounds.
    pub fn new(
        bucket: Bucket,
        executor: Executor,
        clock: Arc<dyn Clock>,
        chunks: Arc<BucketChunks>,
        instance: &str,
        settings: BucketWriterSettings,
    ) -> Result<Self> {
        settings.validate()?;
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if instance.is_empty() || !instance.chars().all(is_part) {
            return Err(Error::InvalidInput(format!(
                "instance {instance:?} must be letters, digits, '-', '_' and '.'"
            )));
        }
        let started_ns = clock.now_ms().to_ns();
        Ok(Self {
            uploader: format!("{instance}-{started_ns}"),
            bucket,
            executor,
            clock,
            chunks,
            settings,
            is_listed: true,
            pending: Mutex::default(),
            side: Arc::default(),
            compressors: Arc::default(),
            writing: tokio::sync::Mutex::new(i64::MIN),
        })
    }

    /// The same, of whose files its readers do not learn: for readers that nobody asks.
    pub(crate) fn unlisted(self) -> Self {
        Self {
            is_listed: false,
            ..self
        }
    }

    /// Puts a chunk into the store; its place in the index waits for [`BucketWriter::write_index`]. May be repeated: the same chunk has the
    /// same key.
    ///
    /// # Errors
    /// `InvalidInput` for a chunk without entries, `LimitExceeded` for one of 4 GiB, and those of the store: the chunk may be there or not.
    pub async fn put_chunk(&self, chunk: StreamChunk) -> Result<ChunkKey> {
        let packer = self.packer();
        let in_line = self.executor.in_line(chunk.tenant.as_str());
        let job = move |_: &CancelToken| packer.pack(chunk, None);
        let packed = in_line.run(job, &CancelToken::new()).await?;
        self.put_packed(packed).await
    }

    /// What packs chunks for [`BucketWriter::put_packed`].
    pub fn packer(&self) -> ChunkPacker {
        ChunkPacker {
            side: self.chunks.side.as_ref().map(|_| Arc::clone(&self.side)),
            settings: self.settings.side_files.clone(),
            compressors: Arc::clone(&self.compressors),
        }
    }

    /// Puts a packed chunk into the store, as [`BucketWriter::put_chunk`] does.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn put_packed(&self, packed: PackedChunk) -> Result<ChunkKey> {
        let PackedChunk {
            stream,
            key,
            object,
            kb,
            entries,
            skip,
        } = packed;
        let object_bytes = u32::try_from(object.len()).unwrap_or(u32::MAX);
        let periods = self.chunks.periods();
        let name = object_name(&self.bucket, periods, &key);
        if !self.settings.skip_existing || !self.bucket.exists(&name).await? {
            self.bucket.put(&name, object).await?;
        }
        match skip {
            Ok(Some(skip)) => {
                let share = self.settings.side_files.share_of(object_bytes as usize);
                self.side.add(&key, object_bytes, skip, share);
            }
            Ok(None) => {}
            Err(e) => self.note_side_failure("a side file cannot be made", &e),
        }
        let meta = ChunkMeta {
            min_ms: key.from_ms,
            max_ms: key.through_ms,
            kb,
            entries,
            checksum: key.checksum,
            ingested_day: None,
        };
        let mut pending = self.pending.lock();
        for table in periods.tables(key.from_ms, key.through_ms) {
            let table = pending.entry(table.day).or_default();
            table.add(stream.clone(), meta);
        }
        drop(pending);
        Ok(key)
    }

    /// Puts several chunks into the store, `put_concurrency` at a time.
    ///
    /// # Errors
    /// The first one of [`BucketWriter::put_chunk`]; the others were still put as far as they had begun.
    pub async fn put_chunks(&self, chunks: Vec<StreamChunk>) -> Result<Vec<ChunkKey>> {
        let puts = chunks.into_iter().map(|chunk| self.put_chunk(chunk));
        futures::stream::iter(puts)
            .buffered(self.settings.put_concurrency)
            .try_collect()
            .await
    }

    /// Whether chunks wait for an index file.
    pub fn has_pending(&self) -> bool {
        !self.pending.lock().is_empty()
    }

    /// Forgets the chunks that wait for an index file: nobody will find them.
    pub(crate) fn forget_pending(&self) {
        self.pending.lock().clear();
    }

    /// Writes the index of all chunks that were put, a file for each day that they touch, and lists it: once this returns, each query that
    /// begins in this process finds the chunks, and the head may begin a new generation.
    ///
    /// # Errors
    /// The first one of the store. What could not be written waits for the next call; the head keeps its chunks until one has succeeded.
    pub async fn write_index(&self) -> Result<WrittenIndex> {
        let mut last_s = self.writing.lock().await;
        let mut taken = TakenTables::take(self);
        let mut written = WrittenIndex {
            // First, so that who finds a chunk by the index can find what stands beside it.
            side_files: self.write_side_files(&mut last_s).await,
            ..WrittenIndex::default()
        };
        while let Some((day, table)) = taken.tables.first_key_value() {
            let (day, table) = (*day, Arc::clone(table));
            // No two files of this process have one name, however fast they follow each other and wherever the clock is set.
            self.next_second(&mut last_s);
            written
                .files
                .push(self.write_table(day, table, *last_s).await?);
            taken.tables.remove(&day);
        }
        Ok(written)
    }

    fn next_second(&self, last_s: &mut i64) {
        let now_s = self.clock.now_ms().to_seconds();
        *last_s = now_s.max(last_s.saturating_add(1));
    }

    /// Writes what stands beside the chunks that were put, an object for each day of their first times. One that cannot be written is done without.
    async fn write_side_files(&self, last_s: &mut i64) -> Vec<String> {
        let mut written = Vec::new();
        let Some(side) = self.chunks.side.clone() else {
            return written;
        };
        for (day, encoder) in self.side.take() {
            self.next_second(last_s);
            let path = format!("{day}/{last_s}-{}", self.uploader);
            let job = move |_: &CancelToken| -> Result<Bytes> { Ok(encoder.encode().into()) };
            let put = async {
                let object = self.executor.run(job, &CancelToken::new()).await?;
                side.bucket.put(&path, object.clone()).await?;
                Ok::<_, Error>(object)
            };
            match put.await {
                Ok(object) => {
                    if self.is_listed {
                        side.add_written(path.clone(), day, &object);
                    }
                    written.push(path);
                }
                Err(e) => self.note_side_failure("a side file cannot be written", &e),
            }
        }
        written
    }

    fn note_side_failure(&self, what: &str, e: &Error) {
        if let Some(side) = &self.chunks.side {
            side.counts.write_failures.fetch_add(1, Ordering::Relaxed);
        }
        tracing::warn!(error = %e, "{what}; queries read the chunks instead");
    }

    /// Writes one day's file and lists it. Gives its path.
    async fn write_table(
        &self,
        day: i64,
        table: Arc<PendingTable>,
        created_s: i64,
    ) -> Result<String> {
        let place = self.chunks.periods().table_of_day(day);
        let version = IndexVersion::new(place.schema.index_version())?;
        let job = move |_: &CancelToken| -> Result<(Vec<u8>, Vec<u8>)> {
            let index = table.encode(version)?;
            let mut packed = Vec::new();
            pack(&index, &mut Compressor::default(), &mut packed)?;
            Ok((index, packed))
        };
        let (index, packed) = self.executor.run(job, &CancelToken::new()).await?;
        let name = IndexFileName::Uploaded {
            created_s,
            uploader: self.uploader.clone(),
        };
        let path = format!("{}/{name}", place.folder);
        self.bucket.put(&path, packed).await?;
        if self.is_listed {
            self.chunks.add_written(path.clone(), day, index).await;
        }
        Ok(path)
    }
}

/// Tables whose files are being written. What is left when this is dropped waits again, also when the write is given up under way.
#[derive(Debug)]
struct TakenTables<'a> {
    writer: &'a BucketWriter,
    tables: BTreeMap<i64, Arc<PendingTable>>,
}

impl<'a> TakenTables<'a> {
    fn take(writer: &'a BucketWriter) -> Self {
        let pending = std::mem::take(&mut *writer.pending.lock());
        let tables = pending.into_iter();
        Self {
            writer,
            tables: tables.map(|(day, t)| (day, Arc::new(t))).collect(),
        }
    }
}

impl Drop for TakenTables<'_> {
    fn drop(&mut self) {
        if self.tables.is_empty() {
            return;
        }
        let mut pending = self.writer.pending.lock();
        for (day, table) in &self.tables {
            pending.entry(*day).or_default().merge(table);
        }
    }
}
