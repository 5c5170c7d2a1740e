//! The ring's value in a KV back end: protobuf, then snappy's block format.

use bytes::Bytes;
use lgtm_core::{DecodeError, Error, Result};
use snap::raw::{Decoder, Encoder, decompress_len};

use crate::instance::RingDesc;
use crate::instance::open::{OpenRing, entry_bound};
use crate::kv::{MergeKind, MergeTime, Merged, OpenValue, Tombstones, ValueCodec};

/// The codec's name on the wire, dskit's.
pub const RING_CODEC_ID: &str = "ringDesc";
/// The largest value that is decoded, uncompressed: some twenty times a ring of 1000 instances with 512 tokens each.
pub const MAX_VALUE_BYTES: usize = 64 << 20;
/// No snappy block expands further: a copy of 64 bytes takes 3.
const MAX_EXPANSION: usize = 22;
const WHAT: &str = "snappy block of a ring";

/// Merges and cleans ring values for the back ends.
#[derive(Debug, Clone, Copy, Default)]
pub struct RingCodec;

impl RingCodec {
    /// The bytes of a ring.
    ///
    /// # Errors
    /// `LimitExceeded` for a ring of more than [`MAX_VALUE_BYTES`].
    pub fn encode(desc: &RingDesc) -> Result<Bytes> {
        compress(&desc.encode())
    }

    /// The ring of some bytes; empty bytes are an empty ring.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn decode(value: &[u8]) -> Result<RingDesc> {
        let message = decompress(value).map_err(corrupt)?;
        RingDesc::decode(&message).map_err(corrupt)
    }
}

fn corrupt(error: DecodeError) -> Error {
    Error::corrupt("ring in the key-value store", error)
}

fn compress(message: &[u8]) -> Result<Bytes> {
    if message.len() > MAX_VALUE_BYTES {
        return Err(Error::LimitExceeded(format!(
            "ring of {} bytes, at most {MAX_VALUE_BYTES} are allowed",
            message.len()
        )));
    }
    let compressed = Encoder::new().compress_vec(message);
    let compressed = compressed.map_err(|e| Error::Internal(format!("snappy: {e}")))?;
    Ok(compressed.into())
}

fn decompress(value: &[u8]) -> Result<Vec<u8>, DecodeError> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let wrong = |reason: String| DecodeError::new(WHAT, 0, reason);
    let len = decompress_len(value).map_err(|e| wrong(e.to_string()))?;
    let bound = MAX_VALUE_BYTES.min(value.len().saturating_mul(MAX_EXPANSION));
    if len > bound {
        return Err(wrong(format!(
            "{len} bytes uncompressed, at most {bound} are possible or allowed"
        )));
    }
    let message = Decoder::new().decompress_vec(value);
    message.map_err(|e| wrong(e.to_string()))
}

impl ValueCodec for RingCodec {
    fn id(&self) -> &'static str {
        RING_CODEC_ID
    }

    fn merge(
        &self,
        current: Option<&[u8]>,
        incoming: &[u8],
        kind: MergeKind,
        time: MergeTime,
    ) -> Result<Merged> {
        let mut ring = OpenRing::new(Self::decode(current.unwrap_or_default())?);
        let outcome = ring.merge(incoming, kind, time)?;
        let value = match (&outcome.change, current) {
            (None, Some(current)) => Bytes::copy_from_slice(current),
            _ => ring.encode()?,
        };
        Ok(Merged { value, outcome })
    }

    fn remove_tombstones(&self, value: &[u8], limit_unix_s: Option<i64>) -> Result<Tombstones> {
        let mut ring = Self::decode(value)?;
        let done = ring.remove_tombstones(limit_unix_s);
        let value = if done.removed == 0 {
            Bytes::copy_from_slice(value)
        } else {
            Self::encode(&ring)?
        };
        Ok(Tombstones {
            value,
            left: done.left,
            removed: done.removed,
        })
    }

    fn open(&self, value: Option<&[u8]>) -> Result<Option<Box<dyn OpenValue>>> {
        let ring = Self::decode(value.unwrap_or_default())?;
        Ok(Some(Box::new(OpenRing::new(ring))))
    }

    fn split(&self, change: &Bytes, max_bytes: usize) -> Result<Vec<Bytes>> {
        let mut parts = vec![(RingDesc::new(), 0)];
        for (id, instance) in Self::decode(change)?.instances {
            let bytes = entry_bound(&id, &instance);
            if parts
                .last()
                .is_some_and(|(part, size)| !part.is_empty() && size + bytes > max_bytes)
            {
                parts.push((RingDesc::new(), 0));
            }
            if let Some((part, size)) = parts.last_mut() {
                part.instances.insert(id, instance);
                *size += bytes;
            }
        }
        parts.iter().map(|(part, _)| Self::encode(part)).collect()
    }

    fn member_names(&self, value: &[u8]) -> Result<Vec<String>> {
        Ok(Self::decode(value)?.instances.into_keys().collect())
    }
}
