//! What an ingester knows of the labels of its series. Before the start it has none.

use lgtm_core::model::{Matcher, TenantId};

use super::ingester::Ingester;
use crate::head::{
    ActiveSeries, CountMethod, HistogramCardinality, LabelNamesCardinality, LabelValuesCardinality,
};

impl Ingester {
    /// How many values the labels of a tenant's matching series have. Cost: a walk over the postings; run it on the compute pool.
    pub fn label_names_cardinality(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        method: CountMethod,
        limit: usize,
    ) -> LabelNamesCardinality {
        let heads = self.heads();
        heads.map_or_else(
            |_| LabelNamesCardinality::default(),
            |h| h.label_names_cardinality(tenant, matchers, method, limit),
        )
    }

    /// How many of a tenant's matching series the values of `names` have. Cost: a walk over the postings of the names.
    pub fn label_values_cardinality(
        &self,
        tenant: &TenantId,
        names: &[String],
        matchers: &[Matcher],
        method: CountMethod,
        limit: usize,
    ) -> LabelValuesCardinality {
        let heads = self.heads();
        heads.map_or_else(
            |_| LabelValuesCardinality::default(),
            |h| h.label_values_cardinality(tenant, names, matchers, method, limit),
        )
    }

    /// A tenant's matching series that got a sample within `active_series_idle_timeout`.
    pub fn active_series(&self, tenant: &TenantId, matchers: &[Matcher]) -> ActiveSeries {
        let heads = self.heads();
        heads.map_or_else(
            |_| ActiveSeries::default(),
            |h| h.active_series(tenant, matchers),
        )
    }

    /// How large the native histograms of a tenant's active series are, by metric in order.
    pub fn active_histograms(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
    ) -> Vec<HistogramCardinality> {
        let heads = self.heads();
        heads.map_or_else(|_| Vec::new(), |h| h.active_histograms(tenant, matchers))
    }
}
