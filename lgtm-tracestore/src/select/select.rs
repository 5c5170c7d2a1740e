//! The traits, and batches as they pass through them.

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::TenantId;

use super::batch::SpanBatch;
use super::end::SelectEnd;
use super::pick::rows_of;
use super::request::{SpanRequest, TraceRange, WantedColumns};
use crate::trace::TraceId;

/// A holder of spans.
#[async_trait]
pub trait Select: std::fmt::Debug + Send + Sync + 'static {
    /// The spans that may pass the filter of the request. What is in the answer is fixed when this returns: whatever is moved, flushed or cleaned
    /// while it is read stays in it.
    ///
    /// # Errors
    /// `LimitExceeded` beyond the holder's bounds, `Unavailable` when it cannot answer at all. What it cannot read in part is a warning at the end.
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SpanRequest,
    ) -> Result<Box<dyn SpanBatches>>;
}

/// Batches of spans. Where the holder can, those of the newest traces come first.
#[async_trait]
pub trait SpanBatches: std::fmt::Debug + Send {
    /// The next batch; `None` at the end. Not cancel-safe: drop the whole answer instead.
    ///
    /// # Errors
    /// As [`Select::select`].
    async fn next_batch(&mut self) -> Result<Option<SpanBatch>>;

    /// More columns of rows that came already, a row for each that is wanted, in that order; each is a trace of its own. Not cancel-safe.
    ///
    /// # Errors
    /// As [`Select::select`]; `InvalidInput` for a row that never came.
    async fn rows(&mut self, wanted: &WantedRows) -> Result<SpanBatch>;

    /// When the newest of the traces began that are still to come, nanoseconds since the epoch; `None` where that is not known. Who wants the newest
    /// ones stops when nothing that is to come can be among them.
    fn newest_start_ns(&self) -> Option<u64> {
        None
    }

    /// Says that traces which began before `start_ns`, nanoseconds since the epoch, are of no interest any more: batches to come may leave them out.
    fn leave_out_before(&mut self, start_ns: u64) {
        let _ = start_ns;
    }

    /// In how many of these places parts of each of these traces lie, as of this answer: a block is a place, a head is one. It may be
    /// too many, as a filter of ids may let others through, never too few. What this answer leaves out for its filter counts too. Not cancel-safe.
    ///
    /// # Errors
    /// As [`Select::select`].
    async fn count_places(&mut self, traces: &[TraceSpot], places: Places) -> Result<Vec<u32>> {
        let count = u32::from(places != Places::Before);
        Ok(vec![count; traces.len()])
    }

    /// All that these places have of a trace, as of this answer: the protobuf message `Trace`, of several parts one after the other. Empty when there is
    /// nothing; what could not be read is a warning at the end. Not cancel-safe.
    ///
    /// # Errors
    /// As [`Select::select`].
    async fn whole_trace(&mut self, id: TraceId, places: Places) -> Result<Vec<u8>> {
        let _ = (id, places);
        Ok(Vec::new())
    }

    /// Says which traces will be asked for [whole](Self::whole_trace) next, the last of them first: who fetches them from elsewhere fetches several at once.
    fn announce_whole(&mut self, ids: &[TraceId]) {
        let _ = ids;
    }

    /// How the answer ended; what was read so far where the reader stops before the end.
    fn end(&mut self) -> SelectEnd;
}

/// Some places of a holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Places {
    /// All, those that the answer leaves out for the range of its request among them: they may have other parts of its traces.
    All,
    /// The one that the last batch came of.
    Current,
    /// Those that all batches have come of by then, without that one.
    Before,
}

/// A trace, and the time that matters of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceSpot {
    /// Which.
    pub id: TraceId,
    /// Only places that have spans of this time are of interest; all if there is none.
    pub range: Option<TraceRange>,
}

/// Rows that are looked at a second time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WantedRows {
    /// Their [`row_ids`](SpanBatch::row_ids).
    pub row_ids: Vec<u64>,
    /// What is wanted of them.
    pub columns: WantedColumns,
}

/// Batches that are in memory already, with all columns that anybody will ask for.
#[derive(Debug, Default)]
pub struct ReadyBatches {
    batches: Vec<SpanBatch>,
    next: usize,
    end: SelectEnd,
}

impl ReadyBatches {
    /// Hands out `batches` one by one, and `end` behind them.
    pub fn new(batches: Vec<SpanBatch>, end: SelectEnd) -> Self {
        Self {
            batches,
            next: 0,
            end,
        }
    }
}

#[async_trait]
impl SpanBatches for ReadyBatches {
    async fn next_batch(&mut self) -> Result<Option<SpanBatch>> {
        let batch = self.batches.get(self.next).cloned();
        self.next += 1;
        Ok(batch)
    }

    async fn rows(&mut self, wanted: &WantedRows) -> Result<SpanBatch> {
        rows_of(&self.batches, wanted, |id| {
            lgtm_core::Error::InvalidInput(format!("row {id} is in no batch that came"))
        })
    }

    fn newest_start_ns(&self) -> Option<u64> {
        let rest = self.batches.get(self.next..).unwrap_or_default();
        let starts = rest.iter().flat_map(|batch| &batch.traces);
        Some(starts.map(|trace| trace.start_ns).max().unwrap_or(0))
    }

    fn end(&mut self) -> SelectEnd {
        std::mem::take(&mut self.end)
    }
}
