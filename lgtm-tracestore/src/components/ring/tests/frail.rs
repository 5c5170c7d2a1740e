//! An ingester that can be told to fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use lgtm_core::model::TenantId;
use lgtm_core::{Error, Result};
use parking_lot::Mutex;

use crate::components::clients::{FindTrace, IngesterClient};
use crate::components::{FoundTrace, Ingester, TraceRequest};
use crate::limits::{PushPart, PushReport};
use crate::select::{
    RecentRequest, RecentTrace, RecentTraces, Select, SelectEnd, SpanBatches, SpanRequest,
};
use crate::trace::TraceId;

/// An ingester that fails when it is told to.
#[derive(Debug)]
pub(super) struct Frail {
    pub(super) ingester: Mutex<Arc<Ingester>>,
    pub(super) is_away: AtomicBool,
    /// Answers break off behind so many calls.
    pub(super) breaks_after: Mutex<Option<usize>>,
}

impl Frail {
    pub(super) fn here(&self) -> Result<Arc<Ingester>> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("away".into()));
        }
        Ok(Arc::clone(&self.ingester.lock()))
    }
}

/// An answer that may break off; a few traces at a time.
#[derive(Debug)]
struct FrailTraces {
    all: Box<dyn RecentTraces>,
    waiting: Vec<RecentTrace>,
    left: Option<usize>,
}

impl FrailTraces {
    fn check(&mut self) -> Result<()> {
        if let Some(left) = &mut self.left {
            *left = left
                .checked_sub(1)
                .ok_or_else(|| Error::Unavailable("broke off".into()))?;
        }
        Ok(())
    }
}

#[async_trait]
impl RecentTraces for FrailTraces {
    async fn next_traces(&mut self) -> Result<Vec<RecentTrace>> {
        self.check()?;
        if self.waiting.is_empty() {
            self.waiting = self.all.next_traces().await?;
        }
        let some = self.waiting.len().min(5);
        Ok(self.waiting.drain(..some).collect())
    }

    async fn have(&mut self, ids: &[TraceId]) -> Result<Vec<bool>> {
        self.check()?;
        self.all.have(ids).await
    }

    async fn whole_traces(&mut self, ids: &[TraceId]) -> Result<Vec<Vec<u8>>> {
        self.check()?;
        // Fewer than were asked for, as of large traces.
        let some = ids.len().min(3);
        self.all.whole_traces(&ids[..some]).await
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
        request: &SpanRequest,
    ) -> Result<Box<dyn SpanBatches>> {
        self.here()?.select(tenant, request).await
    }
}

#[async_trait]
impl FindTrace for Frail {
    async fn find_trace(&self, tenant: &TenantId, request: &TraceRequest) -> Result<FoundTrace> {
        self.here()?.find_trace(tenant, request).await
    }
}

#[async_trait]
impl IngesterClient for Frail {
    async fn push(&self, tenant: &TenantId, part: PushPart) -> Result<PushReport> {
        self.here()?.push(tenant, part).await
    }

    async fn recent(
        &self,
        tenant: &TenantId,
        request: &RecentRequest,
    ) -> Result<Box<dyn RecentTraces>> {
        Ok(Box::new(FrailTraces {
            all: self.here()?.recent(tenant, request).await?,
            waiting: Vec::new(),
            left: *self.breaks_after.lock(),
        }))
    }
}
