//! How a [`Tsdb`] is put together.

use std::path::PathBuf;
use std::sync::Arc;

use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::disk::{LocalDisk, open_when_free};
use lgtm_core::exec::{CancelToken, Executor, ExecutorSettings, Housekeeping, TaskGroup};
use lgtm_core::limits::Overrides;
use lgtm_core::storage::{Backend, DataKind, Layout, StorageSettings};
use lgtm_core::telemetry::Registry;
use lgtm_core::{Error, Result};
use tokio::runtime::Handle;

use super::tsdb::{Tsdb, TsdbParts};
use super::{
    Compactor, CompactorSettings, Distributor, DistributorSettings, Ingester, IngesterSettings,
    Querier, QueryFrontend, QueryFrontendSettings,
};
use crate::bucket::{BucketBlocks, BucketSettings};
use crate::limits::Limits;
use crate::promql::EngineSettings;

/// Collects the parts of a [`Tsdb`].
pub struct TsdbBuilder {
    folder: PathBuf,
    store: Backend,
    layout: Option<Layout>,
    storage: StorageSettings,
    ingester: IngesterSettings,
    store_gateway: BucketSettings,
    compactor: CompactorSettings,
    distributor: DistributorSettings,
    querier: EngineSettings,
    query_frontend: QueryFrontendSettings,
    limits: Overrides<Limits>,
    clock: Arc<dyn Clock>,
    executor: Option<Executor>,
    registry: Option<Registry>,
    keeps_house: bool,
}

impl std::fmt::Debug for TsdbBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TsdbBuilder")
            .field("folder", &self.folder)
            .field("ingester", &self.ingester)
            .finish_non_exhaustive()
    }
}

impl TsdbBuilder {
    pub(super) fn new(folder: PathBuf, store: Backend) -> Self {
        Self {
            folder,
            store,
            layout: None,
            storage: StorageSettings::default(),
            ingester: IngesterSettings::default(),
            store_gateway: BucketSettings::default(),
            compactor: CompactorSettings::default(),
            distributor: DistributorSettings::default(),
            querier: EngineSettings::default(),
            query_frontend: QueryFrontendSettings::default(),
            limits: Overrides::fixed(Limits::default()),
            clock: Arc::new(SystemClock::new()),
            executor: None,
            registry: None,
            keeps_house: true,
        }
    }

    /// Sets the settings of head and log, and how often the store keeps house.
    #[must_use]
    pub fn settings(mut self, settings: IngesterSettings) -> Self {
        self.ingester = settings;
        self
    }

    /// Sets how blocks are read.
    #[must_use]
    pub fn store_gateway(mut self, settings: BucketSettings) -> Self {
        self.store_gateway = settings;
        self
    }

    /// Sets how blocks are compacted and the bucket is kept clean.
    #[must_use]
    pub fn compactor(mut self, settings: CompactorSettings) -> Self {
        self.compactor = settings;
        self
    }

    /// Sets where in the object store data goes, in place of the prefixes that all stores have by default; the layout has its own settings of
    /// [`storage`](Self::storage).
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = Some(layout);
        self
    }

    /// Sets how the object store is asked: deadlines, retries, requests at a time.
    #[must_use]
    pub fn storage(mut self, settings: StorageSettings) -> Self {
        self.storage = settings;
        self
    }

    /// Sets how much may be pushed at a time.
    #[must_use]
    pub fn distributor(mut self, settings: DistributorSettings) -> Self {
        self.distributor = settings;
        self
    }

    /// Sets how queries are computed, and what they may take.
    #[must_use]
    pub fn querier(mut self, settings: EngineSettings) -> Self {
        self.querier = settings;
        self
    }

    /// Sets how queries are cut, remembered and given their turn.
    #[must_use]
    pub fn query_frontend(mut self, settings: QueryFrontendSettings) -> Self {
        self.query_frontend = settings;
        self
    }

    /// Sets the limits of tenants.
    #[must_use]
    pub fn limits(mut self, limits: Overrides<Limits>) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets where work that takes longer is computed. Without it the store has threads of its own, one a core.
    #[must_use]
    pub fn executor(mut self, executor: Executor) -> Self {
        self.executor = Some(executor);
        self
    }

    /// Has `registry` tell what all parts hold and do.
    #[must_use]
    pub fn metrics(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// Leaves the rounds of housekeeping to the caller, who calls [`Tsdb::maintain`]: for tests that tell the time.
    #[must_use]
    pub fn without_housekeeping(mut self) -> Self {
        self.keeps_house = false;
        self
    }

    /// Locks and opens the folder, claims the bucket, reads the log back and learns which blocks there are. When the store is away the rest
    /// works: answers say that they lack its blocks, and housekeeping asks again.
    ///
    /// Needs a Tokio runtime with timers (`enable_all`).
    ///
    /// # Errors
    /// `InvalidInput` for bad settings; `Conflict` when folder or bucket are another's; `Unavailable` when the folder refuses.
    pub async fn open(self) -> Result<Tsdb> {
        let keeps_house = self.keeps_house;
        let sync_interval = self.store_gateway.sync_interval;
        let maintenance = self.ingester.maintenance_interval;
        let (compaction, cleanup) = (
            self.compactor.compaction_interval,
            self.compactor.cleanup_interval,
        );
        let (parts, tasks) = self.build()?;
        let ingester = Arc::clone(&parts.ingester);
        ingester.claim_if_there().await?;
        if let Err(e) = parts.blocks.sync().await {
            tracing::warn!(error = %e, "the blocks in the object store cannot be listed; answers say that they may be missing until they can");
        }
        open_when_free(|| ingester.open()).await?;
        let replaying = Arc::clone(&ingester);
        let replayed = tokio::task::spawn_blocking(move || replaying.replay()).await;
        replayed.map_err(|e| Error::Internal(format!("replay of the write-ahead log: {e}")))??;
        let parts = Arc::new(parts);
        let housekeeping = Housekeeping::new(tasks);
        if keeps_house {
            housekeeping.every("metrics-housekeeping", maintenance, &parts, async |parts| {
                if let Err(e) = parts.maintain().await {
                    tracing::warn!(error = %e, "housekeeping of the metrics store is not complete; it is tried again");
                }
            });
            housekeeping.every("metrics-block-sync", sync_interval, &parts.blocks, async |blocks| {
                if let Err(e) = blocks.sync().await {
                    tracing::warn!(error = %e, "list of blocks cannot be brought up to date; the old one serves");
                }
            });
            let compactor = &parts.compactor;
            housekeeping.every(
                "metrics-compaction",
                compaction,
                compactor,
                async |compactor| {
                    if let Err(e) = compactor.compact(&CancelToken::new()).await {
                        tracing::warn!(error = %e, "blocks cannot be compacted; it is tried again");
                    }
                },
            );
            housekeeping.every("metrics-cleaning", cleanup, compactor, async |compactor| {
                if let Err(e) = compactor.clean(&CancelToken::new()).await {
                    tracing::warn!(error = %e, "the bucket cannot be cleaned; it is tried again");
                }
            });
        }
        Ok(Tsdb::new(parts, housekeeping))
    }

    /// Joins the parts; nothing is opened yet.
    fn build(self) -> Result<(TsdbParts, TaskGroup)> {
        let registry = self.registry.unwrap_or_default();
        let layout = match self.layout {
            Some(layout) => layout,
            None => Layout::builder()
                .store(self.store)
                .settings(self.storage)
                .clock(Arc::clone(&self.clock))
                .registry(&registry)
                .build()?,
        };
        let bucket = layout.bucket(DataKind::MetricBlocks);
        let blocks = BucketBlocks::builder(bucket.clone())
            .settings(self.store_gateway)
            .clock(Arc::clone(&self.clock))
            .metrics(&registry)
            .build()?;
        let owns_executor = self.executor.is_none();
        let executor = match self.executor {
            Some(executor) => executor,
            None => Executor::new(&ExecutorSettings::default(), Handle::current())?,
        };
        let compactor = Compactor::builder(bucket.clone(), self.limits.clone(), executor.clone())
            .settings(self.compactor)
            .clock(Arc::clone(&self.clock))
            .blocks(Arc::clone(&blocks))
            .folder(&self.folder)
            .metrics(&registry)
            .build()?;
        let disk = Arc::new(LocalDisk::new(&self.folder));
        let ingester = Ingester::builder(bucket, disk, self.limits.clone())
            .settings(self.ingester)
            .clock(Arc::clone(&self.clock))
            .executor(executor.clone())
            .blocks(Arc::clone(&blocks))
            .metrics(&registry)
            .build()?;
        let distributor = Distributor::builder(Arc::clone(&ingester) as _, self.limits.clone())
            .settings(self.distributor)
            .clock(Arc::clone(&self.clock))
            .metrics(&registry)
            .build();
        let (recent, stored) = (Arc::clone(&ingester) as _, Arc::clone(&blocks) as _);
        let limits = self.limits.clone();
        let querier = Querier::builder(vec![recent], vec![stored], limits, executor.clone())
            .settings(self.querier)
            .metrics(&registry)
            .build()?;
        let (source, engine) = (querier.holders(), querier.engine().clone());
        let frontend = QueryFrontend::builder(querier, engine, self.limits.clone())
            .settings(self.query_frontend)
            .clock(Arc::clone(&self.clock))
            .metrics(&registry)
            .build()?;
        let tasks = executor.task_group();
        let parts = TsdbParts {
            ingester,
            distributor,
            blocks,
            compactor,
            source,
            frontend,
            #[cfg(feature = "http")]
            limits: self.limits,
            #[cfg(feature = "http")]
            clock: self.clock,
            #[cfg(feature = "http")]
            registry,
            own_executor: owns_executor.then_some(executor),
        };
        Ok((parts, tasks))
    }
}
