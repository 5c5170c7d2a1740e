//! The heads as a holder of traces.
//!
//! A reader takes a snapshot: live traces are shared as they are, batches by reference. Traces that are in one place come as they are found; those of
//! which parts lie in several places come last, each whole.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashSet;
use lgtm_core::codec::Decompressor;
use lgtm_core::model::{TenantId, merge_warnings};
use lgtm_core::wal::Snapshot;
use lgtm_core::{DecodeError, Error, Result};

use super::batch::{BatchTables, read_frame, traces_of};
use super::head::HeadParts;
use super::head_batch::{BatchBody, HeadBatch, HeadTables, PackedBytes};
use super::heads::Heads;
use super::live_trace::LiveTrace;
use super::run::put_trace;
use crate::trace::TraceId;

/// What the head of a tenant had at a moment, to be read trace by trace.
#[derive(Debug)]
pub struct HeadTraces {
    parts: Arc<HeadParts>,
    pub(super) tables: HeadTables,
    /// Live ones, and those that were cut and wait.
    pub(super) traces: Vec<(TraceId, LiveTrace)>,
    pub(super) batches: Vec<Arc<HeadBatch>>,
    /// Ids of these.
    loose: HashSet<TraceId>,
    /// Traces with parts in several places.
    pub(super) scattered: HashSet<TraceId>,
    /// Keeps what flushes move.
    _reader: Arc<Snapshot>,
    pub(super) decompressor: Decompressor,
    pub(super) warnings: Vec<String>,
    next: Next,
}

/// Which place is read next.
#[derive(Debug, Default)]
struct Next {
    trace: usize,
    batch: usize,
    /// Traces of a frame that wait, last one first.
    waiting: Vec<(TraceId, Vec<u8>)>,
    frame: usize,
    scattered: Option<Vec<TraceId>>,
}

/// Nanoseconds since the epoch, both inclusive: traces that lie outside may be left out.
pub type NsRange = (u64, u64);

impl Heads {
    /// A snapshot of the heads for one query: to be taken before the list of blocks is. With
    /// [`retain_flushed`](super::HeadSettings::retain_flushed) it sees what the store has since lately, too.
    pub fn reader(&self) -> Arc<Snapshot> {
        let retained = self.retained.lock();
        let oldest = retained.front().map(|(_, snapshot)| snapshot.again());
        Arc::new(oldest.unwrap_or_else(|| self.parts.generations.enter()))
    }

    /// What the head of a tenant has for that reader. Costs a look at each live trace; the reading is done on the compute pool.
    ///
    /// # Errors
    /// `Unavailable` before the replay is done.
    pub fn traces(&self, tenant: &TenantId, reader: &Arc<Snapshot>) -> Result<HeadTraces> {
        let mut out = self.no_traces(reader)?;
        let Some(head) = self.get(tenant) else {
            return Ok(out);
        };
        let state = head.lock();
        out.tables = state.tables();
        out.traces.extend(state.cut.iter().cloned());
        (out.traces).extend(state.live.iter().map(|(id, t)| (id, t.clone())));
        let seen = |b: &&Arc<HeadBatch>| reader.sees(b.chunk_state());
        out.batches
            .extend(state.batches.iter().filter(seen).cloned());
        out.loose.reserve(out.traces.len());
        for (id, _) in &out.traces {
            if !out.loose.insert(*id) || state.known.contains_key(id) {
                out.scattered.insert(*id);
            }
        }
        let several = state.known.iter().filter(|(_, k)| k.batches.len() > 1);
        out.scattered.extend(several.map(|(id, _)| *id));
        Ok(out)
    }

    /// The same of one trace, which costs no look at others.
    ///
    /// # Errors
    /// As [`Heads::traces`].
    pub fn traces_of_id(
        &self,
        tenant: &TenantId,
        reader: &Arc<Snapshot>,
        id: TraceId,
    ) -> Result<HeadTraces> {
        let mut out = self.no_traces(reader)?;
        let Some(head) = self.get(tenant) else {
            return Ok(out);
        };
        let state = head.lock();
        let cut = state.cut.iter().filter(|(known, _)| *known == id);
        out.traces.extend(cut.cloned());
        out.traces
            .extend(state.live.get(id).map(|t| (id, t.clone())));
        if !out.traces.is_empty() {
            out.tables = state.tables();
            out.loose.insert(id);
        }
        if let Some(known) = state.known.get(&id) {
            let of_id = state
                .batches
                .iter()
                .filter(|b| known.batches.contains(&b.id));
            let seen = of_id.filter(|b| reader.sees(b.chunk_state()));
            out.batches.extend(seen.cloned());
        }
        Ok(out)
    }

    fn no_traces(&self, reader: &Arc<Snapshot>) -> Result<HeadTraces> {
        self.check_open()?;
        Ok(HeadTraces {
            parts: Arc::clone(&self.parts),
            tables: HeadTables::default(),
            traces: Vec::new(),
            batches: Vec::new(),
            loose: HashSet::new(),
            scattered: HashSet::new(),
            _reader: Arc::clone(reader),
            decompressor: Decompressor::default(),
            warnings: Vec::new(),
            next: Next::default(),
        })
    }
}

impl HeadTraces {
    /// What could not be read so far, in words for the user.
    pub fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// The bytes of a batch. One that is damaged is set aside.
    pub(super) fn read_batch(&self, bytes: &PackedBytes) -> Result<Bytes> {
        self.parts.read_batch(bytes)
    }

    /// Places in which traces are looked for one after the other.
    pub fn place_count(&self) -> usize {
        usize::from(!self.loose.is_empty()) + self.batches.len()
    }

    /// Whether the head has any of a trace.
    pub fn has(&self, id: TraceId) -> bool {
        let in_batch = |batch: &Arc<HeadBatch>| match batch.body() {
            BatchBody::Loose(loose) => {
                let found = loose.traces.binary_search_by_key(&id, |(known, _)| *known);
                found.is_ok()
            }
            BatchBody::Packed(_, directory) => directory.ids().binary_search(&id).is_ok(),
        };
        self.loose.contains(&id) || self.batches.iter().any(in_batch)
    }

    /// Appends all that the head has of a trace to `out`, as the protobuf message `Trace`. Whether there is anything.
    pub fn find(&mut self, id: TraceId, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        for batch in &self.batches {
            let found = match batch.body() {
                BatchBody::Loose(loose) => {
                    let at = loose.traces.partition_point(|(known, _)| *known < id);
                    let mut parts = loose.traces[at..]
                        .iter()
                        .take_while(|(known, _)| *known == id);
                    (parts.try_for_each(|(_, trace)| put_live(trace, &loose.tables, out)))
                        .map_err(broken)
                }
                BatchBody::Packed(bytes, directory) => match directory.frame_of(id) {
                    None => Ok(()),
                    Some(frame) => {
                        let take = |known, bytes: Vec<u8>| {
                            if known == id {
                                out.extend_from_slice(&bytes);
                            }
                        };
                        self.parts.read_packed(
                            (&bytes, &directory, frame),
                            &mut self.decompressor,
                            take,
                        )
                    }
                },
            };
            if let Err(e) = found {
                merge_warnings(&mut self.warnings, vec![warning(&e)]);
            }
        }
        for (known, trace) in &self.traces {
            if *known == id
                && let Err(e) = put_live(trace, &self.tables, out)
            {
                merge_warnings(&mut self.warnings, vec![warning(&broken(e))]);
            }
        }
        out.len() > before
    }

    /// The next trace: gives its id and appends it to `out` as the protobuf message `Trace`. `None` at the end. Traces come in no order, each
    /// once. What cannot be read is passed over, with a warning.
    pub fn next_trace(&mut self, range: NsRange, out: &mut Vec<u8>) -> Option<TraceId> {
        loop {
            if let Some((id, trace)) = self.traces.get(self.next.trace) {
                self.next.trace += 1;
                if self.scattered.contains(id) {
                    continue;
                }
                match put_live(trace, &self.tables, out) {
                    Ok(()) => return Some(*id),
                    Err(e) => merge_warnings(&mut self.warnings, vec![warning(&broken(e))]),
                }
                continue;
            }
            if let Some((id, bytes)) = self.next.waiting.pop() {
                out.extend_from_slice(&bytes);
                return Some(id);
            }
            if self.next.batch < self.batches.len() {
                self.read_on(range);
                continue;
            }
            let scattered = &self.scattered;
            let rest =
                (self.next.scattered).get_or_insert_with(|| scattered.iter().copied().collect());
            let id = rest.pop()?;
            if self.find(id, out) {
                return Some(id);
            }
        }
    }

    /// Reads the next frame of the batch that is being read, or goes to the next one.
    fn read_on(&mut self, (start_ns, end_ns): NsRange) {
        let batch = Arc::clone(&self.batches[self.next.batch]);
        let scattered = &self.scattered;
        let waiting = &mut self.next.waiting;
        let read = match batch.body() {
            BatchBody::Loose(loose) => {
                self.next.batch += 1;
                let mut traces = loose
                    .traces
                    .iter()
                    .filter(|(id, _)| !scattered.contains(id));
                traces
                    .try_for_each(|(id, trace)| {
                        let mut bytes = Vec::new();
                        put_live(trace, &loose.tables, &mut bytes)?;
                        put_part(waiting, *id, bytes);
                        Ok(())
                    })
                    .map_err(broken)
            }
            BatchBody::Packed(bytes, directory) => {
                let frame = self.next.frame;
                if frame + 1 < directory.frame_count() {
                    self.next.frame += 1;
                } else {
                    self.next.frame = 0;
                    self.next.batch += 1;
                }
                let overlaps = |(min_ns, max_ns): NsRange| min_ns <= end_ns && start_ns <= max_ns;
                if directory.frame_count() > frame && overlaps(directory.range_of(frame)) {
                    let take = |id, bytes| {
                        if !scattered.contains(&id) {
                            put_part(waiting, id, bytes);
                        }
                    };
                    self.parts.read_packed(
                        (&bytes, &directory, frame),
                        &mut self.decompressor,
                        take,
                    )
                } else {
                    Ok(())
                }
            }
        };
        if let Err(e) = read {
            merge_warnings(&mut self.warnings, vec![warning(&e)]);
        }
    }
}

impl HeadParts {
    /// The bytes of a batch. One that is damaged is set aside.
    fn read_batch(&self, bytes: &PackedBytes) -> Result<Bytes> {
        bytes.read(&self.files).inspect_err(|_| {
            if let PackedBytes::File(place) = bytes {
                self.files.set_aside(*place);
            }
        })
    }

    /// Gives `take` the traces of a frame, each as protobuf.
    fn read_packed(
        &self,
        (bytes, directory, frame): (&PackedBytes, &super::batch::BatchDirectory, usize),
        decompressor: &mut Decompressor,
        mut take: impl FnMut(TraceId, Vec<u8>),
    ) -> Result<()> {
        let packed = self.read_batch(bytes)?;
        let tables = BatchTables::read(&packed, directory, decompressor).map_err(broken)?;
        let mut raw = Vec::new();
        read_frame(&packed, directory, frame, decompressor, &mut raw).map_err(broken)?;
        for trace in traces_of(&raw) {
            let trace = trace.map_err(broken)?;
            let mut bytes = Vec::new();
            trace.put(&tables, &mut bytes).map_err(broken)?;
            take(trace.id, bytes);
        }
        Ok(())
    }
}

/// Adds a trace, or another part of the one that was added last: a trace that went on after it was cut may be twice in a batch.
fn put_part(traces: &mut Vec<(TraceId, Vec<u8>)>, id: TraceId, bytes: Vec<u8>) {
    match traces.last_mut() {
        Some((last, known)) if *last == id => known.extend_from_slice(&bytes),
        _ => traces.push((id, bytes)),
    }
}

pub(super) fn put_live(
    trace: &LiveTrace,
    tables: &HeadTables,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    put_trace(
        trace.runs(),
        |n| tables.resource(n),
        |n| tables.scope(n),
        out,
    )
}

pub(super) fn broken(e: DecodeError) -> Error {
    Error::corrupt("batch of traces", e)
}

pub(super) fn warning(e: &Error) -> String {
    format!("recent traces are missing from the answer: {e}")
}
