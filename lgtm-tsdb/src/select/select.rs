//! The traits, and series as they pass through them.

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::{Labels, Listed, TenantId, TextSet};
use smallvec::SmallVec;

use super::end::{FetchStats, SelectEnd};
use super::request::SelectRequest;
use crate::chunk::Chunk;

/// A holder of metrics.
#[async_trait]
pub trait Select: std::fmt::Debug + Send + Sync + 'static {
    /// The series that match, with their chunks. What is in the answer is fixed when this returns: whatever is moved, flushed or
    /// cleaned while it is read stays in it.
    ///
    /// # Errors
    /// `LimitExceeded` beyond the bounds of the request, `Unavailable` when the holder cannot answer at all. What it cannot read in
    /// part is a warning at the end.
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn SeriesBatches>>;

    /// Whether the holder may have anything for the request, as far as it knows at once: `false` is for sure. Looks at the range, not at
    /// the matchers, and waits for nothing.
    fn may_hold(&self, _tenant: &TenantId, _request: &SelectRequest) -> bool {
        true
    }

    /// The label sets that match and have data in the range, in order.
    ///
    /// # Errors
    /// As [`Select::select`].
    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>>;

    /// Names of the labels of the series that match.
    ///
    /// # Errors
    /// As [`Select::select`].
    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>>;

    /// Values of one label of the series that match.
    ///
    /// # Errors
    /// As [`Select::select`].
    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>>;
}

/// Batches of series in label order; in any order when the request looks at some labels only.
#[async_trait]
pub trait SeriesBatches: std::fmt::Debug + Send {
    /// The next batch; `None` at the end. Not cancel-safe: drop the whole stream instead.
    ///
    /// # Errors
    /// As [`Select::select`].
    async fn next_batch(&mut self) -> Result<Option<Vec<SeriesChunks>>>;

    /// How the answer ended; meaningful once [`SeriesBatches::next_batch`] gave `None`.
    fn end(&mut self) -> SelectEnd;
}

/// Batches of label sets, in no particular order.
#[async_trait]
pub trait LabelBatches: std::fmt::Debug + Send {
    /// The next batch; `None` at the end. Not cancel-safe: drop the whole stream instead.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn next_batch(&mut self) -> Result<Option<Vec<Labels>>>;
}

/// Chunks of one series. A few stand in place: most series have one chunk, or one on each side of a block's end.
pub type ChunkList = SmallVec<[Chunk; 2]>;

/// A series and its chunks that overlap the range asked for, in no particular order.
#[derive(Debug, Clone)]
pub struct SeriesChunks {
    /// Labels of the series.
    pub labels: Labels,
    /// Chunks; they may overlap in time.
    pub chunks: ChunkList,
}

/// Batches that are in memory already.
#[derive(Debug, Default)]
pub struct ReadyBatches {
    batches: std::vec::IntoIter<Vec<SeriesChunks>>,
    end: SelectEnd,
}

impl ReadyBatches {
    /// Hands out `batches` one by one.
    pub fn new(batches: Vec<Vec<SeriesChunks>>) -> Self {
        Self {
            batches: batches.into_iter(),
            end: SelectEnd::default(),
        }
    }
}

#[async_trait]
impl SeriesBatches for ReadyBatches {
    async fn next_batch(&mut self) -> Result<Option<Vec<SeriesChunks>>> {
        let batch = self.batches.next();
        if let Some(batch) = &batch {
            self.end.stats = self.end.stats.plus(FetchStats::of(batch));
        }
        Ok(batch)
    }

    fn end(&mut self) -> SelectEnd {
        std::mem::take(&mut self.end)
    }
}
