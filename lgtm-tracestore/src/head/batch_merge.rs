//! The traces of several batches in the order of their ids.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use bytes::Bytes;
use lgtm_core::codec::Decompressor;
use lgtm_core::{DecodeError, Error, ErrorKind, Result};

use super::batch::{BatchDirectory, BatchTables, read_frame, traces_of};
use super::head::Head;
use super::head_batch::{BatchBody, HeadBatch, PackedBytes};
use crate::block::TraceSource;
use crate::trace::TraceId;

/// The traces of several batches in the order of their ids, each once: parts of a trace stand one after the other, oldest batch first.
///
/// Memory holds one frame of each batch, and each batch as it is packed.
#[derive(Debug)]
pub struct BatchMerge {
    head: Arc<Head>,
    cursors: Vec<Cursor>,
    queue: BinaryHeap<Reverse<(TraceId, usize)>>,
    decompressor: Decompressor,
    waiting: Vec<Arc<HeadBatch>>,
    lost_batches: u64,
}

/// Where the reading of a batch is.
#[derive(Debug)]
struct Cursor {
    packed: Bytes,
    directory: Arc<BatchDirectory>,
    tables: BatchTables,
    next_frame: usize,
    /// The traces of the frame that is being read, last one first: id and protobuf.
    traces: Vec<(TraceId, Vec<u8>)>,
}

impl BatchMerge {
    pub(super) fn new(head: Arc<Head>, batches: Vec<Arc<HeadBatch>>) -> Self {
        Self {
            head,
            cursors: Vec::new(),
            queue: BinaryHeap::new(),
            decompressor: Decompressor::default(),
            waiting: batches,
            lost_batches: 0,
        }
    }

    /// Batches that could not be read to their end: set aside, counted and logged. What of them was read came.
    pub fn lost_batches(&self) -> u64 {
        self.lost_batches
    }

    fn open(&mut self, batch: &HeadBatch) -> Result<()> {
        let BatchBody::Packed(bytes, directory) = batch.body() else {
            return Err(Error::Internal("a batch leaves before it is packed".into()));
        };
        let files = &self.head.parts.files;
        let packed = match bytes.read(files) {
            Ok(packed) => packed,
            Err(e) if e.kind() == ErrorKind::Unavailable => return Err(e),
            Err(e) => {
                self.lose(&bytes, &e);
                return Ok(());
            }
        };
        match BatchTables::read(&packed, &directory, &mut self.decompressor) {
            Ok(tables) => {
                self.cursors.push(Cursor {
                    packed,
                    directory,
                    tables,
                    next_frame: 0,
                    traces: Vec::new(),
                });
                self.enqueue(self.cursors.len() - 1);
            }
            Err(e) => self.lose(&bytes, &Error::corrupt("batch of traces", e)),
        }
        Ok(())
    }

    fn lose(&mut self, bytes: &PackedBytes, e: &Error) {
        if let PackedBytes::File(place) = bytes {
            self.head.parts.files.set_aside(*place);
        }
        self.lost_batches += 1;
        tracing::error!(tenant = %self.head.tenant, error = %e, "a batch of traces cannot be read; it is set aside and does not get into the object store");
    }

    /// Puts the next trace of a batch into the queue, and reads its next frame if need be.
    fn enqueue(&mut self, n: usize) {
        let cursor = &mut self.cursors[n];
        if cursor.traces.is_empty()
            && let Err(e) = cursor.read_frame(&mut self.decompressor)
        {
            // Its checksum passed, so that this is a fault of ours; what was read is there.
            self.lost_batches += 1;
            tracing::error!(tenant = %self.head.tenant, error = %e, "a frame of a batch of traces does not decode");
        }
        if let Some((id, _)) = self.cursors[n].traces.last() {
            self.queue.push(Reverse((*id, n)));
        }
    }
}

/// Fails as `Unavailable` when the disk refuses; a batch that is damaged is passed over.
impl TraceSource for BatchMerge {
    fn next_trace(&mut self, out: &mut Vec<u8>) -> Result<Option<TraceId>> {
        for batch in std::mem::take(&mut self.waiting) {
            self.open(&batch)?;
        }
        let Some(&Reverse((id, _))) = self.queue.peek() else {
            return Ok(None);
        };
        while let Some(&Reverse((next, n))) = self.queue.peek()
            && next == id
        {
            self.queue.pop();
            if let Some((_, bytes)) = self.cursors[n].traces.pop() {
                out.extend_from_slice(&bytes);
            }
            self.enqueue(n);
        }
        Ok(Some(id))
    }
}

impl Cursor {
    fn read_frame(&mut self, decompressor: &mut Decompressor) -> Result<(), DecodeError> {
        if self.next_frame == self.directory.frame_count() {
            return Ok(());
        }
        let frame = self.next_frame;
        self.next_frame += 1;
        let mut raw = Vec::new();
        read_frame(&self.packed, &self.directory, frame, decompressor, &mut raw)?;
        for trace in traces_of(&raw) {
            let trace = trace?;
            let mut bytes = Vec::new();
            trace.put(&self.tables, &mut bytes)?;
            self.traces.push((trace.id, bytes));
        }
        self.traces.reverse();
        Ok(())
    }
}
