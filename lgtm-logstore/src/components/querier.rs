//! Answers queries out of what ingesters and store-gateways hold.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, TenantId, TextSet, tenants_asked};
use lgtm_core::telemetry::Registry;

use super::clients::{
    Departures, IngesterClient, Inspect, PatternCounts, Patterns, PatternsRequest, Queries,
    StoreGatewayClient, Tail, TailFeed, TailRequest,
};
use super::delete_requests::DeleteRequests;
use super::federated::{Federated, TenantsAsked, volumes_with_tenant};
use super::holders::Holders;
use super::joined::merge_sorted;
use super::joined_tail::{JoinedTail, TailSettings, tail_history};
use super::recent_patterns::joined_patterns;
use super::visible::VisibleEntries;
use crate::limits::{Limits, query_limits};
use crate::logql::{
    Answer, Engine, EngineSettings, MaxSeries, Query, QueryError, QueryOptions, QueryValue,
};
use crate::select::{EntryBatches, FetchBounds, Listed, Select, SelectRequest, StreamVolume};

/// Collects the parts of a [`Querier`].
#[derive(Debug)]
pub struct QuerierBuilder {
    ingesters: Vec<Arc<dyn IngesterClient>>,
    store_gateways: Vec<Arc<dyn StoreGatewayClient>>,
    limits: Overrides<Limits>,
    executor: Executor,
    clock: Arc<dyn Clock>,
    settings: EngineSettings,
    tail: TailSettings,
    deletes: Option<Arc<DeleteRequests>>,
    may_repeat: bool,
    departures: Option<Arc<dyn Departures>>,
    registry: Option<Registry>,
}

impl QuerierBuilder {
    /// Tells that several holders may have the same entries: ingesters that are replicas of each other, or that keep for a while what is in the object
    /// store already. Entries count once in any case, volumes do so then too.
    #[must_use]
    pub fn replicated(mut self) -> Self {
        self.may_repeat = true;
        self
    }

    /// Tells which ingesters have gone for good: what they wrote into the object store last is in answers though its readers are in other processes.
    #[must_use]
    pub fn departures(mut self, departures: Arc<dyn Departures>) -> Self {
        self.departures = Some(departures);
        self
    }

    /// Sets what tenants want deleted: no answer shows it. Without it nothing is hidden.
    #[must_use]
    pub fn deletes(mut self, deletes: Arc<DeleteRequests>) -> Self {
        self.deletes = Some(deletes);
        self
    }

    /// Sets how queries are computed, and what they may take.
    #[must_use]
    pub fn settings(mut self, settings: EngineSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets how queries are followed.
    #[must_use]
    pub fn tail(mut self, settings: TailSettings) -> Self {
        self.tail = settings;
        self
    }

    /// Sets the clock that `now` in queries goes by.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Has `registry` tell what the engine does.
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
        let recent = self.ingesters.iter().map(|i| Arc::clone(i) as _).collect();
        let stored = self.store_gateways.iter().map(|g| Arc::clone(g) as _);
        let holders = Holders::new(recent, stored.collect()).departures(self.departures.clone());
        let (limits, clock) = (self.limits.clone(), Arc::clone(&self.clock));
        let executor = self.executor.clone();
        let visible = VisibleEntries::new(holders, limits, self.deletes, executor, clock);
        let visible = Arc::new(visible);
        let holders = Arc::new(Federated::new(Arc::clone(&visible)));
        let source = Arc::clone(&holders) as _;
        let clock = Arc::clone(&self.clock);
        let querier = Arc::new(Querier {
            engine: Engine::new(source, self.executor, self.clock, self.settings)?,
            clock,
            tail: self.tail,
            holders,
            visible,
            ingesters: self.ingesters,
            store_gateways: self.store_gateways,
            limits: self.limits,
            may_repeat: self.may_repeat,
            departures: self.departures,
        });
        if let Some(registry) = &self.registry {
            querier.register_metrics(registry);
        }
        Ok(querier)
    }
}

/// Answers queries: an engine over all who hold data. The limits of the tenant bound what each of them may fetch and hold. A query of
/// [joined](TenantId::joined) tenants is answered as if all their streams were one tenant's, each with the label `__tenant_id__`.
#[derive(Debug)]
pub struct Querier {
    engine: Engine,
    clock: Arc<dyn Clock>,
    tail: TailSettings,
    holders: Arc<Federated>,
    visible: Arc<VisibleEntries>,
    ingesters: Vec<Arc<dyn IngesterClient>>,
    store_gateways: Vec<Arc<dyn StoreGatewayClient>>,
    limits: Overrides<Limits>,
    may_repeat: bool,
    departures: Option<Arc<dyn Departures>>,
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
            clock: Arc::new(SystemClock::new()),
            settings: EngineSettings::default(),
            tail: TailSettings::default(),
            deletes: None,
            may_repeat: false,
            departures: None,
            registry: None,
        }
    }

    /// What computes.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Who holds data, as one.
    pub fn holders(&self) -> Arc<dyn Select> {
        Arc::clone(&self.holders) as _
    }
}

impl Querier {
    fn bounded(&self, tenant: &TenantId, request: &SelectRequest) -> SelectRequest {
        let bounds = FetchBounds::of(&query_limits(&self.limits, tenant));
        request.clone().bounds(bounds)
    }

    /// Answers a query.
    ///
    /// # Errors
    /// Those of [`QueryError`].
    pub async fn query(&self, tenant: &TenantId, query: &Query) -> Result<Answer, QueryError> {
        let limits = query_limits(&self.limits, tenant);
        let own = usize::try_from(limits.max_query_series).unwrap_or(usize::MAX);
        let asked = query.options().clone();
        let options = QueryOptions {
            bounds: FetchBounds::of(&limits),
            max_series: match asked.max_series {
                MaxSeries::Engine if own > 0 => MaxSeries::AtMost(own),
                as_asked => as_asked,
            },
            ..asked
        };
        let query = query.clone().with_options(options);
        self.engine.query(tenant, &query).await
    }
}

#[async_trait]
impl Select for Querier {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn EntryBatches>> {
        let request = self.bounded(tenant, request);
        self.holders.select(tenant, &request).await
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        let request = self.bounded(tenant, request);
        self.holders.series(tenant, &request).await
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let request = self.bounded(tenant, request);
        self.holders.label_names(tenant, &request).await
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let request = self.bounded(tenant, request);
        self.holders.label_values(tenant, name, &request).await
    }
}

/// Each entry is counted by one ingester.
#[async_trait]
impl Patterns for Querier {
    async fn patterns(
        &self,
        tenant: &TenantId,
        request: &PatternsRequest,
    ) -> Result<Listed<Vec<PatternCounts>>> {
        let mut asked = request.clone();
        let mut tenants = vec![tenant.clone()];
        if tenant.is_joined() {
            (tenants, asked.matchers) = tenants_asked(tenant, &request.matchers);
        }
        let mut parts = Vec::new();
        for tenant in &tenants {
            let asked = self.ingesters.iter().map(|i| i.patterns(tenant, &asked));
            parts.extend(futures::future::try_join_all(asked).await?);
        }
        Ok(joined_patterns(request, parts, 1))
    }
}

/// All ingesters are followed before the past is asked for, so that nothing falls between.
#[async_trait]
impl Tail for Querier {
    async fn tail(
        &self,
        tenant: &TenantId,
        request: &TailRequest,
    ) -> Result<Box<dyn TailFeed>, QueryError> {
        let asked = self.ingesters.iter().map(|i| i.tail(tenant, request));
        let feeds = futures::future::try_join_all(asked).await?;
        let now_ns = self.clock.now_ms().to_ns();
        let past = tail_history(request, now_ns, &self.engine.settings().parser)?;
        let answer = self.query(tenant, &past).await?;
        let past = match answer.value {
            QueryValue::Streams(streams) => streams,
            _ => Vec::new(),
        };
        Ok(Box::new(JoinedTail::new(feeds, past, request, &self.tail)))
    }
}

#[async_trait]
impl Queries for Querier {
    async fn query(&self, tenant: &TenantId, query: &Query) -> Result<Answer, QueryError> {
        Self::query(self, tenant, query).await
    }
}

#[async_trait]
impl Inspect for Querier {
    async fn volumes(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<StreamVolume>>> {
        let request = &self.bounded(tenant, request);
        if !tenant.is_joined() {
            return self.tenant_volumes(tenant, request).await;
        }
        let asked = TenantsAsked::of(tenant, request);
        let answers = asked.ask_each(|t, r| self.tenant_volumes(t, r)).await?;
        let mut all = Listed::default();
        for (tenant, mut answer) in asked.tenants.iter().zip(answers) {
            answer.items = volumes_with_tenant(answer.items, tenant)?;
            all.merge(answer, add_volumes);
        }
        Ok(all.cut(request.limit))
    }
}

impl Querier {
    /// Recent data are asked first, as by [`Holders`].
    async fn tenant_volumes(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<StreamVolume>>> {
        let mut request = self.visible.kept(tenant, request);
        request.may_repeat = self.may_repeat;
        let request = &request;
        let recent = self.ingesters.iter().map(|i| i.volumes(tenant, request));
        let mut answers = futures::future::try_join_all(recent).await?;
        let departed = self.departures.as_ref().map(|d| d.departed());
        let request = &request.clone().after(departed.unwrap_or_default());
        let stored = self.store_gateways.iter();
        let stored = stored.map(|g| g.volumes(tenant, request));
        answers.extend(futures::future::try_join_all(stored).await?);
        let mut all = Listed::default();
        for answer in answers {
            all.merge(
                answer,
                match self.may_repeat {
                    true => join_volumes,
                    false => add_volumes,
                },
            );
        }
        // Nobody needs to know any more.
        all.items.iter_mut().for_each(|v| v.spans = Vec::new());
        Ok(all.cut(request.limit))
    }
}

/// Joins lists of holders that may have the same.
pub(super) fn join_volumes(all: &mut Vec<StreamVolume>, more: Vec<StreamVolume>) {
    let by_labels = |a: &StreamVolume, b: &StreamVolume| a.labels.cmp(&b.labels);
    merge_sorted(all, more, by_labels, StreamVolume::join);
}

/// Joins lists in the order of labels.
fn add_volumes(all: &mut Vec<StreamVolume>, more: Vec<StreamVolume>) {
    let by_labels = |a: &StreamVolume, b: &StreamVolume| a.labels.cmp(&b.labels);
    merge_sorted(all, more, by_labels, |volume, more| volume.add(&more));
}
