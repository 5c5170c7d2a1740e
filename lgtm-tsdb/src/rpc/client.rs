//! Ingesters and store-gateways of other processes, as if they were here.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::{Labels, Listed, Matcher, TenantId, TextSet};
use lgtm_core::rpc::messages::{SentList, read_label_sets};
use lgtm_core::rpc::{Remote, RemoteSettings, RpcClient, RpcMessage, RpcStream};

use super::batch_message::{self, BatchMessage};
use super::inspect_message as inspect;
use super::methods::{self, SelectMethods};
use super::report_message;
use super::select_message::put_select;
use crate::components::clients::{IngesterClient, Inspect, MetricMetadata, StoreGatewayClient};
use crate::head::{
    ActiveSeriesRequest, AppendReport, CardinalityRequest, ExemplarsRequest, HeadStats,
    HistogramCardinality, LabelNamesCardinality, LabelValuesCardinality, SeriesExemplars,
    TenantStats,
};
use crate::select::{LabelBatches, Select, SelectEnd, SelectRequest, SeriesBatches, SeriesChunks};
use crate::wire::{PushPart, encode_part};

/// Another process that holds data, and how it is asked.
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
    ) -> Result<Box<dyn SeriesBatches>> {
        let write = |out: &mut Vec<u8>| put_select(out, request, "");
        let answer = self.remote.stream(self.methods.select, tenant, write);
        Ok(Box::new(RemoteSeries {
            answer: answer.await?,
            of: self.clone(),
            end: None,
        }))
    }

    async fn list<T: SentList>(
        &self,
        method: &'static str,
        tenant: &TenantId,
        request: &SelectRequest,
        name: &str,
    ) -> Result<Listed<T>> {
        let write = |out: &mut Vec<u8>| put_select(out, request, name);
        self.remote.list(method, tenant, write).await
    }
}

/// The series that another process brings.
#[derive(Debug)]
struct RemoteSeries {
    answer: RpcStream,
    of: RemoteHolder,
    end: Option<SelectEnd>,
}

#[async_trait]
impl SeriesBatches for RemoteSeries {
    async fn next_batch(&mut self) -> Result<Option<Vec<SeriesChunks>>> {
        let method = self.of.methods.select;
        while let Some(message) = self.answer.next().await? {
            let read = batch_message::read(&message);
            match read.map_err(|e| self.of.remote.unreadable(method, &e))? {
                BatchMessage::Series(series) if !series.is_empty() => return Ok(Some(series)),
                BatchMessage::Series(_) => {}
                BatchMessage::End(end) => self.end = Some(end),
            }
        }
        match self.end {
            Some(_) => Ok(None),
            None => Err(self.of.remote.endless(method)),
        }
    }

    fn end(&mut self) -> SelectEnd {
        self.end.replace(SelectEnd::default()).unwrap_or_default()
    }
}

/// The label sets that another process brings.
#[derive(Debug)]
struct RemoteLabels {
    answer: RpcStream,
    of: Remote,
    is_ended: bool,
}

#[async_trait]
impl LabelBatches for RemoteLabels {
    async fn next_batch(&mut self) -> Result<Option<Vec<Labels>>> {
        let method = methods::ACTIVE_SERIES;
        while let Some(message) = self.answer.next().await? {
            let read = read_label_sets(&message);
            let (sets, end) = read.map_err(|e| self.of.unreadable(method, &e))?;
            self.is_ended |= end.is_some();
            if !sets.is_empty() {
                return Ok(Some(sets));
            }
        }
        if self.is_ended {
            Ok(None)
        } else {
            Err(self.of.endless(method))
        }
    }
}

/// A store-gateway in another process.
#[derive(Debug)]
pub struct RemoteStoreGateway(RemoteHolder);

impl RemoteStoreGateway {
    /// The one that `client` calls.
    pub fn new(client: Arc<RpcClient>, settings: RemoteSettings) -> Self {
        Self(RemoteHolder {
            remote: Remote::new(client, settings),
            methods: &methods::STORE_GATEWAY,
        })
    }

    /// How it is called.
    pub fn client(&self) -> &Arc<RpcClient> {
        self.0.remote.client()
    }
}

impl StoreGatewayClient for RemoteStoreGateway {}

#[async_trait]
impl Select for RemoteStoreGateway {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn SeriesBatches>> {
        self.0.select(tenant, request).await
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
    ) -> Result<Box<dyn SeriesBatches>> {
        self.0.select(tenant, request).await
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
    async fn metadata(&self, tenant: &TenantId, metric: Option<&str>) -> Result<MetricMetadata> {
        let write = |out: &mut Vec<u8>| inspect::put_metadata_request(out, metric);
        self.0
            .remote
            .ask(methods::METADATA, tenant, write, inspect::metadata)
            .await
    }

    async fn exemplars(
        &self,
        tenant: &TenantId,
        request: &ExemplarsRequest,
    ) -> Result<SeriesExemplars> {
        let write = |out: &mut Vec<u8>| inspect::put_exemplars_request(out, request);
        self.0
            .remote
            .ask(methods::EXEMPLARS, tenant, write, inspect::exemplars)
            .await
    }

    async fn label_names_cardinality(
        &self,
        tenant: &TenantId,
        request: &CardinalityRequest,
    ) -> Result<LabelNamesCardinality> {
        let write = |out: &mut Vec<u8>| inspect::put_cardinality_request(out, &[], request);
        let method = methods::LABEL_NAMES_CARDINALITY;
        self.0
            .remote
            .ask(method, tenant, write, inspect::label_names)
            .await
    }

    async fn label_values_cardinality(
        &self,
        tenant: &TenantId,
        names: &[String],
        request: &CardinalityRequest,
    ) -> Result<LabelValuesCardinality> {
        let write = |out: &mut Vec<u8>| inspect::put_cardinality_request(out, names, request);
        let method = methods::LABEL_VALUES_CARDINALITY;
        self.0
            .remote
            .ask(method, tenant, write, inspect::label_values)
            .await
    }

    async fn active_series(
        &self,
        tenant: &TenantId,
        request: &ActiveSeriesRequest,
    ) -> Result<Box<dyn LabelBatches>> {
        let write = |out: &mut Vec<u8>| inspect::put_active_request(out, request);
        let remote = &self.0.remote;
        let answer = remote.stream(methods::ACTIVE_SERIES, tenant, write).await?;
        Ok(Box::new(RemoteLabels {
            answer,
            of: remote.clone(),
            is_ended: false,
        }))
    }

    async fn active_histograms(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
    ) -> Result<Vec<HistogramCardinality>> {
        let write = |out: &mut Vec<u8>| inspect::put_matchers(out, matchers);
        self.0
            .remote
            .ask(
                methods::ACTIVE_HISTOGRAMS,
                tenant,
                write,
                inspect::histograms,
            )
            .await
    }

    async fn head_stats(&self, tenant: &TenantId, limit: usize) -> Result<HeadStats> {
        let write = |out: &mut Vec<u8>| inspect::put_limit(out, limit);
        self.0
            .remote
            .ask(methods::HEAD_STATS, tenant, write, inspect::head_stats)
            .await
    }

    async fn tenant_stats(&self, tenant: &TenantId) -> Result<TenantStats> {
        let read = inspect::tenant_stats;
        self.0
            .remote
            .ask(methods::TENANT_STATS, tenant, |_| {}, read)
            .await
    }
}

#[async_trait]
impl IngesterClient for RemoteIngester {
    async fn push(&self, tenant: &TenantId, part: PushPart) -> Result<AppendReport> {
        let message = RpcMessage::of(|out| encode_part(part.view(), out));
        let remote = &self.0.remote;
        remote
            .push(methods::PUSH, tenant, message, report_message::report)
            .await
    }
}
