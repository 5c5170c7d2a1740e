//! Joins the components and runs them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::Executor;
use lgtm_core::http::{Connections, HttpServer, SiteGuard};
use lgtm_core::limits::Overrides;
use lgtm_core::model::TenantId;
use lgtm_core::secret::mask_url;
use lgtm_core::self_monitor::SelfMonitor;
use lgtm_core::service::Services;
use lgtm_core::storage::{Component, Layout, from_url};
use lgtm_core::telemetry::{ProcessCollector, Registry};
use lgtm_core::{Error, Result};
use lgtm_tsdb::bucket::BucketBlocks;
use lgtm_tsdb::components::{BlocksCleaner, Distributor, Ingester, Querier, QueryFrontend};
use lgtm_tsdb::http::{PushApi, QueryApi};
use tokio::sync::Notify;

use crate::config::{Config, LogFormat, OtlpPorts};
use crate::memory::{self, MemoryTrimmer};
use crate::ops::{self, Operations};

/// Runs until a signal or `/shutdown`.
pub(crate) fn run(config: Config) -> Result<()> {
    memory::bound_heaps();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime =
        runtime.map_err(|e| Error::Unavailable(format!("threads of the process: {e}")))?;
    runtime.block_on(serve(config))
}

/// Has the process log as the settings say.
pub(crate) fn log_to_stderr(config: &Config) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log.level)
        .map_err(|e| Error::InvalidInput(format!("log.level {:?}: {e}", config.log.level)))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second logger cannot be set; then the first one stays.
    let _ = match config.log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    Ok(())
}

async fn serve(config: Config) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let registry = Registry::new();
    let limits = Overrides::default();
    let runtime_config = config
        .runtime_config()?
        .limits("metrics", config.limits.metrics.clone(), &limits)
        .metrics(&registry)
        .build()?;
    ProcessCollector::register(&registry, &*clock);
    let layout = Layout::builder()
        .store(from_url(&config.storage_url(), &config.storage.backend)?)
        .settings(config.storage.requests.clone())
        .clock(Arc::clone(&clock))
        .registry(&registry)
        .build()?;
    let bucket = layout.bucket(Component::MetricBlocks);
    let blocks = BucketBlocks::builder(bucket.clone())
        .settings(config.metrics.store_gateway.clone())
        .clock(Arc::clone(&clock))
        .metrics(&registry)
        .build()?;
    let cleaner = BlocksCleaner::builder(bucket.clone(), limits.clone())
        .settings(config.metrics.blocks_cleaner.clone())
        .clock(Arc::clone(&clock))
        .metrics(&registry)
        .build()?;
    let executor = Executor::new(&config.compute, tokio::runtime::Handle::current())?;
    let disk = Arc::new(LocalDisk::new(format!("{}/metrics", config.data.dir)));
    let ingester = Ingester::builder(bucket, disk, limits.clone())
        .settings(config.metrics.ingester.clone())
        .clock(Arc::clone(&clock))
        .executor(executor.clone())
        .blocks(Arc::clone(&blocks))
        .metrics(&registry)
        .build()?;
    let distributor = Distributor::builder(Arc::clone(&ingester) as _, limits.clone())
        .settings(config.distributor_settings())
        .clock(Arc::clone(&clock))
        .metrics(&registry)
        .build();
    let (recent, stored) = (Arc::clone(&ingester) as _, Arc::clone(&blocks) as _);
    let querier = Querier::builder(vec![recent], vec![stored], limits.clone(), executor.clone())
        .settings(config.metrics.querier.clone())
        .metrics(&registry)
        .build()?;
    let engine = querier.engine().clone();
    let frontend = QueryFrontend::builder(querier, engine, limits.clone())
        .settings(config.metrics.query_frontend.clone())
        .clock(Arc::clone(&clock))
        .metrics(&registry)
        .build()?;
    let pushes = PushApi::builder(Arc::clone(&distributor), executor.clone())
        .settings(config.api_settings())
        .build();
    let queries = QueryApi::builder(frontend, limits, executor.clone())
        .settings(config.api_settings())
        .clock(Arc::clone(&clock))
        .parser(config.metrics.querier.parser.clone())
        .metrics(&registry)
        .build()?;
    tell_version(&registry);
    let stop = Arc::new(Notify::new());
    let mut services = Services::new()
        .add(runtime_config.clone())
        .add(Arc::clone(&ingester))
        .add(blocks)
        .add(Arc::clone(&cleaner))
        .add(MemoryTrimmer {
            interval: Duration::from_secs(30),
        })
        .shutdown_delay(config.server.shutdown_delay);
    let operations = Operations {
        status: services.status(),
        ingester,
        registry: registry.clone(),
        config: crate::config::documented(&config),
        runtime_config,
        stop: Arc::clone(&stop),
    };
    let door = Door::new(&config, &registry)?;
    let router = pushes.router().merge(queries.router());
    let router = router.merge(ops::router(operations));
    let server = door
        .open("server", &config.server.address(), router)
        .await?;
    let address = server.address();
    if let Some(otlp) = otlp_server(&config, &door, pushes.otlp_router()).await? {
        services = services.add(otlp);
    }
    if config.self_monitoring {
        let monitor = SelfMonitor::builder(&registry, distributor, clock)
            .tenant(TenantId::new(config.own_tenant())?)
            .instance(&address.to_string())
            .interval(config.self_monitoring_interval.0)
            .after(&["metrics-ingester"]);
        services = services.add(monitor.build()?);
    }
    services = services.add(server);
    say_what_next(&config, address);
    let ended = services.run_until(asked_to_stop(stop)).await;
    executor.shutdown().await;
    ended
}

fn tell_version(registry: &Registry) {
    registry.collect(|c| {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        c.gauge("lgtm_build_info", "Version of the program.", &version, 1.0);
    });
}

/// Three lines that can be pasted.
fn say_what_next(config: &Config, address: SocketAddr) {
    tracing::info!(%address, target = config.target, data = config.data.dir, storage = %mask_url(&config.storage_url()), "lgtm is starting");
    tracing::info!(
        "send metrics, in prometheus.yml:  remote_write: [{{url: http://{address}/api/v1/push}}]"
    );
    tracing::info!(
        "ask for them:  curl 'http://{address}/prometheus/api/v1/query?query=process_resident_memory_bytes'"
    );
    tracing::info!(
        "show them in Grafana: add a Prometheus data source with URL http://{address}/prometheus"
    );
}

/// What all servers of the process share.
struct Door {
    connections: Arc<Connections>,
    guard: Arc<SiteGuard>,
}

impl Door {
    fn new(config: &Config, registry: &Registry) -> Result<Self> {
        Ok(Self {
            connections: Connections::new(config.server.connections.clone(), registry)?,
            guard: SiteGuard::new(config.server.access.clone(), registry)?,
        })
    }

    async fn open(&self, name: &'static str, wanted: &str, router: Router) -> Result<HttpServer> {
        let connections = Arc::clone(&self.connections);
        let server = HttpServer::bind(name, wanted, router, connections).await?;
        Ok(server
            .after(&[
                "runtime-config",
                "metrics-ingester",
                "metrics-store-gateway",
            ])
            .guarded_by(&self.guard))
    }
}

/// The receiver of OTLP on its own port, where OpenTelemetry clients look for it.
async fn otlp_server(config: &Config, door: &Door, router: Router) -> Result<Option<HttpServer>> {
    let port = config.otlp.http_listen_port;
    if port == 0 {
        return Ok(None);
    }
    let address = format!("{}:{port}", config.server.http_listen_address);
    match door.open("otlp-http", &address, router).await {
        Ok(server) => Ok(Some(server)),
        Err(e) if port == OtlpPorts::default().http_listen_port => {
            tracing::warn!(error = %e, "no OTLP receiver on its own port; /otlp/v1/metrics takes OTLP all the same");
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

async fn asked_to_stop(stop: Arc<Notify>) {
    use tokio::signal::unix::{SignalKind, signal};
    let by_request = stop.notified();
    let interrupted = tokio::signal::ctrl_c();
    match signal(SignalKind::terminate()) {
        Ok(mut terminated) => tokio::select! {
            () = by_request => {}
            _ = interrupted => {}
            _ = terminated.recv() => {}
        },
        Err(e) => {
            tracing::warn!(error = %e, "SIGTERM cannot be watched");
            tokio::select! {
                () = by_request => {}
                _ = interrupted => {}
            }
        }
    }
    tracing::info!("lgtm is stopping");
}
