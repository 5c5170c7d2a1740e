//! Makes a chunk, entry by entry.

use std::sync::Arc;

use bytes::Bytes;
use lgtm_core::codec::{CompressionLevels, Compressor, DecodeFail, crc32c};
use lgtm_core::model::TimestampNs;
use lgtm_core::{DecodeError, Error, Result};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::chunk::chunk::{ChunkCodec, unpack_block};
use crate::chunk::encoding::ChunkEncoding;
use crate::chunk::format::ChunkFormat;
use crate::chunk::head::{HeadBlock, MAX_LINE_BYTES};
use crate::chunk::layout::{BlockPlace, CRC_LEN, ChunkHeader, ChunkLayout, ChunkTrailer};
use crate::chunk::symbols::encode_symbols;
use crate::entry::{EntryBlock, SymbolList, SymbolListBuilder, SymbolPair, disjoint};

pub use crate::chunk::head::Appended;

/// How chunks are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChunkSettings {
    /// How blocks are compressed. Default `zstd`: objects are kept for years, and it takes a third fewer bytes than `snappy`. (Loki's own
    /// default is `gzip`.)
    pub encoding: ChunkEncoding,
    /// The level of `zstd`, 1 to 22. Default 1: real logs in blocks of 256 KiB take 5 % less than with its own default, 3, at about the
    /// same speed (300 MB/s a core); from level 4 on another 4 % cost three times the CPU.
    pub zstd_level: i32,
    /// Bytes of lines (and 8 for each pair of metadata) at which a block is cut. Default 262144, as in Loki: a search that needs one line
    /// decompresses no more than that.
    pub block_size_bytes: usize,
    /// About the most bytes of a chunk; 0: ten blocks. Default 1572864, as in Loki.
    pub target_size_bytes: usize,
}

impl Default for ChunkSettings {
    fn default() -> Self {
        Self {
            encoding: ChunkEncoding::Zstd,
            zstd_level: 1,
            block_size_bytes: 256 << 10,
            target_size_bytes: 1536 << 10,
        }
    }
}

/// Blocks of a chunk without a target size.
const BLOCKS_WITHOUT_TARGET: usize = 10;

impl ChunkSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// `InvalidInput`, naming the field and its bound.
    pub fn validate(&self) -> Result<()> {
        let size = self.block_size_bytes;
        if size == 0 || size >= MAX_LINE_BYTES {
            let message = format!("block_size_bytes = {size}, must be in 1..{MAX_LINE_BYTES}");
            return Err(Error::InvalidInput(message));
        }
        if !(1..=22).contains(&self.zstd_level) {
            let message = format!("zstd_level = {}, must be in 1..=22", self.zstd_level);
            return Err(Error::InvalidInput(message));
        }
        Ok(())
    }

    /// What compresses chunks with these settings; one per thread or job.
    pub fn compressor(&self) -> Compressor {
        Compressor::new(CompressionLevels {
            zstd: self.zstd_level,
            ..CompressionLevels::default()
        })
    }
}

/// A chunk in the making: its head takes entries, [`ChunkBuilder::cut`] compresses what the head holds.
///
/// It does not cut by itself, so that a caller may append under a lock and compress outside of it: cut when [`ChunkBuilder::is_block_full`]
/// says so, and begin another chunk when [`ChunkBuilder::has_room_for`] says no.
#[derive(Debug)]
pub struct ChunkBuilder {
    pub(super) format: ChunkFormat,
    pub(super) settings: Arc<ChunkSettings>,
    pub(super) head: HeadBlock,
    pub(super) symbols: SymbolListBuilder,
    pub(super) blocks: Vec<CutBlock>,
    /// Compressed bytes of the cut blocks, without checksums.
    pub(super) cut_bytes: u64,
    pairs: Vec<SymbolPair>,
}

/// Looks at the blocks of a chunk as they are cut, while their entries are at hand.
pub trait BlockObserver {
    /// The next block in the order of the chunk's table; what the table will say of it has no start yet.
    fn see(&mut self, place: &BlockPlace, block: &EntryBlock);

    /// None of the blocks so far is one of the chunk's: all are made anew, and follow.
    fn forget(&mut self);
}

/// A block that was cut: what the table will say of it, and its bytes with the checksum behind them. Its place has no start yet.
#[derive(Debug, Clone)]
pub(super) struct CutBlock {
    pub(super) place: BlockPlace,
    pub(super) bytes: Bytes,
}

impl CutBlock {
    /// The compressed bytes.
    pub(super) fn packed(&self) -> Bytes {
        self.bytes.slice(..self.place.len as usize)
    }
}

/// A chunk that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedChunk {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Time of the first entry, nanoseconds.
    pub min_ns: TimestampNs,
    /// Time of the last entry, nanoseconds.
    pub max_ns: TimestampNs,
    /// Number of entries.
    pub entry_count: u64,
    /// Bytes of lines, 8 for each pair of metadata, and bytes of the symbols: what indexes tell in KB.
    pub uncompressed_bytes: u64,
}

impl ChunkBuilder {
    /// An empty chunk. `settings` must be valid.
    pub fn new(format: ChunkFormat, settings: Arc<ChunkSettings>) -> Self {
        Self {
            format,
            settings,
            head: HeadBlock::default(),
            symbols: SymbolListBuilder::default(),
            blocks: Vec::new(),
            cut_bytes: 0,
            pairs: Vec::new(),
        }
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.blocks.is_empty()
    }

    /// What is not compressed yet.
    pub fn head(&self) -> &HeadBlock {
        &self.head
    }

    /// Number of entries.
    pub fn entry_count(&self) -> u64 {
        let cut: u64 = self.blocks.iter().map(|b| b.place.entry_count).sum();
        cut + self.head.len() as u64
    }

    /// Times of the first and the last entry, nanoseconds.
    pub fn time_range(&self) -> Option<(TimestampNs, TimestampNs)> {
        let cut = self.blocks.iter().map(|b| (b.place.min_ns, b.place.max_ns));
        cut.chain(self.head.time_range())
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// What an index counts as the chunk's uncompressed size, bytes.
    pub fn uncompressed_bytes(&self) -> u64 {
        let cut: u64 = self.blocks.iter().map(|b| b.place.uncompressed_bytes).sum();
        cut + self.head.uncompressed_bytes() + self.symbols.list().text_bytes() as u64
    }

    /// Bytes of the cut blocks, compressed.
    pub fn compressed_bytes(&self) -> u64 {
        self.cut_bytes
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        self.head.memory_bytes()
            + self.symbols.size_bytes()
            + (self.cut_bytes as usize + self.blocks.len() * CRC_LEN)
            + self.blocks.capacity() * size_of::<CutBlock>()
    }

    /// Whether an entry still belongs to this chunk: names and values of its metadata count as often as they stand there.
    pub fn has_room_for(&self, line: &[u8], metadata: &[(&str, &str)]) -> bool {
        if self.settings.target_size_bytes == 0 {
            return self.blocks.len() < BLOCKS_WITHOUT_TARGET;
        }
        let texts: usize = metadata.iter().map(|(n, v)| n.len() + v.len()).sum();
        let entry = (line.len() + texts) as u64;
        let held = self.symbols.list().text_bytes() as u64;
        let size = held + self.cut_bytes + self.head.uncompressed_bytes() + entry;
        size < self.settings.target_size_bytes as u64
    }

    /// Whether the head should be cut now.
    pub fn is_block_full(&self) -> bool {
        self.head.uncompressed_bytes() >= self.settings.block_size_bytes as u64
    }

    /// Adds an entry to the head. Metadata may come in any order of names; formats before version 4 drop them. Allocates nothing once
    /// its buffers have grown.
    ///
    /// # Errors
    /// `InvalidInput` for a line of 1 GiB or more; `LimitExceeded` when the texts of metadata reach 4 GiB.
    pub fn append(
        &mut self,
        t_ns: impl Into<TimestampNs>,
        line: &[u8],
        metadata: &[(&str, &str)],
    ) -> Result<Appended> {
        let t_ns = t_ns.into();
        self.pairs.clear();
        if self.format.has_metadata() {
            // In order of names, since symbols are numbered in the order of their first use.
            if metadata.is_sorted_by(|a, b| a.0 <= b.0) {
                self.intern(metadata)?
            } else {
                let mut sorted: SmallVec<[(&str, &str); 16]> = SmallVec::from_slice(metadata);
                sorted.sort_by_key(|(name, _)| *name);
                self.intern(&sorted)?;
            }
        }
        self.head.append(self.format, t_ns, line, &self.pairs)
    }

    fn intern(&mut self, metadata: &[(&str, &str)]) -> Result<()> {
        let full = || Error::LimitExceeded("metadata of a chunk exceed 4 GiB".into());
        for (name, value) in metadata {
            let pair = SymbolPair {
                name: self.symbols.intern(name).ok_or_else(full)?,
                value: self.symbols.intern(value).ok_or_else(full)?,
            };
            self.pairs.push(pair);
        }
        Ok(())
    }

    /// Compresses what the head holds into a block; nothing if it is empty. The head's memory is given back: a stream that falls silent
    /// should hold none.
    ///
    /// # Errors
    /// `Internal` when the compression fails; the head keeps its entries.
    pub fn cut(&mut self, compressor: &mut Compressor) -> Result<()> {
        self.cut_for(compressor, None)
    }

    /// [`ChunkBuilder::cut`], and shows the block to `observer`.
    ///
    /// # Errors
    /// As there.
    pub fn cut_observed(
        &mut self,
        compressor: &mut Compressor,
        observer: &mut dyn BlockObserver,
    ) -> Result<()> {
        self.cut_for(compressor, Some(observer))
    }

    fn cut_for(
        &mut self,
        compressor: &mut Compressor,
        observer: Option<&mut dyn BlockObserver>,
    ) -> Result<()> {
        let Some(block) = self.pack_head(compressor)? else {
            return Ok(());
        };
        let place = block.place;
        self.cut_bytes += place.len;
        self.blocks.push(block);
        let next = self.head.next();
        let head = std::mem::replace(&mut self.head, next);
        let Some(observer) = observer else {
            return Ok(());
        };
        // The chunk is whole already, whatever becomes of the look at it.
        let symbols = self.symbols.share();
        let entries = head.into_entries(self.format, symbols.list());
        observer.see(&place, &entries.map_err(unreadable)?);
        Ok(())
    }

    /// What the head holds as a block; `None` if it is empty.
    fn pack_head(&self, compressor: &mut Compressor) -> Result<Option<CutBlock>> {
        let Some((min_ns, max_ns)) = self.head.time_range() else {
            return Ok(None);
        };
        let compression = self.header().encoding.compression();
        let sorted = self.head.sorted_bytes();
        let mut bytes = compressor.compressed(compression, &sorted, CRC_LEN)?;
        let len = bytes.len() as u64;
        let crc = crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        let place = BlockPlace {
            entry_count: self.head.len() as u64,
            min_ns,
            max_ns,
            start: 0,
            uncompressed_bytes: self.head.uncompressed_bytes(),
            len,
        };
        let bytes = bytes.into();
        Ok(Some(CutBlock { place, bytes }))
    }

    pub(super) fn header(&self) -> ChunkHeader {
        ChunkHeader {
            format: self.format,
            encoding: match self.format {
                // It knows no other.
                ChunkFormat::V1 => ChunkEncoding::Gzip,
                _ => self.settings.encoding,
            },
        }
    }

    /// The entries so far that share a time with `[min_ns, max_ns)`: whole blocks, then the head. They may overlap.
    ///
    /// # Errors
    /// [`DecodeFail::Refused`] when a block exceeds the bound of `codec`.
    pub fn entries(
        &self,
        min_ns: impl Into<TimestampNs>,
        max_ns: impl Into<TimestampNs>,
        codec: &mut ChunkCodec,
    ) -> Result<Vec<EntryBlock>, DecodeFail> {
        let (min_ns, max_ns) = (min_ns.into(), max_ns.into());
        let symbols = Arc::new(self.symbols.list().clone());
        let mut out = Vec::new();
        let blocks = self.blocks.iter();
        for block in blocks.filter(|b| b.place.overlaps(min_ns, max_ns)) {
            out.push(self.read_cut(block, &symbols, codec)?);
        }
        if let Some((first, last)) = self.head.time_range()
            && first < max_ns
            && min_ns <= last
        {
            out.push(self.head.entries(self.format, &symbols)?);
        }
        Ok(out)
    }

    fn read_cut(
        &self,
        block: &CutBlock,
        symbols: &Arc<SymbolList>,
        codec: &mut ChunkCodec,
    ) -> Result<EntryBlock, DecodeFail> {
        let packed = block.packed();
        unpack_block(self.header(), &packed, &block.place, symbols, codec)
    }

    /// Completes the chunk: cuts the head; if blocks then overlap in time, all entries are put into new blocks in order of time, each once.
    ///
    /// # Errors
    /// `InvalidInput` for a chunk without entries; `Internal` when a compression fails; `LimitExceeded` when a block that must be read
    /// again exceeds the bound of `codec`.
    pub fn finish(
        self,
        compressor: &mut Compressor,
        codec: &mut ChunkCodec,
    ) -> Result<FinishedChunk> {
        self.finished(compressor, codec)
    }

    /// The chunk as [`ChunkBuilder::finish`] completes it, while others may still read this.
    ///
    /// # Errors
    /// As there.
    pub fn finished(
        &self,
        compressor: &mut Compressor,
        codec: &mut ChunkCodec,
    ) -> Result<FinishedChunk> {
        self.finished_for(compressor, codec, None)
    }

    /// [`ChunkBuilder::finished`], and shows `observer` the blocks that it has not [seen](ChunkBuilder::cut_observed) yet.
    ///
    /// # Errors
    /// As there.
    pub fn finished_observed(
        &self,
        compressor: &mut Compressor,
        codec: &mut ChunkCodec,
        observer: &mut dyn BlockObserver,
    ) -> Result<FinishedChunk> {
        self.finished_for(compressor, codec, Some(observer))
    }

    fn finished_for(
        &self,
        compressor: &mut Compressor,
        codec: &mut ChunkCodec,
        observer: Option<&mut dyn BlockObserver>,
    ) -> Result<FinishedChunk> {
        let mut blocks = self.blocks.clone();
        let last = self.pack_head(compressor)?;
        let last_place = last.as_ref().map(|b| b.place);
        blocks.extend(last);
        let overlaps = |w: &[CutBlock]| w[1].place.min_ns < w[0].place.max_ns;
        if blocks.windows(2).any(overlaps) {
            let rebuilt = self.rebuilt(&blocks, compressor, codec, observer)?;
            return rebuilt.encode(&rebuilt.blocks, compressor);
        }
        if let Some((place, observer)) = last_place.zip(observer) {
            let symbols = Arc::new(self.symbols.list().clone());
            let entries = self.head.entries(self.format, &symbols);
            observer.see(&place, &entries.map_err(unreadable)?);
        }
        self.encode(&blocks, compressor)
    }

    fn rebuilt(
        &self,
        cut: &[CutBlock],
        compressor: &mut Compressor,
        codec: &mut ChunkCodec,
        mut observer: Option<&mut dyn BlockObserver>,
    ) -> Result<Self> {
        if let Some(observer) = &mut observer {
            observer.forget();
        }
        let symbols = Arc::new(self.symbols.list().clone());
        let mut blocks = Vec::with_capacity(cut.len());
        for block in cut {
            match self.read_cut(block, &symbols, codec) {
                Ok(block) => blocks.push(block),
                Err(DecodeFail::Broken(e)) => return Err(unreadable(e)),
                Err(DecodeFail::Refused(e)) => return Err(e),
            }
        }
        let mut new = Self::new(self.format, Arc::clone(&self.settings));
        let blocks = disjoint(blocks).map_err(unreadable)?.blocks;
        let mut metadata = Vec::new();
        for entry in blocks.iter().flat_map(EntryBlock::iter) {
            metadata.clear();
            metadata.extend(entry.metadata());
            new.append(entry.t_ns, entry.line, &metadata)?;
            if new.is_block_full() {
                new.cut_for(compressor, reborrow(&mut observer))?;
            }
        }
        new.cut_for(compressor, observer)?;
        Ok(new)
    }

    /// A chunk of these blocks, which hold all entries.
    fn encode(&self, blocks: &[CutBlock], compressor: &mut Compressor) -> Result<FinishedChunk> {
        let Some((min_ns, max_ns)) = self.time_range() else {
            return Err(Error::InvalidInput("a chunk without entries".into()));
        };
        let header = self.header();
        let symbols = self.symbols.list();
        let packed: usize = blocks.iter().map(|b| b.bytes.len()).sum();
        let room = packed + symbols.text_bytes() + 64 + 64 * blocks.len();
        let mut bytes = Vec::with_capacity(room);
        header.encode(&mut bytes);
        let symbols = if header.format.has_metadata() {
            let start = bytes.len() as u64;
            let len = encode_symbols(header.encoding, symbols, compressor, &mut bytes)?;
            Some(start..start + len as u64)
        } else {
            None
        };
        let mut places = Vec::with_capacity(blocks.len());
        for block in blocks {
            places.push(BlockPlace {
                start: bytes.len() as u64,
                ..block.place
            });
            bytes.extend_from_slice(&block.bytes);
        }
        let table = bytes.len() as u64;
        let len = ChunkLayout::encode_table(header.format, &places, &mut bytes);
        debug_assert_eq!(table as usize + len + CRC_LEN, bytes.len());
        let trailer = ChunkTrailer {
            symbols,
            table: table..table + len as u64,
        };
        trailer.encode(&mut bytes);
        Ok(FinishedChunk {
            bytes,
            min_ns,
            max_ns,
            entry_count: self.entry_count(),
            uncompressed_bytes: self.uncompressed_bytes(),
        })
    }
}

fn unreadable(e: DecodeError) -> Error {
    Error::Internal(format!("a block that was made here does not read: {e}"))
}

/// The same observer for a call in a loop.
fn reborrow<'a>(
    observer: &'a mut Option<&mut dyn BlockObserver>,
) -> Option<&'a mut dyn BlockObserver> {
    match observer {
        Some(observer) => Some(&mut **observer),
        None => None,
    }
}
