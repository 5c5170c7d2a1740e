//! A push's way into memory and log.
//!
//! Piece by piece: room in the log first, then memory, then the record, which cannot be refused any more. What memory has is so never ahead of
//! what the log will write when the disk allows; the sender is answered when it has.

use std::ops::Range;
use std::sync::atomic::Ordering;

use lgtm_core::codec::protobuf::put_bytes_field;
use lgtm_core::model::{TenantId, TimestampMs};
use lgtm_core::wal::{Lsn, Reservation};
use lgtm_core::{Error, Result};

use super::head::{Head, SpansOf};
use super::heads::Heads;
use super::record::{RECORD_OVERHEAD, RUN_OVERHEAD, SpansRecord, kind};
use crate::limits::{Limits, PushPart, PushReport};
use crate::wire::{PushBatch, SpanBytes, SpanRule, TraceView};

/// Bytes of the log that one piece takes at most: a fraction of a millisecond of work, since spans of few bytes cost as much as large ones.
const PIECE_BYTES: u64 = 256 << 10;
/// Traces of one piece at most: each costs some time, however small it is.
const PIECE_TRACES: usize = 250;
/// Pieces whose buffers are kept, and the most that one keeps.
const MAX_SCRATCHES: usize = 8;
const KEPT_SCRATCH: usize = 4 << 20;

/// Buffers of the write path, kept from push to push.
#[derive(Debug, Default)]
pub(super) struct PushScratch {
    record: SpansRecord,
    spans: Vec<u8>,
}

/// A part of a push that is taken at once.
#[derive(Debug, Default)]
struct Piece {
    /// Numbers of traces, and of their spans.
    traces: Vec<(usize, Range<usize>)>,
    log_bytes: u64,
}

/// A push that is being taken.
struct Push<'a> {
    heads: &'a Heads,
    head: &'a Head,
    batch: &'a PushBatch,
    /// Numbers of the traces that are to be taken; `None` for all.
    wanted: Option<&'a [u32]>,
    limits: &'a Limits,
    now_ms: TimestampMs,
    /// Bytes in the log that one span may take.
    max_span_bytes: u64,
    /// Bytes in the log after which a piece ends.
    piece_bytes: u64,
}

impl Heads {
    /// Takes the spans of a push. When this returns, all that was taken is in the log as its sync policy says. Dropped or failed half way it may
    /// have been taken in part; sent again, copies of a span count once as soon as their trace is combined.
    ///
    /// What rules of trace or process refuse stands in the report.
    ///
    /// # Errors
    /// `Unavailable` before replay is done, while the log cannot be written or has no room, and while live traces take far more memory than
    /// they may.
    pub async fn push(
        &self,
        tenant: &TenantId,
        batch: &PushBatch,
        report: &mut PushReport,
    ) -> Result<()> {
        self.push_wanted(tenant, batch, None, report).await
    }

    /// As [`Heads::push`], of what an ingester is to take.
    ///
    /// # Errors
    /// As [`Heads::push`].
    pub async fn push_part(
        &self,
        tenant: &TenantId,
        part: &PushPart,
        report: &mut PushReport,
    ) -> Result<()> {
        let (batch, wanted) = (part.batch(), part.numbers());
        self.push_wanted(tenant, batch, wanted, report).await
    }

    async fn push_wanted(
        &self,
        tenant: &TenantId,
        batch: &PushBatch,
        wanted: Option<&[u32]>,
        report: &mut PushReport,
    ) -> Result<()> {
        self.check_open()?;
        self.check_memory().await?;
        let limits = self.limits.for_tenant(tenant);
        let head = self.get_or_create(tenant);
        let max_span_bytes = self.settings.wal.max_buffered.as_u64() / 2;
        let push = Push {
            heads: self,
            head: &head,
            batch,
            wanted,
            limits: &limits,
            now_ms: self.clock.now_ms(),
            max_span_bytes,
            piece_bytes: PIECE_BYTES.min(max_span_bytes),
        };
        let mut next = (0, 0);
        let mut lsn: Option<Lsn> = None;
        let mut is_first = true;
        loop {
            let piece = push.next_piece(&mut next, report);
            if piece.traces.is_empty() {
                break;
            }
            if !is_first {
                tokio::task::yield_now().await;
            }
            is_first = false;
            let mut room = self.wal.reserve(piece.log_bytes).await?;
            self.check_open()?;
            lsn = push.take(&piece, &mut room, report).or(lsn);
            drop(room);
            self.relieve().await?;
        }
        if let Some(lsn) = lsn {
            self.wal.commit(lsn).await?;
        }
        Ok(())
    }

    async fn check_memory(&self) -> Result<()> {
        if self.parts.capacity.is_exhausted() {
            self.relieve().await?;
            if self.parts.capacity.is_exhausted() {
                return Err(Error::Unavailable(format!(
                    "live traces take {} bytes, max_live_traces_bytes is {}",
                    self.parts.capacity.bytes(),
                    self.parts.capacity.max_bytes()
                )));
            }
        }
        Ok(())
    }
}

/// Bytes of a span in the log, resource and scope counted for each run.
fn log_bytes(span: &SpanBytes<'_>, before: Option<&SpanBytes<'_>>) -> u64 {
    let is_same = before.is_some_and(|b| {
        std::ptr::eq(b.scope, span.scope) && std::ptr::eq(b.resource, span.resource)
    });
    let run = if is_same {
        0
    } else {
        span.resource.len() + span.scope.len() + RUN_OVERHEAD
    };
    (span.span.len() + 6 + run) as u64
}

impl Push<'_> {
    fn trace_count(&self) -> usize {
        self.wanted.map_or(self.batch.trace_count(), <[u32]>::len)
    }

    /// The `n`th of those that are to be taken.
    fn trace(&self, n: usize) -> TraceView<'_> {
        let n = self.wanted.map_or(n, |wanted| wanted[n] as usize);
        self.batch.trace(n)
    }

    /// The next piece from `next` (number of the trace, and of its span) on, which moves behind it; empty at the end. Spans that the log could
    /// never take are refused.
    fn next_piece(&self, next: &mut (usize, usize), report: &mut PushReport) -> Piece {
        let mut piece = Piece {
            log_bytes: (RECORD_OVERHEAD + self.head.tenant.as_str().len()) as u64,
            ..Piece::default()
        };
        while next.0 < self.trace_count() && piece.traces.len() < PIECE_TRACES {
            let view = self.trace(next.0);
            let mut start = next.1;
            let mut before: Option<SpanBytes<'_>> = None;
            for span in view.part(start..view.span_count()).spans() {
                let size = log_bytes(&span, before.as_ref());
                if size > self.max_span_bytes {
                    if next.1 > start {
                        piece.traces.push((next.0, start..next.1));
                    }
                    report.refuse(SpanRule::SpanTooLarge, 1, || {
                        format!(
                            "a span of trace {} takes {size} bytes, at most {} go into the log",
                            view.id(),
                            self.max_span_bytes
                        )
                    });
                    next.1 += 1;
                    start = next.1;
                    before = None;
                    continue;
                }
                let is_empty = piece.traces.is_empty() && next.1 == start;
                if !is_empty && piece.log_bytes + size > self.piece_bytes {
                    if next.1 > start {
                        piece.traces.push((next.0, start..next.1));
                    }
                    return piece;
                }
                piece.log_bytes += size;
                next.1 += 1;
                before = Some(span);
            }
            if next.1 > start {
                piece.traces.push((next.0, start..next.1));
            }
            *next = (next.0 + 1, 0);
        }
        piece
    }

    /// Memory, then the log's buffer.
    fn take(
        &self,
        piece: &Piece,
        room: &mut Reservation<'_>,
        report: &mut PushReport,
    ) -> Option<Lsn> {
        let mut scratch = self.heads.scratch.lock().pop().unwrap_or_default();
        let gate = self.head.enter();
        let sequence = (self.head.parts.sequence).fetch_add(1, Ordering::AcqRel);
        scratch.record.begin(&self.head.tenant, sequence);
        for (trace, spans) in &piece.traces {
            self.take_trace(*trace, spans.clone(), &mut scratch, report);
        }
        let record = &scratch.record;
        let lsn = (!record.is_empty()).then(|| room.append_all(&[(kind::SPANS, record.bytes())]));
        drop(gate);
        let mut kept = self.heads.scratch.lock();
        let heap = scratch.record.heap_bytes() + scratch.spans.capacity();
        if kept.len() < MAX_SCRATCHES && heap <= KEPT_SCRATCH {
            kept.push(scratch);
        }
        lsn
    }

    /// Takes spans of one trace, all or none.
    fn take_trace(
        &self,
        number: usize,
        spans: Range<usize>,
        scratch: &mut PushScratch,
        report: &mut PushReport,
    ) {
        let view = self.trace(number);
        let id = view.id();
        let count = spans.len() as u64;
        let wanted = view.part(spans);
        let bytes: u64 = wanted.spans().map(|s| s.span.len() as u64).sum();
        let mut state = self.head.lock();
        let max = self.limits.global.max_bytes_per_trace.as_u64();
        if max > 0 && state.bytes_of(id) + bytes > max {
            report.refuse(SpanRule::TraceTooLarge, count, || {
                format!(
                    "trace {id} has {} bytes and {bytes} more came, max_bytes_per_trace is {max}",
                    state.bytes_of(id)
                )
            });
            return;
        }
        let max = self.limits.ingestion.max_traces_per_user;
        if max > 0 && state.live.len() as u64 >= max && !state.live.contains(id) {
            report.refuse(SpanRule::LiveTracesExceeded, count, || {
                format!("the tenant has {max} live traces, max_traces_per_user is {max}: trace {id} is not taken")
            });
            return;
        }
        let idle = self.heads.settings.max_trace_idle;
        let mut rest = wanted.spans().peekable();
        while let Some(first) = rest.next() {
            scratch.spans.clear();
            put_bytes_field(&mut scratch.spans, 2, first.span);
            let mut span_count = 1;
            let same = |s: &SpanBytes<'_>| {
                std::ptr::eq(s.scope, first.scope) && std::ptr::eq(s.resource, first.resource)
            };
            while let Some(span) = rest.next_if(same) {
                put_bytes_field(&mut scratch.spans, 2, span.span);
                span_count += 1;
            }
            let spans = SpansOf {
                resource: first.resource,
                scope: first.scope,
                span_count,
                spans: &scratch.spans,
            };
            let (run, grown) = state.append(id, &spans, self.now_ms, idle);
            self.head.parts.capacity.took(grown);
            (scratch.record).push(run, first.resource, first.scope);
        }
        drop(state);
        scratch.record.end_trace(id);
        report.spans += count;
        report.bytes += bytes;
    }
}
