//! The modules of the log store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::CancelToken;
use lgtm_core::storage::DataKind;
use lgtm_logstore::bucket::BucketChunks;
use lgtm_logstore::components::clients::{IngesterClient, Queries, StoreGatewayClient};
use lgtm_logstore::components::ring::{DividedLimits, RingIndexGateways, RingIngesters};
use lgtm_logstore::components::{
    Compactor, DeleteRequests, Distributor, Ingester, Querier, QueryFrontend,
};
use lgtm_logstore::head::FlushScope;
use lgtm_logstore::http::{PushApi, QueryApi};
use lgtm_logstore::rpc::{
    RemoteIndexGateway, RemoteIngester, index_gateway_routes, ingester_routes,
};

use super::cluster::{LOGS_COMPACTORS, LOGS_DISTRIBUTORS, LOGS_INDEX_GATEWAYS, LOGS_INGESTERS};
use super::module::{Module, Signal};
use super::parts::{Compact, Compaction, Flush, Flushed, Parts};
use super::ring_parts::{Clients, JoiningIngester};

pub(super) const SIGNAL: Signal = Signal {
    name: "logs",
    modules: &[
        Module {
            name: "logs-index-gateway",
            by_ring: true,
            needs: &[],
            make: index_gateway,
        },
        Module {
            name: "logs-compactor",
            by_ring: false,
            needs: &[],
            make: compactor,
        },
        Module {
            name: "logs-ingester",
            by_ring: true,
            needs: &[],
            make: ingester,
        },
        Module {
            name: "logs-distributor",
            by_ring: false,
            needs: &["logs-ingester"],
            make: distributor,
        },
        Module {
            name: "logs-querier",
            by_ring: false,
            needs: &["logs-index-gateway", "logs-ingester"],
            make: querier,
        },
        Module {
            name: "logs-query-frontend",
            by_ring: false,
            needs: &["logs-querier"],
            make: query_frontend,
        },
    ],
    groups: &[
        ("read", &["logs-querier", "logs-query-frontend"]),
        ("write", &["logs-ingester", "logs-distributor"]),
        ("backend", &["logs-index-gateway", "logs-compactor"]),
    ],
};

/// What modules of logs take from each other.
#[derive(Debug, Default)]
pub(crate) struct LogsParts {
    chunks: Option<Arc<BucketChunks>>,
    deletes: Option<Arc<DeleteRequests>>,
    ingester: Option<Arc<Ingester>>,
    /// All ingesters, where there may be others.
    ingesters: Option<Arc<RingIngesters>>,
    /// Where the process stores its own log lines.
    pub(crate) distributor: Option<Arc<Distributor>>,
    querier: Option<Arc<Querier>>,
}

/// Of chunks in caches, which are the objects of the bucket.
const CHUNKS_VERSION: u32 = 1;
/// Of index files in caches, which are so, too.
const INDEX_VERSION: u32 = 1;
/// Of answers in caches; raised whenever queries are answered otherwise.
const ANSWERS_VERSION: u32 = 1;

/// A part that the table says is made before.
fn made<T: Clone>(part: &Option<T>) -> T {
    part.clone().expect("a module is made after those it needs")
}

fn index_gateway(parts: &mut Parts) -> Result<()> {
    let bucket = parts.layout.bucket(DataKind::Logs);
    let mut chunks = BucketChunks::builder(bucket, parts.executor.clone())
        .settings(parts.config.logs.index_gateway.clone())
        .schema(parts.config.logs.schema.clone())
        .side_files(parts.layout.bucket(DataKind::LogSkip))
        .clock(Arc::clone(&parts.clock))
        .metrics(&parts.registry);
    let (caches, names) = (&parts.caches, &parts.config.logs.caches);
    if let Some(cache) = caches.layer("logs.chunks", CHUNKS_VERSION, &names.chunks)? {
        chunks = chunks.chunk_cache(cache);
    }
    if let Some(cache) = caches.layer("logs.index", INDEX_VERSION, &names.index)? {
        chunks = chunks.index_cache(cache);
    }
    let chunks = chunks.build()?;
    parts.logs.chunks = Some(Arc::clone(&chunks));
    if parts.cluster.is_some() {
        let routes = index_gateway_routes(&parts.rpc, Arc::clone(&chunks) as _);
        parts.route_rpc(routes);
        parts.join(LOGS_INDEX_GATEWAYS, "logs-index-gateway")?;
    }
    parts.run(chunks);
    Ok(())
}

/// What tenants want deleted: one in a process, for all who need it.
fn deletes(parts: &mut Parts) -> Result<Arc<DeleteRequests>> {
    if let Some(deletes) = &parts.logs.deletes {
        return Ok(Arc::clone(deletes));
    }
    let bucket = parts.layout.bucket(DataKind::Logs);
    let mut settings = parts.config.logs.deletes.clone();
    if parts.cluster.is_some() {
        // Until then readers elsewhere may have index files of before, and ingesters the entries themselves.
        settings.visible_delay = settings.visible_delay.max(2 * stays_readable(parts));
    }
    let deletes = DeleteRequests::new(bucket, Arc::clone(&parts.clock), settings)?;
    parts.logs.deletes = Some(Arc::clone(&deletes));
    // Whichever module needs them first.
    parts.run_beside("logs-delete-requests", Arc::clone(&deletes));
    Ok(deletes)
}

fn compactor(parts: &mut Parts) -> Result<()> {
    let bucket = parts.layout.bucket(DataKind::Logs);
    let mut compactor = Compactor::builder(bucket, parts.executor.clone())
        .deletes(deletes(parts)?)
        .side_files(parts.layout.bucket(DataKind::LogSkip))
        .settings(parts.config.logs.compactor.clone())
        .limits(parts.limits.logs.clone())
        .schema(parts.config.logs.schema.clone())
        .folder(format!("{}/logs/compactor", parts.config.data.dir))
        .clock(Arc::clone(&parts.clock))
        .metrics(&parts.registry);
    if let Some(chunks) = &parts.logs.chunks {
        compactor = compactor.chunks(Arc::clone(chunks));
    }
    let owned = parts.shared_jobs(LOGS_COMPACTORS, "logs-compactor")?;
    if let (Some(owned), Some(cluster)) = (owned, &parts.cluster) {
        let instance = part_of_name(&cluster.identity.id);
        compactor = compactor.instance(instance).owns(owned);
    }
    let compactor = compactor.build()?;
    let progress = Arc::clone(compactor.progress());
    parts.compactions.push(Compaction {
        signal: "logs",
        compactor: Arc::clone(&compactor) as _,
        progress,
    });
    parts.run(compactor);
    Ok(())
}

/// How long it takes until readers elsewhere know a new index file, also one of an old day, whose table they list seldom.
fn stays_readable(parts: &Parts) -> Duration {
    let stored = &parts.config.logs.index_gateway;
    stored.full_sync_interval.max(stored.sync_interval) + stored.sync_interval
}

fn ingester(parts: &mut Parts) -> Result<()> {
    let bucket = parts.layout.bucket(DataKind::Logs);
    let disk = Arc::new(LocalDisk::new(format!("{}/logs", parts.config.data.dir)));
    let limits = parts.limits.logs.clone();
    // A reader of the same process hears of new chunks at once.
    let chunks = match &parts.logs.chunks {
        Some(chunks) => Arc::clone(chunks),
        None => BucketChunks::builder(bucket.clone(), parts.executor.clone())
            .schema(parts.config.logs.schema.clone())
            .side_files(parts.layout.bucket(DataKind::LogSkip))
            .clock(Arc::clone(&parts.clock))
            .build()?,
    };
    let mut settings = parts.config.logs.ingester.clone();
    if parts.cluster.is_some() && settings.head.retain_flushed.is_zero() {
        settings.head.retain_flushed = stays_readable(parts);
    }
    let mut ingester = Ingester::builder(bucket, disk, limits, parts.executor.clone())
        .settings(settings)
        .clock(Arc::clone(&parts.clock))
        .chunks(chunks)
        .metrics(&parts.registry);
    if let Some(ring) = parts.follow(LOGS_INGESTERS)? {
        ingester = ingester.global_limits(Arc::new(DividedLimits(ring)));
    }
    if let Some(cluster) = &parts.cluster {
        ingester = ingester.instance(part_of_name(&cluster.identity.id));
    }
    let ingester = ingester.build()?;
    parts.flushes.push(Arc::clone(&ingester) as _);
    parts.logs.ingester = Some(Arc::clone(&ingester));
    parts.run(Arc::clone(&ingester));
    if parts.cluster.is_some() {
        let routes = ingester_routes(&parts.rpc, Arc::clone(&ingester) as _, &parts.executor);
        parts.route_rpc(routes);
    }
    let flushes = parts.config.logs.ingester.flush_on_shutdown;
    parts.join_ingester(JoiningIngester {
        kind: LOGS_INGESTERS,
        replayed: "logs-ingester-replayed",
        flush: Arc::clone(&ingester) as _,
        flushes,
        is_back: Box::new(move || ingester.replay_report().is_some()),
    })
}

/// The id of an instance, as it may stand in the names of objects.
fn part_of_name(id: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    id.chars()
        .map(|c| if is_part(c) { c } else { '-' })
        .collect()
}

/// Who takes entries and answers for recent ones: the ingester of this process, or all those of the ring.
fn ingesters(parts: &mut Parts) -> Result<Arc<dyn IngesterClient>> {
    let Some(ring) = parts.follow(LOGS_INGESTERS)? else {
        let here: Arc<Ingester> = made(&parts.logs.ingester);
        return Ok(here);
    };
    if let Some(known) = &parts.logs.ingesters {
        return Ok(Arc::clone(known) as _);
    }
    let (service, remote) = ("logs-ingester-clients", parts.config.logs.remote.clone());
    let clients: Clients<RemoteIngester> =
        parts.clients(LOGS_INGESTERS, ring.clone(), service, remote)?;
    let here = parts.logs.ingester.clone().map(|i| i as _);
    let pool = parts.instances::<dyn IngesterClient, _>(clients, here);
    let (limits, executor) = (parts.limits.logs.clone(), parts.executor.clone());
    let all = RingIngesters::builder(ring, pool, limits, executor)
        .settings(parts.replication(&parts.config.logs.replication))
        .clock(Arc::clone(&parts.clock))
        .build()?;
    parts.run_beside("logs-ring-ingesters", Arc::clone(&all));
    parts.logs.ingesters = Some(Arc::clone(&all));
    Ok(all)
}

/// Who answers for the bucket: the index-gateway of this process, or any of the ring's.
fn index_gateway_client(parts: &mut Parts) -> Result<Arc<dyn StoreGatewayClient>> {
    if let Some(here) = &parts.logs.chunks {
        return Ok(Arc::clone(here) as _);
    }
    let Some(ring) = parts.follow(LOGS_INDEX_GATEWAYS)? else {
        let here: Arc<BucketChunks> = made(&parts.logs.chunks);
        return Ok(here);
    };
    let (service, remote) = (
        "logs-index-gateway-clients",
        parts.config.logs.remote.clone(),
    );
    let clients: Clients<RemoteIndexGateway> =
        parts.clients(LOGS_INDEX_GATEWAYS, ring.clone(), service, remote)?;
    let all = RingIndexGateways::new(ring, clients as _);
    let all = all.clock(Arc::clone(&parts.clock));
    Ok(Arc::new(all))
}

#[async_trait]
impl Compact for Compactor {
    async fn run_round(&self) -> Result<()> {
        self.compact(&CancelToken::new()).await
    }
}

#[async_trait]
impl Flush for Ingester {
    async fn flush(&self) -> Result<Flushed> {
        let report = Ingester::flush(self, FlushScope::All).await?;
        Ok(Flushed {
            count: usize::try_from(report.chunks).unwrap_or(usize::MAX),
            what: "chunks",
        })
    }
}

fn distributor(parts: &mut Parts) -> Result<()> {
    let ingester = ingesters(parts)?;
    let mut distributor = Distributor::builder(ingester, parts.limits.logs.clone())
        .settings(parts.config.logs_distributor_settings())
        .clock(Arc::clone(&parts.clock))
        .metrics(&parts.registry);
    if let Some(share) = parts.shared_rates(LOGS_DISTRIBUTORS)? {
        distributor = distributor.rate_share(share);
    }
    let distributor = distributor.build();
    let api = PushApi::builder(Arc::clone(&distributor), parts.executor.clone())
        .settings(parts.config.logs_api_settings())
        .clock(Arc::clone(&parts.clock))
        .build();
    parts.route(api.router());
    parts.route_otlp(api.otlp_router());
    parts.route_otlp_grpc(api.otlp_grpc_router());
    parts.logs.distributor = Some(distributor);
    Ok(())
}

fn querier(parts: &mut Parts) -> Result<()> {
    let (ingester, chunks) = (ingesters(parts)?, index_gateway_client(parts)?);
    let limits = parts.limits.logs.clone();
    let executor = parts.executor.clone();
    let mut querier = Querier::builder(vec![ingester], vec![chunks], limits, executor)
        .settings(parts.config.logs.querier.clone())
        .tail(parts.config.logs.tail.clone())
        .deletes(deletes(parts)?)
        .clock(Arc::clone(&parts.clock))
        .metrics(&parts.registry);
    if let Some(departures) = parts.departures(LOGS_INGESTERS)? {
        querier = querier.replicated().departures(departures);
    }
    let querier = querier.build()?;
    parts.logs.querier = Some(Arc::clone(&querier));
    if !parts.is_made("logs-query-frontend") {
        query_api(parts, querier)?;
    }
    Ok(())
}

fn query_frontend(parts: &mut Parts) -> Result<()> {
    let querier = made(&parts.logs.querier);
    let engine = querier.engine().clone();
    let mut frontend = QueryFrontend::builder(querier, engine, parts.limits.logs.clone())
        .settings(parts.config.logs.query_frontend.clone())
        .deletes(deletes(parts)?)
        .clock(Arc::clone(&parts.clock))
        .metrics(&parts.registry);
    let name = &parts.config.logs.caches.results;
    if let Some(cache) = parts.caches.layer("logs.results", ANSWERS_VERSION, name)? {
        frontend = frontend.results_cache(cache);
    }
    let frontend = frontend.build()?;
    query_api(parts, frontend)
}

/// The routes of queries, whoever answers them here.
fn query_api(parts: &mut Parts, queries: Arc<dyn Queries>) -> Result<()> {
    let limits = parts.limits.logs.clone();
    let deletes = deletes(parts)?;
    let api = QueryApi::builder(queries, limits, parts.executor.clone())
        .settings(parts.config.logs_api_settings())
        .clock(Arc::clone(&parts.clock))
        .parser(parts.config.logs.querier.parser.clone())
        .deletes(deletes)
        .metrics(&parts.registry)
        .build()?;
    parts.route(api.router());
    // With metrics in the process these paths are theirs.
    if !parts.is_made("metrics-querier") {
        parts.route(api.rules_router());
    }
    Ok(())
}
