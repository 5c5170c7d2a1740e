//! Bodies that HTTP says are compressed: gzip, zstd, or not at all.

use std::io::Read;

use lgtm_core::{Error, Result};

/// How a body is compressed, by HTTP's `Content-Encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentEncoding {
    /// Not at all.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl ContentEncoding {
    /// The encoding of a header's value; nothing said is [`ContentEncoding::Identity`].
    pub fn from_header(value: &str) -> Option<Self> {
        match value {
            "" | "identity" => Some(Self::Identity),
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Decompresses `body` into `out`, replacing what was there. Memory grows with what comes out, never with what is claimed.
    ///
    /// # Errors
    /// `LimitExceeded` when more than `max_bytes` come out; `InvalidInput` when the body is not what the header says.
    pub fn decompress(self, body: &[u8], max_bytes: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let limit = max_bytes as u64 + 1;
        let read = match self {
            Self::Identity => body.take(limit).read_to_end(out),
            Self::Gzip => flate2::read::MultiGzDecoder::new(body)
                .take(limit)
                .read_to_end(out),
            Self::Zstd => {
                zstd::Decoder::with_buffer(body).and_then(|d| d.take(limit).read_to_end(out))
            }
        };
        read.map_err(|e| Error::InvalidInput(format!("body is not {self:?}: {e}")))?;
        if out.len() > max_bytes {
            return Err(Error::LimitExceeded(format!(
                "received a request of more than {max_bytes} bytes after decompression, which is the limit (err-mimir-distributor-max-write-message-size)"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn bombs_are_cut_at_the_bound() {
        let zeros = vec![0; 1 << 20];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&zeros).unwrap();
        let bodies = [
            (ContentEncoding::Gzip, gzip.finish().unwrap()),
            (
                ContentEncoding::Zstd,
                zstd::encode_all(&zeros[..], 1).unwrap(),
            ),
            (ContentEncoding::Identity, zeros.clone()),
        ];
        let mut out = Vec::new();
        for (encoding, body) in bodies {
            encoding.decompress(&body, 1 << 20, &mut out).unwrap();
            assert_eq!(out, zeros);
            let error = encoding.decompress(&body, 1000, &mut out).unwrap_err();
            assert_eq!(error.kind(), lgtm_core::ErrorKind::LimitExceeded);
            if encoding != ContentEncoding::Identity {
                assert!(encoding.decompress(&body[..9], 1000, &mut out).is_err());
            }
        }
    }
}
