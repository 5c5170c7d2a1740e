//! A trace that spans still come in for.

use std::sync::Arc;

use lgtm_core::model::TimestampMs;

use super::run::Run;

/// A trace that spans still come in for, or that waits to be packed.
#[derive(Debug, Clone)]
pub(super) struct LiveTrace {
    /// Runs, see [`Run`]; resources and scopes by the numbers of the head. Readers share them: what comes afterwards goes into a copy.
    runs: Arc<Vec<u8>>,
    pub(super) span_count: u32,
    /// When its first spans came, and its last ones.
    pub(super) since_ms: TimestampMs,
    pub(super) touched_ms: TimestampMs,
}

impl LiveTrace {
    /// Without spans yet.
    pub(super) fn new(now_ms: TimestampMs) -> Self {
        Self {
            runs: Arc::default(),
            span_count: 0,
            since_ms: now_ms,
            touched_ms: now_ms,
        }
    }

    /// Appends a run.
    pub(super) fn push(&mut self, run: &Run<'_>, now_ms: TimestampMs) {
        run.put(Arc::make_mut(&mut self.runs));
        self.span_count += run.span_count;
        self.touched_ms = now_ms;
    }

    /// All of its runs.
    pub(super) fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        // We wrote them ourselves.
        Run::all(&self.runs).map_while(Result::ok)
    }

    /// Bytes that it takes, and that count for the bounds.
    pub(super) fn size_bytes(&self) -> usize {
        self.runs.len() + OVERHEAD
    }
}

/// What a trace takes beside its runs: its entries in two tables and a queue.
pub(super) const OVERHEAD: usize = 160;
