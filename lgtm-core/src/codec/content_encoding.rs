//! Bodies that HTTP says are compressed: gzip, deflate, zstd, lz4, snappy, or not at all.

use std::io::Read;

use crate::codec::allowance::{Allowance, DecodeFail};
use crate::codec::compression::OutputSize;
use crate::codec::size_bound::SizeBound;
use crate::codec::{lz4_frame, snappy, snappy_framed};
use crate::error::{Error, Result};

/// Bytes that are decompressed at a time.
const STEP_BYTES: usize = 64 << 10;
/// The window of zstd, as a power of two: what RFC 8878 asks of every reader, and what its levels without `--ultra` use at most. A
/// frame may claim 128 MiB and more.
const MAX_ZSTD_WINDOW_LOG: u32 = 23;

/// How a body is compressed, by HTTP's `Content-Encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentEncoding {
    /// Not at all.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950 or, from senders that took the name at its word, RFC 1951.
    Deflate,
    /// RFC 8878.
    Zstd,
    /// LZ4's frames, which senders of OTLP know.
    Lz4,
    /// Snappy, as a stream or as one block: senders of OTLP mean either by its name. They are told apart by the stream's first bytes.
    Snappy,
}

impl ContentEncoding {
    /// The encoding of a header's value; nothing said is [`ContentEncoding::Identity`].
    pub fn from_header(value: &str) -> Option<Self> {
        match value {
            "" | "identity" => Some(Self::Identity),
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "zstd" => Some(Self::Zstd),
            "lz4" => Some(Self::Lz4),
            "snappy" | "x-snappy-framed" => Some(Self::Snappy),
            _ => None,
        }
    }

    /// Decompresses `body` into `out`, replacing what was there. Memory grows with what comes out, never with what is claimed, and is
    /// taken from `allowance` before it is made.
    ///
    /// # Errors
    /// `LimitExceeded` when more than `bound` come out; `InvalidInput` when the body is not what the header says; those of
    /// `allowance`.
    pub fn decompress(
        self,
        body: &[u8],
        bound: SizeBound,
        out: &mut Vec<u8>,
        allowance: &mut Allowance<'_>,
    ) -> Result<()> {
        out.clear();
        match self {
            Self::Identity => {
                if body.len() > bound.max_bytes {
                    return Err(too_large(bound));
                }
                allowance.reserve(out, body.len())?;
                out.extend_from_slice(body);
                Ok(())
            }
            Self::Gzip => {
                let decoder = flate2::read::MultiGzDecoder::new(body);
                self.read(decoder, bound, out, allowance)
            }
            Self::Deflate if has_zlib_header(body) => self.read(
                flate2::bufread::ZlibDecoder::new(body),
                bound,
                out,
                allowance,
            ),
            Self::Deflate => self.read(
                flate2::bufread::DeflateDecoder::new(body),
                bound,
                out,
                allowance,
            ),
            Self::Zstd => {
                // The window is not asked for: no more of them live at a time than threads decompress.
                let mut decoder = zstd::Decoder::with_buffer(body).map_err(|e| self.invalid(&e))?;
                decoder
                    .window_log_max(MAX_ZSTD_WINDOW_LOG)
                    .map_err(|e| self.invalid(&e))?;
                self.read(decoder, bound, out, allowance)
            }
            Self::Lz4 => {
                let size = OutputSize {
                    expected_bytes: 0,
                    max_bytes: bound.max_bytes,
                };
                let mut make_room = |out: &mut Vec<u8>, more: usize| {
                    allowance.reserve(out, more).map_err(DecodeFail::from)
                };
                let done = lz4_frame::decompress(body, size, out, &mut make_room);
                done.map_err(|e| match e {
                    DecodeFail::Broken(e) => {
                        Error::InvalidInput(format!("body is not {self:?}: {e}"))
                    }
                    DecodeFail::Refused(e) => e,
                })
            }
            Self::Snappy if snappy_framed::is_stream(body) => {
                self.read(snap::read::FrameDecoder::new(body), bound, out, allowance)
            }
            Self::Snappy => {
                let corrupt = |e| match e {
                    Error::InvalidInput(why) => {
                        Error::InvalidInput(format!("body is not {self:?}: {why}"))
                    }
                    other => other,
                };
                let claimed = snappy::decompressed_len(body, bound).map_err(corrupt)?;
                allowance.reserve(out, claimed)?;
                snappy::decompress(body, bound, out).map_err(corrupt)
            }
        }
    }

    fn read(
        self,
        mut from: impl Read,
        bound: SizeBound,
        out: &mut Vec<u8>,
        allowance: &mut Allowance<'_>,
    ) -> Result<()> {
        loop {
            // One byte more than allowed shows that there is more.
            let step = STEP_BYTES.min(bound.max_bytes + 1 - out.len());
            allowance.reserve(out, step)?;
            let read = (&mut from).take(step as u64).read_to_end(out);
            let n = read.map_err(|e| self.invalid(&e))?;
            if out.len() > bound.max_bytes {
                return Err(too_large(bound));
            }
            if n < step {
                return Ok(());
            }
        }
    }

    fn invalid(self, e: &std::io::Error) -> Error {
        Error::InvalidInput(format!("body is not {self:?}: {e}"))
    }
}

/// A raw stream does not begin so: it would be a plain block whose padding is not zero, and no compressor writes that.
fn has_zlib_header(body: &[u8]) -> bool {
    matches!(body, [method, flags, ..] if method & 0xf == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0)
}

fn too_large(bound: SizeBound) -> Error {
    let max = bound.max_bytes;
    bound.exceeded(&format!(
        "received a request of more than {max} bytes after decompression"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Compression, Compressor, Lz4BlockSize};
    use std::io::Write;

    #[test]
    fn bombs_are_cut_at_the_bound() {
        let zeros = vec![0; 1 << 20];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&zeros).unwrap();
        let lz4 = Compression::Lz4(Lz4BlockSize::KiB256);
        let packed = [Compression::Zlib, Compression::Deflate, lz4];
        let [zlib, raw, lz4] = packed.map(|with| {
            let mut out = Vec::new();
            Compressor::default()
                .compress(with, &zeros, &mut out)
                .unwrap();
            out
        });
        let mut stream = snap::write::FrameEncoder::new(Vec::new());
        stream.write_all(&zeros).unwrap();
        let block = snap::raw::Encoder::new().compress_vec(&zeros).unwrap();
        let bodies = [
            (ContentEncoding::Snappy, stream.into_inner().unwrap()),
            (ContentEncoding::Snappy, block),
            (ContentEncoding::Gzip, gzip.finish().unwrap()),
            (ContentEncoding::Deflate, zlib),
            (ContentEncoding::Deflate, raw),
            (
                ContentEncoding::Zstd,
                zstd::encode_all(&zeros[..], 1).unwrap(),
            ),
            (ContentEncoding::Lz4, lz4),
            (ContentEncoding::Identity, zeros.clone()),
        ];
        for (encoding, body) in bodies {
            let mut grow = |_| Ok(());
            let mut allowance = Allowance::new(1 << 30, &mut grow);
            let mut out = Vec::new();
            let mut decompress = |body: &[u8], max_bytes, out: &mut Vec<u8>| {
                encoding.decompress(body, SizeBound::new(max_bytes), out, &mut allowance)
            };
            decompress(&body, 1 << 20, &mut out).unwrap();
            assert_eq!(out, zeros);
            let mut out = Vec::new();
            let error = decompress(&body, 1000, &mut out).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::LimitExceeded);
            assert!(out.capacity() < 2048, "{}", out.capacity());
            if encoding != ContentEncoding::Identity {
                assert!(decompress(&body[..9], 1000, &mut out).is_err());
            }
            let mut out = Vec::new();
            let mut tight = Allowance::new(100 << 10, &mut grow);
            let error = encoding.decompress(&body, SizeBound::new(1 << 20), &mut out, &mut tight);
            assert_eq!(error.unwrap_err().kind(), crate::ErrorKind::LimitExceeded);
            assert!(out.capacity() <= 100 << 10, "{}", out.capacity());
        }
    }

    #[test]
    fn a_frame_of_zstd_with_a_giant_window_is_refused() {
        let mut frame = zstd::Encoder::new(Vec::new(), 1).unwrap();
        frame.window_log(27).unwrap();
        frame.write_all(b"x").unwrap();
        let body = frame.finish().unwrap();
        let mut grow = |_| Ok(());
        let mut allowance = Allowance::new(1 << 30, &mut grow);
        let refused = ContentEncoding::Zstd.decompress(
            &body,
            SizeBound::new(100),
            &mut Vec::new(),
            &mut allowance,
        );
        assert_eq!(refused.unwrap_err().kind(), crate::ErrorKind::InvalidInput);
    }
}
