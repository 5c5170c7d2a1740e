//! Finished chunks that cannot be read: each costs itself, is told of once, and its bytes stay on disk.

use bytes::Bytes;
use lgtm_core::Error;
use lgtm_core::model::{LabelArena, Labels};
use lgtm_core::postings::SeriesId;

use super::head::Head;
use super::head_chunk::{ChunkBytes, HeadChunk};
use super::heads::Heads;
use super::series::locate;

/// Damaged chunks that the program's log names one by one; a lost file may hold hundreds of thousands.
const MAX_NAMED: u64 = 100;

impl Heads {
    /// The bytes of a chunk of a series, wherever they are; `None` when they are damaged or gone. Then the answer lacks the chunk's samples and
    /// has to say so; the damage is counted, and told in the program's log the first time.
    ///
    /// The caller holds no lock of the head.
    pub(super) fn read_chunk(&self, head: &Head, id: SeriesId, chunk: &HeadChunk) -> Option<Bytes> {
        if let ChunkBytes::File(place) = &chunk.bytes
            && self.parts.files.is_damaged(*place)
        {
            return None;
        }
        let read = self.chunk_bytes(chunk).or_else(|e| match e {
            // A disk may fail once.
            Error::Unavailable(_) => self.chunk_bytes(chunk),
            e => Err(e),
        });
        read.map_err(|e| self.set_chunk_aside(head, id, chunk, &e))
            .ok()
    }

    /// Notes that a chunk is damaged. Its series keeps it until a flush passes it by, so that queries go on telling what they lack.
    pub(super) fn set_chunk_aside(
        &self,
        head: &Head,
        id: SeriesId,
        chunk: &HeadChunk,
        error: &Error,
    ) {
        let files = &self.parts.files;
        if let ChunkBytes::File(place) = &chunk.bytes
            && !files.set_aside(*place)
        {
            return;
        }
        if files.damaged_count() > MAX_NAMED {
            return;
        }
        let series = head.labels_of(id).unwrap_or_default();
        tracing::error!(
            tenant = %head.tenant,
            %series,
            min_ms = chunk.min_ms.get(),
            max_ms = chunk.max_ms.get(),
            samples = chunk.sample_count,
            %error,
            "damaged chunk set aside: its samples are lost, all others are not"
        );
    }

    /// Damaged chunks found since the start.
    pub(crate) fn damaged_chunks(&self) -> u64 {
        self.parts.files.damaged_count()
    }
}

impl Head {
    /// The labels of a series, if there is one of this id.
    fn labels_of(&self, id: SeriesId) -> Option<Labels> {
        let index = self.index.read();
        let (shard, slot) = locate(id);
        let shards = self.shards();
        let slots = shards.get(shard)?.lock();
        let series = slots.get(slot)?.as_ref()?;
        Some(index.labels(&series.labels, &mut LabelArena::default()))
    }
}
