//! A block opened for reading: its meta, index, chunks and tombstones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use lgtm_core::storage::{
    Bucket, KeptObjects, LocalFile, ObjectFile, ObjectInfo, PageCache, ReadAt, file_error,
};
use lgtm_core::{DecodeError, Error, Result};

use crate::block::chunk_reader::{ChunkReader, ChunkReaderSettings};
use crate::block::meta::BlockMeta;
use crate::block::tombstones::Tombstones;
use crate::index::{IndexReader, IndexReaderSettings};

/// Local reads need not be joined across more than a few pages.
const LOCAL_MAX_GAP_BYTES: u64 = 16 << 10;

/// Bounds of a [`BlockReader`].
#[derive(Debug, Clone, Copy, Default)]
pub struct BlockReaderSettings {
    /// Of its index.
    pub index: IndexReaderSettings,
    /// Of its chunks.
    pub chunks: ChunkReaderSettings,
}

/// What keeps parts of blocks that were read from an object store.
#[derive(Debug, Clone, Default)]
pub struct BlockPages {
    /// Of their indexes.
    pub index: Option<PageCache>,
    /// Of their chunks.
    pub chunks: Option<PageCache>,
    /// Their `meta.json`, whole.
    pub metadata: Option<KeptObjects>,
}

impl BlockPages {
    /// The same, in which nothing of another edition is found: after something turned out damaged, the next edition reads anew.
    #[must_use]
    pub fn edition(&self, edition: u64) -> Self {
        let of = |pages: &Option<PageCache>| pages.as_ref().map(|p| p.edition(edition));
        Self {
            index: of(&self.index),
            chunks: of(&self.chunks),
            metadata: self.metadata.as_ref().map(|kept| kept.edition(edition)),
        }
    }
}

/// An open block. Immutable; share it by `Arc`.
#[derive(Debug)]
pub struct BlockReader {
    meta: BlockMeta,
    index: IndexReader,
    chunks: ChunkReader,
    tombstones: Tombstones,
}

/// A block's files before they are opened.
struct Parts {
    meta: BlockMeta,
    index: Arc<dyn ReadAt>,
    segments: Vec<Arc<dyn ReadAt>>,
    tombstones: Tombstones,
}

impl BlockReader {
    /// Opens the block in the folder `dir`, on tokio's blocking threads. Gaps of reads are cut to a few pages.
    ///
    /// # Errors
    /// `NotFound` without a `meta.json`, `Corrupt`, `LimitExceeded`, `InvalidInput` for a downsampled block, `Unavailable`.
    pub async fn open(dir: impl Into<PathBuf>, mut settings: BlockReaderSettings) -> Result<Self> {
        let dir = dir.into();
        let gap = LOCAL_MAX_GAP_BYTES;
        for reads in [&mut settings.index.reads, &mut settings.chunks.reads] {
            reads.max_gap_bytes = reads.max_gap_bytes.min(gap);
        }
        let parts = tokio::task::spawn_blocking(move || open_local(&dir));
        let parts = parts
            .await
            .map_err(|_| Error::Cancelled("opening a block".into()))??;
        let block = Self::from_parts(parts, settings).await?;
        block.chunks.verify_headers().await?;
        Ok(block)
    }

    /// Opens the block in a folder of a bucket. The sizes of its files come from `meta.json`; only where that does not tell them
    /// (blocks of Prometheus itself) is the folder listed.
    ///
    /// # Errors
    /// As [`BlockReader::open`]. Segment headers are not read; every chunk is verified when it is.
    pub async fn open_object(
        bucket: &Bucket,
        folder: &str,
        settings: BlockReaderSettings,
    ) -> Result<Self> {
        let parts = open_object(bucket, folder, None).await?;
        Self::from_parts(parts, settings).await
    }

    /// As [`BlockReader::open_object`]; reads of the index and of chunks go through a cache each, where there is one.
    ///
    /// # Errors
    /// As [`BlockReader::open_object`].
    pub async fn open_cached(
        bucket: &Bucket,
        folder: &str,
        settings: BlockReaderSettings,
        pages: &BlockPages,
    ) -> Result<Self> {
        let mut parts = open_object(bucket, folder, pages.metadata.as_ref()).await?;
        if let Some(pages) = &pages.index {
            parts.index = pages.over(parts.index);
        }
        if let Some(pages) = &pages.chunks {
            for segment in &mut parts.segments {
                *segment = pages.over(Arc::clone(segment));
            }
        }
        Self::from_parts(parts, settings).await
    }

    async fn from_parts(parts: Parts, settings: BlockReaderSettings) -> Result<Self> {
        Ok(Self {
            meta: parts.meta,
            index: IndexReader::open(parts.index, settings.index).await?,
            chunks: ChunkReader::new(parts.segments, settings.chunks),
            tombstones: parts.tombstones,
        })
    }

    /// What the block is.
    pub fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    /// Its index.
    pub fn index(&self) -> &IndexReader {
        &self.index
    }

    /// Its chunks.
    pub fn chunks(&self) -> &ChunkReader {
        &self.chunks
    }

    /// What was deleted from it; the reader of samples applies it.
    pub fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }
}

fn decode_meta(place: &str, folder: Option<&str>, bytes: &[u8]) -> Result<BlockMeta> {
    let meta = BlockMeta::decode(bytes).map_err(|e| Error::corrupt(place, e))?;
    if folder != Some(meta.ulid.to_string().as_str()) {
        let reason = format!("block {} in folder {folder:?}", meta.ulid);
        return Err(Error::corrupt(
            place,
            DecodeError::new("meta.json", 0, reason),
        ));
    }
    let resolution_ms = meta
        .thanos
        .as_ref()
        .map_or(0, |t| t.downsample.resolution_ms);
    if resolution_ms != 0 {
        return Err(Error::InvalidInput(format!(
            "{place}: block is downsampled to {resolution_ms} ms, only raw blocks are read"
        )));
    }
    Ok(meta)
}

/// The number of a segment file, by its name.
fn segment_number(name: &str) -> Option<usize> {
    let is_number = name.len() == 6 && name.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| name.parse().ok()).flatten()
}

/// Segments by number, without the numbers, which must run from 1 without a gap.
fn consecutive<T>(place: &str, mut numbered: Vec<(usize, T)>) -> Result<Vec<T>> {
    numbered.sort_by_key(|(n, _)| *n);
    if let Some((expected, (found, _))) = (1..).zip(&numbered).find(|(e, (n, _))| e != n) {
        let reason = format!("segment {found} where {expected} is expected");
        return Err(Error::corrupt(place, DecodeError::new("chunks", 0, reason)));
    }
    Ok(numbered.into_iter().map(|(_, file)| file).collect())
}

fn decode_tombstones(place: &str, bytes: &[u8]) -> Result<Tombstones> {
    Tombstones::decode(bytes).map_err(|e| Error::corrupt(place, e))
}

fn read_file(path: &Path) -> Result<(String, Vec<u8>)> {
    let place = path.display().to_string();
    match std::fs::read(path) {
        Ok(bytes) => Ok((place, bytes)),
        Err(e) => Err(file_error(&place, &e)),
    }
}

fn open_local(dir: &Path) -> Result<Parts> {
    let (place, bytes) = read_file(&dir.join("meta.json"))?;
    let folder = dir.file_name().and_then(|name| name.to_str());
    let meta = decode_meta(&place, folder, &bytes)?;
    let chunks = dir.join("chunks");
    let chunks_place = chunks.display().to_string();
    let mut segments = Vec::new();
    let listed = std::fs::read_dir(&chunks).map_err(|e| file_error(&chunks_place, &e))?;
    for entry in listed {
        let entry = entry.map_err(|e| file_error(&chunks_place, &e))?;
        if let Some(n) = entry.file_name().to_str().and_then(segment_number) {
            segments.push((
                n,
                Arc::new(LocalFile::open(&entry.path())?) as Arc<dyn ReadAt>,
            ));
        }
    }
    let tombstones = match read_file(&dir.join("tombstones")) {
        Ok((place, bytes)) => decode_tombstones(&place, &bytes)?,
        Err(Error::NotFound(_)) => Tombstones::default(),
        Err(e) => return Err(e),
    };
    Ok(Parts {
        meta,
        index: Arc::new(LocalFile::open(&dir.join("index"))?),
        segments: consecutive(&chunks_place, segments)?,
        tombstones,
    })
}

async fn open_object(bucket: &Bucket, folder: &str, kept: Option<&KeptObjects>) -> Result<Parts> {
    let path = format!("{folder}/meta.json");
    let bytes = match kept {
        Some(kept) => kept.get(bucket, &path).await?,
        None => bucket.get(&path).await?,
    };
    let meta = decode_meta(&path, folder.rsplit('/').next(), &bytes)?;
    let mut files: Vec<(String, u64)> = match &meta.thanos {
        Some(thanos) => thanos
            .files
            .iter()
            .map(|f| (f.rel_path.clone(), f.size_bytes))
            .collect(),
        None => Vec::new(),
    };
    if !files
        .iter()
        .any(|(name, size)| name == "index" && *size > 0)
    {
        files = list_files(bucket, folder).await?;
    }
    let mut segments = Vec::new();
    let mut index = None;
    let mut tombstones = Tombstones::default();
    for (name, size) in files {
        let path = format!("{folder}/{name}");
        if name == "index" {
            index = Some(Arc::new(ObjectFile::new(bucket, &path, size)?));
        } else if name == "tombstones" {
            tombstones = decode_tombstones(&path, &bucket.get(&path).await?)?;
        } else if let Some(n) = name.strip_prefix("chunks/").and_then(segment_number) {
            let segment = ObjectFile::new(bucket, &path, size)?;
            segments.push((n, Arc::new(segment) as Arc<dyn ReadAt>));
        }
    }
    let Some(index) = index else {
        return Err(Error::NotFound(format!("{folder}/index")));
    };
    Ok(Parts {
        meta,
        index,
        segments: consecutive(folder, segments)?,
        tombstones,
    })
}

async fn list_files(bucket: &Bucket, folder: &str) -> Result<Vec<(String, u64)>> {
    let listed: Vec<_> = bucket.list(folder).try_collect().await?;
    let relative = |object: &ObjectInfo| {
        let name = object.path.strip_prefix(folder)?.strip_prefix('/')?;
        Some((name.to_owned(), object.size_bytes))
    };
    Ok(listed.iter().filter_map(relative).collect())
}
