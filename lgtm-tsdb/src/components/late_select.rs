//! Recent data of an ingester that may not be started yet.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::{Labels, TenantId, TextSet};

use super::ingester::Ingester;
use crate::select::{Select, SelectRequest, SeriesBatches};

/// Asks an ingester in the same process; `Unavailable` until it is started.
#[derive(Debug)]
pub struct LateSelect(Arc<Ingester>);

impl LateSelect {
    /// Asks `ingester`.
    pub fn new(ingester: Arc<Ingester>) -> Self {
        Self(ingester)
    }
}

#[async_trait]
impl Select for LateSelect {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn SeriesBatches>> {
        self.0.select()?.select(tenant, request).await
    }

    async fn series(&self, tenant: &TenantId, request: &SelectRequest) -> Result<Vec<Labels>> {
        self.0.select()?.series(tenant, request).await
    }

    async fn label_names(&self, tenant: &TenantId, request: &SelectRequest) -> Result<TextSet> {
        self.0.select()?.label_names(tenant, request).await
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<TextSet> {
        self.0.select()?.label_values(tenant, name, request).await
    }
}
