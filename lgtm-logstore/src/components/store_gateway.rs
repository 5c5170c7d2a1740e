//! Chunks in object storage as a component: [`BucketChunks`] read in this process.

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::{Listed, TenantId};

use super::clients::{Inspect, StoreGatewayClient};
use crate::bucket::BucketChunks;
use crate::select::{SelectRequest, StreamVolume};

impl StoreGatewayClient for BucketChunks {}

#[async_trait]
impl Inspect for BucketChunks {
    async fn volumes(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<StreamVolume>>> {
        self.volumes(tenant, request).await
    }
}
