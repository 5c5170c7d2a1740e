//! Queries on their way to the engine: checked against the tenant's limits, cut, looked up, and given their turn.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::FutureExt;
use lgtm_core::Error;
use lgtm_core::cache::{MemoryCache, MemoryCacheSettings};
use lgtm_core::clock::Clock;
use lgtm_core::frontend::{Downstream, Frontend, ShardPlan, StepRange};
use lgtm_core::limits::Overrides;
use lgtm_core::model::{TenantId, TimeRange};

use super::query_frontend_settings::QueryFrontendSettings;
use super::query_rules::{check_length, check_text, earliest_ms, labels_range};
use crate::limits::Limits;
use crate::promql::{
    Answer, AnswerMemory, EmbeddedLegs, Engine, Expr, FrontendAnswer, FrontendQuery, InstantQuery,
    ParsedQuery, Point, PromqlSplitter, QueryError, QueryKind, QueryOptions, QueryStats,
    QueryValue, RangeQuery, ValueType, check_range_type, move_if_heavy,
};
use crate::select::{FetchBounds, QueryBudget};

/// Where all queries of a process enter.
///
/// Answers are those of the engine: same shape, same order, same warnings. Floats of aggregations that are cut by series may differ
/// in their last bits. A budget counts for each part of a query for itself, as in Mimir; memory of a query is that of its parts and
/// its answer, each bounded by the engine's settings. Small queries are answered where they are awaited, others go to the engine's
/// compute pool. Dropping the future of a query stops its parts.
#[derive(Debug)]
pub struct QueryFrontend(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    engine: Engine,
    /// None when it is switched off.
    frontend: Option<Frontend<PromqlSplitter>>,
    settings: QueryFrontendSettings,
    limits: Arc<Overrides<Limits>>,
    clock: Arc<dyn Clock>,
    counts: QueryFrontendCounts,
}

/// What came in.
#[derive(Debug, Default)]
pub struct QueryFrontendCounts {
    /// Instant queries.
    pub instant: AtomicU64,
    /// Range queries.
    pub range: AtomicU64,
}

/// A query whose limits were checked.
struct Asked<'a> {
    text: &'a str,
    kind: QueryKind,
    steps: StepRange,
    options: &'a QueryOptions,
}

impl QueryFrontend {
    /// In front of `engine`, whose answers to legs it joins too.
    ///
    /// # Errors
    /// `InvalidInput` for settings that make no sense.
    pub fn new(
        engine: Engine,
        settings: QueryFrontendSettings,
        limits: Arc<Overrides<Limits>>,
        clock: Arc<dyn Clock>,
    ) -> lgtm_core::Result<Self> {
        settings.validate()?;
        let frontend = match settings.enabled {
            true => Some(frontend(&engine, &settings, &limits, &clock)?),
            false => None,
        };
        Ok(Self(Arc::new(Shared {
            engine,
            frontend,
            settings,
            limits,
            clock,
            counts: QueryFrontendCounts::default(),
        })))
    }

    /// What it asks.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// How it works.
    pub fn settings(&self) -> &QueryFrontendSettings {
        &self.0.settings
    }

    /// The times of `range` whose series and labels a tenant may look at; `None` when there are none.
    pub fn labels_range(&self, tenant: &TenantId, range: TimeRange) -> Option<TimeRange> {
        labels_range(
            &self.0.limits.for_tenant(tenant),
            self.0.clock.now_ms(),
            range,
        )
    }

    /// The times of `range` that a remote read of a tenant may ask for; `None` when all of it lies too far back.
    ///
    /// # Errors
    /// `Execution` when it is longer than a query may be.
    pub fn read_range(
        &self,
        tenant: &TenantId,
        range: TimeRange,
    ) -> Result<Option<TimeRange>, QueryError> {
        let limits = self.0.limits.for_tenant(tenant);
        check_length(&limits, range.min_ms, range.max_ms.saturating_sub(1))?;
        let min_ms = range
            .min_ms
            .max(earliest_ms(&limits, self.0.clock.now_ms()));
        Ok((min_ms < range.max_ms).then_some(TimeRange { min_ms, ..range }))
    }

    /// What cuts and remembers, unless it is switched off: for its statistics.
    pub fn frontend(&self) -> Option<&Frontend<PromqlSplitter>> {
        self.0.frontend.as_ref()
    }

    /// What came in.
    pub fn counts(&self) -> &QueryFrontendCounts {
        &self.0.counts
    }

    /// Answers at one time.
    ///
    /// # Errors
    /// Those of the engine; `Execution` too for a limit of the tenant, and `RateLimited` when too many of its requests wait.
    pub async fn instant(&self, tenant: &TenantId, q: &InstantQuery) -> Result<Answer, QueryError> {
        self.0.counts.instant.fetch_add(1, Ordering::Relaxed);
        let (shared, tenant, q) = (Arc::clone(&self.0), tenant.clone(), q.clone());
        let executor = self.engine().executor().in_line(tenant.as_str());
        let work = async move {
            let asked = Asked {
                text: &q.query,
                kind: QueryKind::Instant,
                steps: StepRange::instant(q.t_ms),
                options: &q.options,
            };
            shared.answer(&tenant, asked).await
        };
        executor.run_movable(work).await
    }

    /// Answers at many times.
    ///
    /// # Errors
    /// As [`QueryFrontend::instant`].
    pub async fn range(&self, tenant: &TenantId, q: &RangeQuery) -> Result<Answer, QueryError> {
        self.0.counts.range.fetch_add(1, Ordering::Relaxed);
        let (shared, tenant, q) = (Arc::clone(&self.0), tenant.clone(), q.clone());
        let executor = self.engine().executor().in_line(tenant.as_str());
        let work = async move {
            let asked = Asked {
                text: &q.query,
                kind: QueryKind::Range,
                steps: StepRange {
                    start_ms: q.start_ms,
                    end_ms: q.end_ms,
                    step_ms: q.step_ms,
                },
                options: &q.options,
            };
            shared.answer(&tenant, asked).await
        };
        executor.run_movable(work).await
    }
}

impl Shared {
    async fn answer(&self, tenant: &TenantId, mut asked: Asked<'_>) -> Result<Answer, QueryError> {
        let limits = self.limits.for_tenant(tenant);
        check_text(&limits, asked.text)?;
        check_length(&limits, asked.steps.start_ms, asked.steps.end_ms)?;
        move_if_heavy(asked.text).await;
        let expr = self.engine.parse(asked.text)?;
        if asked.kind == QueryKind::Range {
            check_range_type(&expr)?;
        }
        let earliest_ms = earliest_ms(&limits, self.clock.now_ms());
        if asked.steps.start_ms < earliest_ms {
            asked.steps = asked.steps.clip(earliest_ms, i64::MAX);
            if asked.steps.is_empty() && expr.value_type() != ValueType::Text {
                return Ok(nothing(&expr, asked.kind));
            }
        }
        match &self.frontend {
            Some(frontend) => {
                let limits = self.settings.limits(&limits, asked.options.no_cache);
                self.through(frontend, tenant, expr, asked, &limits).await
            }
            None => {
                let query = parsed(asked.text, &expr, &asked, asked.options.clone());
                self.engine.parsed(tenant, &query).await
            }
        }
    }

    async fn through(
        &self,
        frontend: &Frontend<PromqlSplitter>,
        tenant: &TenantId,
        expr: Expr,
        asked: Asked<'_>,
        limits: &lgtm_core::frontend::FrontendLimits,
    ) -> Result<Answer, QueryError> {
        let begin = tokio::time::Instant::now();
        let value_type = expr.value_type();
        let query = FrontendQuery {
            expr: Arc::new(expr),
            text: asked.text.into(),
            steps: asked.steps,
            kind: asked.kind,
            lookback_ms: asked.options.lookback_ms,
            timeout: asked.options.timeout,
        };
        let limit = self.engine.settings().timeout;
        let after = asked.options.timeout.map_or(limit, |t| t.min(limit));
        // A fault in one query must not take others with it.
        let work = AssertUnwindSafe(frontend.run(tenant, query, limits)).catch_unwind();
        let answer = match tokio::time::timeout(after, work).await {
            Err(_) => return Err(QueryError::TimedOut),
            Ok(Err(_)) => {
                let panicked = &self.engine.counts().panicked;
                panicked.fetch_add(1, Ordering::Relaxed);
                return Err(Error::Internal("the query panicked".into()).into());
            }
            Ok(Ok(answer)) => answer.map_err(QueryError::of)?,
        };
        let answer = Arc::unwrap_or_clone(answer);
        let mut answer = Answer {
            memory: answer.memory,
            stats: QueryStats {
                elapsed: begin.elapsed(),
                ..answer.stats
            },
            warnings: answer.warnings,
            infos: answer.infos,
            value: match (asked.kind, value_type) {
                (QueryKind::Range, _) | (_, ValueType::Matrix) => QueryValue::Matrix(answer.series),
                (_, ValueType::Vector) => QueryValue::Vector(answer.series),
                (_, ValueType::Text) => QueryValue::Text(Point {
                    t_ms: asked.steps.start_ms,
                    value: answer.string.unwrap_or_default(),
                }),
                (_, ValueType::Scalar) => {
                    let point = answer.series.first().and_then(|s| s.floats.first());
                    let missing = || Error::Internal("a scalar query gave no value".into());
                    QueryValue::Scalar(point.cloned().ok_or_else(missing)?)
                }
            },
        };
        self.engine.count_answer(&mut answer)?;
        Ok(answer)
    }
}

fn frontend(
    engine: &Engine,
    settings: &QueryFrontendSettings,
    limits: &Arc<Overrides<Limits>>,
    clock: &Arc<dyn Clock>,
) -> lgtm_core::Result<Frontend<PromqlSplitter>> {
    let e = engine.settings();
    let interval_ms = settings.split_instant_queries_by_interval.as_millis();
    let splitter = PromqlSplitter {
        long_range_ms: i64::try_from(interval_ms).unwrap_or(i64::MAX),
        max_points: match e.max_samples {
            0 => u64::MAX,
            n => n,
        },
        max_stored_bytes: settings.results_cache_max_item_size.as_u64(),
        cuts_by_series: !e.delayed_name_removal,
        engine_switches: format!(
            "{:?},{:?},{},{}",
            e.lookback_delta, e.default_subquery_step, e.delayed_name_removal, e.start_timestamps
        ),
    };
    let downstream = Arc::new(EngineDownstream {
        engine: engine.clone(),
        limits: Arc::clone(limits),
    });
    let mut builder =
        Frontend::builder(splitter, downstream, Arc::clone(clock)).settings(settings.core());
    if settings.cache_results || settings.cache_errors {
        let size = MemoryCacheSettings {
            max_bytes: settings.results_cache_size,
        };
        let cache = Arc::new(MemoryCache::new("results", &size, Arc::clone(clock))?);
        if settings.cache_results {
            builder = builder.results_cache(Arc::clone(&cache) as _);
        }
        if settings.cache_errors {
            builder = builder.errors_cache(cache);
        }
    }
    builder.build()
}

/// The answer to a query all of whose steps lie too far back.
fn nothing(expr: &Expr, kind: QueryKind) -> Answer {
    Answer {
        value: match (kind, expr.value_type()) {
            (QueryKind::Instant, ValueType::Vector | ValueType::Scalar) => {
                QueryValue::Vector(Vec::new())
            }
            _ => QueryValue::Matrix(Vec::new()),
        },
        warnings: Vec::new(),
        infos: Vec::new(),
        stats: QueryStats::default(),
        memory: AnswerMemory::default(),
    }
}

fn parsed<'a>(
    text: &'a str,
    expr: &'a Expr,
    asked: &Asked<'_>,
    options: QueryOptions,
) -> ParsedQuery<'a> {
    ParsedQuery {
        text,
        expr,
        start_ms: asked.steps.start_ms,
        end_ms: asked.steps.end_ms,
        step_ms: (asked.kind == QueryKind::Range).then_some(asked.steps.step_ms),
        options,
    }
}

/// The engine of this process as the one that answers.
#[derive(Debug)]
struct EngineDownstream {
    engine: Engine,
    limits: Arc<Overrides<Limits>>,
}

impl EngineDownstream {
    async fn ask(
        engine: &Engine,
        tenant: &TenantId,
        query: &FrontendQuery,
        budget: QueryBudget,
        max_memory_bytes: u64,
    ) -> lgtm_core::Result<FrontendAnswer> {
        let options = QueryOptions {
            lookback_ms: query.lookback_ms,
            timeout: query.timeout,
            budget: Arc::new(budget),
            max_memory_bytes,
            no_cache: false,
        };
        let asked = Asked {
            text: &query.text,
            kind: query.kind,
            steps: query.steps,
            options: &options,
        };
        let asked = parsed(&query.text, &query.expr, &asked, options.clone());
        let answer = engine.parsed(tenant, &asked).await?;
        let (series, string) = match answer.value {
            QueryValue::Vector(series) | QueryValue::Matrix(series) => (series, None),
            QueryValue::Scalar(point) => {
                let series = crate::promql::Series {
                    floats: vec![point],
                    ..Default::default()
                };
                (vec![series], None)
            }
            QueryValue::Text(point) => (Vec::new(), Some(point.value)),
        };
        Ok(FrontendAnswer {
            series,
            string,
            warnings: answer.warnings,
            infos: answer.infos,
            stats: answer.stats,
            memory: answer.memory,
        })
    }
}

#[async_trait]
impl Downstream<PromqlSplitter> for EngineDownstream {
    async fn run(
        &self,
        tenant: &TenantId,
        query: &FrontendQuery,
    ) -> lgtm_core::Result<Arc<FrontendAnswer>> {
        let l = self.limits.for_tenant(tenant);
        let budget = QueryBudget::new(FetchBounds::of(&l));
        let memory = l.max_estimated_memory_consumption_per_query;
        Ok(Arc::new(
            Self::ask(&self.engine, tenant, query, budget, memory).await?,
        ))
    }

    async fn join(
        &self,
        tenant: &TenantId,
        plan: &ShardPlan<FrontendQuery>,
        legs: Vec<Vec<Arc<FrontendAnswer>>>,
    ) -> lgtm_core::Result<Arc<FrontendAnswer>> {
        let embedded = EmbeddedLegs::new(plan.outer.steps, &legs)?;
        let engine = self.engine.over(Arc::new(embedded));
        let limits = self.limits.for_tenant(tenant);
        let memory = limits.max_estimated_memory_consumption_per_query;
        let budget = QueryBudget::default();
        let mut whole = Self::ask(&engine, tenant, &plan.outer, budget, memory).await?;
        let mut cost = QueryStats::default();
        for leg in legs.iter().flatten() {
            cost = cost.plus(leg.stats);
            for (all, more) in [
                (&mut whole.warnings, &leg.warnings),
                (&mut whole.infos, &leg.infos),
            ] {
                let new: Vec<_> = more.iter().filter(|t| !all.contains(t)).cloned().collect();
                all.extend(new);
            }
        }
        // What the outer part reads are no samples of the store.
        whole.stats = QueryStats {
            samples_read: cost.samples_read,
            fetched: cost.fetched,
            ..cost.plus(whole.stats)
        };
        Ok(Arc::new(whole))
    }
}
