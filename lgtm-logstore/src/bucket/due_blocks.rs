//! Blocks of loaded chunks decoded, several jobs at a time.

use std::sync::Arc;

use futures::future::try_join_all;
use lgtm_core::Result;
use lgtm_core::codec::DecodeFail;
use lgtm_core::exec::{CancelToken, Executor};
use memchr::memmem::Finder;

use super::chunk_source::{CodecPool, LoadedChunk};
use crate::chunk::{BlockPlace, ChunkCodec, decode_block};
use crate::entry::EntryBlock;
use crate::select::SelectHints;

/// Blocks that one job decodes.
const BLOCKS_A_JOB: usize = 4;

/// A block whose turn it is.
#[derive(Debug)]
pub(super) struct DueBlock {
    pub(super) stream: u32,
    pub(super) run: u32,
    pub(super) chunk: Arc<LoadedChunk>,
    pub(super) place: BlockPlace,
}

/// A block that was decoded, or what is wrong with it; none where the block has nothing of interest.
pub(super) type Decoded = (u32, u32, BlockPlace, Result<Option<EntryBlock>, DecodeFail>);

/// Decodes blocks, but those that lack one of the needles.
///
/// # Errors
/// When the pool is shut down.
pub(super) async fn decode(
    mut blocks: Vec<DueBlock>,
    needles: &Arc<[Finder<'static>]>,
    codecs: &Arc<CodecPool>,
    executor: &Executor,
) -> Result<Vec<Decoded>> {
    // Dropping the future cancels the jobs.
    let cancel = CancelToken::new();
    let mut jobs = Vec::with_capacity(blocks.len().div_ceil(BLOCKS_A_JOB));
    while !blocks.is_empty() {
        let rest = blocks.split_off(blocks.len().min(BLOCKS_A_JOB));
        let some = std::mem::replace(&mut blocks, rest);
        let (codecs, needles) = (Arc::clone(codecs), Arc::clone(needles));
        let job = move |cancel: &CancelToken| {
            codecs.with(|codec| decode_blocks(some, &needles, codec, cancel))
        };
        jobs.push(executor.run(job, &cancel));
    }
    let decoded = try_join_all(jobs).await?;
    Ok(decoded.into_iter().flatten().collect())
}

/// The needles that are worth a look at all bytes of a block: shorter ones stand in most.
pub(super) fn needles_of(hints: &SelectHints) -> Arc<[Finder<'static>]> {
    const MIN_BYTES: usize = 4;
    let needles = hints.line_needles.iter();
    let needles = needles.filter(|needle| needle.len() >= MIN_BYTES);
    needles.map(|n| Finder::new(n).into_owned()).collect()
}

fn decode_blocks(
    blocks: Vec<DueBlock>,
    needles: &[Finder<'static>],
    codec: &mut ChunkCodec,
    cancel: &CancelToken,
) -> Result<Vec<Decoded>> {
    let mut out = Vec::with_capacity(blocks.len());
    for due in blocks {
        cancel.check("decoding log chunks")?;
        let loaded = &due.chunk;
        let block = decode_block_with(loaded, &due.place, needles, codec);
        out.push((due.stream, due.run, due.place, block));
    }
    Ok(out)
}

/// A block, if all needles stand in its bytes.
fn decode_block_with(
    loaded: &LoadedChunk,
    place: &BlockPlace,
    needles: &[Finder<'static>],
    codec: &mut ChunkCodec,
) -> Result<Option<EntryBlock>, DecodeFail> {
    let bytes = loaded.chunk.unpack_block(place, codec)?;
    if needles.iter().any(|needle| needle.find(&bytes).is_none()) {
        return Ok(None);
    }
    let format = loaded.chunk.layout().header.format;
    let block = decode_block(format, bytes, place.entry_count, &loaded.symbols)?;
    Ok(Some(block))
}
