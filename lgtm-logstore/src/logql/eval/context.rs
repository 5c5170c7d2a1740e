//! What all parts of one query share.

use std::sync::Arc;

use futures::future::{join, try_join_all};
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::{TenantId, TimestampNs, merge_warnings};
use parking_lot::Mutex;

use super::legs::LegAnswers;
use crate::logql::answer::QueryStats;
use crate::logql::plan_cache::PlanCache;
use crate::logql::query_error::Result;
use crate::logql::usage::{Charge, QueryUsage};
use crate::select::{
    CountWish, EntryBatch, EntryBatches, FetchBounds, Select, SelectRequest, StreamShard,
};

/// What all parts of one query share: where data come from, how much may be used, what was noticed.
#[derive(Debug)]
pub(crate) struct QueryContext {
    pub(crate) source: Arc<dyn Select>,
    pub(crate) tenant: TenantId,
    pub(crate) executor: Executor,
    pub(crate) cancel: CancelToken,
    pub(crate) usage: Arc<QueryUsage>,
    pub(crate) parallelism: usize,
    pub(crate) now_ns: TimestampNs,
    /// What one template may print.
    pub(crate) max_template_bytes: usize,
    pub(crate) plans: Arc<PlanCache>,
    pub(crate) bounds: FetchBounds,
    pub(crate) shard: Option<StreamShard>,
    pub(crate) is_range: bool,
    /// How much later than the millisecond of the grid an instant query is asked, nanoseconds.
    pub(crate) below_ms_ns: i64,
    pub(crate) approx_topk: bool,
    /// Of a query that was cut, what its legs gave.
    pub(crate) legs: LegAnswers,
    pub(crate) noticed: Mutex<Noticed>,
}

/// What is computed of one batch.
pub(super) type BatchJob<T> = Box<dyn FnOnce(&CancelToken) -> Result<T> + Send>;

/// What was noticed on the way.
#[derive(Debug, Default)]
pub(crate) struct Noticed {
    pub(crate) warnings: Vec<String>,
    pub(crate) stats: QueryStats,
}

impl QueryContext {
    pub(crate) fn charge(&self) -> Charge {
        Charge::none(&self.usage)
    }

    pub(super) async fn select(&self, request: SelectRequest) -> Result<Box<dyn EntryBatches>> {
        let request = request.bounds(self.bounds).shard(self.shard);
        Ok(self.source.select(&self.tenant, &request).await?)
    }

    /// The same, for who takes what was counted already in the place of entries.
    pub(super) async fn select_counted(
        &self,
        request: SelectRequest,
        wish: &CountWish,
    ) -> Result<Box<dyn EntryBatches>> {
        let request = request.bounds(self.bounds).shard(self.shard);
        let source = &self.source;
        Ok(source.select_counted(&self.tenant, &request, wish).await?)
    }

    /// Notes how a select ended.
    pub(super) fn note_end(&self, answer: &mut dyn EntryBatches) {
        let end = answer.end();
        let mut noticed = self.noticed.lock();
        merge_warnings(&mut noticed.warnings, end.warnings);
        noticed.stats.fetched = noticed.stats.fetched.plus(end.stats);
    }

    pub(super) fn note_passed(&self, lines: u64) {
        self.noticed.lock().stats.post_filter_lines += lines;
    }

    /// Runs `work` on the compute pool.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce(&CancelToken) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.executor.run(work, &self.cancel).await
    }

    /// Runs `work` over as many batches at a time as the query may, while the next ones are fetched, and hands what comes of each round
    /// to `take`, which says whether to go on.
    pub(super) async fn each_round<T: Send + 'static>(
        &self,
        answer: &mut dyn EntryBatches,
        mut job: impl FnMut(EntryBatch) -> BatchJob<T>,
        mut take: impl FnMut(Vec<T>, Option<TimestampNs>) -> Result<bool>,
    ) -> Result<()> {
        let width = self.parallelism.max(1);
        let (mut round, mut held) = self.fetch(answer, width).await?;
        while !round.is_empty() {
            let horizon = round.last().map(|b| b.horizon_ns);
            let jobs: Vec<_> = round.into_iter().map(|b| self.compute(job(b))).collect();
            let (done, next) = join(try_join_all(jobs), self.fetch(answer, width)).await;
            if !take(done?, horizon)? {
                break;
            }
            (round, held) = next?;
        }
        drop(held);
        Ok(())
    }

    /// Up to `width` batches, and what their blocks take.
    async fn fetch(
        &self,
        answer: &mut dyn EntryBatches,
        width: usize,
    ) -> Result<(Vec<EntryBatch>, Charge)> {
        let mut held = self.charge();
        let mut out = Vec::with_capacity(width);
        while out.len() < width {
            let Some(batch) = answer.next_batch().await? else {
                break;
            };
            held.grow(batch.blocks.iter().map(|b| b.block.memory_bytes()).sum())?;
            out.push(batch);
        }
        Ok((out, held))
    }
}
