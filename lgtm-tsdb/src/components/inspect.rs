//! What an ingester tells of its series beside their samples. Whatever walks a head is computed in the pool, in the line of its tenant.

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::exec::CancelToken;
use lgtm_core::model::{Labels, Matcher, TenantId};

use super::clients::{Inspect, MetricMetadata};
use super::ingester::Ingester;
use crate::head::{
    ActiveSeries, ActiveSeriesRequest, CardinalityRequest, ExemplarsRequest, HeadStats, Heads,
    HistogramCardinality, LabelNamesCardinality, LabelValuesCardinality, SeriesExemplars,
    TenantStats,
};
use crate::select::LabelBatches;

impl Ingester {
    /// Walks a head in the pool, until it is done or nobody waits for it any more.
    async fn walk<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        job: impl FnOnce(&Heads, &TenantId, &CancelToken) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (heads, executor) = (self.heads()?, self.executor().in_line(tenant.as_str()));
        let tenant = tenant.clone();
        let job = move |cancel: &CancelToken| job(&heads, &tenant, cancel);
        executor.run(job, &CancelToken::new()).await
    }
}

#[async_trait]
impl Inspect for Ingester {
    async fn metadata(&self, tenant: &TenantId, metric: Option<&str>) -> Result<MetricMetadata> {
        Ok(self.heads()?.metadata(tenant, metric))
    }

    async fn exemplars(
        &self,
        tenant: &TenantId,
        request: &ExemplarsRequest,
    ) -> Result<SeriesExemplars> {
        let request = request.clone();
        self.walk(tenant, move |heads, t, cancel| {
            heads.exemplars(t, &request, cancel)
        })
        .await
    }

    async fn label_names_cardinality(
        &self,
        tenant: &TenantId,
        request: &CardinalityRequest,
    ) -> Result<LabelNamesCardinality> {
        let request = request.clone();
        let count = move |heads: &Heads, tenant: &TenantId, cancel: &CancelToken| {
            heads.label_names_cardinality(tenant, &request, cancel)
        };
        self.walk(tenant, count).await
    }

    async fn label_values_cardinality(
        &self,
        tenant: &TenantId,
        names: &[String],
        request: &CardinalityRequest,
    ) -> Result<LabelValuesCardinality> {
        let (names, request) = (names.to_vec(), request.clone());
        let count = move |heads: &Heads, tenant: &TenantId, cancel: &CancelToken| {
            heads.label_values_cardinality(tenant, &names, &request, cancel)
        };
        self.walk(tenant, count).await
    }

    async fn active_series(
        &self,
        tenant: &TenantId,
        request: &ActiveSeriesRequest,
    ) -> Result<Box<dyn LabelBatches>> {
        let request = request.clone();
        let list = move |heads: &Heads, tenant: &TenantId, cancel: &CancelToken| {
            heads.active_series(tenant, &request, cancel)
        };
        Ok(Box::new(ActiveLabels(self.walk(tenant, list).await?)))
    }

    async fn active_histograms(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
    ) -> Result<Vec<HistogramCardinality>> {
        let matchers = matchers.to_vec();
        let count = move |heads: &Heads, tenant: &TenantId, cancel: &CancelToken| {
            heads.active_histograms(tenant, &matchers, cancel)
        };
        self.walk(tenant, count).await
    }

    async fn head_stats(&self, tenant: &TenantId, limit: usize) -> Result<HeadStats> {
        self.walk(tenant, move |heads, t, cancel| {
            heads.stats(t, limit, cancel)
        })
        .await
    }

    async fn tenant_stats(&self, tenant: &TenantId) -> Result<TenantStats> {
        Ok(TenantStats {
            series: self.heads()?.series_of(tenant),
            samples_per_s: self.samples_per_s(tenant),
        })
    }
}

/// The labels of active series, resolved batch by batch: half a millisecond of work each, others run between two.
#[derive(Debug)]
struct ActiveLabels(ActiveSeries);

#[async_trait]
impl LabelBatches for ActiveLabels {
    async fn next_batch(&mut self) -> Result<Option<Vec<Labels>>> {
        tokio::task::yield_now().await;
        Ok(self.0.next())
    }
}
