//! Checkpoints: what memory holds, written into the log, so that older segments can go.
//!
//! A checkpoint cuts the log, begins a new epoch and then walks the shards. Series that hold samples are written whole: labels,
//! base, open chunk, finished chunks by place or by bytes. Series that hold nothing are left out; the new epoch makes their
//! next sample write its anchor again. See `docs/format/head_records.md`, section "order".
//!
//! It is a barrier (the contract stands at [`lgtm_core::wal::Wal`]): chunks cut during the walk stand in the buffer of the chunk files until
//! these are flushed, which is done behind the walk and before the checkpoint counts; and chunk files go only once it counts.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lgtm_core::codec::{Reader, put_bytes, put_svarint, put_uvarint};
use lgtm_core::model::{TenantId, TimestampMs};
use lgtm_core::postings::SeriesId;
use lgtm_core::wal::{BlobPlace, Checkpoint, SyncPolicy};
use lgtm_core::{DecodeError, Error, Result};

use super::head::Head;
use super::head_chunk::{ChunkBytes, HeadChunk};
use super::heads::Heads;
use super::record::{encode_exemplar, encode_metadata, kind};
use super::retained::{MovedChunk, Retained};
use super::series::{Last, MemSeries};
use super::shard::SHARD_LEN;
use crate::chunk::Encoding;
use crate::wire::RawLabelsBuilder;
use lgtm_core::wal::ChunkState;

/// A record is closed when it has grown to this: the bound of what replay holds at once.
const RECORD_BYTES: usize = 256 << 10;
/// The same of exemplars and metadata, which one lock guards that writers wait for: a fraction of a millisecond.
const EXTRAS_BYTES: usize = 64 << 10;

/// A series as a checkpoint holds it.
#[derive(Debug)]
pub(super) struct SeriesState<'a> {
    pub(super) id: SeriesId,
    pub(super) labels: &'a [u8],
    pub(super) base: f64,
    pub(super) last_t_ms: TimestampMs,
    pub(super) last: Last,
    /// The open chunk.
    pub(super) open: Option<(Encoding, &'a [u8])>,
    pub(super) finished: Vec<HeadChunk>,
    pub(super) late: Vec<HeadChunk>,
}

impl Heads {
    /// Writes a checkpoint and drops the log before it. Gives the bytes that the log takes now. Dropped at an await, the checkpoint is
    /// written to its end all the same.
    ///
    /// # Errors
    /// `Unavailable` when the disk refuses; `Conflict` before the replay is done. The log is then as it was.
    pub(crate) async fn checkpoint(self: &Arc<Self>) -> Result<u64> {
        let mut last_size = Arc::clone(&self.checkpoint).lock_owned().await;
        let out = self.wal.begin_checkpoint().await?;
        let heads = Arc::clone(self);
        // It compresses and writes: no work for the runtime's own threads.
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
        for head in self.all() {
            let epoch = {
                let _gate = head.gate.write();
                head.epoch.fetch_add(1, Ordering::AcqRel) + 1
            };
            let mut record = Vec::new();
            put_bytes(&mut record, head.tenant.as_str().as_bytes());
            put_svarint(&mut record, head.min_valid_ms().get());
            put_svarint(&mut record, head.max_ms().unwrap_or(TimestampMs::MIN).get());
            out.append(kind::HEAD_STATE, &record)?;
            checkpoint_series(&head, epoch, &self.retained, &mut |kind, record| {
                out.append(kind, record)
            })?;
            checkpoint_exemplars(&head, &mut |record| out.append(kind::EXEMPLARS, record))?;
            checkpoint_metadata(&head, &mut |record| out.append(kind::METADATA, record))?;
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
    pub(crate) fn checkpoint_is_due(&self) -> bool {
        let last = self.checkpoint.try_lock().map_or(u64::MAX, |l| *l);
        self.wal.size_bytes().saturating_sub(last) > self.settings.checkpoint_after.as_u64()
    }
}

fn checkpoint_series(
    head: &Head,
    epoch: u32,
    retained: &Retained,
    sink: &mut dyn FnMut(u8, &[u8]) -> Result<()>,
) -> Result<()> {
    let (mut record, mut moved) = (tenant_record(head), tenant_record(head));
    let empty = record.len();
    // Series before what has moved of them, which names them by their ids.
    let mut write = |record: &mut Vec<u8>, moved: &mut Vec<u8>| {
        for (kind, record) in [(kind::SERIES_STATE, record), (kind::MOVED_CHUNKS, moved)] {
            if record.len() > empty {
                sink(kind, record)?;
                record.truncate(empty);
            }
        }
        Ok::<_, Error>(())
    };
    let mut labels = Vec::new();
    for (n, shard) in head.shards().iter().enumerate() {
        let mut next = 0;
        loop {
            // Index before shard, as everywhere.
            let index = head.index.read();
            let mut slots = shard.lock();
            while next < slots.len() && record.len() < RECORD_BYTES && moved.len() < RECORD_BYTES {
                if let Some(series) = slots[next].as_mut().filter(|s| !s.is_empty()) {
                    labels.clear();
                    RawLabelsBuilder::encode(index.pairs(&series.labels), &mut labels);
                    let id = (n * SHARD_LEN + next) as SeriesId;
                    encode_series(id, &labels, series, &mut record);
                    encode_moved(id, series, retained, &mut moved);
                    // Only where the log before the cut has its anchor too: this checkpoint may never count, and a series that this
                    // process has replayed but not yet written has its new id in no record at all.
                    if series.anchor_epoch + 1 == epoch {
                        series.anchor_epoch = epoch;
                    }
                }
                next += 1;
            }
            let is_done = next >= slots.len();
            drop(slots);
            drop(index);
            // Written without the locks: a disk may take its time. What changes meanwhile is in the log behind the cut.
            if record.len() >= RECORD_BYTES || moved.len() >= RECORD_BYTES {
                write(&mut record, &mut moved)?;
            }
            if is_done {
                break;
            }
        }
    }
    write(&mut record, &mut moved)
}

fn tenant_record(head: &Head) -> Vec<u8> {
    let mut record = Vec::new();
    put_bytes(&mut record, head.tenant.as_str().as_bytes());
    record
}

fn checkpoint_exemplars(head: &Head, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut record = tenant_record(head);
    let empty = record.len();
    let mut next = 0;
    loop {
        let ring = head.exemplars.lock();
        for (place, id, e) in ring.from(next) {
            encode_exemplar(id, e, &mut record);
            next = place + 1;
            if record.len() >= EXTRAS_BYTES {
                break;
            }
        }
        drop(ring);
        if record.len() == empty {
            return Ok(());
        }
        sink(&record)?;
        record.truncate(empty);
    }
}

fn checkpoint_metadata(head: &Head, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut record = tenant_record(head);
    let empty = record.len();
    let mut last: Option<String> = None;
    loop {
        let mut reached = None;
        let store = head.metadata.lock();
        for (name, entries) in store.behind(last.as_deref()) {
            entries
                .iter()
                .for_each(|m| encode_metadata(name, m, &mut record));
            if record.len() >= EXTRAS_BYTES {
                reached = Some(name.to_owned());
                break;
            }
        }
        drop(store);
        if record.len() > empty {
            sink(&record)?;
        }
        if reached.is_none() {
            return Ok(());
        }
        last = reached;
        record.truncate(empty);
    }
}

fn encode_series(id: SeriesId, labels: &[u8], series: &MemSeries, out: &mut Vec<u8>) {
    put_uvarint(out, u64::from(id));
    put_bytes(out, labels);
    out.extend_from_slice(&series.base.to_bits().to_le_bytes());
    let (last_t_ms, last) = series.last();
    put_svarint(out, last_t_ms.get());
    let (tag, bits) = match last {
        Last::None => (0, 0),
        Last::Float(v) => (1, v.to_bits()),
        Last::Histogram => (2, 0),
        Last::FloatHistogram => (3, 0),
    };
    out.push(tag);
    out.extend_from_slice(&bits.to_le_bytes());
    match series.open_chunk() {
        None => out.push(0),
        Some(chunk) => {
            out.push(chunk.encoding as u8);
            put_bytes(out, &chunk.data);
        }
    }
    put_chunks(out, series.finished());
    put_chunks(out, &series.late_chunks());
}

fn put_chunks(out: &mut Vec<u8>, chunks: &[HeadChunk]) {
    // Those that have moved are told apart: a block on the list has them.
    let held = chunks.iter().filter(|c| !c.state.is_moved());
    put_uvarint(out, held.clone().count() as u64);
    for c in held {
        put_chunk(out, c);
    }
}

fn put_chunk(out: &mut Vec<u8>, c: &HeadChunk) {
    put_svarint(out, c.min_ms.get());
    put_svarint(out, c.max_ms.get());
    put_uvarint(out, u64::from(c.sample_count));
    match &c.bytes {
        ChunkBytes::Memory(data) => {
            out.push(c.encoding as u8);
            put_bytes(out, data);
        }
        ChunkBytes::File(place) => {
            out.push(c.encoding as u8 | 0x80);
            for field in [place.file, place.offset, place.len] {
                put_uvarint(out, u64::from(field));
            }
        }
    }
}

/// Appends the chunks of a series that blocks have and that stay for readers elsewhere.
fn encode_moved(id: SeriesId, series: &MemSeries, retained: &Retained, out: &mut Vec<u8>) {
    let stay = |chunks: &[HeadChunk], out: &mut Vec<u8>| {
        // Looked at once: their time may be over in between.
        let mut stay: Vec<(TimestampMs, &HeadChunk)> = Vec::new();
        for c in chunks {
            stay.extend(retained.moved_ms(c.state).map(|moved_ms| (moved_ms, c)));
        }
        put_uvarint(out, stay.len() as u64);
        for (moved_ms, chunk) in &stay {
            put_svarint(out, moved_ms.get());
            put_chunk(out, chunk);
        }
        !stay.is_empty()
    };
    let before = out.len();
    put_uvarint(out, u64::from(id));
    let in_order = stay(series.finished(), out);
    let late = stay(series.late_finished(), out);
    if !in_order && !late {
        out.truncate(before);
    }
}

fn u32_of(r: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let v = r.uvarint()?;
    u32::try_from(v).map_err(|_| r.error(format!("{v} does not fit 32 bits")))
}

fn chunks(r: &mut Reader<'_>) -> Result<Vec<HeadChunk>, DecodeError> {
    let mut out = Vec::new();
    for _ in 0..r.length()? {
        out.push(chunk(r)?);
    }
    Ok(out)
}

fn chunk(r: &mut Reader<'_>) -> Result<HeadChunk, DecodeError> {
    let (min_ms, max_ms) = (r.svarint()?, r.svarint()?);
    let count = r.uvarint()?;
    let sample_count =
        u16::try_from(count).map_err(|_| r.error(format!("{count} samples in one chunk")))?;
    let tag = r.u8()?;
    let encoding = Encoding::try_from(tag & 0x7f)?;
    let bytes = if tag & 0x80 == 0 {
        ChunkBytes::Memory(Box::new(r.bytes()?.into()))
    } else {
        ChunkBytes::File(BlobPlace {
            file: u32_of(r)?,
            offset: u32_of(r)?,
            len: u32_of(r)?,
        })
    };
    Ok(HeadChunk {
        min_ms: TimestampMs::new(min_ms),
        max_ms: TimestampMs::new(max_ms),
        encoding,
        sample_count,
        bytes,
        state: ChunkState::HELD,
    })
}

/// The chunks of a series that blocks have: its id, those in order, late ones.
pub(super) type MovedOfSeries = (SeriesId, Vec<MovedChunk>, Vec<MovedChunk>);

/// Reads which chunks of series blocks have, up to the end of a record, behind its tenant.
pub(super) fn decode_moved_chunks(
    r: &mut Reader<'_>,
    mut sink: impl FnMut(MovedOfSeries),
) -> Result<(), DecodeError> {
    let moved = |r: &mut Reader<'_>| {
        let mut out = Vec::new();
        for _ in 0..r.length()? {
            let moved_ms = TimestampMs::new(r.svarint()?);
            let chunk = chunk(r)?;
            out.push(MovedChunk { moved_ms, chunk });
        }
        Ok::<_, DecodeError>(out)
    };
    while !r.is_empty() {
        let id = u32_of(r)?;
        let (in_order, late) = (moved(r)?, moved(r)?);
        sink((id, in_order, late));
    }
    Ok(())
}

/// Reads the state of series up to the end of a record, behind its tenant.
pub(super) fn decode_series_states<'a>(
    r: &mut Reader<'a>,
    mut sink: impl FnMut(SeriesState<'a>),
) -> Result<(), DecodeError> {
    while !r.is_empty() {
        let id = u32_of(r)?;
        let labels = r.bytes()?;
        let base = f64::from_bits(r.u64_le()?);
        let last_t_ms = r.svarint()?;
        let (tag, bits) = (r.u8()?, r.u64_le()?);
        let last = match tag {
            0 => Last::None,
            1 => Last::Float(f64::from_bits(bits)),
            2 => Last::Histogram,
            3 => Last::FloatHistogram,
            t => return Err(r.error(format!("unknown kind of last sample {t}"))),
        };
        let open = match r.u8()? {
            0 => None,
            e => Some((Encoding::try_from(e)?, r.bytes()?)),
        };
        let (finished, late) = (chunks(r)?, chunks(r)?);
        sink(SeriesState {
            id,
            labels,
            base,
            last_t_ms: TimestampMs::new(last_t_ms),
            last,
            open,
            finished,
            late,
        });
    }
    Ok(())
}

/// Reads the state of a head behind its tenant: where valid samples begin, and the newest one.
pub(super) fn decode_head_state(
    r: &mut Reader<'_>,
) -> Result<(TimestampMs, TimestampMs), DecodeError> {
    Ok((r.svarint()?.into(), r.svarint()?.into()))
}

/// The tenant at the front of a record.
pub(super) fn record_tenant(r: &mut Reader<'_>) -> Result<TenantId, DecodeError> {
    let name = r.str()?;
    TenantId::new(name).map_err(|e| r.error(e.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(bytes: &[u8]) -> Result<Vec<String>, DecodeError> {
        let mut out = Vec::new();
        let mut r = Reader::new("moved chunks", bytes);
        decode_moved_chunks(&mut r, |moved| out.push(format!("{moved:?}")))?;
        Ok(out)
    }

    #[test]
    fn moved_chunks_are_read_as_they_were_written_and_no_part_of_them_passes() {
        let chunk = |n: i64, bytes| HeadChunk {
            min_ms: TimestampMs::new(n),
            max_ms: TimestampMs::new(n + 7),
            encoding: Encoding::Xor,
            sample_count: 8,
            bytes,
            state: ChunkState::HELD,
        };
        let place = BlobPlace {
            file: 3,
            offset: 500,
            len: 70,
        };
        let moved = |n: i64, bytes| MovedChunk {
            moved_ms: TimestampMs::new(1000 + n),
            chunk: chunk(n, bytes),
        };
        let series: MovedOfSeries = (
            9,
            vec![
                moved(-5, ChunkBytes::File(place)),
                moved(4, ChunkBytes::Memory(Box::new([1, 2, 3].into()))),
            ],
            vec![moved(1, ChunkBytes::File(place))],
        );
        let mut bytes = Vec::new();
        put_uvarint(&mut bytes, u64::from(series.0));
        for list in [&series.1, &series.2] {
            put_uvarint(&mut bytes, list.len() as u64);
            for m in list {
                put_svarint(&mut bytes, m.moved_ms.get());
                put_chunk(&mut bytes, &m.chunk);
            }
        }
        assert_eq!(decoded(&bytes).unwrap(), [format!("{series:?}")]);
        for end in 1..bytes.len() {
            assert!(decoded(&bytes[..end]).is_err(), "{end} bytes");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_moved_chunks_never_panic(bytes: Vec<u8>) {
            let _ = decoded(&bytes);
        }
    }
}
