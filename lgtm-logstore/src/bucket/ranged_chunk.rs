//! A large chunk read by ranges: its ends first, which have symbols and block table, then the blocks that a query wants of it.
//!
//! Two small requests tell that a chunk has nothing of interest, a third one brings what it has. The whole object would be one request of
//! up to some MiB: for one chunk that is as quick, for thousands it is what a search for an id waits for.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use lgtm_core::codec::DecodeFail;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::storage::Bucket;
use lgtm_core::{Error, Result};

use super::chunk_source::{CodecPool, too_large};
use super::chunk_wish::ChunkWish;
use crate::chunk::{Chunk, ChunkKey, ObjectHead};
use crate::entry::SymbolList;

/// What is read of the beginning of an object: frame, header, and mostly all symbols.
const FRONT_BYTES: u64 = 32 << 10;
/// What is read of its end: the table of some hundred blocks.
const TAIL_BYTES: u64 = 8 << 10;
/// Smaller objects are read whole.
pub(super) const MIN_OBJECT_BYTES: u64 = 256 << 10;

/// What was read of a chunk.
pub(super) struct RangedChunk {
    pub(super) chunk: Chunk,
    pub(super) symbols: Arc<SymbolList>,
    pub(super) size_bytes: u64,
}

/// Reads symbols, block table and the wanted blocks of the chunk in the object `name`. `None` where ranges cannot tell: an old or small chunk, one
/// that is not closed properly. Each part is held against its own checksum, blocks when they are decoded; that of the whole object is not.
///
/// # Errors
/// What the store answers, an object that ends too early among them; `Corrupt`.
pub(super) async fn load(
    bucket: &Bucket,
    name: &str,
    key: &ChunkKey,
    wish: &ChunkWish,
    (codecs, executor): (&Arc<CodecPool>, &Executor),
) -> Result<Option<RangedChunk>> {
    let corrupt = |e| Error::corrupt(name, e);
    let front = bucket.get_range(name, 0..FRONT_BYTES).await?;
    let head = codecs.with(|codec| ObjectHead::decode_front(&front, &mut codec.decompressor));
    let Some(head) = head.map_err(corrupt)? else {
        return Ok(None);
    };
    head.meta.check(key).map_err(corrupt)?;
    let start = head.chunk.start as u64;
    let len = head.chunk.len() as u64;
    if start + len < FRONT_BYTES + TAIL_BYTES {
        return Ok(None);
    }
    let read = async |ranges: Vec<Range<u64>>| -> Result<Vec<(u64, Bytes)>> {
        let of_object = ranges.iter().map(|r| start + r.start..start + r.end);
        let of_object: Vec<_> = of_object.collect();
        let parts = bucket.get_ranges(name, &of_object).await?;
        Ok(ranges.into_iter().map(|r| r.start).zip(parts).collect())
    };
    let front = front.slice(head.chunk.start..);
    let end = start + len;
    let tail = bucket.get_range(name, end - TAIL_BYTES..end).await?;
    let Ok(mut chunk) = Chunk::open_parts(len, front, tail) else {
        return Ok(None);
    };
    for (at, bytes) in read(chunk.missing([])).await? {
        chunk.add(at, bytes);
    }
    let (unpacked, name_of) = (chunk.clone(), name.to_owned());
    let codecs = Arc::clone(codecs);
    let job = move |_: &CancelToken| {
        let symbols = codecs.with(|codec| unpacked.symbols(codec));
        symbols.map_err(|e| match e {
            DecodeFail::Broken(e) => Error::corrupt(name_of, e),
            DecodeFail::Refused(e) => Error::corrupt(name_of, too_large(&e)),
        })
    };
    let symbols = executor.run(job, &CancelToken::new()).await?;
    let wanted = wish.blocks(&chunk, &symbols);
    for (at, bytes) in read(chunk.missing(&wanted)).await? {
        chunk.add(at, bytes);
    }
    // What is damaged may have been so on its way: the whole object is read again.
    if !chunk.are_intact(&wanted) {
        return Ok(None);
    }
    let size_bytes = chunk.size_bytes() as u64 + start;
    Ok(Some(RangedChunk {
        chunk,
        symbols,
        size_bytes,
    }))
}
