//! What an ingester knows of the labels of its series. Before the start it has none.

use lgtm_core::Result;
use lgtm_core::exec::CancelToken;
use lgtm_core::model::{Matcher, TenantId};

use super::ingester::Ingester;
use crate::head::{
    ActiveSeries, CountMethod, HistogramCardinality, LabelNamesCardinality, LabelValuesCardinality,
};

impl Ingester {
    /// How many values the labels of a tenant's matching series have. Cost: a walk over the postings; run it on the compute pool.
    ///
    /// # Errors
    /// `Cancelled`; so do all below.
    pub fn label_names_cardinality(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        method: CountMethod,
        limit: usize,
        cancel: &CancelToken,
    ) -> Result<LabelNamesCardinality> {
        match self.heads() {
            Ok(h) => h.label_names_cardinality(tenant, matchers, method, limit, cancel),
            Err(_) => Ok(LabelNamesCardinality::default()),
        }
    }

    /// How many of a tenant's matching series the values of `names` have. Cost: a walk over the postings of the names.
    ///
    /// # Errors
    /// As above.
    pub fn label_values_cardinality(
        &self,
        tenant: &TenantId,
        names: &[String],
        matchers: &[Matcher],
        method: CountMethod,
        limit: usize,
        cancel: &CancelToken,
    ) -> Result<LabelValuesCardinality> {
        match self.heads() {
            Ok(h) => h.label_values_cardinality(tenant, names, matchers, method, limit, cancel),
            Err(_) => Ok(LabelValuesCardinality::default()),
        }
    }

    /// A tenant's matching series that got a sample within `active_series_idle_timeout`.
    ///
    /// # Errors
    /// As above.
    pub fn active_series(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        cancel: &CancelToken,
    ) -> Result<ActiveSeries> {
        match self.heads() {
            Ok(h) => h.active_series(tenant, matchers, cancel),
            Err(_) => Ok(ActiveSeries::default()),
        }
    }

    /// How large the native histograms of a tenant's active series are, by metric in order.
    ///
    /// # Errors
    /// As above.
    pub fn active_histograms(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        cancel: &CancelToken,
    ) -> Result<Vec<HistogramCardinality>> {
        match self.heads() {
            Ok(h) => h.active_histograms(tenant, matchers, cancel),
            Err(_) => Ok(Vec::new()),
        }
    }
}
