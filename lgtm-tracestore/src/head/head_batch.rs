//! A batch of cut traces in the head: first as they were, then packed, then in a local file.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use lgtm_core::codec::protobuf::{bytes_tag, fixed64_tag, skip};
use lgtm_core::codec::{Compressor, Reader};
use lgtm_core::model::TimestampMs;
use lgtm_core::wal::{BlobFiles, BlobPlace, ChunkState};
use lgtm_core::{DecodeError, Result};
use parking_lot::Mutex;

use super::batch::{BatchContent, BatchDirectory, CutTrace, pack};
use super::block_window::BlockWindow;
use super::live_trace::LiveTrace;
use super::run::Run;
use crate::block_id::BlockId;
use crate::trace::TraceId;

/// What the blobs of batches are marked with.
pub(super) const BLOB_TAG: u8 = 1;

/// A batch of cut traces.
#[derive(Debug)]
pub(super) struct HeadBatch {
    /// Of this process.
    pub(super) id: u64,
    /// When its first trace was cut.
    pub(super) since_ms: TimestampMs,
    /// Which blocks it may go into.
    pub(super) window: BlockWindow,
    /// Held by whoever packs it: a round of housekeeping, relief and a flush may come to it at once, and what it took is given back once.
    packing: Mutex<()>,
    state: Mutex<BatchState>,
}

#[derive(Debug, Clone)]
struct BatchState {
    body: BatchBody,
    chunk: ChunkState,
    /// The block that it is on its way into.
    leaving: Option<BlockId>,
}

/// What it is at the moment.
#[derive(Debug, Clone)]
pub(super) enum BatchBody {
    /// Traces as they were cut.
    Loose(Arc<LooseBatch>),
    /// Packed.
    Packed(PackedBytes, Arc<BatchDirectory>),
}

/// Where the bytes of a packed batch are.
#[derive(Debug, Clone)]
pub(super) enum PackedBytes {
    /// In memory: the disk refused them.
    Memory(Bytes),
    /// In the local files.
    File(BlobPlace),
}

/// Cut traces as they were, by id, with what their numbers mean.
#[derive(Debug)]
pub(super) struct LooseBatch {
    pub(super) traces: Vec<(TraceId, LiveTrace)>,
    pub(super) tables: HeadTables,
    /// Bytes of it.
    pub(super) size_bytes: usize,
}

/// What the numbers of resources and scopes mean, as of a moment.
#[derive(Debug, Clone, Default)]
pub(super) struct HeadTables {
    pub(super) resources: Vec<Arc<[u8]>>,
    pub(super) scopes: Vec<Arc<[u8]>>,
}

impl HeadTables {
    /// A resource.
    pub(super) fn resource(&self, n: u32) -> Option<&[u8]> {
        self.resources.get(n as usize).map(|b| &**b)
    }

    /// A scope.
    pub(super) fn scope(&self, n: u32) -> Option<&[u8]> {
        self.scopes.get(n as usize).map(|b| &**b)
    }
}

impl HeadBatch {
    /// A batch that is not packed yet.
    pub(super) fn loose(
        id: u64,
        since_ms: TimestampMs,
        window: BlockWindow,
        batch: LooseBatch,
    ) -> Self {
        let body = BatchBody::Loose(Arc::new(batch));
        Self::new(id, (since_ms, window), body, None)
    }

    /// A batch out of a checkpoint.
    pub(super) fn restored(
        id: u64,
        since_ms: TimestampMs,
        (bytes, directory): (PackedBytes, BatchDirectory),
        leaving: Option<BlockId>,
    ) -> Self {
        let window = BlockWindow::of(directory.min_ns, since_ms);
        Self::new(
            id,
            (since_ms, window),
            BatchBody::Packed(bytes, Arc::new(directory)),
            leaving,
        )
    }

    fn new(
        id: u64,
        (since_ms, window): (TimestampMs, BlockWindow),
        body: BatchBody,
        leaving: Option<BlockId>,
    ) -> Self {
        Self {
            id,
            since_ms,
            window,
            packing: Mutex::default(),
            state: Mutex::new(BatchState {
                body,
                chunk: ChunkState::HELD,
                leaving,
            }),
        }
    }

    /// What it is at the moment.
    pub(super) fn body(&self) -> BatchBody {
        self.state.lock().body.clone()
    }

    /// On whose way it is.
    pub(super) fn chunk_state(&self) -> ChunkState {
        self.state.lock().chunk
    }

    /// The block that it is on its way into, or was when the process ended.
    pub(super) fn leaving(&self) -> Option<BlockId> {
        self.state.lock().leaving
    }

    /// Marks it as on its way into a block; false when it is on its way already, or nobody knows whether it got there.
    pub(super) fn leave(&self, into: BlockId) -> bool {
        let mut state = self.state.lock();
        if state.chunk != ChunkState::HELD || state.leaving.is_some() {
            return false;
        }
        state.chunk = ChunkState::FLUSHING;
        state.leaving = Some(into);
        true
    }

    /// Whether a flush could take it now.
    pub(super) fn may_leave(&self) -> bool {
        let state = self.state.lock();
        let is_free = state.chunk == ChunkState::HELD && state.leaving.is_none();
        is_free && matches!(state.body, BatchBody::Packed(..))
    }

    /// The flush ended: with [`ChunkState::HELD`] nobody knows whether it got there.
    pub(super) fn set_chunk_state(&self, chunk: ChunkState) {
        self.state.lock().chunk = chunk;
    }

    /// It did not get there.
    pub(super) fn stay(&self) {
        self.state.lock().leaving = None;
    }

    /// Ids of its traces; one that has two parts may come twice.
    pub(super) fn for_each_id(&self, mut take: impl FnMut(TraceId)) {
        match self.body() {
            BatchBody::Loose(batch) => batch.traces.iter().for_each(|(id, _)| take(*id)),
            BatchBody::Packed(_, directory) => directory.ids().iter().for_each(|id| take(*id)),
        }
    }

    /// Bytes of it before compression.
    pub(super) fn raw_bytes(&self) -> u64 {
        match &self.state.lock().body {
            BatchBody::Loose(loose) => loose.size_bytes as u64,
            BatchBody::Packed(_, directory) => directory.raw_bytes,
        }
    }

    /// Whether it is packed.
    pub(super) fn is_packed(&self) -> bool {
        matches!(self.state.lock().body, BatchBody::Packed(..))
    }

    /// Its place in the local files.
    pub(super) fn place(&self) -> Option<BlobPlace> {
        match self.state.lock().body {
            BatchBody::Packed(PackedBytes::File(place), _) => Some(place),
            _ => None,
        }
    }

    /// Packs it and writes it into the local files; nothing if that was done. Gives the bytes that it took before. Waits for somebody else who is at it: it is
    /// packed when this returns.
    ///
    /// # Errors
    /// `Internal` when the compression fails, `LimitExceeded` for more than 4 GiB. It is as before then.
    pub(super) fn pack(&self, files: &BlobFiles, compressor: &mut Compressor) -> Result<usize> {
        let _one = self.packing.lock();
        let BatchBody::Loose(loose) = self.body() else {
            return Ok(0);
        };
        let (packed, directory) = pack(&content(&loose), compressor)?;
        let bytes = match files.append(BLOB_TAG, &packed) {
            Some(place) => PackedBytes::File(place),
            None => PackedBytes::Memory(packed.into()),
        };
        self.state.lock().body = BatchBody::Packed(bytes, Arc::new(directory));
        Ok(loose.size_bytes)
    }
}

impl PackedBytes {
    /// The bytes.
    ///
    /// # Errors
    /// `Corrupt` naming the file, `Unavailable` when it cannot be read.
    pub(super) fn read(&self, files: &BlobFiles) -> Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.clone()),
            Self::File(place) => files.read(*place, BLOB_TAG),
        }
    }
}

/// The content of a batch with tables of its own, numbered from 0.
fn content(loose: &LooseBatch) -> BatchContent<'_> {
    let mut out = BatchContent::default();
    let (mut resources, mut scopes) = (HashMap::new(), HashMap::new());
    for (id, trace) in &loose.traces {
        let mut cut = CutTrace {
            id: *id,
            span_count: trace.span_count,
            min_ns: u64::MAX,
            max_ns: 0,
            runs: Vec::new(),
        };
        for run in trace.runs() {
            let resource = *resources.entry(run.resource).or_insert_with(|| {
                out.resources
                    .push(loose.tables.resource(run.resource).unwrap_or_default());
                out.resources.len() as u32 - 1
            });
            let scope = *scopes.entry(run.scope).or_insert_with(|| {
                out.scopes
                    .push(loose.tables.scope(run.scope).unwrap_or_default());
                out.scopes.len() as u32 - 1
            });
            // Spans were looked at when they came; what is none has no times.
            if let Ok((min_ns, max_ns)) = times(run.spans) {
                cut.min_ns = cut.min_ns.min(min_ns);
                cut.max_ns = cut.max_ns.max(max_ns);
            }
            cut.runs.push(Run {
                resource,
                scope,
                ..run
            });
        }
        cut.min_ns = cut.min_ns.min(cut.max_ns);
        out.traces.push(cut);
    }
    out
}

/// First start and last end of spans, nanoseconds since the epoch. A span that ends before it starts ends when it starts.
pub(super) fn times(spans: &[u8]) -> Result<(u64, u64), DecodeError> {
    let mut r = Reader::new("spans", spans);
    let (mut min_ns, mut max_ns) = (u64::MAX, 0);
    while !r.is_empty() {
        r.uvarint()?;
        let mut span = Reader::new("span", r.bytes()?);
        let (mut start_ns, mut end_ns) = (0, 0);
        while !span.is_empty() {
            match span.uvarint()? {
                tag if tag == fixed64_tag(7) => start_ns = span.u64_le()?,
                tag if tag == fixed64_tag(8) => {
                    end_ns = span.u64_le()?;
                    // Fields come in the order of their numbers from all senders that we know.
                    if start_ns > 0 {
                        break;
                    }
                }
                tag if tag == bytes_tag(9) && start_ns > 0 && end_ns > 0 => break,
                tag => skip(&mut span, tag)?,
            }
        }
        min_ns = min_ns.min(start_ns);
        max_ns = max_ns.max(start_ns).max(end_ns);
    }
    Ok((min_ns, max_ns))
}

#[cfg(test)]
mod tests {
    use lgtm_core::codec::protobuf::put_message;

    use super::*;
    use crate::trace::Span;

    #[test]
    fn times_are_those_of_the_earliest_start_and_the_latest_end() {
        let mut spans = Vec::new();
        for (start_ns, end_ns) in [(50, 60), (40, 45), (55, 30)] {
            let span = Span {
                name: b"x",
                start_ns,
                end_ns,
                ..Span::default()
            };
            put_message(&mut spans, 2, |out| span.encode(out));
        }
        assert_eq!(times(&spans).unwrap(), (40, 60));
        assert!(times(&spans[..spans.len() - 1]).is_err() || times(&spans[..3]).is_err());
    }
}
