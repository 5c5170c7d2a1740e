//! Running queries: parse, plan, evaluate, within bounds.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use lgtm_core::Error;
use lgtm_core::exec::{Executor, current_cancel, move_to_pool};
use lgtm_core::model::TenantId;
use lgtm_core::vector::StepGrid;
use parking_lot::Mutex;

use super::annotations::{Annotations, Level};
use super::answer::{Answer, Point, QueryStats, QueryValue, Series};
use super::ast::{Expr, ValueType};
use super::eval::{self, Context, Limits, Switches, Usage, Value};
use super::memory::{AnswerMemory, QueryMemory};
use super::parser::parse_with;
use super::plan::Planner;
use super::query_error::{QueryError, Result};
use super::settings::EngineSettings;
use crate::select::{QueryBudget, Select};

/// Warnings, and infos, that an answer may carry. Prometheus' number.
const MAX_ANNOTATIONS: usize = 10;

/// What a query is run with.
#[derive(Debug, Clone, Default)]
pub struct QueryOptions {
    /// Another lookback than the engine's, milliseconds.
    pub lookback_ms: Option<i64>,
    /// A shorter timeout than the engine's.
    pub timeout: Option<Duration>,
    /// What it may fetch.
    pub budget: Arc<QueryBudget>,
    /// Memory that its values may take where that is less than the engine allows, bytes; 0 is no such limit.
    pub max_memory_bytes: u64,
    /// Whether its answer neither comes from a cache nor goes into one.
    pub no_cache: bool,
}

/// A query at one time.
#[derive(Debug, Clone)]
pub struct InstantQuery {
    /// Text.
    pub query: String,
    /// When, milliseconds.
    pub t_ms: i64,
    /// How.
    pub options: QueryOptions,
}

/// A query at many times.
#[derive(Debug, Clone)]
pub struct RangeQuery {
    /// Text.
    pub query: String,
    /// First time, milliseconds.
    pub start_ms: i64,
    /// Last time, milliseconds.
    pub end_ms: i64,
    /// Distance of two times, milliseconds, more than 0.
    pub step_ms: i64,
    /// How.
    pub options: QueryOptions,
}

/// A query that was parsed already, or made out of one that was.
#[derive(Debug, Clone)]
pub struct ParsedQuery<'a> {
    /// The text that the spans in `expr` are of.
    pub text: &'a str,
    /// What is asked.
    pub expr: &'a Expr,
    /// First time, milliseconds.
    pub start_ms: i64,
    /// Last time, milliseconds; of an instant query the first too.
    pub end_ms: i64,
    /// Distance of two times, milliseconds; `None` for an instant query.
    pub step_ms: Option<i64>,
    /// How.
    pub options: QueryOptions,
}

/// What an engine has done.
#[derive(Debug, Default)]
pub struct EngineCounts {
    /// Queries begun; of one that the frontend cuts, each part.
    pub queries: AtomicU64,
    /// Queries that ended with an error.
    pub failed: AtomicU64,
    /// Queries that ran into a fault of this program.
    pub panicked: AtomicU64,
    /// Samples that windows and instants looked at.
    pub samples: AtomicU64,
}

/// Runs queries over a holder of metrics. Clones share counts and the bound on memory.
///
/// A small query is answered where it is awaited; what takes longer than a fraction of a millisecond goes to the compute pool, in the
/// line of its tenant, so that neither threads of the runtime nor other tenants are held up.
///
/// Dropping the future of a query stops it: batches that wait never start, one that runs ends after a few series.
#[derive(Debug, Clone)]
pub struct Engine {
    source: Arc<dyn Select>,
    executor: Executor,
    settings: EngineSettings,
    memory: Arc<QueryMemory>,
    counts: Arc<EngineCounts>,
}

/// Moves a query to the pool whose text alone may take longer to read, print and plan than a thread of the runtime should be held:
/// a long one, or one with counted repetitions, Unicode classes or flags in regular expressions.
pub(crate) async fn move_if_heavy(text: &str) {
    const LONG_BYTES: usize = 1024;
    let is_counted = |at: usize| text.as_bytes().get(at + 1).is_some_and(u8::is_ascii_digit);
    let has_classes = || ["\\p", "\\P", "(?"].iter().any(|c| text.contains(c));
    if text.len() > LONG_BYTES
        || text.match_indices('{').any(|(at, _)| is_counted(at))
        || has_classes()
    {
        move_to_pool().await;
    }
}

/// A query that parsed.
struct Prepared<'a> {
    text: &'a str,
    expr: &'a Expr,
    grid: StepGrid,
    is_range: bool,
    options: &'a QueryOptions,
}

/// That an expression has a value at each step.
///
/// # Errors
/// `Invalid` naming the type that it has.
pub(crate) fn check_range_type(expr: &Expr) -> Result<()> {
    match expr.value_type() {
        ValueType::Scalar | ValueType::Vector => Ok(()),
        other => Err(QueryError::Invalid(format!(
            "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
            other.described()
        ))),
    }
}

impl Engine {
    /// An engine over `source`, which computes on `executor`.
    ///
    /// # Errors
    /// `InvalidInput` for settings that make no sense.
    pub fn new(
        source: Arc<dyn Select>,
        executor: Executor,
        settings: EngineSettings,
    ) -> lgtm_core::Result<Self> {
        settings.validate()?;
        Ok(Self {
            source,
            executor,
            memory: QueryMemory::new(settings.max_memory_total.as_u64()),
            settings,
            counts: Arc::default(),
        })
    }

    /// The same engine over another holder of metrics.
    #[must_use]
    pub fn over(&self, source: Arc<dyn Select>) -> Self {
        Self {
            source,
            ..self.clone()
        }
    }

    /// Parses a query as this engine does.
    ///
    /// # Errors
    /// `Invalid`, with the place; `Source` for a fault of this program.
    pub fn parse(&self, text: &str) -> Result<Expr> {
        let parsed = AssertUnwindSafe(|| parse_with(text, &self.settings.parser));
        let parsed = std::panic::catch_unwind(parsed).map_err(|_| self.panicked())?;
        parsed.map_err(|e| QueryError::Invalid(e.to_string()))
    }

    /// The settings.
    pub fn settings(&self) -> &EngineSettings {
        &self.settings
    }

    /// What it computes on.
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

    /// Answers at one time.
    ///
    /// # Errors
    /// `Invalid` when the query does not parse, `Execution` when it fails on the data or needs more than it may, `TimedOut`, and
    /// those of the source.
    pub async fn instant(&self, tenant: &TenantId, q: &InstantQuery) -> Result<Answer> {
        let (engine, tenant, q) = (self.clone(), tenant.clone(), q.clone());
        let executor = self.executor.in_line(tenant.as_str());
        let work = async move { engine.instant_here(&tenant, &q).await };
        executor.run_movable(work).await
    }

    async fn instant_here(&self, tenant: &TenantId, q: &InstantQuery) -> Result<Answer> {
        move_if_heavy(&q.query).await;
        let expr = self.parsed_or_counted(&q.query)?;
        let query = Prepared {
            text: &q.query,
            expr: &expr,
            grid: StepGrid::instant(q.t_ms),
            is_range: false,
            options: &q.options,
        };
        self.run(tenant, query).await
    }

    /// Answers at many times.
    ///
    /// # Errors
    /// As [`Engine::instant`]; `Invalid` too for an expression that has no value at an instant.
    pub async fn range(&self, tenant: &TenantId, q: &RangeQuery) -> Result<Answer> {
        let (engine, tenant, q) = (self.clone(), tenant.clone(), q.clone());
        let executor = self.executor.in_line(tenant.as_str());
        let work = async move { engine.range_here(&tenant, &q).await };
        executor.run_movable(work).await
    }

    async fn range_here(&self, tenant: &TenantId, q: &RangeQuery) -> Result<Answer> {
        move_if_heavy(&q.query).await;
        let expr = self.parsed_or_counted(&q.query)?;
        let query = Prepared {
            text: &q.query,
            expr: &expr,
            grid: StepGrid::range(q.start_ms, q.end_ms, q.step_ms),
            is_range: true,
            options: &q.options,
        };
        self.run(tenant, query).await
    }

    /// Answers a query that was parsed already.
    ///
    /// # Errors
    /// As [`Engine::range`].
    pub async fn parsed(&self, tenant: &TenantId, q: &ParsedQuery<'_>) -> Result<Answer> {
        let grid = match q.step_ms {
            Some(step_ms) => StepGrid::range(q.start_ms, q.end_ms, step_ms),
            None => StepGrid::instant(q.start_ms),
        };
        let query = Prepared {
            text: q.text,
            expr: q.expr,
            grid,
            is_range: q.step_ms.is_some(),
            options: &q.options,
        };
        self.run(tenant, query).await
    }

    fn panicked(&self) -> QueryError {
        self.counts.panicked.fetch_add(1, Ordering::Relaxed);
        QueryError::Source(Error::Internal("the query panicked".into()))
    }

    fn parsed_or_counted(&self, text: &str) -> Result<Expr> {
        self.parse(text).inspect_err(|_| {
            self.counts.queries.fetch_add(1, Ordering::Relaxed);
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
        })
    }

    async fn run(&self, tenant: &TenantId, query: Prepared<'_>) -> Result<Answer> {
        self.counts.queries.fetch_add(1, Ordering::Relaxed);
        let work = async {
            let limit = self.settings.timeout;
            let after = query.options.timeout.map_or(limit, |t| t.min(limit));
            match tokio::time::timeout(after, self.answer(tenant, &query)).await {
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
                    .samples
                    .fetch_add(a.stats.samples_read, Ordering::Relaxed);
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

    fn context(&self, tenant: &TenantId, query: &Prepared<'_>) -> Arc<Context> {
        let s = &self.settings;
        let lookback = i64::try_from(s.lookback_delta.as_millis()).unwrap_or(i64::MAX);
        let (all, own) = (s.max_memory.as_u64(), query.options.max_memory_bytes);
        let (max_bytes, max_bytes_setting) = match own > 0 && (all == 0 || own <= all) {
            true => (own, "max_estimated_memory_consumption_per_query"),
            false => (all, "querier.max_memory"),
        };
        let limits = Limits {
            max_points: s.max_samples,
            max_bytes,
            max_bytes_setting,
        };
        Arc::new(Context {
            source: Arc::clone(&self.source),
            tenant: tenant.clone(),
            budget: Arc::clone(&query.options.budget),
            executor: self.executor.in_line(tenant.as_str()),
            cancel: current_cancel(),
            switches: Switches {
                lookback_ms: query.options.lookback_ms.unwrap_or(lookback),
                delayed_names: s.delayed_name_removal,
                start_timestamps: s.start_timestamps,
                is_range: query.is_range,
                parallelism: s.parallelism,
            },
            usage: Arc::new(Usage::new(limits, Arc::clone(&self.memory))),
            notes: Mutex::new(Annotations::default()),
            missing: Mutex::default(),
        })
    }

    async fn answer(&self, tenant: &TenantId, query: &Prepared<'_>) -> Result<Answer> {
        let begin = tokio::time::Instant::now();
        let ctx = self.context(tenant, query);
        let _stop_when_dropped = ctx.cancel.cancel_on_drop();
        let default_step = self.settings.default_subquery_step.as_millis();
        let planner = Planner {
            totals_only: false,
            grid: query.grid,
            default_step_ms: i64::try_from(default_step).unwrap_or(i64::MAX),
        };
        if query.is_range {
            check_range_type(query.expr)?;
        }
        let plan = planner.plan(query.expr)?;
        let value = match query.expr.value_type() {
            ValueType::Matrix => {
                let series = eval::raw_range(&ctx, plan.unwrapped(), query.grid).await?;
                QueryValue::Matrix(series)
            }
            _ => self.value(&ctx, &plan, query).await?,
        };
        let (samples_read, peak_samples, peak_bytes) = ctx.usage.totals();
        let notes = std::mem::take(&mut *ctx.notes.lock());
        let mut warnings = std::mem::take(&mut *ctx.missing.lock());
        warnings.extend(notes.texts(Level::Warning, query.text, MAX_ANNOTATIONS));
        let mut answer = Answer {
            memory: AnswerMemory::default(),
            value,
            warnings,
            infos: notes.texts(Level::Info, query.text, MAX_ANNOTATIONS),
            stats: QueryStats {
                samples_read,
                peak_samples,
                peak_bytes,
                fetched: query.options.budget.fetched(),
                elapsed: begin.elapsed(),
            },
        };
        self.count_answer(&mut answer)?;
        Ok(answer)
    }

    async fn value(
        &self,
        ctx: &Arc<Context>,
        plan: &super::plan::Node,
        query: &Prepared<'_>,
    ) -> Result<QueryValue> {
        let grid = query.grid;
        let _room = ctx.room_for(plan, grid).await?;
        Ok(match eval::evaluate(ctx, plan, grid).await? {
            Value::Text(value) => QueryValue::Text(Point {
                t_ms: grid.start_ms(),
                value,
            }),
            Value::Scalar(values) if query.is_range => {
                let floats = grid.times().zip(values);
                let floats = floats.map(|(t_ms, value)| Point { t_ms, value }).collect();
                QueryValue::Matrix(vec![Series {
                    floats,
                    ..Series::default()
                }])
            }
            Value::Scalar(values) => QueryValue::Scalar(Point {
                t_ms: grid.start_ms(),
                value: values[0],
            }),
            Value::Vector(v) => {
                let is_range = query.is_range;
                let mut points = v.charge.empty();
                let series = ctx
                    .compute(v.cost(), move |_| {
                        let mut series = Vec::with_capacity(v.series.len());
                        for s in eval::drop_marked_names(v.series)? {
                            let s = Series::of(s, &grid);
                            points.grow(0, s.size_bytes())?;
                            if !s.is_empty() {
                                series.push(s);
                            }
                        }
                        if is_range {
                            series.sort_by(|a, b| a.labels.cmp(&b.labels));
                        }
                        drop(v.charge);
                        Ok(series)
                    })
                    .await?;
                match is_range {
                    true => QueryValue::Matrix(series),
                    false => QueryValue::Vector(series),
                }
            }
        })
    }
}
