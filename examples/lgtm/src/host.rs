//! Runs the modules that a target names, with the HTTP ports before them.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use lgtm_core::clock::SystemClock;
use lgtm_core::http::{Connections, HttpServer, SiteGuard};
use lgtm_core::model::TenantId;
use lgtm_core::rpc::{RpcServerSettings, health_routes};
use lgtm_core::secret::mask_url;
use lgtm_core::self_monitor::SelfMonitor;
use lgtm_core::service::Services;
use lgtm_core::telemetry::Registry;
use lgtm_core::{Error, Result};
use lgtm_logstore::components::{OwnLines, OwnLog};
use lgtm_tracestore::components::{OwnSpans, OwnTraces};
use lgtm_tracestore::http::with_own_spans;
use tokio::sync::Notify;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{self, Config, LogFormat, OtlpPorts};
use crate::leave_pages;
use crate::modules::{GRPC_SERVER, Module, Parts};
use crate::ops::{self, Operations};
use crate::program_pages;
use crate::ring_pages;

/// Has the process log as the settings say, to stderr and, where it stores its own lines, to those that wait for that.
pub(crate) fn log_to_stderr(config: &Config) -> Result<Option<Arc<OwnLines>>> {
    let own = config
        .self_monitoring
        .then(|| OwnLines::new(Arc::new(SystemClock::new())));
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log.level)
        .map_err(|e| Error::InvalidInput(format!("log.level {:?}: {e}", config.log.level)))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(LogLines(own.clone()));
    // A second logger cannot be set; then the first one stays.
    let _ = match config.log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    Ok(own)
}

/// Where log lines go.
struct LogLines(Option<Arc<OwnLines>>);

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        LogLine(None)
    }

    fn make_writer_for(&'a self, of: &tracing::Metadata<'_>) -> LogLine {
        LogLine(self.0.clone().filter(|_| OwnLines::takes(of.target())))
    }
}

/// One line, which comes whole.
struct LogLine(Option<Arc<OwnLines>>);

impl Write for LogLine {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(own) = &self.0 {
            own.push(line);
        }
        io::stderr().write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Runs until a signal or `/shutdown`.
pub(crate) fn run(
    config: Config,
    modules: Vec<&'static Module>,
    own_lines: Option<Arc<OwnLines>>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime =
        runtime.map_err(|e| Error::Unavailable(format!("threads of the process: {e}")))?;
    runtime.block_on(serve(config, modules, own_lines))
}

async fn serve(
    config: Config,
    modules: Vec<&'static Module>,
    own_lines: Option<Arc<OwnLines>>,
) -> Result<()> {
    let mut parts = Parts::new(config, modules)?;
    parts.make_all()?;
    tell_version(&parts.registry);
    let stop = Arc::new(Notify::new());
    let flushing = Arc::new(parts.executor.task_group());
    let compacting = Arc::new(parts.executor.task_group());
    let operations = Operations {
        status: parts.services.status(),
        flushes: std::mem::take(&mut parts.flushes),
        flushing: Arc::clone(&flushing),
        compacting: Arc::clone(&compacting),
        compactions: std::mem::take(&mut parts.compactions),
        clock: Arc::clone(&parts.clock),
        registry: parts.registry.clone(),
        config: config::documented(&parts.config),
        runtime_config: parts.runtime_config.clone(),
        stop: Arc::clone(&stop),
    };
    let door = Door::new(&parts)?;
    let mut router = std::mem::take(&mut parts.router).merge(ops::router(operations));
    router = router.merge(ring_pages::router(parts.cluster.as_ref(), &parts.clock));
    router = router.merge(leave_pages::router(&parts.places));
    let own_spans = own_spans(&parts);
    if let Some(spans) = &own_spans {
        router = with_own_spans(spans, router);
    }
    let server = door
        .open("server", &parts.config.server.address(), router)
        .await?;
    let address = server.address();
    let mut services = std::mem::take(&mut parts.services);
    services = join_cluster(&mut parts, &door, services).await?;
    for receiver in OtlpReceiver::all(&mut parts) {
        if let Some(server) = receiver.open(&parts.config, &door).await? {
            services = services.add(server);
        }
    }
    if let Some(monitor) = self_monitor(&parts, address)? {
        services = services.add(monitor);
    }
    if let Some(log) = own_log(&parts, own_lines, address)? {
        services = services.add(log);
    }
    if let Some(traces) = own_traces(&parts, own_spans, address)? {
        services = services.add(traces);
    }
    services = services.add(server);
    say_what_next(&parts, address);
    let status = services.status();
    let mut running = pin!(services.run_until(asked_to_stop(stop)));
    let ended = tokio::select! {
        ended = &mut running => ended,
        all_run = status.all_running() => {
            if all_run {
                program_pages::give_back();
            }
            running.await
        }
    };
    // Those that nobody waits for: ingesters have ended, and keep in the log what was not moved.
    let mut ended = ended;
    for asked in [flushing, compacting] {
        asked.abort();
        ended = ended.and(asked.join().await);
    }
    parts.executor.shutdown().await;
    ended
}

/// Answers other processes, then takes the places of this one in the rings of its cluster, if there is one.
async fn join_cluster(parts: &mut Parts, door: &Door, services: Services) -> Result<Services> {
    let Some(cluster) = &mut parts.cluster else {
        return Ok(services);
    };
    let joins = cluster.take_joins();
    parts.rpc.register_metrics(&parts.registry);
    let router = std::mem::take(&mut parts.rpc_router);
    let router = router.merge(health_routes(&parts.rpc, services.status()));
    let settings = RpcServerSettings::connections(&parts.config.server.connections);
    let connections = Connections::of_protocol("grpc", settings, &parts.registry)?;
    let wanted = parts.config.server.grpc_address();
    let server = HttpServer::bind(GRPC_SERVER, &wanted, router, connections).await?;
    let server = server.after(&parts.before_rpc).guarded_by(&door.guard);
    let services = services.add(server);
    Ok(joins.into_iter().fold(services, |services, (own, after)| {
        services.add_after([after], own)
    }))
}

fn tell_version(registry: &Registry) {
    registry.collect(|c| {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        c.gauge("lgtm_build_info", "Version of the program.", &version, 1.0);
    });
}

/// Stores the metrics of the process in the process, where that is wanted and can be.
fn self_monitor(parts: &Parts, address: SocketAddr) -> Result<Option<SelfMonitor>> {
    let config = &parts.config;
    let Some(sink) = parts.sink.clone().filter(|_| config.self_monitoring) else {
        return Ok(None);
    };
    let monitor = SelfMonitor::builder(&parts.registry, sink, Arc::clone(&parts.clock))
        .tenant(TenantId::new(config.own_tenant())?)
        .instance(&address.to_string())
        .interval(config.self_monitoring_interval.0)
        .after(&parts.running());
    monitor.build().map(Some)
}

/// Stores the log lines of the process in the process, where that is wanted and can be.
fn own_log(
    parts: &Parts,
    lines: Option<Arc<OwnLines>>,
    address: SocketAddr,
) -> Result<Option<OwnLog>> {
    let Some((lines, distributor)) = lines.zip(parts.logs.distributor.clone()) else {
        return Ok(None);
    };
    let tenant = TenantId::new(parts.config.own_tenant())?;
    let log = OwnLog::new(lines, distributor, tenant, &address.to_string())?;
    Ok(Some(log.after(&parts.running()).metrics(&parts.registry)))
}

/// Where spans of the requests of this process go, where it stores them.
fn own_spans(parts: &Parts) -> Option<Arc<OwnSpans>> {
    let config = &parts.config;
    let ratio = config.self_monitoring_trace_ratio;
    let is_wanted = config.self_monitoring && ratio > 0.0 && parts.traces.distributor.is_some();
    is_wanted.then(|| OwnSpans::new(Arc::clone(&parts.clock), ratio))
}

/// Stores the spans of the process in the process, where that is wanted and can be.
fn own_traces(
    parts: &Parts,
    spans: Option<Arc<OwnSpans>>,
    address: SocketAddr,
) -> Result<Option<OwnTraces>> {
    let Some((spans, distributor)) = spans.zip(parts.traces.distributor.clone()) else {
        return Ok(None);
    };
    let tenant = TenantId::new(parts.config.own_tenant())?;
    let traces = OwnTraces::new(spans, distributor, tenant, &address.to_string());
    let traces = traces.after(&parts.running()).metrics(&parts.registry);
    Ok(Some(traces))
}

/// Lines that can be pasted, of what this process does.
fn say_what_next(parts: &Parts, address: SocketAddr) {
    let config = &parts.config;
    tracing::info!(%address, target = config.target, data = config.data.dir, storage = %mask_url(&config.storage_url()), "lgtm is starting");
    if parts.is_made("metrics-distributor") {
        tracing::info!(
            "send metrics, in prometheus.yml:  remote_write: [{{url: http://{address}/api/v1/push}}]"
        );
    }
    if parts.is_made("logs-distributor") {
        tracing::info!(
            r#"send logs:  curl -H 'Content-Type: application/json' -d '{{"streams":[{{"stream":{{"app":"shop"}},"values":[["'$(date +%s%N)'","hello"]]}}]}}' http://{address}/loki/api/v1/push"#
        );
    }
    if parts.is_made("traces-distributor") {
        tracing::info!(
            r#"send traces:  curl -H 'Content-Type: application/json' -d '{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"shop"}}}}]}},"scopeSpans":[{{"spans":[{{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"checkout","startTimeUnixNano":"'$(date +%s%N)'","endTimeUnixNano":"'$(date +%s%N)'"}}]}}]}}]}}' http://{address}/v1/traces"#
        );
    }
    if parts.is_made("metrics-querier") {
        tracing::info!(
            "ask for them:  curl 'http://{address}/prometheus/api/v1/query?query=process_resident_memory_bytes'"
        );
        tracing::info!(
            "show them in Grafana: add a Prometheus data source with URL http://{address}/prometheus"
        );
    }
    if parts.is_made("logs-querier") {
        tracing::info!(
            r#"ask for logs:  curl -G http://{address}/loki/api/v1/query_range --data-urlencode 'query={{job="lgtm"}}'"#
        );
        tracing::info!("show them in Grafana: add a Loki data source with URL http://{address}");
    }
    if parts.is_made("traces-querier") {
        tracing::info!(
            "find a trace:  curl http://{address}/api/traces/5b8efff798038103d269b633813fc60c"
        );
        tracing::info!(
            r#"ask for traces:  curl -G http://{address}/api/search --data-urlencode 'q={{resource.service.name="shop"}}'"#
        );
        tracing::info!("show them in Grafana: add a Tempo data source with URL http://{address}");
    }
}

/// What all servers of the process share.
struct Door {
    connections: Arc<Connections>,
    guard: Arc<SiteGuard>,
    /// Services without which no request can be answered.
    after: Vec<&'static str>,
}

impl Door {
    fn new(parts: &Parts) -> Result<Self> {
        let server = &parts.config.server;
        Ok(Self {
            connections: Connections::new(server.connections.clone(), &parts.registry)?,
            guard: SiteGuard::new(server.access.clone(), &parts.registry)?,
            after: parts.running(),
        })
    }

    async fn open(&self, name: &'static str, wanted: &str, router: Router) -> Result<HttpServer> {
        let connections = Arc::clone(&self.connections);
        let server = HttpServer::bind(name, wanted, router, connections).await?;
        Ok(server.after(&self.after).guarded_by(&self.guard))
    }
}

/// A receiver of OTLP on a port of its own, where OpenTelemetry clients look for it.
struct OtlpReceiver {
    name: &'static str,
    port: u16,
    default_port: u16,
    router: Router,
}

impl OtlpReceiver {
    /// Those that have something to receive.
    fn all(parts: &mut Parts) -> Vec<Self> {
        let (asked, default) = (&parts.config.otlp, OtlpPorts::default());
        let http = parts.otlp.take().map(|router| Self {
            name: "otlp-http",
            port: asked.http_listen_port,
            default_port: default.http_listen_port,
            router,
        });
        let grpc = parts.otlp_grpc.take().map(|router| Self {
            name: "otlp-grpc",
            port: asked.grpc_listen_port,
            default_port: default.grpc_listen_port,
            router,
        });
        http.into_iter().chain(grpc).collect()
    }

    async fn open(self, config: &Config, door: &Door) -> Result<Option<HttpServer>> {
        if self.port == 0 {
            return Ok(None);
        }
        let address = format!("{}:{}", config.server.http_listen_address, self.port);
        match door.open(self.name, &address, self.router).await {
            Ok(server) => Ok(Some(server)),
            Err(e) if self.port == self.default_port => {
                tracing::warn!(error = %e, receiver = self.name, "no OTLP receiver on its own port; the HTTP port takes OTLP all the same, over HTTP and over gRPC");
                Ok(None)
            }
            Err(e) => Err(e),
        }
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
