//! The head as one of several replicas: its traces in the order of their ids, as of a moment, those of no interest left out.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::exec::{CancelToken, Executor, check_wanted};
use lgtm_core::model::TenantId;
use lgtm_core::{Error, Result};

use super::ordered::OrderedTraces;
use super::read::HeadTraces;
use super::select::HeadSelect;
use crate::scan::BatchFilter;
use crate::select::{
    BatchFiller, FetchStats, RECENT_BYTES, RecentRequest, RecentTrace, RecentTraces, SelectEnd,
    TraceRange,
};
use crate::trace::{Trace, TraceId, TraceSummary};

/// Bytes that a decoded trace may take for each byte of its protobuf, and at least.
const DECODED_FACTOR: usize = 32;
const DECODED_LEAST: usize = 1 << 20;
/// What is given up when nobody waits for it.
const READING: &str = "the reading of recent traces";

impl HeadSelect {
    /// What the head of a tenant has that is asked for. What is in the answer is fixed when this returns.
    ///
    /// # Errors
    /// `Unavailable` before the replay is done.
    pub async fn recent(
        &self,
        tenant: &TenantId,
        request: &RecentRequest,
    ) -> Result<Box<dyn RecentTraces>> {
        let executor = self.heads().executor.in_line(tenant.as_str());
        // It looks at each live trace.
        let (heads, of) = (Arc::clone(self.heads()), tenant.clone());
        let reader = heads.reader();
        let job = move |_: &CancelToken| heads.traces(&of, &reader);
        let traces = executor.run(job, &CancelToken::new()).await?;
        let range = request
            .range
            .map_or((0, u64::MAX), |r| (r.start_ns, r.end_ns));
        let answer = HeadAnswer {
            traces,
            ordered: OrderedTraces::new(range, request.behind),
            filter: (!request.is_for_all())
                .then(|| BatchFilter::new(request.filter.clone(), request.starts)),
            range: request.range,
            stats: FetchStats::default(),
        };
        Ok(Box::new(HeadRecent {
            answer: Some(answer),
            executor,
        }))
    }
}

/// What the head of a tenant had at a moment, read on the compute pool.
#[derive(Debug)]
struct HeadRecent {
    /// Away while it is read; then the call was dropped half way.
    answer: Option<HeadAnswer>,
    executor: Executor,
}

#[derive(Debug)]
struct HeadAnswer {
    traces: HeadTraces,
    ordered: OrderedTraces,
    /// `None` where every trace is wanted.
    filter: Option<BatchFilter>,
    range: Option<TraceRange>,
    stats: FetchStats,
}

impl HeadRecent {
    async fn on_pool<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&mut HeadAnswer, &CancelToken) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Some(mut answer) = self.answer.take() else {
            return Err(Error::Internal("an answer that failed was read on".into()));
        };
        let job = move |cancel: &CancelToken| {
            let done = job(&mut answer, cancel)?;
            Ok::<_, Error>((answer, done))
        };
        let (answer, done) = self.executor.run(job, &CancelToken::new()).await?;
        self.answer = Some(answer);
        Ok(done)
    }
}

impl HeadAnswer {
    fn next_traces(&mut self, cancel: &CancelToken) -> Result<Vec<RecentTrace>> {
        loop {
            let (mut some, mut bytes) = (Vec::new(), 0);
            while bytes < RECENT_BYTES {
                cancel.check(READING)?;
                let mut trace = Vec::new();
                let Some(id) = self.ordered.next_trace(&mut self.traces, &mut trace) else {
                    break;
                };
                bytes += trace.len();
                some.push(RecentTrace { id, bytes: trace });
            }
            if some.is_empty() {
                return Ok(some);
            }
            self.stats.inspected_traces += some.len() as u64;
            self.stats.inspected_bytes += bytes as u64;
            self.leave_out(&mut some)?;
            if !some.is_empty() {
                return Ok(some);
            }
        }
    }

    /// Leaves out traces of which nothing here passes.
    fn leave_out(&mut self, traces: &mut Vec<RecentTrace>) -> Result<()> {
        let Some(filter) = &self.filter else {
            return Ok(());
        };
        let mut filler = BatchFiller::new(filter.columns());
        let mut is_in_batch = Vec::with_capacity(traces.len());
        for RecentTrace { id, bytes } in traces.iter() {
            let max = bytes.len().saturating_mul(DECODED_FACTOR);
            let mut grow = |_| check_wanted(READING);
            let mut allowance = Allowance::new(max.max(DECODED_LEAST), &mut grow);
            let trace = Trace::decode(bytes, &mut allowance).map_err(|e| match e {
                DecodeFail::Broken(e) => Error::corrupt(format!("trace {id}"), e),
                DecodeFail::Refused(e) => e,
            })?;
            let summary = TraceSummary::of(&trace);
            let is_in =
                |r: TraceRange| summary.start_ns <= r.end_ns && r.start_ns <= summary.end_ns;
            let is_wanted = self.range.is_none_or(is_in);
            is_in_batch.push(is_wanted);
            if is_wanted {
                filler.push(*id, &trace, 0)?;
            }
        }
        let batch = filler.finish();
        self.stats.inspected_spans += batch.len() as u64;
        let mut passing = filter.traces(&batch).into_iter();
        let mut is_in_batch = is_in_batch.into_iter();
        traces.retain(|_| is_in_batch.next() == Some(true) && passing.next() == Some(true));
        Ok(())
    }
}

#[async_trait]
impl RecentTraces for HeadRecent {
    async fn next_traces(&mut self) -> Result<Vec<RecentTrace>> {
        self.on_pool(HeadAnswer::next_traces).await
    }

    async fn have(&mut self, ids: &[TraceId]) -> Result<Vec<bool>> {
        let ids = ids.to_vec();
        self.on_pool(move |answer, _| Ok(ids.iter().map(|id| answer.traces.has(*id)).collect()))
            .await
    }

    async fn whole_traces(&mut self, ids: &[TraceId]) -> Result<Vec<Vec<u8>>> {
        let ids = ids.to_vec();
        self.on_pool(move |answer, cancel| {
            let (mut out, mut bytes) = (Vec::new(), 0);
            for id in ids {
                cancel.check(READING)?;
                let mut trace = Vec::new();
                answer.traces.find(id, &mut trace);
                bytes += trace.len();
                out.push(trace);
                if bytes >= RECENT_BYTES {
                    break;
                }
            }
            Ok(out)
        })
        .await
    }

    fn end(&mut self) -> SelectEnd {
        let Some(answer) = &mut self.answer else {
            return SelectEnd::default();
        };
        SelectEnd {
            warnings: answer.traces.warnings(),
            stats: std::mem::take(&mut answer.stats),
        }
    }
}
