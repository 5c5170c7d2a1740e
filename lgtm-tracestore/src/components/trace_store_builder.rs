//! How a [`TraceStore`] is put together.

use std::path::PathBuf;
use std::sync::Arc;

use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::disk::{Disk, LocalDisk, open_when_free};
use lgtm_core::exec::{CancelToken, Executor, ExecutorSettings, Housekeeping, TaskGroup};
use lgtm_core::limits::Overrides;
use lgtm_core::storage::{Backend, DataKind, Layout, StorageSettings};
use lgtm_core::telemetry::Registry;
use lgtm_core::{Error, Result};
use tokio::runtime::Handle;

use super::compactor::Compactor;
use super::compactor_settings::CompactorSettings;
use super::distributor::{Distributor, DistributorSettings};
use super::ingester::{Ingester, IngesterSettings};
use super::querier::{Querier, QuerierSettings};
use super::query_frontend::QueryFrontend;
use super::query_frontend_settings::QueryFrontendSettings;
use super::trace_store::{TraceStore, TraceStoreParts};
use crate::bucket::{BlockList, BucketSelect, BucketSettings};
use crate::limits::Limits;

/// Collects the parts of a [`TraceStore`].
pub struct TraceStoreBuilder {
    disk: Arc<dyn Disk>,
    folder: String,
    store: Backend,
    layout: Option<Layout>,
    storage: StorageSettings,
    ingester: IngesterSettings,
    bucket: BucketSettings,
    distributor: DistributorSettings,
    querier: QuerierSettings,
    query_frontend: QueryFrontendSettings,
    compactor: CompactorSettings,
    limits: Overrides<Limits>,
    clock: Arc<dyn Clock>,
    executor: Option<Executor>,
    registry: Option<Registry>,
    keeps_house: bool,
}

impl std::fmt::Debug for TraceStoreBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TraceStoreBuilder")
            .field("folder", &self.folder)
            .field("ingester", &self.ingester)
            .finish_non_exhaustive()
    }
}

impl TraceStoreBuilder {
    pub(super) fn new(folder: PathBuf, store: Backend) -> Self {
        Self {
            disk: Arc::new(LocalDisk::new(&folder)),
            folder: folder.display().to_string(),
            store,
            layout: None,
            storage: StorageSettings::default(),
            ingester: IngesterSettings::default(),
            bucket: BucketSettings::default(),
            distributor: DistributorSettings::default(),
            querier: QuerierSettings::default(),
            query_frontend: QueryFrontendSettings::default(),
            compactor: CompactorSettings::default(),
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

    /// Sets how blocks are written, listed and read.
    #[must_use]
    pub fn bucket(mut self, settings: BucketSettings) -> Self {
        self.bucket = settings;
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

    /// Sets what queries may take.
    #[must_use]
    pub fn querier(mut self, settings: QuerierSettings) -> Self {
        self.querier = settings;
        self
    }

    /// Sets how queries are cut, kept and given their turn.
    #[must_use]
    pub fn query_frontend(mut self, settings: QueryFrontendSettings) -> Self {
        self.query_frontend = settings;
        self
    }

    /// Sets how blocks are joined.
    #[must_use]
    pub fn compactor(mut self, settings: CompactorSettings) -> Self {
        self.compactor = settings;
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

    /// Sets the disk that log and recent traces are on, instead of the folder.
    #[must_use]
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = disk;
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

    /// Leaves the rounds of housekeeping to the caller, who calls [`TraceStore::maintain`]: for tests that tell the time.
    #[must_use]
    pub fn without_housekeeping(mut self) -> Self {
        self.keeps_house = false;
        self
    }

    /// Locks and opens the folder, claims the bucket and reads the log back. When the store is away the rest works: queries that need blocks fail,
    /// traces wait in the folder.
    ///
    /// Needs a Tokio runtime with timers (`enable_all`).
    ///
    /// # Errors
    /// `InvalidInput` for bad settings; `Conflict` when folder or bucket are another's; `Unavailable` when the folder refuses.
    pub async fn open(self) -> Result<TraceStore> {
        let keeps_house = self.keeps_house;
        let maintenance = self.ingester.maintenance_interval;
        let compaction_interval = self.compactor.compaction_interval;
        let (parts, tasks) = self.build()?;
        let ingester = Arc::clone(&parts.ingester);
        ingester.claim_if_there().await?;
        open_when_free(|| ingester.open()).await?;
        let replaying = Arc::clone(&ingester);
        let replayed = tokio::task::spawn_blocking(move || replaying.replay()).await;
        replayed.map_err(|e| Error::Internal(format!("replay of the write-ahead log: {e}")))??;
        ingester.settle().await;
        let parts = Arc::new(parts);
        let housekeeping = Housekeeping::new(tasks);
        if keeps_house {
            housekeeping.every("traces-housekeeping", maintenance, &parts, async |parts| {
                if let Err(e) = parts.ingester.maintain().await {
                    tracing::warn!(error = %e, "housekeeping of the trace store is not complete; it is tried again");
                }
            });
            let compactor = &parts.compactor;
            housekeeping.every(
                "traces-compaction",
                compaction_interval,
                compactor,
                async |compactor| {
                    if let Err(e) = compactor.compact(&CancelToken::new()).await {
                        tracing::warn!(error = %e, "blocks cannot be joined; it is tried again");
                    }
                },
            );
        }
        Ok(TraceStore::new(parts, housekeeping))
    }

    /// Joins the parts; nothing is opened yet.
    fn build(self) -> Result<(TraceStoreParts, TaskGroup)> {
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
        let bucket = layout.bucket(DataKind::Traces);
        let owns_executor = self.executor.is_none();
        let executor = match self.executor {
            Some(executor) => executor,
            None => Executor::new(&ExecutorSettings::default(), Handle::current())?,
        };
        self.bucket.validate()?;
        let blocks = Arc::new(BlockList::new(
            bucket.clone(),
            executor.clone(),
            Arc::clone(&self.clock),
            self.bucket.blocklist_poll,
        ));
        let stored = BucketSelect::new(
            bucket.clone(),
            executor.clone(),
            Arc::clone(&blocks),
            &self.bucket,
        );
        let stored = Arc::new(stored);
        stored.register_metrics(&registry);
        let limits = self.limits;
        let ingester =
            Ingester::builder(bucket.clone(), self.disk, limits.clone(), executor.clone())
                .settings(self.ingester)
                .block_settings(self.bucket.clone())
                .clock(Arc::clone(&self.clock))
                .blocks(Arc::clone(&blocks))
                .metrics(&registry)
                .build()?;
        let compactor = Compactor::builder(bucket, limits.clone(), executor.clone())
            .settings(self.compactor)
            .block_settings(self.bucket)
            .clock(Arc::clone(&self.clock))
            .blocks(Arc::clone(&blocks))
            .ingester(Arc::clone(&ingester))
            .metrics(&registry)
            .build()?;
        let distributor = Distributor::builder(Arc::clone(&ingester) as _, limits.clone())
            .settings(self.distributor)
            .clock(Arc::clone(&self.clock))
            .metrics(&registry)
            .build();
        let (recent, stored) = (Arc::clone(&ingester) as _, stored as _);
        let all = (vec![recent], vec![stored]);
        let querier = Querier::builder(all.0, all.1, limits.clone(), executor.clone())
            .settings(self.querier)
            .metrics(&registry)
            .build()?;
        let frontend = QueryFrontend::builder(Arc::clone(&querier) as _, executor.clone())
            .settings(self.query_frontend)
            .clock(Arc::clone(&self.clock))
            .metrics(&registry)
            .build()?;
        let tasks = executor.task_group();
        let parts = TraceStoreParts {
            ingester,
            distributor,
            blocks,
            compactor,
            queries: frontend,
            querier,
            executor,
            #[cfg(feature = "http")]
            limits,
            #[cfg(feature = "http")]
            clock: self.clock,
            #[cfg(feature = "http")]
            registry,
            owns_executor,
        };
        Ok((parts, tasks))
    }
}
