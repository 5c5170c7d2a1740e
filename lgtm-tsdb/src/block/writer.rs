//! Writing a block straight into a bucket.
//!
//! Index and chunks stream into their uploads while series come in; `meta.json` is put last, so that readers never see half a
//! block. What was uploaded before an error is removed, as far as the store still answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use lgtm_core::model::TenantId;
use lgtm_core::storage::Bucket;
use lgtm_core::{Error, Result};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::io::AsyncWriteExt;

use super::id::BlockId;
use super::meta::{BlockFile, BlockMeta, BlockParent, BlockStats, Compaction, IndexSizeStats, ThanosMeta};
use super::segment::{EncodedChunk, SegmentEncoder};
use crate::index::{ChunkRefMeta, IndexEncoder, IndexEncoderSettings, SymbolTable};

/// Encoded bytes that wait until they are handed to the uploads.
const PENDING_BYTES: usize = 4 << 20;
/// Bytes of one part of an upload; smaller files go in one request.
const PART_BYTES: usize = 8 << 20;

/// A chunk to be written.
#[derive(Debug, Clone, Copy)]
pub struct ChunkData<'a> {
    /// Time of the first sample.
    pub min_ms: i64,
    /// Time of the last sample.
    pub max_ms: i64,
    /// Encoding byte.
    pub encoding: u8,
    /// The chunk without length, encoding and checksum.
    pub data: &'a [u8],
    /// Samples in it.
    pub sample_count: u32,
    /// Whether they are histograms.
    pub is_histogram: bool,
}

/// What the writer cannot know of the block.
#[derive(Debug, Clone, Default)]
pub struct MetaInput {
    /// Start of the block's range, milliseconds.
    pub min_ms: i64,
    /// End of it, not inside.
    pub max_ms: i64,
    /// Compaction level; 1 for a block from a head.
    pub level: u32,
    /// The level-1 blocks whose data this is; empty for a block from a head, which is its own source.
    pub sources: Vec<BlockId>,
    /// The blocks that were compacted into this one.
    pub parents: Vec<BlockParent>,
    /// Hints for compactors, sorted.
    pub hints: Vec<String>,
    /// What wrote the block, for the `thanos` section; without it there is no section, as in Prometheus.
    pub thanos_source: Option<String>,
    /// External labels for the `thanos` section.
    pub external_labels: BTreeMap<String, String>,
}

impl MetaInput {
    /// A block cut from a head.
    pub fn level_one(min_ms: i64, max_ms: i64) -> Self {
        Self { min_ms, max_ms, level: 1, ..Self::default() }
    }
}

/// An upload under way.
#[derive(Debug)]
struct Upload {
    path: Path,
    writer: BufWriter,
    bytes: u64,
}

impl Upload {
    fn begin(store: &Arc<dyn ObjectStore>, path: Path) -> Self {
        let writer = BufWriter::with_capacity(Arc::clone(store), path.clone(), PART_BYTES);
        Self { path, writer, bytes: 0 }
    }

    async fn put(&mut self, bytes: bytes::Bytes) -> Result<()> {
        self.bytes += bytes.len() as u64;
        self.writer.put(bytes).await.map_err(|e| upload_error(&self.path, &e))
    }

    async fn finish(mut self) -> Result<(Path, u64)> {
        self.writer.shutdown().await.map_err(|e| upload_error(&self.path, &e))?;
        Ok((self.path, self.bytes))
    }
}

fn upload_error(path: &Path, e: &dyn std::fmt::Display) -> Error {
    Error::Unavailable(format!("upload of {path}: {e}"))
}

/// Writes one block.
#[derive(Debug)]
pub struct BlockWriter {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    id: BlockId,
    index: IndexEncoder,
    segments: SegmentEncoder,
    index_upload: Upload,
    segment_upload: Option<Upload>,
    /// What is uploaded: path and size.
    done: Vec<(Path, u64)>,
    stats: BlockStats,
    references: Vec<u64>,
}

impl BlockWriter {
    /// Begins the block `id` of a tenant. `symbols` are all label names and values, sorted, with the empty string first.
    ///
    /// # Errors
    /// `InvalidInput` when the symbols are not sorted.
    pub fn create<'a>(
        bucket: &Bucket,
        tenant: &TenantId,
        id: BlockId,
        symbols: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self> {
        let folder = Bucket::path(&format!("{tenant}/{id}"))?;
        let symbols = SymbolTable::from_sorted(symbols)?;
        let store = bucket.object_store();
        let index_upload = Upload::begin(&store, folder.clone().join("index"));
        Ok(Self {
            store,
            folder,
            id,
            index: IndexEncoder::new(symbols, IndexEncoderSettings::default()),
            segments: SegmentEncoder::new(SegmentEncoder::DEFAULT_MAX_SEGMENT_BYTES),
            index_upload,
            segment_upload: None,
            done: Vec::new(),
            stats: BlockStats::default(),
            references: Vec::new(),
        })
    }

    /// Adds a series: labels as symbol ordinals in name order, chunks in time order. Only encodes; nothing is sent yet.
    ///
    /// # Errors
    /// `InvalidInput` when series or chunks come out of order, `LimitExceeded` when the block grows too large.
    pub fn add_series(&mut self, labels: &[(u32, u32)], chunks: &[ChunkData<'_>]) -> Result<()> {
        let encoded: Vec<EncodedChunk<'_>> =
            chunks.iter().map(|c| EncodedChunk { encoding: c.encoding, data: c.data }).collect();
        self.references.clear();
        self.segments.add_series(&encoded, &mut self.references)?;
        let refs = chunks.iter().zip(&self.references);
        let metas: Vec<ChunkRefMeta> =
            refs.map(|(c, reference)| ChunkRefMeta { min_ms: c.min_ms, max_ms: c.max_ms, reference: *reference }).collect();
        self.index.add_series(labels, &metas)?;
        self.stats.num_series += 1;
        self.stats.num_chunks += chunks.len() as u64;
        for c in chunks {
            let n = u64::from(c.sample_count);
            self.stats.num_samples += n;
            match c.is_histogram {
                true => self.stats.num_histogram_samples += n,
                false => self.stats.num_float_samples += n,
            }
        }
        Ok(())
    }

    /// Whether so much waits that [`BlockWriter::flush_pending`] should be called.
    pub fn wants_flush(&self) -> bool {
        self.index.pending_bytes() + self.segments.pending_bytes() > PENDING_BYTES
    }

    /// Hands what is encoded to the uploads.
    ///
    /// # Errors
    /// `Unavailable`: abort the block.
    pub async fn flush_pending(&mut self) -> Result<()> {
        while let Some(bytes) = self.index.take_output() {
            self.index_upload.put(bytes).await?;
        }
        while let Some(piece) = self.segments.take_output() {
            let store = &self.store;
            let path = || self.folder.clone().join("chunks").join(format!("{:06}", piece.segment));
            let upload = self.segment_upload.get_or_insert_with(|| Upload::begin(store, path()));
            if !piece.bytes.is_empty() {
                upload.put(piece.bytes).await?;
            }
            if piece.is_last
                && let Some(upload) = self.segment_upload.take()
            {
                self.done.push(upload.finish().await?);
            }
        }
        Ok(())
    }

    /// Ends the block and publishes it; `None`, with nothing left behind, when it has no sample.
    ///
    /// # Errors
    /// `Unavailable`; what was uploaded is removed.
    pub async fn finish(mut self, input: MetaInput) -> Result<Option<BlockMeta>> {
        if self.stats.num_samples == 0 {
            self.abort().await;
            return Ok(None);
        }
        self.segments.finish();
        if let Err(e) = self.flush_pending().await {
            self.abort().await;
            return Err(e);
        }
        let Self { store, folder, id, index, segments, index_upload, mut done, stats, .. } = self;
        let published = async {
            let (path, size, index_stats) = finish_index(index, index_upload).await?;
            done.push((path, size));
            let sizes = IndexSizeStats {
                series_max_size_bytes: i64::try_from(index_stats.series_max_size_bytes).ok().filter(|n| *n > 0),
                chunk_max_size_bytes: i64::try_from(segments.chunk_max_size_bytes()).ok().filter(|n| *n > 0),
                ..IndexSizeStats::default()
            };
            let meta = assemble(id, input, stats, &done, sizes, &folder);
            let path = folder.clone().join("meta.json");
            store.put(&path, meta.encode()?.into()).await.map_err(|e| upload_error(&path, &e))?;
            Ok(meta)
        };
        let published: Result<BlockMeta> = published.await;
        match published {
            Ok(meta) => Ok(Some(meta)),
            Err(e) => {
                remove(&store, &folder).await;
                Err(e)
            }
        }
    }

    /// Gives the block up and removes what was uploaded.
    pub async fn abort(mut self) {
        // Uploads that were never completed leave nothing, or parts that the store forgets by itself.
        let _ = self.index_upload.writer.abort().await;
        if let Some(mut upload) = self.segment_upload.take() {
            let _ = upload.writer.abort().await;
        }
        remove(&self.store, &self.folder).await;
    }
}

async fn finish_index(index: IndexEncoder, mut upload: Upload) -> Result<(Path, u64, crate::index::IndexStats)> {
    let mut tail = index.finish()?;
    while let Some(bytes) = tail.take_output()? {
        upload.put(bytes).await?;
    }
    let stats = tail.stats();
    let (path, size) = upload.finish().await?;
    Ok((path, size, stats))
}

fn assemble(
    id: BlockId,
    input: MetaInput,
    stats: BlockStats,
    files: &[(Path, u64)],
    sizes: IndexSizeStats,
    folder: &Path,
) -> BlockMeta {
    let thanos = input.thanos_source.map(|source| {
        let mut section = ThanosMeta::new(source, input.external_labels);
        let inside = |p: &Path| p.prefix_match(folder).map(|parts| parts.map(|p| p.as_ref().to_owned()).collect::<Vec<_>>().join("/"));
        let mut list: Vec<BlockFile> = files
            .iter()
            .filter_map(|(path, size)| Some(BlockFile { rel_path: inside(path)?, size_bytes: *size, ..BlockFile::default() }))
            .collect();
        list.push(BlockFile { rel_path: "meta.json".into(), ..BlockFile::default() });
        list.sort_by(|a, b| a.rel_path.cmp(&b.rel_path));
        let segment = |f: &BlockFile| f.rel_path.strip_prefix("chunks/").map(str::to_owned);
        section.segment_files = list.iter().filter_map(segment).collect();
        section.files = list;
        section.index_stats = sizes;
        section
    });
    BlockMeta {
        ulid: id,
        min_ms: input.min_ms,
        max_ms: input.max_ms,
        stats,
        compaction: Compaction {
            level: input.level,
            sources: if input.sources.is_empty() { vec![id] } else { input.sources },
            parents: input.parents,
            hints: input.hints,
            ..Compaction::default()
        },
        version: 1,
        thanos,
        unknown: serde_json::Map::new(),
    }
}

/// Removes a block's objects as far as the store answers; what stays has no `meta.json` and is cleaned up later.
async fn remove(store: &Arc<dyn ObjectStore>, folder: &Path) {
    use futures::StreamExt;
    let mut objects = store.list(Some(folder));
    while let Some(Ok(object)) = objects.next().await {
        let _ = store.delete(&object.location).await;
    }
}
