//! Asks everybody who may hold data and joins the answers.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::{Labels, TenantId, TextSet};

use crate::select::{MergedSeries, Select, SelectRequest, SeriesBatches};

/// Series per batch of a joined answer.
const BATCH: usize = 512;

/// Holders of metrics, taken as one.
#[derive(Debug)]
pub struct Querier {
    sources: Vec<Arc<dyn Select>>,
}

impl Querier {
    /// Asks all of `sources`.
    pub fn new(sources: Vec<Arc<dyn Select>>) -> Self {
        Self { sources }
    }
}

#[async_trait]
impl Select for Querier {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn SeriesBatches>> {
        let answers = self.sources.iter().map(|s| s.select(tenant, request));
        let answers = futures::future::try_join_all(answers).await?;
        Ok(Box::new(MergedSeries::new(answers, BATCH)))
    }

    async fn series(&self, tenant: &TenantId, request: &SelectRequest) -> Result<Vec<Labels>> {
        let answers = self.sources.iter().map(|s| s.series(tenant, request));
        let mut all: Vec<Labels> = futures::future::try_join_all(answers)
            .await?
            .into_iter()
            .flatten()
            .collect();
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    async fn label_names(&self, tenant: &TenantId, request: &SelectRequest) -> Result<TextSet> {
        let answers = self.sources.iter().map(|s| s.label_names(tenant, request));
        let answers = futures::future::try_join_all(answers).await?;
        Ok(answers.into_iter().fold(TextSet::new(), TextSet::union))
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<TextSet> {
        let answers = self
            .sources
            .iter()
            .map(|s| s.label_values(tenant, name, request));
        let answers = futures::future::try_join_all(answers).await?;
        Ok(answers.into_iter().fold(TextSet::new(), TextSet::union))
    }
}
