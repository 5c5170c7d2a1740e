//! Queries on their way to the engine: checked against the tenant's limits, cut, looked up, and given their turn.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::FutureExt;
use lgtm_core::cache::{Cache, MemoryCache, MemoryCacheSettings};
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::{move_if_heavy, move_to_pool};
use lgtm_core::frontend::{Downstream, Frontend, FrontendLimits, ShardPlan};
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, Listed, TenantId, TextSet, TimestampNs, merge_warnings};
use lgtm_core::telemetry::Registry;
use lgtm_core::{Error, Result};

use super::clients::{
    Inspect, PatternCounts, Patterns, PatternsRequest, Queries, Tail, TailFeed, TailRequest,
};
use super::delete_requests::DeleteRequests;
use super::query_frontend_settings::QueryFrontendSettings;
use super::query_rules::{
    approximates, check_bytes, check_length, check_query, listed_range, longest_range, looked_back,
    reads,
};
use crate::limits::{Horizons, Limits, query_limits};
use crate::logql::{
    Answer, Engine, LogqlSplitter, MaxSeries, Query, QueryError, QueryOptions, QueryStats,
    QueryTime, QueryValue,
};
use crate::select::{EntryBatches, ReadyBatches, Select, SelectRequest, StreamVolume};

/// Collects the parts of a [`QueryFrontend`].
#[derive(Debug)]
pub struct QueryFrontendBuilder {
    querier: Arc<dyn Queries>,
    engine: Engine,
    limits: Overrides<Limits>,
    clock: Arc<dyn Clock>,
    deletes: Option<Arc<DeleteRequests>>,
    results_cache: Option<Arc<dyn Cache>>,
    registry: Option<Registry>,
    settings: QueryFrontendSettings,
}

impl QueryFrontendBuilder {
    /// Sets what tenants want deleted, as the querier knows it: answers are remembered as long as that does not change.
    #[must_use]
    pub fn deletes(mut self, deletes: Arc<DeleteRequests>) -> Self {
        self.deletes = Some(deletes);
        self
    }

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
            deletes: self.deletes,
            clock: self.clock,
            counts: QueryFrontendCounts::default(),
        })));
        if let Some(registry) = &self.registry {
            frontend.register_metrics(registry);
        }
        Ok(frontend)
    }

    fn frontend(&mut self) -> Result<Frontend<LogqlSplitter>> {
        let (e, settings) = (self.engine.settings(), &self.settings);
        let long_range = settings.split_instant_metric_queries_by_interval.as_nanos();
        let splitter = LogqlSplitter {
            long_range_ns: i64::try_from(long_range).unwrap_or(i64::MAX),
            max_stored_bytes: settings.results_cache_max_item_size.as_u64(),
            engine_switches: format!("{},{}", e.approx_topk, e.max_template_bytes),
        };
        let downstream = Arc::new(QuerierDownstream {
            querier: Arc::clone(&self.querier),
            engine: self.engine.clone(),
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
/// Answers are those of the querier: same entries and series, same order, same warnings. Only sums of unwrapped values that are cut may
/// differ in their last bits. How many series an answer has counts for the whole, whatever parts it came in; budgets of what is fetched
/// count for each part for itself, and memory of a query is that of its parts and its answer, each bounded by the engine's settings.
/// Dropping the future of a query stops its parts.
///
/// Streams, labels and volumes are looked for where the tenant's limits allow; patterns and what comes in go on to the querier as they are.
#[derive(Debug)]
pub struct QueryFrontend(Arc<FrontendParts>);

#[derive(Debug)]
struct FrontendParts {
    querier: Arc<dyn Queries>,
    engine: Engine,
    /// None when it is switched off.
    frontend: Option<Frontend<LogqlSplitter>>,
    settings: QueryFrontendSettings,
    limits: Overrides<Limits>,
    deletes: Option<Arc<DeleteRequests>>,
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
    /// Answers that were cut since they had too many series.
    pub cut: AtomicU64,
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
            deletes: None,
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
    pub fn frontend(&self) -> Option<&Frontend<LogqlSplitter>> {
        self.0.frontend.as_ref()
    }

    /// What came in.
    pub fn counts(&self) -> &QueryFrontendCounts {
        &self.0.counts
    }

    /// A request for what of streams and labels its tenant may look at; `None` when there is nothing.
    fn listed(&self, tenant: &TenantId, request: &SelectRequest) -> Result<Option<SelectRequest>> {
        let limits = query_limits(&self.0.limits, tenant);
        let range = listed_range(&limits, self.0.now_ns(), request.range)?;
        Ok(range.map(|range| SelectRequest {
            range,
            ..request.clone()
        }))
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
}

#[async_trait]
impl Select for QueryFrontend {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn EntryBatches>> {
        match self.listed(tenant, request)? {
            Some(request) => self.0.querier.select(tenant, &request).await,
            None => Ok(Box::new(ReadyBatches::default())),
        }
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        match self.listed(tenant, request)? {
            Some(request) => self.0.querier.series(tenant, &request).await,
            None => Ok(Listed::default()),
        }
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        match self.listed(tenant, request)? {
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
        match self.listed(tenant, request)? {
            Some(request) => self.0.querier.label_values(tenant, name, &request).await,
            None => Ok(Listed::default()),
        }
    }
}

#[async_trait]
impl Inspect for QueryFrontend {
    async fn volumes(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<StreamVolume>>> {
        match self.listed(tenant, request)? {
            Some(request) => self.0.querier.volumes(tenant, &request).await,
            None => Ok(Listed::default()),
        }
    }
}

#[async_trait]
impl Patterns for QueryFrontend {
    async fn patterns(
        &self,
        tenant: &TenantId,
        request: &PatternsRequest,
    ) -> Result<Listed<Vec<PatternCounts>>> {
        self.0.querier.patterns(tenant, request).await
    }
}

#[async_trait]
impl Tail for QueryFrontend {
    async fn tail(
        &self,
        tenant: &TenantId,
        request: &TailRequest,
    ) -> Result<Box<dyn TailFeed>, QueryError> {
        self.0.querier.tail(tenant, request).await
    }
}

impl FrontendParts {
    fn now_ns(&self) -> TimestampNs {
        self.clock.now_ms().to_ns()
    }

    async fn answer(&self, tenant: &TenantId, query: Query) -> Result<Answer, QueryError> {
        let mut limits = query_limits(&self.limits, tenant);
        if let Some(own) = &query.options().limits {
            limits = Arc::new(own.tighten(&limits));
        }
        move_if_heavy(query.text()).await;
        check_query(&limits, &query)?;
        self.check_engine(&query)?;
        let (is_range, is_log) = (query.is_range(), query.is_log());
        let Some(mut query) = looked_back(&limits, self.now_ns(), query) else {
            return Ok(nothing(is_range, is_log));
        };
        if let QueryTime::Range(range) = query.time() {
            check_length(&limits, range.entries())?;
            if !is_log && !limits.split_queries_by_interval.is_zero() {
                query = query.with_range(range.aligned());
            }
        }
        self.check_reads(tenant, &limits, &query).await?;
        let own = usize::try_from(limits.max_query_series).unwrap_or(usize::MAX);
        let max_series = self.engine.max_series(MaxSeries::AtMost(own));
        let timeout = self.timeout(&limits, query.options());
        let options = QueryOptions {
            // Which series are the first is known of the whole only.
            max_series: if query.options().cuts_series || max_series == 0 {
                MaxSeries::Any
            } else {
                MaxSeries::AtMost(max_series)
            },
            timeout: Some(timeout),
            epoch: self.epoch(tenant, &query).into(),
            ..query.options().clone()
        };
        let cuts_series = options.cuts_series;
        let query = query.with_options(options);
        let mut answer = match &self.frontend {
            Some(frontend) => {
                let no_cache = query.options().no_cache;
                let limits = self
                    .settings
                    .limits(&limits, no_cache, longest_range(&query));
                self.through(frontend, tenant, query, &limits, timeout)
                    .await?
            }
            None => self.querier.query(tenant, &query).await?,
        };
        self.bound_series(&mut answer, max_series, cuts_series)?;
        answer.stats.entries_returned = answer.value.len() as u64;
        self.engine.count_answer(&mut answer)?;
        Ok(answer)
    }

    /// What an answer depends on beside the data: which entries are hidden, and the horizons, if it looks behind one.
    fn epoch(&self, tenant: &TenantId, query: &Query) -> String {
        let first = reads(query).into_iter().map(|(_, range)| range.min_ns);
        let first = first.min().unwrap_or(TimestampNs::MAX);
        let mut epoch = String::new();
        let tenants: Vec<TenantId> = match tenant.is_joined() {
            true => tenant.parts().collect(),
            false => vec![tenant.clone()],
        };
        for tenant in tenants {
            let horizons = Horizons::of(&self.limits.for_tenant(&tenant), self.clock.now_ms());
            if let Some(deletes) = &self.deletes {
                epoch.push_str(&deletes.epoch(&tenant));
            }
            if first < horizons.latest() {
                let times = horizons.times().map(|t| format!("{t},"));
                epoch.extend(times.chain(["/".to_owned()]));
            }
        }
        epoch
    }

    /// What the engine would refuse of the whole, though not of its parts.
    fn check_engine(&self, query: &Query) -> Result<(), QueryError> {
        let settings = self.engine.settings();
        if let QueryTime::Range(r) = query.time() {
            let steps = (r.end_ns.to_ms() - r.start_ns.to_ms()) / r.step_ms.max(1);
            if steps > i64::try_from(settings.max_steps).unwrap_or(i64::MAX) {
                return Err(QueryError::too_many_steps());
            }
        }
        if !settings.approx_topk && approximates(query) {
            return Err(QueryError::approximations_are_off());
        }
        if query.is_log() && !query.is_range() {
            return Err(QueryError::log_query_at_one_time());
        }
        Ok(())
    }

    fn timeout(&self, limits: &Limits, options: &QueryOptions) -> std::time::Duration {
        let all = self.engine.settings().timeout;
        let tenant = Some(limits.query_timeout).filter(|t| !t.is_zero());
        [tenant, options.timeout]
            .into_iter()
            .flatten()
            .fold(all, Ord::min)
    }

    /// Estimates what a query would read, where that is bounded.
    async fn check_reads(
        &self,
        tenant: &TenantId,
        limits: &Limits,
        query: &Query,
    ) -> Result<(), QueryError> {
        if limits.max_query_bytes_read.as_u64() == 0 {
            return Ok(());
        }
        let mut bytes = self.estimate(tenant, query).await?;
        if let Some(whole) = &query.options().part_of {
            bytes = bytes.max(self.estimate(tenant, whole).await?);
        }
        check_bytes(limits, bytes)
    }

    async fn estimate(&self, tenant: &TenantId, query: &Query) -> Result<u64, QueryError> {
        let mut bytes = 0u64;
        for (matchers, range) in reads(query) {
            let request = SelectRequest::new(matchers, range);
            let volumes = self.querier.volumes(tenant, &request).await?;
            bytes += volumes.items.iter().map(|v| v.bytes).sum::<u64>();
        }
        Ok(bytes)
    }

    async fn through(
        &self,
        frontend: &Frontend<LogqlSplitter>,
        tenant: &TenantId,
        query: Query,
        limits: &FrontendLimits,
        timeout: std::time::Duration,
    ) -> Result<Answer, QueryError> {
        let begin = tokio::time::Instant::now();
        // A fault in one query must not take others with it.
        let work = AssertUnwindSafe(frontend.run(tenant, query, limits)).catch_unwind();
        let answer = match tokio::time::timeout(timeout, work).await {
            Err(_) => return Err(QueryError::TimedOut),
            Ok(Err(_)) => {
                let panicked = &self.engine.counts().panicked;
                panicked.fetch_add(1, Ordering::Relaxed);
                return Err(Error::Internal("the query panicked".into()).into());
            }
            Ok(Ok(answer)) => answer.map_err(QueryError::of)?,
        };
        let mut answer = Arc::unwrap_or_clone(answer);
        answer.stats.elapsed = begin.elapsed();
        Ok(answer)
    }

    /// Refuses an answer with too many series, or keeps the first ones, with a warning.
    fn bound_series(&self, answer: &mut Answer, max: usize, cuts: bool) -> Result<(), QueryError> {
        let (QueryValue::Matrix(series) | QueryValue::Vector(series)) = &mut answer.value else {
            return Ok(());
        };
        if max == 0 || series.len() <= max {
            return Ok(());
        }
        if !cuts {
            return Err(QueryError::too_many_series(max));
        }
        self.counts.cut.fetch_add(1, Ordering::Relaxed);
        series.truncate(max);
        let text = format!(
            "maximum number of series ({max}) reached for a single query; returning partial results"
        );
        merge_warnings(&mut answer.warnings, vec![text]);
        Ok(())
    }
}

/// The answer to a query all of whose times lie too far back.
fn nothing(is_range: bool, is_log: bool) -> Answer {
    Answer {
        value: match (is_log, is_range) {
            (true, _) => QueryValue::Streams(Vec::new()),
            (_, true) => QueryValue::Matrix(Vec::new()),
            (_, false) => QueryValue::Vector(Vec::new()),
        },
        ..Answer::default()
    }
}

/// The querier as the one that answers parts, and the engine as the one that joins what they give.
#[derive(Debug)]
struct QuerierDownstream {
    querier: Arc<dyn Queries>,
    engine: Engine,
}

/// A larger answer takes longer to join with others than a thread of the runtime should be held.
const LARGE_BYTES: u64 = 64 << 10;

#[async_trait]
impl Downstream<LogqlSplitter> for QuerierDownstream {
    async fn run(&self, tenant: &TenantId, query: &Query) -> Result<Arc<Answer>> {
        let answer = self.querier.query(tenant, query).await?;
        if answer.value.size_bytes() > LARGE_BYTES {
            move_to_pool().await;
        }
        Ok(Arc::new(answer))
    }

    async fn join(
        &self,
        tenant: &TenantId,
        plan: &ShardPlan<Query>,
        legs: Vec<Vec<Arc<Answer>>>,
    ) -> Result<Arc<Answer>> {
        let (mut cost, mut warnings) = (QueryStats::default(), Vec::new());
        for leg in legs.iter().flatten() {
            cost = cost.plus(leg.stats);
            merge_warnings(&mut warnings, leg.warnings.clone());
        }
        let mut whole = self.engine.join(tenant, &plan.outer, legs.into()).await?;
        merge_warnings(&mut warnings, std::mem::take(&mut whole.warnings));
        Ok(Arc::new(Answer {
            stats: cost.plus(whole.stats),
            warnings,
            ..whole
        }))
    }
}
