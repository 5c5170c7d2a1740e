//! The metrics store as one value: for programs that embed it.

use std::path::PathBuf;
use std::sync::Arc;

use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::{Executor, ExecutorSettings};
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, Matcher, Sample, TenantId, TimeRange};
use lgtm_core::storage::{Backend, Component, Layout};
use lgtm_core::{Error, Result};
use tokio::runtime::Handle;

use super::clients::IngesterClient;
use super::ingester::{Ingester, IngesterSettings, RandomSource};
use super::querier::Querier;
use crate::block::BlockMeta;
use crate::bucket::{BucketBlocks, BucketSettings};
use crate::chunk::SampleValue;
use crate::head::{AppendReport, FlushScope};
use crate::limits::Limits;
use crate::select::{Listed, Select, SelectRequest, samples};
use crate::wire::WriteBatch;

/// A metrics store: a folder for what is recent, an object store for blocks.
///
/// ```no_run
/// use lgtm_core::model::{Labels, Matcher, Sample, TenantId, TimeRange};
/// use lgtm_core::storage::{BackendSettings, from_url};
/// use lgtm_tsdb::Tsdb;
///
/// # async fn example() -> lgtm_core::Result<()> {
/// let db = Tsdb::builder("data", from_url("file:data/bucket", &BackendSettings::default())?).open().await?;
/// let tenant = TenantId::anonymous();
/// let labels = Labels::from_pairs([("__name__", "up"), ("job", "api")])?;
/// db.append(&tenant, &[(labels, vec![Sample { t_ms: 1_700_000_000_000, value: 1.0 }])]).await?;
/// for (labels, samples) in db.select(&tenant, vec![Matcher::equal("job", "api")], TimeRange::ALL).await?.items {
///     println!("{labels} {samples:?}");
/// }
/// db.flush().await?;
/// db.close().await
/// # }
/// ```
#[derive(Debug)]
pub struct Tsdb {
    ingester: Arc<Ingester>,
    blocks: Arc<BucketBlocks>,
    querier: Arc<Querier>,
}

/// A series with its samples: time in milliseconds, and value.
pub type SeriesSamples = (Labels, Vec<(i64, SampleValue)>);

/// Collects the parts of a [`Tsdb`].
pub struct TsdbBuilder {
    folder: PathBuf,
    store: Backend,
    settings: IngesterSettings,
    bucket_settings: BucketSettings,
    limits: Arc<Overrides<Limits>>,
    clock: Arc<dyn Clock>,
    random: RandomSource,
}

impl std::fmt::Debug for TsdbBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TsdbBuilder")
            .field("folder", &self.folder)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl TsdbBuilder {
    /// Sets the settings of head and log.
    #[must_use]
    pub fn settings(mut self, settings: IngesterSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the limits of tenants.
    #[must_use]
    pub fn limits(mut self, limits: Arc<Overrides<Limits>>) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the folder, claims the bucket, reads the log back and learns which blocks there are. When the store is away the rest
    /// works: answers say that they lack its blocks, and [`Tsdb::maintain`] asks again.
    ///
    /// # Errors
    /// `InvalidInput` for bad settings; `Conflict` when folder or bucket are another's; `Unavailable` when the folder refuses.
    pub async fn open(self) -> Result<Tsdb> {
        let bucket = Layout::single_bucket(self.store).bucket(Component::MetricBlocks);
        let blocks = Arc::new(BucketBlocks::new(bucket.clone(), self.bucket_settings)?);
        let disk = Arc::new(LocalDisk::new(&self.folder));
        let executor = Executor::new(&ExecutorSettings::default(), Handle::current())?;
        let builder = Ingester::builder(bucket, disk, self.limits, self.clock, self.random);
        let ingester = Arc::new(
            builder
                .settings(self.settings)
                .executor(executor)
                .blocks(Arc::clone(&blocks))
                .build()?,
        );
        ingester.claim_if_there().await?;
        if let Err(e) = blocks.sync().await {
            tracing::warn!(error = %e, "the blocks in the object store cannot be listed; answers say that they may be missing until they can");
        }
        ingester.open()?;
        let replaying = Arc::clone(&ingester);
        let replayed = tokio::task::spawn_blocking(move || replaying.replay()).await;
        replayed.map_err(|e| Error::Internal(format!("replay of the write-ahead log: {e}")))??;
        let recent = Arc::clone(&ingester) as Arc<dyn Select>;
        Ok(Tsdb {
            ingester,
            querier: Arc::new(Querier::new(vec![recent], vec![Arc::clone(&blocks) as _])),
            blocks,
        })
    }
}

/// The operating system's randomness, by way of the standard library's hash keys.
pub fn os_random() -> RandomSource {
    use std::hash::{BuildHasher, RandomState};
    Arc::new(|out: &mut [u8]| {
        for chunk in out.chunks_mut(8) {
            let bytes = RandomState::new().hash_one(chunk.len()).to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    })
}

impl Tsdb {
    /// Begins a builder: `folder` holds log and recent chunks, `store` the blocks (below the prefix `metricsblocks`).
    pub fn builder(folder: impl Into<PathBuf>, store: impl Into<Backend>) -> TsdbBuilder {
        TsdbBuilder {
            folder: folder.into(),
            store: store.into(),
            settings: IngesterSettings::default(),
            bucket_settings: BucketSettings::default(),
            limits: Arc::new(Overrides::fixed(Limits::default())),
            clock: Arc::new(SystemClock::new()),
            random: os_random(),
        }
    }

    /// Stores samples. When it returns they survive the end of the process. What rules refuse is in the report.
    ///
    /// # Errors
    /// `Unavailable` when the disk refuses.
    pub async fn append(
        &self,
        tenant: &TenantId,
        series: &[(Labels, Vec<Sample>)],
    ) -> Result<AppendReport> {
        let mut batch = WriteBatch::default();
        for (labels, samples) in series {
            batch.push_series(labels.iter(), samples);
        }
        self.push(tenant, &batch).await
    }

    /// Stores a decoded request.
    ///
    /// # Errors
    /// As [`Tsdb::append`].
    pub async fn push(&self, tenant: &TenantId, batch: &WriteBatch) -> Result<AppendReport> {
        self.ingester.push(tenant, batch).await
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
        range: TimeRange,
    ) -> Result<Listed<Vec<SeriesSamples>>> {
        let request = SelectRequest::new(matchers, range)?;
        let mut batches = self.querier.select(tenant, &request).await?;
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

    /// What queries run over: recent data and blocks as one.
    pub fn source(&self) -> Arc<dyn Select> {
        Arc::clone(&self.querier) as Arc<dyn Select>
    }

    /// Moves everything into blocks in the object store.
    ///
    /// # Errors
    /// Those of the store; what could not be moved stays where it is.
    pub async fn flush(&self) -> Result<Vec<(TenantId, BlockMeta)>> {
        self.ingester.flush(FlushScope::All).await
    }

    /// One round of housekeeping; call it about once a minute. It moves complete ranges into blocks and bounds the log.
    ///
    /// # Errors
    /// Those of disk and store; call it again later.
    pub async fn maintain(&self) -> Result<()> {
        let listed = match self.blocks.stats().is_listed {
            true => Ok(()),
            false => self.blocks.sync().await,
        };
        self.ingester.maintain().await.and(listed)
    }

    /// Closes the log. Without a flush before, the next open reads it back.
    ///
    /// # Errors
    /// Those of a flush, if the settings ask for one.
    pub async fn close(self) -> Result<()> {
        let Self {
            ingester, querier, ..
        } = self;
        drop(querier);
        ingester.close().await
    }
}
