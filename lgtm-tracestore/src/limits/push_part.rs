//! What one ingester is to take of a push.

use std::sync::Arc;

use crate::wire::{PooledBatch, PushBatch, TraceView};

/// What one ingester is to take of a push: all its traces, or some. Owned, so that a push to a slow replica can outlive the request's caller; clones
/// share the batch, and the room that it is counted for, which are freed with the last of them. Plain data: sent elsewhere, it is these spans.
#[derive(Debug, Clone)]
pub struct PushPart {
    batch: Arc<PooledBatch>,
    /// Numbers of traces; `None` for all.
    traces: Option<Arc<[u32]>>,
}

impl PushPart {
    /// The whole batch.
    pub fn whole(batch: Arc<PooledBatch>) -> Self {
        Self {
            batch,
            traces: None,
        }
    }

    /// Some traces of a batch, by their numbers.
    ///
    /// # Panics
    /// When the batch has no such trace.
    pub fn of(batch: Arc<PooledBatch>, traces: Arc<[u32]>) -> Self {
        let count = batch.trace_count();
        assert!(
            traces.iter().all(|n| (*n as usize) < count),
            "the batch has {count} traces"
        );
        Self {
            batch,
            traces: Some(traces),
        }
    }

    /// Some of its traces, by their numbers in the batch.
    ///
    /// # Panics
    /// As [`PushPart::of`].
    #[must_use]
    pub fn only(&self, traces: Arc<[u32]>) -> Self {
        Self::of(Arc::clone(&self.batch), traces)
    }

    /// Number of spans that are to be taken.
    pub fn span_count(&self) -> u64 {
        self.traces().map(|t| t.span_count() as u64).sum()
    }

    /// Bytes of these, as protobuf. Costs a look at each.
    pub fn span_bytes(&self) -> u64 {
        let spans = self.traces().flat_map(|t| t.spans());
        spans.map(|s| s.span.len() as u64).sum()
    }

    /// The push.
    pub fn batch(&self) -> &PushBatch {
        &self.batch
    }

    /// Numbers of the traces that are to be taken; `None` for all.
    pub fn numbers(&self) -> Option<&[u32]> {
        self.traces.as_deref()
    }

    /// Number of traces that are to be taken.
    pub fn trace_count(&self) -> usize {
        match &self.traces {
            Some(traces) => traces.len(),
            None => self.batch.trace_count(),
        }
    }

    /// The traces that are to be taken.
    pub fn traces(&self) -> impl ExactSizeIterator<Item = TraceView<'_>> {
        (0..self.trace_count()).map(|n| {
            let n = self.traces.as_ref().map_or(n, |traces| traces[n] as usize);
            self.batch.trace(n)
        })
    }
}
