//! The head as a holder of spans.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::TenantId;
use lgtm_core::wal::Snapshot;
use lgtm_core::{Error, Result};

use super::heads::Heads;
use super::read::{HeadTraces, NsRange};
use crate::select::{
    DecodedBatches, Places, Select, SelectEnd, SpanBatches, SpanRequest, TraceBytes, TraceReader,
    TraceSpot,
};
use crate::trace::TraceId;

/// So many looks for a trace in a part of the head cost less than a hand-over to the compute pool.
const INLINE_LOOKS: usize = 200;

/// Answers selects from the heads of a process. Traces are decoded as they are read, since the head keeps them as the bytes that came.
#[derive(Debug, Clone)]
pub struct HeadSelect {
    heads: Arc<Heads>,
}

impl HeadSelect {
    /// A holder of what `heads` have.
    pub fn new(heads: Arc<Heads>) -> Self {
        Self { heads }
    }

    pub(super) fn heads(&self) -> &Arc<Heads> {
        &self.heads
    }

    /// As [`Select::select`], as of a snapshot that was [taken](Heads::reader) before the list of blocks was.
    ///
    /// # Errors
    /// `Unavailable` before the replay is done.
    pub async fn select_as_of(
        &self,
        reader: &Arc<Snapshot>,
        tenant: &TenantId,
        request: &SpanRequest,
    ) -> Result<Box<dyn SpanBatches>> {
        let executor = self.heads.executor.in_line(tenant.as_str());
        let range = request.traces.map(|r| (r.start_ns, r.end_ns));
        // It looks at each live trace.
        let (heads, of, as_of) = (Arc::clone(&self.heads), tenant.clone(), Arc::clone(reader));
        let job = move |_: &CancelToken| heads.traces(&of, &as_of);
        let traces = executor.run(job, &CancelToken::new()).await?;
        let reader = HeadReader {
            traces: Some(traces),
            executor: executor.clone(),
            range: range.unwrap_or((0, u64::MAX)),
        };
        Ok(Box::new(DecodedBatches::new(reader, executor, request)))
    }
}

impl HeadSelect {
    /// All that the head of a tenant has of a trace, as the protobuf message `Trace`; empty when it has nothing. And what could not be read.
    ///
    /// # Errors
    /// `Unavailable` before the replay is done.
    pub async fn find(&self, tenant: &TenantId, id: TraceId) -> Result<(Vec<u8>, Vec<String>)> {
        let executor = self.heads.executor.in_line(tenant.as_str());
        let (heads, of) = (Arc::clone(&self.heads), tenant.clone());
        let job = move |_: &CancelToken| {
            let mut traces = heads.traces_of_id(&of, &heads.reader(), id)?;
            let mut bytes = Vec::new();
            traces.find(id, &mut bytes);
            Ok::<_, Error>((bytes, traces.warnings()))
        };
        executor.run(job, &CancelToken::new()).await
    }
}

#[async_trait]
impl Select for HeadSelect {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SpanRequest,
    ) -> Result<Box<dyn SpanBatches>> {
        self.select_as_of(&self.heads.reader(), tenant, request)
            .await
    }
}

/// Reads the traces of a head on the compute pool.
#[derive(Debug)]
struct HeadReader {
    /// Away while they are read; then the answer was dropped half way.
    traces: Option<HeadTraces>,
    executor: Executor,
    range: NsRange,
}

impl HeadReader {
    async fn on_pool<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&mut HeadTraces, NsRange) -> T + Send + 'static,
    ) -> Result<T> {
        let Some(mut traces) = self.traces.take() else {
            return Err(Error::Internal("an answer that failed was read on".into()));
        };
        let range = self.range;
        let job = move |_: &CancelToken| {
            let done = job(&mut traces, range);
            Ok::<_, Error>((traces, done))
        };
        let (traces, done) = self.executor.run(job, &CancelToken::new()).await?;
        self.traces = Some(traces);
        Ok(done)
    }
}

#[async_trait]
impl TraceReader for HeadReader {
    async fn next_traces(&mut self, max_bytes: usize) -> Result<Vec<TraceBytes>> {
        if self
            .traces
            .as_ref()
            .is_some_and(|traces| traces.place_count() == 0)
        {
            return Ok(Vec::new());
        }
        self.on_pool(move |traces, range| {
            let (mut out, mut bytes) = (Vec::new(), 0);
            while bytes < max_bytes {
                let mut trace = Vec::new();
                let Some(id) = traces.next_trace(range, &mut trace) else {
                    break;
                };
                bytes += trace.len();
                out.push(TraceBytes {
                    id,
                    place: 0,
                    bytes: trace,
                });
            }
            out
        })
        .await
    }

    async fn find(&mut self, id: TraceId, place: u32) -> Result<Option<TraceBytes>> {
        self.on_pool(move |traces, _| {
            let mut bytes = Vec::new();
            let is_there = traces.find(id, &mut bytes);
            is_there.then_some(TraceBytes { id, place, bytes })
        })
        .await
    }

    async fn count_places(&mut self, traces: &[TraceSpot], places: Places) -> Result<Vec<u32>> {
        let looked_in = self.traces.as_ref().map_or(0, HeadTraces::place_count);
        if places == Places::Before || looked_in == 0 {
            return Ok(vec![0; traces.len()]);
        }
        if let Some(head) = self
            .traces
            .as_ref()
            .filter(|_| traces.len() * looked_in <= INLINE_LOOKS)
        {
            let counts = traces.iter().map(|t| u32::from(head.has(t.id)));
            return Ok(counts.collect());
        }
        let ids: Vec<TraceId> = traces.iter().map(|t| t.id).collect();
        self.on_pool(move |traces, _| {
            let counts = ids.iter().map(|id| u32::from(traces.has(*id)));
            counts.collect()
        })
        .await
    }

    async fn whole_trace(&mut self, id: TraceId, places: Places) -> Result<Vec<u8>> {
        if places == Places::Before {
            return Ok(Vec::new());
        }
        Ok(self.find(id, 0).await?.map_or_else(Vec::new, |t| t.bytes))
    }

    fn end(&mut self) -> SelectEnd {
        SelectEnd {
            warnings: self
                .traces
                .as_mut()
                .map_or_else(Vec::new, HeadTraces::warnings),
            ..SelectEnd::default()
        }
    }
}
