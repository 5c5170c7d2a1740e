//! The frame around a chunk in its object (docs/format/chunk_object.md).

use std::ops::Range;

use bytes::Bytes;
use lgtm_core::codec::{
    Compression, Compressor, DecodeFail, Decompressor, OutputSize, Reader, crc32c,
};
use lgtm_core::{DecodeError, Error, Result};

use crate::chunk::chunk::Chunk;
use crate::chunk::layout::ChunkHeader;
use crate::chunk::object_meta::ObjectMeta;

const WHAT: &str = "chunk object";
/// Bytes of each of the two lengths.
const LENGTH: usize = 4;
/// Most bytes of the JSON: a thousand labels of the greatest usual length stay below.
const MAX_META_BYTES: usize = 4 << 20;

/// What stands in front of the chunk in an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectHead {
    /// What the object says about the chunk.
    pub meta: ObjectMeta,
    /// Where the chunk stands in the object.
    pub chunk: Range<usize>,
}

impl ObjectHead {
    /// Where the chunk begins, told by the first 4 bytes of an object; with them alone a reader of ranges finds header and symbols. Writers
    /// before Loki's do not count the 4 bytes: there it is 4 more, which shows at the chunk's magic number.
    ///
    /// # Errors
    /// Fewer bytes, a length without sense.
    pub fn chunk_start(head: &[u8]) -> Result<u64, DecodeError> {
        let len = Reader::new(WHAT, head).u32()?;
        if (len as usize) < LENGTH || len as usize > MAX_META_BYTES {
            return Err(DecodeError::new(
                WHAT,
                0,
                format!("metadata of {len} bytes"),
            ));
        }
        Ok(u64::from(len) + LENGTH as u64)
    }

    /// Reads the frame out of the beginning of an object: where the chunk will end stands in front of it. `None` when it goes beyond `front`.
    ///
    /// # Errors
    /// As [`ObjectHead::decode`].
    pub fn decode_front(
        front: &[u8],
        decompressor: &mut Decompressor,
    ) -> Result<Option<Self>, DecodeError> {
        let start = Self::chunk_start(front)? as usize;
        // Of the two places of old and new writers one has a chunk.
        let is_chunk = |start: &usize| {
            let chunk = front.get(*start..*start + ChunkHeader::MAX_LEN);
            chunk.is_some_and(|bytes| ChunkHeader::decode(bytes).is_ok())
        };
        let Some(start) = [start, start + LENGTH].into_iter().find(is_chunk) else {
            return Ok(None);
        };
        let meta_end = start - LENGTH;
        let len = Reader::new(WHAT, &front[meta_end..]).u32()? as usize;
        Ok(Some(Self {
            meta: unpack_meta(&front[LENGTH..meta_end], decompressor)?,
            chunk: start..start + len,
        }))
    }

    /// Reads the frame of a whole object; does not look into the chunk.
    ///
    /// # Errors
    /// Lengths that do not fit the object, metadata that do not read.
    pub fn decode(object: &[u8], decompressor: &mut Decompressor) -> Result<Self, DecodeError> {
        let len = Reader::new(WHAT, object).u32()? as usize;
        // The length of the metadata includes its own 4 bytes, except from old writers. Only one of the two leads to the other length.
        let chunk_at = |meta_end: usize| {
            let rest = object.get(meta_end..)?;
            let (data_len, data) = rest.split_first_chunk::<LENGTH>()?;
            (u32::from_be_bytes(*data_len) as usize == data.len()).then_some(meta_end)
        };
        let with = chunk_at(len).filter(|_| len >= LENGTH);
        let Some(meta_end) = with.or_else(|| chunk_at(len.checked_add(LENGTH)?)) else {
            let reason = format!(
                "metadata of {len} bytes in an object of {} lead to no length of a chunk",
                object.len()
            );
            return Err(DecodeError::new(WHAT, 0, reason));
        };
        Ok(Self {
            meta: unpack_meta(&object[LENGTH..meta_end], decompressor)?,
            chunk: meta_end + LENGTH..object.len(),
        })
    }
}

fn unpack_meta(packed: &[u8], decompressor: &mut Decompressor) -> Result<ObjectMeta, DecodeError> {
    let mut json = Vec::new();
    let size = OutputSize::at_most(MAX_META_BYTES);
    decompressor
        .decompress(Compression::SnappyFramed, packed, size, &mut json)
        .map_err(|e| match e {
            DecodeFail::Broken(e) => e,
            DecodeFail::Refused(e) => DecodeError::new(WHAT, 4, e.to_string()),
        })?;
    ObjectMeta::from_json(&json)
}

/// The object that holds `chunk`, and its checksum, which its key and the index name.
///
/// # Errors
/// `LimitExceeded` for a chunk of 4 GiB and more; `Internal` when the compression fails.
pub fn encode_object(
    meta: &ObjectMeta,
    chunk: &[u8],
    compressor: &mut Compressor,
) -> Result<(Vec<u8>, u32)> {
    let Ok(chunk_len) = u32::try_from(chunk.len()) else {
        let message = format!("a chunk of {} bytes exceeds 4 GiB", chunk.len());
        return Err(Error::LimitExceeded(message));
    };
    let mut out = Vec::with_capacity(chunk.len() + 512);
    out.extend_from_slice(&[0; LENGTH]);
    compressor.compress(
        Compression::SnappyFramed,
        meta.to_json().as_bytes(),
        &mut out,
    )?;
    let meta_len = (out.len() as u32).to_be_bytes();
    out[..LENGTH].copy_from_slice(&meta_len);
    out.extend_from_slice(&chunk_len.to_be_bytes());
    out.extend_from_slice(chunk);
    let checksum = crc32c(&out);
    Ok((out, checksum))
}

/// Reads an object's frame and opens its chunk; the chunk shares the object's memory.
///
/// Whether the object is the one that was asked for, [`ChunkKey::check_object`](crate::chunk::ChunkKey::check_object) and
/// [`ObjectMeta::check`] say.
///
/// # Errors
/// As [`ObjectHead::decode`] and [`Chunk::open`].
pub fn read_object(
    object: &Bytes,
    decompressor: &mut Decompressor,
) -> Result<(ObjectMeta, Chunk), DecodeError> {
    let head = ObjectHead::decode(object, decompressor)?;
    let start = head.chunk.start as u64;
    let chunk = Chunk::open(object.slice(head.chunk)).map_err(|e| DecodeError {
        offset: e.offset + start,
        ..e
    })?;
    Ok((head.meta, chunk))
}
