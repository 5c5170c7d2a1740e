//! Snappy's block format, as remote write uses it.

use crate::codec::size_bound::SizeBound;
use crate::error::{Error, Result};

/// The size that `body` claims to decompress to.
///
/// # Errors
/// As [`decompress`].
pub fn decompressed_len(body: &[u8], bound: SizeBound) -> Result<usize> {
    let claimed = snap::raw::decompress_len(body).map_err(invalid)?;
    if claimed > bound.max_bytes {
        let what = format!("received a request of {claimed} bytes after decompression");
        return Err(bound.exceeded(&what));
    }
    Ok(claimed)
}

fn invalid(e: snap::Error) -> Error {
    Error::InvalidInput(format!("body is not snappy: {e}"))
}

/// Decompresses `body` into `out`, replacing what was there. The size that the body claims is held against `bound` before
/// anything is allocated.
///
/// # Errors
/// `LimitExceeded` naming the claimed size and the bound; `InvalidInput` when the body is not snappy.
pub fn decompress(body: &[u8], bound: SizeBound, out: &mut Vec<u8>) -> Result<()> {
    let claimed = decompressed_len(body, bound)?;
    out.resize(claimed, 0);
    let n = snap::raw::Decoder::new()
        .decompress(body, out)
        .map_err(invalid)?;
    out.truncate(n);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_refused_by_its_claim() {
        let mut bomb = Vec::new();
        crate::codec::put_uvarint(&mut bomb, 1 << 31);
        bomb.extend_from_slice(&[0, 0]);
        let mut out = Vec::new();
        let error = decompress(&bomb, SizeBound::new(100 << 20), &mut out).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::LimitExceeded);
        assert!(
            error.to_string().contains("2147483648") && out.capacity() == 0,
            "{error}"
        );
        assert!(decompress(&[5, 1, 2], SizeBound::new(100), &mut out).is_err());
    }
}
