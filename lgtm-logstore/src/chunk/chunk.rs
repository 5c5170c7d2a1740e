//! Reads a chunk, or the parts of one, that is in memory.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use lgtm_core::DecodeError;
use lgtm_core::codec::{DecodeFail, Decompressor, OutputSize};

use crate::chunk::block::decode_block;
use crate::chunk::encoding::ChunkEncoding;
use crate::chunk::layout::{
    BlockPlace, CRC_LEN, ChunkHeader, ChunkLayout, ChunkTrailer, checked_section,
};
use crate::chunk::parts::ChunkParts;
use crate::chunk::symbols::decode_symbols;
use crate::entry::{EntryBlock, SymbolList};

const WHAT: &str = "chunk block";

/// Bounds of what is decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkLimits {
    /// Bytes of one decompressed block. Default 256 MiB: writers cut blocks at 256 KiB, but one line may be as long as the limits of its
    /// writer allowed.
    pub max_block_bytes: usize,
    /// Bytes of the decompressed symbols of a chunk. Default 256 MiB: a thousand times what a chunk of the default size may hold.
    pub max_symbols_bytes: usize,
}

impl Default for ChunkLimits {
    fn default() -> Self {
        Self {
            max_block_bytes: 256 << 20,
            max_symbols_bytes: 256 << 20,
        }
    }
}

/// What reading chunks needs beside their bytes; kept from chunk to chunk. One per thread or job.
#[derive(Debug, Default)]
pub struct ChunkCodec {
    /// State of the compressions.
    pub decompressor: Decompressor,
    /// Bounds.
    pub limits: ChunkLimits,
}

/// A block that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedBlock {
    /// What the table says of it.
    pub place: BlockPlace,
    /// What is wrong with it.
    pub error: DecodeError,
}

/// All that can be read of a chunk.
#[derive(Debug, Clone)]
pub struct ChunkEntries {
    /// The blocks in the order of the table; in chunks that were not closed properly they may overlap in time.
    pub blocks: Vec<EntryBlock>,
    /// The blocks that are missing.
    pub damaged: Vec<DamagedBlock>,
}

/// A chunk in memory, of any version: all of it, or what was read of it by ranges. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Chunk {
    parts: ChunkParts,
    layout: Arc<ChunkLayout>,
}

impl Chunk {
    /// Reads header, trailer and block table. Blocks are checked when they are read.
    ///
    /// # Errors
    /// Any of them damaged; a block that leaves the chunk.
    pub fn open(bytes: Bytes) -> Result<Self, DecodeError> {
        let header = ChunkHeader::decode(&bytes)?;
        let len = bytes.len() as u64;
        let trailer = ChunkTrailer::decode(header.format, &bytes, len)?;
        let table = trailer.table.start as usize..trailer.table.end as usize + CRC_LEN;
        let at = table.start as u64;
        let parts = ChunkParts::whole(bytes.clone());
        let check = |start: u64, len: u64| block_bytes(&parts, start, len).is_ok();
        let layout = ChunkLayout::decode_table(header, trailer, &bytes[table], len, check)
            .map_err(|e| DecodeError {
                offset: e.offset + at,
                ..e
            })?;
        Ok(Self {
            layout: Arc::new(layout),
            parts,
        })
    }

    /// As [`Chunk::open`] of a chunk of `len` bytes of which only the beginning and the end are there: `tail` must have trailer and block
    /// table. What else is wanted, [`Chunk::missing`] tells and [`Chunk::add`] takes.
    ///
    /// # Errors
    /// As [`Chunk::open`]; a tail that is too short; a table whose places of blocks are in doubt, which only the whole chunk can settle.
    pub fn open_parts(len: u64, front: Bytes, tail: Bytes) -> Result<Self, DecodeError> {
        let header = ChunkHeader::decode(&front)?;
        let trailer = ChunkTrailer::decode(header.format, &tail, len)?;
        let mut parts = ChunkParts::of(len);
        parts.add(0, front);
        parts.add(len.saturating_sub(tail.len() as u64), tail);
        let at = trailer.table.start;
        let table = parts.bytes(WHAT, with_checksum(&trailer.table))?;
        let is_in_doubt = Cell::new(false);
        let check = |_, _| {
            is_in_doubt.set(true);
            false
        };
        let layout =
            ChunkLayout::decode_table(header, trailer, table, len, check).map_err(|e| {
                DecodeError {
                    offset: e.offset + at,
                    ..e
                }
            })?;
        if is_in_doubt.get() {
            let reason = "blocks stand elsewhere than the table says";
            return Err(DecodeError::new(WHAT, at, reason));
        }
        Ok(Self {
            layout: Arc::new(layout),
            parts,
        })
    }

    /// The ranges, from the chunk's start, that have to be there before its symbols and `blocks` can be read, and are not.
    pub fn missing<'a>(&self, blocks: impl IntoIterator<Item = &'a BlockPlace>) -> Vec<Range<u64>> {
        let symbols = self.layout.trailer.symbols.iter().cloned();
        let blocks = blocks.into_iter().map(BlockPlace::range);
        let wanted = symbols.chain(blocks).map(|range| with_checksum(&range));
        wanted
            .filter(|range| self.parts.get(range.clone()).is_none())
            .collect()
    }

    /// Adds what was read at `start`, from the chunk's start.
    pub fn add(&mut self, start: u64, bytes: Bytes) {
        self.parts.add(start, bytes);
    }

    /// What stands where.
    pub fn layout(&self) -> &ChunkLayout {
        &self.layout
    }

    /// The blocks as the table tells them.
    pub fn blocks(&self) -> &[BlockPlace] {
        &self.layout.blocks
    }

    /// Bytes of the chunk that are in memory.
    pub fn size_bytes(&self) -> usize {
        self.parts.size_bytes()
    }

    /// Names and values of the structured metadata; empty before version 4. Touches no block.
    ///
    /// # Errors
    /// As [`decode_symbols`].
    pub fn symbols(&self, codec: &mut ChunkCodec) -> Result<Arc<SymbolList>, DecodeFail> {
        let Some(range) = &self.layout.trailer.symbols else {
            return Ok(Arc::default());
        };
        let section = self.parts.bytes(WHAT, with_checksum(range))?;
        let symbols = decode_symbols(
            self.layout.header.encoding,
            section,
            codec.limits.max_symbols_bytes,
            &mut codec.decompressor,
        )?;
        Ok(Arc::new(symbols))
    }

    /// Whether the checksums of these blocks fit.
    pub fn are_intact(&self, blocks: &[BlockPlace]) -> bool {
        let mut blocks = blocks.iter();
        blocks.all(|b| block_bytes(&self.parts, b.start, b.len).is_ok())
    }

    /// Checks, decompresses and reads one block. `symbols` are those of [`Chunk::symbols`].
    ///
    /// Costs one allocation of the decompressed size and some for the columns, none per entry.
    ///
    /// # Errors
    /// [`DecodeFail::Broken`] for a checksum that does not fit, which is found before anything is decompressed, and for entries that are
    /// none; [`DecodeFail::Refused`] when more than the bound comes out.
    pub fn read_block(
        &self,
        place: &BlockPlace,
        symbols: &Arc<SymbolList>,
        codec: &mut ChunkCodec,
    ) -> Result<EntryBlock, DecodeFail> {
        let packed = block_bytes(&self.parts, place.start, place.len)?;
        unpack_block(self.layout.header, packed, place, symbols, codec)
    }

    /// Checks and decompresses one block, for who looks through its bytes before it has [`decode_block`] name the entries: a search for a rare
    /// text finds that most blocks need not be looked at any further.
    ///
    /// # Errors
    /// As [`Chunk::read_block`].
    pub fn unpack_block(
        &self,
        place: &BlockPlace,
        codec: &mut ChunkCodec,
    ) -> Result<Bytes, DecodeFail> {
        let packed = block_bytes(&self.parts, place.start, place.len)?;
        unpack(self.layout.header.encoding, packed, place, codec)
    }

    /// The blocks that `wanted` accepts, whole. Damaged ones are left out and named.
    ///
    /// # Errors
    /// [`DecodeFail::Broken`] when the symbols cannot be read; [`DecodeFail::Refused`] when more than a bound comes out.
    pub fn read(
        &self,
        wanted: impl Fn(&BlockPlace) -> bool,
        codec: &mut ChunkCodec,
    ) -> Result<ChunkEntries, DecodeFail> {
        let mut out = ChunkEntries {
            blocks: Vec::new(),
            damaged: Vec::new(),
        };
        let symbols = self.symbols(codec)?;
        for place in self.blocks().iter().filter(|place| wanted(place)) {
            match self.read_block(place, &symbols, codec) {
                Ok(block) => out.blocks.push(block),
                Err(DecodeFail::Broken(error)) => out.damaged.push(DamagedBlock {
                    place: *place,
                    error,
                }),
                Err(refused) => return Err(refused),
            }
        }
        Ok(out)
    }
}

/// Decompresses a block and names its entries.
pub(super) fn unpack_block(
    header: ChunkHeader,
    packed: &[u8],
    place: &BlockPlace,
    symbols: &Arc<SymbolList>,
    codec: &mut ChunkCodec,
) -> Result<EntryBlock, DecodeFail> {
    let bytes = unpack(header.encoding, packed, place, codec)?;
    let block = decode_block(header.format, bytes, place.entry_count, symbols)?;
    Ok(block)
}

fn unpack(
    encoding: ChunkEncoding,
    packed: &[u8],
    place: &BlockPlace,
    codec: &mut ChunkCodec,
) -> Result<Bytes, DecodeFail> {
    let mut plain = Vec::new();
    let size = OutputSize {
        expected_bytes: place.expected_bytes(),
        max_bytes: codec.limits.max_block_bytes,
    };
    codec
        .decompressor
        .decompress(encoding.compression(), packed, size, &mut plain)?;
    Ok(plain.into())
}

/// The compressed bytes of a block, if the checksum behind them fits.
fn block_bytes(chunk: &ChunkParts, start: u64, len: u64) -> Result<&[u8], DecodeError> {
    let end = start
        .checked_add(len)
        .filter(|end| *end <= chunk.len())
        .ok_or_else(|| {
            let reason = format!("{len} bytes in a chunk of {}", chunk.len());
            DecodeError::new(WHAT, start, reason)
        })?;
    let section = chunk.bytes(WHAT, with_checksum(&(start..end)))?;
    checked_section(WHAT, section).map_err(|e| DecodeError {
        offset: e.offset + start,
        ..e
    })
}

/// A section and the checksum behind it.
fn with_checksum(section: &Range<u64>) -> Range<u64> {
    section.start..section.end.saturating_add(CRC_LEN as u64)
}
