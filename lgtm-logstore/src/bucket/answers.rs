//! Answers to the one question.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::{Labels, Listed, TenantId, TextSet};

use super::bucket_chunks::BucketChunks;
use super::streams::FoundStreams;
use super::sweep::ChunkSweep;
use crate::select::{CountWish, EntryBatches, Select, SelectRequest};

impl BucketChunks {
    /// The streams that match and have chunks of the range, by the index alone.
    async fn matching(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        let found = self.found(tenant, request).await?;
        let mut listed = Listed::whole(found.streams.into_iter().map(|s| s.labels).collect());
        listed.warn(found.warnings);
        Ok(listed)
    }

    fn sweep(&self, tenant: &TenantId, request: &SelectRequest, found: FoundStreams) -> ChunkSweep {
        ChunkSweep::new(
            Arc::clone(&self.source),
            self.files.executor.clone(),
            tenant,
            request.clone(),
            found,
            &self.settings,
        )
        .screened_by(self.side.clone())
    }
}

/// Lists come from the index: a stream counts when a chunk of it overlaps the range, though it may have no entry inside.
#[async_trait]
impl Select for BucketChunks {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn EntryBatches>> {
        let found = self.found(tenant, request).await?;
        Ok(Box::new(self.sweep(tenant, request, found)))
    }

    async fn select_counted(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
        wish: &CountWish,
    ) -> Result<Box<dyn EntryBatches>> {
        let found = self.found(tenant, request).await?;
        let (found, counts) = self.counted(tenant, request, wish, found).await?;
        Ok(Box::new(
            self.sweep(tenant, request, found).with_counts(counts),
        ))
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        let all = self.matching(tenant, request).await?;
        Ok(all.cut(request.limit))
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let all = self.matching(tenant, request).await?;
        let names = |all: Vec<Labels>| -> TextSet {
            let names = all.iter().flat_map(|l| l.iter().map(|(name, _)| name));
            names.collect()
        };
        Ok(all.map(names).cut(request.limit))
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let all = self.matching(tenant, request).await?;
        let values = |all: Vec<Labels>| -> TextSet {
            let values = all.iter().filter_map(|l| l.get(name));
            values.collect()
        };
        Ok(all.map(values).cut(request.limit))
    }
}
