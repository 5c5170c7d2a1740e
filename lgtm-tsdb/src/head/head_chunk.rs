//! The chunks of a series in the head.

use std::ops::Range;

use lgtm_core::model::TimestampMs;
use lgtm_core::wal::{BlobFiles, BlobPlace, ChunkState};

use crate::chunk::{Chunk, Encoding};

/// Bytes of a finished chunk: in memory, or in the chunk files.
#[derive(Debug, Clone)]
pub(super) enum ChunkBytes {
    /// Boxed twice, as it is rare: a series holds a dozen chunks, and most are in files.
    Memory(Box<Box<[u8]>>),
    File(BlobPlace),
}

/// A finished chunk of a series in the head.
#[derive(Debug, Clone)]
pub(super) struct HeadChunk {
    pub(super) min_ms: TimestampMs,
    pub(super) max_ms: TimestampMs,
    pub(super) encoding: Encoding,
    pub(super) sample_count: u16,
    pub(super) bytes: ChunkBytes,
    /// On its way into a block.
    pub(super) state: ChunkState,
}

const _: () = assert!(
    size_of::<HeadChunk>() <= 40,
    "a series of four hours holds a dozen of them"
);

impl ChunkBytes {
    /// Bytes of the chunk.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Memory(data) => data.len(),
            Self::File(place) => place.len as usize,
        }
    }
}

impl HeadChunk {
    pub(super) fn in_memory(c: Chunk) -> Self {
        Self {
            min_ms: c.min_ms,
            max_ms: c.max_ms,
            encoding: c.encoding,
            sample_count: c.sample_count(),
            bytes: ChunkBytes::Memory(Box::new(c.data[..].into())),
            state: ChunkState::HELD,
        }
    }

    pub(super) fn on_disk(c: Chunk, files: &BlobFiles) -> Self {
        let bytes = match files.append(c.encoding as u8, &c.data) {
            Some(place) => ChunkBytes::File(place),
            // The chunk files cannot take it (disk full): it stays in memory, the log has its samples.
            None => ChunkBytes::Memory(Box::new(c.data[..].into())),
        };
        Self {
            min_ms: c.min_ms,
            max_ms: c.max_ms,
            encoding: c.encoding,
            sample_count: c.sample_count(),
            bytes,
            state: ChunkState::HELD,
        }
    }
}

/// A copy of an open chunk in a buffer that it shares with others.
#[derive(Debug)]
pub(super) struct OpenSpan {
    pub(super) min_ms: TimestampMs,
    pub(super) max_ms: TimestampMs,
    pub(super) encoding: Encoding,
    /// Place in the buffer.
    pub(super) bytes: Range<usize>,
}
