//! The traces of a head in the order of their ids, each whole.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;
use lgtm_core::Result;
use lgtm_core::model::merge_warnings;

use super::batch::{BatchTables, read_frame, traces_of};
use super::head_batch::BatchBody;
use super::read::{HeadTraces, NsRange, broken, put_live, warning};
use crate::trace::TraceId;

/// Packed batches stay in memory while they are read, up to so many bytes together; the others are read again for each frame.
const KEPT_BYTES: usize = 32 << 20;

/// Where the reading of a head in the order of ids is. Memory holds one frame of each batch, and some batches as they are packed.
#[derive(Debug)]
pub(super) struct OrderedTraces {
    range: NsRange,
    behind: Option<TraceId>,
    /// Numbers of live and cut traces, the last one first; `None` before the first is asked for.
    loose: Option<Vec<usize>>,
    cursors: Vec<BatchCursor>,
    /// The next id of each cursor, and of the loose ones, whose number is behind those of all cursors.
    queue: BinaryHeap<Reverse<(TraceId, usize)>>,
    kept_bytes: usize,
    /// Whether frames were left out for their time.
    has_gaps: bool,
}

/// Where the reading of a batch is.
#[derive(Debug, Default)]
struct BatchCursor {
    next_frame: usize,
    packed: Option<(Bytes, BatchTables)>,
    /// What was read of it, the last one first.
    traces: Vec<(TraceId, Vec<u8>)>,
}

impl OrderedTraces {
    /// From the first id behind `behind` on; what of a batch lies outside of the range may be left out.
    pub(super) fn new(range: NsRange, behind: Option<TraceId>) -> Self {
        Self {
            range,
            behind,
            loose: None,
            cursors: Vec::new(),
            queue: BinaryHeap::new(),
            kept_bytes: 0,
            has_gaps: false,
        }
    }

    fn is_wanted(&self, id: TraceId) -> bool {
        self.behind.is_none_or(|behind| behind < id)
    }

    fn begin(&mut self, of: &mut HeadTraces) {
        let traces = of.traces.iter().enumerate();
        let mut loose: Vec<usize> = traces
            .filter(|(_, (id, _))| self.is_wanted(*id))
            .map(|(n, _)| n)
            .collect();
        loose.sort_by_key(|n| Reverse(of.traces[*n].0));
        self.cursors
            .resize_with(of.batches.len(), BatchCursor::default);
        let first = loose.last().map(|n| of.traces[*n].0);
        let number = self.cursors.len();
        self.queue.extend(first.map(|id| Reverse((id, number))));
        self.loose = Some(loose);
        for n in 0..self.cursors.len() {
            self.enqueue(n, of);
        }
    }

    /// Puts the next trace of a batch into the queue, and reads on in it if need be. What cannot be read is passed over, with a warning.
    fn enqueue(&mut self, n: usize, of: &mut HeadTraces) {
        while self.cursors[n].traces.is_empty() {
            match self.read_on(n, of) {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => {
                    merge_warnings(&mut of.warnings, vec![warning(&e)]);
                    if self.cursors[n].packed.is_none() {
                        // It cannot be read at all.
                        self.cursors[n].next_frame = usize::MAX;
                    }
                }
            }
        }
        match self.cursors[n].traces.last() {
            Some((id, _)) => self.queue.push(Reverse((*id, n))),
            None => {
                if let Some((packed, _)) = self.cursors[n].packed.take() {
                    self.kept_bytes = self.kept_bytes.saturating_sub(packed.len());
                }
            }
        }
    }

    /// Reads the next frame of a batch; false at its end.
    fn read_on(&mut self, n: usize, of: &mut HeadTraces) -> Result<bool> {
        let (batch, cursor) = (of.batches[n].clone(), &mut self.cursors[n]);
        let behind = self.behind;
        let is_wanted = |id: TraceId| behind.is_none_or(|behind| behind < id);
        let frame = cursor.next_frame;
        let (bytes, directory) = match batch.body() {
            // What is packed meanwhile has the same traces: its one frame was read.
            BatchBody::Loose(_) if frame > 0 => return Ok(false),
            BatchBody::Loose(loose) => {
                cursor.next_frame = usize::MAX;
                for (id, trace) in loose.traces.iter().rev().filter(|(id, _)| is_wanted(*id)) {
                    let mut bytes = Vec::new();
                    match put_live(trace, &loose.tables, &mut bytes) {
                        Ok(()) => cursor.traces.push((*id, bytes)),
                        Err(e) => merge_warnings(&mut of.warnings, vec![warning(&broken(e))]),
                    }
                }
                return Ok(true);
            }
            BatchBody::Packed(bytes, directory) => (bytes, directory),
        };
        if frame >= directory.frame_count() {
            return Ok(false);
        }
        cursor.next_frame = frame + 1;
        if directory.last_of(frame).is_some_and(|id| !is_wanted(id)) {
            return Ok(true);
        }
        let (min_ns, max_ns) = directory.range_of(frame);
        if self.range.1 < min_ns || max_ns < self.range.0 {
            self.has_gaps = true;
            return Ok(true);
        }
        let (packed, tables) = match cursor.packed.take() {
            Some(kept) => kept,
            None => {
                let packed = of.read_batch(&bytes)?;
                let tables = BatchTables::read(&packed, &directory, &mut of.decompressor);
                let kept = (packed, tables.map_err(broken)?);
                self.kept_bytes += kept.0.len();
                kept
            }
        };
        let mut raw = Vec::new();
        let read = read_frame(&packed, &directory, frame, &mut of.decompressor, &mut raw);
        let read = read.and_then(|()| {
            for trace in traces_of(&raw) {
                let trace = trace?;
                if is_wanted(trace.id) {
                    let mut bytes = Vec::new();
                    trace.put(&tables, &mut bytes)?;
                    cursor.traces.push((trace.id, bytes));
                }
            }
            Ok(())
        });
        cursor.traces.reverse();
        if self.kept_bytes <= KEPT_BYTES || read.is_err() {
            cursor.packed = Some((packed, tables));
        } else {
            self.kept_bytes -= packed.len();
        }
        read.map_err(broken).map(|()| true)
    }

    /// The next trace: gives its id and appends it to `out` as the protobuf message `Trace`; `None` at the end.
    pub(super) fn next_trace(&mut self, of: &mut HeadTraces, out: &mut Vec<u8>) -> Option<TraceId> {
        if self.loose.is_none() {
            self.begin(of);
        }
        loop {
            let &Reverse((id, _)) = self.queue.peek()?;
            let before = out.len();
            while let Some(&Reverse((next, n))) = self.queue.peek()
                && next == id
            {
                self.queue.pop();
                if n < self.cursors.len() {
                    // A trace that went on after it was cut may be twice in a batch.
                    while let Some((_, bytes)) =
                        self.cursors[n].traces.pop_if(|(known, _)| *known == id)
                    {
                        out.extend_from_slice(&bytes);
                    }
                    self.enqueue(n, of);
                } else {
                    self.take_loose(id, of, out);
                }
            }
            if self.has_gaps && of.scattered.contains(&id) {
                // Another part of it may lie in a frame that was left out.
                out.truncate(before);
                of.find(id, out);
            }
            if out.len() > before {
                return Some(id);
            }
        }
    }

    fn take_loose(&mut self, id: TraceId, of: &mut HeadTraces, out: &mut Vec<u8>) {
        let number = self.cursors.len();
        let loose = self.loose.get_or_insert_default();
        while let Some(n) = loose.pop_if(|n| of.traces[*n].0 == id) {
            if let Err(e) = put_live(&of.traces[n].1, &of.tables, out) {
                merge_warnings(&mut of.warnings, vec![warning(&broken(e))]);
            }
        }
        let next = loose.last().map(|n| of.traces[*n].0);
        self.queue.extend(next.map(|id| Reverse((id, number))));
    }
}
