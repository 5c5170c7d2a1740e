//! How components reach each other. In one process a component implements these traits itself; over a network a client does. What
//! goes through them is plain data.
//!
//! ```text
//! PushApi -> Distributor -> IngesterClient
//! QueryApi -> Queries (QueryFrontend -> Querier) -> IngesterClient, StoreGatewayClient
//! ```

use std::fmt::Debug;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::{Matcher, Metadata, TenantId};

use crate::head::{
    ActiveSeriesRequest, AppendReport, CardinalityRequest, ExemplarsRequest, HeadStats,
    HistogramCardinality, LabelNamesCardinality, LabelValuesCardinality, SeriesExemplars,
    TenantStats,
};
use crate::promql::{Answer, Query, QueryError};
use crate::select::{LabelBatches, Select};
use crate::wire::PushPart;

/// Metadata of metric families, by name.
pub type MetricMetadata = Vec<(String, Vec<Metadata>)>;

/// What is known of a tenant's recent series beside their samples.
#[async_trait]
pub trait Inspect: Debug + Send + Sync + 'static {
    /// Metadata of a tenant's metrics, by name; of one, if it is named.
    ///
    /// # Errors
    /// `Unavailable`; so do all below.
    async fn metadata(&self, tenant: &TenantId, metric: Option<&str>) -> Result<MetricMetadata>;

    /// Exemplars of the series that match any of the selectors, by series.
    ///
    /// # Errors
    /// `LimitExceeded` past the bounds of the request.
    async fn exemplars(
        &self,
        tenant: &TenantId,
        request: &ExemplarsRequest,
    ) -> Result<SeriesExemplars>;

    /// How many values the labels of the matching series have.
    async fn label_names_cardinality(
        &self,
        tenant: &TenantId,
        request: &CardinalityRequest,
    ) -> Result<LabelNamesCardinality>;

    /// How many of the matching series the values of the labels `names` have.
    async fn label_values_cardinality(
        &self,
        tenant: &TenantId,
        names: &[String],
        request: &CardinalityRequest,
    ) -> Result<LabelValuesCardinality>;

    /// The matching series that got a sample lately.
    ///
    /// # Errors
    /// `LimitExceeded` past the bound of the request, before anything is sent.
    async fn active_series(
        &self,
        tenant: &TenantId,
        request: &ActiveSeriesRequest,
    ) -> Result<Box<dyn LabelBatches>>;

    /// How large the native histograms of the matching series that got a sample lately are, by metric in order.
    async fn active_histograms(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
    ) -> Result<Vec<HistogramCardinality>>;

    /// Counts over a tenant's head; its lists have at most `limit` entries.
    async fn head_stats(&self, tenant: &TenantId, limit: usize) -> Result<HeadStats>;

    /// How much a tenant has and brings.
    async fn tenant_stats(&self, tenant: &TenantId) -> Result<TenantStats>;
}

/// Takes samples and answers for recent ones.
#[async_trait]
pub trait IngesterClient: Select + Inspect {
    /// Stores what the rules allow of a part of a request. When it returns, that is as durable as the log's sync policy says.
    ///
    /// A push that failed may have been stored in part; pushing it again is harmless, as known samples are taken silently.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn push(&self, tenant: &TenantId, part: PushPart) -> Result<AppendReport>;
}

/// Tells which holders of recent data have gone for good.
pub trait Departures: Debug + Send + Sync + 'static {
    /// The latest of them, a few dozen at most, each by a name that no other one ever bears.
    fn departed(&self) -> Vec<String>;
}

/// Answers for what stands in object storage.
pub trait StoreGatewayClient: Select {}

/// All that a door may ask for: queries, series and their labels, samples (for remote reads), and what is known beside them. What the
/// tenant may fetch is bounded whoever asks; how far back and how long a query may be is the query-frontend's to check.
#[async_trait]
pub trait Queries: Select + Inspect {
    /// Answers a query.
    ///
    /// # Errors
    /// `Invalid`, `Execution` also for a limit of the tenant, `TimedOut`, and those of the holders of data.
    async fn query(&self, tenant: &TenantId, query: &Query) -> Result<Answer, QueryError>;

    /// Whether queries may be cut by series: Grafana asks.
    fn cuts_by_series(&self) -> bool {
        false
    }
}
