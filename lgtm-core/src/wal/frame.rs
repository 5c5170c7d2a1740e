//! Frames: what is written at once, with its checksums.
//!
//! ```text
//! 0  u32  magic "LGWF"
//! 4  u8   flags: 1 = zstd          5..8 zero
//! 8  u32  bytes of the body as stored
//! 12 u32  bytes of the body decompressed
//! 16 u32  CRC-32C of the body as stored
//! 20 u32  CRC-32C of bytes 0..20
//! 24 body: records, each { u8 kind, uvarint length, payload }
//! ```
//! All integers are little endian. The header has a checksum of its own, so that a damaged length is seen, and the magic lets a
//! reader find the next intact frame behind a damaged one.

use crate::codec::{Reader, crc32c, put_bytes};
use crate::error::DecodeError;

/// First bytes of a segment or checkpoint: name and version.
pub(super) const FILE_HEADER: &[u8; 8] = b"LGTMWAL\x01";
pub(super) const MAGIC: [u8; 4] = *b"LGWF";
pub(super) const HEADER_LEN: usize = 24;
/// No frame is larger, stored or decompressed: twice what may be buffered, as one record may come on top.
pub(super) const MAX_BODY: u32 = u32::MAX / 2;
const FLAG_ZSTD: u8 = 1;

/// What a frame's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) compressed: bool,
    pub(super) stored_len: u32,
    pub(super) raw_len: u32,
    pub(super) crc: u32,
}

impl Header {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("log frame", bytes);
        if r.take(4)? != MAGIC {
            return Err(DecodeError::new("log frame", 0, "magic is missing"));
        }
        let flags = r.u32_le()?;
        let (stored_len, raw_len, crc) = (r.u32_le()?, r.u32_le()?, r.u32_le()?);
        if r.u32_le()? != crc32c(&bytes[..HEADER_LEN - 4]) {
            return Err(DecodeError::new(
                "log frame",
                0,
                "checksum of the header does not match",
            ));
        }
        if flags > u32::from(FLAG_ZSTD) || stored_len > MAX_BODY || raw_len > MAX_BODY {
            return Err(DecodeError::new(
                "log frame",
                0,
                format!("flags {flags:x}, {stored_len} bytes, {raw_len} decompressed"),
            ));
        }
        Ok(Self {
            compressed: flags != 0,
            stored_len,
            raw_len,
            crc,
        })
    }
}

/// Appends a record to a body.
pub(super) fn put_record(body: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    body.push(kind);
    put_bytes(body, payload);
}

/// Encodes frames; keeps the compressor and its memory.
pub(super) struct Encoder {
    compressor: Option<zstd::bulk::Compressor<'static>>,
    compress_above: u64,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder")
            .field("compress_above", &self.compress_above)
            .finish_non_exhaustive()
    }
}

impl Encoder {
    pub(super) fn new(level: i32, compress_above: u64) -> Self {
        Self {
            compressor: zstd::bulk::Compressor::new(level).ok(),
            compress_above,
        }
    }

    /// Puts `body` as one frame into `out`, replacing what was there.
    pub(super) fn encode(&mut self, body: &[u8], out: &mut Vec<u8>) {
        let rest = self.begin(body, out);
        out.extend_from_slice(rest);
    }

    /// Puts the frame of `body` into `out`, replacing what was there; of one that is not compressed only the header. Gives what is to follow: the
    /// body, or nothing.
    pub(super) fn begin<'b>(&mut self, body: &'b [u8], out: &mut Vec<u8>) -> &'b [u8] {
        out.clear();
        out.resize(HEADER_LEN, 0);
        let mut compressed = false;
        if body.len() as u64 > self.compress_above
            && let Some(compressor) = &mut self.compressor
        {
            out.resize(HEADER_LEN + zstd::zstd_safe::compress_bound(body.len()), 0);
            if let Ok(n) = compressor.compress_to_buffer(body, &mut out[HEADER_LEN..])
                && n < body.len()
            {
                out.truncate(HEADER_LEN + n);
                compressed = true;
            }
        }
        if !compressed {
            out.truncate(HEADER_LEN);
        }
        let rest = if compressed { &[] } else { body };
        let stored = if compressed { &out[HEADER_LEN..] } else { body };
        let (crc, stored_len) = (crc32c(stored), stored.len() as u32);
        out[..4].copy_from_slice(&MAGIC);
        out[4] = u8::from(compressed) * FLAG_ZSTD;
        out[8..12].copy_from_slice(&stored_len.to_le_bytes());
        out[12..16].copy_from_slice(&(body.len() as u32).to_le_bytes());
        out[16..20].copy_from_slice(&crc.to_le_bytes());
        let header_crc = crc32c(&out[..20]);
        out[20..24].copy_from_slice(&header_crc.to_le_bytes());
        rest
    }
}

/// Checks a frame's body and brings it into `out` decompressed; what `stored` holds afterwards means nothing.
pub(super) fn decode_body(
    header: Header,
    stored: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let bad = |reason: String| DecodeError::new("log frame", HEADER_LEN as u64, reason);
    if crc32c(stored) != header.crc {
        return Err(bad("checksum of the body does not match".into()));
    }
    if !header.compressed {
        std::mem::swap(stored, out);
        return Ok(());
    }
    out.clear();
    // The claimed size was covered by the header's checksum; it is a bound all the same, as zstd could say another.
    out.resize(header.raw_len as usize, 0);
    let n = zstd::bulk::decompress_to_buffer(stored, out.as_mut_slice())
        .map_err(|e| bad(format!("zstd: {e}")))?;
    if n != header.raw_len as usize {
        return Err(bad(format!(
            "{n} bytes decompressed, {} announced",
            header.raw_len
        )));
    }
    Ok(())
}
