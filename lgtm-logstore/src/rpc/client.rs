//! Ingesters and index-gateways of other processes, as if they were here.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::{Labels, Listed, TenantId, TextSet};
use lgtm_core::rpc::messages::SentList;
use lgtm_core::rpc::{Remote, RemoteSettings, RpcClient, RpcMessage};

use super::inspect_message::{self as inspect, SentPatterns, Volumes};
use super::methods::{self, SelectMethods};
use super::remote_entries::{RemoteEntries, RemoteFeed};
use super::report_message;
use super::select_message::put_select;
use crate::components::clients::{
    IngesterClient, Inspect, PatternCounts, Patterns, PatternsRequest, StoreGatewayClient, Tail,
    TailFeed, TailRequest,
};
use crate::limits::{PushPart, PushReport};
use crate::logql::QueryError;
use crate::select::{CountWish, EntryBatches, Select, SelectRequest, StreamVolume};
use crate::wire::encode_part;

/// How long a query may be followed in one call: longer than anybody's `tail.max_duration`.
const TAIL_TIME: Duration = Duration::from_secs(24 * 3600);

/// Another process that holds logs, and how it is asked.
#[derive(Debug, Clone)]
struct RemoteHolder {
    remote: Remote,
    methods: &'static SelectMethods,
}

impl RemoteHolder {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
        wish: Option<&CountWish>,
    ) -> Result<Box<dyn EntryBatches>> {
        let method = self.methods.select;
        let write = |out: &mut Vec<u8>| put_select(out, request, "", wish);
        let answer = self.remote.stream(method, tenant, write).await?;
        let entries = RemoteEntries::begin(answer, self.remote.clone(), method, request);
        Ok(Box::new(entries.await?))
    }

    async fn list<T: SentList>(
        &self,
        method: &'static str,
        tenant: &TenantId,
        request: &SelectRequest,
        name: &str,
    ) -> Result<Listed<T>> {
        let write = |out: &mut Vec<u8>| put_select(out, request, name, None);
        self.remote.list(method, tenant, write).await
    }

    async fn volumes(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<StreamVolume>>> {
        let method = self.methods.volumes;
        let volumes: Listed<Volumes> = self.list(method, tenant, request, "").await?;
        Ok(volumes.map(|v| v.0))
    }
}

/// An index-gateway in another process.
#[derive(Debug)]
pub struct RemoteIndexGateway(RemoteHolder);

impl RemoteIndexGateway {
    /// The one that `client` calls.
    pub fn new(client: Arc<RpcClient>, settings: RemoteSettings) -> Self {
        Self(RemoteHolder {
            remote: Remote::new(client, settings),
            methods: &methods::INDEX_GATEWAY,
        })
    }

    /// How it is called.
    pub fn client(&self) -> &Arc<RpcClient> {
        self.0.remote.client()
    }
}

impl StoreGatewayClient for RemoteIndexGateway {}

#[async_trait]
impl Select for RemoteIndexGateway {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn EntryBatches>> {
        self.0.select(tenant, request, None).await
    }

    async fn select_counted(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
        wish: &CountWish,
    ) -> Result<Box<dyn EntryBatches>> {
        self.0.select(tenant, request, Some(wish)).await
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        let method = self.0.methods.series;
        self.0.list(method, tenant, request, "").await
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let method = self.0.methods.label_names;
        self.0.list(method, tenant, request, "").await
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let method = self.0.methods.label_values;
        self.0.list(method, tenant, request, name).await
    }
}

#[async_trait]
impl Inspect for RemoteIndexGateway {
    async fn volumes(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<StreamVolume>>> {
        self.0.volumes(tenant, request).await
    }
}

/// An ingester in another process.
#[derive(Debug)]
pub struct RemoteIngester(RemoteHolder);

impl RemoteIngester {
    /// The one that `client` calls.
    pub fn new(client: Arc<RpcClient>, settings: RemoteSettings) -> Self {
        Self(RemoteHolder {
            remote: Remote::new(client, settings),
            methods: &methods::INGESTER,
        })
    }

    /// How it is called.
    pub fn client(&self) -> &Arc<RpcClient> {
        self.0.remote.client()
    }
}

#[async_trait]
impl Select for RemoteIngester {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn EntryBatches>> {
        self.0.select(tenant, request, None).await
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        let method = self.0.methods.series;
        self.0.list(method, tenant, request, "").await
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let method = self.0.methods.label_names;
        self.0.list(method, tenant, request, "").await
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let method = self.0.methods.label_values;
        self.0.list(method, tenant, request, name).await
    }
}

#[async_trait]
impl Inspect for RemoteIngester {
    async fn volumes(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<StreamVolume>>> {
        self.0.volumes(tenant, request).await
    }
}

#[async_trait]
impl Patterns for RemoteIngester {
    async fn patterns(
        &self,
        tenant: &TenantId,
        request: &PatternsRequest,
    ) -> Result<Listed<Vec<PatternCounts>>> {
        let write = |out: &mut Vec<u8>| inspect::put_patterns_request(out, request);
        let remote = &self.0.remote;
        let list: Listed<SentPatterns> = remote.list(methods::PATTERNS, tenant, write).await?;
        Ok(list.map(|p| p.0))
    }
}

#[async_trait]
impl Tail for RemoteIngester {
    async fn tail(
        &self,
        tenant: &TenantId,
        request: &TailRequest,
    ) -> Result<Box<dyn TailFeed>, QueryError> {
        let write = |out: &mut Vec<u8>| inspect::put_tail_request(out, request);
        let remote = &self.0.remote;
        let answer = remote.stream_within(methods::TAIL, tenant, TAIL_TIME, write);
        let answer = answer.await.map_err(QueryError::of)?;
        Ok(Box::new(RemoteFeed::new(answer, remote.clone())))
    }
}

#[async_trait]
impl IngesterClient for RemoteIngester {
    async fn push(&self, tenant: &TenantId, part: PushPart) -> Result<PushReport> {
        let takes = |n: usize| part.accepted().takes(n);
        let message = RpcMessage::of(|out| encode_part(part.batch(), takes, out));
        let remote = &self.0.remote;
        remote
            .push(methods::PUSH, tenant, message, report_message::report)
            .await
    }
}
