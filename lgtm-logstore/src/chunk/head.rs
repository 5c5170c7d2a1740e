//! The open end of a chunk: entries that are not compressed yet.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashTable};
use lgtm_core::codec::{put_svarint, put_uvarint, uvarint_len};
use lgtm_core::model::TimestampNs;
use lgtm_core::{DecodeError, Error, Result};

use crate::chunk::block::decode_block;
use crate::chunk::format::ChunkFormat;
use crate::entry::{EntryBlock, SymbolList, SymbolPair};

/// A line must be shorter than this, in bytes.
pub(super) const MAX_LINE_BYTES: usize = 1 << 30;

/// Entries in the order in which they came, encoded already as a block will have them. They are put in order of time when the block is
/// cut; those of one time stay in the order of their arrival.
///
/// An entry costs its encoded bytes and 16 more, and no allocation. Entries that come in strictly ascending order are not compared with
/// others; the first that does not makes a table of hashes of all that are there.
#[derive(Debug, Default)]
pub struct HeadBlock {
    bytes: Vec<u8>,
    entries: Vec<HeadEntry>,
    min_ns: TimestampNs,
    max_ns: TimestampNs,
    size_bytes: u64,
    is_sorted: bool,
    /// Hashes of all entries with their numbers, once one came that others of its time may equal.
    seen: Option<HashTable<(u64, u32)>>,
    hashers: DefaultHashBuilder,
    /// Room that the first entry makes: bytes, entries.
    first_room: (usize, usize),
}

#[derive(Debug, Clone, Copy)]
struct HeadEntry {
    t_ns: TimestampNs,
    /// Where it ends in the bytes.
    end: u32,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is in the chunk.
    Stored,
    /// It was there already: same time, line and metadata.
    Duplicate,
}

impl HeadBlock {
    /// An empty one, which is expected to become about as large as this. It takes no memory before its first entry, and then a quarter of it at
    /// once.
    pub(super) fn next(&self) -> Self {
        Self {
            first_room: (self.bytes.len() / 4, self.entries.len() / 4),
            ..Self::default()
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Times of the first and the last entry, nanoseconds.
    pub fn time_range(&self) -> Option<(TimestampNs, TimestampNs)> {
        (!self.is_empty()).then_some((self.min_ns, self.max_ns))
    }

    /// Bytes of the lines and 8 for each pair of metadata: what decides when a block is full.
    pub fn uncompressed_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        let seen = self.seen.as_ref().map_or(0, HashTable::capacity);
        self.bytes.capacity()
            + self.entries.capacity() * size_of::<HeadEntry>()
            + seen * size_of::<(u64, u32)>()
    }

    /// Adds an entry; `metadata` sorted by name.
    pub(super) fn append(
        &mut self,
        format: ChunkFormat,
        t_ns: TimestampNs,
        line: &[u8],
        metadata: &[SymbolPair],
    ) -> Result<Appended> {
        let start = self.bytes.len();
        // Time, lengths and counts take at most 30 bytes, a pair at most 10.
        let most = start + line.len() + 30 + 10 * metadata.len();
        if line.len() >= MAX_LINE_BYTES || u32::try_from(most).is_err() {
            return Err(Error::InvalidInput(format!(
                "a line of {} bytes, must be less than {MAX_LINE_BYTES}",
                line.len()
            )));
        }
        if start == 0 {
            self.bytes.reserve(self.first_room.0);
            self.entries.reserve(self.first_room.1);
        }
        put_svarint(&mut self.bytes, t_ns.get());
        put_uvarint(&mut self.bytes, line.len() as u64);
        self.bytes.extend_from_slice(line);
        let mut size = line.len();
        if format.has_metadata() {
            put_metadata(&mut self.bytes, metadata);
            size += 8 * metadata.len();
        }
        let is_newest = self.is_empty() || t_ns > self.max_ns;
        if (!is_newest || self.seen.is_some()) && !self.note(start, is_newest) {
            self.bytes.truncate(start);
            return Ok(Appended::Duplicate);
        }
        (self.min_ns, self.max_ns, self.is_sorted) = match self.entries.last() {
            None => (t_ns, t_ns, true),
            Some(last) => (
                self.min_ns.min(t_ns),
                self.max_ns.max(t_ns),
                self.is_sorted && last.t_ns <= t_ns,
            ),
        };
        let end = self.bytes.len() as u32;
        self.entries.push(HeadEntry { t_ns, end });
        self.size_bytes += size as u64;
        Ok(Appended::Stored)
    }

    /// Notes the entry whose bytes stand from `start` on, which is about to be the last; false if it was there already.
    fn note(&mut self, start: usize, is_newest: bool) -> bool {
        let (bytes, entries, hashers) = (&self.bytes, &self.entries, &self.hashers);
        let of = |n: u32| &bytes[entry_range(entries, n as usize)];
        let seen = self.seen.get_or_insert_with(|| {
            let mut all = HashTable::with_capacity(2 * entries.len());
            for n in 0..entries.len() as u32 {
                let hash = hashers.hash_one(of(n));
                all.insert_unique(hash, (hash, n), |(hash, _)| *hash);
            }
            all
        });
        // Encoded bytes are equal when entries are: they hold the time, the line and the numbers of the symbols.
        let new = &bytes[start..];
        let hash = hashers.hash_one(new);
        if !is_newest
            && seen
                .find(hash, |(h, n)| *h == hash && of(*n) == new)
                .is_some()
        {
            return false;
        }
        seen.insert_unique(hash, (hash, entries.len() as u32), |(hash, _)| *hash);
        true
    }

    /// The entries as a block holds them, in order of time.
    pub(super) fn sorted_bytes(&self) -> Cow<'_, [u8]> {
        if self.is_sorted {
            return Cow::Borrowed(&self.bytes);
        }
        let mut order: Vec<u32> = (0..self.entries.len() as u32).collect();
        order.sort_by_key(|n| self.entries[*n as usize].t_ns);
        let mut out = Vec::with_capacity(self.bytes.len());
        for n in order {
            out.extend_from_slice(&self.bytes[entry_range(&self.entries, n as usize)]);
        }
        Cow::Owned(out)
    }

    /// The entries as they are now. Copies them.
    ///
    /// # Errors
    /// None that is known: the bytes were encoded here.
    pub(super) fn entries(
        &self,
        format: ChunkFormat,
        symbols: &Arc<SymbolList>,
    ) -> Result<EntryBlock, DecodeError> {
        let bytes = Bytes::copy_from_slice(&self.bytes);
        decode_block(format, bytes, self.len() as u64, symbols)
    }
}

impl HeadBlock {
    /// The entries, in place of it. Copies nothing if they came in order of time.
    ///
    /// # Errors
    /// None that is known: the bytes were encoded here.
    pub(super) fn into_entries(
        self,
        format: ChunkFormat,
        symbols: &Arc<SymbolList>,
    ) -> Result<EntryBlock, DecodeError> {
        let count = self.len() as u64;
        let bytes = if self.is_sorted {
            self.bytes.into()
        } else {
            Bytes::from(self.sorted_bytes().into_owned())
        };
        decode_block(format, bytes, count, symbols)
    }
}

fn entry_range(entries: &[HeadEntry], n: usize) -> Range<usize> {
    let start = n.checked_sub(1).map_or(0, |before| entries[before].end);
    start as usize..entries[n].end as usize
}

fn put_metadata(out: &mut Vec<u8>, metadata: &[SymbolPair]) {
    let count = metadata.len() as u64;
    let len = |p: &SymbolPair| uvarint_len(u64::from(p.name)) + uvarint_len(u64::from(p.value));
    let section = uvarint_len(count) + metadata.iter().map(len).sum::<usize>();
    put_uvarint(out, section as u64);
    put_uvarint(out, count);
    for pair in metadata {
        put_uvarint(out, u64::from(pair.name));
        put_uvarint(out, u64::from(pair.value));
    }
}
