//! The head of one tenant: everything that is not in the object store yet.
//!
//! ```text
//! live traces (bytes as they came) ── idle or old ──> cut ── batch_bytes of them ──> batch: loose ──> packed ──> local file ──> flush
//! ```
//!
//! Spans are in memory before their record is in the log. Each record has a number; a checkpoint, which cuts the log first and looks at memory
//! afterwards, notes up to which number memory has all records, and replay passes over those that come again behind the cut.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use lgtm_core::exec::in_place;
use lgtm_core::model::{TenantId, TimestampMs};
use lgtm_core::wal::{BlobFiles, Generations};
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard};
use smallvec::SmallVec;

use super::block_window::{BlockWindow, first_start_ns};
use super::capacity::HeadCapacity;
use super::head_batch::{HeadBatch, HeadTables, LooseBatch};
use super::live_trace::{LiveTrace, OVERHEAD};
use super::live_traces::LiveTraces;
use super::run::Run;
use super::shared_bytes::SharedBytes;
use crate::trace::TraceId;

/// What all heads of a process share.
#[derive(Debug)]
pub(super) struct HeadParts {
    pub(super) files: BlobFiles,
    pub(super) capacity: HeadCapacity,
    pub(super) generations: Arc<Generations>,
    pub(super) batch_ids: AtomicU64,
    /// The number of the next record of the log.
    pub(super) sequence: AtomicU64,
}

impl HeadParts {
    pub(super) fn next_batch_id(&self) -> u64 {
        self.batch_ids.fetch_add(1, Ordering::Relaxed)
    }
}

/// The head of one tenant.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) tenant: TenantId,
    pub(super) parts: Arc<HeadParts>,
    /// Held for reading from the moment that spans go into memory until their record is in the log's buffer. Who holds it for writing finds
    /// in memory all records with numbers below [`HeadParts::sequence`], and no others.
    gate: RwLock<()>,
    state: Mutex<HeadState>,
}

/// What is known of a trace beside its live part.
#[derive(Debug, Default)]
pub(super) struct KnownTrace {
    /// Batches that have a part of it; one that has two stands once.
    pub(super) batches: SmallVec<[u64; 1]>,
    /// Bytes of it in all batches.
    pub(super) bytes: u64,
}

/// Spans of one resource and scope, as they came.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpansOf<'a> {
    pub(super) resource: &'a [u8],
    pub(super) scope: &'a [u8],
    pub(super) span_count: u32,
    /// Each behind the tag of field 2 and its length.
    pub(super) spans: &'a [u8],
}

/// The traces of a head.
#[derive(Debug)]
pub(super) struct HeadState {
    resources: SharedBytes,
    scopes: SharedBytes,
    pub(super) live: LiveTraces,
    live_bytes: usize,
    /// When to look at which live trace; one stands once. In the order of time, nearly.
    due: VecDeque<(TimestampMs, TraceId)>,
    /// Traces that were cut and wait to become a batch.
    pub(super) cut: Vec<(TraceId, LiveTrace)>,
    cut_bytes: usize,
    pub(super) batches: Vec<Arc<HeadBatch>>,
    /// What batches have, by trace.
    pub(super) known: HashMap<TraceId, KnownTrace>,
    /// Replay passes over records with lower numbers.
    pub(super) replayed_from: u64,
    /// When something was last appended.
    pub(super) touched_ms: TimestampMs,
}

impl Head {
    pub(super) fn new(tenant: TenantId, parts: Arc<HeadParts>, seed: u64) -> Self {
        Self {
            tenant,
            parts,
            gate: RwLock::default(),
            state: Mutex::new(HeadState {
                resources: SharedBytes::new(seed),
                scopes: SharedBytes::new(seed),
                live: LiveTraces::default(),
                live_bytes: 0,
                due: VecDeque::new(),
                cut: Vec::new(),
                cut_bytes: 0,
                batches: Vec::new(),
                known: HashMap::new(),
                replayed_from: 0,
                touched_ms: TimestampMs::EPOCH,
            }),
        }
    }

    /// Held while spans go into memory and their record into the log's buffer.
    pub(super) fn enter(&self) -> RwLockReadGuard<'_, ()> {
        let gate = self.gate.try_read();
        gate.unwrap_or_else(|| in_place(|| self.gate.read()))
    }

    /// Looks at memory at a moment when it has all records up to a number, which is given, and no others.
    pub(super) fn at_rest<T>(&self, look: impl FnOnce(&HeadState, u64) -> T) -> T {
        let _gate = self.gate.write();
        let sequence = self.parts.sequence.load(Ordering::Acquire);
        look(&self.state.lock(), sequence)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, HeadState> {
        let state = self.state.try_lock();
        state.unwrap_or_else(|| in_place(|| self.state.lock()))
    }
}

impl HeadState {
    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty() && self.cut.is_empty() && self.batches.is_empty()
    }

    /// Traces that are not packed yet.
    pub(super) fn loose_count(&self) -> usize {
        self.live.len() + self.cut.len()
    }

    /// Bytes of a trace that the head has.
    pub(super) fn bytes_of(&self, id: TraceId) -> u64 {
        let live = self.live.get(id).map_or(0, |t| t.size_bytes() as u64);
        live + self.known.get(&id).map_or(0, |k| k.bytes)
    }

    /// Appends spans of a trace, given as they stand in a `ScopeSpans`. Gives the run that was made of them, and the bytes that memory grew by.
    pub(super) fn append<'a>(
        &mut self,
        id: TraceId,
        spans: &SpansOf<'a>,
        now_ms: TimestampMs,
        idle: Duration,
    ) -> (Run<'a>, usize) {
        let before = self.shared_bytes();
        let run = Run {
            resource: self.resources.hold(spans.resource),
            scope: self.scopes.hold(spans.scope),
            span_count: spans.span_count,
            spans: spans.spans,
        };
        let shared = self.shared_bytes() - before;
        let mut grown = run.size_bytes();
        let due = &mut self.due;
        let trace = self.live.get_or_insert_with(id, || {
            grown += OVERHEAD;
            due.push_back((now_ms.saturating_add(millis(idle)), id));
            LiveTrace::new(now_ms)
        });
        trace.push(&run, now_ms);
        self.touched_ms = now_ms;
        self.live_bytes += grown;
        (run, grown + shared)
    }

    fn shared_bytes(&self) -> usize {
        self.resources.size_bytes() + self.scopes.size_bytes()
    }

    /// Cuts traces that got nothing for `idle` or began `live` ago.
    pub(super) fn cut_due(&mut self, now_ms: TimestampMs, idle: Duration, live: Duration) {
        let (idle, live) = (millis(idle), millis(live));
        while let Some(&(due_ms, id)) = self.due.front()
            && due_ms <= now_ms
        {
            self.due.pop_front();
            let Some(trace) = self.live.get(id) else {
                continue;
            };
            let idle_ms = trace.touched_ms.saturating_add(idle);
            let old_ms = trace.since_ms.saturating_add(live);
            let due_ms = idle_ms.min(old_ms);
            if due_ms <= now_ms {
                self.cut_one(id);
            } else {
                self.due.push_back((due_ms, id));
            }
        }
    }

    /// Cuts the traces that came first until so many bytes are left of them, or none.
    pub(super) fn cut_oldest(&mut self, mut excess: usize) {
        while excess > 0
            && let Some((_, id)) = self.due.pop_front()
        {
            let size = self.live.get(id).map_or(0, LiveTrace::size_bytes);
            self.cut_one(id);
            excess = excess.saturating_sub(size);
        }
    }

    /// Cuts all.
    pub(super) fn cut_all(&mut self) {
        self.cut_oldest(usize::MAX);
    }

    fn cut_one(&mut self, id: TraceId) {
        if let Some(trace) = self.live.remove(id) {
            self.live_bytes -= trace.size_bytes();
            self.cut_bytes += trace.size_bytes();
            self.cut.push((id, trace));
        }
    }

    /// What the numbers mean now.
    pub(super) fn tables(&self) -> HeadTables {
        HeadTables {
            resources: self.resources.all(),
            scopes: self.scopes.all(),
        }
    }

    /// Bytes of live traces.
    pub(super) fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    /// Bytes of traces that were cut and wait.
    pub(super) fn cut_bytes(&self) -> usize {
        self.cut_bytes
    }

    /// When the first trace came of those that were cut and wait.
    pub(super) fn cut_since_ms(&self) -> Option<TimestampMs> {
        self.cut.iter().map(|(_, trace)| trace.since_ms).min()
    }

    /// Makes batches of what was cut, to be packed: one of each window. None when nothing was.
    pub(super) fn begin_batches(&mut self, parts: &HeadParts) -> Vec<Arc<HeadBatch>> {
        let mut windows: BTreeMap<BlockWindow, Vec<(TraceId, LiveTrace)>> = BTreeMap::new();
        for (id, trace) in std::mem::take(&mut self.cut) {
            let first = trace.runs().next();
            let start_ns = first.and_then(|run| first_start_ns(run.spans)).unwrap_or(0);
            let window = BlockWindow::of(start_ns, trace.since_ms);
            windows.entry(window).or_default().push((id, trace));
        }
        self.cut_bytes = 0;
        let windows = windows.into_iter();
        windows
            .map(|(window, traces)| self.begin_batch(window, traces, parts))
            .collect()
    }

    fn begin_batch(
        &mut self,
        window: BlockWindow,
        mut traces: Vec<(TraceId, LiveTrace)>,
        parts: &HeadParts,
    ) -> Arc<HeadBatch> {
        let tables = self.tables();
        traces.sort_by_key(|(id, _)| *id);
        let id = parts.next_batch_id();
        let shared_bytes = self.shared_bytes();
        let mut since_ms = TimestampMs::MAX;
        let mut trace_bytes = 0;
        for (trace_id, trace) in &traces {
            since_ms = since_ms.min(trace.since_ms);
            trace_bytes += trace.size_bytes();
            for run in trace.runs() {
                self.resources.release(run.resource);
                self.scopes.release(run.scope);
            }
            let known = self.known.entry(*trace_id).or_default();
            known.bytes += trace.size_bytes() as u64;
            if !known.batches.contains(&id) {
                known.batches.push(id);
            }
        }
        let loose = LooseBatch {
            traces,
            tables,
            size_bytes: trace_bytes + shared_bytes - self.shared_bytes(),
        };
        let batch = Arc::new(HeadBatch::loose(id, since_ms, window, loose));
        self.batches.push(Arc::clone(&batch));
        batch
    }

    /// Adds a batch out of a checkpoint.
    pub(super) fn restore_batch(&mut self, batch: HeadBatch) {
        let id = batch.id;
        batch.for_each_id(|trace_id| {
            let known = self.known.entry(trace_id).or_default();
            if !known.batches.contains(&id) {
                known.batches.push(id);
            }
        });
        self.batches.push(Arc::new(batch));
    }

    /// Takes a batch out. Gives it unless it is gone already.
    pub(super) fn remove_batch(&mut self, id: u64) -> Option<Arc<HeadBatch>> {
        let at = self.batches.iter().position(|b| b.id == id)?;
        let batch = self.batches.remove(at);
        batch.for_each_id(|trace_id| {
            if let Some(known) = self.known.get_mut(&trace_id) {
                known.batches.retain(|b| *b != id);
                if known.batches.is_empty() {
                    self.known.remove(&trace_id);
                }
            }
        });
        Some(batch)
    }

    /// Heap bytes beside those of traces, nearly.
    pub(super) fn table_bytes(&self) -> usize {
        let known = size_of::<(TraceId, KnownTrace)>();
        self.shared_bytes() + self.known.capacity() * known
    }
}

/// A duration in milliseconds; saturates.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
