//! Snappy's framing format (`framing_format.txt` of google/snappy): what a stream of blocks is wrapped in.

use crate::codec::allowance::DecodeFail;
use crate::codec::codec::{Reader, crc32c};
use crate::codec::compression::OutputSize;
use crate::codec::decompressor::too_large;
use crate::error::{Error, Result};

const WHAT: &str = "snappy stream";
const IDENTIFIER: &[u8] = b"\xff\x06\x00\x00sNaPpY";
/// Most bytes of a chunk before they are compressed.
const CHUNK_BYTES: usize = 64 << 10;

mod chunk_type {
    pub(super) const COMPRESSED: u8 = 0;
    pub(super) const PLAIN: u8 = 1;
    /// From here on unknown chunks may be skipped.
    pub(super) const SKIPPABLE: u8 = 0x80;
    pub(super) const IDENTIFIER: u8 = 0xff;
}

/// The checksum as chunks bear it.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Whether bytes begin as a stream. A block that did would claim 767 bytes and go on with a copy of what is not there.
pub(super) fn is_stream(bytes: &[u8]) -> bool {
    bytes.starts_with(IDENTIFIER)
}

pub(super) fn compress(
    encoder: &mut snap::raw::Encoder,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<()> {
    if !bytes.is_empty() {
        out.extend_from_slice(IDENTIFIER);
    }
    for piece in bytes.chunks(CHUNK_BYTES) {
        let start = out.len();
        out.resize(start + 8 + snap::raw::max_compress_len(piece.len()), 0);
        let n = encoder
            .compress(piece, &mut out[start + 8..])
            .map_err(|e| Error::Internal(format!("snappy: {e}")))?;
        // As the reference does: what does not shrink by an eighth is not worth a decoder's time.
        let (kind, n) = if n < piece.len() - piece.len() / 8 {
            (chunk_type::COMPRESSED, n)
        } else {
            out[start + 8..start + 8 + piece.len()].copy_from_slice(piece);
            (chunk_type::PLAIN, piece.len())
        };
        out.truncate(start + 8 + n);
        let len = (n as u32 + 4).to_le_bytes();
        out[start..start + 4].copy_from_slice(&[kind, len[0], len[1], len[2]]);
        out[start + 4..start + 8].copy_from_slice(&masked_crc(piece).to_le_bytes());
    }
    Ok(())
}

pub(super) fn decompress(
    decoder: &mut snap::raw::Decoder,
    bytes: &[u8],
    size: OutputSize,
    out: &mut Vec<u8>,
) -> Result<(), DecodeFail> {
    let base = out.len();
    let mut r = Reader::new(WHAT, bytes);
    if !bytes.is_empty() && !bytes.starts_with(IDENTIFIER) {
        return Err(r.error("no stream identifier").into());
    }
    while !r.is_empty() {
        let kind = r.u8()?;
        let len = r.take(3)?;
        let len = u32::from_le_bytes([len[0], len[1], len[2], 0]) as usize;
        let at = r.clone();
        let mut chunk = Reader::new(WHAT, r.take(len)?);
        let start = out.len();
        let room = size.max_bytes - (start - base);
        let crc = match kind {
            chunk_type::COMPRESSED => {
                let crc = chunk.u32_le()?;
                let invalid = |e: snap::Error| at.error(e.to_string());
                let n = snap::raw::decompress_len(chunk.rest()).map_err(invalid)?;
                check_chunk(&at, n, room, size)?;
                out.resize(start + n, 0);
                let n = decoder
                    .decompress(chunk.rest(), &mut out[start..])
                    .map_err(invalid)?;
                out.truncate(start + n);
                crc
            }
            chunk_type::PLAIN => {
                let crc = chunk.u32_le()?;
                check_chunk(&at, chunk.remaining(), room, size)?;
                out.extend_from_slice(chunk.rest());
                crc
            }
            chunk_type::IDENTIFIER if chunk.rest() == &IDENTIFIER[4..] => continue,
            chunk_type::SKIPPABLE..chunk_type::IDENTIFIER => continue,
            _ => return Err(at.error(format!("chunk type {kind:02x}")).into()),
        };
        let actual = masked_crc(&out[start..]);
        if crc != actual {
            let reason = format!("checksum {crc:08x} instead of {actual:08x}");
            return Err(at.error(reason).into());
        }
    }
    Ok(())
}

fn check_chunk(
    at: &Reader<'_>,
    bytes: usize,
    room: usize,
    size: OutputSize,
) -> Result<(), DecodeFail> {
    if bytes > CHUNK_BYTES {
        let reason = format!("a chunk of {bytes} bytes, at most {CHUNK_BYTES} are allowed");
        return Err(at.error(reason).into());
    }
    if bytes > room {
        return Err(too_large(WHAT, size));
    }
    Ok(())
}
