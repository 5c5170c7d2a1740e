//! Writes a block straight into an object store, without a copy on disk.
//!
//! Index and chunks stream side by side as series are added; `meta.json` comes last, since its presence is what makes a block.

use lgtm_core::exec::in_place;
use lgtm_core::index::SymbolTable;
use lgtm_core::model::{TenantId, TimestampMs};
use lgtm_core::storage::{Bucket, ExpectedObject, FolderUpload};
use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};

use crate::block::meta::{
    BlockFile, BlockMeta, BlockParent, BlockStats, Compaction, IndexSizeStats, ThanosMeta,
};
use crate::block::segment::{SegmentEncoder, SegmentPiece};
use crate::block_id::BlockId;
use crate::chunk::ChunkRef;
use crate::index::{ChunkRefMeta, IndexEncoder, IndexEncoderSettings, IndexStats};

/// Bounds of a [`BlockWriter`].
#[derive(Debug, Clone)]
pub struct BlockWriterSettings {
    /// Bounds of the index.
    pub index: IndexEncoderSettings,
    /// Where chunk files are cut. Default 512 MiB, as in Prometheus.
    pub max_segment_bytes: u64,
    /// [`BlockWriter::wants_flush`] tells when so many bytes wait. Default 4 MiB.
    pub flush_bytes: usize,
    /// Size of the parts of a multipart upload of a file of which is not known how large it will be; smaller files are put in one request.
    /// Default 10 MiB: S3 wants at least 5 MiB and takes 10,000 parts, which reaches 100 GB. With two files open and the bucket's
    /// `upload_concurrency` of 4 this bounds memory to about ten parts.
    pub part_size: ByteSize,
    /// About how large the block will be, where that is known. Its files go up in few large parts then.
    pub expected: Option<ExpectedBlock>,
}

/// About how large a block will be, and what its upload may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedBlock {
    /// Bytes of all chunk files.
    pub chunk_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Memory for the parts of a chunk file on their way ([`ObjectWriter::expecting`](lgtm_core::storage::ObjectWriter::expecting)); those of the
    /// index, which is sent beside it, have half as much.
    pub memory: ByteSize,
}

impl Default for BlockWriterSettings {
    fn default() -> Self {
        Self {
            index: IndexEncoderSettings::default(),
            max_segment_bytes: SegmentEncoder::DEFAULT_MAX_SEGMENT_BYTES,
            flush_bytes: 4 << 20,
            part_size: ByteSize::mib(10),
            expected: None,
        }
    }
}

/// What only the caller knows about the block.
#[derive(Debug, Clone, PartialEq)]
pub struct MetaInput {
    /// Start of the time range, milliseconds, inclusive.
    pub min_ms: TimestampMs,
    /// End of the time range, milliseconds, exclusive; every sample lies before it.
    pub max_ms: TimestampMs,
    /// 1 for a block cut from a head, else one more than the highest input.
    pub level: u32,
    /// The level-1 blocks the data came from; empty stands for the block itself.
    pub sources: Vec<BlockId>,
    /// The inputs of the compaction.
    pub parents: Vec<BlockParent>,
    /// Remarks, see [`Compaction::hints`].
    pub hints: Vec<String>,
    /// External labels and source; files and sizes are filled in. `None` writes a plain Prometheus block.
    pub thanos: Option<ThanosMeta>,
}

/// Streams one block into a bucket.
///
/// ```text
/// loop { add_series(..)?;  if wants_flush() { flush_pending().await?; } }   finish(..).await?
/// ```
///
/// [`BlockWriter::add_series`] only encodes into memory, so a caller may run it on a compute pool. After any error call
/// [`BlockWriter::abort`]. A writer that is dropped, or whose futures are cancelled, leaves at worst a folder without `meta.json`,
/// which no reader takes for a block and [`delete_leftovers`](lgtm_core::storage::delete_leftovers) removes.
#[derive(Debug)]
pub struct BlockWriter {
    id: BlockId,
    flush_bytes: usize,
    index: IndexEncoder,
    segments: SegmentEncoder,
    upload: BlockUpload,
    stats: BlockStats,
    references: Vec<u64>,
    time_range: Option<(TimestampMs, TimestampMs)>,
    is_poisoned: bool,
}

impl BlockWriter {
    /// A writer of block `id` in the folder `<tenant>/<id>`. Uploads nothing yet.
    ///
    /// # Errors
    /// `InvalidInput` when the first symbol is not the empty string.
    pub fn new(
        bucket: Bucket,
        tenant: &TenantId,
        id: BlockId,
        symbols: SymbolTable,
        settings: BlockWriterSettings,
    ) -> Result<Self> {
        let folder = FolderUpload::new(bucket, format!("{tenant}/{id}"));
        let mut folder = folder.part_size(settings.part_size);
        let mut still_to_come = None;
        if let Some(expected) = settings.expected {
            // It is collected beside the chunks.
            let memory = ByteSize::bytes(expected.memory.as_u64() / 2);
            let of_index = ExpectedObject {
                bytes: expected.index_bytes,
                parts: EXPECTED_PARTS,
                memory,
            };
            folder.expect(INDEX, of_index);
            still_to_come = Some((expected.chunk_bytes, expected.memory));
        }
        Ok(Self {
            id,
            flush_bytes: settings.flush_bytes,
            index: IndexEncoder::new(symbols, settings.index)?,
            segments: SegmentEncoder::new(settings.max_segment_bytes),
            upload: BlockUpload {
                folder,
                files: Vec::new(),
                still_to_come,
                max_segment_bytes: settings.max_segment_bytes,
                last_segment: 0,
            },
            stats: BlockStats::default(),
            references: Vec::new(),
            time_range: None,
            is_poisoned: false,
        })
    }

    /// The block's id.
    pub fn id(&self) -> BlockId {
        self.id
    }

    /// Adds a series, labels as symbol ordinals in name order; a series without chunks is left out. No I/O but the spilling of
    /// postings.
    ///
    /// # Errors
    /// `InvalidInput` when series, labels or chunks are out of order (the writer stays usable); `LimitExceeded` or `Unavailable`
    /// when a bound or the scratch directory ends the block.
    pub fn add_series(&mut self, labels: &[(u32, u32)], chunks: &[ChunkRef<'_>]) -> Result<()> {
        self.check_usable()?;
        let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else {
            return Ok(());
        };
        self.index.check_labels(labels)?;
        let mut metas: Vec<_> = chunks
            .iter()
            .map(|c| ChunkRefMeta {
                min_ms: c.min_ms,
                max_ms: c.max_ms,
                reference: u64::MAX,
            })
            .collect();
        IndexEncoder::check_chunks(&metas, 0)?;

        // From here on a failure leaves bytes behind that nothing refers to.
        self.is_poisoned = true;
        self.references.clear();
        self.segments.add_series(chunks, &mut self.references)?;
        for (meta, reference) in metas.iter_mut().zip(&self.references) {
            meta.reference = *reference;
        }
        self.index.add_series(labels, &metas)?;
        self.is_poisoned = false;

        let (min_ms, max_ms) = self.time_range.unwrap_or((first.min_ms, last.max_ms));
        self.time_range = Some((min_ms.min(first.min_ms), max_ms.max(last.max_ms)));
        self.stats.num_series += 1;
        self.stats.num_chunks += chunks.len() as u64;
        for chunk in chunks {
            let count = u64::from(chunk.sample_count());
            self.stats.num_samples += count;
            if chunk.encoding.is_histogram() {
                self.stats.num_histogram_samples += count
            } else {
                self.stats.num_float_samples += count
            }
        }
        Ok(())
    }

    /// Whether enough waits in memory that [`BlockWriter::flush_pending`] should be called before the next series.
    pub fn wants_flush(&self) -> bool {
        self.pending_bytes() >= self.flush_bytes
    }

    /// Bytes encoded and not yet handed to the uploads.
    pub fn pending_bytes(&self) -> usize {
        self.index.pending_bytes() + self.segments.pending_bytes()
    }

    /// Hands what waits to the uploads, which go on in the background; waits only while too many parts are under way.
    ///
    /// # Errors
    /// What the store returns, possibly for an earlier part. Not cancel-safe: abort the writer after a cancelled call.
    pub async fn flush_pending(&mut self) -> Result<()> {
        self.check_usable()?;
        self.is_poisoned = true;
        while let Some(bytes) = self.index.take_output() {
            self.upload.write_index(&bytes).await?;
        }
        while let Some(piece) = self.segments.take_output() {
            self.upload.write_segment(piece).await?;
        }
        self.is_poisoned = false;
        Ok(())
    }

    /// Completes the block: rest of chunks and index, then `meta.json`. `None`, and nothing left behind, when there are no samples.
    ///
    /// # Errors
    /// `InvalidInput` when a sample lies outside of the time range given; what the store returns. What was uploaded is deleted
    /// again then, as far as the store allows.
    pub async fn finish(mut self, input: MetaInput) -> Result<Option<BlockMeta>> {
        if self.stats.num_samples == 0 && !self.is_poisoned {
            self.abort().await;
            return Ok(None);
        }
        self.segments.finish();
        let flushed = match self.check_time_range(&input) {
            Ok(()) => self.flush_pending().await,
            Err(e) => Err(e),
        };
        let Self {
            index,
            segments,
            mut upload,
            stats,
            id,
            ..
        } = self;
        let done = async {
            flushed?;
            let index = finish_index(index, &mut upload).await?;
            let sizes = IndexSizeStats {
                series_max_size_bytes: i64::try_from(index.series_max_size_bytes).ok(),
                chunk_max_size_bytes: i64::try_from(segments.chunk_max_size_bytes()).ok(),
                ..IndexSizeStats::default()
            };
            let meta = build_meta(id, input, stats, sizes, &upload.files);
            upload.folder.publish("meta.json", meta.encode()?).await?;
            Ok(Some(meta))
        }
        .await;
        if done.is_err() {
            upload.folder.abort().await;
        }
        done
    }

    /// Gives up: ends the uploads and deletes what they had completed. Failures are logged; what they leave is a folder without
    /// `meta.json`.
    pub async fn abort(self) {
        self.upload.folder.abort().await;
    }

    fn check_time_range(&self, input: &MetaInput) -> Result<()> {
        match self.time_range {
            Some((min_ms, max_ms)) if min_ms < input.min_ms || max_ms >= input.max_ms => {
                Err(Error::InvalidInput(format!(
                    "block {} has samples from {min_ms} to {max_ms}, its time range is {}..{}",
                    self.id, input.min_ms, input.max_ms
                )))
            }
            _ => Ok(()),
        }
    }

    fn check_usable(&self) -> Result<()> {
        if self.is_poisoned {
            Err(Error::Internal(format!(
                "the writer of block {} failed before",
                self.id
            )))
        } else {
            Ok(())
        }
    }
}

const INDEX: &str = "index";
/// Parts that a file is sent in whose size is known: some of them are on their way while the next one is collected.
const EXPECTED_PARTS: u64 = 4;

/// The files of a block on their way into its folder.
#[derive(Debug)]
struct BlockUpload {
    folder: FolderUpload,
    /// What is complete, in the order of completion: chunks, then index.
    files: Vec<BlockFile>,
    /// Bytes of chunk files that are still to come, about, and memory for parts of one, if that is known.
    still_to_come: Option<(u64, ByteSize)>,
    max_segment_bytes: u64,
    /// The chunk file that was begun last.
    last_segment: u32,
}

impl BlockUpload {
    async fn write_index(&mut self, bytes: &[u8]) -> Result<()> {
        self.folder.write(INDEX, bytes).await
    }

    async fn write_segment(&mut self, piece: SegmentPiece) -> Result<()> {
        let name = format!("chunks/{:06}", piece.segment);
        if piece.segment != self.last_segment {
            self.last_segment = piece.segment;
            if let Some((left, memory)) = &mut self.still_to_come {
                let bytes = (*left).min(self.max_segment_bytes);
                *left -= bytes;
                let expected = ExpectedObject {
                    bytes,
                    parts: EXPECTED_PARTS,
                    memory: *memory,
                };
                self.folder.expect(&name, expected);
            }
        }
        self.folder.write(&name, &piece.bytes).await?;
        if piece.is_last {
            self.finish(&name).await?;
        }
        Ok(())
    }

    async fn finish(&mut self, name: &str) -> Result<()> {
        let size_bytes = self.folder.finish(name).await?;
        self.files.push(BlockFile {
            rel_path: name.to_owned(),
            size_bytes,
            ..BlockFile::default()
        });
        Ok(())
    }
}

async fn finish_index(index: IndexEncoder, upload: &mut BlockUpload) -> Result<IndexStats> {
    // Lists of postings are sorted and packed here, seconds of work for a million series.
    let mut tail = in_place(|| index.finish())?;
    while let Some(bytes) = in_place(|| tail.take_output())? {
        upload.write_index(&bytes).await?;
    }
    upload.finish(INDEX).await?;
    Ok(tail.stats())
}

fn build_meta(
    id: BlockId,
    input: MetaInput,
    stats: BlockStats,
    sizes: IndexSizeStats,
    files: &[BlockFile],
) -> BlockMeta {
    let mut sources = input.sources;
    if sources.is_empty() {
        sources.push(id);
    }
    let thanos = input.thanos.map(|mut thanos| {
        let segments = files
            .iter()
            .filter_map(|f| f.rel_path.strip_prefix("chunks/"));
        thanos.segment_files = segments.map(str::to_owned).collect();
        thanos.files = files.to_vec();
        thanos.files.push(BlockFile {
            rel_path: "meta.json".to_owned(),
            ..BlockFile::default()
        });
        thanos.index_stats = sizes;
        thanos
    });
    BlockMeta {
        ulid: id,
        min_ms: input.min_ms,
        max_ms: input.max_ms,
        stats,
        compaction: Compaction {
            level: input.level,
            sources,
            parents: input.parents,
            hints: input.hints,
            ..Compaction::default()
        },
        version: 1,
        thanos,
        unknown: serde_json::Map::new(),
    }
}
