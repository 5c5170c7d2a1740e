//! Answers queries out of what ingesters and store-gateways hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::exec::{CancelToken, Executor, move_to_pool};
use lgtm_core::limits::{Overrides, QueryMemory};
use lgtm_core::model::TenantId;
use lgtm_core::telemetry::Registry;
use lgtm_core::units::ByteSize;
use lgtm_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::clients::{
    FindTrace, Heard, IngesterClient, MetricsWindow, Queries, SearchListener, StoreGatewayClient,
};
use super::holders::{Holders, JoinedSpans};
use super::requests::{
    Answered, FoundTrace, MetricsRequest, QueryEnd, SearchRequest, TagNamesAnswer, TagNamesRequest,
    TagValuesAnswer, TagValuesRequest, TraceRequest,
};
use super::trace_join::TraceJoin;
use crate::limits::Limits;
use crate::select::{SelectEnd, SpanBatch, SpanRequest, WantedRows};
use crate::traceql::{Metrics, MetricsPartial, Search, TraceHit};

/// Rows that are gathered out of batches where the query stands; more take longer than a thread of the runtime should be held.
const FEW_ROWS: usize = 100;
/// Bytes that it takes to remember a trace that was looked at whole, about.
const WHOLE_BYTES: usize = 40;

/// What queries may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuerierSettings {
    /// Time that a query, or a piece of one that the query-frontend cut, may take. Twice Tempo's default for searches.
    #[serde(with = "lgtm_core::units::duration")]
    pub query_timeout: Duration,
    /// Memory of all queries together: spans that are being looked at, and what was found. Beyond it queries are answered 503. 0: no bound.
    pub max_memory_total: ByteSize,
}

impl Default for QuerierSettings {
    fn default() -> Self {
        Self {
            query_timeout: Duration::from_secs(60),
            max_memory_total: ByteSize::mib(256),
        }
    }
}

impl QuerierSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// `InvalidInput` naming every fault.
    pub fn validate(&self) -> Result<()> {
        if self.query_timeout.is_zero() {
            return Err(Error::InvalidInput("query_timeout is 0".into()));
        }
        Ok(())
    }
}

/// Which queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryOp {
    /// A trace by its id.
    Trace,
    /// A search.
    Search,
    /// A query for series.
    Metrics,
    /// Names of attributes.
    TagNames,
    /// Their values.
    TagValues,
}

impl QueryOp {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Trace,
        Self::Search,
        Self::Metrics,
        Self::TagNames,
        Self::TagValues,
    ];

    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trace => "traces",
            Self::Search => "search",
            Self::Metrics => "metrics",
            Self::TagNames => "tags",
            Self::TagValues => "tag_values",
        }
    }
}

/// Counts of queries.
#[derive(Debug, Default)]
pub struct QuerierCounts {
    /// Queries begun, by what they are.
    pub queries: [AtomicU64; QueryOp::ALL.len()],
    /// Those that ended with an error.
    pub failed: AtomicU64,
    /// Those that ran into a fault of this program.
    pub faults: AtomicU64,
    /// Spans that they looked at.
    pub spans: AtomicU64,
    /// Bytes that they looked at.
    pub bytes: AtomicU64,
}

/// Collects the parts of a [`Querier`].
#[derive(Debug)]
pub struct QuerierBuilder {
    ingesters: Vec<Arc<dyn IngesterClient>>,
    store_gateways: Vec<Arc<dyn StoreGatewayClient>>,
    limits: Overrides<Limits>,
    executor: Executor,
    settings: QuerierSettings,
    registry: Option<Registry>,
}

impl QuerierBuilder {
    /// Sets what queries may take.
    #[must_use]
    pub fn settings(mut self, settings: QuerierSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Has `registry` tell what queries do.
    #[must_use]
    pub fn metrics(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// Checks everything, touches nothing.
    ///
    /// # Errors
    /// `InvalidInput` naming the settings that make no sense.
    pub fn build(self) -> Result<Arc<Querier>> {
        self.settings.validate()?;
        let recent = self.ingesters.iter().map(|i| Arc::clone(i) as _);
        let stored = self.store_gateways.iter().map(|g| Arc::clone(g) as _);
        let max_memory = self.settings.max_memory_total.as_u64();
        let querier = Arc::new(Querier {
            holders: Holders::new(recent.collect(), stored.collect()),
            ingesters: self.ingesters,
            store_gateways: self.store_gateways,
            limits: self.limits,
            executor: self.executor,
            memory: QueryMemory::new(max_memory, "querier.max_memory_total"),
            settings: self.settings,
            counts: QuerierCounts::default(),
        });
        if let Some(registry) = &self.registry {
            querier.register_metrics(registry);
        }
        Ok(querier)
    }
}

/// Answers queries over all who hold data. A query of [joined](TenantId::joined) tenants is answered as if all their traces were one tenant's.
///
/// Spans are evaluated on the compute pool, batch by batch: dropping a query ends it.
#[derive(Debug)]
pub struct Querier {
    holders: Holders,
    ingesters: Vec<Arc<dyn IngesterClient>>,
    store_gateways: Vec<Arc<dyn StoreGatewayClient>>,
    limits: Overrides<Limits>,
    executor: Executor,
    memory: Arc<QueryMemory>,
    settings: QuerierSettings,
    counts: QuerierCounts,
}

impl Querier {
    /// Begins a builder: a querier of these ingesters and store-gateways, which computes on `executor`.
    pub fn builder(
        ingesters: Vec<Arc<dyn IngesterClient>>,
        store_gateways: Vec<Arc<dyn StoreGatewayClient>>,
        limits: Overrides<Limits>,
        executor: Executor,
    ) -> QuerierBuilder {
        QuerierBuilder {
            ingesters,
            store_gateways,
            limits,
            executor,
            settings: QuerierSettings::default(),
            registry: None,
        }
    }

    /// What it has done so far.
    pub fn counts(&self) -> &QuerierCounts {
        &self.counts
    }

    /// What all queries hold.
    pub fn memory(&self) -> &Arc<QueryMemory> {
        &self.memory
    }

    /// Counts a query and bounds its time.
    async fn ask<T>(&self, op: QueryOp, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.counts.queries[op as usize].fetch_add(1, Ordering::Relaxed);
        let timeout = self.settings.query_timeout;
        let done = match tokio::time::timeout(timeout, work).await {
            Ok(done) => done,
            Err(_) => Err(Error::Timeout {
                what: "query (querier.query_timeout)".into(),
                after: timeout,
            }),
        };
        done.inspect_err(|e| {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
            if e.kind() == ErrorKind::Internal {
                self.counts.faults.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    fn end_of(&self, end: SelectEnd) -> QueryEnd {
        let stats = &end.stats;
        (self.counts.spans).fetch_add(stats.inspected_spans, Ordering::Relaxed);
        (self.counts.bytes).fetch_add(stats.inspected_bytes, Ordering::Relaxed);
        QueryEnd::of(end)
    }

    /// Begins to read what holders have of a tenant.
    async fn read(&self, tenant: &TenantId, request: &SpanRequest) -> Result<Reading> {
        let executor = self.executor.in_line(tenant.as_str());
        let spans = self.holders.select(tenant, request).await?;
        Ok(Reading {
            spans,
            is_alone: false,
            pool: FoldPool {
                executor,
                memory: Arc::clone(&self.memory),
            },
        })
    }

    async fn search_all(
        &self,
        tenant: &TenantId,
        request: &SearchRequest,
        listener: Option<&dyn SearchListener>,
    ) -> Result<Answered<Vec<TraceHit>>> {
        let mut search = Search::new(&request.query, request.settings);
        let mut end = SelectEnd::default();
        let tenants: Vec<TenantId> = tenant.parts().collect();
        // What the next tenant has is not known while this one's traces are looked at.
        let listener = listener.filter(|_| tenants.len() == 1);
        for tenant in &tenants {
            let mut reading = self.read(tenant, search.request()).await?;
            reading.is_alone = tenants.len() == 1;
            search = reading.search(search, listener, &end).await?;
            end.merge(reading.spans.end());
        }
        Ok(Answered {
            value: search.finish(),
            end: self.end_of(end),
        })
    }

    async fn fold_metrics(
        &self,
        tenant: &TenantId,
        request: &MetricsRequest,
    ) -> Result<Answered<MetricsPartial>> {
        let mut metrics = Metrics::new(&request.query, &request.settings)?;
        let mut end = SelectEnd::default();
        for tenant in tenant.parts() {
            let mut reading = self.read(&tenant, metrics.request()).await?;
            metrics = reading.metrics(metrics).await?;
            end.merge(reading.spans.end());
        }
        let executor = self.executor.in_line(tenant.as_str());
        let job = move |_: &CancelToken| Ok::<_, Error>(metrics.finish());
        Ok(Answered {
            value: executor.run(job, &CancelToken::new()).await?,
            end: self.end_of(end),
        })
    }

    /// Recent data are asked first, as by [`Holders`].
    async fn find_everywhere(
        &self,
        tenant: &TenantId,
        request: &TraceRequest,
    ) -> Result<FoundTrace> {
        let executor = self.executor.in_line(tenant.as_str());
        let mut join = TraceJoin::new(executor, request);
        for tenant in tenant.parts() {
            let recent = self.ingesters.iter();
            let recent = recent.map(|i| i.find_trace(&tenant, request));
            let mut answers = futures::future::try_join_all(recent).await?;
            let stored = self.store_gateways.iter();
            let stored = stored.map(|g| g.find_trace(&tenant, request));
            answers.extend(futures::future::try_join_all(stored).await?);
            let bytes: usize = answers.iter().map(|a| a.bytes.len()).sum();
            let _hold = self.memory.hold(bytes as u64)?;
            for answer in answers {
                join.add(answer).await?;
            }
        }
        join.finish_without_copies().await
    }
}

/// Spans of a tenant that are being looked at.
#[derive(Debug)]
struct Reading {
    spans: JoinedSpans,
    /// Whether no other tenant may have parts of the same traces.
    is_alone: bool,
    pool: FoldPool,
}

/// Where batches are taken up.
#[derive(Debug)]
struct FoldPool {
    executor: Executor,
    memory: Arc<QueryMemory>,
}

impl FoldPool {
    /// Takes a batch up, on the pool. Memory holds it until that is done.
    async fn fold<A: Send + 'static>(
        &self,
        mut answer: A,
        batch: SpanBatch,
        fold: impl FnOnce(&mut A, &SpanBatch) -> Result<()> + Send + 'static,
    ) -> Result<A> {
        let _hold = self.memory.hold(batch.size_bytes() as u64)?;
        let job = move |_: &CancelToken| {
            fold(&mut answer, &batch)?;
            Ok(answer)
        };
        self.executor.run(job, &CancelToken::new()).await
    }

    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let job = move |_: &CancelToken| job();
        self.executor.run(job, &CancelToken::new()).await
    }
}

impl Reading {
    /// Memory of traces that are remembered.
    fn hold_whole(&self, answer_bytes: usize) -> Result<lgtm_core::limits::MemoryHold> {
        let bytes = self.spans.whole_count() * WHOLE_BYTES + answer_bytes;
        self.pool.memory.hold(bytes as u64)
    }

    /// Looks at all spans, or as many as it takes to know the newest traces. `before` is what came of other tenants.
    async fn search(
        &mut self,
        mut search: Search,
        listener: Option<&dyn SearchListener>,
        before: &SelectEnd,
    ) -> Result<Search> {
        let mut told = 0;
        loop {
            if let Some(start_ns) = search.oldest_start_ns().filter(|_| self.is_alone) {
                self.spans.leave_out_before(start_ns);
            }
            let Some(batch) = self.spans.next_batch().await? else {
                break;
            };
            let _hold = self.pool.memory.hold(batch.size_bytes() as u64)?;
            let _whole = self.hold_whole(search.size_bytes())?;
            search = self.search_batch(search, batch).await?;
            let Some(newest_ns) = self.spans.newest_start_ns() else {
                continue;
            };
            if let Some(listener) = listener {
                let new: Vec<TraceHit> = search.settled(newest_ns).skip(told).cloned().collect();
                if !new.is_empty() {
                    told += new.len();
                    listener.settled(&new, &before.stats);
                }
            }
            if search.is_settled(newest_ns) {
                break;
            }
        }
        Ok(search)
    }

    async fn search_batch(&mut self, search: Search, batch: SpanBatch) -> Result<Search> {
        let job = move || {
            let matches = search.matches(&batch);
            Ok((search, batch, matches))
        };
        let (mut search, batch, mut matches) = self.pool.run(job).await?;
        let (scattered, mut whole) = if search.needs_whole_traces() {
            let all = 0..batch.traces.len();
            self.spans.scattered(&batch, all).await?
        } else {
            self.spans.scattered(&batch, matches.traces()).await?
        };
        matches.retain(|trace| scattered.binary_search(&trace).is_err());
        matches.keep_newest(&batch, search.limit());
        if !matches.is_empty() {
            if matches.rows().nth(FEW_ROWS).is_some() {
                move_to_pool().await;
            }
            let wanted = WantedRows {
                row_ids: matches.rows().map(|row| batch.row_ids[row]).collect(),
                columns: search.details().clone(),
            };
            let details = self.spans.rows(&wanted).await?;
            let job = move || {
                search.add(&batch, matches, &details)?;
                Ok(search)
            };
            search = self.pool.run(job).await?;
        }
        let request = search.whole_request();
        let (columns, range) = (request.columns, request.traces);
        loop {
            let next = self
                .spans
                .next_whole(&mut whole, &self.pool.executor, range, &columns);
            let Some(batch) = next.await? else {
                return Ok(search);
            };
            search = self.pool.fold(search, batch, Search::fold).await?;
        }
    }

    /// Counts all spans.
    async fn metrics(&mut self, mut metrics: Metrics) -> Result<Metrics> {
        let columns = metrics.request().columns.clone();
        while let Some(batch) = self.spans.next_batch().await? {
            let hold = self.pool.memory.hold(batch.size_bytes() as u64)?;
            let _whole = self.hold_whole(0)?;
            let needs_whole = metrics.needs_whole_traces();
            let (left_out, mut again) = if needs_whole {
                let all = 0..batch.traces.len();
                self.spans.scattered(&batch, all).await?
            } else {
                let copied = self.spans.copied(&batch).await?;
                let ids = copied.iter().map(|n| batch.traces[*n].id).collect();
                (copied, ids)
            };
            let count = move |m: &mut Metrics, b: &SpanBatch| m.fold_without(b, &left_out);
            drop(hold);
            metrics = self.pool.fold(metrics, batch, count).await?;
            loop {
                let executor = &self.pool.executor;
                let next = if needs_whole {
                    let spans = &mut self.spans;
                    spans.next_whole(&mut again, executor, None, &columns).await
                } else {
                    let spans = &mut self.spans;
                    spans.next_uncopied(&mut again, executor, &columns).await
                };
                let Some(batch) = next? else { break };
                metrics = self.pool.fold(metrics, batch, Metrics::fold).await?;
            }
        }
        Ok(metrics)
    }
}

#[async_trait]
impl FindTrace for Querier {
    async fn find_trace(&self, tenant: &TenantId, request: &TraceRequest) -> Result<FoundTrace> {
        self.ask(QueryOp::Trace, self.find_everywhere(tenant, request))
            .await
    }
}

#[async_trait]
impl Queries for Querier {
    async fn search(
        &self,
        tenant: &TenantId,
        request: &SearchRequest,
        listener: Option<&dyn SearchListener>,
    ) -> Result<Answered<Vec<TraceHit>>> {
        let work = self.search_all(tenant, request, listener);
        self.ask(QueryOp::Search, work).await
    }

    async fn metrics_part(
        &self,
        tenant: &TenantId,
        request: &MetricsRequest,
        _: Heard<MetricsWindow>,
    ) -> Result<Answered<MetricsPartial>> {
        // One window, which is known when all is.
        let work = self.fold_metrics(tenant, request);
        self.ask(QueryOp::Metrics, work).await
    }

    async fn tag_names(
        &self,
        tenant: &TenantId,
        request: &TagNamesRequest,
        listener: Heard<TagNamesAnswer>,
    ) -> Result<Answered<TagNamesAnswer>> {
        let work = self.list_names(tenant, request, listener);
        self.ask(QueryOp::TagNames, work).await
    }

    async fn tag_values(
        &self,
        tenant: &TenantId,
        request: &TagValuesRequest,
        listener: Heard<TagValuesAnswer>,
    ) -> Result<Answered<TagValuesAnswer>> {
        let work = self.list_values(tenant, request, listener);
        self.ask(QueryOp::TagValues, work).await
    }
}

mod tags;
