//! The log store as one value: for programs that embed it.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lgtm_core::Result;
#[cfg(feature = "http")]
use lgtm_core::clock::Clock;
use lgtm_core::codec::Allowance;
use lgtm_core::exec::{CancelToken, Executor, Housekeeping, move_if_heavy};
#[cfg(feature = "http")]
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, Listed, TenantId, TimeRangeNs, TimestampNs};
use lgtm_core::storage::Backend;
#[cfg(feature = "http")]
use lgtm_core::telemetry::Registry;

use super::chunk_flusher::FlushReport;
use super::log_store_builder::LogStoreBuilder;
use super::{Compactor, DeleteRequests, Distributor, Ingester, Querier, QueryFrontend};
use crate::bucket::BucketChunks;
use crate::head::FlushScope;
#[cfg(feature = "http")]
use crate::limits::Limits;
use crate::limits::PushReport;
use crate::logql::{
    Answer, AnswerEntry, ParserSettings, Query, QueryError, QueryRange, QueryValue,
};
use crate::select::Select;
use crate::wire::{LogEntry, PooledBatch, decode_entries};

/// A log store: a folder for what is recent, an object store for chunks and their index, LogQL over both.
///
/// It keeps house by itself: finished chunks go into the object store, their index files are joined, what is over or to be deleted is taken
/// out of them, the log is bounded, chunks of others are found.
/// [`LogStore::close`] waits for the round that is under way; after a mere drop the folder stays locked until it ends.
///
/// ```no_run
/// use lgtm_logstore::prelude::*;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let db = LogStore::builder("data", from_url("file:data/bucket", &BackendSettings::default())?).open().await?;
/// let tenant = TenantId::anonymous();
/// let labels = Labels::from_pairs([("app", "shop")])?;
/// let t_ns = TimestampNs::new(1_700_000_000_000_000_000);
/// db.append(&tenant, &[(labels, vec![LogEntry::new(t_ns, "level=warn msg=slow")])]).await?;
/// let answer = db.query_range(&tenant, r#"{app="shop"} |= "slow""#, t_ns..=t_ns + 1, Duration::from_secs(1)).await?;
/// println!("{:?}", answer.value);
/// db.flush().await?;
/// db.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LogStore {
    parts: Arc<LogStoreParts>,
    housekeeping: Housekeeping,
}

/// What a store is made of.
#[derive(Debug)]
pub(crate) struct LogStoreParts {
    pub(crate) ingester: Arc<Ingester>,
    pub(crate) distributor: Arc<Distributor>,
    pub(super) chunks: Arc<BucketChunks>,
    pub(super) compactor: Arc<Compactor>,
    pub(crate) deletes: Arc<DeleteRequests>,
    pub(crate) querier: Arc<Querier>,
    pub(crate) frontend: Arc<QueryFrontend>,
    #[cfg(feature = "http")]
    pub(crate) limits: Overrides<Limits>,
    #[cfg(feature = "http")]
    pub(crate) clock: Arc<dyn Clock>,
    #[cfg(feature = "http")]
    pub(crate) registry: Registry,
    /// Threads that end with the store.
    pub(super) own_executor: Option<Executor>,
}

impl LogStoreParts {
    pub(super) async fn maintain(&self) -> Result<()> {
        let listed = if self.chunks.stats().is_listed {
            Ok(())
        } else {
            self.chunks.sync().await
        };
        self.ingester.maintain().await.and(listed)
    }
}

impl LogStore {
    /// Begins a builder: `folder` holds log and recent chunks, `store` the chunks and their index (below the prefix `logs`).
    pub fn builder(folder: impl Into<PathBuf>, store: impl Into<Backend>) -> LogStoreBuilder {
        LogStoreBuilder::new(folder.into(), store.into())
    }

    pub(super) fn new(parts: Arc<LogStoreParts>, housekeeping: Housekeeping) -> Self {
        Self {
            parts,
            housekeeping,
        }
    }

    /// Stores entries of streams. When it returns they survive the end of the process. What rules refuse is in the report.
    ///
    /// # Errors
    /// `InvalidInput` for labels that a stream cannot have; `LimitExceeded` for more than one push may be; `Unavailable` when the disk refuses.
    pub async fn append(
        &self,
        tenant: &TenantId,
        streams: &[(Labels, Vec<LogEntry>)],
    ) -> Result<PushReport> {
        let mut batch = self.batch();
        let distributor = &self.parts.distributor;
        let limits = distributor.limits(tenant);
        let max_bytes = distributor.settings().max_decoded_bytes.as_usize();
        {
            let (batch, mut room) = batch.parts();
            let mut grow = |bytes| room.as_mut().map_or(Ok(()), |room| room.add(bytes));
            let mut allowance = Allowance::new(max_bytes, &mut grow);
            decode_entries(batch, &limits.push_options(), &mut allowance, streams)?;
        }
        self.push(tenant, batch).await
    }

    /// An empty batch for [`LogStore::push`], with the memory of one that was pushed before.
    pub fn batch(&self) -> PooledBatch {
        let distributor = &self.parts.distributor;
        distributor.batch(distributor.inflight().ticket())
    }

    /// Stores a batch that [`wire`](crate::wire) has decoded: one of [`LogStore::batch`], or a [`PushBatch`](crate::wire::PushBatch).
    ///
    /// # Errors
    /// As [`LogStore::append`].
    pub async fn push(
        &self,
        tenant: &TenantId,
        batch: impl Into<PooledBatch>,
    ) -> Result<PushReport> {
        self.parts.distributor.push(tenant, batch).await
    }

    /// Answers a metric query at one time, nanoseconds.
    ///
    /// # Errors
    /// [`QueryError`]: `Parse` for a text that is no query, `Invalid` for one that asks for lines; limits and timeouts; `Source` for what
    /// could not be read.
    pub async fn query(
        &self,
        tenant: &TenantId,
        query: &str,
        t_ns: impl Into<TimestampNs>,
    ) -> Result<Answer, QueryError> {
        let t_ns = t_ns.into();
        let parse = move |text: &str, parser: &_| Query::instant(text, t_ns, parser);
        self.parse_and_ask(tenant, query, parse).await
    }

    /// Answers a metric query at every `step` of a range in nanoseconds, both ends included; or a log query with the newest hundred lines of the
    /// range, whose end is then not in it. [`LogStore::lines`] brings more.
    ///
    /// # Errors
    /// As [`LogStore::query`].
    pub async fn query_range(
        &self,
        tenant: &TenantId,
        query: &str,
        range_ns: RangeInclusive<impl Into<TimestampNs>>,
        step: Duration,
    ) -> Result<Answer, QueryError> {
        let (start_ns, end_ns) = range_ns.into_inner();
        let range = QueryRange {
            step_ms: i64::try_from(step.as_millis()).unwrap_or(i64::MAX),
            ..QueryRange::new(start_ns, end_ns)
        };
        let parse = move |text: &str, parser: &_| Query::range(text, range, parser);
        self.parse_and_ask(tenant, query, parse).await
    }

    /// The newest `limit` lines that a log query finds in a range, the newest first, each with the labels that the query leaves it. What could
    /// not be read is told in the answer's `warnings`.
    ///
    /// # Errors
    /// As [`LogStore::query`]; `Invalid` for a metric query.
    pub async fn lines(
        &self,
        tenant: &TenantId,
        query: &str,
        range: TimeRangeNs,
        limit: usize,
    ) -> Result<Listed<Vec<(Labels, AnswerEntry)>>, QueryError> {
        let range = QueryRange {
            limit,
            ..QueryRange::new(range.min_ns, range.max_ns)
        };
        let parse = move |text: &str, parser: &_| Query::range(text, range, parser);
        let answer = self.parse_and_ask(tenant, query, parse).await?;
        let QueryValue::Streams(streams) = answer.value else {
            let message = "a metric query has no lines".to_owned();
            return Err(QueryError::Invalid(message));
        };
        let mut lines = Vec::new();
        for stream in streams {
            let labels = stream.labels();
            lines.extend(stream.entries.into_iter().map(|e| (labels.clone(), e)));
        }
        lines.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.t_ns));
        let mut lines = Listed::whole(lines);
        lines.warn(answer.warnings);
        Ok(lines)
    }

    /// A long text is parsed in the pool.
    async fn parse_and_ask(
        &self,
        tenant: &TenantId,
        text: &str,
        parse: impl FnOnce(&str, &ParserSettings) -> Result<Query, QueryError> + Send + 'static,
    ) -> Result<Answer, QueryError> {
        let (querier, tenant) = (Arc::clone(&self.parts.querier), tenant.clone());
        let executor = querier.engine().executor().in_line(tenant.as_str());
        let text = text.to_owned();
        let work = async move {
            move_if_heavy(&text).await;
            let query = parse(&text, &querier.engine().settings().parser)?;
            querier.query(&tenant, &query).await
        };
        executor.run_movable(work).await
    }

    /// What queries run over, recent data and chunks as one: streams, label names and values, and entries in batches.
    pub fn source(&self) -> Arc<dyn Select> {
        self.parts.querier.holders()
    }

    /// Answers queries with options, and knows the volume of streams.
    pub fn querier(&self) -> Arc<Querier> {
        Arc::clone(&self.parts.querier)
    }

    /// Where the queries of the API enter: cut, kept, and given their turn.
    pub fn frontend(&self) -> Arc<QueryFrontend> {
        Arc::clone(&self.parts.frontend)
    }

    #[cfg(feature = "http")]
    pub(crate) fn parts(&self) -> &LogStoreParts {
        &self.parts
    }

    /// Keeps recent entries.
    pub fn ingester(&self) -> Arc<Ingester> {
        Arc::clone(&self.parts.ingester)
    }

    /// What tenants want deleted.
    pub fn deletes(&self) -> Arc<DeleteRequests> {
        Arc::clone(&self.parts.deletes)
    }

    /// Takes pushes, and counts them.
    pub fn distributor(&self) -> Arc<Distributor> {
        Arc::clone(&self.parts.distributor)
    }

    /// Moves everything into the object store.
    ///
    /// # Errors
    /// Those of the store; what could not be moved stays where it is.
    pub async fn flush(&self) -> Result<FlushReport> {
        self.parts.ingester.flush(FlushScope::All).await
    }

    /// One round of housekeeping: moves finished chunks into the object store and bounds the log. The store does that by itself, unless it was
    /// built without.
    ///
    /// # Errors
    /// Those of disk and store; call it again later.
    pub async fn maintain(&self) -> Result<()> {
        self.parts.maintain().await
    }

    /// One round of joining index files in the object store, and of taking out what is over or to be deleted. The store does that by itself, unless it was built without housekeeping.
    ///
    /// # Errors
    /// Those of the store; call it again later.
    pub async fn compact(&self) -> Result<()> {
        self.parts.compactor.compact(&CancelToken::new()).await
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
        if let Some(executor) = &parts.own_executor {
            executor.shutdown().await;
        }
        closed
    }
}
