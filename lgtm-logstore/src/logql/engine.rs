//! Running queries: plan, evaluate, within bounds.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use lgtm_core::clock::Clock;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::limits::{AnswerMemory, QueryMemory};
use lgtm_core::model::TenantId;
use lgtm_core::vector::{GridSeries, StepGrid, is_gap};
use lgtm_core::{Error, model::Labels};
use parking_lot::Mutex;

use super::answer::{Answer, Point, QueryValue, Series};
use super::ast::{Expr, MetricExpr, VectorOp};
use super::eval::{
    Evaluated, LegAnswers, LogBounds, QueryContext, evaluate, run_log_query, sort_series,
};
use super::query::{Direction, MaxSeries, Query, QueryTime};
use super::query_error::{QueryError, Result};
use super::settings::EngineSettings;
use super::usage::{Charge, QueryUsage};
use crate::select::Select;

/// What an engine has done.
#[derive(Debug, Default)]
pub struct EngineCounts {
    /// Queries begun.
    pub queries: AtomicU64,
    /// Queries that ended with an error.
    pub failed: AtomicU64,
    /// Queries that ran into a fault of this program.
    pub panicked: AtomicU64,
    /// Lines that queries looked at.
    pub lines: AtomicU64,
    /// Bytes that queries looked at.
    pub bytes: AtomicU64,
}

/// Runs queries over a holder of logs. Clones share counts and the bound on memory.
///
/// What takes longer than a moment runs on the compute pool, in the line of its tenant. Dropping the future of a query stops it: batches
/// that wait never start, one that runs ends after an entry.
#[derive(Debug, Clone)]
pub struct Engine {
    source: Arc<dyn Select>,
    executor: Executor,
    clock: Arc<dyn Clock>,
    settings: EngineSettings,
    memory: Arc<QueryMemory>,
    counts: Arc<EngineCounts>,
}

impl Engine {
    /// An engine over `source`, which computes on `executor`.
    ///
    /// # Errors
    /// `InvalidInput` for settings that make no sense.
    pub fn new(
        source: Arc<dyn Select>,
        executor: Executor,
        clock: Arc<dyn Clock>,
        settings: EngineSettings,
    ) -> lgtm_core::Result<Self> {
        settings.validate()?;
        Ok(Self {
            source,
            executor,
            clock,
            memory: QueryMemory::new(
                settings.max_memory_total.as_u64(),
                "logs.querier.max_memory_total",
            ),
            settings,
            counts: Arc::default(),
        })
    }

    /// The same engine over another holder of logs.
    #[must_use]
    pub fn over(&self, source: Arc<dyn Select>) -> Self {
        Self {
            source,
            ..self.clone()
        }
    }

    /// The settings.
    pub fn settings(&self) -> &EngineSettings {
        &self.settings
    }

    /// Where it computes.
    pub fn executor(&self) -> &Executor {
        &self.executor
    }

    /// What all queries hold.
    pub fn memory(&self) -> &QueryMemory {
        &self.memory
    }

    /// Counts what of an answer is not counted yet.
    ///
    /// # Errors
    /// `Unavailable` when all queries together hold what they may.
    pub(crate) fn count_answer(&self, answer: &mut Answer) -> Result<()> {
        let bytes = answer.value.size_bytes();
        if let Some(more) = bytes.checked_sub(answer.memory.bytes()) {
            answer
                .memory
                .join(&AnswerMemory::of(self.memory.hold(more)?));
        }
        Ok(())
    }

    /// What was done so far.
    pub fn counts(&self) -> &EngineCounts {
        &self.counts
    }

    /// Answers a query.
    ///
    /// # Errors
    /// Those of [`QueryError`]; `Invalid` too for a log query at one time.
    pub async fn query(&self, tenant: &TenantId, query: &Query) -> Result<Answer> {
        self.run(tenant, query, Arc::default()).await
    }

    /// Evaluates a query that was cut over what its legs gave.
    ///
    /// # Errors
    /// As [`Engine::query`].
    pub(crate) async fn join(
        &self,
        tenant: &TenantId,
        outer: &Query,
        legs: LegAnswers,
    ) -> Result<Answer> {
        self.run(tenant, outer, legs).await
    }

    async fn run(&self, tenant: &TenantId, query: &Query, legs: LegAnswers) -> Result<Answer> {
        self.counts.queries.fetch_add(1, Ordering::Relaxed);
        let limit = self.settings.timeout;
        let after = query.options.timeout.map_or(limit, |t| t.min(limit));
        let work = async {
            match tokio::time::timeout(after, self.answer(tenant, query, legs)).await {
                Ok(answer) => answer,
                Err(_) => Err(QueryError::TimedOut),
            }
        };
        // A fault in one query must not take others with it; those on the compute pool are caught there.
        let answer = AssertUnwindSafe(work)
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(self.panicked()));
        match &answer {
            Ok(a) => {
                self.counts
                    .lines
                    .fetch_add(a.stats.fetched.lines(), Ordering::Relaxed);
                self.counts
                    .bytes
                    .fetch_add(a.stats.fetched.bytes(), Ordering::Relaxed);
            }
            Err(e) => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                if let QueryError::Source(Error::Internal(message)) = e {
                    tracing::error!(%tenant, query = query.text(), message, "query failed");
                }
            }
        }
        answer
    }

    fn panicked(&self) -> QueryError {
        self.counts.panicked.fetch_add(1, Ordering::Relaxed);
        QueryError::Source(Error::Internal("the query panicked".into()))
    }

    fn context(&self, tenant: &TenantId, query: &Query, legs: LegAnswers) -> Arc<QueryContext> {
        let now_ms = self.clock.now_ms();
        Arc::new(QueryContext {
            source: Arc::clone(&self.source),
            tenant: tenant.clone(),
            executor: self.executor.in_line(tenant.as_str()),
            cancel: CancelToken::new(),
            usage: QueryUsage::new(Arc::clone(&self.memory), self.settings.max_memory.as_u64()),
            parallelism: self.settings.parallelism,
            now_ns: now_ms.to_ns(),
            max_template_bytes: self.settings.max_template_bytes.as_usize(),
            plans: Arc::clone(&query.plans),
            bounds: query.options.bounds,
            shard: query.options.shard,
            is_range: query.is_range(),
            below_ms_ns: query.below_ms_ns(),
            approx_topk: self.settings.approx_topk,
            legs,
            noticed: Mutex::default(),
        })
    }

    async fn answer(&self, tenant: &TenantId, query: &Query, legs: LegAnswers) -> Result<Answer> {
        let begin = tokio::time::Instant::now();
        let ctx = self.context(tenant, query, legs);
        let _stop_when_dropped = ctx.cancel.cancel_on_drop();
        let (value, charge) = match (&*query.expr, query.time) {
            (Expr::Metric(metric), _) => self.metric(&ctx, metric, query).await?,
            (Expr::Log(_), QueryTime::Instant(_)) => {
                return Err(QueryError::log_query_at_one_time());
            }
            (Expr::Log(log), QueryTime::Range(range)) => {
                let bounds = LogBounds {
                    newest_first: range.direction == Direction::Backward,
                    limit: range.limit,
                    interval_ns: range.interval_ns,
                };
                let plan = ctx.plans.of_log(&ctx, log).await?;
                let found = run_log_query(&ctx, plan, range.entries(), bounds).await?;
                (QueryValue::Streams(found.0), found.1)
            }
        };
        let noticed = std::mem::take(&mut *ctx.noticed.lock());
        let mut stats = noticed.stats;
        stats.peak_bytes = ctx.usage.peak_bytes();
        stats.elapsed = begin.elapsed();
        stats.entries_returned = value.len() as u64;
        Ok(Answer {
            value,
            warnings: noticed.warnings,
            stats,
            memory: AnswerMemory::of(charge.into_hold()),
        })
    }

    async fn metric(
        &self,
        ctx: &Arc<QueryContext>,
        expr: &MetricExpr,
        query: &Query,
    ) -> Result<(QueryValue, Charge)> {
        let (grid, is_range) = (query.grid(), query.is_range());
        // Steps that were moved outwards are up to two more than were asked for.
        if grid.len() > self.settings.max_steps.saturating_add(3) {
            return Err(QueryError::too_many_steps());
        }
        let mut charge = Charge::none(&ctx.usage);
        let evaluated = evaluate(ctx, expr, grid, &mut charge).await?;
        let mut vector = match (evaluated, is_range) {
            (Evaluated::Scalar(value), false) => {
                let t_ms = grid.start_ms();
                return Ok((QueryValue::Scalar(Point { t_ms, value }), charge));
            }
            (Evaluated::Scalar(value), true) => vec![GridSeries {
                labels: Labels::empty(),
                cells: vec![value; grid.len()],
            }],
            (Evaluated::Vector(vector), _) => vector,
        };
        let max = self.max_series(query.options.max_series);
        if max > 0 && vector.len() > max {
            return Err(QueryError::too_many_series(max));
        }
        let sorts = is_range || !is_ordered(expr);
        let points = vector.len() as u64 * grid.len() as u64;
        charge.grow(points * size_of::<Point>() as u64)?;
        let finish = move |_: &_| {
            if sorts {
                sort_series(&mut vector);
            }
            Ok(vector.into_iter().map(|s| series_of(s, &grid)).collect())
        };
        let series = ctx.compute(finish).await?;
        Ok(if is_range {
            (QueryValue::Matrix(series), charge)
        } else {
            (QueryValue::Vector(series), charge)
        })
    }

    /// Series that an answer may have; 0: any number.
    pub(crate) fn max_series(&self, wanted: MaxSeries) -> usize {
        match (wanted, self.settings.max_series) {
            (MaxSeries::Any, _) => 0,
            (MaxSeries::AtMost(own), 0) => own,
            (MaxSeries::AtMost(0) | MaxSeries::Engine, all) => all,
            (MaxSeries::AtMost(own), all) => own.min(all),
        }
    }
}

/// Whether an expression gives its series in an order of its own.
pub(super) fn is_ordered(expr: &MetricExpr) -> bool {
    matches!(expr, MetricExpr::Aggregation(a) if matches!(
        a.op,
        VectorOp::TopK | VectorOp::BottomK | VectorOp::ApproxTopK | VectorOp::Sort | VectorOp::SortDesc
    ))
}

fn series_of(series: GridSeries<Vec<f64>>, grid: &StepGrid) -> Series {
    let cells = series.cells.iter().enumerate().filter(|v| !is_gap(*v.1));
    let points = cells.map(|(step, value)| Point {
        t_ms: grid.at(step),
        value: *value,
    });
    Series {
        labels: series.labels,
        points: points.collect(),
    }
}
