//! An ingester that can be told to fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use lgtm_core::model::{Labels, Listed, TenantId, TextSet, TimeRangeNs};
use lgtm_core::{Error, Result};
use parking_lot::Mutex;

use crate::components::Ingester;
use crate::components::clients::{
    IngesterClient, Inspect, PatternCounts, Patterns, PatternsRequest, Tail, TailFeed, TailRequest,
};
use crate::limits::{PushPart, PushReport};
use crate::logql::QueryError;
use crate::select::{EntryBatch, EntryBatches, Select, SelectEnd, SelectRequest, StreamVolume};

/// An ingester that fails when it is told to.
#[derive(Debug)]
pub(super) struct Frail {
    pub(super) ingester: Arc<Ingester>,
    pub(super) is_away: AtomicBool,
    /// Answers break off behind so many batches of one block.
    pub(super) breaks_after: Mutex<Option<usize>>,
}

impl Frail {
    pub(super) fn check(&self) -> Result<&Arc<Ingester>> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("away".into()));
        }
        Ok(&self.ingester)
    }
}

/// An answer that may break off.
#[derive(Debug)]
struct FrailBatches {
    all: Box<dyn EntryBatches>,
    left: Option<usize>,
}

#[async_trait]
impl EntryBatches for FrailBatches {
    async fn next_batch(&mut self) -> Result<Option<EntryBatch>> {
        if let Some(left) = &mut self.left {
            *left = left
                .checked_sub(1)
                .ok_or_else(|| Error::Unavailable("broke off".into()))?;
        }
        self.all.next_batch().await
    }

    fn times(&self) -> Option<TimeRangeNs> {
        self.all.times()
    }

    fn end(&mut self) -> SelectEnd {
        self.all.end()
    }
}

#[async_trait]
impl Select for Frail {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn EntryBatches>> {
        Ok(Box::new(FrailBatches {
            all: self.check()?.select(tenant, request).await?,
            left: *self.breaks_after.lock(),
        }))
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        self.check()?.series(tenant, request).await
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        self.check()?.label_names(tenant, request).await
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        self.check()?.label_values(tenant, name, request).await
    }
}

#[async_trait]
impl Inspect for Frail {
    async fn volumes(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<StreamVolume>>> {
        Inspect::volumes(&**self.check()?, tenant, request).await
    }
}

#[async_trait]
impl Patterns for Frail {
    async fn patterns(
        &self,
        tenant: &TenantId,
        request: &PatternsRequest,
    ) -> Result<Listed<Vec<PatternCounts>>> {
        self.check()?.patterns(tenant, request).await
    }
}

#[async_trait]
impl Tail for Frail {
    async fn tail(
        &self,
        tenant: &TenantId,
        request: &TailRequest,
    ) -> Result<Box<dyn TailFeed>, QueryError> {
        self.check()?.tail(tenant, request).await
    }
}

#[async_trait]
impl IngesterClient for Frail {
    async fn push(&self, tenant: &TenantId, part: PushPart) -> Result<PushReport> {
        self.check()?.push(tenant, part).await
    }
}
