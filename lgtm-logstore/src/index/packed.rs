//! The gzip around an index file in the store.
//!
//! Gzip cannot be read by ranges, so a file is unpacked before it is read: a small one into memory ([`unpack`]), a large one to a file on the
//! local disk ([`unpack_into`]) that [`IndexReader`](crate::index::IndexReader) reads by ranges like any other. Both are bounded by what comes
//! out, which the object does not tell.

use std::io::{Read, Write};

use flate2::bufread::MultiGzDecoder;
use lgtm_core::codec::{Compression, Compressor, DecodeFail, Decompressor, OutputSize, SizeBound};
use lgtm_core::{DecodeError, Error, Result};

const WHAT: &str = "packed index";
/// Bytes that are unpacked to a file at a time.
const STEP_BYTES: usize = 256 << 10;

/// Appends an index file, packed, to `out`.
///
/// # Errors
/// `Internal` when the compression fails.
pub fn pack(index: &[u8], compressor: &mut Compressor, out: &mut Vec<u8>) -> Result<()> {
    compressor.compress(Compression::Gzip, index, out)
}

/// Unpacks an index file into memory; several members one after the other are one file.
///
/// # Errors
/// [`DecodeFail::Broken`] for what is no gzip; [`DecodeFail::Refused`] when more than `max_bytes` come out.
pub fn unpack(
    packed: &[u8],
    max_bytes: usize,
    decompressor: &mut Decompressor,
) -> Result<Vec<u8>, DecodeFail> {
    let mut out = Vec::new();
    let size = OutputSize {
        // Index files shrink to a third or less; they bear their sizes in the last bytes, but nobody says that this is true.
        expected_bytes: packed.len().saturating_mul(3),
        max_bytes,
    };
    decompressor.decompress(Compression::Gzip, packed, size, &mut out)?;
    Ok(out)
}

/// Unpacks an index file to wherever `out` leads, in steps of 256 KiB; returns its size in bytes. Blocks as long as `out` does.
///
/// # Errors
/// `Corrupt` naming `place` for what is no gzip; `LimitExceeded` when more than `max_bytes` come out; `Unavailable` when `out` fails.
pub fn unpack_into(
    place: &str,
    packed: &[u8],
    max_bytes: u64,
    out: &mut (dyn Write + Send),
) -> Result<u64> {
    let mut decoder = MultiGzDecoder::new(packed);
    let mut step = vec![0; STEP_BYTES];
    let mut size = 0u64;
    loop {
        let n = decoder
            .read(&mut step)
            .map_err(|e| Error::corrupt(place, DecodeError::new(WHAT, size, e.to_string())))?;
        if n == 0 {
            return Ok(size);
        }
        size += n as u64;
        if size > max_bytes {
            let what = format!("{place}: more than {max_bytes} bytes come out");
            return Err(
                SizeBound::new(usize::try_from(max_bytes).unwrap_or(usize::MAX)).exceeded(&what),
            );
        }
        out.write_all(&step[..n])
            .map_err(|e| Error::Unavailable(format!("cannot unpack {place}: {e}")))?;
    }
}

#[cfg(test)]
mod tests {
    use lgtm_core::ErrorKind;

    use super::*;

    #[test]
    fn files_come_back_in_memory_and_by_steps_within_a_bound() {
        let index = vec![7u8; 600 << 10];
        let mut packed = Vec::new();
        let mut compressor = Compressor::default();
        pack(&index[..1000], &mut compressor, &mut packed).unwrap();
        pack(&index[1000..], &mut compressor, &mut packed).unwrap();
        let mut decompressor = Decompressor::default();
        assert!(unpack(&packed, index.len(), &mut decompressor).unwrap() == index);
        assert!(unpack(&packed, index.len() - 1, &mut decompressor).is_err());
        let mut out = Vec::new();
        let size = unpack_into("here", &packed, index.len() as u64, &mut out).unwrap();
        assert!(size == index.len() as u64 && out == index);
        let refused = unpack_into("here", &packed, 1000, &mut Vec::new()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::LimitExceeded);
        for cut in [0, 9, packed.len() - 1] {
            let broken = unpack_into("here", &packed[..cut], 1 << 20, &mut Vec::new());
            let size = broken.as_ref().copied().unwrap_or_default();
            assert!(broken.is_err() || cut == 0 && size == 0, "{cut}");
            assert!(unpack(&packed[..cut], 1 << 20, &mut decompressor).is_err());
        }
    }
}
