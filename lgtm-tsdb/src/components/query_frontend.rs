//! Queries on their way to the engine: checked against the tenant's limits, cut, looked up, and given their turn.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::FutureExt;
use lgtm_core::cache::{Cache, MemoryCache, MemoryCacheSettings};
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::move_if_heavy;
use lgtm_core::frontend::{Downstream, Frontend, FrontendLimits, ShardPlan};
use lgtm_core::limits::{AnswerMemory, Overrides};
use lgtm_core::model::{Labels, Matcher, TenantId, TextSet, TimestampMs};
use lgtm_core::telemetry::Registry;
use lgtm_core::{Error, Result};
use smallvec::smallvec;

use super::clients::{Inspect, MetricMetadata, Queries};
use super::query_frontend_settings::QueryFrontendSettings;
use super::query_rules::{check_length, check_text, earliest_ms, labels_range, read_range};
use crate::head::{
    ActiveSeriesRequest, CardinalityRequest, ExemplarsRequest, HeadStats, HistogramCardinality,
    LabelNamesCardinality, LabelValuesCardinality, SeriesExemplars, TenantStats,
};
use crate::limits::Limits;
use crate::promql::{
    Answer, EmbeddedLegs, Engine, FrontendAnswer, Point, PromqlSplitter, Query, QueryError,
    QueryKind, QueryOptions, QueryStats, QueryValue, Series, ValueType,
};
use crate::select::{
    FetchBounds, LabelBatches, Listed, ReadyBatches, Select, SelectRequest, SeriesBatches,
};

/// Collects the parts of a [`QueryFrontend`].
#[derive(Debug)]
pub struct QueryFrontendBuilder {
    querier: Arc<dyn Queries>,
    engine: Engine,
    limits: Overrides<Limits>,
    clock: Arc<dyn Clock>,
    results_cache: Option<Arc<dyn Cache>>,
    registry: Option<Registry>,
    settings: QueryFrontendSettings,
}

impl QueryFrontendBuilder {
    /// Sets the settings.
    #[must_use]
    pub fn settings(mut self, settings: QueryFrontendSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets where answers are kept. Without it that is memory, as much as `results_cache_size` says.
    #[must_use]
    pub fn results_cache(mut self, cache: Arc<dyn Cache>) -> Self {
        self.results_cache = Some(cache);
        self
    }

    /// Has `registry` tell what is asked, how it is cut and remembered.
    #[must_use]
    pub fn metrics(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// Checks everything, touches nothing.
    ///
    /// # Errors
    /// `InvalidInput` for settings that make no sense.
    pub fn build(mut self) -> Result<Arc<QueryFrontend>> {
        self.settings.validate()?;
        let frontend = if self.settings.enabled {
            Some(self.frontend()?)
        } else {
            None
        };
        let frontend = Arc::new(QueryFrontend(Arc::new(FrontendParts {
            querier: self.querier,
            engine: self.engine,
            frontend,
            settings: self.settings,
            limits: self.limits,
            clock: self.clock,
            counts: QueryFrontendCounts::default(),
        })));
        if let Some(registry) = &self.registry {
            frontend.register_metrics(registry);
        }
        Ok(frontend)
    }

    fn frontend(&mut self) -> Result<Frontend<PromqlSplitter>> {
        let (e, settings) = (self.engine.settings(), &self.settings);
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
                e.lookback_delta,
                e.default_subquery_step,
                e.delayed_name_removal,
                e.start_timestamps
            ),
        };
        let downstream = Arc::new(QuerierDownstream {
            querier: Arc::clone(&self.querier),
            engine: self.engine.clone(),
            limits: self.limits.clone(),
        });
        let mut builder = Frontend::builder(splitter, downstream, Arc::clone(&self.clock))
            .settings(settings.core());
        if settings.cache_results || settings.cache_errors {
            let cache = match self.results_cache.take() {
                Some(cache) => cache,
                None => {
                    let size = MemoryCacheSettings {
                        max_bytes: settings.results_cache_size,
                    };
                    let clock = Arc::clone(&self.clock);
                    Arc::new(MemoryCache::new("results", &size, clock)?)
                }
            };
            if settings.cache_results {
                builder = builder.results_cache(Arc::clone(&cache));
            }
            if settings.cache_errors {
                builder = builder.errors_cache(cache);
            }
        }
        builder.build()
    }
}

/// Where all queries of a process enter.
///
/// Answers are those of the querier: same shape, same order, same warnings. Floats of aggregations that are cut by series may differ
/// in their last bits. A budget counts for each part of a query for itself, as in Mimir; memory of a query is that of its parts and
/// its answer, each bounded by the engine's settings. Small queries are answered where they are awaited, others go to the engine's
/// compute pool. Dropping the future of a query stops its parts.
///
/// Series, labels and samples are looked for where the tenant's limits allow; all else goes on to the querier as it is.
#[derive(Debug)]
pub struct QueryFrontend(Arc<FrontendParts>);

#[derive(Debug)]
struct FrontendParts {
    querier: Arc<dyn Queries>,
    engine: Engine,
    /// None when it is switched off.
    frontend: Option<Frontend<PromqlSplitter>>,
    settings: QueryFrontendSettings,
    limits: Overrides<Limits>,
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

impl QueryFrontend {
    /// Begins a builder: in front of `querier`. `engine` joins its answers; in the process of the querier that is the querier's own, so
    /// that all count against one bound on memory.
    pub fn builder(
        querier: Arc<dyn Queries>,
        engine: Engine,
        limits: Overrides<Limits>,
    ) -> QueryFrontendBuilder {
        QueryFrontendBuilder {
            querier,
            engine,
            limits,
            clock: Arc::new(SystemClock::new()),
            results_cache: None,
            registry: None,
            settings: QueryFrontendSettings::default(),
        }
    }

    /// What joins answers.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// What cuts and remembers, unless it is switched off: for its statistics.
    pub fn frontend(&self) -> Option<&Frontend<PromqlSplitter>> {
        self.0.frontend.as_ref()
    }

    /// What came in.
    pub fn counts(&self) -> &QueryFrontendCounts {
        &self.0.counts
    }

    /// A request for what of series and labels its tenant may look at; `None` when there is nothing.
    fn listed(&self, tenant: &TenantId, request: &SelectRequest) -> Option<SelectRequest> {
        let limits = self.0.limits.for_tenant(tenant);
        let range = labels_range(&limits, self.0.clock.now_ms(), request.range)?;
        Some(SelectRequest {
            range,
            ..request.clone()
        })
    }
}

#[async_trait]
impl Queries for QueryFrontend {
    async fn query(&self, tenant: &TenantId, query: &Query) -> Result<Answer, QueryError> {
        let counts = &self.0.counts;
        let count = if query.is_range() {
            &counts.range
        } else {
            &counts.instant
        };
        count.fetch_add(1, Ordering::Relaxed);
        let (parts, tenant, query) = (Arc::clone(&self.0), tenant.clone(), query.clone());
        let executor = self.engine().executor().in_line(tenant.as_str());
        let work = async move { parts.answer(&tenant, query).await };
        executor.run_movable(work).await
    }

    fn cuts_by_series(&self) -> bool {
        self.0.settings.parallelize_shardable_queries
    }
}

#[async_trait]
impl Select for QueryFrontend {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn SeriesBatches>> {
        let limits = self.0.limits.for_tenant(tenant);
        let Some(range) = read_range(&limits, self.0.clock.now_ms(), request.range)? else {
            return Ok(Box::new(ReadyBatches::default()));
        };
        let request = SelectRequest {
            range,
            ..request.clone()
        };
        self.0.querier.select(tenant, &request).await
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        match self.listed(tenant, request) {
            Some(request) => self.0.querier.series(tenant, &request).await,
            None => Ok(Listed::default()),
        }
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        match self.listed(tenant, request) {
            Some(request) => self.0.querier.label_names(tenant, &request).await,
            None => Ok(Listed::default()),
        }
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        match self.listed(tenant, request) {
            Some(request) => self.0.querier.label_values(tenant, name, &request).await,
            None => Ok(Listed::default()),
        }
    }
}

#[async_trait]
impl Inspect for QueryFrontend {
    async fn metadata(&self, tenant: &TenantId, metric: Option<&str>) -> Result<MetricMetadata> {
        self.0.querier.metadata(tenant, metric).await
    }

    async fn exemplars(
        &self,
        tenant: &TenantId,
        request: &ExemplarsRequest,
    ) -> Result<SeriesExemplars> {
        self.0.querier.exemplars(tenant, request).await
    }

    async fn label_names_cardinality(
        &self,
        tenant: &TenantId,
        request: &CardinalityRequest,
    ) -> Result<LabelNamesCardinality> {
        let querier = &self.0.querier;
        querier.label_names_cardinality(tenant, request).await
    }

    async fn label_values_cardinality(
        &self,
        tenant: &TenantId,
        names: &[String],
        request: &CardinalityRequest,
    ) -> Result<LabelValuesCardinality> {
        let querier = &self.0.querier;
        querier
            .label_values_cardinality(tenant, names, request)
            .await
    }

    async fn active_series(
        &self,
        tenant: &TenantId,
        request: &ActiveSeriesRequest,
    ) -> Result<Box<dyn LabelBatches>> {
        self.0.querier.active_series(tenant, request).await
    }

    async fn active_histograms(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
    ) -> Result<Vec<HistogramCardinality>> {
        self.0.querier.active_histograms(tenant, matchers).await
    }

    async fn head_stats(&self, tenant: &TenantId, limit: usize) -> Result<HeadStats> {
        self.0.querier.head_stats(tenant, limit).await
    }

    async fn tenant_stats(&self, tenant: &TenantId) -> Result<TenantStats> {
        self.0.querier.tenant_stats(tenant).await
    }
}

impl FrontendParts {
    async fn answer(&self, tenant: &TenantId, mut query: Query) -> Result<Answer, QueryError> {
        let limits = self.limits.for_tenant(tenant);
        check_text(&limits, &query.text)?;
        check_length(&limits, query.steps.start_ms, query.steps.end_ms)?;
        move_if_heavy(&query.text).await;
        let earliest_ms = earliest_ms(&limits, self.clock.now_ms());
        if query.steps.start_ms < earliest_ms {
            query.steps = query.steps.clip(earliest_ms, TimestampMs::MAX);
            if query.steps.is_empty() && query.expr.value_type() != ValueType::Text {
                return Ok(nothing(&query));
            }
        }
        match &self.frontend {
            Some(frontend) => {
                let limits = self.settings.limits(&limits, query.options.no_cache);
                self.through(frontend, tenant, query, &limits).await
            }
            None => self.querier.query(tenant, &query).await,
        }
    }

    async fn through(
        &self,
        frontend: &Frontend<PromqlSplitter>,
        tenant: &TenantId,
        query: Query,
        limits: &FrontendLimits,
    ) -> Result<Answer, QueryError> {
        let begin = tokio::time::Instant::now();
        let (kind, value_type) = (query.kind, query.expr.value_type());
        let start_ms = query.steps.start_ms;
        let limit = self.engine.settings().timeout;
        let after = query.options.timeout.map_or(limit, |t| t.min(limit));
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
            value: match (kind, value_type) {
                (QueryKind::Range, _) | (_, ValueType::Matrix) => QueryValue::Matrix(answer.series),
                (_, ValueType::Vector) => QueryValue::Vector(answer.series),
                (_, ValueType::Text) => QueryValue::Text(Point {
                    t_ms: start_ms,
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

/// The answer to a query all of whose steps lie too far back.
fn nothing(query: &Query) -> Answer {
    Answer {
        value: match (query.kind, query.expr.value_type()) {
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

/// The querier as the one that answers parts, and the engine as the one that joins what they give.
#[derive(Debug)]
struct QuerierDownstream {
    querier: Arc<dyn Queries>,
    engine: Engine,
    limits: Overrides<Limits>,
}

impl From<Answer> for FrontendAnswer {
    fn from(answer: Answer) -> Self {
        let (series, string) = match answer.value {
            QueryValue::Vector(series) | QueryValue::Matrix(series) => (series, None),
            QueryValue::Scalar(point) => {
                let series = Series {
                    floats: smallvec![point],
                    ..Series::default()
                };
                (vec![series], None)
            }
            QueryValue::Text(point) => (Vec::new(), Some(point.value)),
        };
        Self {
            series,
            string,
            warnings: answer.warnings,
            infos: answer.infos,
            stats: answer.stats,
            memory: answer.memory,
        }
    }
}

#[async_trait]
impl Downstream<PromqlSplitter> for QuerierDownstream {
    async fn run(&self, tenant: &TenantId, query: &Query) -> Result<Arc<FrontendAnswer>> {
        let answer = self.querier.query(tenant, query).await?;
        Ok(Arc::new(answer.into()))
    }

    async fn join(
        &self,
        tenant: &TenantId,
        plan: &ShardPlan<Query>,
        legs: Vec<Vec<Arc<FrontendAnswer>>>,
    ) -> Result<Arc<FrontendAnswer>> {
        let embedded = EmbeddedLegs::new(plan.outer.steps, &legs)?;
        let engine = self.engine.over(Arc::new(embedded));
        let limits = self.limits.for_tenant(tenant);
        // What is joined was fetched already.
        let outer = plan.outer.clone().options(QueryOptions {
            max_memory_bytes: limits.max_estimated_memory_consumption_per_query,
            bounds: FetchBounds::default(),
            ..plan.outer.options
        });
        let mut whole = FrontendAnswer::from(engine.query(tenant, &outer).await?);
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
