//! Checkpoints: what memory holds, written into the log, so that older segments can go.
//!
//! A checkpoint cuts the log, begins a new epoch and then walks the shards. Series that hold samples are written whole: labels,
//! base, open chunk, finished chunks by place or by bytes. Series that hold nothing are left out; the new epoch makes their
//! next sample write its anchor again. See `docs/format/head_records.md`, section "order".

use std::sync::atomic::Ordering;

use lgtm_core::codec::{Reader, put_bytes, put_svarint, put_uvarint};
use lgtm_core::model::TenantId;
use lgtm_core::wal::SyncPolicy;
use lgtm_core::{DecodeError, Result};

use super::chunk_files::ChunkPlace;
use super::generation::ChunkState;
use super::head::Head;
use super::heads::Heads;
use super::postings::SeriesId;
use super::record::{encode_exemplar, encode_metadata, kind};
use super::series::{ChunkBytes, HeadChunk, Last, MemSeries};
use super::shard::SHARD_LEN;
use crate::chunk::Encoding;
use crate::wire::RawLabelsBuilder;

/// A record is closed when it has grown to this: the bound of what replay holds at once.
const RECORD_BYTES: usize = 256 << 10;

/// A series as a checkpoint holds it.
#[derive(Debug)]
pub(super) struct SeriesState<'a> {
    pub(super) id: SeriesId,
    pub(super) labels: &'a [u8],
    pub(super) base: f64,
    pub(super) last_t_ms: i64,
    pub(super) last: Last,
    /// The open chunk.
    pub(super) open: Option<(Encoding, &'a [u8])>,
    pub(super) finished: Vec<HeadChunk>,
    pub(super) late: Vec<HeadChunk>,
}

impl Heads {
    /// Writes a checkpoint and drops the log before it. Gives the bytes that the log takes now.
    ///
    /// # Errors
    /// `Unavailable` when the disk refuses; the log is then as it was.
    pub(crate) async fn checkpoint(&self) -> Result<u64> {
        let mut last_size = self.checkpoint.lock().await;
        // The log's records behind the cut may refer to nothing that only memory knows: what could not be logged goes first.
        self.log_unlogged()?;
        let mut out = self.wal.begin_checkpoint().await?;
        // Chunks that the checkpoint refers to by place are made as durable as the log itself.
        self.parts
            .files
            .flush(!matches!(self.settings.wal.sync, SyncPolicy::Os))?;
        for head in self.all() {
            let epoch = {
                let _gate = head.gate.write();
                head.epoch.fetch_add(1, Ordering::AcqRel) + 1
            };
            let mut record = Vec::new();
            put_bytes(&mut record, head.tenant.as_str().as_bytes());
            put_svarint(&mut record, head.min_valid_ms());
            put_svarint(&mut record, head.max_ms().unwrap_or(i64::MIN));
            out.append(kind::HEAD_STATE, &record)?;
            checkpoint_series(&head, epoch, &mut |record| {
                out.append(kind::SERIES_STATE, record)
            })?;
            checkpoint_extras(&head, &mut |kind, record| out.append(kind, record))?;
            tokio::task::yield_now().await;
        }
        out.finish()?;
        self.parts.files.remove_unused();
        *last_size = self.wal.size_bytes();
        Ok(*last_size)
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
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut record = Vec::new();
    let mut labels = Vec::new();
    for (n, shard) in head.shards().iter().enumerate() {
        // Index before shard, as everywhere.
        let index = head.index.read();
        let mut slots = shard.lock();
        for (slot, series) in slots.iter_mut().enumerate() {
            let Some(series) = series.as_mut().filter(|s| !s.is_empty()) else {
                continue;
            };
            labels.clear();
            RawLabelsBuilder::encode(index.pairs(&series.labels), &mut labels);
            if record.is_empty() {
                put_bytes(&mut record, head.tenant.as_str().as_bytes());
            }
            encode_series(
                (n * SHARD_LEN + slot) as SeriesId,
                &labels,
                series,
                &mut record,
            );
            series.anchor_epoch = epoch;
        }
        drop(slots);
        drop(index);
        if record.len() >= RECORD_BYTES {
            sink(&record)?;
            record.clear();
        }
    }
    if !record.is_empty() {
        sink(&record)?;
    }
    Ok(())
}

fn checkpoint_extras(head: &Head, sink: &mut dyn FnMut(u8, &[u8]) -> Result<()>) -> Result<()> {
    let mut record = Vec::new();
    put_bytes(&mut record, head.tenant.as_str().as_bytes());
    let empty = record.len();
    for (id, e) in head.exemplars.lock().iter() {
        encode_exemplar(id, e, &mut record);
    }
    if record.len() > empty {
        sink(kind::EXEMPLARS, &record)?;
    }
    record.truncate(empty);
    for (name, entries) in head.metadata.lock().iter() {
        entries
            .iter()
            .for_each(|m| encode_metadata(name, m, &mut record));
    }
    if record.len() > empty {
        sink(kind::METADATA, &record)?;
    }
    Ok(())
}

fn encode_series(id: SeriesId, labels: &[u8], series: &MemSeries, out: &mut Vec<u8>) {
    put_uvarint(out, u64::from(id));
    put_bytes(out, labels);
    out.extend_from_slice(&series.base.to_bits().to_le_bytes());
    let (last_t_ms, last) = series.last();
    put_svarint(out, last_t_ms);
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
    // A block on the list has those that have moved; they are here for readers only.
    let held = chunks.iter().filter(|c| !c.state.is_moved());
    put_uvarint(out, held.clone().count() as u64);
    for c in held {
        put_svarint(out, c.min_ms);
        put_svarint(out, c.max_ms);
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
}

fn u32_of(r: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let v = r.uvarint()?;
    u32::try_from(v).map_err(|_| r.error(format!("{v} does not fit 32 bits")))
}

fn chunks(r: &mut Reader<'_>) -> Result<Vec<HeadChunk>, DecodeError> {
    let mut out = Vec::new();
    for _ in 0..r.length()? {
        let (min_ms, max_ms) = (r.svarint()?, r.svarint()?);
        let count = r.uvarint()?;
        let sample_count =
            u16::try_from(count).map_err(|_| r.error(format!("{count} samples in one chunk")))?;
        let tag = r.u8()?;
        let encoding = Encoding::try_from(tag & 0x7f)?;
        let bytes = if tag & 0x80 == 0 {
            ChunkBytes::Memory(Box::new(r.bytes()?.into()))
        } else {
            ChunkBytes::File(ChunkPlace {
                file: u32_of(r)?,
                offset: u32_of(r)?,
                len: u32_of(r)?,
            })
        };
        out.push(HeadChunk {
            min_ms,
            max_ms,
            encoding,
            sample_count,
            bytes,
            state: ChunkState::HELD,
        });
    }
    Ok(out)
}

/// Reads the state of series up to the end of a record, behind its tenant.
pub(super) fn decode_series_states<'a>(
    r: &mut Reader<'a>,
    mut sink: impl FnMut(SeriesState<'a>) -> Result<(), DecodeError>,
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
            last_t_ms,
            last,
            open,
            finished,
            late,
        })?;
    }
    Ok(())
}

/// Reads the state of a head behind its tenant: where valid samples begin, and the newest one.
pub(super) fn decode_head_state(r: &mut Reader<'_>) -> Result<(i64, i64), DecodeError> {
    Ok((r.svarint()?, r.svarint()?))
}

/// The tenant at the front of a record.
pub(super) fn record_tenant(r: &mut Reader<'_>) -> Result<TenantId, DecodeError> {
    let name = r.str()?;
    TenantId::new(name).map_err(|e| r.error(e.to_string()))
}
