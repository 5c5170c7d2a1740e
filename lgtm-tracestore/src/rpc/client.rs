//! Ingesters of other processes, as if they were here.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::TenantId;
use lgtm_core::rpc::{Remote, RemoteSettings, RpcClient, RpcMessage};

use super::remote_recent::RemoteRecent;
use super::{find_message, methods, report_message};
use crate::components::clients::{FindTrace, IngesterClient};
use crate::components::ring::ReplicatedTraces;
use crate::components::{FoundTrace, TraceRequest};
use crate::limits::{PushPart, PushReport};
use crate::select::{
    DecodedBatches, RecentRequest, RecentTraces, Select, SpanBatches, SpanRequest,
};

/// An ingester in another process.
#[derive(Debug)]
pub struct RemoteIngester {
    remote: Remote,
}

impl RemoteIngester {
    /// The one that `client` calls.
    pub fn new(client: Arc<RpcClient>, settings: RemoteSettings) -> Self {
        Self {
            remote: Remote::new(client, settings),
        }
    }

    /// How it is called.
    pub fn client(&self) -> &Arc<RpcClient> {
        self.remote.client()
    }
}

/// Traces come whole, and are decoded here.
#[async_trait]
impl Select for RemoteIngester {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SpanRequest,
    ) -> Result<Box<dyn SpanBatches>> {
        let asked = RecentRequest::of(request);
        let mut answer = self.recent(tenant, &asked).await?;
        let first = answer.next_traces().await?;
        let traces = ReplicatedTraces::alone((answer, first), asked, tenant);
        let executor = self.client().executor().in_line(tenant.as_str());
        Ok(Box::new(DecodedBatches::new(traces, executor, request)))
    }
}

#[async_trait]
impl FindTrace for RemoteIngester {
    async fn find_trace(&self, tenant: &TenantId, request: &TraceRequest) -> Result<FoundTrace> {
        let method = methods::FIND_TRACE;
        let write = |out: &mut Vec<u8>| find_message::put_request(out, request);
        let mut answer = self.remote.stream(method, tenant, write).await?;
        let (mut found, mut end) = (FoundTrace::default(), None);
        while let Some(message) = answer.next().await? {
            let taken = find_message::take(&mut found, &message);
            end = taken.map_err(|e| self.remote.unreadable(method, &e))?;
        }
        found.end = end.ok_or_else(|| self.remote.endless(method))?;
        Ok(found)
    }
}

#[async_trait]
impl IngesterClient for RemoteIngester {
    async fn push(&self, tenant: &TenantId, part: PushPart) -> Result<PushReport> {
        // A push of OTLP, in which each trace stands by itself.
        let message = RpcMessage::of(|out| part.traces().for_each(|trace| trace.encode(out)));
        self.remote
            .push(methods::PUSH, tenant, message, report_message::report)
            .await
    }

    async fn recent(
        &self,
        tenant: &TenantId,
        request: &RecentRequest,
    ) -> Result<Box<dyn RecentTraces>> {
        let answer = RemoteRecent::begin(self.remote.clone(), tenant, request);
        Ok(Box::new(answer.await?))
    }
}
