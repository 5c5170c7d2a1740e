//! Ingesters and store-gateways of other processes, as if they were here.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::model::{Labels, Listed, Matcher, TenantId, TextSet};
use lgtm_core::rpc::{RpcCaller, RpcClient, RpcMessage, RpcStream};
use lgtm_core::units::duration;
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::batch_message::{self, BatchMessage, read_label_sets};
use super::inspect_message as inspect;
use super::list_message::SentList;
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

/// How long calls may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteSettings {
    /// How long a push may take. Default 5s: a log that is written once a second is done in one; a sender tries again after more.
    #[serde(with = "duration")]
    pub push_timeout: Duration,
    /// How long any other question may take, to the last series of its answer. Default 2m, as long as a query may take.
    #[serde(with = "duration")]
    pub query_timeout: Duration,
}

impl Default for RemoteSettings {
    fn default() -> Self {
        Self {
            push_timeout: Duration::from_secs(5),
            query_timeout: Duration::from_secs(120),
        }
    }
}

impl RemoteSettings {
    /// Checks all values.
    ///
    /// # Errors
    /// `InvalidInput` for a time of 0.
    pub fn validate(&self) -> Result<()> {
        if self.push_timeout.is_zero() || self.query_timeout.is_zero() {
            return Err(Error::InvalidInput(
                "push_timeout and query_timeout must be above 0".into(),
            ));
        }
        Ok(())
    }
}

/// Another process that holds data, and how it is asked.
#[derive(Debug, Clone)]
struct Remote {
    client: Arc<RpcClient>,
    settings: RemoteSettings,
    methods: &'static SelectMethods,
}

impl Remote {
    fn caller<'a>(&self, method: &'static str, tenant: &'a TenantId) -> RpcCaller<'a> {
        RpcCaller {
            method,
            tenant: Some(tenant),
            within: self.settings.query_timeout,
        }
    }

    /// Asks a question that has one answer.
    async fn ask<T>(
        &self,
        method: &'static str,
        tenant: &TenantId,
        write: impl FnOnce(&mut Vec<u8>),
        read: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<T> {
        let caller = self.caller(method, tenant);
        let answer = self.client.unary(caller, RpcMessage::of(write)).await?;
        read(&answer).map_err(|e| self.unreadable(method, &e))
    }

    async fn ask_select(
        &self,
        method: &'static str,
        tenant: &TenantId,
        request: &SelectRequest,
        name: &str,
    ) -> Result<RpcStream> {
        let message = RpcMessage::of(|out| put_select(out, request, name));
        self.client
            .stream(self.caller(method, tenant), message)
            .await
    }

    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn SeriesBatches>> {
        let method = self.methods.select;
        let answer = self.ask_select(method, tenant, request, "").await?;
        Ok(Box::new(RemoteSeries {
            answer,
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
        let mut answer = self.ask_select(method, tenant, request, name).await?;
        let (mut items, mut end) = (T::default(), None);
        while let Some(message) = answer.next().await? {
            let taken = items.take(&message);
            end = taken.map_err(|e| self.unreadable(method, &e))?;
        }
        let end = end.ok_or_else(|| self.endless(method))?;
        Ok(Listed {
            items,
            is_cut: end.is_cut,
            warnings: end.warnings,
        })
    }

    /// An answer that is none is the fault of the other side, or of its version.
    fn unreadable(&self, method: &str, e: &Error) -> Error {
        let address = self.client.address();
        Error::Internal(format!("the answer of {address} to {method}: {e}"))
    }

    fn endless(&self, method: &str) -> Error {
        let address = self.client.address();
        Error::Unavailable(format!(
            "the answer of {address} to {method} does not say how it ended"
        ))
    }
}

/// The series that another process brings.
#[derive(Debug)]
struct RemoteSeries {
    answer: RpcStream,
    of: Remote,
    end: Option<SelectEnd>,
}

#[async_trait]
impl SeriesBatches for RemoteSeries {
    async fn next_batch(&mut self) -> Result<Option<Vec<SeriesChunks>>> {
        let method = self.of.methods.select;
        while let Some(message) = self.answer.next().await? {
            let read = batch_message::read(&message);
            match read.map_err(|e| self.of.unreadable(method, &e))? {
                BatchMessage::Series(series) if !series.is_empty() => return Ok(Some(series)),
                BatchMessage::Series(_) => {}
                BatchMessage::End(end) => self.end = Some(end),
            }
        }
        match self.end {
            Some(_) => Ok(None),
            None => Err(self.of.endless(method)),
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
pub struct RemoteStoreGateway(Remote);

impl RemoteStoreGateway {
    /// The one that `client` calls.
    pub fn new(client: Arc<RpcClient>, settings: RemoteSettings) -> Self {
        Self(Remote {
            client,
            settings,
            methods: &methods::STORE_GATEWAY,
        })
    }

    /// How it is called.
    pub fn client(&self) -> &Arc<RpcClient> {
        &self.0.client
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
pub struct RemoteIngester(Remote);

impl RemoteIngester {
    /// The one that `client` calls.
    pub fn new(client: Arc<RpcClient>, settings: RemoteSettings) -> Self {
        Self(Remote {
            client,
            settings,
            methods: &methods::INGESTER,
        })
    }

    /// How it is called.
    pub fn client(&self) -> &Arc<RpcClient> {
        &self.0.client
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
            .ask(method, tenant, write, inspect::label_values)
            .await
    }

    async fn active_series(
        &self,
        tenant: &TenantId,
        request: &ActiveSeriesRequest,
    ) -> Result<Box<dyn LabelBatches>> {
        let caller = self.0.caller(methods::ACTIVE_SERIES, tenant);
        let message = RpcMessage::of(|out| inspect::put_active_request(out, request));
        let answer = self.0.client.stream(caller, message).await?;
        Ok(Box::new(RemoteLabels {
            answer,
            of: self.0.clone(),
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
            .ask(methods::HEAD_STATS, tenant, write, inspect::head_stats)
            .await
    }

    async fn tenant_stats(&self, tenant: &TenantId) -> Result<TenantStats> {
        let read = inspect::tenant_stats;
        self.0
            .ask(methods::TENANT_STATS, tenant, |_| {}, read)
            .await
    }
}

#[async_trait]
impl IngesterClient for RemoteIngester {
    async fn push(&self, tenant: &TenantId, part: PushPart) -> Result<AppendReport> {
        let caller = RpcCaller {
            within: self.0.settings.push_timeout,
            ..self.0.caller(methods::PUSH, tenant)
        };
        let message = RpcMessage::of(|out| encode_part(part.view(), out));
        let answer = self.0.client.unary(caller, message).await?;
        let report = report_message::report(&answer);
        report.map_err(|e| self.0.unreadable(methods::PUSH, &e))
    }
}
