//! Side objects joined.

use std::ops::Range;

use bytes::Bytes;
use lgtm_core::DecodeError;

use crate::chunk::ChunkKey;
use crate::skip::{ChunkBatch, ChunkSkip, SideDirectory, SideObjectEncoder, SidePlace, SideTail};

/// What [`merge_side_objects`] made.
#[derive(Debug, Default)]
pub struct MergedSide {
    /// The new object; empty when there was nothing to put into it.
    pub bytes: Vec<u8>,
    /// Chunks that were left out.
    pub dropped: usize,
    /// Of the objects, by their places, those that the new one stands for. The others are damaged.
    pub joined: Vec<usize>,
}

/// Puts what several side objects hold into one: each chunk once, but those that are gone. Sections whose checksums do not fit are left out. What stands in
/// batches stays, as these do not tell their chunks.
///
/// Takes the memory of all objects once more.
pub fn merge_side_objects(objects: &[Bytes], is_gone: &dyn Fn(&ChunkKey) -> bool) -> MergedSide {
    let mut out = MergedSide::default();
    let mut encoder = SideObjectEncoder::default();
    for (n, object) in objects.iter().enumerate() {
        if let Ok(dropped) = add(object, is_gone, &mut encoder) {
            out.joined.push(n);
            out.dropped += dropped;
        }
    }
    if !encoder.is_empty() {
        out.bytes = encoder.encode();
    }
    out
}

/// Gives the number of chunks that were left out.
fn add(
    object: &Bytes,
    is_gone: &dyn Fn(&ChunkKey) -> bool,
    encoder: &mut SideObjectEncoder,
) -> Result<usize, DecodeError> {
    let mut dropped = 0;
    let tail = SideTail::decode(object, object.len() as u64)?;
    let part = |range: Range<u64>| object.slice(range.start as usize..range.end as usize);
    let directory = SideDirectory::decode(&tail, part(tail.directory()))?;
    // Both kinds of places were held against the object's size.
    let section = |place: SidePlace| {
        let bytes = part(place.range());
        let is_whole = !place.is_empty() && place.check(&bytes).is_ok();
        if is_whole { bytes.to_vec() } else { Vec::new() }
    };
    for (key, chunk) in directory.chunks() {
        if is_gone(&key) {
            dropped += 1;
            continue;
        }
        let skip = ChunkSkip {
            filters: section(chunk.filters),
            counts: section(chunk.counts),
        };
        if !skip.filters.is_empty() || !skip.counts.is_empty() {
            encoder.add(key, chunk.object_bytes, skip);
        }
    }
    for batch in directory.batches() {
        let (filters, counts) = (section(batch.filters), section(batch.counts));
        if !filters.is_empty() || !counts.is_empty() {
            encoder.add_batch(ChunkBatch::new(batch.tenant, filters, counts, batch.rows));
        }
    }
    Ok(dropped)
}
