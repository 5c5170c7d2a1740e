//! What several ingesters tell of their series: lists united, counts divided by how often each series is held.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::{Labels, Matcher, TenantId};
use lgtm_ring::replicas::Copies;
use lgtm_ring::ring::Operation;

use super::ring_ingesters::RingIngesters;
use crate::components::clients::{IngesterClient, Inspect, MetricMetadata};
use crate::components::joined;
use crate::head::{
    ActiveSeriesRequest, CardinalityRequest, ExemplarsRequest, HeadStats, HistogramCardinality,
    LabelNamesCardinality, LabelValuesCardinality, SeriesExemplars, TenantStats,
};
use crate::select::LabelBatches;

/// Tells counts once.
fn all_once(copies: Copies, counts: &mut [(String, u64)]) {
    counts.iter_mut().for_each(|c| c.1 = copies.once(c.1));
}

impl RingIngesters {
    /// Asks a quorum and joins what they tell; how often each series is in it.
    async fn joined<T, F>(
        &self,
        tenant: &TenantId,
        ask: impl Fn(Arc<dyn IngesterClient>) -> F,
        join: impl Fn(&mut T, T),
    ) -> Result<(T, Copies)>
    where
        T: Default,
        F: Future<Output = Result<T>>,
    {
        let (now_s, ring) = self.now_and_readers(tenant);
        let set = ring.replication_set(Operation::READ, now_s)?;
        let answers = self.ask(&set, ask).await?;
        let copies = Copies::of(&ring, answers.len());
        let joined = answers.into_iter().reduce(|mut all, more| {
            join(&mut all, more);
            all
        });
        Ok((joined.unwrap_or_default(), copies))
    }
}

#[async_trait]
impl Inspect for RingIngesters {
    async fn metadata(&self, tenant: &TenantId, metric: Option<&str>) -> Result<MetricMetadata> {
        let ask = |i: Arc<dyn IngesterClient>| async move { i.metadata(tenant, metric).await };
        let all = self.joined(tenant, ask, joined::metadata).await?;
        Ok(all.0)
    }

    async fn exemplars(
        &self,
        tenant: &TenantId,
        request: &ExemplarsRequest,
    ) -> Result<SeriesExemplars> {
        let ask = |i: Arc<dyn IngesterClient>| async move { i.exemplars(tenant, request).await };
        let all = self.joined(tenant, ask, joined::exemplars).await?;
        Ok(all.0)
    }

    async fn label_names_cardinality(
        &self,
        tenant: &TenantId,
        request: &CardinalityRequest,
    ) -> Result<LabelNamesCardinality> {
        let ask = |i: Arc<dyn IngesterClient>| async move {
            i.label_names_cardinality(tenant, request).await
        };
        let join = |all: &mut _, more| joined::label_names(all, more, request.limit);
        // Values, of which each ingester has nearly all.
        Ok(self.joined(tenant, ask, join).await?.0)
    }

    async fn label_values_cardinality(
        &self,
        tenant: &TenantId,
        names: &[String],
        request: &CardinalityRequest,
    ) -> Result<LabelValuesCardinality> {
        let ask = |i: Arc<dyn IngesterClient>| async move {
            i.label_values_cardinality(tenant, names, request).await
        };
        let join = |all: &mut _, more| joined::label_values(all, more, request.limit);
        let (mut all, copies) = self.joined(tenant, ask, join).await?;
        all.series_total = copies.once(all.series_total);
        for label in &mut all.labels {
            label.series_total = copies.once(label.series_total);
            all_once(copies, &mut label.values);
        }
        Ok(all)
    }

    async fn active_series(
        &self,
        tenant: &TenantId,
        request: &ActiveSeriesRequest,
    ) -> Result<Box<dyn LabelBatches>> {
        let (now_s, ring) = self.now_and_readers(tenant);
        let set = ring.replication_set(Operation::READ, now_s)?;
        // Read whole before it counts: none of them can break off later.
        let ask = |i: Arc<dyn IngesterClient>| async move {
            let (mut sets, mut batches) = (Vec::new(), i.active_series(tenant, request).await?);
            while let Some(batch) = batches.next_batch().await? {
                sets.push(batch);
            }
            Ok(sets)
        };
        let answers = self.ask(&set, ask).await?;
        Ok(Box::new(DistinctLabels {
            batches: answers.into_iter().flatten().collect(),
            seen: HashSet::new(),
        }))
    }

    async fn active_histograms(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
    ) -> Result<Vec<HistogramCardinality>> {
        let ask =
            |i: Arc<dyn IngesterClient>| async move { i.active_histograms(tenant, matchers).await };
        let (mut all, copies) = self.joined(tenant, ask, joined::histograms).await?;
        for of in &mut all {
            of.series = copies.once(of.series);
            of.buckets = copies.once(of.buckets);
        }
        Ok(all)
    }

    async fn head_stats(&self, tenant: &TenantId, limit: usize) -> Result<HeadStats> {
        let ask = |i: Arc<dyn IngesterClient>| async move { i.head_stats(tenant, limit).await };
        let join = |all: &mut _, more| joined::head_stats(all, more, limit);
        let (mut all, copies) = self.joined(tenant, ask, join).await?;
        all.series = copies.once(all.series);
        all.chunks = copies.once(all.chunks);
        for counts in [
            &mut all.series_by_metric,
            &mut all.bytes_by_name,
            &mut all.series_by_pair,
        ] {
            all_once(copies, counts);
        }
        Ok(all)
    }

    async fn tenant_stats(&self, tenant: &TenantId) -> Result<TenantStats> {
        let ask = |i: Arc<dyn IngesterClient>| async move { i.tenant_stats(tenant).await };
        let join = |all: &mut TenantStats, more: TenantStats| {
            all.series += more.series;
            all.samples_per_s += more.samples_per_s;
        };
        let (mut all, copies) = self.joined(tenant, ask, join).await?;
        all.series = copies.once(all.series);
        all.samples_per_s /= copies.get();
        Ok(all)
    }
}

/// The label sets of several ingesters, each once.
#[derive(Debug)]
struct DistinctLabels {
    batches: Vec<Vec<Labels>>,
    seen: HashSet<Labels>,
}

#[async_trait]
impl LabelBatches for DistinctLabels {
    async fn next_batch(&mut self) -> Result<Option<Vec<Labels>>> {
        while let Some(mut batch) = self.batches.pop() {
            batch.retain(|labels| self.seen.insert(labels.clone()));
            if !batch.is_empty() {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}
