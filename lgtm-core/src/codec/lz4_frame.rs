//! LZ4's frame format (`lz4_Frame_format.md` of lz4/lz4, version 1.6.4), around the blocks of `lz4_flex`.
//!
//! The frames are walked here because they are whole in memory: blocks are decoded into their place, where a stream's decoder would keep
//! twice the frame's block size (8 MiB for the largest) and copy.

use lz4_flex::block::{
    CompressTable, DecompressError, compress_into_with_table, decompress_into_with_dict,
    get_maximum_output_size,
};
use xxhash_rust::xxh32::xxh32;

use crate::codec::allowance::DecodeFail;
use crate::codec::codec::Reader;
use crate::codec::compression::{Lz4BlockSize, OutputSize};
use crate::codec::decompressor::too_large;
use crate::error::{Error, Result};

const WHAT: &str = "lz4 frame";
const MAGIC: u32 = 0x184d_2204;
/// The lowest four bits are free.
const SKIPPABLE_MAGIC: u32 = 0x184d_2a50;
const VERSION_1: u8 = 0b0100_0000;
const INDEPENDENT_BLOCKS: u8 = 0b10_0000;
const BLOCK_CHECKSUMS: u8 = 0b1_0000;
const CONTENT_SIZE: u8 = 0b1000;
const CONTENT_CHECKSUM: u8 = 0b100;
const RESERVED: u8 = 0b10;
const DICTIONARY: u8 = 0b1;
/// In a block's length: it is not compressed.
const PLAIN: u32 = 1 << 31;
/// How far back blocks may refer.
const WINDOW: usize = 64 << 10;

impl Lz4BlockSize {
    /// The size in bytes.
    pub fn bytes(self) -> usize {
        1 << (8 + 2 * usize::from(self.id()))
    }

    fn id(self) -> u8 {
        match self {
            Self::KiB64 => 4,
            Self::KiB256 => 5,
            Self::MiB1 => 6,
            Self::MiB4 => 7,
        }
    }
}

pub(super) fn compress(
    table: &mut CompressTable,
    block_size: Lz4BlockSize,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<()> {
    let descriptor = [VERSION_1 | INDEPENDENT_BLOCKS, block_size.id() << 4];
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&descriptor);
    out.push(header_checksum(&descriptor));
    for block in bytes.chunks(block_size.bytes()) {
        let start = out.len();
        out.resize(start + 4 + get_maximum_output_size(block.len()), 0);
        let n = compress_into_with_table(block, &mut out[start + 4..], table)
            .map_err(|e| Error::Internal(format!("lz4: {e}")))?;
        let (n, plain) = if n < block.len() {
            (n, 0)
        } else {
            out[start + 4..start + 4 + block.len()].copy_from_slice(block);
            (block.len(), PLAIN)
        };
        out.truncate(start + 4 + n);
        out[start..start + 4].copy_from_slice(&(n as u32 | plain).to_le_bytes());
    }
    out.extend_from_slice(&[0; 4]);
    Ok(())
}

fn header_checksum(descriptor: &[u8]) -> u8 {
    (xxh32(descriptor, 0) >> 8) as u8
}

/// Asked for room for so many bytes behind those of a buffer, before they are written there.
pub(super) type MakeRoom<'a> = dyn FnMut(&mut Vec<u8>, usize) -> Result<(), DecodeFail> + 'a;

/// Reads one frame or more.
pub(super) fn decompress(
    bytes: &[u8],
    size: OutputSize,
    out: &mut Vec<u8>,
    make_room: &mut MakeRoom<'_>,
) -> Result<(), DecodeFail> {
    let mut r = Reader::new(WHAT, bytes);
    let end = out.len() + size.max_bytes;
    loop {
        let magic = r.u32_le()?;
        if magic & !0xf == SKIPPABLE_MAGIC {
            let len = r.u32_le()? as usize;
            r.take(len)?;
        } else if magic == MAGIC {
            frame(&mut r, size, end, out, make_room)?;
        } else {
            return Err(r.error(format!("magic {magic:08x}")).into());
        }
        if r.is_empty() {
            return Ok(());
        }
    }
}

struct Frame {
    block_bytes: usize,
    flags: u8,
    content_size: Option<u64>,
}

fn frame_header(r: &mut Reader<'_>) -> Result<Frame, DecodeFail> {
    let descriptor = r.rest();
    let before = r.position();
    let (flags, block) = (r.u8()?, r.u8()?);
    if flags & 0b1100_0000 != VERSION_1 || flags & RESERVED != 0 || block & 0b1000_1111 != 0 {
        return Err(r.error(format!("flags {flags:02x} {block:02x}")).into());
    }
    if flags & DICTIONARY != 0 {
        return Err(r.error("it needs a dictionary").into());
    }
    let id = block >> 4;
    if id < 4 {
        return Err(r.error(format!("block size {id}")).into());
    }
    let content_size = match flags & CONTENT_SIZE {
        0 => None,
        _ => Some(r.u64_le()?),
    };
    let wanted = header_checksum(&descriptor[..r.position() - before]);
    let stored = r.u8()?;
    if stored != wanted {
        let reason = format!("header checksum {stored:02x} instead of {wanted:02x}");
        return Err(r.error(reason).into());
    }
    Ok(Frame {
        block_bytes: 1 << (8 + 2 * u32::from(id)),
        flags,
        content_size,
    })
}

/// Reads what follows a frame's magic number; `out` must not grow beyond `end`.
fn frame(
    r: &mut Reader<'_>,
    size: OutputSize,
    end: usize,
    out: &mut Vec<u8>,
    make_room: &mut MakeRoom<'_>,
) -> Result<(), DecodeFail> {
    let header = frame_header(r)?;
    let frame_start = out.len();
    loop {
        let head = r.u32_le()?;
        if head == 0 {
            break;
        }
        let len = (head & !PLAIN) as usize;
        if len > header.block_bytes {
            let reason = format!("a block of {len} bytes in blocks of {}", header.block_bytes);
            return Err(r.error(reason).into());
        }
        let at = r.clone();
        let data = r.take(len)?;
        if header.flags & BLOCK_CHECKSUMS != 0 {
            checksum(r, data)?;
        }
        if head & PLAIN != 0 {
            if data.len() > end - out.len() {
                return Err(too_large(WHAT, size));
            }
            make_room(out, data.len())?;
            out.extend_from_slice(data);
            continue;
        }
        let window_start = match header.flags & INDEPENDENT_BLOCKS {
            0 => frame_start.max(out.len().saturating_sub(WINDOW)),
            _ => out.len(),
        };
        block(
            &at,
            data,
            &header,
            size,
            (window_start, end),
            out,
            make_room,
        )?;
    }
    let made = &out[frame_start..];
    if header.flags & CONTENT_CHECKSUM != 0 {
        checksum(r, made)?;
    }
    match header.content_size {
        Some(wanted) if wanted != made.len() as u64 => {
            let reason = format!("{} bytes instead of {wanted}", made.len());
            Err(r.error(reason).into())
        }
        _ => Ok(()),
    }
}

fn checksum(r: &mut Reader<'_>, bytes: &[u8]) -> Result<(), DecodeFail> {
    let (stored, actual) = (r.u32_le()?, xxh32(bytes, 0));
    if stored == actual {
        return Ok(());
    }
    let reason = format!("checksum {stored:08x} instead of {actual:08x}");
    Err(r.error(reason).into())
}

/// Decodes a block behind `out`. How large it is nobody knows before; a guess that is too small is doubled.
fn block(
    at: &Reader<'_>,
    data: &[u8],
    frame: &Frame,
    size: OutputSize,
    (window_start, end): (usize, usize),
    out: &mut Vec<u8>,
    make_room: &mut MakeRoom<'_>,
) -> Result<(), DecodeFail> {
    let start = out.len();
    let most = frame.block_bytes.min(end - start);
    let expected_end = end - size.max_bytes + size.expected_bytes;
    let guess = expected_end.saturating_sub(start).max(4 * data.len());
    let mut room = guess.max(1 << 10).min(most);
    loop {
        make_room(out, start + room - out.len())?;
        out.resize(start + room, 0);
        let (before, into) = out.split_at_mut(start);
        match decompress_into_with_dict(data, into, &before[window_start..]) {
            Ok(n) => {
                out.truncate(start + n);
                return Ok(());
            }
            Err(DecompressError::OutputTooSmall { .. }) if room < most => {
                room = room.saturating_mul(2).min(most);
            }
            Err(DecompressError::OutputTooSmall { .. }) if most < frame.block_bytes => {
                return Err(too_large(WHAT, size));
            }
            Err(e) => return Err(at.error(e.to_string()).into()),
        }
    }
}
