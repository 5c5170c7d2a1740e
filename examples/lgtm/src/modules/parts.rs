//! What modules are made of, and what they give to the process.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use lgtm_core::Result;
use lgtm_core::cache::{CacheParts, Caches};
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::Executor;
use lgtm_core::limits::RuntimeConfig;
use lgtm_core::rpc::RpcServer;
use lgtm_core::service::{CompactionProgress, Service, Services};
use lgtm_core::sink::SampleSink;
use lgtm_core::storage::{Layout, from_url};
use lgtm_core::telemetry::{ProcessCollector, Registry};
use lgtm_ring::watch::RingHandle;

use super::cluster::{Cluster, RingKind};
use super::leave::{LeavePlan, OwnPlace};
use super::logs::LogsParts;
use super::metrics::MetricsParts;
use super::module::Module;
use super::traces::TracesParts;
use crate::config::{Config, LimitsInForce};

/// Moves what is in memory into the object store.
#[async_trait]
pub(crate) trait Flush: Debug + Send + Sync {
    /// What was written: everything received before the call is in the store, and can be queried from there.
    async fn flush(&self) -> Result<Flushed>;
}

/// Joins, cleans and deletes what is in the object store.
#[async_trait]
pub(crate) trait Compact: Debug + Send + Sync {
    /// One round, of what this process owns. Others that run end first.
    async fn run_round(&self) -> Result<()>;
}

/// What a flush has written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flushed {
    pub(crate) count: usize,
    /// Of what, in words.
    pub(crate) what: &'static str,
}

/// A compactor of this process.
#[derive(Debug)]
pub(crate) struct Compaction {
    pub(crate) signal: &'static str,
    pub(crate) compactor: Arc<dyn Compact>,
    pub(crate) progress: Arc<CompactionProgress>,
}

/// The parts that all modules share, and what has been made of them.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) registry: Registry,
    pub(crate) executor: Executor,
    pub(crate) caches: Arc<Caches>,
    pub(crate) layout: Layout,
    pub(crate) limits: LimitsInForce,
    pub(crate) runtime_config: RuntimeConfig,
    pub(crate) services: Services,
    /// Routes of the one HTTP port.
    pub(crate) router: Router,
    /// Routes of the port of OTLP over HTTP.
    pub(crate) otlp: Option<Router>,
    /// Those of the port of OTLP over gRPC.
    pub(crate) otlp_grpc: Option<Router>,
    /// The other processes, where there are any.
    pub(crate) cluster: Option<Cluster>,
    /// Methods that other processes call.
    pub(crate) rpc: Arc<RpcServer>,
    /// Their routes.
    pub(crate) rpc_router: Router,
    /// Services that must run before others call.
    pub(crate) before_rpc: Vec<&'static str>,
    /// Where the process stores its own metrics.
    pub(crate) sink: Option<Arc<dyn SampleSink>>,
    pub(crate) flushes: Vec<Arc<dyn Flush>>,
    /// Ingesters in rings.
    pub(crate) places: Vec<Arc<OwnPlace>>,
    /// Compactors by signal, and how far they are.
    pub(crate) compactions: Vec<Compaction>,
    pub(super) metrics: MetricsParts,
    pub(crate) logs: LogsParts,
    pub(crate) traces: TracesParts,
    modules: Vec<&'static Module>,
    /// The module that is being made.
    making: Option<&'static Module>,
    /// Services that all others start after and end before: what has read their limits, and what keeps what they have loaded.
    first: Vec<&'static str>,
    /// Services so far.
    running: Vec<&'static str>,
}

impl Parts {
    /// What `modules` are made of. Inside of the runtime that computes.
    ///
    /// # Errors
    /// `InvalidInput` for settings that do not fit, `Unavailable` for threads and folders that cannot be had.
    pub(crate) fn new(config: Config, modules: Vec<&'static Module>) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let registry = Registry::new();
        ProcessCollector::register(&registry, &*clock);
        let layout = Layout::builder()
            .store(from_url(&config.storage_url(), &config.storage.backend)?)
            .settings(config.storage.requests.clone())
            .clock(Arc::clone(&clock))
            .registry(&registry)
            .build()?;
        let limits = LimitsInForce::default();
        let runtime_config = config.runtime_config(&limits)?;
        let runtime_config = runtime_config.metrics(&registry).build()?;
        let executor = Executor::new(&config.compute, tokio::runtime::Handle::current())?;
        let caches = Arc::new(Caches::new(
            config.caches.clone(),
            CacheParts {
                clock: Arc::clone(&clock),
                registry: registry.clone(),
                runtime: tokio::runtime::Handle::current(),
                folder: format!("{}/caches", config.data.dir).into(),
            },
        )?);
        let rpc = RpcServer::new(config.rpc.server.clone(), executor.clone())?;
        let cluster = Cluster::new(&config, &clock, &registry)?;
        let mut services = Services::new()
            .add(runtime_config.clone())
            .shutdown_delay(config.server.shutdown_delay);
        let mut first = vec!["runtime-config"];
        if !config.caches.is_empty() {
            services = services.add(Arc::clone(&caches));
            first.push("caches");
        }
        if let Some(name) = cluster.as_ref().and_then(Cluster::first)
            && let Some(gossip) = cluster.as_ref().and_then(|c| c.gossip.clone())
        {
            services = services.add(gossip);
            first.push(name);
        }
        Ok(Self {
            config,
            clock,
            registry,
            executor,
            caches,
            layout,
            limits,
            runtime_config,
            services,
            router: Router::new(),
            otlp: None,
            otlp_grpc: None,
            cluster,
            rpc,
            rpc_router: Router::new(),
            before_rpc: Vec::new(),
            sink: None,
            flushes: Vec::new(),
            places: Vec::new(),
            compactions: Vec::new(),
            metrics: MetricsParts::default(),
            logs: LogsParts::default(),
            traces: TracesParts::default(),
            modules,
            making: None,
            running: first.clone(),
            first,
        })
    }

    /// Makes all modules, those that others need first.
    ///
    /// # Errors
    /// Those of their builders.
    pub(crate) fn make_all(&mut self) -> Result<()> {
        for module in self.modules.clone() {
            self.making = Some(module);
            (module.make)(self)?;
        }
        self.making = None;
        Ok(())
    }

    /// Whether a module is, or will be, made.
    pub(crate) fn is_made(&self, name: &str) -> bool {
        self.modules.iter().any(|m| m.name == name)
    }

    /// The services so far: what can answer only when all of it runs comes after them.
    pub(crate) fn running(&self) -> Vec<&'static str> {
        self.running.clone()
    }

    /// Adds the service of the module that is being made.
    pub(super) fn run(&mut self, service: impl Service) {
        let module = self.making.expect("modules are made by make_all");
        let mut after = self.first.clone();
        self.services_behind(module, &mut after);
        self.services = std::mem::take(&mut self.services).add_after(after, service);
        self.running.push(module.name);
    }

    /// Adds a service that belongs to the module that is being made, beside its own, by its name.
    pub(super) fn run_beside(&mut self, name: &'static str, service: impl Service) {
        let after = self.running.clone();
        self.services = std::mem::take(&mut self.services).add_after(after, service);
        self.running.push(name);
    }

    /// Adds a service that comes after all others so far, and that nobody waits for unless he names it.
    pub(super) fn run_later(&mut self, service: impl Service) {
        let after = self.running.clone();
        self.services = std::mem::take(&mut self.services).add_after(after, service);
    }

    /// Adds methods that other processes call, which can be answered once the service of the module that is being made runs.
    pub(super) fn route_rpc(&mut self, router: Router) {
        self.rpc_router = std::mem::take(&mut self.rpc_router).merge(router);
        self.before_rpc.extend(self.making.map(|m| m.name));
    }

    /// Follows a ring of the cluster; nothing when this process is all there is.
    ///
    /// # Errors
    /// `InvalidInput` for settings that do not fit.
    pub(super) fn follow(&mut self, kind: RingKind) -> Result<Option<RingHandle>> {
        let Some(cluster) = &mut self.cluster else {
            return Ok(None);
        };
        let ring = cluster.follow(kind, &self.config, &mut self.services)?;
        Ok(Some(ring))
    }

    /// Takes a place in a ring, once the service `after` runs; nothing when this process is all there is.
    ///
    /// # Errors
    /// `InvalidInput` for settings that do not fit.
    pub(super) fn join(&mut self, kind: RingKind, after: &'static str) -> Result<()> {
        self.follow(kind)?;
        if let Some(cluster) = &mut self.cluster {
            cluster.join(kind, &self.config, &self.executor, after, None)?;
        }
        Ok(())
    }

    /// [`Parts::join`] for an ingester. Where it `flushes` at a stop, by its settings or because it was told to, that is done while it is LEAVING, before it is
    /// out of the ring: else nobody would have what it holds in between.
    ///
    /// # Errors
    /// `InvalidInput` for settings that do not fit.
    pub(super) fn join_as_ingester(
        &mut self,
        kind: RingKind,
        after: &'static str,
        ingester: Arc<dyn Flush>,
        flushes: bool,
    ) -> Result<()> {
        self.follow(kind)?;
        let Some(cluster) = &mut self.cluster else {
            return Ok(());
        };
        let signal = kind.name.split('-').next().unwrap_or_default();
        let folder = format!("{}/{signal}", self.config.data.dir);
        let plan = LeavePlan::new(ingester, flushes, &folder);
        let (config, executor) = (&self.config, &self.executor);
        let at_leave = Some(Arc::clone(&plan) as _);
        let lifecycler = cluster.join(kind, config, executor, after, at_leave)?;
        let (executor, registry) = (executor.clone(), &self.registry);
        let place = OwnPlace::new(kind.name, plan, lifecycler, executor, registry);
        self.places.push(place);
        Ok(())
    }

    /// Adds routes to those of the one HTTP port.
    pub(super) fn route(&mut self, router: Router) {
        self.router = std::mem::take(&mut self.router).merge(router);
    }

    /// Adds routes to those of the port of OTLP over HTTP.
    pub(super) fn route_otlp(&mut self, router: Router) {
        let known = self.otlp.take().unwrap_or_default();
        self.otlp = Some(known.merge(router));
    }

    /// Adds routes to those of the port of OTLP over gRPC.
    pub(super) fn route_otlp_grpc(&mut self, router: Router) {
        let known = self.otlp_grpc.take().unwrap_or_default();
        self.otlp_grpc = Some(known.merge(router));
    }

    /// The services of the modules that one needs; of a module without one, those behind it.
    fn services_behind(&self, module: &Module, found: &mut Vec<&'static str>) {
        for need in module.needs {
            if self.running.contains(need) {
                found.push(need);
            } else if let Some(module) = self.modules.iter().find(|m| m.name == *need) {
                self.services_behind(module, found);
            }
        }
    }
}
