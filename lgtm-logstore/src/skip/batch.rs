//! Small chunks that share what stands beside them.
//!
//! A chunk of a kilobyte has room beside it for little more than its row. So the chunks of one tenant that are written together have one filter, and
//! their counts stand behind each other; a search that the filter excludes reads none of them, one that it does not exclude reads them all.

use std::collections::BTreeSet;

use super::chunk_skip::ChunkSkip;
use super::counts::ChunkCounts;
use super::counts_batch::encode_counts;
use super::filters::put_names;
use super::group::{GroupParts, KeptGroupParts};
use super::settings::SkipSettings;
use super::side_object::{PLACE_BYTES, chunk_hash, tenant_hash};
use crate::chunk::ChunkKey;
use lgtm_core::codec::put_uvarint;

/// Chunks of a batch at most: those that a search reads where the text stands in one of them.
const MAX_CHUNKS: usize = 128;
/// Bytes of a chunk's row in the directory.
pub(super) const BATCH_ROW_BYTES: usize = 18;
/// Bytes of a batch in the directory: tenant and places.
pub(super) const BATCH_HEAD_BYTES: usize = 4 + 2 * PLACE_BYTES;

/// What is made beside a chunk.
#[derive(Debug, Clone)]
pub enum MadeSkip {
    /// Beside this chunk alone.
    Own(ChunkSkip),
    /// For a batch of small chunks.
    Small(Box<SmallSkip>),
}

impl MadeSkip {
    /// Bytes of memory while it waits.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Own(skip) => skip.size_bytes(),
            Self::Small(small) => small.memory_bytes(),
        }
    }
}

/// What a small chunk brings into a batch.
#[derive(Debug, Clone)]
pub struct SmallSkip {
    pub(super) parts: KeptGroupParts,
    /// Names of structured metadata.
    pub(super) names: BTreeSet<String>,
    pub(super) counts: Option<ChunkCounts>,
    pub(super) plain_bytes: u64,
}

impl SmallSkip {
    fn memory_bytes(&self) -> usize {
        let names = self.names.iter().map(|n| n.len() + size_of::<String>());
        let counts = self.counts.as_ref().map_or(0, ChunkCounts::size_bytes);
        size_of::<Self>() + self.parts.size_bytes() + names.sum::<usize>() + counts
    }
}

/// A row of a batch: what names a chunk, and the checksum of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchRow {
    /// The hash of what names the chunk, as [`chunk_hash`](super::chunk_hash) gives it.
    pub hash: u64,
    /// CRC-32C of the chunk's object.
    pub checksum: u32,
    /// The place of its counts in the batch.
    pub number: u16,
}

/// What several chunks of a tenant share, in bytes.
#[derive(Debug, Clone)]
pub struct ChunkBatch {
    pub(super) tenant: String,
    /// One filter of all: as [`SkipFilters`](super::SkipFilters) of a chunk of one block.
    pub(super) filters: Vec<u8>,
    /// As [`BatchCounts`](super::BatchCounts).
    pub(super) counts: Vec<u8>,
    pub(super) rows: Vec<BatchRow>,
}

impl ChunkBatch {
    /// A batch of these parts, as another object has it.
    pub fn new(tenant: String, filters: Vec<u8>, counts: Vec<u8>, rows: Vec<BatchRow>) -> Self {
        Self {
            tenant,
            filters,
            counts,
            rows,
        }
    }

    /// Bytes of it in a side object.
    pub fn size_bytes(&self) -> usize {
        let rows = self.rows.len() * BATCH_ROW_BYTES + BATCH_HEAD_BYTES;
        self.filters.len() + self.counts.len() + rows
    }
}

/// A batch in the making.
#[derive(Debug)]
pub struct OpenBatch {
    tenant: String,
    tenant_hash: u64,
    chunks: Vec<(u64, u32, Option<ChunkCounts>)>,
    group: GroupParts,
    names: BTreeSet<String>,
    plain_bytes: u64,
    /// Bytes that may stand beside its chunks.
    room: usize,
}

impl OpenBatch {
    /// An empty one of a tenant.
    pub fn new(tenant: &str, settings: &SkipSettings) -> Self {
        let mut group = GroupParts::default();
        group.reset(settings.group_room());
        Self {
            tenant: tenant.to_owned(),
            tenant_hash: tenant_hash(tenant),
            chunks: Vec::new(),
            group,
            names: BTreeSet::new(),
            plain_bytes: 0,
            room: 0,
        }
    }

    /// Takes in a chunk, beside which `room` bytes may stand.
    pub fn add(&mut self, key: &ChunkKey, small: SmallSkip, room: usize) {
        let hash = chunk_hash(self.tenant_hash, key.fingerprint, key.from_ms, key.checksum);
        self.chunks.push((hash, key.checksum, small.counts));
        self.group.add(&small.parts);
        self.names.extend(small.names);
        self.plain_bytes += small.plain_bytes;
        self.room += room;
    }

    /// Whether it has as much as a batch should.
    pub fn is_full(&self, settings: &SkipSettings) -> bool {
        self.chunks.len() >= MAX_CHUNKS || self.plain_bytes >= settings.group_size.as_u64()
    }

    /// Number of chunks.
    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Whether it has no chunk.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Bytes that may stand beside its chunks.
    pub fn room(&self) -> usize {
        self.room
    }

    /// The batch, within the room of its chunks and `lent` bytes more; `None` where that is too little for anything.
    pub fn close(self, lent: usize) -> Option<ChunkBatch> {
        let rows = BATCH_HEAD_BYTES + self.chunks.len() * BATCH_ROW_BYTES;
        let room = (self.room + lent).checked_sub(rows)?;
        let all: Vec<Option<&ChunkCounts>> = self.chunks.iter().map(|c| c.2.as_ref()).collect();
        let counts = [true, false].map(|by_minute| encode_counts(&all, by_minute));
        // By minute they may take half; at least the totals are wanted, as a chunk that is not counted is read.
        let [by_minute, totals] = counts;
        let mut counts = if by_minute.len() <= room / 2 {
            by_minute
        } else {
            totals
        };
        if counts.len() > room {
            counts.clear();
        }
        let mut filters = Vec::new();
        put_names(self.names.iter().map(String::as_str), &mut filters);
        put_uvarint(&mut filters, 1);
        let used = filters.len() + counts.len();
        self.group
            .encode_as(1, room.saturating_sub(used), &mut filters);
        if filters.len() + counts.len() > room {
            filters.clear();
        }
        let rows = self.chunks.iter().enumerate();
        let rows = rows.map(|(n, (hash, checksum, _))| BatchRow {
            hash: *hash,
            checksum: *checksum,
            number: n as u16,
        });
        let batch = ChunkBatch {
            tenant: self.tenant,
            rows: rows.collect(),
            filters,
            counts,
        };
        (!batch.filters.is_empty() || !batch.counts.is_empty()).then_some(batch)
    }
}
