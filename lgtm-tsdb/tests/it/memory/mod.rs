//! A holder of metrics: encoded chunks in a list.

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::{Labels, TenantId, TextSet};
use lgtm_tsdb::components::clients::StoreGatewayClient;
use lgtm_tsdb::select::{Listed, ReadyBatches, Select, SelectRequest, SeriesBatches, SeriesChunks};

/// Chunks in a list.
#[derive(Debug)]
pub(crate) struct Memory {
    series: Vec<SeriesChunks>,
    batch: usize,
}

/// A holder of what does not change, like a store-gateway.
impl StoreGatewayClient for Memory {}

impl Memory {
    /// Holds `series`, which are sorted by labels, and hands them out in batches of `batch`.
    pub(crate) fn new(series: Vec<SeriesChunks>, batch: usize) -> Self {
        Self { series, batch }
    }

    fn matching(&self, request: &SelectRequest) -> impl Iterator<Item = &SeriesChunks> {
        self.series.iter().filter(|s| {
            request.takes(&s.labels)
                && request
                    .matchers
                    .iter()
                    .all(|m| m.matches(s.labels.get(m.name()).unwrap_or("")))
        })
    }
}

#[async_trait]
impl Select for Memory {
    async fn select(
        &self,
        _: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn SeriesBatches>> {
        let all: Vec<SeriesChunks> = self.matching(request).cloned().collect();
        let batches = all
            .chunks(self.batch)
            .map(<[SeriesChunks]>::to_vec)
            .collect();
        Ok(Box::new(ReadyBatches::new(batches)))
    }

    async fn series(&self, _: &TenantId, request: &SelectRequest) -> Result<Listed<Vec<Labels>>> {
        let all = self.matching(request).map(|s| s.labels.clone());
        Ok(Listed::whole(all.collect()))
    }

    async fn label_names(&self, _: &TenantId, request: &SelectRequest) -> Result<Listed<TextSet>> {
        let all = self.matching(request);
        let names = all.flat_map(|s| s.labels.iter().map(|l| l.0));
        Ok(Listed::whole(names.collect()))
    }

    async fn label_values(
        &self,
        _: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let all = self.matching(request);
        let values = all.filter_map(|s| s.labels.get(name));
        Ok(Listed::whole(values.collect()))
    }
}
