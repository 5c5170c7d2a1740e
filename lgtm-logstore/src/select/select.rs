//! The traits, and entries as they pass through them.

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::{Labels, Listed, TenantId, TextSet, TimeRangeNs, TimestampNs};

use super::counts::{CountWish, StreamCounts};
use super::end::SelectEnd;
use super::request::SelectRequest;
use crate::entry::EntryBlock;

/// A holder of logs.
#[async_trait]
pub trait Select: std::fmt::Debug + Send + Sync + 'static {
    /// The entries of the streams that match. What is in the answer is fixed when this returns: whatever is moved, flushed or cleaned
    /// while it is read stays in it.
    ///
    /// # Errors
    /// `LimitExceeded` beyond the bounds of the request, `Unavailable` when the holder cannot answer at all. What it cannot read in
    /// part is a warning at the end.
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn EntryBatches>>;

    /// The same, for who only counts: what a holder has counted already may come as [counts](EntryBatches::next_counts) in the place of entries. Each
    /// entry is in one of the two. A holder that has counted nothing answers with entries only, as one that knows nothing of this does.
    ///
    /// # Errors
    /// As [`Select::select`].
    async fn select_counted(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
        _wish: &CountWish,
    ) -> Result<Box<dyn EntryBatches>> {
        self.select(tenant, request).await
    }

    /// The label sets that match and have entries in the range, in order.
    ///
    /// # Errors
    /// As [`Select::select`].
    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>>;

    /// Names of the labels of the streams that match.
    ///
    /// # Errors
    /// As [`Select::select`].
    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>>;

    /// Values of one label of the streams that match.
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

/// Batches of blocks of entries, in the order of the request.
///
/// No time stands in two blocks of one stream, whatever batches they are in, and no entry comes twice:
/// [`disjoint`](crate::entry::disjoint) makes blocks of several chunks so. In the order of time a batch may hold entries that belong
/// behind those of later batches; its [horizon](EntryBatch::horizon_ns) tells which.
#[async_trait]
pub trait EntryBatches: std::fmt::Debug + Send {
    /// The next batch; `None` at the end. Not cancel-safe: drop the whole answer instead.
    ///
    /// # Errors
    /// As [`Select::select`].
    async fn next_batch(&mut self) -> Result<Option<EntryBatch>>;

    /// Entries that were counted already, where that was [asked for](Select::select_counted): some streams at a time, `None` when there are no more.
    /// They may be asked for at any time. Not cancel-safe.
    ///
    /// # Errors
    /// As [`Select::select`].
    async fn next_counts(&mut self) -> Result<Option<Vec<StreamCounts>>> {
        Ok(None)
    }

    /// Times between which all entries lie that the answer can bring, where that is known before they are brought.
    fn times(&self) -> Option<TimeRangeNs> {
        None
    }

    /// How the answer ended; what was read so far where the reader stops before the end.
    fn end(&mut self) -> SelectEnd;
}

/// A block and the stream that it is of.
#[derive(Debug, Clone)]
pub struct StreamBlock {
    /// Labels of the stream; blocks of one stream share their memory.
    pub labels: Labels,
    /// Entries of it.
    pub block: EntryBlock,
}

/// Some blocks, a few MiB of them.
#[derive(Debug, Clone)]
pub struct EntryBatch {
    /// Blocks, in the order of the request.
    pub blocks: Vec<StreamBlock>,
    /// In the order of time: no entry of a later batch comes before it. Newest first, all that follows is older than it; oldest first, all
    /// that follows has this time or a later one. Stream by stream it says nothing.
    pub horizon_ns: TimestampNs,
}

/// Batches that are in memory already.
#[derive(Debug, Default)]
pub struct ReadyBatches {
    batches: std::vec::IntoIter<EntryBatch>,
    end: SelectEnd,
}

impl ReadyBatches {
    /// Hands out `batches` one by one, and `end` behind them.
    pub fn new(batches: Vec<EntryBatch>, end: SelectEnd) -> Self {
        Self {
            batches: batches.into_iter(),
            end,
        }
    }
}

#[async_trait]
impl EntryBatches for ReadyBatches {
    async fn next_batch(&mut self) -> Result<Option<EntryBatch>> {
        Ok(self.batches.next())
    }

    fn times(&self) -> Option<TimeRangeNs> {
        let blocks = self.batches.as_slice().iter().flat_map(|b| &b.blocks);
        let times = blocks.filter_map(|b| b.block.min_ns().zip(b.block.max_ns()));
        let all = times.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        let (min_ns, max_ns) = all.unwrap_or((0, -1));
        Some(TimeRangeNs::new(min_ns, max_ns.saturating_add(1)))
    }

    fn end(&mut self) -> SelectEnd {
        std::mem::take(&mut self.end)
    }
}
