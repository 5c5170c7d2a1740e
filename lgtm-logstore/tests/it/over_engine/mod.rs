//! What answers queries for a query-frontend under test: an engine over any holder of logs.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::{Labels, Listed, TenantId, TextSet};
use lgtm_logstore::components::clients::{
    Inspect, PatternCounts, Patterns, PatternsRequest, Queries, Tail, TailFeed, TailRequest,
};
use lgtm_logstore::logql::{Answer, Engine, Query, QueryError};
use lgtm_logstore::select::{EntryBatches, Select, SelectRequest, StreamVolume};
use parking_lot::Mutex;

/// Keeps what it was asked.
#[derive(Debug)]
pub(crate) struct OverEngine {
    pub(crate) engine: Engine,
    pub(crate) source: Arc<dyn Select>,
    pub(crate) asked: Mutex<Vec<Query>>,
    /// What each stream is said to have.
    pub(crate) stream_bytes: u64,
}

impl OverEngine {
    pub(crate) fn new(engine: Engine, source: Arc<dyn Select>) -> Arc<Self> {
        Arc::new(Self {
            engine,
            source,
            asked: Mutex::default(),
            stream_bytes: 0,
        })
    }

    /// How many parts were asked since the last time.
    pub(crate) fn count(&self) -> usize {
        std::mem::take(&mut *self.asked.lock()).len()
    }
}

#[async_trait]
impl Select for OverEngine {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn EntryBatches>> {
        self.source.select(tenant, request).await
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        self.source.series(tenant, request).await
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        self.source.label_names(tenant, request).await
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        self.source.label_values(tenant, name, request).await
    }
}

#[async_trait]
impl Inspect for OverEngine {
    async fn volumes(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<StreamVolume>>> {
        let streams = self.source.series(tenant, request).await?.items;
        let volume = |labels| StreamVolume {
            labels,
            chunks: 1,
            bytes: self.stream_bytes,
            entries: 1,
            spans: Vec::new(),
        };
        Ok(Listed::whole(streams.into_iter().map(volume).collect()))
    }
}

#[async_trait]
impl Patterns for OverEngine {
    async fn patterns(
        &self,
        _: &TenantId,
        _: &PatternsRequest,
    ) -> Result<Listed<Vec<PatternCounts>>> {
        Ok(Listed::default())
    }
}

#[async_trait]
impl Tail for OverEngine {
    async fn tail(&self, _: &TenantId, _: &TailRequest) -> Result<Box<dyn TailFeed>, QueryError> {
        Err(QueryError::Invalid("nothing comes in here".into()))
    }
}

#[async_trait]
impl Queries for OverEngine {
    async fn query(&self, tenant: &TenantId, query: &Query) -> Result<Answer, QueryError> {
        self.asked.lock().push(query.clone());
        self.engine.query(tenant, query).await
    }
}
