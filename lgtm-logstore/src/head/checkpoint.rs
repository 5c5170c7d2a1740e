//! Checkpoints: what memory holds, written into the log, so that older segments can go.
//!
//! A checkpoint cuts the log and then walks the streams. Those that hold something are written whole: labels, number of the next entry,
//! open chunks, finished chunks by place or by bytes; others are left out.
//!
//! It is a barrier (the contract stands at [`lgtm_core::wal::Wal`]): chunks finished during the walk stand in the buffer of the chunk files until
//! these are flushed, which is done behind the walk and before the checkpoint counts; and chunk files go only once it counts.

use std::sync::Arc;

use lgtm_core::codec::{Reader, put_bytes, put_svarint, put_uvarint};
use lgtm_core::model::TimestampNs;
use lgtm_core::wal::{BlobPlace, Checkpoint, SyncPolicy};
use lgtm_core::{DecodeError, Error, Result};

use super::head::Head;
use super::head_chunk::{ChunkBytes, HeadChunk};
use super::heads::Heads;
use super::record::kind;
use super::stream::StreamState;
use crate::chunk::ChunkBuilder;

/// A record is closed when it has grown to this; the chunks of one stream may make it larger.
const RECORD_BYTES: usize = 256 << 10;

/// A stream as a checkpoint holds it.
#[derive(Debug)]
pub(super) struct StreamSnapshot<'a> {
    pub(super) labels: &'a [u8],
    pub(super) sequence: u64,
    pub(super) highest_ns: TimestampNs,
    /// The state of the open chunk.
    pub(super) open: Option<&'a [u8]>,
    /// The same of the one for late entries.
    pub(super) late: Option<&'a [u8]>,
    pub(super) finished: Vec<ChunkSnapshot<'a>>,
}

/// A finished chunk as a checkpoint holds it.
#[derive(Debug)]
pub(super) struct ChunkSnapshot<'a> {
    pub(super) min_ns: TimestampNs,
    pub(super) max_ns: TimestampNs,
    pub(super) entry_count: u64,
    pub(super) uncompressed_bytes: u64,
    pub(super) bytes: SnapshotBytes<'a>,
}

/// Where its bytes are.
#[derive(Debug)]
pub(super) enum SnapshotBytes<'a> {
    /// In the record.
    Inline(&'a [u8]),
    /// In the chunk files.
    File(BlobPlace),
    /// In the record, as the state of a builder: they were not put together yet.
    Builder(&'a [u8]),
}

const INLINE: u8 = 0;
const FILE: u8 = 1;
const BUILDER: u8 = 2;

impl Heads {
    /// Writes a checkpoint and drops the log before it. Gives the bytes that the log takes now. Dropped at an await, the checkpoint is written
    /// to its end all the same.
    ///
    /// # Errors
    /// `Unavailable` when the disk refuses; `Conflict` before the replay is done. The log is then as it was.
    pub async fn checkpoint(self: &Arc<Self>) -> Result<u64> {
        let mut last_size = Arc::clone(&self.checkpoint).lock_owned().await;
        let out = self.wal.begin_checkpoint().await?;
        let heads = Arc::clone(self);
        // It copies and writes: no work for the runtime's own threads.
        let written = tokio::task::spawn_blocking(move || {
            heads.write_checkpoint(out)?;
            *last_size = heads.wal.size_bytes();
            Ok(*last_size)
        });
        written
            .await
            .map_err(|e| Error::Internal(format!("checkpoint of the heads: {e}")))?
    }

    fn write_checkpoint(&self, mut out: Checkpoint) -> Result<()> {
        // What nobody refers to before the walk, the walk does not refer to. What is given up later waits for the next checkpoint.
        let unused = self.parts.files.unused();
        let retains = !self.settings.retain_flushed.is_zero();
        for head in self.all() {
            checkpoint_streams(&head, retains, &mut |record| {
                out.append(kind::STREAM_STATE, record)
            })?;
        }
        self.parts.files.flush()?;
        if self.settings.wal.sync != SyncPolicy::Os {
            self.parts.files.sync(&unused)?;
        }
        out.finish()?;
        self.parts.files.remove(&unused);
        Ok(())
    }

    /// Whether the log has grown so much that a checkpoint is due.
    pub fn checkpoint_is_due(&self) -> bool {
        let last = self.checkpoint.try_lock().map_or(u64::MAX, |l| *l);
        self.wal.size_bytes().saturating_sub(last) > self.settings.checkpoint_after.as_u64()
    }
}

fn checkpoint_streams(
    head: &Head,
    retains: bool,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut record = Vec::new();
    put_bytes(&mut record, head.tenant.as_str().as_bytes());
    let empty = record.len();
    let mut labels = Vec::new();
    for (_, stream) in head.streams() {
        {
            // Index before stream, as everywhere.
            let index = head.index.read();
            let state = stream.lock();
            if state.is_gone || state.is_empty() {
                continue;
            }
            labels.clear();
            for (name, value) in index.pairs(&state.labels) {
                put_bytes(&mut labels, name.as_bytes());
                put_bytes(&mut labels, value.as_bytes());
            }
            drop(index);
            encode_stream(&labels, &state, retains, &mut record);
        }
        // Written without the locks: a disk may take its time. What changes meanwhile is in the log behind the cut.
        if record.len() >= RECORD_BYTES {
            sink(&record)?;
            record.truncate(empty);
        }
    }
    if record.len() > empty {
        sink(&record)
    } else {
        Ok(())
    }
}

fn encode_stream(labels: &[u8], state: &StreamState, retains: bool, out: &mut Vec<u8>) {
    put_bytes(out, labels);
    put_uvarint(out, state.sequence);
    put_svarint(out, state.highest_ns.get());
    for chunk in [&state.open, &state.late] {
        match chunk {
            None => out.push(0),
            Some(chunk) => {
                out.push(1);
                put_builder(out, chunk);
            }
        }
    }
    // Those that the object store has are here for readers only. Where these are elsewhere, they are still needed after a restart; flushed again, the same
    // chunks go to the same places.
    let is_held = |c: &&HeadChunk| retains || !c.state.is_moved();
    let held = state.finished.iter().filter(is_held);
    put_uvarint(out, held.clone().count() as u64);
    held.for_each(|c| encode_chunk(c, out));
}

fn encode_chunk(chunk: &HeadChunk, out: &mut Vec<u8>) {
    put_svarint(out, chunk.min_ns.get());
    put_svarint(out, chunk.max_ns.get());
    put_uvarint(out, chunk.entry_count);
    put_uvarint(out, chunk.uncompressed_bytes);
    match &chunk.bytes {
        ChunkBytes::Memory(bytes) => {
            out.push(INLINE);
            put_bytes(out, bytes);
        }
        ChunkBytes::File(place) => {
            out.push(FILE);
            for field in [place.file, place.offset, place.len] {
                put_uvarint(out, u64::from(field));
            }
        }
        ChunkBytes::Builder(builder) => {
            out.push(BUILDER);
            put_builder(out, builder);
        }
    }
}

/// The state of a builder behind its length.
fn put_builder(out: &mut Vec<u8>, builder: &ChunkBuilder) {
    let mut state = Vec::with_capacity(builder.memory_bytes());
    builder.put_state(&mut state);
    put_bytes(out, &state);
}

/// Reads the streams of a checkpoint's record from behind its tenant.
pub(super) fn decode_streams<'a>(
    r: &mut Reader<'a>,
    sink: &mut dyn FnMut(StreamSnapshot<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    while !r.is_empty() {
        let labels = r.bytes()?;
        let (sequence, highest_ns) = (r.uvarint()?, r.svarint()?);
        let (open, late) = (open_chunk(r)?, open_chunk(r)?);
        let mut finished = Vec::new();
        for _ in 0..r.length()? {
            finished.push(finished_chunk(r)?);
        }
        sink(StreamSnapshot {
            labels,
            sequence,
            highest_ns: TimestampNs::new(highest_ns),
            open,
            late,
            finished,
        })?;
    }
    Ok(())
}

fn open_chunk<'a>(r: &mut Reader<'a>) -> Result<Option<&'a [u8]>, DecodeError> {
    match r.u8()? {
        0 => Ok(None),
        1 => r.bytes().map(Some),
        other => Err(r.error(format!("unknown kind of open chunk {other}"))),
    }
}

fn finished_chunk<'a>(r: &mut Reader<'a>) -> Result<ChunkSnapshot<'a>, DecodeError> {
    let (min_ns, max_ns) = (r.svarint()?, r.svarint()?);
    let (entry_count, uncompressed_bytes) = (r.uvarint()?, r.uvarint()?);
    let bytes = match r.u8()? {
        INLINE => SnapshotBytes::Inline(r.bytes()?),
        BUILDER => SnapshotBytes::Builder(r.bytes()?),
        FILE => {
            let mut field = || {
                let v = r.uvarint()?;
                u32::try_from(v).map_err(|_| r.error(format!("{v} does not fit 32 bits")))
            };
            SnapshotBytes::File(BlobPlace {
                file: field()?,
                offset: field()?,
                len: field()?,
            })
        }
        other => return Err(r.error(format!("unknown place of a chunk {other}"))),
    };
    Ok(ChunkSnapshot {
        min_ns: TimestampNs::new(min_ns),
        max_ns: TimestampNs::new(max_ns),
        entry_count,
        uncompressed_bytes,
        bytes,
    })
}
