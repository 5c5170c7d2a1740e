//! A chunk of a head that takes no more entries.

use std::sync::Arc;

use bytes::Bytes;
use lgtm_core::model::TimestampNs;
use lgtm_core::wal::{BlobFiles, BlobPlace, ChunkState};

use super::open_chunk::{OpenChunk, WaitingSkip};
use crate::chunk::{ChunkBuilder, FinishedChunk};
use crate::skip::SkipDraft;

/// Says in the chunk files that an entry is a log chunk.
pub(super) const BLOB_TAG: u8 = 0x4c;

/// Where the chunk is.
#[derive(Debug, Clone)]
pub(super) enum ChunkBytes {
    /// Complete, but not put together yet.
    Builder(Arc<ChunkBuilder>),
    /// In memory: the disk refused it.
    Memory(Bytes),
    /// In the chunk files.
    File(BlobPlace),
}

/// Why a chunk takes no more entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum FinishReason {
    /// The next entry had no room in it.
    Full,
    /// All replicas end their chunks here.
    Synced,
    /// Its entries span too much time.
    MaxAge,
    /// Its stream got nothing for long.
    Idle,
    /// Everything is to be flushed.
    Forced,
    /// Open chunks take too much memory.
    Memory,
    /// It was finished before the process started.
    Restored,
}

impl FinishReason {
    /// Its name in metrics, Loki's where Loki has the reason.
    pub(super) fn id(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Synced => "synced",
            Self::MaxAge => "max_age",
            Self::Idle => "idle",
            Self::Forced => "forced",
            Self::Memory => "memory",
            Self::Restored => "restored",
        }
    }
}

/// A chunk that takes no more entries.
#[derive(Debug, Clone)]
pub(super) struct HeadChunk {
    /// Its number in the process.
    pub(super) id: u64,
    /// Time of the first entry, nanoseconds.
    pub(super) min_ns: TimestampNs,
    /// Time of the last entry, nanoseconds.
    pub(super) max_ns: TimestampNs,
    pub(super) entry_count: u64,
    /// What indexes tell of its size.
    pub(super) uncompressed_bytes: u64,
    pub(super) bytes: ChunkBytes,
    pub(super) state: ChunkState,
    pub(super) reason: FinishReason,
    /// What was made beside its blocks, until it is put together.
    pub(super) draft: Option<Box<SkipDraft>>,
    /// What stands beside it, once it is put together, if that is known.
    pub(super) beside: Option<Arc<WaitingSkip>>,
}

impl HeadChunk {
    /// A chunk that is to be put together; `None` when it has no entries.
    pub(super) fn of_open(id: u64, chunk: OpenChunk, reason: FinishReason) -> Option<Self> {
        let (builder, draft) = chunk.into_parts();
        let (min_ns, max_ns) = builder.time_range()?;
        Some(Self {
            id,
            min_ns,
            max_ns,
            entry_count: builder.entry_count(),
            uncompressed_bytes: builder.uncompressed_bytes(),
            bytes: ChunkBytes::Builder(Arc::new(builder)),
            state: ChunkState::HELD,
            reason,
            draft,
            beside: None,
        })
    }

    /// Takes the complete chunk in place of the builder, in the chunk files if these take it.
    pub(super) fn complete(
        &mut self,
        (chunk, beside): (FinishedChunk, Option<Arc<WaitingSkip>>),
        files: &BlobFiles,
    ) {
        self.beside = beside;
        self.min_ns = chunk.min_ns;
        self.max_ns = chunk.max_ns;
        self.entry_count = chunk.entry_count;
        self.uncompressed_bytes = chunk.uncompressed_bytes;
        self.bytes = match files.append(BLOB_TAG, &chunk.bytes) {
            Some(place) => ChunkBytes::File(place),
            None => ChunkBytes::Memory(chunk.bytes.into()),
        };
    }

    /// Whether it has entries with `min_ns <= time < max_ns`.
    pub(super) fn overlaps(&self, min_ns: TimestampNs, max_ns: TimestampNs) -> bool {
        self.min_ns < max_ns && min_ns <= self.max_ns
    }
}
