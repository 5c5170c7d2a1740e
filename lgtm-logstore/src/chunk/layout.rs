//! What stands where in a chunk: header, block table, trailer (docs/format/chunk.md).

use std::ops::Range;

use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, crc32c, put_svarint, put_uvarint};
use lgtm_core::model::TimestampNs;

use crate::chunk::encoding::ChunkEncoding;
use crate::chunk::format::ChunkFormat;

const WHAT: &str = "chunk";
const MAGIC: u32 = 0x012e_e56a;
/// Bytes of the checksum behind each section and block.
pub(super) const CRC_LEN: usize = 4;

/// The first bytes of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHeader {
    /// The version.
    pub format: ChunkFormat,
    /// How blocks are compressed.
    pub encoding: ChunkEncoding,
}

impl ChunkHeader {
    /// The most bytes that a header takes.
    pub const MAX_LEN: usize = 6;

    /// Reads the header at the start of `bytes`.
    ///
    /// # Errors
    /// A wrong magic number, a version or encoding that is not known.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(WHAT, bytes);
        let magic = r.u32()?;
        if magic != MAGIC {
            let reason = format!("magic {magic:08x} instead of {MAGIC:08x}");
            return Err(DecodeError::new(WHAT, 0, reason));
        }
        let format = ChunkFormat::new(r.u8()?).map_err(|e| r.error(e.to_string()))?;
        let encoding = match format {
            ChunkFormat::V1 => ChunkEncoding::Gzip,
            ChunkFormat::V2 | ChunkFormat::V3 | ChunkFormat::V4 => {
                let byte = r.u8()?;
                ChunkEncoding::from_byte(byte)
                    .ok_or_else(|| r.error(format!("encoding {byte} is not known")))?
            }
        };
        Ok(Self { format, encoding })
    }

    /// Appends the header.
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC.to_be_bytes());
        out.push(self.format.version());
        if self.format > ChunkFormat::V1 {
            out.push(self.encoding.byte());
        }
    }
}

/// The last bytes of a chunk: where its sections stand. Ranges count from the chunk's start and leave out the checksum behind the section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkTrailer {
    /// The symbol section, of version 4.
    pub symbols: Option<Range<u64>>,
    /// The block table.
    pub table: Range<u64>,
}

impl ChunkTrailer {
    /// The most bytes that a trailer takes.
    pub const MAX_LEN: usize = 32;

    /// Reads the trailer at the end of `tail`, which is the end of a chunk of `chunk_len` bytes.
    ///
    /// # Errors
    /// Too few bytes, sections that leave the chunk.
    pub fn decode(format: ChunkFormat, tail: &[u8], chunk_len: u64) -> Result<Self, DecodeError> {
        let len = format.trailer_len();
        let body_end = chunk_len.saturating_sub(len as u64);
        let fail = |reason: String| DecodeError::new(WHAT, body_end, reason);
        if tail.len() < len || chunk_len < (format.header_len() + len + CRC_LEN) as u64 {
            return Err(fail(format!("{chunk_len} bytes are too few")));
        }
        let mut r = Reader::new(WHAT, &tail[tail.len() - len..]);
        // A section ends so that its checksum fits in front of the trailer.
        let section = |start: u64, len: u64| {
            let end = start.checked_add(len);
            let fits = end.is_some_and(|end| end <= body_end - CRC_LEN as u64);
            match end.filter(|_| fits && start >= format.header_len() as u64) {
                Some(end) => Ok(start..end),
                None => Err(fail(format!(
                    "section of {len} bytes at {start} in a chunk of {chunk_len}"
                ))),
            }
        };
        if !format.has_metadata() {
            let start = r.u64()?;
            let len = (body_end - CRC_LEN as u64).saturating_sub(start);
            let table = section(start, len)?;
            return Ok(Self {
                symbols: None,
                table,
            });
        }
        let (symbols_len, symbols_at) = (r.u64()?, r.u64()?);
        let (table_len, table_at) = (r.u64()?, r.u64()?);
        Ok(Self {
            symbols: Some(section(symbols_at, symbols_len)?),
            table: section(table_at, table_len)?,
        })
    }

    /// Appends the trailer.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        if let Some(symbols) = &self.symbols {
            for number in [
                symbols.end - symbols.start,
                symbols.start,
                self.table.end - self.table.start,
            ] {
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
        out.extend_from_slice(&self.table.start.to_be_bytes());
    }
}

/// One block as the table of its chunk tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockPlace {
    /// Number of entries.
    pub entry_count: u64,
    /// Time of the first entry, nanoseconds.
    pub min_ns: TimestampNs,
    /// Time of the last entry, nanoseconds; inclusive, as the format has it.
    pub max_ns: TimestampNs,
    /// Where its compressed bytes begin, from the chunk's start.
    pub start: u64,
    /// Bytes of its lines and 8 for each pair of metadata; 0 in versions 1 and 2. Not the length of the decompressed block.
    pub uncompressed_bytes: u64,
    /// Compressed bytes, without their checksum.
    pub len: u64,
}

impl BlockPlace {
    /// About how many bytes the decompressed block has.
    pub(super) fn expected_bytes(&self) -> usize {
        // Time, two lengths and a count; numbers of symbols take fewer than the 8 bytes that are counted for a pair.
        let entries = self.entry_count.saturating_mul(16);
        let bytes = match self.uncompressed_bytes {
            0 => self.len.saturating_mul(8),
            n => n.saturating_add(entries),
        };
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Whether it has entries, as far as the table tells, with `min_ns <= time < max_ns`.
    pub fn overlaps(&self, min_ns: TimestampNs, max_ns: TimestampNs) -> bool {
        self.min_ns < max_ns && min_ns <= self.max_ns
    }

    /// Where the compressed bytes stand, from the chunk's start, without the checksum behind them.
    pub fn range(&self) -> Range<u64> {
        self.start..self.start + self.len
    }
}

/// Header, trailer and block table of a chunk: enough to read any part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkLayout {
    /// Version and encoding.
    pub header: ChunkHeader,
    /// Where the sections stand.
    pub trailer: ChunkTrailer,
    /// The blocks, in the order of the table.
    pub blocks: Vec<BlockPlace>,
}

impl ChunkLayout {
    /// Reads the block table out of `section`, its bytes with the checksum behind them. `check(start, len)` says whether a block whose
    /// place is in doubt has a checksum that fits there.
    ///
    /// A block's offset that disagrees with where the one before it ends is only taken if its checksum fits; else the other is tried. Whoever
    /// reads the block checks it again.
    ///
    /// # Errors
    /// A checksum that does not fit, a count that the section cannot hold, a block that leaves the chunk.
    pub fn decode_table(
        header: ChunkHeader,
        trailer: ChunkTrailer,
        section: &[u8],
        chunk_len: u64,
        check: impl Fn(u64, u64) -> bool,
    ) -> Result<Self, DecodeError> {
        const WHAT: &str = "chunk block table";
        let body = checked_section(WHAT, section)?;
        let mut r = Reader::new(WHAT, body);
        let count = r.uvarint()?;
        let has_sizes = header.format.has_uncompressed_sizes();
        let row_len = 5 + usize::from(has_sizes);
        if count > (r.remaining() / row_len) as u64 {
            return Err(r.error(format!("{count} blocks in {} bytes", r.remaining())));
        }
        let mut expected = match &trailer.symbols {
            Some(symbols) => symbols.end + CRC_LEN as u64,
            None => header.format.header_len() as u64,
        };
        let mut blocks = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let mut block = BlockPlace {
                entry_count: r.uvarint()?,
                min_ns: TimestampNs::new(r.svarint()?),
                max_ns: TimestampNs::new(r.svarint()?),
                start: r.uvarint()?,
                uncompressed_bytes: if has_sizes { r.uvarint()? } else { 0 },
                len: r.uvarint()?,
            };
            let fits = |start: u64| {
                let end = start.checked_add(block.len)?.checked_add(CRC_LEN as u64)?;
                (end <= chunk_len).then_some(end)
            };
            if block.start != expected {
                let is_good = |start: u64| fits(start).is_some() && check(start, block.len);
                if !is_good(block.start) && is_good(expected) {
                    block.start = expected;
                }
            }
            let Some(end) = fits(block.start) else {
                let reason = format!(
                    "block of {} bytes at {} in a chunk of {chunk_len}",
                    block.len, block.start
                );
                return Err(r.error(reason));
            };
            expected = end;
            blocks.push(block);
        }
        if !r.is_empty() {
            return Err(r.error("bytes after the last block"));
        }
        Ok(Self {
            header,
            trailer,
            blocks,
        })
    }

    /// Appends the block table and its checksum; returns how many bytes the table has.
    pub(super) fn encode_table(
        format: ChunkFormat,
        blocks: &[BlockPlace],
        out: &mut Vec<u8>,
    ) -> usize {
        let start = out.len();
        put_uvarint(out, blocks.len() as u64);
        for block in blocks {
            put_uvarint(out, block.entry_count);
            put_svarint(out, block.min_ns.get());
            put_svarint(out, block.max_ns.get());
            put_uvarint(out, block.start);
            if format.has_uncompressed_sizes() {
                put_uvarint(out, block.uncompressed_bytes);
            }
            put_uvarint(out, block.len);
        }
        let len = out.len() - start;
        let crc = crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_be_bytes());
        len
    }
}

/// What stands in front of the checksum at the end of `section`.
pub(super) fn checked_section<'a>(
    what: &'static str,
    section: &'a [u8],
) -> Result<&'a [u8], DecodeError> {
    let Some((body, stored)) = section.split_last_chunk::<CRC_LEN>() else {
        return Err(DecodeError::new(what, 0, "the checksum is cut off"));
    };
    let (stored, crc) = (u32::from_be_bytes(*stored), crc32c(body));
    if stored == crc {
        return Ok(body);
    }
    let reason = format!("checksum {stored:08x} instead of {crc:08x}");
    Err(DecodeError::new(what, body.len() as u64, reason))
}
