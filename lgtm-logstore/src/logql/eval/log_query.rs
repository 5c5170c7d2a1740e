//! Log queries: entries in the order of time, until there are enough.

use std::sync::Arc;

use lgtm_core::model::TimeRangeNs;

use super::context::{BatchJob, QueryContext};
use super::entry_list::EntryList;
use crate::logql::answer::AnswerStream;
use crate::logql::pipeline::PipelineScratch;
use crate::logql::plan::LogPlan;
use crate::logql::query_error::Result;
use crate::logql::usage::Charge;
use crate::select::{SelectHints, SelectOrder, SelectRequest};

/// Which entries of those that pass are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogBounds {
    pub(crate) newest_first: bool,
    pub(crate) limit: usize,
    /// Least distance of two entries; 0: none.
    pub(crate) interval_ns: i64,
}

/// Runs a log query.
pub(crate) async fn run_log_query(
    ctx: &Arc<QueryContext>,
    plan: Arc<LogPlan>,
    range: TimeRangeNs,
    bounds: LogBounds,
) -> Result<(Vec<AnswerStream>, Charge)> {
    let mut list = EntryList::new(bounds, ctx.charge());
    if range.is_empty() {
        return Ok(list.finish());
    }
    let order = if bounds.newest_first {
        SelectOrder::NewestFirst
    } else {
        SelectOrder::OldestFirst
    };
    let is_plain = plan.pipeline.as_ref().is_ok_and(|p| p.is_plain());
    let hints = SelectHints {
        entries: if is_plain && bounds.interval_ns == 0 {
            bounds.limit
        } else {
            0
        },
        ..plan
            .pipeline
            .as_ref()
            .map(|p| p.hints())
            .unwrap_or_default()
    };
    let request = SelectRequest::new(plan.matchers.clone(), range)
        .order(order)
        .hints(hints);
    let mut answer = ctx.select(request).await?;
    let worst = Arc::new(parking_lot::Mutex::new(None));
    let (job_ctx, job_worst) = (Arc::clone(ctx), Arc::clone(&worst));
    let job = move |batch| -> BatchJob<EntryList> {
        let (ctx, plan) = (Arc::clone(&job_ctx), Arc::clone(&plan));
        let worst = *job_worst.lock();
        Box::new(move |cancel| {
            let mut part = EntryList::new(bounds, ctx.charge());
            match &plan.pipeline {
                Ok(pipeline) => {
                    let mut scratch = PipelineScratch::at(ctx.now_ns);
                    part.fill(batch, pipeline, worst, &mut scratch, cancel)?;
                }
                Err(fault) => return Err(fault.clone().into()),
            }
            Ok(part)
        })
    };
    ctx.each_round(&mut *answer, job, |parts, horizon| {
        for part in parts {
            list.join(part)?;
        }
        *worst.lock() = list.worst_ns();
        Ok(!horizon.is_some_and(|h| list.is_settled(h)))
    })
    .await?;
    ctx.note_end(&mut *answer);
    ctx.note_passed(list.passed);
    Ok(list.finish())
}
