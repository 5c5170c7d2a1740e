//! The metrics store as one value: for programs that embed it.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "http")]
use lgtm_core::clock::Clock;
use lgtm_core::exec::{CancelToken, Executor, Housekeeping, move_if_heavy};
#[cfg(feature = "http")]
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, Matcher, Sample, TenantId, TimeRange, TimestampMs};
use lgtm_core::storage::Backend;
#[cfg(feature = "http")]
use lgtm_core::telemetry::Registry;
use lgtm_core::{Error, Result};

use super::clients::Queries;
use super::tsdb_builder::TsdbBuilder;
use super::{Compactor, Distributor, Ingester, QueryFrontend};
use crate::block::BlockMeta;
use crate::bucket::BucketBlocks;
use crate::chunk::SampleValue;
use crate::head::{AppendReport, FlushScope};
#[cfg(feature = "http")]
use crate::limits::Limits;
use crate::promql::{Answer, ParserOptions, Query, QueryError};
use crate::select::{Listed, Select, SelectRequest, samples};
use crate::wire::PooledBatch;

/// A metrics store: a folder for what is recent, an object store for blocks, PromQL over both.
///
/// It keeps house by itself: complete ranges become blocks, blocks larger blocks, the log is bounded, blocks of others are found, what is too old
/// or was left by broken uploads is deleted. [`Tsdb::close`] waits for the round that is under way; after a mere drop the folder stays locked until it ends.
///
/// ```no_run
/// use lgtm_tsdb::prelude::*;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let db = Tsdb::builder("data", from_url("file:data/bucket", &BackendSettings::default())?).open().await?;
/// let tenant = TenantId::anonymous();
/// let labels = Labels::from_pairs([("__name__", "up"), ("job", "api")])?;
/// let t_ms = TimestampMs::new(1_700_000_000_000);
/// db.append(&tenant, &[(labels, vec![Sample { t_ms, value: 1.0 }])]).await?;
/// let answer = db.query(&tenant, "sum by (job) (up)", t_ms).await?;
/// println!("{:?}", answer.value);
/// db.flush().await?;
/// db.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Tsdb {
    parts: Arc<TsdbParts>,
    housekeeping: Housekeeping,
}

/// What a store is made of.
#[derive(Debug)]
pub(crate) struct TsdbParts {
    pub(crate) ingester: Arc<Ingester>,
    pub(crate) distributor: Arc<Distributor>,
    pub(super) blocks: Arc<BucketBlocks>,
    pub(super) compactor: Arc<Compactor>,
    pub(crate) source: Arc<dyn Select>,
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

impl TsdbParts {
    pub(super) async fn maintain(&self) -> Result<()> {
        let listed = if self.blocks.stats().is_listed {
            Ok(())
        } else {
            self.blocks.sync().await
        };
        self.ingester.maintain().await.and(listed)
    }
}

/// A series with its samples: time in milliseconds, and value.
pub type SeriesSamples = (Labels, Vec<(TimestampMs, SampleValue)>);

impl Tsdb {
    /// Begins a builder: `folder` holds log and recent chunks, `store` the blocks (below the prefix `metricsblocks`).
    pub fn builder(folder: impl Into<PathBuf>, store: impl Into<Backend>) -> TsdbBuilder {
        TsdbBuilder::new(folder.into(), store.into())
    }

    pub(super) fn new(parts: Arc<TsdbParts>, housekeeping: Housekeeping) -> Self {
        Self {
            parts,
            housekeeping,
        }
    }

    #[cfg(feature = "http")]
    pub(crate) fn parts(&self) -> &TsdbParts {
        &self.parts
    }

    /// Stores samples. When it returns they survive the end of the process. What rules refuse is in the report.
    ///
    /// # Errors
    /// `RateLimited` for a tenant with a rate; `LimitExceeded` for what the log's buffer never has room for; `Unavailable` when the disk
    /// refuses.
    pub async fn append(
        &self,
        tenant: &TenantId,
        series: &[(Labels, Vec<Sample>)],
    ) -> Result<AppendReport> {
        let mut batch = self.batch();
        for (labels, samples) in series {
            batch.push_series(labels.iter(), samples);
        }
        self.push(tenant, batch).await
    }

    /// An empty batch for [`Tsdb::push`], with the memory of one that was pushed before.
    pub fn batch(&self) -> PooledBatch {
        let distributor = &self.parts.distributor;
        distributor.batch(distributor.inflight().ticket())
    }

    /// Stores a batch: one of [`Tsdb::batch`], or a [`WriteBatch`](crate::wire::WriteBatch).
    ///
    /// # Errors
    /// As [`Tsdb::append`].
    pub async fn push(
        &self,
        tenant: &TenantId,
        batch: impl Into<PooledBatch>,
    ) -> Result<AppendReport> {
        Ok(self.parts.distributor.push(tenant, batch).await?.report)
    }

    /// Answers a PromQL query at one time, milliseconds. [`Tsdb::frontend`] takes options too.
    ///
    /// # Errors
    /// [`QueryError`]: `Invalid` for a text that is no query; limits and timeouts; `Source` for what could not be read.
    pub async fn query(
        &self,
        tenant: &TenantId,
        query: &str,
        t_ms: impl Into<TimestampMs>,
    ) -> Result<Answer, QueryError> {
        let t_ms = t_ms.into();
        let parse = move |text: &str, parser: &_| Query::instant(text, t_ms, parser);
        self.parse_and_ask(tenant, query, parse).await
    }

    /// Answers a PromQL query at every `step` of a range in milliseconds, both ends included.
    ///
    /// # Errors
    /// As [`Tsdb::query`].
    pub async fn query_range(
        &self,
        tenant: &TenantId,
        query: &str,
        range_ms: RangeInclusive<impl Into<TimestampMs>>,
        step: Duration,
    ) -> Result<Answer, QueryError> {
        let (first_ms, last_ms) = range_ms.into_inner();
        let range_ms = first_ms.into()..=last_ms.into();
        let step_ms = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
        let parse = move |text: &str, parser: &_| Query::range(text, range_ms, step_ms, parser);
        self.parse_and_ask(tenant, query, parse).await
    }

    /// A long text is parsed in the pool.
    async fn parse_and_ask(
        &self,
        tenant: &TenantId,
        text: &str,
        parse: impl FnOnce(&str, &ParserOptions) -> Result<Query, QueryError> + Send + 'static,
    ) -> Result<Answer, QueryError> {
        let (frontend, tenant, text) = (self.frontend(), tenant.clone(), text.to_owned());
        let executor = frontend.engine().executor().in_line(tenant.as_str());
        let work = async move {
            move_if_heavy(&text).await;
            let query = parse(&text, &frontend.engine().settings().parser)?;
            frontend.query(&tenant, &query).await
        };
        executor.run_movable(work).await
    }

    /// How queries are parsed.
    pub fn parser(&self) -> &ParserOptions {
        &self.parts.frontend.engine().settings().parser
    }

    /// The series that match, in label order, with their samples in `range`, native histograms too. What could not be read is told in
    /// the answer's `warnings`. The answer is held in memory; for large ones use [`Tsdb::source`].
    ///
    /// # Errors
    /// `Unavailable` when disk or store do not answer, `Corrupt` for samples that do not decode.
    pub async fn select(
        &self,
        tenant: &TenantId,
        matchers: Vec<Matcher>,
        range: impl Into<TimeRange>,
    ) -> Result<Listed<Vec<SeriesSamples>>> {
        let range = range.into();
        let request = SelectRequest::new(matchers, range)?;
        let mut batches = self.parts.source.select(tenant, &request).await?;
        let mut out = Vec::new();
        while let Some(batch) = batches.next_batch().await? {
            for series in batch {
                let samples = samples(&series.chunks, range)
                    .map_err(|e| Error::corrupt(series.labels.to_string(), e))?;
                if !samples.is_empty() {
                    out.push((series.labels, samples));
                }
            }
        }
        let mut answer = Listed::whole(out);
        answer.warn(batches.end().warnings);
        Ok(answer)
    }

    /// What queries run over, recent data and blocks as one: series, label names and values, and chunks in batches.
    pub fn source(&self) -> Arc<dyn Select> {
        Arc::clone(&self.parts.source)
    }

    /// Where queries enter: with options, and with the engine behind it.
    pub fn frontend(&self) -> Arc<QueryFrontend> {
        Arc::clone(&self.parts.frontend)
    }

    /// Keeps recent samples: exemplars, metadata, cardinality, statistics.
    pub fn ingester(&self) -> Arc<Ingester> {
        Arc::clone(&self.parts.ingester)
    }

    /// Moves everything into blocks in the object store.
    ///
    /// # Errors
    /// Those of the store; what could not be moved stays where it is.
    pub async fn flush(&self) -> Result<Vec<(TenantId, BlockMeta)>> {
        self.parts.ingester.flush(FlushScope::All).await
    }

    /// One round of housekeeping: moves complete ranges into blocks and bounds the log. The store does that by itself, unless it was
    /// built without.
    ///
    /// # Errors
    /// Those of disk and store; call it again later.
    pub async fn maintain(&self) -> Result<()> {
        self.parts.maintain().await
    }

    /// One round of compaction and one of cleaning. The store does that by itself, unless it was built without.
    ///
    /// # Errors
    /// Those of the store; what failed is tried again by the next call.
    pub async fn compact(&self) -> Result<()> {
        let (compactor, cancel) = (&self.parts.compactor, CancelToken::new());
        let compacted = compactor.compact(&cancel).await;
        compacted.and(compactor.clean(&cancel).await)
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
