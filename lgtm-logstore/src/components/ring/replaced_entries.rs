//! The entries of a holder of logs, and of another one in its place when it fails.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::model::{Labels, TenantId, TimeRangeNs, TimestampNs};
use lgtm_core::{Error, Result};
use lgtm_ring::replicas::is_terminal;
use parking_lot::Mutex;

use crate::select::{
    EntryBatch, EntryBatches, MergedEntries, Select, SelectEnd, SelectOrder, SelectRequest,
    StreamBlock,
};

/// Those of a set who were not needed for a quorum: any group of them makes up for one that fails.
#[derive(Debug)]
pub(super) struct Reserve {
    groups: Mutex<VecDeque<Vec<Arc<dyn Select>>>>,
    tenant: TenantId,
    request: SelectRequest,
}

impl Reserve {
    /// Groups of holders, each of which can answer `request` in the place of one that fails.
    pub(super) fn new(
        groups: impl IntoIterator<Item = Vec<Arc<dyn Select>>>,
        tenant: &TenantId,
        request: SelectRequest,
    ) -> Arc<Self> {
        Arc::new(Self {
            groups: Mutex::new(groups.into_iter().collect()),
            tenant: tenant.clone(),
            request,
        })
    }

    /// The answer of the next group that answers, of no other `times` than those that the one that failed had promised: elsewhere may have been counted
    /// what it did not have.
    ///
    /// # Errors
    /// `why` when nobody is left, or what no holder would answer.
    async fn open(&self, why: Error, times: Option<TimeRangeNs>) -> Result<Box<dyn EntryBatches>> {
        let mut request = self.request.clone();
        if let Some(times) = times {
            let range = &mut request.range;
            range.min_ns = range.min_ns.max(times.min_ns);
            range.max_ns = range.max_ns.min(times.max_ns);
        }
        loop {
            let Some(group) = self.groups.lock().pop_front() else {
                return Err(why);
            };
            let asked = group.iter().map(|h| h.select(&self.tenant, &request));
            match futures::future::try_join_all(asked).await {
                Ok(answers) => return Ok(Box::new(MergedEntries::new(answers, request.order))),
                Err(e) if is_terminal(&e) => return Err(e),
                Err(error) => tracing::debug!(%error, "a holder in reserve does not answer"),
            }
        }
    }
}

/// An answer that another holder goes on with when its own breaks off: what was handed out already is left out then. In the order of time nothing
/// beyond the horizon is handed out, so that this tells how far the answer has come.
#[derive(Debug)]
pub(super) struct ReplacedEntries {
    answer: Box<dyn EntryBatches>,
    /// The first batch, which came when the holder was asked; `None` in it is the end.
    first: Option<Option<EntryBatch>>,
    order: SelectOrder,
    times: Option<TimeRangeNs>,
    /// Stream by stream: the last stream that was handed out, and the time of its last entry.
    last: Option<(Labels, TimestampNs)>,
    /// By time: all before it was handed out.
    horizon_ns: Option<TimestampNs>,
    /// Entries behind it.
    held: Vec<StreamBlock>,
    /// Whether what was handed out comes again.
    is_replaced: bool,
    is_done: bool,
    reserve: Arc<Reserve>,
}

impl ReplacedEntries {
    /// `answer`, whose first batch is `first`, and which had `times` before that was taken.
    pub(super) fn new(
        first: Option<EntryBatch>,
        answer: Box<dyn EntryBatches>,
        times: Option<TimeRangeNs>,
        reserve: Arc<Reserve>,
    ) -> Self {
        Self {
            answer,
            first: Some(first),
            order: reserve.request.order,
            times,
            last: None,
            horizon_ns: None,
            held: Vec::new(),
            is_replaced: false,
            is_done: false,
            reserve,
        }
    }

    /// Some entries of a block, if there are any.
    fn some(b: &StreamBlock, entries: std::ops::Range<usize>) -> Option<StreamBlock> {
        (!entries.is_empty()).then(|| StreamBlock {
            labels: b.labels.clone(),
            block: b.block.slice(entries),
        })
    }

    /// Leaves out what was handed out before, where it comes stream by stream.
    fn behind_last(&self, blocks: Vec<StreamBlock>) -> Vec<StreamBlock> {
        let Some((labels, last_ns)) = self.last.as_ref().filter(|_| self.is_replaced) else {
            return blocks;
        };
        let left = blocks
            .into_iter()
            .filter_map(|b| match b.labels.cmp(labels) {
                std::cmp::Ordering::Less => None,
                std::cmp::Ordering::Greater => Some(b),
                std::cmp::Ordering::Equal => {
                    let known = b.block.times().partition_point(|t| t <= last_ns);
                    Self::some(&b, known..b.block.len())
                }
            });
        left.collect()
    }

    fn next_of_streams(&mut self, batch: EntryBatch) -> Option<EntryBatch> {
        let mut blocks = self.behind_last(batch.blocks);
        blocks.retain(|b| !b.block.is_empty());
        let last = blocks.last()?;
        self.last = Some((last.labels.clone(), last.block.max_ns()?));
        Some(EntryBatch {
            blocks,
            horizon_ns: batch.horizon_ns,
        })
    }

    /// Entries before a time, in the order, and those that are not.
    fn split(
        &self,
        b: &StreamBlock,
        t_ns: TimestampNs,
    ) -> (Option<StreamBlock>, Option<StreamBlock>) {
        let at = b.block.times().partition_point(|t| *t < t_ns);
        let (low, high) = (Self::some(b, 0..at), Self::some(b, at..b.block.len()));
        match self.order {
            SelectOrder::NewestFirst => (high, low),
            _ => (low, high),
        }
    }

    fn next_by_time(&mut self, batch: EntryBatch) -> Option<EntryBatch> {
        let (mut ready, mut held) = (Vec::new(), Vec::new());
        let known = self.horizon_ns.filter(|_| self.is_replaced);
        let new = batch.blocks.into_iter().filter_map(|b| match known {
            Some(known) => self.split(&b, known).1,
            None => Some(b),
        });
        let all: Vec<StreamBlock> = self.held.iter().cloned().chain(new).collect();
        for b in &all {
            let (now, later) = self.split(b, batch.horizon_ns);
            ready.extend(now);
            held.extend(later);
        }
        self.held = held;
        // A replacement begins anew, where all was handed out already.
        self.horizon_ns = Some(match (known, self.order) {
            (Some(known), SelectOrder::NewestFirst) => known.min(batch.horizon_ns),
            (Some(known), _) => known.max(batch.horizon_ns),
            (None, _) => batch.horizon_ns,
        });
        self.ready(ready, batch.horizon_ns)
    }

    fn ready(&self, mut blocks: Vec<StreamBlock>, horizon_ns: TimestampNs) -> Option<EntryBatch> {
        match self.order {
            SelectOrder::NewestFirst => blocks.sort_by_key(|b| std::cmp::Reverse(b.block.max_ns())),
            _ => blocks.sort_by_key(|b| b.block.min_ns()),
        }
        (!blocks.is_empty()).then_some(EntryBatch { blocks, horizon_ns })
    }
}

#[async_trait]
impl EntryBatches for ReplacedEntries {
    async fn next_batch(&mut self) -> Result<Option<EntryBatch>> {
        while !self.is_done {
            let next = match self.first.take() {
                Some(first) => Ok(first),
                None => self.answer.next_batch().await,
            };
            match next {
                Ok(Some(batch)) => {
                    let batch = match self.order {
                        SelectOrder::Streams => self.next_of_streams(batch),
                        _ => self.next_by_time(batch),
                    };
                    if batch.is_some() {
                        return Ok(batch);
                    }
                }
                Ok(None) => {
                    self.is_done = true;
                    let held = std::mem::take(&mut self.held);
                    let end = match self.order {
                        SelectOrder::NewestFirst => TimestampNs::MIN,
                        _ => TimestampNs::MAX,
                    };
                    return Ok(self.ready(held, end));
                }
                Err(e) if is_terminal(&e) => return Err(e),
                Err(error) => {
                    tracing::debug!(%error, "an answer broke off; another holder goes on with it");
                    self.held.clear();
                    self.answer = self.reserve.open(error, self.times).await?;
                    self.is_replaced = true;
                }
            }
        }
        Ok(None)
    }

    fn times(&self) -> Option<TimeRangeNs> {
        self.times
    }

    fn end(&mut self) -> SelectEnd {
        self.answer.end()
    }
}
