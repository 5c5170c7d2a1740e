//! Compresses whole buffers, with state that is kept from one to the next.

use std::io::Cursor;

use flate2::{Compress, FlushCompress, Status};
use lz4_flex::block::CompressTable;
use zstd::zstd_safe::{CCtx, CParameter, compress_bound, get_error_name};

use crate::codec::compression::Compression;
use crate::codec::{lz4_frame, snappy_framed};
use crate::error::{Error, Result};

/// How hard is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressionLevels {
    /// Of gzip, zlib and deflate, 0..=9. Default 6, as in Go.
    pub deflate: u32,
    /// Of zstd, 1..=22. Default 3, its own.
    pub zstd: i32,
}

impl Default for CompressionLevels {
    fn default() -> Self {
        Self {
            deflate: 6,
            zstd: 3,
        }
    }
}

/// Memory that is kept for the next buffer.
const KEPT_SCRATCH: usize = 1 << 20;

/// Compresses buffers one after the other. Each compression's state is made when it is first used and kept: no allocation a buffer after
/// that, but for the growth of what it appends to. One per thread or job.
#[derive(Default)]
pub struct Compressor {
    levels: CompressionLevels,
    gzip: Option<Compress>,
    zlib: Option<Compress>,
    deflate: Option<Compress>,
    snappy: Option<snap::raw::Encoder>,
    lz4: Option<CompressTable>,
    zstd: Option<CCtx<'static>>,
    scratch: Vec<u8>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor")
            .field("levels", &self.levels)
            .finish_non_exhaustive()
    }
}

/// The window of deflate as a power of two, its largest.
const WINDOW_BITS: u8 = 15;

impl Compressor {
    /// A compressor with other levels than the default ones.
    pub fn new(levels: CompressionLevels) -> Self {
        Self {
            levels,
            ..Self::default()
        }
    }

    /// Appends `bytes`, compressed, to `out`.
    ///
    /// # Errors
    /// `Internal` when the state cannot be made or fails; `out` is as before then.
    pub fn compress(&mut self, with: Compression, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let before = out.len();
        let level = flate2::Compression::new(self.levels.deflate.min(9));
        let done = match with {
            Compression::None => {
                out.extend_from_slice(bytes);
                Ok(())
            }
            Compression::Gzip => {
                let state = self
                    .gzip
                    .get_or_insert_with(|| Compress::new_gzip(level, WINDOW_BITS));
                deflate(state, bytes, out)
            }
            Compression::Zlib => {
                let state = self.zlib.get_or_insert_with(|| Compress::new(level, true));
                deflate(state, bytes, out)
            }
            Compression::Deflate => {
                let state = self
                    .deflate
                    .get_or_insert_with(|| Compress::new(level, false));
                deflate(state, bytes, out)
            }
            Compression::SnappyFramed => {
                let encoder = self.snappy.get_or_insert_with(snap::raw::Encoder::new);
                snappy_framed::compress(encoder, bytes, out)
            }
            Compression::Lz4(block_size) => {
                let table = self.lz4.get_or_insert_with(CompressTable::large);
                lz4_frame::compress(table, block_size, bytes, out)
            }
            Compression::Zstd => self.zstd(bytes, out),
        };
        if done.is_err() {
            out.truncate(before);
        }
        done
    }

    /// `bytes`, compressed, in a vector of just that size and `spare` bytes more: for what is kept, as what compressions write into is larger.
    ///
    /// # Errors
    /// As [`Compressor::compress`].
    pub fn compressed(&mut self, with: Compression, bytes: &[u8], spare: usize) -> Result<Vec<u8>> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        self.compress(with, bytes, &mut scratch)?;
        let mut out = Vec::with_capacity(scratch.len() + spare);
        out.extend_from_slice(&scratch);
        if scratch.capacity() <= KEPT_SCRATCH {
            self.scratch = scratch;
        }
        Ok(out)
    }

    fn zstd(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let failed = |code| Error::Internal(format!("zstd: {}", get_error_name(code)));
        let context = match &mut self.zstd {
            Some(context) => context,
            none => {
                let mut context = CCtx::create();
                context
                    .set_parameter(CParameter::CompressionLevel(self.levels.zstd))
                    .map_err(failed)?;
                none.insert(context)
            }
        };
        out.reserve(compress_bound(bytes.len()));
        let at = out.len() as u64;
        let mut into = Cursor::new(out);
        into.set_position(at);
        context.compress2(&mut into, bytes).map_err(failed)?;
        Ok(())
    }
}

fn deflate(state: &mut Compress, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
    state.reset();
    loop {
        let read = state.total_in() as usize;
        // Text shrinks to a third or less; what does not costs another round.
        out.reserve(((bytes.len() - read) / 3).max(1 << 10));
        let status = state
            .compress_vec(&bytes[read..], out, FlushCompress::Finish)
            .map_err(|e| Error::Internal(format!("deflate: {e}")))?;
        if status == Status::StreamEnd {
            return Ok(());
        }
    }
}
