//! How a [`LogStore`] is put together.

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

use super::log_store::{LogStore, LogStoreParts};
use super::{
    Compactor, CompactorSettings, DeleteRequests, DeleteSettings, Distributor, DistributorSettings,
    Ingester, IngesterSettings, Querier, QueryFrontend, QueryFrontendSettings, TailSettings,
};
use crate::bucket::{BucketChunks, BucketSettings};
use crate::limits::Limits;
use crate::logql::EngineSettings;
use crate::schema::SchemaSettings;

/// Collects the parts of a [`LogStore`].
pub struct LogStoreBuilder {
    folder: PathBuf,
    store: Backend,
    layout: Option<Layout>,
    storage: StorageSettings,
    schema: SchemaSettings,
    ingester: IngesterSettings,
    store_gateway: BucketSettings,
    compactor: CompactorSettings,
    deletes: DeleteSettings,
    distributor: DistributorSettings,
    querier: EngineSettings,
    tail: TailSettings,
    query_frontend: QueryFrontendSettings,
    limits: Overrides<Limits>,
    clock: Arc<dyn Clock>,
    executor: Option<Executor>,
    registry: Option<Registry>,
    keeps_house: bool,
}

impl std::fmt::Debug for LogStoreBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogStoreBuilder")
            .field("folder", &self.folder)
            .field("ingester", &self.ingester)
            .finish_non_exhaustive()
    }
}

impl LogStoreBuilder {
    pub(super) fn new(folder: PathBuf, store: Backend) -> Self {
        Self {
            folder,
            store,
            layout: None,
            storage: StorageSettings::default(),
            schema: SchemaSettings::default(),
            ingester: IngesterSettings::default(),
            store_gateway: BucketSettings::default(),
            compactor: CompactorSettings::default(),
            deletes: DeleteSettings::default(),
            distributor: DistributorSettings::default(),
            querier: EngineSettings::default(),
            tail: TailSettings::default(),
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

    /// Sets the schema periods of the bucket. Default: `v13` from 1970 on.
    #[must_use]
    pub fn schema(mut self, schema: SchemaSettings) -> Self {
        self.schema = schema;
        self
    }

    /// Sets how index files and chunks are read.
    #[must_use]
    pub fn store_gateway(mut self, settings: BucketSettings) -> Self {
        self.store_gateway = settings;
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

    /// Sets how index files are joined.
    #[must_use]
    pub fn compactor(mut self, settings: CompactorSettings) -> Self {
        self.compactor = settings;
        self
    }

    /// Sets how delete requests are kept.
    #[must_use]
    pub fn deletes(mut self, settings: DeleteSettings) -> Self {
        self.deletes = settings;
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

    /// Sets how queries are followed.
    #[must_use]
    pub fn tail(mut self, settings: TailSettings) -> Self {
        self.tail = settings;
        self
    }

    /// Sets how the queries of the API are cut, kept and given their turn.
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

    /// Leaves the rounds of housekeeping to the caller, who calls [`LogStore::maintain`]: for tests that tell the time.
    #[must_use]
    pub fn without_housekeeping(mut self) -> Self {
        self.keeps_house = false;
        self
    }

    /// Locks and opens the folder, claims the bucket, reads the log back and learns which index files there are. When the store is away the
    /// rest works: answers say that they lack its chunks, and housekeeping asks again.
    ///
    /// Needs a Tokio runtime with timers (`enable_all`).
    ///
    /// # Errors
    /// `InvalidInput` for bad settings; `Conflict` when folder or bucket are another's; `Unavailable` when the folder refuses.
    pub async fn open(self) -> Result<LogStore> {
        let keeps_house = self.keeps_house;
        let maintenance = self.ingester.maintenance_interval;
        let sync_interval = self.store_gateway.sync_interval;
        let deletes_interval = self.deletes.sync_interval;
        let compaction_interval = self.compactor.compaction_interval;
        let (parts, tasks) = self.build()?;
        let ingester = Arc::clone(&parts.ingester);
        ingester.claim_if_there().await?;
        if let Err(e) = parts.chunks.sync().await {
            tracing::warn!(error = %e, "the index files in the object store cannot be listed; answers say that entries may be missing until they can");
        }
        if let Err(e) = parts.deletes.sync().await {
            tracing::warn!(error = %e, "delete requests cannot be listed; answers say that they may show deleted entries until they can");
        }
        open_when_free(|| ingester.open()).await?;
        let replaying = Arc::clone(&ingester);
        let replayed = tokio::task::spawn_blocking(move || replaying.replay()).await;
        replayed.map_err(|e| Error::Internal(format!("replay of the write-ahead log: {e}")))??;
        let parts = Arc::new(parts);
        let housekeeping = Housekeeping::new(tasks);
        if keeps_house {
            housekeeping.every("logs-housekeeping", maintenance, &parts, async |parts| {
                if let Err(e) = parts.maintain().await {
                    tracing::warn!(error = %e, "housekeeping of the log store is not complete; it is tried again");
                }
            });
            housekeeping.every("logs-index-sync", sync_interval, &parts.chunks, async |chunks| {
                if let Err(e) = chunks.sync().await {
                    tracing::warn!(error = %e, "list of index files cannot be brought up to date; the old one serves");
                }
            });
            housekeeping.every("logs-deletes-sync", deletes_interval, &parts.deletes, async |deletes| {
                if let Err(e) = deletes.sync().await {
                    tracing::warn!(error = %e, "delete requests cannot be listed; those that are known count");
                }
            });
            let compactor = &parts.compactor;
            housekeeping.every("logs-compaction", compaction_interval, compactor, async |compactor| {
                if let Err(e) = compactor.compact(&CancelToken::new()).await {
                    tracing::warn!(error = %e, "index files cannot be joined; it is tried again");
                }
            });
        }
        Ok(LogStore::new(parts, housekeeping))
    }

    /// Joins the parts; nothing is opened yet.
    fn build(self) -> Result<(LogStoreParts, TaskGroup)> {
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
        let bucket = layout.bucket(DataKind::Logs);
        let owns_executor = self.executor.is_none();
        let executor = match self.executor {
            Some(executor) => executor,
            None => Executor::new(&ExecutorSettings::default(), Handle::current())?,
        };
        let chunks = BucketChunks::builder(bucket.clone(), executor.clone())
            .settings(self.store_gateway)
            .schema(self.schema.clone())
            .side_files(layout.bucket(DataKind::LogSkip))
            .clock(Arc::clone(&self.clock))
            .metrics(&registry)
            .build()?;
        let deletes = DeleteRequests::new(bucket.clone(), Arc::clone(&self.clock), self.deletes)?;
        let compactor = Compactor::builder(bucket.clone(), executor.clone())
            .deletes(Arc::clone(&deletes))
            .chunks(Arc::clone(&chunks))
            .side_files(layout.bucket(DataKind::LogSkip))
            .settings(self.compactor)
            .limits(self.limits.clone())
            .schema(self.schema)
            .clock(Arc::clone(&self.clock))
            .metrics(&registry)
            .build()?;
        let disk = Arc::new(LocalDisk::new(&self.folder));
        let limits = self.limits;
        let ingester = Ingester::builder(bucket, disk, limits.clone(), executor.clone())
            .settings(self.ingester)
            .clock(Arc::clone(&self.clock))
            .chunks(Arc::clone(&chunks))
            .metrics(&registry)
            .build()?;
        let distributor = Distributor::builder(Arc::clone(&ingester) as _, limits.clone())
            .settings(self.distributor)
            .clock(Arc::clone(&self.clock))
            .metrics(&registry)
            .build();
        let (recent, stored) = (Arc::clone(&ingester) as _, Arc::clone(&chunks) as _);
        let querier =
            Querier::builder(vec![recent], vec![stored], limits.clone(), executor.clone());
        let querier = querier
            .settings(self.querier)
            .tail(self.tail)
            .deletes(Arc::clone(&deletes))
            .clock(Arc::clone(&self.clock))
            .metrics(&registry)
            .build()?;
        let (queries, engine) = (Arc::clone(&querier) as _, querier.engine().clone());
        let frontend = QueryFrontend::builder(queries, engine, limits.clone())
            .settings(self.query_frontend)
            .deletes(Arc::clone(&deletes))
            .clock(Arc::clone(&self.clock))
            .metrics(&registry)
            .build()?;
        let tasks = executor.task_group();
        let parts = LogStoreParts {
            ingester,
            distributor,
            chunks,
            compactor,
            deletes,
            querier,
            frontend,
            #[cfg(feature = "http")]
            limits,
            #[cfg(feature = "http")]
            clock: self.clock,
            #[cfg(feature = "http")]
            registry,
            own_executor: owns_executor.then_some(executor),
        };
        Ok((parts, tasks))
    }
}
