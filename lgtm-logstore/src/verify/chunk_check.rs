//! A chunk against what names it.

use bytes::Bytes;
use lgtm_core::codec::DecodeFail;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::{Labels, TimestampNs};
use lgtm_core::storage::Fault;
use lgtm_core::{DecodeError, Error, Result};

use crate::chunk::{Chunk, ChunkCodec, ChunkKey, read_object};
use crate::index::ChunkMeta;

/// A chunk as an index file tells it, or only its name.
#[derive(Debug, Clone)]
pub(super) struct ChunkTold {
    pub(super) key: ChunkKey,
    pub(super) meta: Option<ChunkMeta>,
    pub(super) labels: Option<Labels>,
    /// The object that names it.
    pub(super) named_by: String,
}

/// What is in a chunk's object.
#[derive(Debug, Default)]
pub(super) struct ChunkFacts {
    pub(super) entries: u64,
    pub(super) object_bytes: u64,
    pub(super) faults: Vec<(Fault, String)>,
}

/// Looks into a chunk on the compute pool.
pub(super) async fn checked(
    executor: &Executor,
    told: ChunkTold,
    object: Bytes,
) -> Result<ChunkFacts> {
    let job = move |_: &CancelToken| {
        let mut facts = ChunkFacts {
            object_bytes: object.len() as u64,
            ..ChunkFacts::default()
        };
        match facts.look(&told, &object) {
            Ok(()) => Ok(facts),
            Err(DecodeFail::Broken(e)) => {
                facts.damaged(&e);
                Ok(facts)
            }
            Err(DecodeFail::Refused(e)) => Err(e),
        }
    };
    executor.run::<_, Error>(job, &CancelToken::new()).await
}

impl ChunkFacts {
    fn damaged(&mut self, e: &DecodeError) {
        self.faults.push((Fault::Damaged, e.to_string()));
    }

    fn look(&mut self, told: &ChunkTold, object: &Bytes) -> Result<(), DecodeFail> {
        if let Err(e) = told.key.check_object(object) {
            self.damaged(&e);
        }
        let mut codec = ChunkCodec::default();
        let (meta, chunk) = read_object(object, &mut codec.decompressor)?;
        if let Err(e) = meta.check(&told.key) {
            self.faults.push((Fault::WrongPlace, e.to_string()));
        }
        if let Some(labels) = &told.labels
            && *labels != meta.labels
        {
            let detail = format!(
                "it is of stream {}, {} says {labels}",
                meta.labels, told.named_by
            );
            self.faults.push((Fault::Disagreement, detail));
        }
        let symbol_bytes = chunk.symbols(&mut codec)?.text_bytes() as u64;
        let times = self.blocks(&chunk, &mut codec)?;
        if let Some((min_ns, max_ns)) = times
            && (min_ns.to_ms(), max_ns.to_ms_up()) != (told.key.from_ms, told.key.through_ms)
        {
            let detail = format!(
                "entries from {} to {} ms, its key says {} to {}",
                min_ns.to_ms(),
                max_ns.to_ms_up(),
                told.key.from_ms,
                told.key.through_ms
            );
            self.faults.push((Fault::WrongTimeRange, detail));
        }
        if let Some(meta) = &told.meta {
            self.sizes(&chunk, symbol_bytes, meta, &told.named_by);
        }
        Ok(())
    }

    /// Reads all blocks; the times of their entries.
    fn blocks(
        &mut self,
        chunk: &Chunk,
        codec: &mut ChunkCodec,
    ) -> Result<Option<(TimestampNs, TimestampNs)>, DecodeFail> {
        let symbols = chunk.symbols(codec)?;
        let mut times: Option<(TimestampNs, TimestampNs)> = None;
        for (n, place) in chunk.blocks().iter().enumerate() {
            let block = match chunk.read_block(place, &symbols, codec) {
                Ok(block) => block,
                Err(DecodeFail::Broken(e)) => {
                    let detail = format!("block {n} at byte {}: {e}", place.start);
                    self.faults.push((Fault::Damaged, detail));
                    continue;
                }
                Err(e) => return Err(e),
            };
            self.entries += block.len() as u64;
            let (Some(first), Some(last)) = (block.min_ns(), block.max_ns()) else {
                continue;
            };
            if (first, last) != (place.min_ns, place.max_ns) {
                let detail = format!(
                    "block {n} has entries from {first} to {last}, its table says {} to {}",
                    place.min_ns, place.max_ns
                );
                self.faults.push((Fault::WrongTimeRange, detail));
            }
            times = Some(match times {
                None => (first, last),
                Some((min, max)) => (min.min(first), max.max(last)),
            });
        }
        Ok(times)
    }

    fn sizes(&mut self, chunk: &Chunk, symbol_bytes: u64, meta: &ChunkMeta, named_by: &str) {
        let is_whole = self.faults.is_empty();
        if is_whole && self.entries != u64::from(meta.entries) {
            let detail = format!("{} entries, {named_by} says {}", self.entries, meta.entries);
            self.faults.push((Fault::WrongCount, detail));
        }
        let blocks = chunk.blocks().iter().map(|b| b.uncompressed_bytes);
        let bytes = blocks.sum::<u64>();
        // Versions 1 and 2 do not tell sizes.
        if bytes > 0 {
            let kb = ChunkMeta::kb_of(bytes.saturating_add(symbol_bytes));
            if kb.abs_diff(meta.kb) > 1 {
                let detail = format!("{kb} KiB uncompressed, {named_by} says {}", meta.kb);
                self.faults.push((Fault::WrongSize, detail));
            }
        }
    }
}
