//! Checkpoints: what memory holds, written into the log, so that older segments can go.
//!
//! A checkpoint cuts the log and then looks at each head at rest: it takes hold of all traces and batches, and of the number up to which memory has
//! all records. What comes later is in the log behind the cut. Then it writes, without any lock: traces as they are, packed batches by their place.
//!
//! It is a barrier (the contract stands at [`lgtm_core::wal::Wal`]): what was packed by then stands in the local files before the checkpoint counts,
//! and files go only once it counts.

use std::sync::Arc;

use lgtm_core::codec::{Reader, put_bytes, put_svarint, put_uvarint};
use lgtm_core::model::{TenantId, TimestampMs};
use lgtm_core::wal::{BlobPlace, Checkpoint, SyncPolicy};
use lgtm_core::{DecodeError, Error, Result};

use super::head::Head;
use super::head_batch::{BatchBody, HeadBatch, HeadTables, PackedBytes};
use super::heads::Heads;
use super::live_trace::LiveTrace;
use super::record::{SpansRecord, kind};
use crate::block_id::BlockId;
use crate::trace::TraceId;

/// A record of traces is closed when it has grown to this.
const RECORD_BYTES: usize = 256 << 10;

const INLINE: u8 = 0;
const FILE: u8 = 1;

/// What a head holds at a moment.
struct HeadSnapshot {
    sequence: u64,
    tables: HeadTables,
    traces: Vec<(TraceId, LiveTrace)>,
    batches: Vec<Arc<HeadBatch>>,
}

/// A batch as a checkpoint holds it.
#[derive(Debug)]
pub(super) struct BatchSnapshot<'a> {
    pub(super) since_ms: TimestampMs,
    /// The block that it is on its way into.
    pub(super) leaving: Option<BlockId>,
    pub(super) bytes: SnapshotBytes<'a>,
}

/// Where its bytes are.
#[derive(Debug)]
pub(super) enum SnapshotBytes<'a> {
    /// In the record.
    Inline(&'a [u8]),
    /// In the local files.
    File(BlobPlace),
}

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
        // What nobody refers to now, the checkpoint does not refer to. What is given up later waits for the next one.
        let unused = self.parts.files.unused();
        let retains = !self.settings.retain_flushed.is_zero();
        for head in self.all() {
            let snapshot = snapshot(&head, retains);
            write_traces(&head.tenant, &snapshot, &mut out)?;
            for batch in &snapshot.batches {
                write_batch(&head.tenant, &snapshot, batch, &mut out)?;
            }
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

fn snapshot(head: &Head, retains: bool) -> HeadSnapshot {
    head.at_rest(|state, sequence| {
        let live = state.live.iter().map(|(id, trace)| (id, trace.clone()));
        let mut traces: Vec<(TraceId, LiveTrace)> = live.collect();
        traces.extend(state.cut.iter().cloned());
        HeadSnapshot {
            sequence,
            tables: state.tables(),
            traces,
            // Those that the object store has are here for readers only: those elsewhere may need them after a start, too.
            batches: (state.batches.iter())
                .filter(|b| retains || !b.chunk_state().is_moved())
                .cloned()
                .collect(),
        }
    })
}

/// Writes traces, and in any case the number from which on records are not in them.
fn write_traces(tenant: &TenantId, snapshot: &HeadSnapshot, out: &mut Checkpoint) -> Result<()> {
    put_traces(
        (tenant, snapshot.sequence),
        &snapshot.traces,
        &snapshot.tables,
        out,
    )
}

fn put_traces(
    (tenant, sequence): (&TenantId, u64),
    traces: &[(TraceId, LiveTrace)],
    tables: &HeadTables,
    out: &mut Checkpoint,
) -> Result<()> {
    let mut record = SpansRecord::default();
    record.begin(tenant, sequence);
    for (id, trace) in traces {
        for run in trace.runs() {
            let resource = tables.resource(run.resource).unwrap_or_default();
            let scope = tables.scope(run.scope).unwrap_or_default();
            record.push(run, resource, scope);
        }
        record.end_trace(*id);
        if record.bytes().len() >= RECORD_BYTES {
            out.append(kind::TRACES, record.bytes())?;
            record.begin(tenant, sequence);
        }
    }
    out.append(kind::TRACES, record.bytes())
}

fn write_batch(
    tenant: &TenantId,
    snapshot: &HeadSnapshot,
    batch: &HeadBatch,
    out: &mut Checkpoint,
) -> Result<()> {
    let mut record = Vec::new();
    put_bytes(&mut record, tenant.as_str().as_bytes());
    put_svarint(&mut record, batch.since_ms.get());
    match batch.leaving() {
        None => record.push(0),
        Some(block) => {
            record.push(1);
            record.extend_from_slice(block.as_bytes());
        }
    }
    match batch.body() {
        // It comes back as live traces, and is cut anew.
        BatchBody::Loose(loose) => {
            let (traces, tables) = (&loose.traces, &loose.tables);
            return put_traces((tenant, snapshot.sequence), traces, tables, out);
        }
        BatchBody::Packed(PackedBytes::Memory(bytes), _) => {
            record.push(INLINE);
            put_bytes(&mut record, &bytes);
        }
        BatchBody::Packed(PackedBytes::File(place), _) => {
            record.push(FILE);
            for field in [place.file, place.offset, place.len] {
                put_uvarint(&mut record, u64::from(field));
            }
        }
    }
    out.append(kind::BATCH, &record)
}

/// Reads the batch of a checkpoint's record from behind its tenant.
pub(super) fn decode_batch<'a>(r: &mut Reader<'a>) -> Result<BatchSnapshot<'a>, DecodeError> {
    let since_ms = TimestampMs::new(r.svarint()?);
    let leaving = match r.u8()? {
        0 => None,
        1 => {
            let mut id = [0; 16];
            id.copy_from_slice(r.take(16)?);
            Some(BlockId::from_bytes(id))
        }
        other => return Err(r.error(format!("unknown way of a batch {other}"))),
    };
    let bytes = match r.u8()? {
        INLINE => SnapshotBytes::Inline(r.bytes()?),
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
        other => return Err(r.error(format!("unknown place of a batch {other}"))),
    };
    Ok(BatchSnapshot {
        since_ms,
        leaving,
        bytes,
    })
}
