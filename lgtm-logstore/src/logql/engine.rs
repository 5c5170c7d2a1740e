//! Running queries: parse, plan, evaluate, within bounds.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use lgtm_core::clock::Clock;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::{TenantId, TimeRangeNs, TimestampNs};
use lgtm_core::vector::{GridSeries, StepGrid, is_gap};
use lgtm_core::{Error, model::Labels};
use parking_lot::Mutex;

use super::answer::{Answer, Point, QueryValue, Series};
use super::ast::{Expr, MetricExpr, VectorOp};
use super::eval::{Evaluated, LogBounds, QueryContext, evaluate, run_log_query, sort_series};
use super::memory::{AnswerMemory, Charge, QueryMemory, QueryUsage};
use super::parser::parse_with;
use super::plan::{LogPlan, PlanTimes};
use super::query_error::{QueryError, Result};
use super::settings::EngineSettings;
use crate::select::{FetchBounds, Select, StreamShard};

/// Which entries come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// The newest.
    #[default]
    Backward,
    /// The oldest.
    Forward,
}

/// What a query is run with.
#[derive(Debug, Clone, Copy, Default)]
pub struct QueryOptions {
    /// What one holder may bring.
    pub bounds: FetchBounds,
    /// The part of the streams that is asked for; all if there is none.
    pub shard: Option<StreamShard>,
    /// Series that the answer may have where that is less than the engine allows; 0 is no such limit.
    pub max_series: usize,
}

/// A query over a range of time.
#[derive(Debug, Clone)]
pub struct RangeQuery {
    /// Text.
    pub query: String,
    /// Entries from here on; first step.
    pub start_ns: TimestampNs,
    /// Entries before; last step, itself included.
    pub end_ns: TimestampNs,
    /// Distance of two steps, milliseconds, more than 0. Log queries take no notice.
    pub step_ms: i64,
    /// Least distance of two entries, nanoseconds; 0: none. Metric queries take no notice.
    pub interval_ns: i64,
    /// Entries that are wanted. Metric queries take no notice.
    pub limit: usize,
    /// Which entries are wanted if there are more.
    pub direction: Direction,
    /// How.
    pub options: QueryOptions,
}

/// A query at one time.
#[derive(Debug, Clone)]
pub struct InstantQuery {
    /// Text.
    pub query: String,
    /// When.
    pub t_ns: TimestampNs,
    /// How.
    pub options: QueryOptions,
}

/// A query, the same from the door to the engine. Plain data.
#[derive(Debug, Clone)]
pub enum Query {
    /// Over a range of time.
    Range(RangeQuery),
    /// At one time.
    Instant(InstantQuery),
}

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
/// that wait never start, one that runs ends after some hundred entries.
#[derive(Debug, Clone)]
pub struct Engine {
    source: Arc<dyn Select>,
    executor: Executor,
    clock: Arc<dyn Clock>,
    settings: EngineSettings,
    memory: Arc<QueryMemory>,
    counts: Arc<EngineCounts>,
}

/// The steps of a metric range query as Loki's frontend places them: start and end moved to multiples of the step, outwards.
pub fn aligned_range(
    start_ns: TimestampNs,
    end_ns: TimestampNs,
    step_ms: i64,
) -> (TimestampNs, TimestampNs) {
    let step_ns = step_ms.saturating_mul(1_000_000).max(1);
    let start = start_ns.div_euclid(step_ns).saturating_mul(step_ns);
    let floor = end_ns.div_euclid(step_ns).saturating_mul(step_ns);
    match floor == end_ns {
        true => (start, floor),
        false => (start, floor.saturating_add(step_ns)),
    }
}

/// A parsed query and what is asked of it.
struct Prepared<'a> {
    text: &'a str,
    grid: StepGrid,
    range: TimeRangeNs,
    bounds: LogBounds,
    is_range: bool,
    options: &'a QueryOptions,
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
            memory: QueryMemory::new(settings.max_memory_total.as_u64()),
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

    /// What was done so far.
    pub fn counts(&self) -> &EngineCounts {
        &self.counts
    }

    /// Parses a query within the bounds of this engine.
    ///
    /// # Errors
    /// `Parse`; `Source` for a fault of this program.
    pub fn parse(&self, text: &str) -> Result<Expr> {
        let parsed = AssertUnwindSafe(|| parse_with(text, &self.settings.parser));
        let parsed = std::panic::catch_unwind(parsed).map_err(|_| self.panicked())?;
        Ok(parsed?)
    }

    /// Answers a query.
    ///
    /// # Errors
    /// Those of [`QueryError`].
    pub async fn query(&self, tenant: &TenantId, query: &Query) -> Result<Answer> {
        match query {
            Query::Range(query) => self.range(tenant, query).await,
            Query::Instant(query) => self.instant(tenant, query).await,
        }
    }

    /// Answers over a range of time.
    ///
    /// # Errors
    /// Those of [`QueryError`].
    pub async fn range(&self, tenant: &TenantId, q: &RangeQuery) -> Result<Answer> {
        const TOO_MANY: &str = "exceeded maximum resolution of 11,000 points per time series. Try increasing the value of the step parameter";
        let ms = |ns: i64| ns.div_euclid(1_000_000);
        let grid = StepGrid::range(ms(q.start_ns), ms(q.end_ns), q.step_ms);
        let checked = if q.end_ns < q.start_ns {
            Err(QueryError::Invalid(
                "end timestamp must not be before or equal to start time".into(),
            ))
        } else if q.step_ms <= 0 {
            Err(QueryError::Invalid("zero or negative query resolution step widths are not accepted. Try a positive integer".into()))
        } else if q.interval_ns < 0 {
            Err(QueryError::Invalid("interval must be >= 0".into()))
        } else if q.limit == 0 {
            Err(QueryError::Invalid("limit must be a positive value".into()))
        } else if (ms(q.end_ns) - ms(q.start_ns)) / q.step_ms > self.settings.max_steps as i64 {
            Err(QueryError::Limit(TOO_MANY.into()))
        } else {
            Ok(())
        };
        let query = Prepared {
            text: &q.query,
            grid,
            range: TimeRangeNs::new(q.start_ns, q.end_ns),
            bounds: LogBounds {
                newest_first: q.direction == Direction::Backward,
                limit: q.limit,
                interval_ns: q.interval_ns,
            },
            is_range: true,
            options: &q.options,
        };
        self.run(tenant, query, checked).await
    }

    /// Answers at one time.
    ///
    /// # Errors
    /// As [`Engine::range`]; `Invalid` too for a query that asks for entries.
    pub async fn instant(&self, tenant: &TenantId, q: &InstantQuery) -> Result<Answer> {
        let query = Prepared {
            text: &q.query,
            grid: StepGrid::instant(q.t_ns.div_euclid(1_000_000)),
            range: TimeRangeNs::new(q.t_ns, q.t_ns),
            bounds: LogBounds {
                newest_first: true,
                limit: 1,
                interval_ns: 0,
            },
            is_range: false,
            options: &q.options,
        };
        self.run(tenant, query, Ok(())).await
    }

    fn panicked(&self) -> QueryError {
        self.counts.panicked.fetch_add(1, Ordering::Relaxed);
        QueryError::Source(Error::Internal("the query panicked".into()))
    }

    async fn run(
        &self,
        tenant: &TenantId,
        query: Prepared<'_>,
        checked: Result<()>,
    ) -> Result<Answer> {
        self.counts.queries.fetch_add(1, Ordering::Relaxed);
        let work = async {
            checked?;
            match tokio::time::timeout(self.settings.timeout, self.answer(tenant, &query)).await {
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
                    tracing::error!(%tenant, query = query.text, message, "query failed");
                }
            }
        }
        answer
    }

    fn context(&self, tenant: &TenantId, query: &Prepared<'_>) -> Arc<QueryContext> {
        let now_ms = self.clock.now_ms();
        Arc::new(QueryContext {
            source: Arc::clone(&self.source),
            tenant: tenant.clone(),
            executor: self.executor.in_line(tenant.as_str()),
            cancel: CancelToken::new(),
            usage: QueryUsage::new(Arc::clone(&self.memory), self.settings.max_memory.as_u64()),
            parallelism: self.settings.parallelism,
            times: PlanTimes {
                now_ns: now_ms.saturating_mul(1_000_000),
                max_template_bytes: self.settings.max_template_bytes.as_usize(),
            },
            bounds: query.options.bounds,
            shard: query.options.shard,
            is_range: query.is_range,
            approx_topk: self.settings.approx_topk,
            noticed: Mutex::default(),
        })
    }

    async fn answer(&self, tenant: &TenantId, query: &Prepared<'_>) -> Result<Answer> {
        let begin = tokio::time::Instant::now();
        let ctx = self.context(tenant, query);
        let _stop_when_dropped = ctx.cancel.cancel_on_drop();
        // Parsing and planning compile what the query names: on the pool, since that may take long.
        let (engine, text, times) = (self.clone(), query.text.to_owned(), ctx.times);
        let planned = ctx
            .compute(move |_| match engine.parse(&text)? {
                Expr::Log(log) => Ok(Planned::Log(LogPlan::new(&log, times))),
                Expr::Metric(metric) => Ok(Planned::Metric(metric)),
            })
            .await?;
        let (value, charge) = match planned {
            Planned::Log(_) if !query.is_range => {
                return Err(QueryError::Invalid(
                    "log queries are not supported as an instant query type, please change your query to a range query type".into(),
                ));
            }
            Planned::Log(plan) => {
                let (streams, charge) =
                    run_log_query(&ctx, plan, query.range, query.bounds).await?;
                (QueryValue::Streams(streams), charge)
            }
            Planned::Metric(expr) => self.metric(&ctx, &expr, query).await?,
        };
        let noticed = std::mem::take(&mut *ctx.noticed.lock());
        let mut stats = noticed.stats;
        stats.peak_bytes = ctx.usage.peak_bytes();
        stats.elapsed = begin.elapsed();
        stats.entries_returned = match &value {
            QueryValue::Streams(streams) => streams.iter().map(|s| s.entries.len() as u64).sum(),
            QueryValue::Matrix(all) | QueryValue::Vector(all) => all.len() as u64,
            QueryValue::Scalar(_) => 1,
        };
        Ok(Answer {
            value,
            warnings: noticed.warnings,
            stats,
            memory: AnswerMemory::of(charge),
        })
    }

    async fn metric(
        &self,
        ctx: &Arc<QueryContext>,
        expr: &MetricExpr,
        query: &Prepared<'_>,
    ) -> Result<(QueryValue, Charge)> {
        let mut charge = Charge::none(&ctx.usage);
        let evaluated = evaluate(ctx, expr, query.grid, &mut charge).await?;
        let mut vector = match (evaluated, query.is_range) {
            (Evaluated::Scalar(value), false) => {
                let t_ms = query.grid.start_ms();
                return Ok((QueryValue::Scalar(Point { t_ms, value }), charge));
            }
            (Evaluated::Scalar(value), true) => vec![GridSeries {
                labels: Labels::empty(),
                cells: vec![value; query.grid.len()],
            }],
            (Evaluated::Vector(vector), _) => vector,
        };
        let own = query.options.max_series;
        let max = match self.settings.max_series {
            0 => own,
            all if own == 0 => all,
            all => all.min(own),
        };
        if max > 0 && vector.len() > max {
            return Err(QueryError::Limit(format!(
                "maximum number of series ({max}) reached for a single query; consider reducing query cardinality by adding more specific stream selectors, reducing the time range, or aggregating results with functions like sum(), count() or topk()"
            )));
        }
        if query.is_range || !is_ordered(expr) {
            sort_series(&mut vector);
        }
        let grid = query.grid;
        let points = vector.len() as u64 * grid.len() as u64;
        charge.grow(points * size_of::<Point>() as u64)?;
        let series = vector.into_iter().map(|s| series_of(s, &grid)).collect();
        Ok(match query.is_range {
            true => (QueryValue::Matrix(series), charge),
            false => (QueryValue::Vector(series), charge),
        })
    }
}

/// A query, as far as it can be prepared without data.
enum Planned {
    Log(LogPlan),
    Metric(MetricExpr),
}

/// Whether an expression gives its series in an order of its own.
fn is_ordered(expr: &MetricExpr) -> bool {
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
