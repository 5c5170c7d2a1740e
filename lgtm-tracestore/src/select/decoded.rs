//! Batches out of whole traces: for holders that have no columns, and for blocks of which no more is known than their rows.

use async_trait::async_trait;
use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::merge_warnings;
use lgtm_core::{Error, Result};

use super::batch::SpanBatch;
use super::end::{FetchStats, SelectEnd};
use super::fill::BatchFiller;
use super::request::{SpanRequest, TraceRange, WantedColumns};
use super::select::{ReadyBatches, SpanBatches, WantedRows};
use crate::trace::{Trace, TraceId, TraceSummary};

/// Bytes of protobuf that become one batch, about.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes that a decoded trace may take for each byte of its protobuf, and at least: attributes of two bytes become fifty.
const DECODED_FACTOR: usize = 32;
const DECODED_LEAST: usize = 1 << 20;

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
            cancel.check("the reading of traces")?;
            let mut grow = |_| Ok(());
            let max = bytes
                .len()
                .saturating_mul(DECODED_FACTOR)
                .max(DECODED_LEAST);
            let mut allowance = Allowance::new(max, &mut grow);
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
        for row in &wanted.row_ids {
            let at = self.came.partition_point(|(first, ..)| first <= row);
            let known = at.checked_sub(1).map(|at| self.came[at]);
            let (first, id, place) = known.filter(|_| *row < self.next_row).ok_or_else(|| {
                Error::InvalidInput(format!("row {row} is in no batch that came"))
            })?;
            if first_rows.contains(&first) {
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
        ReadyBatches::new(vec![batch], SelectEnd::default())
            .rows(wanted)
            .await
    }

    fn newest_start_ns(&self) -> Option<u64> {
        self.reader.newest_start_ns()
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
