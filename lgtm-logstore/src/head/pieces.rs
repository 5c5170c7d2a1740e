//! What a reader has of a stream: pieces that are decoded when their turn comes.

use std::sync::Arc;

use bytes::Bytes;
use lgtm_core::codec::DecodeFail;
use lgtm_core::model::{Labels, TimeRangeNs, TimestampNs};
use lgtm_core::wal::{BlobFiles, BlobPlace};
use lgtm_core::{Error, Result};

use super::head_chunk::{BLOB_TAG, ChunkBytes, HeadChunk};
use crate::chunk::{BlockPlace, Chunk, ChunkBuilder, ChunkCodec, PackedBlock};
use crate::entry::EntryBlock;
use crate::select::FetchStats;

/// A stream and what a reader has of it.
#[derive(Debug)]
pub(super) struct StreamPieces {
    pub(super) labels: Labels,
    pub(super) pieces: Vec<Piece>,
}

/// A part of a stream, with the times of its first and last entry.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) min_ns: TimestampNs,
    pub(super) max_ns: TimestampNs,
    data: PieceData,
}

#[derive(Debug, Clone)]
enum PieceData {
    /// Was not compressed yet.
    Entries(EntryBlock),
    /// A block of an open chunk.
    Packed(PackedBlock),
    /// A finished chunk in memory.
    Memory(Bytes),
    /// A finished chunk in the chunk files.
    File(BlobPlace),
    /// A block of a finished chunk.
    Block(Arc<LoadedChunk>, BlockPlace),
}

/// A finished chunk that was loaded.
#[derive(Debug)]
struct LoadedChunk {
    chunk: Chunk,
    symbols: Arc<crate::entry::SymbolList>,
    /// Where it stands, if it does in the chunk files.
    place: Option<BlobPlace>,
}

/// What came of a piece.
pub(super) enum Opened {
    /// Entries.
    Entries(EntryBlock),
    /// It is a chunk, which has these parts in the range.
    Parts(Vec<Piece>),
}

impl Piece {
    fn new(min_ns: TimestampNs, max_ns: TimestampNs, data: PieceData) -> Self {
        Self {
            min_ns,
            max_ns,
            data,
        }
    }

    /// The parts of an open chunk that overlap a range.
    ///
    /// # Errors
    /// `Internal` when what was made here does not decode.
    pub(super) fn of_builder(
        builder: &ChunkBuilder,
        range: TimeRangeNs,
        out: &mut Vec<Self>,
    ) -> Result<()> {
        let overlaps =
            |min: TimestampNs, max: TimestampNs| min < range.max_ns && range.min_ns <= max;
        let Some((min, max)) = builder.time_range() else {
            return Ok(());
        };
        if !overlaps(min, max) {
            return Ok(());
        }
        let broken = |e| Error::Internal(format!("a block that was made here does not read: {e}"));
        let snapshot = builder
            .snapshot(range.min_ns, range.max_ns)
            .map_err(broken)?;
        for block in snapshot.packed {
            let place = *block.place();
            out.push(Self::new(
                place.min_ns,
                place.max_ns,
                PieceData::Packed(block),
            ));
        }
        if let Some(block) = snapshot.head
            && let (Some(min), Some(max)) = (block.min_ns(), block.max_ns())
        {
            out.push(Self::new(min, max, PieceData::Entries(block)));
        }
        Ok(())
    }

    /// A finished chunk.
    ///
    /// # Errors
    /// As [`Piece::of_builder`].
    pub(super) fn of_chunk(
        chunk: &HeadChunk,
        range: TimeRangeNs,
        out: &mut Vec<Self>,
    ) -> Result<()> {
        let data = match &chunk.bytes {
            ChunkBytes::Builder(builder) => return Self::of_builder(builder, range, out),
            ChunkBytes::Memory(bytes) => PieceData::Memory(bytes.clone()),
            ChunkBytes::File(place) => PieceData::File(*place),
        };
        out.push(Self::new(chunk.min_ns, chunk.max_ns, data));
        Ok(())
    }

    /// The place in the chunk files that it needs, if any.
    pub(super) fn place(&self) -> Option<BlobPlace> {
        match &self.data {
            PieceData::File(place) => Some(*place),
            PieceData::Block(chunk, _) => chunk.place,
            _ => None,
        }
    }

    /// Whether it is a whole chunk, of which parts may be wanted only.
    pub(super) fn is_chunk(&self) -> bool {
        matches!(self.data, PieceData::Memory(_) | PieceData::File(_))
    }

    /// Decodes it, or loads the chunk that it is.
    ///
    /// # Errors
    /// `Corrupt` when its bytes are damaged, `Unavailable` when they cannot be read, `LimitExceeded` when too much comes out.
    pub(super) fn open(
        self,
        range: TimeRangeNs,
        files: &BlobFiles,
        codec: &mut ChunkCodec,
        stats: &mut FetchStats,
    ) -> Result<Opened> {
        match self.data {
            PieceData::Entries(block) => Ok(Opened::Entries(block)),
            PieceData::Packed(block) => {
                let read = block.read(codec);
                Ok(Opened::Entries(read.map_err(|e| fault(e, None))?))
            }
            PieceData::Memory(bytes) => parts(bytes, None, range, codec, stats),
            PieceData::File(place) => {
                let bytes = files.read(place, BLOB_TAG)?;
                parts(bytes, Some(place), range, codec, stats)
            }
            PieceData::Block(loaded, block) => {
                let read = loaded.chunk.read_block(&block, &loaded.symbols, codec);
                let block = read.map_err(|e| fault(e, loaded.place))?;
                Ok(Opened::Entries(block))
            }
        }
    }
}

fn parts(
    bytes: Bytes,
    place: Option<BlobPlace>,
    range: TimeRangeNs,
    codec: &mut ChunkCodec,
    stats: &mut FetchStats,
) -> Result<Opened> {
    let chunk = Chunk::open(bytes).map_err(|e| fault(DecodeFail::Broken(e), place))?;
    let symbols = chunk.symbols(codec).map_err(|e| fault(e, place))?;
    stats.chunks_downloaded += 1;
    stats.compressed_bytes += chunk.size_bytes() as u64;
    let loaded = LoadedChunk {
        symbols,
        chunk,
        place,
    };
    let loaded = Arc::new(loaded);
    let blocks = loaded.chunk.blocks().iter();
    let wanted = blocks.filter(|b| b.overlaps(range.min_ns, range.max_ns));
    let pieces = wanted.map(|b| {
        let data = PieceData::Block(Arc::clone(&loaded), *b);
        Piece::new(b.min_ns, b.max_ns, data)
    });
    Ok(Opened::Parts(pieces.collect()))
}

fn fault(e: DecodeFail, place: Option<BlobPlace>) -> Error {
    match e {
        DecodeFail::Refused(e) => e,
        DecodeFail::Broken(e) => match place {
            Some(p) => Error::corrupt(format!("chunk file {:08} at byte {}", p.file, p.offset), e),
            None => Error::corrupt("chunk in memory", e),
        },
    }
}
