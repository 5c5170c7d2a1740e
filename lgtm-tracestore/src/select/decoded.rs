//! Batches out of whole traces: for holders that have no columns, and for blocks of which no more is known than their rows.

use std::collections::HashSet;

use async_trait::async_trait;
use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::exec::{CancelToken, Executor, check_wanted};
use lgtm_core::model::merge_warnings;
use lgtm_core::{Error, Result};

use super::batch::SpanBatch;
use super::end::{FetchStats, SelectEnd};
use super::fill::BatchFiller;
use super::pick::pick_rows;
use super::request::{SpanRequest, TraceRange, WantedColumns};
use super::select::{Places, SpanBatches, TraceSpot, WantedRows};
use crate::trace::{Span, SpanId, Trace, TraceId, TraceSummary};

/// Bytes of protobuf that become one batch, about.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes that a decoded trace may take for each byte of its protobuf, and at least: attributes of two bytes become fifty.
const DECODED_FACTOR: usize = 32;
const DECODED_LEAST: usize = 1 << 20;
/// What is given up when nobody waits for it.
const READING: &str = "the reading of traces";

/// A trace, or what one place has of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceBytes {
    /// Which.
    pub id: TraceId,
    /// Where the reader found it, by a number of its own.
    pub place: u32,
    /// The protobuf message `Trace`.
    pub bytes: Vec<u8>,
}

/// Hands out whole traces, each once from each place.
#[async_trait]
pub trait TraceReader: std::fmt::Debug + Send + 'static {
    /// More traces: about `max_bytes` of them, or one. None at the end. Not cancel-safe.
    ///
    /// # Errors
    /// Those that end the answer. What cannot be read in part is a warning at the end.
    async fn next_traces(&mut self, max_bytes: usize) -> Result<Vec<TraceBytes>>;

    /// A trace that came from a place, again.
    ///
    /// # Errors
    /// As [`TraceReader::next_traces`].
    async fn find(&mut self, id: TraceId, place: u32) -> Result<Option<TraceBytes>>;

    /// See [`SpanBatches::newest_start_ns`].
    fn newest_start_ns(&self) -> Option<u64> {
        None
    }

    /// See [`SpanBatches::count_places`].
    ///
    /// # Errors
    /// As [`TraceReader::next_traces`].
    async fn count_places(&mut self, traces: &[TraceSpot], places: Places) -> Result<Vec<u32>>;

    /// See [`SpanBatches::whole_trace`].
    ///
    /// # Errors
    /// As [`TraceReader::next_traces`].
    async fn whole_trace(&mut self, id: TraceId, places: Places) -> Result<Vec<u8>>;

    /// See [`SpanBatches::announce_whole`].
    fn announce_whole(&mut self, ids: &[TraceId]) {
        let _ = ids;
    }

    /// How the answer ended.
    fn end(&mut self) -> SelectEnd;
}

/// Batches of the traces of a reader: all spans of each trace of the range, in the reader's order. Remembers each trace that came, in 32 bytes.
#[derive(Debug)]
pub struct DecodedBatches<R> {
    reader: R,
    executor: Executor,
    request: SpanRequest,
    /// The first row of each trace that came, ascending.
    came: Vec<(u64, TraceId, u32)>,
    next_row: u64,
    stats: FetchStats,
}

impl<R: TraceReader> DecodedBatches<R> {
    /// Of what `reader` hands out. Decodes on `executor`.
    pub fn new(reader: R, executor: Executor, request: &SpanRequest) -> Self {
        Self {
            reader,
            executor,
            request: request.clone(),
            came: Vec::new(),
            next_row: 0,
            stats: FetchStats::default(),
        }
    }
}

/// Whole traces as a batch, in this order; those that are outside of the range are left out. Copies of a span count once.
///
/// # Errors
/// `Corrupt` for bytes that are no trace; `LimitExceeded` for a trace that takes far more memory than its bytes.
pub(crate) async fn batch_of_traces(
    executor: &Executor,
    range: Option<TraceRange>,
    traces: Vec<(TraceId, Vec<u8>)>,
    columns: &WantedColumns,
) -> Result<SpanBatch> {
    let traces = traces.into_iter().map(|(id, bytes)| TraceBytes {
        id,
        place: 0,
        bytes,
    });
    let rows = FirstRows::From(0);
    fill(executor.clone(), range, traces.collect(), columns, rows).await
}

/// The spans of a trace that another part of it has not, as protobuf.
///
/// # Errors
/// As [`batch_of_traces`].
pub(crate) async fn without_copies_of(
    executor: &Executor,
    trace: Vec<u8>,
    other: Vec<u8>,
) -> Result<Vec<u8>> {
    let job = move |_: &CancelToken| {
        let known = Trace::decode(
            &other,
            &mut Allowance::new(max_decoded(&other), &mut |_| check_wanted(READING)),
        );
        let known = known.map_err(Error::from)?;
        let key = |span: &Span<'_>| (SpanId::from_any(span.span_id), span.kind);
        let known: HashSet<_> = known.spans().map(|(_, _, span)| key(span)).collect();
        let rest = Trace::decode(
            &trace,
            &mut Allowance::new(max_decoded(&trace), &mut |_| check_wanted(READING)),
        );
        let mut rest = rest.map_err(Error::from)?;
        for resource in &mut rest.resources {
            for scope in &mut resource.scopes {
                scope.spans.retain(|span| !known.contains(&key(span)));
            }
            resource.scopes.retain(|scope| !scope.spans.is_empty());
        }
        rest.resources
            .retain(|resource| !resource.scopes.is_empty());
        let mut out = Vec::new();
        rest.encode(&mut out);
        Ok::<_, Error>(out)
    };
    executor.run(job, &CancelToken::new()).await
}

/// Bytes that a trace may take when it is decoded.
fn max_decoded(bytes: &[u8]) -> usize {
    let max = bytes.len().saturating_mul(DECODED_FACTOR);
    max.max(DECODED_LEAST)
}

/// Which rows traces have.
enum FirstRows {
    /// One after the other, from this one on.
    From(u64),
    /// These.
    Of(Vec<u64>),
}

/// Decodes traces and fills a batch with those of the range, beginning with this row.
async fn fill(
    executor: Executor,
    range: Option<TraceRange>,
    traces: Vec<TraceBytes>,
    columns: &WantedColumns,
    first_rows: FirstRows,
) -> Result<SpanBatch> {
    let columns = columns.clone();
    let job = move |cancel: &CancelToken| {
        let mut filler = BatchFiller::new(columns);
        for (n, TraceBytes { id, bytes, .. }) in traces.iter().enumerate() {
            cancel.check(READING)?;
            let mut grow = |_| check_wanted(READING);
            let mut allowance = Allowance::new(max_decoded(bytes), &mut grow);
            let trace = Trace::decode(bytes, &mut allowance).map_err(|e| match e {
                DecodeFail::Broken(e) => Error::corrupt(format!("trace {id}"), e),
                DecodeFail::Refused(e) => e,
            })?;
            let mut trace = trace.without_copies();
            trace.rebatch();
            let summary = TraceSummary::of(&trace);
            let in_range =
                range.is_none_or(|r| summary.start_ns <= r.end_ns && r.start_ns <= summary.end_ns);
            let first_row = match &first_rows {
                FirstRows::From(row) => row + filler.len() as u64,
                FirstRows::Of(rows) => rows[n],
            };
            if in_range {
                filler.push(*id, &trace, first_row)?;
            }
        }
        Ok::<_, Error>(filler.finish())
    };
    executor.run(job, &CancelToken::new()).await
}

#[async_trait]
impl<R: TraceReader> SpanBatches for DecodedBatches<R> {
    async fn next_batch(&mut self) -> Result<Option<SpanBatch>> {
        loop {
            let traces = self.reader.next_traces(BATCH_BYTES).await?;
            if traces.is_empty() {
                return Ok(None);
            }
            self.stats.inspected_traces += traces.len() as u64;
            self.stats.inspected_bytes += traces.iter().map(|t| t.bytes.len() as u64).sum::<u64>();
            let rows = FirstRows::From(self.next_row);
            let mut places = traces
                .iter()
                .map(|t| (t.id, t.place))
                .collect::<Vec<_>>()
                .into_iter();
            let (executor, range) = (self.executor.clone(), self.request.traces);
            let batch = fill(executor, range, traces, &self.request.columns, rows).await?;
            self.stats.inspected_spans += batch.len() as u64;
            for (trace, rows) in batch.traces_and_rows() {
                // Some of those that were read are not in the batch; the order is the same.
                let place = places.find(|(id, _)| *id == trace.id);
                let first = self.next_row + rows.start as u64;
                self.came
                    .extend(place.map(|(id, place)| (first, id, place)));
            }
            self.next_row += batch.len() as u64;
            if !batch.is_empty() {
                return Ok(Some(batch));
            }
        }
    }

    async fn rows(&mut self, wanted: &WantedRows) -> Result<SpanBatch> {
        let (mut traces, mut first_rows) = (Vec::new(), Vec::new());
        let mut found_rows = HashSet::new();
        for row in &wanted.row_ids {
            let at = self.came.partition_point(|(first, ..)| first <= row);
            let known = at.checked_sub(1).map(|at| self.came[at]);
            let (first, id, place) = known.filter(|_| *row < self.next_row).ok_or_else(|| {
                Error::InvalidInput(format!("row {row} is in no batch that came"))
            })?;
            if !found_rows.insert(first) {
                continue;
            }
            let found = self.reader.find(id, place).await?;
            let found = found.ok_or_else(|| {
                Error::Unavailable(format!("trace {id} is gone while it is read"))
            })?;
            traces.push(found);
            first_rows.push(first);
        }
        let (executor, rows) = (self.executor.clone(), FirstRows::Of(first_rows));
        // Those that came were of the range.
        let batch = fill(executor, None, traces, &wanted.columns, rows).await?;
        pick_rows(&self.executor, vec![batch], wanted).await
    }

    fn newest_start_ns(&self) -> Option<u64> {
        self.reader.newest_start_ns()
    }

    async fn count_places(&mut self, traces: &[TraceSpot], places: Places) -> Result<Vec<u32>> {
        self.reader.count_places(traces, places).await
    }

    async fn whole_trace(&mut self, id: TraceId, places: Places) -> Result<Vec<u8>> {
        self.reader.whole_trace(id, places).await
    }

    fn announce_whole(&mut self, ids: &[TraceId]) {
        self.reader.announce_whole(ids);
    }

    fn end(&mut self) -> SelectEnd {
        let SelectEnd { warnings, stats } = self.reader.end();
        let mut end = SelectEnd {
            warnings: Vec::new(),
            stats: stats.plus(std::mem::take(&mut self.stats)),
        };
        merge_warnings(&mut end.warnings, warnings);
        end
    }
}
