//! The trace store as one value: for programs that embed it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "http")]
use lgtm_core::clock::Clock;
use lgtm_core::codec::Allowance;
use lgtm_core::exec::{CancelToken, Executor, Housekeeping, move_if_heavy};
#[cfg(feature = "http")]
use lgtm_core::limits::Overrides;
use lgtm_core::model::{TenantId, TimeRangeNs};
use lgtm_core::storage::Backend;
#[cfg(feature = "http")]
use lgtm_core::telemetry::Registry;
use lgtm_core::{Error, Result};

use super::block_flusher::FlushReport;
use super::clients::Queries;
use super::compactor::Compactor;
use super::distributor::Distributor;
use super::ingester::Ingester;
use super::querier::Querier;
use super::requests::{
    Answered, FoundTrace, MetricsRequest, SearchRequest, TagNamesAnswer, TagNamesRequest,
    TagValuesAnswer, TagValuesRequest, TraceRequest,
};
use super::trace_store_builder::TraceStoreBuilder;
use crate::bucket::BlockList;
use crate::compact::{RedactionReport, RedactionRequest};
use crate::head::FlushScope;
#[cfg(feature = "http")]
use crate::limits::Limits;
use crate::limits::PushReport;
use crate::select::TraceRange;
use crate::trace::{Trace, TraceId};
use crate::traceql::{
    IntervalGrid, MetricsAnswer, MetricsSettings, Query, SearchSettings, TagScope, TraceHit, parse,
    tag_field,
};
use crate::wire::{PooledBatch, decode_otlp};

/// Bytes that the series of a query may take while spans are counted.
const MAX_SERIES_BYTES: usize = 128 << 20;

/// A trace store: a folder for what is recent, an object store for blocks, TraceQL over both.
///
/// It keeps house by itself: traces are cut and become blocks, blocks are joined, the log is bounded, blocks of others are found.
/// [`TraceStore::close`] waits for the round that is under way; after a mere drop the folder stays locked until it ends.
///
/// ```no_run
/// use lgtm_tracestore::prelude::*;
///
/// # async fn example(spans: Vec<ResourceSpans<'static>>) -> Result<(), Box<dyn std::error::Error>> {
/// let db = TraceStore::builder("data", from_url("file:data/bucket", &BackendSettings::default())?).open().await?;
/// let tenant = TenantId::anonymous();
/// db.append(&tenant, &Trace { resources: spans }).await?;
/// let hour = TimeRangeNs::new(1_700_000_000_000_000_000, 1_700_003_600_000_000_000);
/// let slow = db.search(&tenant, r#"{resource.service.name = "shop" && duration > 1s}"#, hour, 20).await?;
/// for hit in &slow.value {
///     println!("{} {}", hit.id, hit.root_name);
/// }
/// db.flush().await?;
/// db.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TraceStore {
    parts: Arc<TraceStoreParts>,
    housekeeping: Housekeeping,
}

/// What a store is made of.
#[derive(Debug)]
pub(crate) struct TraceStoreParts {
    pub(crate) ingester: Arc<Ingester>,
    pub(crate) distributor: Arc<Distributor>,
    pub(super) blocks: Arc<BlockList>,
    pub(crate) compactor: Arc<Compactor>,
    pub(crate) querier: Arc<Querier>,
    /// Where queries enter.
    pub(crate) queries: Arc<dyn Queries>,
    pub(crate) executor: Executor,
    #[cfg(feature = "http")]
    pub(crate) limits: Overrides<Limits>,
    #[cfg(feature = "http")]
    pub(crate) clock: Arc<dyn Clock>,
    #[cfg(feature = "http")]
    pub(crate) registry: Registry,
    /// Whether its threads end with the store.
    pub(super) owns_executor: bool,
}

impl TraceStore {
    /// Begins a builder: `folder` holds log and recent traces, `store` the blocks (below the prefix `traces`).
    pub fn builder(folder: impl Into<PathBuf>, store: impl Into<Backend>) -> TraceStoreBuilder {
        TraceStoreBuilder::new(folder.into(), store.into())
    }

    /// The parts, for doors.
    #[cfg(feature = "http")]
    pub(crate) fn parts(&self) -> &TraceStoreParts {
        &self.parts
    }

    pub(super) fn new(parts: Arc<TraceStoreParts>, housekeeping: Housekeeping) -> Self {
        Self {
            parts,
            housekeeping,
        }
    }

    /// Stores spans. Those of several traces may come together: each says which trace it is of. When this returns they survive the end of the process.
    /// What rules refuse is in the report.
    ///
    /// # Errors
    /// `InvalidInput` for ids that are none; `LimitExceeded` for more than one push may be; `RateLimited`; `Unavailable` when the disk refuses.
    pub async fn append(&self, tenant: &TenantId, spans: &Trace<'_>) -> Result<PushReport> {
        let mut body = Vec::new();
        spans.encode(&mut body);
        self.append_otlp(tenant, &body).await
    }

    /// Stores the spans of an `ExportTraceServiceRequest`, as protobuf.
    ///
    /// # Errors
    /// As [`TraceStore::append`]; `InvalidInput` for what is no such message.
    pub async fn append_otlp(&self, tenant: &TenantId, request: &[u8]) -> Result<PushReport> {
        let mut batch = self.batch();
        let distributor = &self.parts.distributor;
        let limits = distributor.limits(tenant);
        let max_bytes = distributor.settings().max_decoded_bytes.as_usize();
        {
            let (batch, mut room) = batch.parts();
            let mut grow = |bytes| room.as_mut().map_or(Ok(()), |room| room.add(bytes));
            let mut allowance = Allowance::new(max_bytes, &mut grow);
            let fill = |out: &mut Vec<u8>, allowance: &mut Allowance<'_>| {
                allowance.take(request.len())?;
                out.extend_from_slice(request);
                Ok(())
            };
            decode_otlp(batch, limits.push_options(), &mut allowance, fill)?;
        }
        self.push(tenant, batch).await
    }

    /// An empty batch for [`TraceStore::push`], with the memory of one that was pushed before.
    pub fn batch(&self) -> PooledBatch {
        let distributor = &self.parts.distributor;
        distributor.batch(distributor.inflight().ticket())
    }

    /// Stores a batch that [`wire`](crate::wire) has decoded: one of [`TraceStore::batch`], or a [`PushBatch`](crate::wire::PushBatch).
    ///
    /// # Errors
    /// As [`TraceStore::append`].
    pub async fn push(
        &self,
        tenant: &TenantId,
        batch: impl Into<PooledBatch>,
    ) -> Result<PushReport> {
        self.parts.distributor.push(tenant, batch).await
    }

    /// All that there is of a trace, as protobuf, to be read with [`Trace::decode`]; empty when there is nothing.
    ///
    /// # Errors
    /// `Unavailable` when recent traces or the list of blocks cannot be read, `Timeout`, `LimitExceeded`. What of a block cannot be read is a warning.
    pub async fn find_trace(&self, tenant: &TenantId, id: TraceId) -> Result<FoundTrace> {
        let max_bytes = self.parts.distributor.limits(tenant).max_trace_bytes();
        let request = TraceRequest {
            id,
            range: None,
            max_bytes,
        };
        self.parts.queries.find_trace(tenant, &request).await
    }

    /// The newest `limit` traces of a range that pass a query, newest first.
    ///
    /// # Errors
    /// `InvalidInput` for a text that is no query; `LimitExceeded`, `Timeout`, `Unavailable`.
    pub async fn search(
        &self,
        tenant: &TenantId,
        query: &str,
        range: TimeRangeNs,
        limit: usize,
    ) -> Result<Answered<Vec<TraceHit>>> {
        let query = self.parse(tenant, query).await?;
        let settings = SearchSettings {
            limit: limit.max(1),
            range: Some(trace_range(range)),
            ..SearchSettings::default()
        };
        let request = SearchRequest { query, settings };
        self.parts.queries.search(tenant, &request, None).await
    }

    /// The series of a metrics query, a value each `step` of a range.
    ///
    /// # Errors
    /// As [`TraceStore::search`]; `InvalidInput` for a query that makes no series, and for too many steps.
    pub async fn metrics(
        &self,
        tenant: &TenantId,
        query: &str,
        range: TimeRangeNs,
        step: Duration,
    ) -> Result<Answered<MetricsAnswer>> {
        let query = self.parse(tenant, query).await?;
        let TraceRange { start_ns, end_ns } = trace_range(range);
        let step_ns = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX);
        let settings = MetricsSettings {
            grid: IntervalGrid::range(start_ns, end_ns, step_ns)?,
            exemplars: 0,
            max_series: 0,
            max_bytes: MAX_SERIES_BYTES,
        };
        let request = MetricsRequest { query, settings };
        self.parts.queries.metrics(tenant, &request, None).await
    }

    /// Names of attributes by scope, of traces of a range.
    ///
    /// # Errors
    /// As [`TraceStore::search`].
    pub async fn tag_names(
        &self,
        tenant: &TenantId,
        range: TimeRangeNs,
    ) -> Result<Answered<TagNamesAnswer>> {
        let request = TagNamesRequest {
            scope: TagScope::All,
            filter: None,
            range: Some(trace_range(range)),
            limit: 0,
        };
        self.parts.queries.tag_names(tenant, &request, None).await
    }

    /// Values of an attribute, named as in queries (`resource.service.name`), of traces of a range.
    ///
    /// # Errors
    /// As [`TraceStore::search`]; `InvalidInput` for what is no name.
    pub async fn tag_values(
        &self,
        tenant: &TenantId,
        tag: &str,
        range: TimeRangeNs,
    ) -> Result<Answered<TagValuesAnswer>> {
        let request = TagValuesRequest {
            fields: vec![tag_field(tag)?],
            filter: None,
            range: Some(trace_range(range)),
            limit: 0,
        };
        self.parts.queries.tag_values(tenant, &request, None).await
    }

    /// A long text is parsed in the pool.
    async fn parse(&self, tenant: &TenantId, text: &str) -> Result<Arc<Query>> {
        let executor = self.parts.executor.in_line(tenant.as_str());
        let text = text.to_owned();
        let work = async move {
            move_if_heavy(&text).await;
            Ok::<_, Error>(Arc::new(parse(&text)?))
        };
        executor.run_movable(work).await
    }

    /// Where queries enter, with all their options.
    pub fn queries(&self) -> Arc<dyn Queries> {
        Arc::clone(&self.parts.queries)
    }

    /// Answers queries, and counts them.
    pub fn querier(&self) -> Arc<Querier> {
        Arc::clone(&self.parts.querier)
    }

    /// Keeps recent traces.
    pub fn ingester(&self) -> Arc<Ingester> {
        Arc::clone(&self.parts.ingester)
    }

    /// Takes pushes, and counts them.
    pub fn distributor(&self) -> Arc<Distributor> {
        Arc::clone(&self.parts.distributor)
    }

    /// Which blocks there are.
    pub fn blocks(&self) -> Arc<BlockList> {
        Arc::clone(&self.parts.blocks)
    }

    /// Moves everything into the object store.
    ///
    /// # Errors
    /// Those of the store; what could not be moved stays where it is.
    pub async fn flush(&self) -> Result<FlushReport> {
        self.parts.ingester.flush(FlushScope::All).await
    }

    /// One round of housekeeping: cuts traces, writes blocks that are due and bounds the log. The store does that by itself, unless it was
    /// built without.
    ///
    /// # Errors
    /// Those of disk and store; call it again later.
    pub async fn maintain(&self) -> Result<()> {
        self.parts.ingester.maintain().await
    }

    /// One round of joining blocks in the object store. The store does that by itself, unless it was built without housekeeping.
    ///
    /// # Errors
    /// Those of the store; call it again later.
    pub async fn compact(&self) -> Result<()> {
        self.parts.compactor.compact(&CancelToken::new()).await
    }

    /// Takes traces out of what is stored, as [`Compactor::redact`].
    ///
    /// # Errors
    /// Those of [`Compactor::redact`].
    pub async fn redact(
        &self,
        tenant: &TenantId,
        request: &RedactionRequest,
    ) -> Result<RedactionReport> {
        let never = CancelToken::new();
        self.parts.compactor.redact(tenant, request, &never).await
    }

    /// Ends housekeeping and closes the log. Without a flush before, the next open reads it back.
    ///
    /// # Errors
    /// Those of a flush, if the settings ask for one.
    pub async fn close(self) -> Result<()> {
        let Self {
            parts,
            housekeeping,
        } = self;
        housekeeping.end().await;
        let closed = parts.ingester.close().await;
        if parts.owns_executor {
            parts.executor.shutdown().await;
        }
        closed
    }
}

/// A range whose end is not in it, as one whose end is.
fn trace_range(range: TimeRangeNs) -> TraceRange {
    let ns = |t: i64| u64::try_from(t).unwrap_or(0);
    TraceRange {
        start_ns: ns(range.min_ns.get()),
        end_ns: ns(range.max_ns.get().saturating_sub(1)),
    }
}
