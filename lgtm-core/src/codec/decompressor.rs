//! Decompresses whole buffers within a bound, with state that is kept from one to the next.

use std::io::Cursor;

use flate2::{Decompress, FlushDecompress, Status};
use zstd::zstd_safe::{DCtx, ErrorCode, get_error_name, zstd_sys::ZSTD_ErrorCode};

use crate::codec::allowance::DecodeFail;
use crate::codec::compression::{Compression, OutputSize};
use crate::codec::size_bound::SizeBound;
use crate::codec::{lz4_frame, snappy_framed};
use crate::error::DecodeError;

/// That more comes out than may.
#[cold]
pub(super) fn too_large(what: &str, size: OutputSize) -> DecodeFail {
    let max = size.max_bytes;
    SizeBound::new(max)
        .exceeded(&format!("{what}: more than {max} bytes come out"))
        .into()
}

/// Decompresses buffers one after the other. Each compression's state is made when it is first used and kept: no allocation a buffer after
/// that, but for the growth of what it appends to (gzip makes a state for each member). One per thread or job.
#[derive(Default)]
pub struct Decompressor {
    gzip: Option<Decompress>,
    deflate: Option<Decompress>,
    snappy: snap::raw::Decoder,
    zstd: Option<DCtx<'static>>,
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

/// The window of deflate as a power of two, its largest.
const WINDOW_BITS: u8 = 15;

impl Decompressor {
    /// Appends what `bytes` hold to `out`. All of `bytes` must be used up.
    ///
    /// # Errors
    /// [`DecodeFail::Broken`] for bytes that are cut off or not what `with` says; [`DecodeFail::Refused`] with `LimitExceeded` when more
    /// than `size.max_bytes` come out. `out` is as before then, but may have grown its room up to the bound.
    pub fn decompress(
        &mut self,
        with: Compression,
        bytes: &[u8],
        size: OutputSize,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeFail> {
        let before = out.len();
        let size = OutputSize {
            expected_bytes: size.expected_bytes.min(size.max_bytes),
            // So that sums of it and lengths do not overflow.
            max_bytes: size.max_bytes.min(isize::MAX as usize / 2),
        };
        if with != Compression::None {
            out.reserve(size.expected_bytes);
        }
        let done = match with {
            Compression::None if bytes.len() > size.max_bytes => {
                Err(too_large("plain bytes", size))
            }
            Compression::None => {
                out.extend_from_slice(bytes);
                Ok(())
            }
            Compression::Gzip => self.gzip(bytes, size, out),
            Compression::Zlib => self.deflate("zlib stream", true, bytes, size, out),
            Compression::Deflate => self.deflate("deflate stream", false, bytes, size, out),
            Compression::SnappyFramed => {
                snappy_framed::decompress(&mut self.snappy, bytes, size, out)
            }
            Compression::Lz4(_) => lz4_frame::decompress(bytes, size, out, &mut |_, _| Ok(())),
            Compression::Zstd => self.zstd(bytes, size, out),
        };
        if done.is_err() {
            out.truncate(before);
        }
        done
    }

    fn gzip(
        &mut self,
        bytes: &[u8],
        size: OutputSize,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeFail> {
        const WHAT: &str = "gzip stream";
        let state = self
            .gzip
            .get_or_insert_with(|| Decompress::new_gzip(WINDOW_BITS));
        let base = out.len();
        let mut read = 0;
        loop {
            state.reset(true);
            let left = OutputSize {
                max_bytes: size.max_bytes - (out.len() - base),
                ..size
            };
            read += inflate(WHAT, state, &bytes[read..], left, out).map_err(|e| match e {
                // The bound that is named is that of the whole.
                DecodeFail::Refused(_) => too_large(WHAT, size),
                DecodeFail::Broken(e) => DecodeError {
                    offset: e.offset + read as u64,
                    ..e
                }
                .into(),
            })?;
            if read == bytes.len() {
                return Ok(());
            }
        }
    }

    fn deflate(
        &mut self,
        what: &'static str,
        has_header: bool,
        bytes: &[u8],
        size: OutputSize,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeFail> {
        let state = self
            .deflate
            .get_or_insert_with(|| Decompress::new(has_header));
        state.reset(has_header);
        let read = inflate(what, state, bytes, size, out)?;
        if read < bytes.len() {
            let reason = format!("{} bytes behind its end", bytes.len() - read);
            return Err(DecodeError::new(what, read as u64, reason).into());
        }
        Ok(())
    }

    fn zstd(
        &mut self,
        bytes: &[u8],
        size: OutputSize,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeFail> {
        const WHAT: &str = "zstd frame";
        if bytes.is_empty() {
            return Err(DecodeError::new(WHAT, 0, "no bytes").into());
        }
        let context = self.zstd.get_or_insert_with(DCtx::create);
        let start = out.len();
        let mut room = size.expected_bytes.max(1 << 10);
        loop {
            out.reserve(room.min(size.max_bytes));
            // A whole frame at once: there is no window beside `out`, whatever size the frame claims for it.
            let mut into = Cursor::new(&mut *out);
            into.set_position(start as u64);
            match context.decompress(&mut into, bytes) {
                Ok(n) if n <= size.max_bytes => return Ok(()),
                Ok(_) => return Err(too_large(WHAT, size)),
                Err(code) if is_too_small(code) && room < size.max_bytes => {
                    room = room.max(out.capacity() - start).saturating_mul(2);
                }
                Err(code) if is_too_small(code) => return Err(too_large(WHAT, size)),
                Err(code) => return Err(DecodeError::new(WHAT, 0, get_error_name(code)).into()),
            }
        }
    }
}

fn is_too_small(code: ErrorCode) -> bool {
    code == (ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as usize).wrapping_neg()
}

/// Reads one stream; returns how many of `bytes` it took.
fn inflate(
    what: &'static str,
    state: &mut Decompress,
    bytes: &[u8],
    size: OutputSize,
    out: &mut Vec<u8>,
) -> Result<usize, DecodeFail> {
    let base = out.len();
    loop {
        let (read, made) = (state.total_in(), out.len() - base);
        if out.len() == out.capacity() {
            // One byte more than allowed shows that there is more.
            let most = size.max_bytes - made + 1;
            out.reserve(made.max(4 << 10).min(most));
        }
        let status = state
            .decompress_vec(&bytes[read as usize..], out, FlushDecompress::None)
            .map_err(|e| DecodeError::new(what, read, e.to_string()))?;
        if out.len() - base > size.max_bytes {
            return Err(too_large(what, size));
        }
        if status == Status::StreamEnd {
            return Ok(state.total_in() as usize);
        }
        if state.total_in() == read && out.len() - base == made && out.len() < out.capacity() {
            return Err(DecodeError::new(what, read, "stream is cut off").into());
        }
    }
}
