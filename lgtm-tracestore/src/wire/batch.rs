//! A request decoded: its spans by trace, each as the bytes that it came as.

use std::ops::Range;

use hashbrown::HashTable;
use lgtm_core::codec::protobuf::{bytes_tag, put_bytes_field};
use lgtm_core::codec::{put_uvarint, uvarint_len};
use lgtm_core::limits::Reusable;

use crate::trace::TraceId;
use crate::wire::span_rule::RefusedSpans;

/// The spans of a request, by trace. Nothing of a span is decoded: its bytes, those of its scope and those of its resource are as they came, unless
/// a text in them was cut. Made to be used again: [`PushBatch::clear`] keeps the memory.
#[derive(Debug, Default)]
pub struct PushBatch {
    /// The request, as protobuf.
    pub(super) body: Vec<u8>,
    /// Messages that were written anew. Places behind the body are here.
    pub(super) arena: Vec<u8>,
    pub(super) body_len: u32,
    pub(super) resources: Vec<Place>,
    pub(super) scopes: Vec<ScopePlace>,
    pub(super) spans: Vec<SpanPlace>,
    pub(super) traces: Vec<TracePlace>,
    /// Numbers of spans, those of each trace together, in the order of their scopes.
    pub(super) order: Vec<u32>,
    /// Numbers of traces by id.
    pub(super) by_id: HashTable<u32>,
    /// Numbers of scopes by their resource and their bytes.
    pub(super) by_scope: HashTable<u32>,
    pub(super) cut_texts: u64,
    pub(super) refused: Option<RefusedSpans>,
}

/// A [`PushBatch`] under way.
pub type PooledBatch = lgtm_core::limits::PooledBatch<PushBatch>;

/// Where a message stands: in the body, or behind it in the arena.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    pub(super) start: u32,
    pub(super) len: u32,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct ScopePlace {
    pub(super) resource: u32,
    pub(super) message: Place,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct SpanPlace {
    pub(super) scope: u32,
    pub(super) trace: u32,
    pub(super) message: Place,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct TracePlace {
    pub(super) id: TraceId,
    pub(super) span_count: u32,
    /// Where its spans end in `order`.
    pub(super) end: u32,
}

impl Reusable for PushBatch {
    fn clear(&mut self) {
        Self::clear(self);
    }

    fn heap_bytes(&self) -> usize {
        Self::heap_bytes(self)
    }
}

fn bytes_of<T>(vec: &Vec<T>) -> usize {
    vec.capacity() * size_of::<T>()
}

impl PushBatch {
    /// Forgets the request but keeps the memory.
    pub fn clear(&mut self) {
        self.body.clear();
        self.arena.clear();
        self.body_len = 0;
        self.resources.clear();
        self.scopes.clear();
        self.spans.clear();
        self.traces.clear();
        self.order.clear();
        self.by_id.clear();
        self.by_scope.clear();
        self.cut_texts = 0;
        self.refused = None;
    }

    /// Heap bytes of the batch; after [`PushBatch::clear`], what it keeps for the next request.
    pub fn heap_bytes(&self) -> usize {
        bytes_of(&self.body)
            + bytes_of(&self.arena)
            + bytes_of(&self.resources)
            + bytes_of(&self.scopes)
            + bytes_of(&self.spans)
            + bytes_of(&self.traces)
            + bytes_of(&self.order)
            + self.by_id.allocation_size()
            + self.by_scope.allocation_size()
    }

    /// Number of spans.
    pub fn span_count(&self) -> usize {
        self.spans.len()
    }

    /// Number of traces.
    pub fn trace_count(&self) -> usize {
        self.traces.len()
    }

    /// Bytes by which rates count: those of the request as protobuf.
    pub fn byte_count(&self) -> u64 {
        self.body.len() as u64
    }

    /// Keys and texts of attributes that were cut.
    pub fn cut_text_count(&self) -> u64 {
        self.cut_texts
    }

    /// Why the request was refused as a whole, where that is for its ids: known also after the decode has failed.
    pub fn refused(&self) -> Option<RefusedSpans> {
        self.refused
    }

    /// The traces, in the order in which they came.
    pub fn traces(&self) -> impl ExactSizeIterator<Item = TraceView<'_>> {
        (0..self.traces.len()).map(|n| self.trace(n))
    }

    /// A trace, by its number.
    ///
    /// # Panics
    /// When there is none.
    pub fn trace(&self, n: usize) -> TraceView<'_> {
        let TracePlace {
            id,
            span_count,
            end,
        } = self.traces[n];
        TraceView {
            batch: self,
            id,
            spans: &self.order[(end - span_count) as usize..end as usize],
        }
    }

    fn bytes(&self, place: Place) -> &[u8] {
        let (start, len) = (place.start as usize, place.len as usize);
        match start.checked_sub(self.body_len as usize) {
            Some(behind) if len > 0 => &self.arena[behind..behind + len],
            _ => &self.body[start..start + len],
        }
    }

    fn scope_of(&self, span: u32) -> u32 {
        self.spans[span as usize].scope
    }

    fn resource_of(&self, span: u32) -> u32 {
        self.scopes[self.scope_of(span) as usize].resource
    }

    /// Puts the spans of each trace together, in the order of their scopes.
    pub(super) fn arrange(&mut self) {
        let mut from = 0;
        for trace in &mut self.traces {
            trace.end = from;
            from += trace.span_count;
        }
        self.order.resize(self.spans.len(), 0);
        for (n, span) in self.spans.iter().enumerate() {
            let trace = &mut self.traces[span.trace as usize];
            self.order[trace.end as usize] = n as u32;
            trace.end += 1;
        }
        for trace in &self.traces {
            let order =
                &mut self.order[(trace.end - trace.span_count) as usize..trace.end as usize];
            let scope = |n: &u32| self.spans[*n as usize].scope;
            if !order.is_sorted_by_key(scope) {
                order.sort_by_key(scope);
            }
        }
    }
}

/// The spans of a trace in a request.
#[derive(Debug, Clone, Copy)]
pub struct TraceView<'b> {
    batch: &'b PushBatch,
    id: TraceId,
    spans: &'b [u32],
}

/// A span, and what it lies in: the bytes of a `Resource`, an `InstrumentationScope` and a `Span`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanBytes<'b> {
    /// The resource.
    pub resource: &'b [u8],
    /// The scope.
    pub scope: &'b [u8],
    /// The span.
    pub span: &'b [u8],
}

impl<'b> TraceView<'b> {
    /// Its id.
    pub fn id(&self) -> TraceId {
        self.id
    }

    /// Number of its spans.
    pub fn span_count(&self) -> usize {
        self.spans.len()
    }

    /// Some of its spans, by their numbers.
    ///
    /// # Panics
    /// When there are not so many.
    #[must_use]
    pub fn part(&self, spans: Range<usize>) -> Self {
        Self {
            spans: &self.spans[spans],
            ..*self
        }
    }

    /// Its spans, those of a scope together, and the scopes of a resource.
    pub fn spans(&self) -> impl ExactSizeIterator<Item = SpanBytes<'b>> + use<'b> {
        let batch = self.batch;
        self.spans.iter().map(move |n| {
            let span = batch.spans[*n as usize];
            let scope = batch.scopes[span.scope as usize];
            SpanBytes {
                resource: batch.bytes(batch.resources[scope.resource as usize]),
                scope: batch.bytes(scope.message),
                span: batch.bytes(span.message),
            }
        })
    }

    /// Bytes that [`TraceView::encode`] appends.
    pub fn encoded_len(&self) -> usize {
        let groups = self.resources();
        groups
            .map(|group| field_len(self.resource_len(group)))
            .sum()
    }

    /// Appends the trace as protobuf: `Trace { repeated ResourceSpans = 1 }`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for group in self.resources() {
            put_header(out, 1, self.resource_len(group));
            put_bytes_field(out, 1, self.resource(group));
            for run in self.scopes(group) {
                put_header(out, 2, self.scope_len(run));
                put_bytes_field(out, 1, self.scope(run));
                for n in run {
                    put_bytes_field(
                        out,
                        2,
                        self.batch.bytes(self.batch.spans[*n as usize].message),
                    );
                }
            }
        }
    }

    /// Runs of spans of one resource.
    fn resources(&self) -> impl Iterator<Item = &'b [u32]> + use<'b> {
        let batch = self.batch;
        (self.spans).chunk_by(move |a, b| batch.resource_of(*a) == batch.resource_of(*b))
    }

    /// Runs of spans of one scope.
    fn scopes(&self, group: &'b [u32]) -> impl Iterator<Item = &'b [u32]> + use<'b> {
        let batch = self.batch;
        group.chunk_by(move |a, b| batch.scope_of(*a) == batch.scope_of(*b))
    }

    fn resource(&self, group: &[u32]) -> &'b [u8] {
        let resource = self.batch.resource_of(group[0]);
        self.batch.bytes(self.batch.resources[resource as usize])
    }

    fn scope(&self, run: &[u32]) -> &'b [u8] {
        let scope = self.batch.scope_of(run[0]);
        self.batch.bytes(self.batch.scopes[scope as usize].message)
    }

    fn resource_len(&self, group: &'b [u32]) -> usize {
        let scopes = self.scopes(group).map(|run| field_len(self.scope_len(run)));
        field_len(self.resource(group).len()) + scopes.sum::<usize>()
    }

    fn scope_len(&self, run: &[u32]) -> usize {
        let len = |n: &u32| field_len(self.batch.spans[*n as usize].message.len as usize);
        field_len(self.scope(run).len()) + run.iter().map(len).sum::<usize>()
    }
}

/// Bytes of a field with a tag of one byte.
fn field_len(len: usize) -> usize {
    1 + uvarint_len(len as u64) + len
}

fn put_header(out: &mut Vec<u8>, field: u64, len: usize) {
    put_uvarint(out, bytes_tag(field));
    put_uvarint(out, len as u64);
}
