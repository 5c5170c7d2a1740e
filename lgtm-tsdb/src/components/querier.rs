//! Answers queries out of what ingesters and store-gateways hold.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, Matcher, TenantId, TextSet};
use lgtm_core::telemetry::Registry;
use lgtm_core::{Error, Result};

use super::clients::{
    Departures, IngesterClient, Inspect, MetricMetadata, Queries, StoreGatewayClient,
};
use super::holders::Holders;
use super::joined;
use crate::head::{
    ActiveSeriesRequest, CardinalityRequest, ExemplarsRequest, HeadStats, HistogramCardinality,
    LabelNamesCardinality, LabelValuesCardinality, SeriesExemplars, TenantStats,
};
use crate::limits::Limits;
use crate::promql::{Answer, Engine, EngineSettings, Query, QueryError, QueryOptions};
use crate::select::{FetchBounds, LabelBatches, Listed, Select, SelectRequest, SeriesBatches};

/// Collects the parts of a [`Querier`].
#[derive(Debug)]
pub struct QuerierBuilder {
    ingesters: Vec<Arc<dyn IngesterClient>>,
    store_gateways: Vec<Arc<dyn StoreGatewayClient>>,
    limits: Overrides<Limits>,
    executor: Executor,
    settings: EngineSettings,
    registry: Option<Registry>,
    departures: Option<Arc<dyn Departures>>,
}

impl QuerierBuilder {
    /// Sets how queries are computed, and what they may take.
    #[must_use]
    pub fn settings(mut self, settings: EngineSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Has `registry` tell what the engine does.
    #[must_use]
    pub fn metrics(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// Tells which ingesters have gone for good: what they wrote last is in the answers then, also where store-gateways did not know it yet.
    #[must_use]
    pub fn departures(mut self, departures: Arc<dyn Departures>) -> Self {
        self.departures = Some(departures);
        self
    }

    /// Checks everything, touches nothing.
    ///
    /// # Errors
    /// `InvalidInput` naming the settings that make no sense.
    pub fn build(self) -> Result<Arc<Querier>> {
        let recent = self.ingesters.iter().map(|i| Arc::clone(i) as _).collect();
        let stored = self.store_gateways.into_iter().map(|g| g as _).collect();
        let holders = Holders::new(recent, stored).departures(self.departures);
        let holders = Arc::new(holders);
        let engine = Engine::builder(Arc::clone(&holders) as _, self.executor);
        let querier = Arc::new(Querier {
            engine: engine.settings(self.settings).build()?,
            holders,
            ingesters: self.ingesters,
            limits: self.limits,
        });
        if let Some(registry) = &self.registry {
            querier.register_metrics(registry);
        }
        Ok(querier)
    }
}

/// Answers queries: an engine over all who hold data. The limits of the tenant bound what each of them may fetch and hold.
#[derive(Debug)]
pub struct Querier {
    engine: Engine,
    holders: Arc<Holders>,
    ingesters: Vec<Arc<dyn IngesterClient>>,
    limits: Overrides<Limits>,
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
            settings: EngineSettings::default(),
            registry: None,
            departures: None,
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

    fn bounded(&self, tenant: &TenantId, request: &SelectRequest) -> SelectRequest {
        let bounds = FetchBounds::of(&self.limits.for_tenant(tenant));
        request.clone().bounds(bounds)
    }

    /// Asks every ingester and joins what they tell; what one alone tells passes as it is.
    async fn joined<'a, T, F>(
        &'a self,
        ask: impl Fn(&'a dyn IngesterClient) -> F,
        join: impl Fn(&mut T, T),
    ) -> Result<T>
    where
        T: Default,
        F: Future<Output = Result<T>>,
    {
        let asked = self.ingesters.iter().map(|i| ask(&**i));
        let answers = futures::future::try_join_all(asked).await?;
        let joined = answers.into_iter().reduce(|mut all, more| {
            join(&mut all, more);
            all
        });
        Ok(joined.unwrap_or_default())
    }
}

#[async_trait]
impl Queries for Querier {
    async fn query(&self, tenant: &TenantId, query: &Query) -> Result<Answer, QueryError> {
        let limits = self.limits.for_tenant(tenant);
        let options = QueryOptions {
            bounds: FetchBounds::of(&limits),
            max_memory_bytes: limits.max_estimated_memory_consumption_per_query,
            ..query.options
        };
        let query = query.clone().options(options);
        self.engine.query(tenant, &query).await
    }
}

#[async_trait]
impl Select for Querier {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn SeriesBatches>> {
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

/// With one ingester, as in one process, counts are exact. Of several, counts of series are added, and of a label's values the highest
/// number counts.
#[async_trait]
impl Inspect for Querier {
    async fn metadata(&self, tenant: &TenantId, metric: Option<&str>) -> Result<MetricMetadata> {
        self.joined(|i| i.metadata(tenant, metric), joined::metadata)
            .await
    }

    async fn exemplars(
        &self,
        tenant: &TenantId,
        request: &ExemplarsRequest,
    ) -> Result<SeriesExemplars> {
        let search = self.joined(|i| i.exemplars(tenant, request), joined::exemplars);
        let after = self.engine.settings().timeout;
        match tokio::time::timeout(after, search).await {
            Ok(found) => found,
            Err(_) => Err(Error::Timeout {
                what: "the search of exemplars".into(),
                after,
            }),
        }
    }

    async fn label_names_cardinality(
        &self,
        tenant: &TenantId,
        request: &CardinalityRequest,
    ) -> Result<LabelNamesCardinality> {
        let join = |all: &mut _, more| joined::label_names(all, more, request.limit);
        self.joined(|i| i.label_names_cardinality(tenant, request), join)
            .await
    }

    async fn label_values_cardinality(
        &self,
        tenant: &TenantId,
        names: &[String],
        request: &CardinalityRequest,
    ) -> Result<LabelValuesCardinality> {
        let join = |all: &mut _, more| joined::label_values(all, more, request.limit);
        self.joined(|i| i.label_values_cardinality(tenant, names, request), join)
            .await
    }

    async fn active_series(
        &self,
        tenant: &TenantId,
        request: &ActiveSeriesRequest,
    ) -> Result<Box<dyn LabelBatches>> {
        let asked = self
            .ingesters
            .iter()
            .map(|i| i.active_series(tenant, request));
        let answers = futures::future::try_join_all(asked).await?;
        Ok(joined::label_batches(answers))
    }

    async fn active_histograms(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
    ) -> Result<Vec<HistogramCardinality>> {
        self.joined(
            |i| i.active_histograms(tenant, matchers),
            joined::histograms,
        )
        .await
    }

    async fn head_stats(&self, tenant: &TenantId, limit: usize) -> Result<HeadStats> {
        let join = |all: &mut _, more| joined::head_stats(all, more, limit);
        self.joined(|i| i.head_stats(tenant, limit), join).await
    }

    async fn tenant_stats(&self, tenant: &TenantId) -> Result<TenantStats> {
        let join = |all: &mut TenantStats, more: TenantStats| {
            all.series += more.series;
            all.samples_per_s += more.samples_per_s;
        };
        self.joined(|i| i.tenant_stats(tenant), join).await
    }
}
