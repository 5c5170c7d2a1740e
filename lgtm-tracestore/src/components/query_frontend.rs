//! Queries on their way to the querier: cut, looked up, and given their turn.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::FutureExt;
use lgtm_core::cache::{Cache, MemoryCache, MemoryCacheSettings};
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::{Executor, move_to_pool};
use lgtm_core::frontend::{Downstream, Frontend, ShardPlan};
use lgtm_core::model::TenantId;
use lgtm_core::telemetry::Registry;
use lgtm_core::{Error, Result};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::clients::{FindTrace, Heard, MetricsWindow, Queries, SearchListener};
use super::query_frontend_settings::QueryFrontendSettings;
use super::query_splitter::{TraceAnswer, TraceQuery, TraceqlSplitter};
use super::requests::{
    Answered, FoundTrace, MetricsRequest, SearchRequest, TagNamesAnswer, TagNamesRequest,
    TagValuesAnswer, TagValuesRequest, TraceRequest,
};
use crate::select::FetchStats;
use crate::trace::TraceId;
use crate::traceql::{MetricsAnswer, MetricsPartial, TraceHit};

/// A larger answer takes longer to join and to compute than a thread of the runtime should be held.
const LARGE_BYTES: usize = 64 << 10;

/// Collects the parts of a [`QueryFrontend`].
#[derive(Debug)]
pub struct QueryFrontendBuilder {
    querier: Arc<dyn Queries>,
    executor: Executor,
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
            executor: self.executor,
            frontend,
            settings: self.settings,
            counts: QueryFrontendCounts::default(),
        })));
        if let Some(registry) = &self.registry {
            frontend.register_metrics(registry);
        }
        Ok(frontend)
    }

    fn frontend(&mut self) -> Result<Frontend<TraceqlSplitter>> {
        let settings = &self.settings;
        let splitter = TraceqlSplitter {
            max_stored_bytes: settings.results_cache_max_item_size.as_usize(),
        };
        let downstream = Arc::new(QuerierDownstream(Arc::clone(&self.querier)));
        let mut builder = Frontend::builder(splitter, downstream, Arc::clone(&self.clock))
            .settings(settings.core());
        if settings.cache_results {
            let cache = match self.results_cache.take() {
                Some(cache) => cache,
                None => {
                    let size = MemoryCacheSettings {
                        max_bytes: settings.results_cache_size,
                    };
                    let clock = Arc::clone(&self.clock);
                    Arc::new(MemoryCache::new("traces_results", &size, clock)?)
                }
            };
            builder = builder.results_cache(cache);
        }
        builder.build()
    }
}

/// Where all queries of a process enter.
///
/// Answers are those of the querier. Metrics queries over a range are cut in time, and pieces that can change no more are kept; searches, names,
/// values and traces take their turn as a whole, so that many of one tenant do not keep others waiting. Memory of a query is that of its
/// pieces and its answer, each bounded by what the request allows. Dropping the future of a query stops its pieces.
#[derive(Debug)]
pub struct QueryFrontend(Arc<FrontendParts>);

#[derive(Debug)]
struct FrontendParts {
    querier: Arc<dyn Queries>,
    executor: Executor,
    /// None when it is switched off.
    frontend: Option<Frontend<TraceqlSplitter>>,
    settings: QueryFrontendSettings,
    counts: QueryFrontendCounts,
}

/// What came in.
#[derive(Debug, Default)]
pub struct QueryFrontendCounts {
    /// Searches.
    pub searches: AtomicU64,
    /// Metrics queries.
    pub metrics: AtomicU64,
    /// Questions for names and values.
    pub tags: AtomicU64,
    /// Questions for a trace.
    pub traces: AtomicU64,
    /// Queries that ended in a panic.
    pub panicked: AtomicU64,
}

impl QueryFrontend {
    /// Begins a builder: in front of `querier`; joins on `executor`.
    pub fn builder(querier: Arc<dyn Queries>, executor: Executor) -> QueryFrontendBuilder {
        QueryFrontendBuilder {
            querier,
            executor,
            clock: Arc::new(SystemClock::new()),
            results_cache: None,
            registry: None,
            settings: QueryFrontendSettings::default(),
        }
    }

    /// What cuts and remembers, unless it is switched off: for its statistics.
    pub fn frontend(&self) -> Option<&Frontend<TraceqlSplitter>> {
        self.0.frontend.as_ref()
    }

    /// What came in.
    pub fn counts(&self) -> &QueryFrontendCounts {
        &self.0.counts
    }

    /// Runs on a thread of the runtime until something shows that it is large.
    async fn run(&self, tenant: &TenantId, query: TraceQuery) -> Result<TraceAnswer> {
        let counts = &self.0.counts;
        let count = match query {
            TraceQuery::Search(..) => &counts.searches,
            TraceQuery::Metrics(..) => &counts.metrics,
            TraceQuery::TagNames(..) | TraceQuery::TagValues(..) => &counts.tags,
            TraceQuery::Trace(_) => &counts.traces,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let (parts, tenant) = (Arc::clone(&self.0), tenant.clone());
        let executor = self.0.executor.in_line(tenant.as_str());
        let work = async move { parts.answer(&tenant, query).await };
        executor.run_movable(work).await
    }
}

impl FrontendParts {
    async fn answer(&self, tenant: &TenantId, query: TraceQuery) -> Result<TraceAnswer> {
        let max_bytes = match &query {
            TraceQuery::Metrics(request, _) => request.settings.max_bytes,
            _ => usize::MAX,
        };
        let work = async {
            let answer = match &self.frontend {
                Some(frontend) => frontend.run(tenant, query, &self.settings.limits()).await,
                None => ask(&*self.querier, tenant, &query).await,
            };
            // Here and not where it is asked for: what is too large goes to the pool to be counted, and is freed there.
            bounded(answer?, max_bytes).await
        };
        // A fault in one query must not take others with it.
        let work = AssertUnwindSafe(work).catch_unwind();
        let timeout = self.settings.api_timeout;
        let done = if timeout.is_zero() {
            work.await
        } else {
            let done = tokio::time::timeout(timeout, work).await;
            done.map_err(|_| Error::Timeout {
                what: "the query".into(),
                after: timeout,
            })?
        };
        done.unwrap_or_else(|_| {
            self.counts.panicked.fetch_add(1, Ordering::Relaxed);
            Err(Error::Internal("the query panicked".into()))
        })
    }
}

/// The querier as the one that answers pieces.
#[derive(Debug)]
struct QuerierDownstream(Arc<dyn Queries>);

#[async_trait]
impl Downstream<TraceqlSplitter> for QuerierDownstream {
    async fn run(&self, tenant: &TenantId, query: &TraceQuery) -> Result<TraceAnswer> {
        ask(&*self.0, tenant, query).await
    }

    async fn join(
        &self,
        _: &TenantId,
        _: &ShardPlan<TraceQuery>,
        _: Vec<Vec<TraceAnswer>>,
    ) -> Result<TraceAnswer> {
        Err(Error::Internal("a trace query is not cut by series".into()))
    }
}

async fn ask(querier: &dyn Queries, tenant: &TenantId, query: &TraceQuery) -> Result<TraceAnswer> {
    Ok(match query {
        TraceQuery::Search(request, listener) => {
            let answer = querier.search(tenant, request, listener.as_deref());
            TraceAnswer::Search(Arc::new(answer.await?))
        }
        TraceQuery::Metrics(request, _) => {
            let answer = querier.metrics_part(tenant, request, None).await?;
            if answer.value.is_larger_than(LARGE_BYTES) {
                move_to_pool().await;
            }
            TraceAnswer::Metrics(Arc::new(answer))
        }
        TraceQuery::TagNames(request, listener) => {
            let answer = querier.tag_names(tenant, request, listener.clone()).await?;
            TraceAnswer::TagNames(Arc::new(answer))
        }
        TraceQuery::TagValues(request, listener) => {
            let answer = querier
                .tag_values(tenant, request, listener.clone())
                .await?;
            TraceAnswer::TagValues(Arc::new(answer))
        }
        TraceQuery::Trace(request) => {
            let answer = querier.find_trace(tenant, request).await?;
            TraceAnswer::Trace(Arc::new(answer))
        }
    })
}

/// An answer of series, unless they take more than they may.
async fn bounded(answer: TraceAnswer, max_bytes: usize) -> Result<TraceAnswer> {
    let TraceAnswer::Metrics(series) = &answer else {
        return Ok(answer);
    };
    if series.value.is_larger_than(LARGE_BYTES) {
        move_to_pool().await;
    }
    let bytes = series.value.size_bytes();
    if bytes > max_bytes {
        return Err(Error::LimitExceeded(format!(
            "the series of the query take {bytes} bytes, at most {max_bytes} are allowed: group by fewer values, or ask for a larger step"
        )));
    }
    Ok(answer)
}

fn other_kind<T>(answer: &TraceAnswer) -> Result<T> {
    Err(Error::Internal(format!(
        "an answer of another kind came: {answer:?}"
    )))
}

/// Hears of a search wherever it runs, and passes on what was not told yet: a search that failed half way begins again.
#[derive(Debug)]
struct Relay {
    told: Mutex<HashSet<TraceId>>,
    to: mpsc::UnboundedSender<(Vec<TraceHit>, FetchStats)>,
}

impl SearchListener for Relay {
    fn settled(&self, traces: &[TraceHit], stats: &FetchStats) {
        let mut told = self.told.lock();
        let new = traces.iter().filter(|hit| told.insert(hit.id));
        // At most as many as the search may give: that is the bound of the channel. Nobody listens any more: nothing to do.
        let _ = self.to.send((new.cloned().collect(), *stats));
    }
}

#[async_trait]
impl Queries for QueryFrontend {
    async fn search(
        &self,
        tenant: &TenantId,
        request: &SearchRequest,
        listener: Option<&dyn SearchListener>,
    ) -> Result<Answered<Vec<TraceHit>>> {
        let (relay, mut heard) = match listener {
            None => (None, None),
            Some(listener) => {
                let (to, heard) = mpsc::unbounded_channel();
                let told = Mutex::default();
                let relay: Arc<dyn SearchListener> = Arc::new(Relay { told, to });
                (Some(relay), Some((listener, heard)))
            }
        };
        let query = TraceQuery::Search(request.clone(), relay);
        let mut work = std::pin::pin!(self.run(tenant, query));
        let answer = loop {
            let Some((listener, heard)) = &mut heard else {
                break work.await?;
            };
            tokio::select! {
                biased;
                Some((traces, stats)) = heard.recv() => listener.settled(&traces, &stats),
                answer = &mut work => break answer?,
            }
        };
        match answer {
            TraceAnswer::Search(answer) => Ok(Arc::unwrap_or_clone(answer)),
            other => other_kind(&other),
        }
    }

    async fn metrics_part(
        &self,
        tenant: &TenantId,
        request: &MetricsRequest,
        listener: Heard<MetricsWindow>,
    ) -> Result<Answered<MetricsPartial>> {
        let query = TraceQuery::Metrics(request.clone(), listener);
        match self.run(tenant, query).await? {
            TraceAnswer::Metrics(answer) => Ok(Arc::unwrap_or_clone(answer)),
            other => other_kind(&other),
        }
    }

    async fn metrics(
        &self,
        tenant: &TenantId,
        request: &MetricsRequest,
        listener: Heard<MetricsWindow>,
    ) -> Result<Answered<MetricsAnswer>> {
        let part = self.metrics_part(tenant, request, listener).await?;
        let request = request.clone();
        let compute = async move {
            if part.value.is_larger_than(LARGE_BYTES) {
                move_to_pool().await;
            }
            Ok(part.map(|part| MetricsAnswer::of(&request.query, &request.settings, part)))
        };
        let executor = self.0.executor.in_line(tenant.as_str());
        executor.run_movable(compute).await
    }

    async fn tag_names(
        &self,
        tenant: &TenantId,
        request: &TagNamesRequest,
        listener: Heard<TagNamesAnswer>,
    ) -> Result<Answered<TagNamesAnswer>> {
        let query = TraceQuery::TagNames(request.clone(), listener);
        match self.run(tenant, query).await? {
            TraceAnswer::TagNames(answer) => Ok(Arc::unwrap_or_clone(answer)),
            other => other_kind(&other),
        }
    }

    async fn tag_values(
        &self,
        tenant: &TenantId,
        request: &TagValuesRequest,
        listener: Heard<TagValuesAnswer>,
    ) -> Result<Answered<TagValuesAnswer>> {
        let query = TraceQuery::TagValues(request.clone(), listener);
        match self.run(tenant, query).await? {
            TraceAnswer::TagValues(answer) => Ok(Arc::unwrap_or_clone(answer)),
            other => other_kind(&other),
        }
    }
}

#[async_trait]
impl FindTrace for QueryFrontend {
    async fn find_trace(&self, tenant: &TenantId, request: &TraceRequest) -> Result<FoundTrace> {
        match self.run(tenant, TraceQuery::Trace(*request)).await? {
            TraceAnswer::Trace(answer) => Ok(Arc::unwrap_or_clone(answer)),
            other => other_kind(&other),
        }
    }
}

#[cfg(test)]
mod tests;
