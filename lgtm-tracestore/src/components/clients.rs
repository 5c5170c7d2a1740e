//! How components reach each other. In one process a component implements these traits itself; over a network a client does. What
//! goes through them is plain data.
//!
//! ```text
//! PushApi -> Distributor -> IngesterClient
//! QueryApi -> Queries (QueryFrontend -> Querier) -> IngesterClient, StoreGatewayClient
//! ```

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::TenantId;

use super::requests::{
    Answered, FoundTrace, MetricsRequest, SearchRequest, TagNamesAnswer, TagNamesRequest,
    TagValuesAnswer, TagValuesRequest, TraceRequest,
};
use crate::limits::{PushPart, PushReport};
use crate::select::{FetchStats, RecentRequest, RecentTraces, Select};
use crate::traceql::{MetricsAnswer, MetricsPartial, TraceHit};

/// Finds whole traces.
#[async_trait]
pub trait FindTrace: Debug + Send + Sync + 'static {
    /// All that is held of a trace. One that is not there is an answer without bytes, no error.
    ///
    /// # Errors
    /// `Unavailable` when the holder cannot answer at all. What it cannot read in part is a warning at the end.
    async fn find_trace(&self, tenant: &TenantId, request: &TraceRequest) -> Result<FoundTrace>;
}

/// Takes spans and answers for recent ones.
#[async_trait]
pub trait IngesterClient: Select + FindTrace {
    /// Stores what the rules allow of a part of a push. When it returns, that is as durable as the log's sync policy says.
    ///
    /// A push that failed may have been stored in part; pushing it again is harmless, as copies of a span count once.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn push(&self, tenant: &TenantId, part: PushPart) -> Result<PushReport>;

    /// What it has that is asked for, whole and in the order of ids, so that it can be joined with what other replicas have.
    ///
    /// # Errors
    /// As [`Select::select`].
    async fn recent(
        &self,
        tenant: &TenantId,
        request: &RecentRequest,
    ) -> Result<Box<dyn RecentTraces>>;
}

/// Answers for what stands in object storage.
pub trait StoreGatewayClient: Select + FindTrace {}

/// Hears of a search while it runs.
pub trait SearchListener: Debug + Send + Sync {
    /// These traces, newest first, stand as they are: nothing that comes later changes or precedes them. Each is told once.
    fn settled(&self, traces: &[TraceHit], stats: &FetchStats);
}

/// Hears of an answer while it is made: of parts that stand as they are. Whoever tells does not wait.
pub trait Listener<T>: Debug + Send + Sync {
    /// Another part.
    fn hear(&self, part: &T);
}

/// Somebody who hears of parts of an answer, if anybody does.
pub type Heard<T> = Option<Arc<dyn Listener<T>>>;

/// What the spans of a whole window of time made of a metrics query. Cheap to clone.
pub type MetricsWindow = Arc<Answered<MetricsPartial>>;

/// All that a door may ask for. Whether the tenant may ask so is the query-frontend's to check.
#[async_trait]
pub trait Queries: FindTrace {
    /// The newest traces that pass a search. A listener hears of some of them before all are known.
    ///
    /// # Errors
    /// `InvalidInput` for a query that cannot be, `LimitExceeded`, `Timeout`, `Unavailable`.
    async fn search(
        &self,
        tenant: &TenantId,
        request: &SearchRequest,
        listener: Option<&dyn SearchListener>,
    ) -> Result<Answered<Vec<TraceHit>>>;

    /// What the spans of a range make of a metrics query, to be joined with other ranges. A listener hears of windows of the range, each once, in any
    /// order, while others are not known yet.
    ///
    /// # Errors
    /// As [`Queries::search`].
    async fn metrics_part(
        &self,
        tenant: &TenantId,
        request: &MetricsRequest,
        listener: Heard<MetricsWindow>,
    ) -> Result<Answered<MetricsPartial>>;

    /// The series of a metrics query. A listener hears of it as by [`Queries::metrics_part`].
    ///
    /// # Errors
    /// As [`Queries::search`].
    async fn metrics(
        &self,
        tenant: &TenantId,
        request: &MetricsRequest,
        listener: Heard<MetricsWindow>,
    ) -> Result<Answered<MetricsAnswer>> {
        let part = self.metrics_part(tenant, request, listener).await?;
        Ok(part.map(|part| MetricsAnswer::of(&request.query, &request.settings, part)))
    }

    /// Names of attributes. A listener hears of names as they are found; where the query begins again, of some twice.
    ///
    /// # Errors
    /// As [`Queries::search`].
    async fn tag_names(
        &self,
        tenant: &TenantId,
        request: &TagNamesRequest,
        listener: Heard<TagNamesAnswer>,
    ) -> Result<Answered<TagNamesAnswer>>;

    /// Values of attributes. A listener hears of them as by [`Queries::tag_names`].
    ///
    /// # Errors
    /// As [`Queries::search`].
    async fn tag_values(
        &self,
        tenant: &TenantId,
        request: &TagValuesRequest,
        listener: Heard<TagValuesAnswer>,
    ) -> Result<Answered<TagValuesAnswer>>;
}
