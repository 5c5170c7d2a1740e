//! Running queries: parse, plan, evaluate, within bounds.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use lgtm_core::Error;
use lgtm_core::exec::{Executor, current_cancel, move_if_heavy};
use lgtm_core::limits::{AnswerMemory, QueryMemory};
use lgtm_core::model::TenantId;
use parking_lot::Mutex;

use super::annotations::{Annotations, Level};
use super::answer::{Answer, Point, QueryStats, QueryValue, Series};
use super::ast::ValueType;
use super::eval::{self, Context, EvalBounds, Switches, Usage, Value};
use super::plan::Planner;
use super::query::Query;
use super::query_error::{QueryError, Result};
use super::settings::EngineSettings;
use crate::select::{QueryBudget, Select};

/// Warnings, and infos, that an answer may carry. Prometheus' number.
const MAX_ANNOTATIONS: usize = 10;

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

/// Collects the parts of an [`Engine`].
#[derive(Debug)]
pub struct EngineBuilder {
    source: Arc<dyn Select>,
    executor: Executor,
    settings: EngineSettings,
}

impl EngineBuilder {
    /// Sets the settings.
    #[must_use]
    pub fn settings(mut self, settings: EngineSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    /// `InvalidInput` naming the settings that make no sense.
    pub fn build(self) -> lgtm_core::Result<Engine> {
        self.settings.validate()?;
        Ok(Engine {
            memory: QueryMemory::new(
                self.settings.max_memory_total.as_u64(),
                "metrics.querier.max_memory_total",
            ),
            source: self.source,
            executor: self.executor,
            settings: self.settings,
            counts: Arc::default(),
        })
    }
}

impl Engine {
    /// Begins a builder: an engine over `source`, which computes on `executor`.
    pub fn builder(source: Arc<dyn Select>, executor: Executor) -> EngineBuilder {
        EngineBuilder {
            source,
            executor,
            settings: EngineSettings::default(),
        }
    }

    /// The same engine over another holder of metrics.
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

    /// Answers a query.
    ///
    /// # Errors
    /// `Invalid` for a query whose parts do not fit, `Execution` when it fails on the data or needs more than it may, `TimedOut`, and
    /// those of the source.
    pub async fn query(&self, tenant: &TenantId, query: &Query) -> Result<Answer> {
        let (engine, tenant, query) = (self.clone(), tenant.clone(), query.clone());
        let executor = self.executor.in_line(tenant.as_str());
        let work = async move {
            move_if_heavy(&query.text).await;
            engine.run(&tenant, &query).await
        };
        executor.run_movable(work).await
    }

    fn panicked(&self) -> QueryError {
        self.counts.panicked.fetch_add(1, Ordering::Relaxed);
        QueryError::Source(Error::Internal("the query panicked".into()))
    }

    async fn run(&self, tenant: &TenantId, query: &Query) -> Result<Answer> {
        self.counts.queries.fetch_add(1, Ordering::Relaxed);
        let work = async {
            let limit = self.settings.timeout;
            let after = query.options.timeout.map_or(limit, |t| t.min(limit));
            match tokio::time::timeout(after, self.answer(tenant, query)).await {
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
                    tracing::error!(%tenant, query = &*query.text, message, "query failed");
                }
            }
        }
        answer
    }

    fn context(&self, tenant: &TenantId, query: &Query, budget: &Arc<QueryBudget>) -> Arc<Context> {
        let s = &self.settings;
        let lookback = i64::try_from(s.lookback_delta.as_millis()).unwrap_or(i64::MAX);
        let (all, own) = (s.max_memory.as_u64(), query.options.max_memory_bytes);
        let (max_bytes, max_bytes_setting) = if own > 0 && (all == 0 || own <= all) {
            (own, "max_estimated_memory_consumption_per_query")
        } else {
            (all, "metrics.querier.max_memory")
        };
        let limits = EvalBounds {
            max_points: s.max_samples,
            max_bytes,
            max_bytes_setting,
        };
        Arc::new(Context {
            source: Arc::clone(&self.source),
            tenant: tenant.clone(),
            budget: Arc::clone(budget),
            executor: self.executor.in_line(tenant.as_str()),
            cancel: current_cancel(),
            switches: Switches {
                lookback_ms: query.options.lookback_ms.unwrap_or(lookback),
                delayed_names: s.delayed_name_removal,
                start_timestamps: s.start_timestamps,
                is_range: query.is_range(),
                parallelism: s.parallelism,
            },
            usage: Arc::new(Usage::new(limits, Arc::clone(&self.memory))),
            notes: Mutex::new(Annotations::default()),
            missing: Mutex::default(),
        })
    }

    async fn answer(&self, tenant: &TenantId, query: &Query) -> Result<Answer> {
        let begin = tokio::time::Instant::now();
        let budget = Arc::new(QueryBudget::new(query.options.bounds));
        let ctx = self.context(tenant, query, &budget);
        let _stop_when_dropped = ctx.cancel.cancel_on_drop();
        let default_step = self.settings.default_subquery_step.as_millis();
        let planner = Planner {
            totals_only: false,
            grid: query.grid(),
            default_step_ms: i64::try_from(default_step).unwrap_or(i64::MAX),
        };
        let plan = planner.plan(&query.expr)?;
        let value = match query.expr.value_type() {
            ValueType::Matrix => {
                let series = eval::raw_range(&ctx, plan.unwrapped(), query.grid()).await?;
                QueryValue::Matrix(series)
            }
            _ => self.value(&ctx, &plan, query).await?,
        };
        let (samples_read, peak_samples, peak_bytes) = ctx.usage.totals();
        let notes = std::mem::take(&mut *ctx.notes.lock());
        let mut warnings = std::mem::take(&mut *ctx.missing.lock());
        warnings.extend(notes.texts(Level::Warning, &query.text, MAX_ANNOTATIONS));
        let mut answer = Answer {
            memory: AnswerMemory::default(),
            value,
            warnings,
            infos: notes.texts(Level::Info, &query.text, MAX_ANNOTATIONS),
            stats: QueryStats {
                samples_read,
                peak_samples,
                peak_bytes,
                fetched: budget.fetched(),
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
        query: &Query,
    ) -> Result<QueryValue> {
        let grid = query.grid();
        let _room = ctx.room_for(plan, grid).await?;
        Ok(match eval::evaluate(ctx, plan, grid).await? {
            Value::Text(value) => QueryValue::Text(Point {
                t_ms: grid.start_ms(),
                value,
            }),
            Value::Scalar(values) if query.is_range() => {
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
                let is_range = query.is_range();
                let mut points = eval::Growing::none(&v.charge);
                let series = ctx
                    .compute(v.cost(), move |_| {
                        let series = eval::drop_marked_names(v.series)?.into_iter();
                        let series = series.map(|s| Series::of(s, &grid));
                        // Collected into the memory of the list that it comes from.
                        let mut series = series
                            .filter(|s| !s.is_empty())
                            .map(|s| points.add(0, s.size_bytes()).map(|()| s))
                            .collect::<Result<Vec<_>>>()?;
                        if is_range {
                            series.sort_by(|a, b| a.labels.cmp(&b.labels));
                        }
                        drop((v.charge, points.finish()?));
                        Ok(series)
                    })
                    .await?;
                if is_range {
                    QueryValue::Matrix(series)
                } else {
                    QueryValue::Vector(series)
                }
            }
        })
    }
}
