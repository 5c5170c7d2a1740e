//! The traits, and batches as they pass through them.

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::TenantId;

use super::batch::SpanBatch;
use super::end::SelectEnd;
use super::pick::picked;
use super::request::{SpanRequest, WantedColumns};

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

    /// How the answer ended; what was read so far where the reader stops before the end.
    fn end(&mut self) -> SelectEnd;
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
        let of = |id: &u64| {
            let places = self.batches.iter().enumerate();
            let mut places = places.filter_map(|(n, batch)| {
                let row = batch.row_ids.iter().position(|known| known == id)?;
                Some((n, row))
            });
            places.next().ok_or_else(|| {
                lgtm_core::Error::InvalidInput(format!("row {id} is in no batch that came"))
            })
        };
        let places = wanted.row_ids.iter().map(of).collect::<Result<Vec<_>>>()?;
        picked(&self.batches, &places, &wanted.columns)
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
