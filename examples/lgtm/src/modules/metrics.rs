//! The modules of the metrics store.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::CancelToken;
use lgtm_core::storage::DataKind;
use lgtm_tsdb::bucket::BucketBlocks;
use lgtm_tsdb::components::clients::{IngesterClient, Queries, StoreGatewayClient};
use lgtm_tsdb::components::ring::{DividedLimits, RingIngesters, RingStoreGateways};
use lgtm_tsdb::components::{Compactor, Distributor, Ingester, Querier, QueryFrontend};
use lgtm_tsdb::head::FlushScope;
use lgtm_tsdb::http::{PushApi, QueryApi};
use lgtm_tsdb::rpc::{RemoteIngester, RemoteStoreGateway, ingester_routes, store_gateway_routes};

use super::cluster::{
    METRICS_COMPACTORS, METRICS_DISTRIBUTORS, METRICS_INGESTERS, METRICS_STORE_GATEWAYS,
};
use super::module::{Module, Signal};
use super::parts::{Compact, Compaction, Flush, Flushed, Parts};
use super::ring_parts::{Clients, JoiningIngester};

pub(super) const SIGNAL: Signal = Signal {
    name: "metrics",
    modules: &[
        Module {
            name: "metrics-store-gateway",
            by_ring: true,
            needs: &[],
            make: store_gateway,
        },
        Module {
            name: "metrics-compactor",
            by_ring: false,
            needs: &[],
            make: compactor,
        },
        Module {
            name: "metrics-ingester",
            by_ring: true,
            needs: &[],
            make: ingester,
        },
        Module {
            name: "metrics-distributor",
            by_ring: false,
            needs: &["metrics-ingester"],
            make: distributor,
        },
        Module {
            name: "metrics-querier",
            by_ring: false,
            needs: &["metrics-store-gateway", "metrics-ingester"],
            make: querier,
        },
        Module {
            name: "metrics-query-frontend",
            by_ring: false,
            needs: &["metrics-querier"],
            make: query_frontend,
        },
    ],
    groups: &[
        ("read", &["metrics-querier", "metrics-query-frontend"]),
        ("write", &["metrics-ingester", "metrics-distributor"]),
        ("backend", &["metrics-store-gateway", "metrics-compactor"]),
    ],
};

/// What modules of metrics take from each other.
#[derive(Debug, Default)]
pub(crate) struct MetricsParts {
    blocks: Option<Arc<BucketBlocks>>,
    ingester: Option<Arc<Ingester>>,
    /// All ingesters, where there may be others.
    ingesters: Option<Arc<RingIngesters>>,
    querier: Option<Arc<Querier>>,
}

/// Of pages of blocks in caches, which are bytes of files that never change.
const PAGES_VERSION: u32 = 1;
/// Of kept postings; raised whenever they are written, or found, otherwise.
const POSTINGS_VERSION: u32 = 1;
/// Of small objects in caches, which are so, too.
const METADATA_VERSION: u32 = 1;
/// Of answers in caches; raised whenever queries are answered otherwise.
const ANSWERS_VERSION: u32 = 1;

/// A part that the table says is made before.
fn made<T: Clone>(part: &Option<T>) -> T {
    part.clone().expect("a module is made after those it needs")
}

fn store_gateway(parts: &mut Parts) -> Result<()> {
    let mut blocks = BucketBlocks::builder(parts.layout.bucket(DataKind::MetricBlocks))
        .settings(parts.config.metrics.store_gateway.clone())
        .clock(Arc::clone(&parts.clock))
        .metrics(&parts.registry);
    let (caches, names) = (&parts.caches, &parts.config.metrics.caches);
    if let Some(cache) = caches.layer("metrics.index", PAGES_VERSION, &names.index)? {
        blocks = blocks.index_cache(cache);
    }
    if let Some(cache) = caches.layer("metrics.chunks", PAGES_VERSION, &names.chunks)? {
        blocks = blocks.chunk_cache(cache);
    }
    if let Some(cache) = caches.layer("metrics.postings", POSTINGS_VERSION, &names.postings)? {
        blocks = blocks.postings_cache(cache);
    }
    if let Some(cache) = caches.layer("metrics.metadata", METADATA_VERSION, &names.metadata)? {
        blocks = blocks.metadata_cache(cache);
    }
    let blocks = blocks.build()?;
    parts.metrics.blocks = Some(Arc::clone(&blocks));
    if parts.cluster.is_some() {
        let routes = store_gateway_routes(&parts.rpc, Arc::clone(&blocks) as _);
        parts.route_rpc(routes);
        parts.join(METRICS_STORE_GATEWAYS, "metrics-store-gateway")?;
    }
    parts.run(blocks);
    Ok(())
}

fn compactor(parts: &mut Parts) -> Result<()> {
    let bucket = parts.layout.bucket(DataKind::MetricBlocks);
    let (limits, executor) = (parts.limits.metrics.clone(), parts.executor.clone());
    let mut compactor = Compactor::builder(bucket, limits, executor)
        .settings(parts.config.metrics.compactor.clone())
        .folder(format!("{}/metrics/compactor", parts.config.data.dir))
        .clock(Arc::clone(&parts.clock))
        .metrics(&parts.registry);
    // A store-gateway of the same process knows at once which block is in place of which.
    if let Some(blocks) = &parts.metrics.blocks {
        compactor = compactor.blocks(Arc::clone(blocks));
    }
    if let Some(owned) = parts.shared_jobs(METRICS_COMPACTORS, "metrics-compactor")? {
        compactor = compactor.owns(owned);
    }
    let compactor = compactor.build()?;
    let progress = Arc::clone(compactor.progress());
    parts.compactions.push(Compaction {
        signal: "metrics",
        compactor: Arc::clone(&compactor) as _,
        progress,
    });
    parts.run(compactor);
    Ok(())
}

fn ingester(parts: &mut Parts) -> Result<()> {
    let bucket = parts.layout.bucket(DataKind::MetricBlocks);
    let disk = Arc::new(LocalDisk::new(format!("{}/metrics", parts.config.data.dir)));
    let mut settings = parts.config.metrics.ingester.clone();
    let stored = &parts.config.metrics.store_gateway;
    if parts.cluster.is_some() && settings.head.retain_flushed.is_zero() {
        // By then readers of blocks elsewhere know a new one, even if no compactor has told them and they have missed a round.
        settings.head.retain_flushed = stored.max_stale_period + 2 * stored.sync_interval;
    }
    let mut ingester = Ingester::builder(bucket, disk, parts.limits.metrics.clone())
        .settings(settings)
        .clock(Arc::clone(&parts.clock))
        .executor(parts.executor.clone())
        .metrics(&parts.registry);
    // A store-gateway of the same process hears of new blocks at once.
    if let Some(blocks) = &parts.metrics.blocks {
        ingester = ingester.blocks(Arc::clone(blocks));
    }
    if let Some(ring) = parts.follow(METRICS_INGESTERS)? {
        ingester = ingester.global_limits(Arc::new(DividedLimits(ring)));
    }
    let ingester = ingester.build()?;
    parts.flushes.push(Arc::clone(&ingester) as _);
    parts.metrics.ingester = Some(Arc::clone(&ingester));
    parts.run(Arc::clone(&ingester));
    if parts.cluster.is_some() {
        let routes = ingester_routes(&parts.rpc, Arc::clone(&ingester) as _, &parts.executor);
        parts.route_rpc(routes);
    }
    let flushes = parts.config.metrics.ingester.flush_on_shutdown;
    parts.join_ingester(JoiningIngester {
        kind: METRICS_INGESTERS,
        replayed: "metrics-ingester-replayed",
        flush: Arc::clone(&ingester) as _,
        flushes,
        is_back: Box::new(move || ingester.replay_report().is_some()),
    })
}

/// Who takes samples and answers for recent ones: the ingester of this process, or all those of the ring.
fn ingesters(parts: &mut Parts) -> Result<Arc<dyn IngesterClient>> {
    let Some(ring) = parts.follow(METRICS_INGESTERS)? else {
        let here: Arc<Ingester> = made(&parts.metrics.ingester);
        return Ok(here);
    };
    if let Some(known) = &parts.metrics.ingesters {
        return Ok(Arc::clone(known) as _);
    }
    let (service, remote) = (
        "metrics-ingester-clients",
        parts.config.metrics.remote.clone(),
    );
    let clients: Clients<RemoteIngester> =
        parts.clients(METRICS_INGESTERS, ring.clone(), service, remote)?;
    let here = parts.metrics.ingester.clone().map(|i| i as _);
    let pool = parts.instances::<dyn IngesterClient, _>(clients, here);
    let (limits, executor) = (parts.limits.metrics.clone(), parts.executor.clone());
    let all = RingIngesters::builder(ring, pool, limits, executor)
        .settings(parts.replication(&parts.config.metrics.replication))
        .clock(Arc::clone(&parts.clock))
        .build()?;
    parts.run_beside("metrics-ring-ingesters", Arc::clone(&all));
    parts.metrics.ingesters = Some(Arc::clone(&all));
    Ok(all)
}

/// Who answers for blocks: the store-gateway of this process, or any of the ring's.
fn store_gateway_client(parts: &mut Parts) -> Result<Arc<dyn StoreGatewayClient>> {
    if let Some(here) = &parts.metrics.blocks {
        return Ok(Arc::clone(here) as _);
    }
    let Some(ring) = parts.follow(METRICS_STORE_GATEWAYS)? else {
        let here: Arc<BucketBlocks> = made(&parts.metrics.blocks);
        return Ok(here);
    };
    let (service, remote) = (
        "metrics-store-gateway-clients",
        parts.config.metrics.remote.clone(),
    );
    let clients: Clients<RemoteStoreGateway> =
        parts.clients(METRICS_STORE_GATEWAYS, ring.clone(), service, remote)?;
    let all = RingStoreGateways::new(ring, clients as _);
    let all = all.clock(Arc::clone(&parts.clock));
    Ok(Arc::new(all))
}

#[async_trait]
impl Compact for Compactor {
    async fn run_round(&self) -> Result<()> {
        let cancel = CancelToken::new();
        // What cannot be compacted keeps nothing from being cleaned.
        let compacted = self.compact(&cancel).await;
        self.clean(&cancel).await.and(compacted)
    }
}

#[async_trait]
impl Flush for Ingester {
    async fn flush(&self) -> Result<Flushed> {
        let blocks = Ingester::flush(self, FlushScope::All).await?;
        Ok(Flushed {
            count: blocks.len(),
            what: "blocks",
        })
    }
}

fn distributor(parts: &mut Parts) -> Result<()> {
    let ingester = ingesters(parts)?;
    let mut distributor = Distributor::builder(ingester, parts.limits.metrics.clone())
        .settings(parts.config.distributor_settings())
        .clock(Arc::clone(&parts.clock))
        .metrics(&parts.registry);
    if let Some(share) = parts.shared_rates(METRICS_DISTRIBUTORS)? {
        distributor = distributor.rate_share(share);
    }
    let distributor = distributor.build();
    let api = PushApi::builder(Arc::clone(&distributor), parts.executor.clone())
        .settings(parts.config.api_settings())
        .build();
    parts.route(api.router());
    parts.route_otlp(api.otlp_router());
    parts.route_otlp_grpc(api.otlp_grpc_router());
    parts.sink = Some(distributor);
    Ok(())
}

fn querier(parts: &mut Parts) -> Result<()> {
    let (ingester, blocks) = (ingesters(parts)?, store_gateway_client(parts)?);
    let limits = parts.limits.metrics.clone();
    let executor = parts.executor.clone();
    let mut querier = Querier::builder(vec![ingester], vec![blocks], limits, executor)
        .settings(parts.config.metrics.querier.clone())
        .metrics(&parts.registry);
    if let Some(departures) = parts.departures(METRICS_INGESTERS)? {
        querier = querier.departures(departures);
    }
    let querier = querier.build()?;
    parts.metrics.querier = Some(Arc::clone(&querier));
    if !parts.is_made("metrics-query-frontend") {
        query_api(parts, querier)?;
    }
    Ok(())
}

fn query_frontend(parts: &mut Parts) -> Result<()> {
    let querier = made(&parts.metrics.querier);
    let engine = querier.engine().clone();
    let mut frontend = QueryFrontend::builder(querier, engine, parts.limits.metrics.clone())
        .settings(parts.config.metrics.query_frontend.clone())
        .clock(Arc::clone(&parts.clock))
        .metrics(&parts.registry);
    let name = &parts.config.metrics.caches.results;
    if let Some(cache) = parts
        .caches
        .layer("metrics.results", ANSWERS_VERSION, name)?
    {
        frontend = frontend.results_cache(cache);
    }
    let frontend = frontend.build()?;
    query_api(parts, frontend)
}

/// The routes of queries, whoever answers them here.
fn query_api(parts: &mut Parts, queries: Arc<dyn Queries>) -> Result<()> {
    let limits = parts.limits.metrics.clone();
    let api = QueryApi::builder(queries, limits, parts.executor.clone())
        .settings(parts.config.api_settings())
        .clock(Arc::clone(&parts.clock))
        .parser(parts.config.metrics.querier.parser.clone())
        .metrics(&parts.registry)
        .build()?;
    parts.route(api.router());
    Ok(())
}
