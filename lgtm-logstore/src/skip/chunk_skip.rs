//! Makes a chunk's sections of a side object.

use std::collections::BTreeSet;

use bytes::Bytes;
use lgtm_core::codec::{DecodeFail, put_uvarint};
use lgtm_core::model::TimestampNs;
use lgtm_core::{DecodeError, Result};

use super::batch::SmallSkip;
use super::counts::{ChunkCounts, Counter, MINUTE_NS};
use super::filters::put_names;
use super::group::GroupParts;
use super::parts::whole_key;
use super::settings::SkipSettings;
use super::side_object::ROW_BYTES;
use crate::chunk::{BlockPlace, Chunk, ChunkCodec};
use crate::entry::EntryBlock;

/// A part of the bytes that counts may take at most.
const COUNTS_PART: usize = 2;
/// What groups take beside their tables, at most.
pub(super) const LENGTHS_BYTES: usize = 48;

/// What stands beside one chunk. Either part may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChunkSkip {
    /// Where its lines and metadata surely are not: [`SkipFilters`](super::SkipFilters) in bytes.
    pub filters: Vec<u8>,
    /// Its lines counted: [`ChunkCounts`](super::ChunkCounts) in bytes.
    pub counts: Vec<u8>,
}

impl ChunkSkip {
    /// Bytes of it in a side object, its row in the directory included.
    pub fn size_bytes(&self) -> usize {
        self.filters.len() + self.counts.len() + ROW_BYTES
    }

    /// The same in at most so many bytes, without its row: both parts, or one of the two; a chunk that is skipped costs no request.
    pub(super) fn within(mut self, max_bytes: usize) -> Option<Self> {
        if self.filters.len() + self.counts.len() > max_bytes {
            if self.filters.len() <= max_bytes {
                self.counts.clear();
            } else {
                self.filters.clear();
            }
        }
        (!self.filters.is_empty() || !self.counts.is_empty()).then_some(self)
    }
}

/// Makes what stands beside chunks. Keeps its buffers from chunk to chunk: one per thread or job.
#[derive(Debug, Default)]
pub struct SkipBuilder {
    codec: ChunkCodec,
    pub(super) group: GroupParts,
}

impl SkipBuilder {
    /// Reads a chunk and makes what stands beside it, within its own share; `None` where the chunk is too small for anything.
    ///
    /// Costs about as much as decompressing it twice.
    ///
    /// # Errors
    /// A chunk that cannot be read, or unpacks to more than the bounds of [`ChunkLimits`](crate::chunk::ChunkLimits).
    pub fn build(&mut self, chunk: &[u8], settings: &SkipSettings) -> Result<Option<ChunkSkip>> {
        self.build_within(chunk, settings, settings.share_of(chunk.len()))
    }

    /// [`SkipBuilder::build`] in at most `max_bytes`, its row in the directory included.
    ///
    /// # Errors
    /// As there.
    pub fn build_within(
        &mut self,
        chunk: &[u8],
        settings: &SkipSettings,
        max_bytes: usize,
    ) -> Result<Option<ChunkSkip>> {
        let Some(max_bytes) = max_bytes.checked_sub(ROW_BYTES) else {
            return Ok(None);
        };
        let made = self.build_of(chunk, settings, max_bytes);
        made.map_err(own_fault)
    }

    fn build_of(
        &mut self,
        bytes: &[u8],
        settings: &SkipSettings,
        max_bytes: usize,
    ) -> Result<Option<ChunkSkip>, DecodeFail> {
        let chunk = Chunk::open(Bytes::copy_from_slice(bytes))?;
        let symbols = chunk.symbols(&mut self.codec)?;
        let places = chunk.blocks();
        let whole: u64 = places.iter().map(whole_bytes).sum::<u64>().max(1);
        let mut counter = settings.counts.then(Counter::default);
        let mut groups = Vec::new();
        let mut names: BTreeSet<String> = BTreeSet::new();
        let mut group_bytes = 0;
        let mut group_count = 0u64;
        // Filters get what counts leave; how much these take is known in the end only.
        let room = max_bytes - counts_room(places, settings).clamp(max_bytes / 16, max_bytes / 2);
        let share = |part: u64| (room as u128 * u128::from(part) / u128::from(whole)) as usize;
        self.group.reset(share(settings.group_size.as_u64() * 2));
        for (n, place) in places.iter().enumerate() {
            let block = chunk.read_block(place, &symbols, &mut self.codec)?;
            if let Some(counter) = &mut counter {
                counter.add(&block);
            }
            self.take(&block, &mut names);
            group_bytes += whole_bytes(place);
            if group_bytes >= settings.group_size.as_u64() || n + 1 == places.len() {
                self.group.encode(share(group_bytes), &mut groups);
                self.group.reset(share(settings.group_size.as_u64() * 2));
                group_bytes = 0;
                group_count += 1;
            }
        }
        let mut filters = Vec::with_capacity(groups.len() + 64);
        put_names(names.iter().map(String::as_str), &mut filters);
        put_uvarint(&mut filters, group_count);
        filters.extend_from_slice(&groups);
        let counts = counter.and_then(Counter::finish);
        let mut counts = counts.map(|c| c.encode()).unwrap_or_default();
        if counts.len() > max_bytes / COUNTS_PART {
            counts.clear();
        }
        Ok(ChunkSkip { filters, counts }.within(max_bytes))
    }

    /// Reads a small chunk for a batch.
    ///
    /// # Errors
    /// As [`SkipBuilder::build`].
    pub fn small(&mut self, chunk: &[u8], settings: &SkipSettings) -> Result<SmallSkip> {
        self.small_of(chunk, settings).map_err(own_fault)
    }

    fn small_of(&mut self, bytes: &[u8], settings: &SkipSettings) -> Result<SmallSkip, DecodeFail> {
        let chunk = Chunk::open(Bytes::copy_from_slice(bytes))?;
        let symbols = chunk.symbols(&mut self.codec)?;
        let mut counter = settings.counts.then(Counter::default);
        let mut names = BTreeSet::new();
        self.group.reset(settings.group_room());
        for place in chunk.blocks() {
            let block = chunk.read_block(place, &symbols, &mut self.codec)?;
            if let Some(counter) = &mut counter {
                counter.add(&block);
            }
            self.take(&block, &mut names);
        }
        Ok(SmallSkip {
            parts: self.group.keep(),
            names,
            counts: counter.and_then(Counter::finish),
            plain_bytes: chunk.blocks().iter().map(whole_bytes).sum(),
        })
    }

    /// What stands beside a small chunk alone, in at most `max_bytes`, its row in the directory included.
    pub fn alone(
        &mut self,
        small: &SmallSkip,
        settings: &SkipSettings,
        max_bytes: usize,
    ) -> Option<ChunkSkip> {
        let max_bytes = max_bytes.checked_sub(ROW_BYTES)?;
        let counts = small.counts.as_ref();
        let mut counts = counts.map_or(Vec::new(), ChunkCounts::encode);
        if counts.len() > max_bytes / COUNTS_PART {
            counts.clear();
        }
        self.group.reset(settings.group_room());
        self.group.add(&small.parts);
        let mut filters = Vec::new();
        put_names(small.names.iter().map(String::as_str), &mut filters);
        put_uvarint(&mut filters, 1);
        let used = filters.len() + counts.len() + LENGTHS_BYTES;
        let room = max_bytes.saturating_sub(used);
        self.group.encode(room, &mut filters);
        ChunkSkip { filters, counts }.within(max_bytes)
    }

    /// Bytes of memory that stay with it from chunk to chunk.
    pub fn memory_bytes(&self) -> usize {
        self.group.size_bytes()
    }

    /// Takes a block into the group.
    pub(super) fn take(&mut self, block: &EntryBlock, names: &mut BTreeSet<String>) {
        let group = &mut self.group;
        group.blocks += 1;
        let bytes = block.bytes();
        for line in block.lines() {
            group.lines.add_line(&bytes[line.bytes()]);
        }
        if !group.has_escapes {
            group.has_escapes = block.has_byte(b'\\');
        }
        if !block.has_metadata() {
            return;
        }
        let symbols = block.symbols();
        let mut used = vec![0u64; symbols.len() / 64 + 1];
        let mut used_names: Vec<u32> = Vec::new();
        for n in 0..block.len() {
            for pair in block.metadata(n) {
                if !used_names.contains(&pair.name) {
                    used_names.push(pair.name);
                }
                if let Some(word) = used.get_mut(pair.value as usize / 64) {
                    *word |= 1 << (pair.value % 64);
                }
            }
        }
        for (n, mut word) in used.into_iter().enumerate() {
            while word != 0 {
                let value = n as u32 * 64 + word.trailing_zeros();
                word &= word - 1;
                group
                    .values
                    .insert(whole_key(symbols.get(value).as_bytes()));
            }
        }
        for name in used_names {
            let text = symbols.get(name);
            if !names.contains(text) {
                names.insert(text.to_owned());
            }
        }
    }
}

/// What is wrong with a chunk of this process.
fn own_fault(e: DecodeFail) -> lgtm_core::Error {
    match e {
        DecodeFail::Broken(e) => lgtm_core::Error::corrupt("a chunk that was made here", e),
        DecodeFail::Refused(e) => e,
    }
}

/// Bytes of a block's entries.
pub(super) fn whole_bytes(block: &BlockPlace) -> u64 {
    block.uncompressed_bytes.max(block.len)
}

/// About the bytes that the counts of a chunk take.
fn counts_room(blocks: &[BlockPlace], settings: &SkipSettings) -> usize {
    let first = blocks.iter().map(|b| b.min_ns).min();
    let last = blocks.iter().map(|b| b.max_ns).max();
    let (Some(first), Some(last), true) = (first, last, settings.counts) else {
        return 0;
    };
    let entries = blocks.iter().map(|b| b.entry_count).sum();
    64 + minutes_room((first, last), entries)
}

/// About the bytes that the counts of so many entries take, from first to last.
pub(super) fn minutes_room((first, last): (TimestampNs, TimestampNs), entries: u64) -> usize {
    /// Of a minute: its number, lines and bytes; some have several levels.
    const MINUTE_BYTES: u64 = 6;
    let minutes = last.since(first).max(0) / MINUTE_NS + 2;
    (MINUTE_BYTES * entries.min(minutes as u64)) as usize
}

/// What a damaged section is.
pub(super) fn section_fault(what: &'static str, wanted: u32, found: u32) -> DecodeError {
    DecodeError::new(
        what,
        0,
        format!("checksum {found:08x} instead of {wanted:08x}"),
    )
}
