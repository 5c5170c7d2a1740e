//! Running queries: parse, plan, evaluate, within bounds.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use lgtm_core::Error;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::TenantId;
use lgtm_core::vector::StepGrid;
use parking_lot::Mutex;

use super::annotations::{Annotations, Level};
use super::answer::{Answer, Point, QueryStats, QueryValue, Series};
use super::ast::{Expr, ValueType};
use super::eval::{self, Context, Limits, Switches, Usage, Value};
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

/// What an engine has done.
#[derive(Debug, Default)]
pub struct EngineCounts {
    /// Queries begun.
    pub queries: AtomicU64,
    /// Queries that ended with an error.
    pub failed: AtomicU64,
    /// Queries that ran into a fault of this program.
    pub panicked: AtomicU64,
    /// Samples that windows and instants looked at.
    pub samples: AtomicU64,
}

/// Runs queries over a holder of metrics. Clones share counts.
///
/// Dropping the future of a query stops it: batches that wait never start, one that runs ends after a few series.
#[derive(Debug, Clone)]
pub struct Engine {
    source: Arc<dyn Select>,
    executor: Executor,
    settings: EngineSettings,
    counts: Arc<EngineCounts>,
}

/// A query that parsed.
struct Prepared<'a> {
    text: &'a str,
    expr: Expr,
    grid: StepGrid,
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
        settings: EngineSettings,
    ) -> lgtm_core::Result<Self> {
        settings.validate()?;
        Ok(Self {
            source,
            executor,
            settings,
            counts: Arc::default(),
        })
    }

    /// The settings.
    pub fn settings(&self) -> &EngineSettings {
        &self.settings
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
        self.run(
            tenant,
            &q.query,
            StepGrid::instant(q.t_ms),
            false,
            &q.options,
        )
        .await
    }

    /// Answers at many times.
    ///
    /// # Errors
    /// As [`Engine::instant`]; `Invalid` too for an expression that has no value at an instant.
    pub async fn range(&self, tenant: &TenantId, q: &RangeQuery) -> Result<Answer> {
        let grid = StepGrid::range(q.start_ms, q.end_ms, q.step_ms);
        self.run(tenant, &q.query, grid, true, &q.options).await
    }

    async fn run(
        &self,
        tenant: &TenantId,
        text: &str,
        grid: StepGrid,
        is_range: bool,
        options: &QueryOptions,
    ) -> Result<Answer> {
        self.counts.queries.fetch_add(1, Ordering::Relaxed);
        let work = async {
            let expr = parse_with(text, &self.settings.parser)
                .map_err(|e| QueryError::Invalid(e.to_string()))?;
            let query = Prepared {
                text,
                expr,
                grid,
                is_range,
                options,
            };
            let limit = self.settings.timeout;
            let after = options.timeout.map_or(limit, |t| t.min(limit));
            match tokio::time::timeout(after, self.answer(tenant, &query)).await {
                Ok(answer) => answer,
                Err(_) => Err(QueryError::TimedOut),
            }
        };
        // A fault in one query must not take others with it; those on the compute pool are caught there.
        let answer = AssertUnwindSafe(work)
            .catch_unwind()
            .await
            .unwrap_or_else(|_| {
                self.counts.panicked.fetch_add(1, Ordering::Relaxed);
                Err(QueryError::Source(Error::Internal(
                    "the query panicked".into(),
                )))
            });
        match &answer {
            Ok(a) => {
                self.counts
                    .samples
                    .fetch_add(a.stats.samples_read, Ordering::Relaxed);
            }
            Err(e) => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                if let QueryError::Source(Error::Internal(message)) = e {
                    tracing::error!(%tenant, query = text, message, "query failed");
                }
            }
        }
        answer
    }

    fn context(&self, tenant: &TenantId, query: &Prepared<'_>) -> Arc<Context> {
        let s = &self.settings;
        let lookback = i64::try_from(s.lookback_delta.as_millis()).unwrap_or(i64::MAX);
        let limits = Limits {
            max_points: s.max_samples,
            max_bytes: s.max_memory.as_u64(),
        };
        Arc::new(Context {
            source: Arc::clone(&self.source),
            tenant: tenant.clone(),
            budget: Arc::clone(&query.options.budget),
            executor: self.executor.clone(),
            cancel: CancelToken::new(),
            switches: Switches {
                lookback_ms: query.options.lookback_ms.unwrap_or(lookback),
                delayed_names: s.delayed_name_removal,
                start_timestamps: s.start_timestamps,
                is_range: query.is_range,
                parallelism: s.parallelism,
            },
            usage: Arc::new(Usage::new(limits)),
            notes: Mutex::new(Annotations::default()),
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
        if query.is_range
            && !matches!(
                query.expr.value_type(),
                ValueType::Scalar | ValueType::Vector
            )
        {
            return Err(QueryError::Invalid(format!(
                "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
                query.expr.value_type().described()
            )));
        }
        let plan = planner.plan(&query.expr)?;
        let value = match query.expr.value_type() {
            ValueType::Matrix => {
                let series = eval::raw_range(&ctx, plan.unwrapped(), query.grid).await?;
                QueryValue::Matrix(series)
            }
            _ => self.value(&ctx, &plan, query).await?,
        };
        let (samples_read, peak_samples, peak_bytes) = ctx.usage.totals();
        let notes = std::mem::take(&mut *ctx.notes.lock());
        Ok(Answer {
            value,
            warnings: notes.texts(Level::Warning, query.text, MAX_ANNOTATIONS),
            infos: notes.texts(Level::Info, query.text, MAX_ANNOTATIONS),
            stats: QueryStats {
                samples_read,
                peak_samples,
                peak_bytes,
                fetched: query.options.budget.used(),
                elapsed: begin.elapsed(),
            },
        })
    }

    async fn value(
        &self,
        ctx: &Arc<Context>,
        plan: &super::plan::Node,
        query: &Prepared<'_>,
    ) -> Result<QueryValue> {
        let grid = query.grid;
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
                let series = ctx
                    .compute(v.cost(), move |_| {
                        let mut series: Vec<Series> = eval::drop_marked_names(v.series)?
                            .into_iter()
                            .map(|s| Series::of(s, &grid))
                            .filter(|s| !s.is_empty())
                            .collect();
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
