//! Chunks written anew, in the place of others.

use std::sync::Arc;

use lgtm_core::Result;
use lgtm_core::clock::Clock;
use lgtm_core::codec::DecodeFail;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::{Labels, TenantId};
use lgtm_core::storage::Bucket;

use super::bucket_chunks::BucketChunks;
use super::settings::BucketWriterSettings;
use super::writer::{BucketWriter, ChunkPacker, PackedChunk, WrittenIndex};
use crate::chunk::{ChunkBuilder, ChunkCodec, ChunkFormat, ChunkKey, ChunkSettings, StreamChunk};
use crate::entry::{EntryBlock, disjoint};

/// All entries of a chunk.
#[derive(Debug, Clone)]
pub(crate) struct ReadChunk {
    /// In order of time, apart from each other.
    pub(crate) blocks: Vec<EntryBlock>,
    /// How it was written.
    pub(crate) form: ChunkForm,
}

/// How a chunk is written.
#[derive(Debug, Clone)]
pub(crate) struct ChunkForm {
    format: ChunkFormat,
    settings: Arc<ChunkSettings>,
}

/// Reads chunks whole, and puts others in their place: chunks, side objects, and index files that name them.
#[derive(Debug)]
pub(crate) struct ChunkRewriter {
    chunks: Arc<BucketChunks>,
    writer: BucketWriter,
}

impl ChunkRewriter {
    /// Reads by `chunks`, and writes into `bucket`, which is theirs.
    ///
    /// # Errors
    /// `InvalidInput` for an instance that is no part of a name, settings out of bounds.
    pub(crate) fn new(
        bucket: Bucket,
        executor: Executor,
        clock: Arc<dyn Clock>,
        chunks: Arc<BucketChunks>,
        instance: &str,
        settings: BucketWriterSettings,
    ) -> Result<Self> {
        let reader = Arc::clone(&chunks);
        Ok(Self {
            writer: BucketWriter::new(bucket, executor, clock, chunks, instance, settings)?,
            chunks: reader,
        })
    }

    /// The same with readers that nobody asks: they need not know what is written.
    pub(crate) fn unlisted(self) -> Self {
        Self {
            writer: self.writer.unlisted(),
            ..self
        }
    }

    /// All entries of a chunk. `Err(why)` inside `Ok` for one of which not all can be read.
    ///
    /// # Errors
    /// Those that say nothing of the chunk.
    pub(crate) async fn read(
        &self,
        key: &ChunkKey,
        executor: &Executor,
    ) -> Result<Result<ReadChunk, String>> {
        let loaded = match self.chunks.source.load(key, executor).await? {
            Ok(loaded) => loaded,
            Err(why) => return Ok(Err(why)),
        };
        if let Some(fault) = loaded.fault {
            return Ok(Err(fault));
        }
        let codecs = Arc::clone(&self.chunks.source.codecs);
        let job = move |_: &CancelToken| {
            let chunk = &loaded.chunk;
            let read = codecs.with(|codec| {
                let blocks = chunk.blocks().iter();
                let blocks = blocks.filter(|b| b.entry_count > 0);
                blocks
                    .map(|place| chunk.read_block(place, &loaded.symbols, codec))
                    .collect::<Result<Vec<EntryBlock>, DecodeFail>>()
            });
            let header = chunk.layout().header;
            let form = ChunkForm {
                // Older ones have no place for what an index tells.
                format: header.format.max(ChunkFormat::V3),
                settings: Arc::new(ChunkSettings {
                    encoding: header.encoding,
                    ..ChunkSettings::default()
                }),
            };
            let blocks = read.map_err(|e| match e {
                DecodeFail::Broken(e) => e.to_string(),
                DecodeFail::Refused(e) => e.to_string(),
            });
            let blocks = blocks.and_then(|b| disjoint(b).map_err(|e| e.to_string()));
            Ok::<_, lgtm_core::Error>(blocks.map(|blocks| ReadChunk {
                blocks: blocks.blocks,
                form,
            }))
        };
        executor.run(job, &CancelToken::new()).await
    }

    /// What packs chunks for [`ChunkRewriter::put`].
    pub(crate) fn packer(&self) -> ChunkPacker {
        self.writer.packer()
    }

    /// Begins anew. What was put before a failure and is in no index file is forgotten: it is on a list of leaving chunks, and may be gone already.
    pub(crate) fn begin(&self) {
        self.writer.forget_pending();
    }

    /// Puts a chunk; nobody finds it before [`ChunkRewriter::write_index`].
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn put(&self, chunk: PackedChunk) -> Result<ChunkKey> {
        self.writer.put_packed(chunk).await
    }

    /// Writes the index of all chunks that were put.
    ///
    /// # Errors
    /// Those of the store; what could not be written waits for the next call.
    pub(crate) async fn write_index(&self) -> Result<WrittenIndex> {
        if self.writer.has_pending() {
            return self.writer.write_index().await;
        }
        Ok(WrittenIndex::default())
    }
}

/// A chunk of some entries of a stream, packed; `None` when there are no entries. For jobs of the compute pool.
///
/// # Errors
/// `LimitExceeded` for one of 4 GiB.
pub(crate) fn packed_anew(
    (tenant, fingerprint, labels): (TenantId, u64, Labels),
    blocks: &[EntryBlock],
    form: &ChunkForm,
    packer: &ChunkPacker,
) -> Result<Option<PackedChunk>> {
    let mut compressor = form.settings.compressor();
    let mut builder = ChunkBuilder::new(form.format, Arc::clone(&form.settings));
    let mut metadata = Vec::new();
    for entry in blocks.iter().flat_map(EntryBlock::iter) {
        metadata.clear();
        metadata.extend(entry.metadata());
        builder.append(entry.t_ns, entry.line, &metadata)?;
        if builder.is_block_full() {
            builder.cut(&mut compressor)?;
        }
    }
    if builder.is_empty() {
        return Ok(None);
    }
    let chunk = builder.finish(&mut compressor, &mut ChunkCodec::default())?;
    let chunk = StreamChunk {
        tenant,
        fingerprint,
        labels,
        chunk,
    };
    packer.pack(chunk, None).map(Some)
}
